"""Numbers on a grid where some are much more frequent than others: 40 hours, but not 39."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from skbellman.tables.columns.base import Codes, Coordinates, LogMeasure, Values
from skbellman.tables.columns.numeric import NumericColumn
from skbellman.tables.ends import ends_at_once
from skbellman.tables.grids import tally


class TalliedColumn(NumericColumn):
    r"""A number on a grid: each value gets room on the normal line by its share of the column.

    With F the distribution function of the smooth shape (`NumericColumn`), the coordinate is
    :math:`\Phi^{-1}(m(F(x)))`, m linear on each step of the grid and such that the step gets the
    probability :math:`(n_v + a q_v) / (n + a)`: its count beside its probability under the shape,
    with the a that best predicts each row from the others. So a frequent value has a wide step, not
    a peak, and the density of the coordinate is smooth.

    Parameters
    ----------
    values : array of shape (n,)
        Values on a grid, see `choose.stands_apart`.
    precision : float
        Relative rounding error of the values.
    bounds : tuple of float, default=(-inf, inf)
        The least and the largest number that the dtype of the column holds.
    """

    # The mass of the smooth shape beyond an end is given to the steps.
    ends_bend = False
    # There is no other shape to choose.
    is_shaped = False
    # Deviations beyond which a normal probability underflows, and the least one of steps.
    farthest, least_share = 37.0, 1e-300

    def __init__(
        self,
        values: np.ndarray,
        precision: float,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> None:
        super().__init__(values, True, precision, bounds)
        counts = tally(values, self.step)
        # The steps with a value; steps without one, between and beside them, are merged.
        held = np.flatnonzero(counts)
        edge = np.unique(np.append(held, held + 1))
        counts = np.concatenate([[0.0], counts[edge[:-1]], [0.0]])
        edges = np.ldexp(self.low + self.step * (edge - 0.5), -self.exponent)
        inner = self._coordinates(edges).clip(-self.farthest, self.farthest)
        ends = np.concatenate([self._outermost(1), inner, self._outermost(-1)])
        # Use the tail on the nearer side, because 1 minus a small number rounds to 1.
        shape = np.diff(ndtr(ends))
        shape = np.where(ends[:-1] > 0, -np.diff(ndtr(-ends)), shape).clip(self.least_share)
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
            return np.array([-self.farthest * side])
        return self._coordinates(np.array([side * end.at])).clip(-self.farthest, self.farthest)

    def _encode(self, values: Values) -> tuple[Coordinates, LogMeasure]:
        smooth, log_slope = super()._encode(values)
        smooth = smooth.clip(-self.farthest, self.farthest)
        z = self._shape.to(self._counted, smooth)
        log_slope = log_slope + self._log_slopes[np.searchsorted(self._ends, smooth[:, 0])]
        return z, log_slope + 0.5 * (z**2 - smooth**2)[:, 0]

    def _hard_ends(self, values: np.ndarray, spread: np.ndarray) -> tuple[bool, bool]:
        counts = tally(values, self.step)
        return ends_at_once(counts), ends_at_once(counts[::-1])

    def decode(self, coordinates: Coordinates) -> Codes:
        z = coordinates.clip(-self.farthest, self.farthest)
        return super().decode(self._counted.to(self._shape, z))


class _Steps:
    """Probabilities below and above the ends of the steps, each accurate where it is small."""

    def __init__(self, below: np.ndarray, above: np.ndarray) -> None:
        self.below = np.concatenate([[0.0], below, [1.0]])
        self.above = np.concatenate([[0.0], above[::-1], [1.0]])

    def to(self, other: _Steps, z: np.ndarray) -> np.ndarray:
        """Return normal values at the same relative place between ends of other probabilities."""
        low = ndtri(np.interp(ndtr(z), self.below, other.below))
        high = -ndtri(np.interp(ndtr(-z), self.above, other.above))
        return np.where(z < 0, low, high)


def _best_shape_rows(counts: np.ndarray, shape: np.ndarray) -> float:
    """Return the weight of the shape that best predicts each row from the others.

    The unit is rows.
    """
    weights = np.geomspace(1.0, 1e5, 11)
    held = counts > 0
    n, q = counts[held], shape[held]
    scores = [
        (n * np.log((n - 1 + rows * q) / (counts.sum() - 1 + rows))).sum() for rows in weights
    ]
    return float(weights[int(np.argmax(scores))])
