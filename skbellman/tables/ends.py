"""Ends that a column of numbers does not pass, and the map from between them to the whole line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class End:
    r"""The lower end of a column: no value lies below it.

    With t the distance from the end in units of ``width``, the value v goes to
    :math:`v + width \log(1 - e^{-t})`: logarithmic at the end, which goes to minus infinity, and
    the identity far from it. So a density on that line is a density of values above the end, and
    where it ends at once in the values, it is smooth on the line.

    Parameters
    ----------
    at : float
        The end; minus infinity for none.
    width : float
        Distance over which the map is not the identity.
    place : float
        Values that are nearer to the end than half of this have one coordinate.
    share : float
        Of the density at that place, what the density just beyond the end is said to be.
    closed : bool
        Whether values lie at the end itself, for which that place stands.
    """

    at: float = -np.inf
    width: float = 1.0
    place: float = 0.0
    share: float = 0.0
    closed: bool = False
    # Widths beyond which the map is the identity, to rounding.
    far: ClassVar[float] = 40.0
    # Of a distance that was mapped to the line and back.
    rounding: ClassVar[float] = 1e-6

    def to_line(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values on the line, and the log-derivative."""
        if np.isinf(self.at):
            return values, np.zeros_like(values)
        log_slope = -np.log(-np.expm1((self.at - values) / self.width))
        return values - self.width * log_slope, log_slope

    def to_values(self, line: np.ndarray) -> np.ndarray:
        """Return the values that lie there on the line."""
        if np.isinf(self.at):
            return line
        t = (line - self.at) / self.width
        above = np.where(t > 0, line - self.at, 0.0) + self.width * np.log1p(np.exp(-np.abs(t)))
        return np.where(t > self.far, line, self.at + above)

    def snapped(self, values: np.ndarray) -> np.ndarray:
        """Return values with the end itself in place of those nearest to it, if it is closed."""
        if not self.closed:
            return np.maximum(values, self.at)
        return np.where(values - self.at <= self.place / 2 * (1 + self.rounding), self.at, values)

    def inside(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values not nearer than half a place, and the log-share that those beyond have.

        None is ever drawn beyond. That a new value lies there is improbable, but not impossible:
        the score falls off as the square of the distance, and gives all of it 1/4000 at most.
        """
        if np.isinf(self.at):
            return values, np.zeros_like(values)
        beyond = np.maximum(self.at - values, 0.0)
        log_share = np.log(self.share) - 2 * np.log1p(beyond / self.place)
        inside = np.maximum(values, self.at + self.place / 2)
        return inside, np.where(beyond > 0, log_share, 0.0)


@dataclass(frozen=True)
class Ends:
    """Both ends of a column. The upper one is held as the lower one of minus the values.

    Parameters
    ----------
    low, high : End
    """

    low: End = End()
    high: End = End()

    def to_line(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values on the whole line, and the log-derivative."""
        from_low, low_slope = self.low.to_line(values)
        if np.isinf(self.high.at):
            return from_low, low_slope
        high = self._high_on_line
        # Where the upper end is nearer than rounding on this line, a value is one rounding away.
        nearest = high.at + np.spacing(max(abs(high.at), high.width))
        negative, high_slope = high.to_line(np.maximum(-from_low, nearest))
        return -negative, low_slope + high_slope

    def to_values(self, line: np.ndarray) -> np.ndarray:
        """Return the values that lie there on the line."""
        values = self.low.to_values(-self._high_on_line.to_values(-line))
        return -self.high.snapped(-self.low.snapped(values))

    def inside(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values within the ends, and the log-share that those beyond have."""
        above, low_share = self.low.inside(values)
        negative, high_share = self.high.inside(-above)
        return -negative, low_share + high_share

    @property
    def _high_on_line(self) -> End:
        """The upper end where the lower one has moved it."""
        (at,), _ = self.low.to_line(np.array([-self.high.at]))
        return End(-float(at), self.high.width)


def end_at(values: np.ndarray, at: float, unit: float, share_beyond: float = 2.5e-4) -> End:
    """Return the lower end of a column.

    Parameters
    ----------
    values : array of shape (n,)
        None of them lower than the end.
    at : float
        The end; one that is far below all values, or minus infinity, is none.
    unit : float
        Of the values: the width of the middle of them.
    share_beyond : float, default=2.5e-4
        Of the column, at most, that the score leaves to what lies beyond the end.
    """
    if at < values.min() - End.far * unit:
        return End()
    n_first = int(np.ceil(np.sqrt(len(values))))
    first = np.partition(values, n_first - 1)[:n_first]
    nearest = float(values[values > at].min() - at)
    place = min(float(first.max() - at) / n_first or nearest, nearest)
    # In units of the width it is more than 0 to rounding.
    place = max(place, 4 * float(np.finfo(float).tiny) * unit)
    share = min(1.0, share_beyond * len(values))
    return End(at, unit, place, share, bool((values == at).any()))


def ends_at_once(counts: np.ndarray, n_missing: float = 10) -> bool:
    """Return whether bins come to an end before rows thin out.

    So it is where a bin before the first would hold that many rows, if counts went on as they fall.
    """
    first, second = np.append(counts, 0)[:2]
    return bool(first * min(first / max(second, 1), 1) >= n_missing)


def is_dense(values: np.ndarray, share: float = 0.3) -> bool:
    """Return whether the least values do not thin out towards the least: a bin may hide a tail.

    The lower half of their range then holds that share of them: half where the density does not
    change, an eighth in the tail of a Gaussian.
    """
    n_least = math.ceil(math.sqrt(len(values)))
    least = np.partition(values, n_least - 1)[:n_least]
    middle = (least.min() + least.max()) / 2
    return bool((least <= middle).sum() >= share * n_least)
