"""Reference measures: the measure that the score of a column is a density of.

Log-densities of two tables can be added, subtracted and compared only if both refer to one measure.
The measure is found in the rows of the fit: point masses (atoms) and grid steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from skbellman.tables.grids import grid_points


@dataclass(frozen=True)
class Reference:
    """The reference measure of the score of a column, in the numbers of the column."""

    @property
    def step(self) -> float:
        """The step of a grid; 0 without one."""
        return 0.0

    @property
    def levels(self) -> tuple[Any, ...] | None:
        """The only values that the column takes, each with a probability; or None."""
        return None

    @property
    def atoms(self) -> tuple[float, ...]:
        """Values with a probability in a column that has a density elsewhere."""
        return ()

    def snapped(self, values: np.ndarray) -> np.ndarray:
        """Return numbers, moved onto points of the measure if they differ by rounding only."""
        points = np.sort(np.array([*self.atoms, *(self.levels or ())], dtype=np.float64))
        for side in (0, 1):
            place = np.searchsorted(points, values) - side
            near = points[place.clip(0, len(points) - 1)] if len(points) else values
            values = np.where(np.isclose(values, near, rtol=1e-12, atol=0.0), near, values)
        return values

    def rescaled(self, scale: float, shift: float) -> Reference:
        """Return the measure of scale * x + shift."""
        return self


@dataclass(frozen=True)
class Lebesgue(Reference):
    """Length: every value of an interval is possible, and none has a probability."""

    def __str__(self) -> str:
        return "a density on the line"


@dataclass(frozen=True, eq=False)
class Grid(Reference):
    """The points of a grid, each with the mass of a step, so that scores are per unit.

    Two grids are equal if their points are the same up to rounding, whatever the origin.

    Parameters
    ----------
    origin : float
    step : float

    Examples
    --------
    >>> from skbellman.tables.measures import Grid
    >>> Grid(0.0, 0.05) == Grid(12.35, 0.05), Grid(0.0, 0.05) == Grid(0.0, 0.1)
    (True, False)
    """

    origin: float = 0.0
    step: float = 1.0
    # Tolerances of steps and origins, as shares of a step.
    step_rounding: ClassVar[float] = 1e-6
    origin_rounding: ClassVar[float] = 1e-3

    def __eq__(self, other: object) -> bool:
        return type(other) is Grid and self._has_points_of(other)

    def _has_points_of(self, other: Grid) -> bool:
        off = abs(math.remainder(self.origin - other.origin, self.step))
        return (
            math.isclose(self.step, other.step, rel_tol=self.step_rounding)
            and off <= self.origin_rounding * self.step
        )

    def snapped(self, values: np.ndarray) -> np.ndarray:
        """Return numbers, moved onto the grid if they differ by rounding only."""
        n_steps = (values - self.origin) / self.step
        nearest = grid_points(self.origin, self.step, np.rint(n_steps))
        return np.where(np.abs(n_steps - np.rint(n_steps)) < self.step_rounding, nearest, values)

    def rescaled(self, scale: float, shift: float) -> Reference:
        """Return the measure of scale * x + shift."""
        return Grid(scale * self.origin + shift, _rounded(abs(scale) * self.step))

    def __str__(self) -> str:
        return f"a grid of step {self.step:g} through {self.origin:g}"


@dataclass(frozen=True)
class Levels(Reference):
    """Counting measure of levels, in the order of their codes: each has a probability.

    Parameters
    ----------
    levels : tuple
    """

    levels: tuple[Any, ...] = ()

    def rescaled(self, scale: float, shift: float) -> Reference:
        """Return the measure of scale * x + shift."""
        return Levels(_moved(self.levels, scale, shift))

    def __str__(self) -> str:
        return f"the levels {_listed(self.levels)}"


@dataclass(frozen=True)
class Names(Reference):
    """Names of rows, which have no part in a density."""

    def __str__(self) -> str:
        return "names of rows"


@dataclass(frozen=True)
class AtomsBeside(Reference):
    """Atoms, each of mass 1, beside the measure of all other values.

    Parameters
    ----------
    atoms : tuple of float
    rest : Lebesgue or Grid
    """

    atoms: tuple[float, ...] = ()
    rest: Reference = Lebesgue()

    @property
    def step(self) -> float:
        """The step of the grid of the other values; 0 without one."""
        return self.rest.step

    def snapped(self, values: np.ndarray) -> np.ndarray:
        """Return numbers, moved onto atoms or the grid if they differ by rounding only."""
        return super().snapped(self.rest.snapped(values))

    def rescaled(self, scale: float, shift: float) -> Reference:
        """Return the measure of scale * x + shift."""
        return AtomsBeside(_moved(self.atoms, scale, shift), self.rest.rescaled(scale, shift))

    def __str__(self) -> str:
        return f"atoms at {_listed(self.atoms)} beside {self.rest}"


@dataclass(frozen=True)
class ColumnMeasure:
    """The reference measure of a column of a table.

    Parameters
    ----------
    name : object
        Name of the column.
    reference : Reference
    unit : str
        Unit and origin of the numbers of the column.
    held : str
        What the column holds: "numbers", "categories", dates or times.
    """

    name: Any
    reference: Reference
    unit: str
    held: str = "numbers"

    def is_per_unit(self, values: np.ndarray) -> np.ndarray:
        """Return which numbers have a density per unit, and not a probability."""
        if self.reference.levels is not None:
            return np.zeros(len(values), dtype=bool)
        return ~np.isin(values, self.reference.atoms)

    def rescaled(self, scale: float, shift: float) -> ColumnMeasure:
        """Return the measure of scale * x + shift."""
        return replace(self, reference=self.reference.rescaled(scale, shift))


TableMeasure = tuple[ColumnMeasure, ...]


def same_measure(a: TableMeasure, b: TableMeasure) -> None:
    """Refuse two tables whose scores do not refer to one measure.

    Parameters
    ----------
    a, b : tuple of ColumnMeasure
        `TableEncoder.measure` of each table.

    Raises
    ------
    ValueError
        If they do not. The message names the first column that differs, how, and the remedy.

    Examples
    --------
    >>> from skbellman.tables.measures import ColumnMeasure, Lebesgue, Levels, same_measure
    >>> number = ColumnMeasure("x", Lebesgue(), "numbers")
    >>> same_measure((number,), (number,))
    >>> same_measure((number,), (ColumnMeasure("x", Levels((0.0,)), "numbers"),))
    Traceback (most recent call last):
        ...
    ValueError: Column 'x' has a density on the line in one table and the levels 0.0 in the other...
    """
    if a == b:
        return
    differing = (_difference(one, other) for one, other in zip(a, b, strict=False) if one != other)
    raise ValueError(
        f"{next(differing, None) or _without_partner(a, b)}, so their densities have no common "
        "measure: fit both with one encoder: BellmanDiffusionDensity(encoder=...)."
    )


def _difference(a: ColumnMeasure, b: ColumnMeasure) -> str:
    if a.name != b.name:
        return f"Column {a.name!r} of one table has the place of {b.name!r} in the other"
    one, other = (a.unit, b.unit) if a.unit != b.unit else (a.reference, b.reference)
    return f"Column {a.name!r} has {one} in one table and {other} in the other"


def _without_partner(a: TableMeasure, b: TableMeasure) -> str:
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return f"Column {longer[len(shorter)].name!r} is in one table and not in the other"


def _moved(points: Sequence[float], scale: float, shift: float) -> tuple[float, ...]:
    return tuple(sorted(_rounded(scale * point + shift) for point in points))


def _rounded(value: float) -> float:
    """Return a number to twelve digits, so that equal units compare equal."""
    return float(f"{value:.12g}")


def _listed(values: Sequence[Any], most: int = 8) -> str:
    return ", ".join(map(repr, values[:most])) + (", ..." if len(values) > most else "")
