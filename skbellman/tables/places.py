"""Where the values of a column may lie within a range: its points, and cells of its line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skbellman.tables.columns.base import Column, Values
from skbellman.tables.grids import grid_points
from skbellman.tables.kinds import Cells

# Coordinates beyond which no draw of a column lies.
_FARTHEST = 8.0
# Share of a step by which the bound of a range may miss a point of the grid.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Places:
    """Places that the values of a column are drawn from: single values, or cells.

    Parameters
    ----------
    values : array of shape (n,)
        Each value, or one in the middle of each cell.
    log_mass : array of shape (n,)
        What turns the log-density of the value into the log-probability of the place.
    ends : array of shape (n, 2), optional
        Coordinates of the ends of each cell; NaN for a single value.
    cells : Cells, optional
        The values as a user wrote them.
    """

    values: Values
    log_mass: np.ndarray
    ends: np.ndarray | None = None
    cells: Cells | None = None

    def draw(self, column: Column, places: np.ndarray, rng: np.random.RandomState) -> Values:
        """Return a value of the column at each of the places, (m,): within cells at random."""
        values = self.values[places]
        if self.ends is None:
            return values
        ends = self.ends[places]
        spread = ~np.isnan(ends[:, 0])
        low, high = ends[spread].T
        z = low + (high - low) * rng.random_sample(len(low))
        values[spread] = _line_of(column).decode(z[:, None])
        return values


def points(values: Values, log_mass: float = 0.0) -> Places:
    """Return places of single values."""
    return Places(values, np.full(len(values), log_mass))


def holds(column: Column, values: Values, low: float, high: float) -> np.ndarray:
    """Return which values, none of them missing, are within a closed range.

    On a grid, rounding of a bound or a value does not decide.
    """
    slack = _ROUNDING * column.measure.step
    return (values >= low - slack) & (values <= high + slack)


def places_within(
    column: Column, low: float, high: float, most: int, with_cells: bool
) -> Places | None:
    """Return at most so many places of a closed range; None if more are needed.

    With cells, the line of a density is divided into some that are even in the coordinate. A ranked
    column has single values only.
    """
    of_levels = column.atoms if column.only_levels is None else column.only_levels
    log_mass = np.log(column.measure.step or 1.0) if column.only_levels is not None else 0.0
    single = points(of_levels[holds(column, of_levels, low, high)], log_mass)
    if column.only_levels is not None:
        return single if len(single.values) <= most else None
    rest = _places_on_line(column, low, high, most - len(single.values), with_cells)
    if rest is None:
        return None
    return _joined(single, rest)


def _places_on_line(
    column: Column, low: float, high: float, most: int, with_cells: bool
) -> Places | None:
    line = _line_of(column)
    least, largest = line.decode(np.array([[-_FARTHEST], [_FARTHEST]]))
    low, high = max(low, least), min(high, largest)
    if line.measure.step:
        step, origin = line.measure.step, line.measure.origin  # type: ignore[attr-defined]
        first = np.ceil((low - origin) / step - _ROUNDING)
        n_points = int(np.floor((high - origin) / step + _ROUNDING) - first) + 1
        if n_points <= most:
            values = grid_points(origin, step, first + np.arange(max(n_points, 0)))
            return points(values[~np.isin(values, column.atoms)], np.log(step))
        if not line.is_shaped:
            return None
        most = min(most, n_points // 16)
        low, high = origin + (first - 0.5) * step, origin + (first + n_points - 0.5) * step
    if low >= high:
        return points(np.empty(0))
    if not line.is_shaped:  # cells between its values would be too many
        return None
    return _cells(line, low, high, most) if with_cells else None


def _cells(
    line: Column, low: float, high: float, most: int, fewest: int = 24, enough: int = 128
) -> Places | None:
    """Return cells between two numbers, or None where they would be coarse."""
    if most < fewest:
        return None
    most = min(most, enough)
    (z_low, z_high) = line.encode(np.array([low, high]))[0][:, 0]
    edges = np.linspace(z_low, z_high, most + 1)
    widths = np.diff(line.decode(edges[:, None]))
    middles = line.decode((edges[1:, None] + edges[:-1, None]) / 2)
    with np.errstate(divide="ignore"):  # cells that rounding left without width
        return Places(middles, np.log(widths), np.stack([edges[:-1], edges[1:]], axis=1))


def _joined(single: Places, rest: Places) -> Places:
    ends = rest.ends
    if ends is not None:
        ends = np.concatenate([np.full((len(single.values), 2), np.nan), ends])
    return Places(
        np.concatenate([single.values, rest.values]),
        np.concatenate([single.log_mass, rest.log_mass]),
        ends,
    )


def _line_of(column: Column) -> Column:
    """Return the part of a column that has a density."""
    return column.parts[0]
