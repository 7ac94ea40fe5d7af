"""The distribution of one column: a density, and probabilities of single values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skbellman.inspection.axes import ticks_of_dates, ticks_of_levels
from skbellman.restrictions import fitted_part, table_of
from skbellman.tables.columns.base import Column, Values
from skbellman.tables.containers import container_of
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.kinds import is_missing
from skbellman.tables.places import places_within
from skbellman.validation import check_count

# Largest number of grid points that are drawn as bars.
_MOST_BARS = 100


@dataclass
class Law:
    """The distribution of a column, possibly given others.

    Attributes
    ----------
    name : object
        Name of the column.
    places : array of shape (n_places,)
        Places of the density: numbers, or days since 1970 for dates.
    density : array of shape (n_places,)
        Density per unit of the column.
    points : array of shape (n_points,)
        Single values with a probability; positions of the levels of a category.
    probabilities : array of shape (n_points,)
    levels : list or None
        Levels of a category.
    holds_dates : bool
    """

    name: Any
    places: np.ndarray = field(default_factory=lambda: np.empty(0))
    density: np.ndarray = field(default_factory=lambda: np.empty(0))
    points: np.ndarray = field(default_factory=lambda: np.empty(0))
    probabilities: np.ndarray = field(default_factory=lambda: np.empty(0))
    levels: list[Any] | None = None
    holds_dates: bool = False

    @property
    def is_of_points(self) -> bool:
        """Whether there are only single values."""
        return not len(self.places)

    def name_axis(self, ax: Any) -> None:
        """Write the column's name, and its levels or dates, below axes."""
        ax.set_xlabel(str(self.name))
        if self.levels is not None:
            ticks_of_levels(ax.xaxis, self.levels)
        if self.holds_dates:
            ticks_of_dates(ax.xaxis)

    def bar_width(self) -> float:
        """Return a width of bars that do not overlap."""
        if not self.is_of_points:
            return 0.015 * float(np.ptp(self.places))
        gaps = np.diff(np.sort(self.points))
        return 0.8 * float(gaps.min()) if len(gaps) else 0.8


def column_of(density: Any, name: Any) -> FittedColumn:
    """Return a column of a density by its name."""
    columns: list[FittedColumn] = fitted_part(density).encoder_.fitted_
    found = [column for column in columns if column.name == name]
    if not found:
        raise ValueError(f"{name!r} is no column; the columns are {[c.name for c in columns]}.")
    if found[0].column.is_fresh:
        raise ValueError(f"Column {name!r} holds identifiers, which have no distribution to draw.")
    return found[0]


def values_in(X: Any, column: FittedColumn) -> Values:
    """Return the values of a column in a table, without those that are missing."""
    container = container_of(X)
    names = container.names_of(X)
    if column.name not in names:
        raise ValueError(f"X lacks the column {column.name!r}.")
    cells = container.cells(X, names.index(column.name), column.kind.is_categorical)
    values = column.kind.read(cells)
    return values[~is_missing(values)]


def law_of(
    density: Any,
    name: Any,
    low: float,
    high: float,
    given: Mapping[Any, Any] | None = None,
    n_points: int = 200,
) -> Law:
    """Return the distribution of a column between two numbers, given values of others."""
    fitted, given = column_of(density, name), given or {}
    check_count("n_points", n_points, 2)
    column, reference = fitted.column, fitted.column.measure

    def score(values: Values) -> np.ndarray:
        if not len(values):
            return np.empty(0)
        table = table_of(fitted_part(density), {fitted.position: (values, None)}, given)
        log = density.score_samples(table, columns=[name], given=list(given) or None)
        return np.exp(log)

    if fitted.kind.is_categorical:
        levels = column.only_levels
        assert levels is not None
        at = np.arange(len(levels))
        return Law(name, points=at, probabilities=score(levels), levels=levels.tolist())
    dates = fitted.kind.held.startswith("dates")
    short = reference.step and (high - low) / reference.step < _MOST_BARS
    if column.only_levels is not None or short:
        found = places_within(column, low, high, 2 * _MOST_BARS, with_cells=False)
        if found is not None:
            mass = score(found.values) * np.exp(found.log_mass)
            order = np.argsort(found.values)
            at, mass = found.values[order], mass[order]
            return Law(name, points=at, probabilities=mass, holds_dates=dates)
    atoms = np.empty(0) if column.drawn_exactly is None else column.drawn_exactly
    atoms = atoms[(atoms >= low) & (atoms <= high)]
    of_atoms = score(atoms)
    if reference.step:
        apart = _apart(atoms, of_atoms, np.array([-reference.step, reference.step]), score)
        atoms, of_atoms = atoms[apart], of_atoms[apart]
    places = _places(column, low, high, n_points)
    places = places[~np.isin(places, atoms)]
    # On a grid, scores are per unit.
    mass = of_atoms * (reference.step or 1.0)
    return Law(name, places, score(places), atoms, mass, holds_dates=dates)


def _apart(
    values: Values,
    density: np.ndarray,
    sides: np.ndarray,
    score: Callable[[Values], np.ndarray],
    least_share: float = 0.02,
    times: float = 2.0,
) -> np.ndarray:
    """Return which values of a grid stand apart from a curve through their neighbours.

    The others are on the curve: all values of a grid have one measure.
    """
    apart = density * sides.max() >= least_share
    held = values[apart]
    # Beyond all values there may be none: the dtype ends there.
    beside = np.clip(held[:, None] + sides, values.min(initial=np.inf), values.max(initial=-np.inf))
    of_beside = np.where(beside == held[:, None], 0.0, score(beside.ravel()).reshape(beside.shape))
    apart[apart] = density[apart] >= times * of_beside.max(1, initial=0.0)
    return apart


def _places(column: Column, low: float, high: float, n_points: int) -> Values:
    """Return places evenly between two numbers, on the grid if there is one."""
    places = np.linspace(low, high, n_points)
    if column.measure.step:
        origin, step = column.parts[0].measure.origin, column.measure.step  # type: ignore[attr-defined]
        places = np.unique(origin + step * np.rint((places - origin) / step))
    return places
