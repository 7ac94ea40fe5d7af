"""Numbers with a density: transforms remove their ends, skewness and tails."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np

from skbellman.tables.columns.base import Codes, Column, Coordinates, LogMeasure, Values
from skbellman.tables.ends import End, Ends, end_at, ends_at_once, is_dense
from skbellman.tables.grids import grid_points, grid_step
from skbellman.tables.measures import Grid, Lebesgue, Reference
from skbellman.tables.quantiles import even_places
from skbellman.tables.shaping import Shape, likeliest_shape, robust_unit

# Distances from the centre, in units of the spread, whose squares are still numbers.
_FARTHEST_UNITS = 1e100


class NumericColumn(Column):
    r"""A number: its ends go to infinity, then skewness, tails and scale are removed.

    With u the value in robust units on the line of `Ends`, the coordinate is
    :math:`z = (t - \bar t) / sd(t)`, :math:`t = c\,\mathrm{asinh}(y(u) / c)`, y the Yeo-Johnson
    transform (2000; its power kept in [0, 2], where the map is onto the whole line) and c the width
    beyond which tails grow as a logarithm; power and c by maximum likelihood of a normal
    coordinate. Values are divided by a power of two where their squares are no numbers.

    If values stop abruptly (shares at 1, adults from 18 on), the column has a hard bound there. It
    also ends at 0 if no value is negative, and at the bounds of its dtype. Samples never exceed a
    bound.

    Parameters
    ----------
    values : array of shape (n,)
        Finite, not all equal.
    dequantize : bool
        Whether to look for a grid. Values on a grid are spread over a step for fitting, and sampled
        on it.
    precision : float
        Relative rounding error of the values.
    bounds : tuple of float, default=(-inf, inf)
        The least and the largest number that the dtype of the column holds.
    shaped : array of shape (m,), optional
        Those of the values whose shape is made normal; by default all.
    """

    n_dims, holds_numbers = 1, True
    is_shaped = True
    # Whether the ends are moved to infinity before the transform.
    ends_bend = True
    # Largest rounding error of the bound of a grid, as a share of a step.
    rounding = 1e-6

    def __init__(
        self,
        values: np.ndarray,
        dequantize: bool,
        precision: float,
        bounds: tuple[float, float] = (-np.inf, np.inf),
        shaped: np.ndarray | None = None,
    ) -> None:
        self.low, self.high = float(values.min()), float(values.max())
        self.step = grid_step(values, precision) if dequantize else 0.0
        self.has_cells = self.step > 0
        # Spread the values: on a coarse grid (two values, say) the likelihood has no maximum.
        spread = self._spread(*even_places(np.sort(values)))
        self.exponent = _exponent(spread)
        spread = self._shrunk(spread)
        own = spread
        if shaped is not None:
            own = self._shrunk(self._spread(*even_places(np.sort(shaped))))
        self.drawn_within = least, most = self._grid_bounds(bounds)
        self.ends = Ends(self._end(spread, least), self._end(-spread, -most))
        self._set_shape(own)
        low_is_hard, high_is_hard = self._hard_ends(spread)
        if low_is_hard:
            self.ends = replace(self.ends, low=self._end(spread, self.low))
        if high_is_hard:
            self.ends = replace(self.ends, high=self._end(-spread, -self.high))
        self._set_shape(own)

    @property
    def measure(self) -> Reference:
        return Grid(self.low, self.step) if self.has_cells else Lebesgue()

    @property
    def power(self) -> float:
        """Power of the Yeo-Johnson transform."""
        return self.shape.power

    @property
    def tail(self) -> float:
        """Width beyond which tails grow as a logarithm."""
        return self.shape.tail

    def straight(self, values: Values, place: np.ndarray | float = 0.5) -> Column:
        """Return the column with its ends, location and scale only."""
        column = copy.copy(self)
        column.shape = Shape()
        spread = self._shrunk(self._spread(values, place))
        column._standardise(self.ends.inside(spread)[0])
        return column

    def beyond(self, values: Values) -> np.ndarray:
        return self.ends.inside(self._shrunk(values))[1] < 0

    def _encode(self, values: Values, place: np.ndarray | float) -> tuple[Coordinates, LogMeasure]:
        spread = self._shrunk(self._spread(values, place))
        inside, log_share = self.ends.inside(spread)
        log_unit = np.log(self.scale) + self.exponent * np.log(2)
        log_slope = self._unscaled(inside)[1] + log_share - log_unit
        return self._coordinates(inside)[:, None], log_slope

    def _spread(self, values: Values, place: np.ndarray | float) -> Values:
        """Return the values moved within their step of the grid, to a place from 0 to 1."""
        return values + self.step * (place - 0.5)

    def _shrunk(self, values: Values | float) -> Values:
        """Return the values divided by the power of two of the column, infinite if too large."""
        with np.errstate(over="ignore"):
            return np.ldexp(values, -self.exponent)

    def line(self, values: Values) -> np.ndarray:
        """Return the coordinates of values, (n,), infinite at the ends of the column."""
        values = self._shrunk(values)
        inside, _ = self.ends.inside(values)
        below, above = values <= self.ends.low.at, values >= -self.ends.high.at
        return np.select([below, above], [-np.inf, np.inf], self._coordinates(inside))

    def decode(self, coordinates: Coordinates) -> Codes:
        u = self.shape.from_normal(coordinates[:, 0] * self.scale + self.mean)
        line = u * self.unit + self.center
        values = np.ldexp(self._line.to_values(line), self.exponent).clip(*self.drawn_within)
        values = self._on_grid(values) if self.has_cells else values
        # A positive column does not take 0, not even by rounding.
        return np.where(values > 0, values, self.low) if self.low > 0 else values

    def _hard_ends(self, spread: np.ndarray) -> tuple[bool, bool]:
        """Return whether values stop abruptly at the lower and at the upper end."""
        shaped, _ = self._unscaled(self.ends.inside(spread)[0])
        counts = np.histogram(shaped, math.ceil(math.sqrt(len(shaped))))[0]
        return (
            ends_at_once(counts) and is_dense(spread),
            ends_at_once(counts[::-1]) and is_dense(-spread),
        )

    def _end(self, spread: np.ndarray, least: float) -> End:
        """Return the lower end of spread values with this least value."""
        at = self._shrunk(least - self.step / 2)
        return end_at(spread, float(at), robust_unit(spread))

    def _grid_bounds(self, bounds: tuple[float, float]) -> tuple[float, float]:
        """Return the least and largest value of samples, on the grid if there is one.

        Samples are not negative if no value is, and positive if all values are.
        """
        largest = float(np.finfo(float).max)
        least = min(max(bounds[0], 0.0 if self.low >= 0 else -largest), self.low)
        most = max(min(bounds[1], largest), self.high)
        if not self.has_cells:
            return least, most
        n_below = np.floor((self.low - least) / self.step + self.rounding)
        if self.low > 0 and least == 0:
            n_below = max(np.ceil(self.low / self.step - self.rounding) - 1, 0.0)
        n_above = np.floor((most - self.low) / self.step + self.rounding)
        with np.errstate(over="ignore"):  # rounding may make the last step overflow
            return float(self.low - n_below * self.step), float(self.low + n_above * self.step)

    def _set_shape(self, spread: np.ndarray) -> None:
        """Choose location, scale, power and tails of values within the ends."""
        inside, _ = self.ends.inside(spread)
        line, _ = self._line.to_line(inside)
        self.center = float(np.median(line))
        self.unit = robust_unit(line)
        self.shape = likeliest_shape((line - self.center) / self.unit)
        self._standardise(inside)

    def _standardise(self, inside: np.ndarray) -> None:
        t, _ = self._unscaled(inside)
        self.mean, self.scale = float(t.mean()), float(t.std())

    @property
    def _line(self) -> Ends:
        """The ends that are mapped to infinity."""
        return self.ends if self.ends_bend else Ends()

    def _coordinates(self, inside: np.ndarray) -> np.ndarray:
        return (self._unscaled(inside)[0] - self.mean) / self.scale

    def _unscaled(self, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        line, log_end_slope = self._line.to_line(inside)
        with np.errstate(over="ignore"):
            units = (line - self.center) / self.unit
        t, log_slope = self.shape.to_normal(units.clip(-_FARTHEST_UNITS, _FARTHEST_UNITS))
        return t, log_slope + log_end_slope - np.log(self.unit)

    def _on_grid(self, values: np.ndarray) -> np.ndarray:
        ends = np.ldexp([self.ends.low.at, -self.ends.high.at], self.exponent)
        first, last = (ends.clip(*self.drawn_within) - self.low) / self.step
        n_steps = np.rint((values - self.low) / self.step)
        n_steps = n_steps.clip(np.ceil(first), np.floor(last))
        return grid_points(self.low, self.step, n_steps)


def _exponent(values: np.ndarray, most: int = 400) -> int:
    """Return the power of two to divide values by, so that their squares do not overflow."""
    exponent = int(np.frexp(np.abs(values).max())[1])
    return exponent if abs(exponent) > most else 0
