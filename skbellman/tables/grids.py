"""Grids: the step of which all values of a column are multiples, and counts by value."""

from __future__ import annotations

import math

import numpy as np

from skbellman.tables.quantiles import different

# With more decimals the power of 10 overflows.
_LARGEST_POWER = 300
# Values that are examined first, and values that are counted at once.
_FEW, _CHUNK = 1000, 2**16


def grid_step(values: np.ndarray, precision: float = np.finfo(float).eps) -> float:
    """Return the step of the grid that the values lie on, or 0.0 if there is none.

    A step is the greatest common divisor of the differences, found by way of decimals
    (0.005, 0.5, 12) or, for fractions such as 1/60, by way of the smallest difference.

    Parameters
    ----------
    values : array of shape (n,)
    precision : float
        Relative rounding error of the values.

    Examples
    --------
    >>> import numpy as np
    >>> grid_step(np.array([0.015, 0.3, 0.12]))
    0.015
    >>> grid_step(np.random.default_rng(0).random(10))
    0.0
    """
    unique = different(np.sort(np.asarray(values, dtype=float)))
    # Halves, so that a double can hold the range.
    if len(unique) < 2 or unique[-1] / 2 - unique[0] / 2 > np.finfo(float).max / 2:
        return 0.0
    rounding = 4 * precision * max(abs(unique[0]), abs(unique[-1]))
    return _decimal_step(unique, rounding) or _fraction_step(unique, rounding)


def _decimal_step(
    unique: np.ndarray, rounding: float, max_decimals: int = 8, off: float = 1e-6
) -> float:
    """Return the step as a decimal fraction.

    Beyond rounding, a value may miss the grid by a share ``off`` of itself and of a step.
    """
    largest = max(abs(unique[0]), abs(unique[-1]))
    first = max(0, -math.ceil(math.log10(largest)))
    for decimals in range(first, min(first + max_decimals, _LARGEST_POWER) + 1):
        scale = 10.0**decimals
        if off * min(largest * scale, 1.0) + rounding * scale > 0.1 or largest * scale > 2**53:
            break
        # Most columns without a grid are told from a few values.
        few, all_of_them = unique[:: len(unique) // _FEW + 1], unique
        if all(_are_whole(some * scale, off, rounding * scale) for some in (few, all_of_them)):
            divisor = np.gcd.reduce(np.diff((unique * scale).round().astype(np.int64)))
            return float(divisor / scale)
    return 0.0


def _are_whole(scaled: np.ndarray, off: float, rounding: float) -> bool:
    """Return whether numbers are whole.

    A number much smaller than 1 is not, unless it is a rounding error.
    """
    allowed = off * np.minimum(np.abs(scaled), 1.0) + rounding
    return bool((np.abs(scaled - scaled.round()) <= allowed).all())


def _fraction_step(unique: np.ndarray, rounding: float) -> float:
    step = float(np.diff(unique).min())
    if rounding > 1e-4 * step or (unique[-1] - unique[0]) / step > 1000 * len(unique):
        return 0.0
    n_steps = ((unique - unique[0]) / step).round()
    step = float((unique[-1] - unique[0]) / n_steps[-1])
    misses = np.abs(unique - unique[0] - n_steps * step).max()
    return step if misses <= 1e-4 * step and n_steps[-1] > len(unique) - 1.5 else 0.0


def grid_points(origin: float, step: float, n_steps: np.ndarray) -> np.ndarray:
    """Return the points n_steps from the origin, as decimals of few places if they are such."""
    points = origin + n_steps * step
    decimals = int(np.ceil(-np.log10(step))) + 6
    if abs(decimals) > _LARGEST_POWER:
        return points
    rounded = points.round(decimals)
    error = 8 * np.finfo(float).eps * (abs(origin) + np.abs(n_steps) * step)
    return np.where(np.abs(rounded - points) <= error, rounded, points)


def tally(values: np.ndarray, step: float) -> np.ndarray:
    """Return the number of rows at each point of the grid."""
    least = values.min()
    counts = np.zeros(int(np.rint((values.max() - least) / step)) + 1)
    for start in range(0, len(values), _CHUNK):
        place = np.rint((values[start : start + _CHUNK] - least) / step).astype(np.int64)
        counts += np.bincount(place, minlength=len(counts))
    return counts


def mean_beside(counts: np.ndarray, n_neighbours: int = 2) -> np.ndarray:
    """Return the mean count of the neighbours of each point of the grid, on either side."""
    window = np.ones(2 * n_neighbours + 1)
    window[n_neighbours] = 0.0
    inside = slice(n_neighbours, -n_neighbours)
    n_beside = np.convolve(np.ones(len(counts)), window)[inside]
    return np.convolve(counts, window)[inside] / n_beside.clip(1)


def exceed_neighbours(counts: np.ndarray, times: float = 2.0) -> np.ndarray:
    """Return which counts of ascending values are so many times those of both neighbours."""
    beside = np.zeros(len(counts))
    beside[1:] = counts[:-1]
    beside[:-1] = np.maximum(beside[:-1], counts[1:])
    return counts >= times * beside
