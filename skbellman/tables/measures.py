"""Reference measures: what the score of a column is a density with respect to.

Log-densities of two tables can be added, subtracted and compared only where both are densities
with respect to one measure. What the measure is was found in the rows of the fit: an atom, a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Lebesgue:
    """Length: every value of an interval is possible, none has a probability."""

    def __str__(self) -> str:
        return "a density on the line"


@dataclass(frozen=True, eq=False)
class Grid:
    """The points of a grid, each with the mass of a step, so that scores are per unit.

    Equal to another if the points are the same, up to rounding: any of them may be the origin.

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

    origin: float
    step: float
    # Shares of a step that steps and origins may differ by.
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

    def __str__(self) -> str:
        return f"a grid of step {self.step:g} through {self.origin:g}"


@dataclass(frozen=True)
class Levels:
    """Counts of levels, in the order of their codes: each has a probability.

    Parameters
    ----------
    levels : tuple
    """

    levels: tuple[Any, ...]

    def __str__(self) -> str:
        return f"the levels {_listed(self.levels)}"


@dataclass(frozen=True)
class AtomsBeside:
    """Atoms, each of mass 1, beside the measure of all other values.

    Parameters
    ----------
    atoms : tuple of float
    rest : Lebesgue or Grid
    """

    atoms: tuple[float, ...]
    rest: Reference

    def __str__(self) -> str:
        return f"atoms at {_listed(self.atoms)} beside {self.rest}"


Reference = Lebesgue | Grid | Levels | AtomsBeside


@dataclass(frozen=True)
class ColumnMeasure:
    """The reference measure of a column of a table.

    Parameters
    ----------
    name : object
        Of the column.
    reference : Reference
    unit : str
        What the numbers of the column count, and from where.
    """

    name: Any
    reference: Reference
    unit: str


TableMeasure = tuple[ColumnMeasure, ...]


def same_measure(a: TableMeasure, b: TableMeasure) -> None:
    """Refuse two tables whose scores are not with respect to one measure.

    Parameters
    ----------
    a, b : tuple of ColumnMeasure
        `TableEncoder.measure` of each table.

    Raises
    ------
    ValueError
        That names the first column that differs, how it does, and the remedy.

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


def _listed(values: Sequence[Any], most: int = 8) -> str:
    return ", ".join(map(repr, values[:most])) + (", ..." if len(values) > most else "")
