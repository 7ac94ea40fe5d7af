"""Numbers that take few values: each is a level, ordered on a line."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from skbellman.tables.columns.base import (
    Codes,
    Coordinates,
    LogMeasure,
    NumberOfLevels,
    Values,
)
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.grids import tally
from skbellman.tables.measures import Grid, Reference


class LevelsOnALine(CategoricalColumn):
    """The values of a grid as levels of a category, ordered on one coordinate.

    The point of a level is the middle of its share on the normal line, unless the next point is too
    near. A value beyond the ends has the point of the end. Each step beyond divides its probability
    by ten thousand.

    Parameters
    ----------
    values : array of shape (n,)
    step : float
    """

    # Least distance of the points, and the noise, in it, at which probabilities are computed.
    apart, read_at = 0.15, 1 / 14
    # Factor of the probability of each step beyond the ends. Samples never lie there.
    share_beyond = 1e-4
    # Share of a step that a value may be off the grid.
    off_grid = 1e-3

    def __init__(self, values: Values, step: float) -> None:
        counts = tally(values, step)
        self.step, self.n_dims = step, 1
        self.levels = values.min() + step * np.arange(len(counts))
        share = (counts + 0.5) / (len(values) + 0.5 * len(counts))
        middle = ndtri(share.cumsum() - 0.5 * share)
        points = np.append(0.0, np.diff(middle).clip(min=self.apart).cumsum())
        points = points - share @ points
        points /= np.sqrt(share @ points**2)
        self.corners = points[:, None]
        self.floor = min(self.floor, float(self.read_at * np.diff(points).min()))

    @property
    def measure(self) -> Reference:
        return Grid(float(self.levels[0]), self.step)

    def takes(self, values: Values) -> np.ndarray:
        """Return which values are on the grid; values beyond the ends count as the end."""
        place = (values - self.levels[0]) / self.step
        return np.abs(place - np.rint(place)) < self.off_grid

    def beyond(self, values: Values) -> np.ndarray:
        slack = self.off_grid * self.step
        return (values < self.levels[0] - slack) | (values > self.levels[-1] + slack)

    def codes(self, values: Values) -> Codes:
        """Return the code of the nearest level, -1 off the grid."""
        return np.where(self.takes(values), self._nearest(values), -1)

    def _encode(self, values: Values, place: np.ndarray | float) -> tuple[Coordinates, LogMeasure]:
        code = self._nearest(values)
        n_steps = np.rint((values - self.levels[0]) / self.step)
        log_share = np.abs(n_steps - code) * np.log(self.share_beyond)
        log_peak = self._log_peak - np.log(self.step)  # per unit, not per step
        return self.corners[code], np.where(self.takes(values), log_peak, -np.inf) + log_share

    def decode(self, coordinates: Coordinates) -> Codes:
        """Return the codes of the nearest points."""
        middles = (self.corners[1:, 0] + self.corners[:-1, 0]) / 2
        return np.searchsorted(middles, coordinates[:, 0])

    def _nearest(self, values: Values) -> Codes:
        n_steps = np.rint((values - self.levels[0]) / self.step)
        return np.nan_to_num(n_steps.clip(0, len(self.levels) - 1)).astype(int)


class CountedColumn(NumberOfLevels):
    """A number that takes few values on a grid: see `LevelsOnALine`.

    Parameters
    ----------
    values : array of shape (n,)
        Values on a grid, see `choose.are_few`.
    step : float
    """

    def __init__(self, values: Values, step: float) -> None:
        super().__init__(LevelsOnALine(values, step))
