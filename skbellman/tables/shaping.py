"""Transforms of columns: a power removes skewness, a logarithm removes heavy tails.

The power is that of Yeo and Johnson (2000), kept in [0, 2], where the map is onto the whole line.
asinh makes tails grow as a logarithm beyond a width. Both maximise the likelihood of a normal
coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import boxcox1p, inv_boxcox1p


@dataclass(frozen=True)
class Shape:
    r"""The map :math:`t = c\,\mathrm{asinh}(y(u) / c)`, y the Yeo-Johnson transform.

    Parameters
    ----------
    power : float, default=1.0
        1 is the identity.
    tail : float, default=inf
        The width c; infinity is the identity.
    """

    power: float = 1.0
    tail: float = np.inf

    def to_normal(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return transformed values, and the log-derivative."""
        t, log_tail_slope = _asinh(yeo_johnson(u, self.power), self.tail)
        return t, yeo_johnson_log_slope(u, self.power) + log_tail_slope

    def from_normal(self, t: np.ndarray) -> np.ndarray:
        """Return the values that have these transformed values."""
        return inverse_yeo_johnson(_inverse_asinh(t, self.tail), self.power)

    def stays_near(self, u: np.ndarray, reach: float = 5.0, farthest: float = 100.0) -> bool:
        """Return whether coordinates of -5 and 5 are within 100 times the range of the values.

        A logarithmic tail on top of a logarithm would give unbounded samples.
        """
        t, _ = _asinh(yeo_johnson(u, self.power), self.tail)
        ends = t.mean() + reach * t.std() * np.array([-1.0, 1.0])
        with np.errstate(over="ignore"):
            reached = self.from_normal(ends)
        return bool(np.abs(reached).max() <= farthest * np.ptp(u))


def likeliest_shape(u: np.ndarray, n_milder: int = 20) -> Shape:
    """Return the likeliest transform of values in robust units whose samples stay near them.

    While samples are too far away, the distance of the power from 1 is halved.
    """
    best = _best_power(u)
    milder = (Shape(1 + (best - 1) * 0.5**k) for k in range(n_milder))
    shape = next((shape for shape in milder if shape.stays_near(u)), Shape())
    return Shape(shape.power, _best_tail(u, shape.power))


def robust_unit(values: np.ndarray) -> float:
    """Return half the width of the middle 68%, or the deviation where that is 0."""
    low, high = np.quantile(values, [0.16, 0.84])
    deviation = float(values.std())
    unit = float(high - low) / 2
    return unit if unit > 1e-9 * deviation else deviation


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
    with np.errstate(over="ignore"):  # infinitely far from the centre
        return t if np.isinf(width) else width * np.sinh(t / width)


def _normal_likelihood(t: np.ndarray, log_slope: np.ndarray) -> float:
    """Return the mean log-likelihood of a normal t, up to a constant."""
    return float(log_slope.mean() - np.log(max(t.std(), np.finfo(float).tiny)))


def _best_power(u: np.ndarray) -> float:
    def loss(power: float) -> float:
        return -_normal_likelihood(yeo_johnson(u, power), yeo_johnson_log_slope(u, power))

    return float(minimize_scalar(loss, bounds=(0.0, 2.0), method="bounded").x)


def _best_tail(u: np.ndarray, power: float, least_gain: float = 0.002) -> float:
    """Return the likeliest width of the tails, infinity unless the mean log-likelihood gains."""
    y = yeo_johnson(u, power)
    widths = robust_unit(y) * np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.25])
    near = [width for width in widths.tolist() if Shape(power, width).stays_near(u)]
    tails = [np.inf, *near]
    gains = [_normal_likelihood(*_asinh(y, tail)) for tail in tails]
    best = int(np.argmax(gains))
    return tails[best] if gains[best] > gains[0] + least_gain else np.inf
