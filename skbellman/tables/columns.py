"""Columns of a table and their coordinates: the maps to unit scale and back."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import repeat

import numpy as np
from scipy.linalg import helmert
from scipy.optimize import minimize_scalar
from scipy.special import boxcox1p, inv_boxcox1p

from skbellman.tables.ends import End, Ends, end_at
from skbellman.tables.grids import grid_step

# Level of noise at which a category's probability is read off: the corners of a category's
# coordinates are sqrt(2) apart, seven of these to each side.
CATEGORY_FLOOR = 0.1
_TAILS = (np.inf, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
# How much more often than the values next to it an atom is there.
_STANDING_OUT = 3
# Rows that the bin beyond an end would hold, if counts went on as they fall, and does not hold.
_MISSING_BEYOND = 10
# Share of the least rows that is in the lower half of their range: half where the density does not
# change, an eighth in the tail of a Gaussian.
_DENSE = 0.3
# Mean log-likelihood per row that a heavier tail has to gain to be chosen.
_TAIL_GAIN = 0.002
# A logarithmic tail on top of a logarithm draws values beyond any bound: see `_stays_near`.
_REACH, _FARTHEST = 5.0, 100.0
# How often a power is brought half as near to 1 where its draws are too far away.
_MILDER = 20
# Share of a step that rounding may have moved the bound of a grid.
_ROUNDING = 1e-6
# Powers of ten are numbers up to here, and squares of numbers between these powers of two.
_MAX_DECIMALS, _MAX_EXPONENT = 300, 400
_LARGEST = float(np.finfo(float).max)


class Column(ABC):
    """One column of a table, or a part of one: values to ``n_dims`` coordinates and back."""

    n_dims: int
    holds_numbers: bool

    @property
    def only_levels(self) -> np.ndarray | None:
        """The only values that the column takes, or None if it takes any number."""
        return None

    def takes(self, values: np.ndarray) -> np.ndarray:
        """Return which values, none of them missing, the column can take."""
        if self.only_levels is None:
            return np.ones(len(values), dtype=bool)
        return codes_of(values, self.only_levels) >= 0

    @property
    def parts(self) -> list[Column]:
        """The parts that have coordinates of their own: the column itself, if it is not divided."""
        return [self]

    def divide(self, values: np.ndarray) -> list[np.ndarray]:
        """Return the values of each part."""
        return [values]

    def join(self, decoded: list[np.ndarray]) -> np.ndarray:
        """Return the values, or codes, of the column from those of its parts."""
        return decoded[0]

    @abstractmethod
    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates, (n, n_dims), and the log-measure of each value, (n,).

        The log-measure is what turns a log-density of the coordinates into one of the
        values; -inf where the column cannot take the value.
        """

    @abstractmethod
    def spread(self, values: np.ndarray, place: np.ndarray | float) -> np.ndarray:
        """Return the values moved within their step of the grid, to a place from 0 to 1."""

    @abstractmethod
    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the values, or the codes of the categories, that coordinates stand for."""


class NumericColumn(Column):
    r"""A number: its ends go to infinity, then skewness is taken out, then tails, then scale.

    With u the value in robust units on the line of `Ends`, the coordinate is
    :math:`z = (t - \bar t) / sd(t)`, :math:`t = c\,\mathrm{asinh}(y(u) / c)`, y the Yeo-Johnson
    transform (2000; its power kept in [0, 2], where the map is onto the whole line) and c the width
    beyond which tails grow as a logarithm; power and c by maximum likelihood of a normal
    coordinate. Values are divided by a power of two where their squares are no numbers.

    Where rows do not thin out towards an end (shares up to 1, adults from 18 on), the column has
    a hard end there. It also ends at 0 if no value is negative, and at the bounds of its dtype.
    Samples never pass an end.

    Parameters
    ----------
    values : array of shape (n,)
        Finite, not all equal.
    dequantize : bool
        Look for a grid; values on one are spread over a step while fitting, and drawn on it.
    precision : float
        Relative rounding error of the values.
    bounds : tuple of float, default=(-inf, inf)
        The least and the largest number that the dtype of the column holds.
    """

    n_dims, holds_numbers = 1, True
    # Whether the ends are moved to infinity before the values are shaped.
    ends_bend = True

    def __init__(
        self,
        values: np.ndarray,
        dequantize: bool,
        precision: float,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> None:
        self.low, self.high = float(values.min()), float(values.max())
        self.step = grid_step(values, precision) if dequantize else 0.0
        # Of values on a coarse grid, two say, the likeliest shape has no bounds: spread them.
        spread = self.spread(values, _even_places(values))
        self.exponent = _exponent(spread)
        spread = np.ldexp(spread, -self.exponent)
        self.drawn_within = least, most = self._grid_bounds(bounds)
        self.ends = Ends(self._end(spread, least), self._end(-spread, -most))
        self._set_shape(spread)
        low_is_hard, high_is_hard = self._hard_ends(values, spread)
        if low_is_hard:
            self.ends = replace(self.ends, low=self._end(spread, self.low))
        if high_is_hard:
            self.ends = replace(self.ends, high=self._end(-spread, -self.high))
        self._set_shape(spread)

    def straight(self, values: np.ndarray) -> NumericColumn:
        """Return the column without shaping: its ends, location and scale alone."""
        column = copy.copy(self)
        column.power, column.tail = 1.0, np.inf
        column._standardise(self.ends.inside(np.ldexp(values, -self.exponent))[0])
        return column

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside, log_share = self.ends.inside(np.ldexp(values, -self.exponent))
        log_unit = np.log(self.scale) + self.exponent * np.log(2)
        log_slope = self._unscaled(inside)[1] + log_share - log_unit
        return self._coordinates(inside)[:, None], log_slope

    def spread(self, values: np.ndarray, place: np.ndarray | float) -> np.ndarray:
        return values + self.step * (place - 0.5)

    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        y = _inverse_asinh(coordinates[:, 0] * self.scale + self.mean, self.tail)
        line = inverse_yeo_johnson(y, self.power) * self.unit + self.center
        values = np.ldexp(self._line.to_values(line), self.exponent).clip(*self.drawn_within)
        values = self._on_grid(values) if self.step else values
        # What rounding has put on 0 itself is none of a column that is positive.
        return np.where(values > 0, values, self.low) if self.low > 0 else values

    def _hard_ends(self, values: np.ndarray, spread: np.ndarray) -> tuple[bool, bool]:
        """Return whether the rows end at once at the lower and at the upper end."""
        shaped, _ = self._unscaled(self.ends.inside(spread)[0])
        counts = np.histogram(shaped, math.ceil(math.sqrt(len(values))))[0]
        return (
            ends_at_once(counts) and _is_dense(spread),
            ends_at_once(counts[::-1]) and _is_dense(-spread),
        )

    def _end(self, spread: np.ndarray, least: float) -> End:
        """Return the lower end of spread values of which this is the least."""
        with np.errstate(over="ignore"):  # so far that it is none
            at = np.ldexp(least - self.step / 2, -self.exponent)
        return end_at(spread, float(at), _robust_unit(spread))

    def _grid_bounds(self, bounds: tuple[float, float]) -> tuple[float, float]:
        """Return the least and largest value that may be drawn, on the grid if there is one.

        What was never negative is drawn no lower, and what was always positive stays so.
        """
        least = min(max(bounds[0], 0.0 if self.low >= 0 else -_LARGEST), self.low)
        most = max(min(bounds[1], _LARGEST), self.high)
        if not self.step:
            return least, most
        n_below = np.floor((self.low - least) / self.step + _ROUNDING)
        if self.low > 0 and least == 0:
            n_below = max(np.ceil(self.low / self.step - _ROUNDING) - 1, 0.0)
        n_above = np.floor((most - self.low) / self.step + _ROUNDING)
        with np.errstate(over="ignore"):  # rounding may take the last step beyond all numbers
            return float(self.low - n_below * self.step), float(self.low + n_above * self.step)

    def _set_shape(self, spread: np.ndarray) -> None:
        """Choose location, scale, power and tails of values within the ends."""
        inside, _ = self.ends.inside(spread)
        line, _ = self._line.to_line(inside)
        self.center = float(np.median(line))
        self.unit = _robust_unit(line)
        u = (line - self.center) / self.unit
        best = _best_power(u)
        milder = (1 + (best - 1) * 0.5**k for k in range(_MILDER))
        self.power = next((power for power in milder if _stays_near(u, power, np.inf)), 1.0)
        self.tail = _best_tail(u, self.power)
        self._standardise(inside)

    def _standardise(self, inside: np.ndarray) -> None:
        t, _ = self._unscaled(inside)
        self.mean, self.scale = float(t.mean()), float(t.std())

    @property
    def _line(self) -> Ends:
        """The ends that the line of the values is without."""
        return self.ends if self.ends_bend else Ends()

    def _coordinates(self, inside: np.ndarray) -> np.ndarray:
        return (self._unscaled(inside)[0] - self.mean) / self.scale

    def _unscaled(self, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        line, log_end_slope = self._line.to_line(inside)
        u = (line - self.center) / self.unit
        y = yeo_johnson(u, self.power)
        t, log_tail_slope = _asinh(y, self.tail)
        log_slope = yeo_johnson_log_slope(u, self.power) + log_tail_slope + log_end_slope
        return t, log_slope - np.log(self.unit)

    def _on_grid(self, values: np.ndarray) -> np.ndarray:
        ends = np.ldexp([self.ends.low.at, -self.ends.high.at], self.exponent)
        first, last = (ends.clip(*self.drawn_within) - self.low) / self.step
        n_steps = np.rint((values - self.low) / self.step)
        return self._grid_points(n_steps.clip(np.ceil(first), np.floor(last)))

    def _grid_points(self, n_steps: np.ndarray) -> np.ndarray:
        points = self.low + n_steps * self.step
        decimals = int(np.ceil(-np.log10(self.step))) + 6
        if abs(decimals) > _MAX_DECIMALS:
            return points
        rounded = points.round(decimals)
        error = 8 * np.finfo(float).eps * (abs(self.low) + np.abs(n_steps) * self.step)
        return np.where(np.abs(rounded - points) <= error, rounded, points)


class CategoricalColumn(Column):
    r"""A category of K levels: one-hot, without the direction that all levels share.

    The K corners of a regular simplex in K - 1 coordinates, sqrt(2) apart like one-hot
    vectors. Where noise is small beside that distance the density at corner k is
    :math:`P(k) (2 \pi \sigma^2)^{-(K - 1) / 2}`, which gives the log-probability. A column with one
    level has no coordinates; its value has probability 1.

    Parameters
    ----------
    levels : array of shape (K,)
        The values, in the order of their codes.
    """

    holds_numbers = False
    # Level of noise at which probabilities are read off.
    floor = CATEGORY_FLOOR

    def __init__(self, levels: np.ndarray) -> None:
        self.levels = levels
        self.n_dims = len(levels) - 1
        self.corners = _simplex(len(levels))

    @property
    def only_levels(self) -> np.ndarray:
        return self.levels

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = self.codes(values)
        return self.corners[codes], np.where(codes < 0, -np.inf, self._log_peak)

    def spread(self, values: np.ndarray, place: np.ndarray | float) -> np.ndarray:
        return values

    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        return (coordinates @ self.corners.T).argmax(1)

    @property
    def _log_peak(self) -> float:
        """What turns the log-density at a corner into its log-probability."""
        return 0.5 * self.n_dims * float(np.log(2 * np.pi * self.floor**2))

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Return the code of each value, -1 for one that is no level."""
        return codes_of(values, self.levels)


class AtomColumn(Column):
    """A number with atoms: values that hold a share of the column each, and a density of the rest.

    A category tells which atom holds, if any, and a number the value if none does; where an atom
    holds, the number is not seen. So a row with an atom scores a probability, the others a density.

    Parameters
    ----------
    atoms : array of shape (n_atoms,)
    rest : NumericColumn or None
        Of the other values; None if there are none.
    """

    holds_numbers = True

    def __init__(self, atoms: np.ndarray, rest: NumericColumn | None) -> None:
        self.atoms, self.rest = atoms, rest
        n_levels = len(atoms) + (rest is not None)
        self.which = CategoricalColumn(np.arange(n_levels, dtype=np.float64))
        self.n_dims = self.which.n_dims + (rest is not None)

    @property
    def only_levels(self) -> np.ndarray | None:
        return self.atoms if self.rest is None else None

    @property
    def parts(self) -> list[Column]:
        return [self.which] if self.rest is None else [self.rest, self.which]

    def divide(self, values: np.ndarray) -> list[np.ndarray]:
        code = np.full(len(values), np.nan if self.rest is None else float(len(self.atoms)))
        for k, atom in enumerate(self.atoms):
            code[values == atom] = k
        missing = np.isnan(values)
        # Without a rest, a value that is no atom is none that the column can take.
        unknown = np.where(np.isnan(code), -1.0, code)
        which = np.where(missing, np.nan, unknown)
        if self.rest is None:
            return [which]
        return [np.where(code < len(self.atoms), np.nan, values), which]

    def join(self, decoded: list[np.ndarray]) -> np.ndarray:
        code = decoded[-1].astype(np.int64)
        if self.rest is None:
            return self.atoms[code]
        return np.where(code < len(self.atoms), np.append(self.atoms, 0.0)[code], decoded[0])

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise TypeError("a column with atoms is encoded by its parts.")

    def spread(self, values: np.ndarray, place: np.ndarray | float) -> np.ndarray:
        raise TypeError("a column with atoms is spread by its parts.")

    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        raise TypeError("a column with atoms is decoded by its parts.")


def codes_of(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the place of each value among the levels, -1 for one that is none of them."""
    if values.dtype != object and levels.dtype != object:
        order = np.argsort(levels, kind="stable")
        place = order[np.searchsorted(levels, values, sorter=order).clip(max=len(levels) - 1)]
        return np.where(levels[place] == values, place, -1)
    index = {level: code for code, level in enumerate(levels.tolist())}
    codes = map(index.get, values.tolist(), repeat(-1))
    return np.fromiter(codes, dtype=np.int64, count=len(values))


def find_atoms(values: np.ndarray, least_share: float) -> np.ndarray:
    """Return the values that stand out of a column: its atoms, ascending.

    They hold at least that share of the column, and three times as much as the values next to
    them. Where fewer than two values would be left, and of two values, every one is an atom.
    """
    if least_share >= 1:
        return values[:0]
    levels, counts = np.unique(values, return_counts=True)
    beside = np.maximum(np.append(counts[1:], 0), np.insert(counts[:-1], 0, 0))
    stands_out = (counts >= least_share * len(values)) & (counts >= _STANDING_OUT * beside)
    if len(levels) == 2 or (~stands_out).sum() < 2:
        return levels
    return levels[stands_out]


def ends_at_once(counts: np.ndarray) -> bool:
    """Return whether a bin before the first would hold rows, if counts went on as they fall."""
    first, second = np.append(counts, 0)[:2]
    return bool(first * min(first / max(second, 1), 1) >= _MISSING_BEYOND)


def _is_dense(values: np.ndarray) -> bool:
    """Return whether the least values do not thin out towards the least: a bin may hide a tail."""
    n_least = math.ceil(math.sqrt(len(values)))
    least = np.partition(values, n_least - 1)[:n_least]
    middle = (least.min() + least.max()) / 2
    return bool((least <= middle).sum() >= _DENSE * n_least)


def yeo_johnson(u: np.ndarray, power: float) -> np.ndarray:
    """Return the Yeo-Johnson transform of u."""
    positive, negative = np.maximum(u, 0), np.maximum(-u, 0)
    return boxcox1p(positive, power) - boxcox1p(negative, 2 - power)


def yeo_johnson_log_slope(u: np.ndarray, power: float) -> np.ndarray:
    """Return the log-derivative of `yeo_johnson`."""
    return (power - 1) * np.sign(u) * np.log1p(np.abs(u))


def inverse_yeo_johnson(y: np.ndarray, power: float) -> np.ndarray:
    """Return the u whose Yeo-Johnson transform is y."""
    positive, negative = np.maximum(y, 0), np.maximum(-y, 0)
    return inv_boxcox1p(positive, power) - inv_boxcox1p(negative, 2 - power)


def _asinh(y: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return width * asinh(y / width) and the log-derivative; the identity at infinity."""
    if np.isinf(width):
        return y, np.zeros_like(y)
    return width * np.arcsinh(y / width), -np.log(np.hypot(1.0, y / width))


def _inverse_asinh(t: np.ndarray, width: float) -> np.ndarray:
    return t if np.isinf(width) else width * np.sinh(t / width)


def _normal_likelihood(t: np.ndarray, log_slope: np.ndarray) -> float:
    """Return the mean log-likelihood of a normal t, up to a constant."""
    return float(log_slope.mean() - np.log(max(t.std(), np.finfo(float).tiny)))


def _best_power(u: np.ndarray) -> float:
    def loss(power: float) -> float:
        return -_normal_likelihood(yeo_johnson(u, power), yeo_johnson_log_slope(u, power))

    return float(minimize_scalar(loss, bounds=(0.0, 2.0), method="bounded").x)


def _best_tail(u: np.ndarray, power: float) -> float:
    """Return the likeliest width of the tails, of those whose draws stay near the table."""
    y = yeo_johnson(u, power)
    unit = _robust_unit(y)
    tails = [_TAILS[0], *(t * unit for t in _TAILS[1:] if _stays_near(u, power, t * unit))]
    gains = [_normal_likelihood(*_asinh(y, tail)) for tail in tails]
    best = int(np.argmax(gains))
    return tails[best] if gains[best] > gains[0] + _TAIL_GAIN else tails[0]


def _stays_near(u: np.ndarray, power: float, tail: float) -> bool:
    """Return whether coordinates of -5 and 5 are within 100 times the range of the values."""
    t, _ = _asinh(yeo_johnson(u, power), tail)
    ends = t.mean() + _REACH * t.std() * np.array([-1.0, 1.0])
    with np.errstate(over="ignore"):
        reached = inverse_yeo_johnson(_inverse_asinh(ends, tail), power)
    return bool(np.abs(reached).max() <= _FARTHEST * np.ptp(u))


def _even_places(values: np.ndarray) -> np.ndarray:
    """Return for each value a place from 0 to 1, spread evenly over those that are equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    rank = np.empty(len(values))
    rank[np.argsort(inverse, kind="stable")] = np.arange(len(values))
    return (rank - first[inverse] + 0.5) / counts[inverse]


def _exponent(values: np.ndarray) -> int:
    """Return the power of two that values are divided by so that their squares are numbers."""
    exponent = int(np.frexp(np.abs(values).max())[1])
    return exponent if abs(exponent) > _MAX_EXPONENT else 0


def _robust_unit(values: np.ndarray) -> float:
    """Return half the width of the middle 68%, or the deviation where that is 0."""
    low, high = np.quantile(values, [0.16, 0.84])
    deviation = float(values.std())
    unit = float(high - low) / 2
    return unit if unit > 1e-9 * deviation else deviation


def _simplex(n_levels: int) -> np.ndarray:
    """Return the corners of a regular simplex, (K, K - 1), sqrt(2) apart."""
    return helmert(n_levels).T if n_levels > 1 else np.zeros((1, 0))
