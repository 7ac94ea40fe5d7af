"""Numbers on a grid of which some are usual and those beside them are not: 40 hours, but not 39."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from skbellman.tables.columns import (
    CATEGORY_FLOOR,
    CategoricalColumn,
    Column,
    NumericColumn,
    ends_at_once,
)

# Values of which each is a level, at most, and rows for each of them, at least.
_MAX_LEVELS, _ROWS_PER_LEVEL = 24, 10
# Least distance of their points, and the noise in it at which probabilities are read off.
_APART, _READ_AT = 0.15, 1 / 14
# Steps of a grid whose values may stand apart, at most: of any values, and of few in many rows.
_MAX_CELLS, _MAX_SPARSE_CELLS = 512, 2**20
# Mean log-likelihood per row by which its count must foretell a value better than its neighbours'.
_STANDING_OUT = 0.05
_N_NEIGHBOURS = 2
# Weights, in rows, that the smooth shape may have beside the counts.
_SHAPE_ROWS = np.geomspace(1.0, 1e5, 11)
# How much less probable each step beyond the ends of the levels is: nothing is drawn there.
_BEYOND = 1e-4
# Share of a step that a value may be off the grid.
_OFF_GRID = 1e-3
# Beyond so many deviations a normal probability would be no number.
_FARTHEST = 37.0
_LEAST = 1e-300


class LevelsOnALine(CategoricalColumn):
    """The values of a grid as levels of a category, on points of one coordinate, in their order.

    A point lies where the middle of its level's share would be on the normal line, if that is not
    too near to the next. A value beyond the ends has the point of the end, and a share of its
    probability that each step farther divides by ten thousand.

    Parameters
    ----------
    values : array of shape (n,)
    step : float
    """

    def __init__(self, values: np.ndarray, step: float) -> None:
        counts = _tally(values, step)
        self.step, self.n_dims = step, 1
        self.levels = values.min() + step * np.arange(len(counts))
        share = (counts + 0.5) / (len(values) + 0.5 * len(counts))
        middle = ndtri(share.cumsum() - 0.5 * share)
        points = np.append(0.0, np.diff(middle).clip(min=_APART).cumsum())
        points = points - share @ points
        points /= np.sqrt(share @ points**2)
        self.corners = points[:, None]
        self.floor = min(CATEGORY_FLOOR, float(_READ_AT * np.diff(points).min()))

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = (values - self.levels[0]) / self.step
        n_steps = np.rint(place)
        code = n_steps.clip(0, len(self.levels) - 1)
        beyond = np.abs(n_steps - code)
        log_share = beyond * np.log(_BEYOND)
        log_peak = self._log_peak - np.log(self.step)  # per unit, not per step
        log_measure = np.where(np.abs(place - n_steps) < _OFF_GRID, log_peak, -np.inf)
        return self.corners[np.nan_to_num(code).astype(int)], log_measure + log_share

    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the codes of the nearest points."""
        middles = (self.corners[1:, 0] + self.corners[:-1, 0]) / 2
        return np.searchsorted(middles, coordinates[:, 0])


class CountedColumn(Column):
    """A number that takes few values, each with a probability: `LevelsOnALine`.

    Parameters
    ----------
    values : array of shape (n,)
        On a grid, see `are_few`.
    step : float
    """

    n_dims, holds_numbers = 1, True

    def __init__(self, values: np.ndarray, step: float) -> None:
        self.which = LevelsOnALine(values, step)

    @property
    def only_levels(self) -> np.ndarray:
        return self.which.levels

    def takes(self, values: np.ndarray) -> np.ndarray:
        """Return which values are on the grid: the levels at the ends stand for those beyond."""
        return np.isfinite(self.which.encode(values)[1])

    @property
    def parts(self) -> list[Column]:
        return [self.which]

    def join(self, decoded: list[np.ndarray]) -> np.ndarray:
        return self.which.levels[decoded[0]]

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.which.encode(values)

    def spread(self, values: np.ndarray, place: np.ndarray | float) -> np.ndarray:
        return values

    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        return self.which.levels[self.which.decode(coordinates)]


def are_few(values: np.ndarray, step: float) -> bool:
    """Return whether a grid has so few values that each of them can be a level."""
    if not step:
        return False
    return bool(np.ptp(values) / step + 1 <= _most_levels(values))


def are_scattered(values: np.ndarray, step: float) -> bool:
    """Return whether so few values lie on no grid, or too long a one."""
    on_grid = step and np.ptp(values) <= _MAX_SPARSE_CELLS * step
    return not on_grid and len(np.unique(values)) <= _most_levels(values)


def _most_levels(values: np.ndarray) -> float:
    return min(_MAX_LEVELS, len(values) / _ROWS_PER_LEVEL)


class TalliedColumn(NumericColumn):
    r"""A number on a grid with as much room on the normal line as each value holds of the column.

    With F the distribution function of the smooth shape (`NumericColumn`), the coordinate is
    :math:`\Phi^{-1}(m(F(x)))`, m linear on each step of the grid and such that the step gets the
    probability :math:`(n_v + a q_v) / (n + a)`: its count beside its probability under the shape,
    with the a that foretells best each row from the others. A value that is usual has a wide step
    then, not a peak, and the density of the coordinate is smooth.

    Parameters
    ----------
    values : array of shape (n,)
        On a grid, see `stands_apart`.
    precision : float
        Relative rounding error of the values.
    bounds : tuple of float, default=(-inf, inf)
        The least and the largest number that the dtype of the column holds.
    """

    # What the smooth shape has beyond an end is given to the steps.
    ends_bend = False

    def __init__(
        self,
        values: np.ndarray,
        precision: float,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> None:
        super().__init__(values, True, precision, bounds)
        counts = _tally(values, self.step)
        # The steps that hold a value, and between and beside them what holds none, as one.
        held = np.flatnonzero(counts)
        edge = np.unique(np.append(held, held + 1))
        counts = np.concatenate([[0.0], counts[edge[:-1]], [0.0]])
        edges = np.ldexp(self.low + self.step * (edge - 0.5), -self.exponent)
        inner = self._coordinates(edges).clip(-_FARTHEST, _FARTHEST)
        ends = np.concatenate([self._outermost(1), inner, self._outermost(-1)])
        # Below and above 0 by the tail on that side: 1 less a small number is 1.
        shape = np.diff(ndtr(ends))
        shape = np.where(ends[:-1] > 0, -np.diff(ndtr(-ends)), shape).clip(_LEAST)
        within = shape / shape.sum()
        rows = _best_shape_rows(counts, within)
        mass = (counts + rows * within) / (len(values) + rows)
        self._shape = _Steps(ndtr(ends), ndtr(-ends))
        below = np.append(0.0, mass.cumsum())
        above = np.append(mass[::-1].cumsum()[::-1], 0.0)
        self._counted = _Steps(below, above)
        self._ends = ends
        self._log_slopes = np.log(mass / shape)[[0, *range(len(mass)), -1]]

    def _outermost(self, side: int) -> np.ndarray:
        """Return the coordinate of the lower end (side 1) or the upper one (-1), (1,)."""
        end = self.ends.low if side == 1 else self.ends.high
        if np.isinf(end.at):
            return np.array([-_FARTHEST * side])
        return self._coordinates(np.array([side * end.at])).clip(-_FARTHEST, _FARTHEST)

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        smooth, log_slope = super().encode(values)
        smooth = smooth.clip(-_FARTHEST, _FARTHEST)
        z = self._shape.to(self._counted, smooth)
        log_slope = log_slope + self._log_slopes[np.searchsorted(self._ends, smooth[:, 0])]
        return z, log_slope + 0.5 * (z**2 - smooth**2)[:, 0]

    def _hard_ends(self, values: np.ndarray, spread: np.ndarray) -> tuple[bool, bool]:
        counts = _tally(values, self.step)
        return ends_at_once(counts), ends_at_once(counts[::-1])

    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        z = coordinates.clip(-_FARTHEST, _FARTHEST)
        return super().decode(self._counted.to(self._shape, z))


class _Steps:
    """Probabilities below and above the ends of the steps, each exact where it is small."""

    def __init__(self, below: np.ndarray, above: np.ndarray) -> None:
        self.below = np.concatenate([[0.0], below, [1.0]])
        self.above = np.concatenate([[0.0], above[::-1], [1.0]])

    def to(self, other: _Steps, z: np.ndarray) -> np.ndarray:
        """Return normal values as far between the same ends by other probabilities."""
        low = ndtri(np.interp(ndtr(z), self.below, other.below))
        high = -ndtri(np.interp(ndtr(-z), self.above, other.above))
        return np.where(z < 0, low, high)


def stands_apart(values: np.ndarray, step: float) -> bool:
    """Return whether a grid is no smooth shape's: some value or end of it stands apart.

    Values that are more or less usual than those beside them, or an end that comes at once: adults
    from 18 on, ages of 90 that stand for all above.
    """
    if not step or np.ptp(values) > _most_cells(values) * step:
        return False
    counts = _tally(values, step)
    return ends_at_once(counts) or ends_at_once(counts[::-1]) or _are_uneven(counts)


def _are_uneven(counts: np.ndarray) -> bool:
    """Return whether the count of a value foretells it better than the counts beside it."""
    n_rows = counts.sum()
    beside = _mean_beside(counts) + 0.5
    others = counts - 0.5
    gain = np.log(others.clip(0.5) / (n_rows - 1 + 0.5 * len(counts)))
    gain -= np.log(beside / beside.sum())
    return bool((counts * gain).sum() > _STANDING_OUT * n_rows)


def is_short(values: np.ndarray, step: float) -> bool:
    """Return whether the grid has few steps, with values or without."""
    return bool(step and np.ptp(values) <= _MAX_CELLS * step)


def _most_cells(values: np.ndarray) -> int:
    many_rows = len(np.unique(values)) * _ROWS_PER_LEVEL <= len(values)
    return _MAX_SPARSE_CELLS if many_rows else _MAX_CELLS


def _tally(values: np.ndarray, step: float) -> np.ndarray:
    """Return how many rows hold each point of the grid."""
    place = np.rint((values - values.min()) / step).astype(np.int64)
    return np.bincount(place).astype(np.float64)


def _mean_beside(counts: np.ndarray) -> np.ndarray:
    """Return the mean count of the neighbours of each point of the grid."""
    window = np.ones(2 * _N_NEIGHBOURS + 1)
    window[_N_NEIGHBOURS] = 0.0
    inside = slice(_N_NEIGHBOURS, -_N_NEIGHBOURS)
    n_beside = np.convolve(np.ones(len(counts)), window)[inside]
    return np.convolve(counts, window)[inside] / n_beside.clip(1)


def _best_shape_rows(counts: np.ndarray, shape: np.ndarray) -> float:
    """Return the weight of the shape that gives each row the best probability by the others."""
    held = counts > 0
    n, q = counts[held], shape[held]
    scores = [
        (n * np.log((n - 1 + rows * q) / (counts.sum() - 1 + rows))).sum() for rows in _SHAPE_ROWS
    ]
    return float(_SHAPE_ROWS[int(np.argmax(scores))])
