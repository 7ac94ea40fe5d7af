"""Numbers of which some values repeat: zeros, round numbers, ratios of small counts."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from skbellman.tables.columns.base import Codes, Column, Coordinates, LogMeasure, Values, codes_of
from skbellman.tables.columns.numeric import NumericColumn
from skbellman.tables.grids import exceed_neighbours
from skbellman.tables.measures import AtomsBeside, Reference
from skbellman.tables.quantiles import different, quantiles

# Coordinates beyond which a normal probability would be no number.
_FARTHEST = 37.0
# Coordinates of the smooth shape whose squares are still numbers.
_FARTHEST_SQUARED = 1e150
# Values that are counted at once.
_CHUNK = 2**16


class RankedColumn(Column):
    r"""A number whose repeated values have probabilities, beside a density of the others.

    The coordinate is :math:`\Phi^{-1}(F(x))`, with the distribution function F of the column. A
    repeated value is a jump of F. It has a cell on the coordinate, over which it is spread
    uniformly. The other values have the density of a smooth shape (`NumericColumn`), corrected by
    counts. So the networks learn no peaks, and samples are repeated values exactly.

    A value of n_v among n rows has the probability (n_v - d) / n. The discounts d go to the other
    values. This is the estimate of Pitman and Yor (1997), with the d of the largest leave-one-out
    likelihood. On a grid, a repeated value also has the share of its step in the density.

    Parameters
    ----------
    values : array of shape (n,)
        Finite, not all equal.
    repeated : array of shape (m,)
        The values with a probability, ascending.
    precision : float
        Relative rounding error of the values.
    bounds : tuple of float, default=(-inf, inf)
        The least and the largest number that the dtype of the column holds.
    """

    n_dims, holds_numbers, has_cells = 1, True, True
    # Least number of different other values that determine the smooth shape alone.
    least_shaped = 50
    # Share of a step that a value may be off the grid.
    off_grid = 1e-3

    def __init__(
        self,
        values: Values,
        repeated: Values,
        precision: float,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> None:
        code = codes_of(values, repeated)
        held, rest = np.bincount(code[code >= 0], minlength=len(repeated)), values[code < 0]
        rest.sort()
        self.repeated = repeated
        near, new = _near(values, rest), different(rest)
        self.smooth = NumericColumn(
            near, True, precision, bounds, rest if len(new) >= self.least_shaped else None
        )
        half = self.smooth.step / 2
        low, high = self._on_smooth(repeated - half), self._on_smooth(repeated + half)
        discount = _best_discount(held, len(rest))
        edges = _edges(self._on_smooth(quantiles(new)), low, high)
        share = _shares(self._counts(rest, edges), edges)
        of_rest = len(rest) + discount * len(held)
        self._held = held - discount
        self._rooms = _Rooms(edges, share * of_rest, low, high, self._held)
        self.frequent = _apart(repeated, held, new, len(values))

    @property
    def edges(self) -> np.ndarray:
        ends = np.concatenate([self.encode(self.frequent, place)[0][:, 0] for place in (0.0, 1.0)])
        inner = np.sort(ends[np.abs(ends) < _FARTHEST / 4])
        return inner[np.append(np.diff(inner) > 1e-5, True)] if len(inner) else inner

    @property
    def measure(self) -> Reference:
        rest = self.smooth.measure
        on_grid = self.smooth.has_cells
        return rest if on_grid else AtomsBeside(tuple(self.repeated.tolist()), rest)

    @property
    def drawn_exactly(self) -> Values:
        return self.repeated

    def beyond(self, values: Values) -> np.ndarray:
        return self.smooth.beyond(values) & (self._codes(values) < 0)

    def _encode(self, values: Values, place: np.ndarray | float) -> tuple[Coordinates, LogMeasure]:
        smooth, log_slope = self.smooth.encode(values, place)
        line = smooth[:, 0].clip(-_FARTHEST_SQUARED, _FARTHEST_SQUARED)
        code = self._codes(values)
        z, log_mass, log_ratio = self._rooms.of(line, code, place)
        # A repeated value has a probability, per unit on a grid.
        of_repeated = log_mass - np.log(self.smooth.step or 1.0)
        of_rest = log_ratio + log_slope - 0.5 * line**2 - 0.5 * np.log(2 * np.pi)
        log_room = np.where(code >= 0, of_repeated, of_rest)
        return z[:, None], log_room + 0.5 * z**2 + 0.5 * np.log(2 * np.pi)

    def decode(self, coordinates: Coordinates) -> Codes:
        line, code = self._rooms.at(coordinates[:, 0].clip(-_FARTHEST, _FARTHEST))
        of_rest = self.smooth.decode(line[:, None])
        return np.where(code < 0, of_rest, np.append(self.repeated, 0.0)[code])

    def log_likelihood(self, values: Values) -> float:
        """Return the mean log-likelihood of the fitted rows, each left out of its own count."""
        z, log_measure = self.encode(values)
        code = self._codes(values)
        alone = np.log1p(-1 / np.append(self._held, np.inf))[code]
        return float((log_measure - 0.5 * z[:, 0] ** 2 + alone).mean() - 0.5 * np.log(2 * np.pi))

    def _codes(self, values: Values) -> Codes:
        """Return codes of repeated values, -1 for others; on a grid rounding does not decide."""
        if not self.smooth.step or not len(self.repeated):
            return codes_of(values, self.repeated)
        above = np.searchsorted(self.repeated, values).clip(max=len(self.repeated) - 1)
        below = (above - 1).clip(min=0)
        slack = self.off_grid * self.smooth.step
        is_above, is_below = (np.abs(values - self.repeated[c]) <= slack for c in (above, below))
        return np.select([is_above, is_below], [above, below], -1)

    def _counts(self, rest: Values, edges: np.ndarray) -> np.ndarray:
        """Return the number of other values in each stretch between edges."""
        parts = np.array_split(rest, len(rest) // _CHUNK + 1)
        return np.sum([np.histogram(self._on_smooth(part), edges)[0] for part in parts], axis=0)

    def _on_smooth(self, values: Values) -> np.ndarray:
        """Return coordinates of values by the smooth shape, clipped at its ends."""
        line = self.smooth.line(values)
        return line.clip(-_FARTHEST, _FARTHEST)


class _Rooms:
    """The cells of repeated values on the coordinate, and the stretches between them.

    Parameters
    ----------
    edges : array of shape (k + 1,)
        Bounds of the stretches, as coordinates of the smooth shape.
    rest : array of shape (k,)
        Number of rows without a repeated value in each stretch.
    low, high : array of shape (m,)
        Bounds of the cells: neighbouring edges, or equal ones without a grid.
    held : array of shape (m,)
        Number of rows in each cell.
    """

    def __init__(
        self,
        edges: np.ndarray,
        rest: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        held: np.ndarray,
    ) -> None:
        code = np.full(len(rest), -1)
        place = np.searchsorted(edges, low).clip(max=len(rest) - 1)
        wide = high > low
        code[place[wide]] = np.flatnonzero(wide)
        mass = rest.copy()
        mass[place[wide]] += held[wide]
        # Cells without a width on the smooth line lie between two stretches.
        low = np.concatenate([edges[:-1], low[~wide]])
        high = np.concatenate([edges[1:], high[~wide]])
        code = np.concatenate([code, np.flatnonzero(~wide)])
        mass = np.concatenate([mass, held[~wide]])
        order = np.lexsort((code, high, low))
        self.low, self.high, self.code = low[order], high[order], code[order]
        mass = mass[order] / mass.sum()
        self.log_mass = np.log(mass)
        self.below = np.append(0.0, mass.cumsum()).clip(max=1.0)
        self.above = np.append(mass[::-1].cumsum()[::-1], 0.0).clip(max=1.0)
        self.shape = _normal_between(self.low, self.high)
        self.room_of = np.argsort(self.code, kind="stable")[len(self.code) - len(held) :]
        self.stretches = np.flatnonzero(self.high > self.low)

    def of(
        self, line: np.ndarray, code: np.ndarray, place: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return coordinates, the log-mass of their room, and its log-ratio to the smooth shape."""
        between = np.searchsorted(self.low[self.stretches], line, "right") - 1
        room = self.stretches[between.clip(min=0)]
        from_low, from_high = self._fractions(line, room)
        repeats = code >= 0
        room = np.where(repeats, np.append(self.room_of, 0)[code], room)
        from_low = np.where(repeats, place, from_low)
        from_high = np.where(repeats, 1.0 - np.asarray(place), from_high)
        mass = np.exp(self.log_mass[room])
        below = self.below[room] + from_low * mass
        above = self.above[room + 1] + from_high * mass
        z = np.where(below < 0.5, ndtri(below), -ndtri(above)).clip(-_FARTHEST, _FARTHEST)
        return z, self.log_mass[room], self.log_mass[room] - np.log(self.shape[room])

    def at(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return smooth coordinates, and codes of repeated values, -1 for others."""
        below, above = ndtr(z), ndtr(-z)
        low = np.searchsorted(self.below, below, "right") - 1
        high = len(self.code) - np.searchsorted(self.above[::-1], above, "left")
        room = np.where(z < 0, low, high).clip(0, len(self.code) - 1)
        mass = np.exp(self.log_mass[room])
        from_low = ((below - self.below[room]) / mass).clip(0, 1)
        from_high = ((above - self.above[room + 1]) / mass).clip(0, 1)
        start, end = self.low[room], self.high[room]
        up = ndtri(ndtr(start) + from_low * self.shape[room])
        down = -ndtri(ndtr(-end) + from_high * self.shape[room])
        line = np.where((start + end) < 0, up, down)
        return np.clip(line, start, end), self.code[room]

    def _fractions(self, line: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the shares of a stretch below and above places in it, by the smooth shape."""
        low = _normal_between(self.low[room], line) / self.shape[room]
        high = _normal_between(line, self.high[room]) / self.shape[room]
        return low.clip(0, 1), high.clip(0, 1)


def _apart(
    repeated: Values,
    held: np.ndarray,
    others: Values,
    n_rows: int,
    least_share: float = 0.01,
    least_rows: int = 100,
) -> Values:
    """Return the frequent values that stand apart from both of their neighbours.

    The dependence of a value on other columns is learned from its rows, so it needs some.
    """
    values = np.concatenate([repeated, others])
    order = np.argsort(values, kind="stable")
    counts = np.concatenate([held, np.ones(len(others))])[order]
    apart = exceed_neighbours(counts) & (counts >= max(least_share * n_rows, least_rows))
    return values[order][apart & (order < len(repeated))]


def _near(values: Values, rest: Values, ranges: float = 1e3) -> Values:
    """Return the values that are not far from the rest: sentinels do not stretch its ends."""
    if not len(rest) or rest.min() == rest.max():
        return values
    with np.errstate(over="ignore"):
        reach = ranges * np.ptp(rest)
        return values[(values >= rest.min() - reach) & (values <= rest.max() + reach)]


def _normal_between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return normal probabilities of intervals, exact in both tails."""
    return np.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low)).clip(1e-300)


def _edges(
    lines: np.ndarray, low: np.ndarray, high: np.ndarray, rows_in_one: int = 50
) -> np.ndarray:
    """Return the bounds of cells and, between cells, of stretches with some rows each."""
    # Quantiles of different values: a frequent value does not narrow its bin.
    lines = np.unique(lines)
    n_bins = min(len(lines) // rows_in_one, 400)
    inner = np.quantile(lines, np.arange(1, n_bins) / n_bins) if n_bins > 1 else lines[:0]
    inside = np.searchsorted(low, inner) > np.searchsorted(high, inner, "right")
    inner = inner[~inside]
    return np.unique(np.concatenate([[-_FARTHEST], low, high, inner, [_FARTHEST]]))


def _shares(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share of the rest in each stretch, from its counts and the smooth shape."""
    shape = _normal_between(edges[:-1], edges[1:])
    shape = shape / shape.sum()
    rows = _best_shape_rows(counts, shape)
    return (counts + rows * shape) / (counts.sum() + rows)


def _best_shape_rows(counts: np.ndarray, shape: np.ndarray) -> float:
    """Return the weight of the shape, in rows, with the largest leave-one-out likelihood."""
    weights, held = np.geomspace(1.0, 1e5, 11), counts > 0
    n, q = counts[held], shape[held]
    scores = [
        (n * np.log((n - 1 + rows * q) / (counts.sum() - 1 + rows))).sum() for rows in weights
    ]
    return float(weights[int(np.argmax(scores))])


def _best_discount(held: np.ndarray, n_rest: int) -> float:
    """Return the discount of the counts with the largest leave-one-out likelihood."""
    discounts = np.linspace(0.05, 0.95, 19)
    left = n_rest - 1 + discounts * len(held)
    of_rest = n_rest * np.log(left.clip(1e-9))
    scores = (held * np.log(held - 1 - discounts[:, None])).sum(1) + of_rest
    return float(discounts[int(np.argmax(scores))])
