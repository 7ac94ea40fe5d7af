"""Hard bounds of a column, and the map from the interval between them to the whole line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class End:
    r"""The lower bound of a column: no value lies below it.

    With t the distance from the end in units of ``width``, the value v goes to
    :math:`v + width \log(1 - e^{-t})`: logarithmic at the end, which goes to minus infinity, and
    the identity far from it. So a density on that line is a density of values above the end. A
    density that stops abruptly at the end is smooth on the line.

    Parameters
    ----------
    at : float
        The end; minus infinity for none.
    width : float
        Distance over which the map is not the identity.
    place : float
        Values nearer to the end than half of this share one coordinate.
    share : float
        Density just beyond the end, as a share of the density at that place.
    closed : bool
        Whether values lie at the end itself; that place stands for them.
    """

    at: float = -np.inf
    width: float = 1.0
    place: float = 0.0
    share: float = 0.0
    closed: bool = False
    # Widths beyond which the map is the identity, to rounding.
    far: ClassVar[float] = 40.0
    # Relative rounding error of a distance that was mapped to the line and back.
    rounding: ClassVar[float] = 1e-6

    def to_line(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values on the line, and the log-derivative."""
        if np.isinf(self.at):
            return values, np.zeros_like(values)
        with np.errstate(over="ignore"):  # infinitely far from the end is far
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
        """Return values, with the end itself in place of those nearest to it if it is closed."""
        if not self.closed:
            return np.maximum(values, self.at)
        return np.where(values - self.at <= self.place / 2 * (1 + self.rounding), self.at, values)

    def inside(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values at least half a place from the end, and the log-share of those beyond.

        Samples never lie beyond the end. A new value there is improbable, but not impossible: its
        score falls as the square of the distance, and all of them have a mass of at most 1/4000.
        """
        if np.isinf(self.at):
            return values, np.zeros_like(values)
        beyond = np.maximum(self.at - values, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            # The quotient of the two may be no number.
            log_distance = np.logaddexp(0.0, np.log(beyond) - np.log(self.place))
        inside = np.maximum(values, self.at + self.place / 2)
        return inside, np.where(beyond > 0, np.log(self.share) - 2 * log_distance, 0.0)


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
        # Keep values at least one rounding error away from the upper end.
        nearest = high.at + np.spacing(max(abs(high.at), high.width))
        negative, high_slope = high.to_line(np.maximum(-from_low, nearest))
        return -negative, low_slope + high_slope

    def to_values(self, line: np.ndarray) -> np.ndarray:
        """Return the values that lie there on the line."""
        values = self.low.to_values(-self._high_on_line.to_values(-line))
        return -self.high.snapped(-self.low.snapped(values))

    def inside(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values within the ends, and the log-share of those beyond."""
        above, low_share = self.low.inside(values)
        negative, high_share = self.high.inside(-above)
        return -negative, low_share + high_share

    @property
    def _high_on_line(self) -> End:
        """The upper end, as moved by the map of the lower one."""
        (at,), _ = self.low.to_line(np.array([-self.high.at]))
        return End(-float(at), self.high.width)


def end_at(values: np.ndarray, at: float, unit: float, share_beyond: float = 2.5e-4) -> End:
    """Return the lower end of a column.

    Parameters
    ----------
    values : array of shape (n,)
        None of them lower than the end.
    at : float
        The end. Minus infinity, or an end far below all values, means no end.
    unit : float
        Width of the middle of the values.
    share_beyond : float, default=2.5e-4
        Largest share of the column that the score assigns to values beyond the end.
    """
    if at < values.min() - End.far * unit:
        return End()
    n_first = int(np.ceil(np.sqrt(len(values))))
    first = np.partition(values, n_first - 1)[:n_first]
    nearest = float(values[values > at].min() - at)
    place = min(float(first.max() - at) / n_first or nearest, nearest)
    # Half of it is more than a rounding error, of the end and of 0 in units of the width.
    place = max(place, 4 * float(np.finfo(float).tiny) * unit, 2 * float(np.spacing(abs(at))))
    share = min(1.0, share_beyond * len(values))
    return End(at, unit, place, share, bool((values == at).any()))


def ends_at_once(counts: np.ndarray, n_missing: float = 10) -> bool:
    """Return whether counts stop abruptly, before rows thin out.

    They do if the next bin would hold ``n_missing`` rows by extrapolation of the counts.
    """
    first, second = np.append(counts, 0)[:2]
    return bool(first * min(first / max(second, 1), 1) >= n_missing)


def is_dense(values: np.ndarray, share: float = 0.3) -> bool:
    """Return whether values stay dense towards the least one, as one bin may hide a tail.

    Then the lower half of their range holds that share of them. It is a half if the density is
    constant, and an eighth in the tail of a Gaussian.
    """
    n_least = math.ceil(math.sqrt(len(values)))
    least = np.partition(values, n_least - 1)[:n_least]
    middle = (least.min() + least.max()) / 2
    return bool((least <= middle).sum() >= share * n_least)
