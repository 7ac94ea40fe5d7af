"""Gaussian mixtures fitted to single columns, all columns at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

# Least variance, as in mixtures of all columns.
_RIDGE = 1e-4
_LOG_2_PI = math.log(2 * math.pi)


class _Laws(NamedTuple):
    """Weights, means and variances of mixtures, (C, K) each."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray


class _Places(NamedTuple):
    """Values of columns in groups: share, mean and variance of each, (C, G), and n, (C,)."""

    shares: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    n_values: np.ndarray


def column_mixtures(
    rows: np.ndarray,
    max_components: int = 16,
    least_gain: float = 1e-4,
    n_groups: int = 2048,
    most_rows: int = 100_000,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, means and variances of a mixture of each column, (D, K) each.

    Each column gets the number of components (1, 2, 4, ...) with the least BIC. All are tried,
    because four Gaussians may help where two do not (fnlwgt of Adult, see
    doc/decisions/column-laws.md). Values are sorted into groups, so that the time of a step does
    not depend on the number of rows.

    Parameters
    ----------
    rows : array of shape (n, D)
        Rows at about unit scale, NaN where a value is missing; the first 100,000 are used. A column
        without values becomes a standard Gaussian.
    max_components : int, default=16
    least_gain : float, default=1e-4
        Least gain in log-density, in nats for each value, with which expectation maximisation
        continues.
    n_groups : int, default=2048
    most_rows : int, default=100,000
    """
    parts = np.zeros((3, rows.shape[1], max_components))
    parts[0, :, 0] = parts[2] = 1.0
    there = np.flatnonzero(~np.isnan(rows).all(0))
    if not len(there):
        return parts[0], parts[1], parts[2]
    places = _grouped(rows[:most_rows, there], n_groups)
    best = np.full(len(there), np.inf)
    n_components = 1
    while n_components <= max_components:
        laws, gain = _likeliest(places, n_components, least_gain)
        enough = places.n_values >= 4 * n_components if n_components > 1 else True
        bic = (3 * n_components - 1) * np.log(places.n_values) - 2 * places.n_values * gain
        better = (bic < best) & enough
        best[better] = bic[better]
        for part, found in zip(parts, laws, strict=True):
            part[there[better], :n_components] = found[better]
        n_components *= 2
    return parts[0], parts[1], parts[2]


def _grouped(rows: np.ndarray, n_groups: int) -> _Places:
    """Return the values of each column in ordered groups of equal size."""
    found = np.zeros((3, rows.shape[1], min(n_groups, len(rows))))
    n_values = (~np.isnan(rows)).sum(0)
    for c, column in enumerate(rows.T):
        values = np.sort(column)[: n_values[c]]
        starts = np.unique(np.arange(found.shape[2]) * len(values) // found.shape[2])
        sizes = np.diff(starts, append=len(values))
        means = np.add.reduceat(values, starts) / sizes
        squares = np.add.reduceat((values - np.repeat(means, sizes)) ** 2, starts)
        found[:, c, : len(starts)] = sizes / len(values), means, squares / sizes
    return _Places(found[0], found[1], found[2], n_values)


def _likeliest(places: _Places, n_components: int, least_gain: float) -> tuple[_Laws, np.ndarray]:
    """Return the better mixture of two starts for each column, and its mean log-density, (C,).

    Spread centres find the modes of smooth densities. Distant centres find rare values.
    """
    first, gain = _maximised(places, _clustered(places, _spread(places, n_components)), least_gain)
    if n_components == 1:
        return first, gain
    centres = _far_apart(places, n_components)
    second, other = _maximised(places, _clustered(places, centres), least_gain)
    better = (other > gain)[:, None]
    pairs = zip(second, first, strict=True)
    return _Laws(*(np.where(better, new, old) for new, old in pairs)), np.maximum(gain, other)


def _spread(places: _Places, n_components: int, of_range: float = 0.3) -> np.ndarray:
    """Return centres, (C, K), at even steps of a mixture of the distribution and the range."""
    there, x = places.shares > 0, places.means
    low = np.where(there, x, np.inf).min(1, keepdims=True)
    high = np.where(there, x, -np.inf).max(1, keepdims=True)
    below = places.shares.cumsum(1) - places.shares / 2
    along = (1 - of_range) * below + of_range * (x - low) / (high - low + 1e-12)
    steps = (np.arange(n_components) + 0.5) / n_components
    along = np.where(there, along, np.inf)
    found = np.stack([(along < step).sum(1) for step in steps], 1)
    return np.take_along_axis(x, np.minimum(found, there.sum(1, keepdims=True) - 1), 1)


def _far_apart(places: _Places, n_components: int) -> np.ndarray:
    """Return centres, (C, K): the mean, then repeatedly the group with the largest error."""
    x, columns = places.means, np.arange(len(places.means))
    centres = (places.shares * x).sum(1, keepdims=True)
    nearest = np.full(x.shape, np.inf)
    for _ in range(n_components - 1):
        nearest = np.minimum(nearest, (x - centres[:, -1:]) ** 2)
        farthest = (places.shares * nearest).argmax(1)
        centres = np.concatenate([centres, x[columns, farthest, None]], 1)
    return centres


def _clustered(places: _Places, centres: np.ndarray, n_steps: int = 30) -> _Laws:
    """Return the Gaussians of the groups nearest to each centre, after k-means."""
    numbers = np.arange(centres.shape[1])[:, None]
    for _ in range(n_steps):
        belongs = np.abs(places.means[:, None] - centres[..., None]).argmin(1)
        laws = _moments(places, (belongs[:, None] == numbers) * places.shares[:, None])
        moved = np.where(laws.weights > 0, laws.means, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return laws


def _moments(places: _Places, shares: np.ndarray) -> _Laws:
    """Return the mixtures whose components have these shares of the groups, (C, K, G)."""
    weights = shares.sum(-1)
    some = np.maximum(weights, 1e-12)
    means = (shares @ places.means[..., None])[..., 0] / some
    squares = (shares @ (places.means**2 + places.variances)[..., None])[..., 0] / some
    return _Laws(weights, means, np.maximum(squares - means**2, 0.0) + _RIDGE)


def _maximised(
    places: _Places, laws: _Laws, least_gain: float, max_steps: int = 100
) -> tuple[_Laws, np.ndarray]:
    """Return mixtures of greater likelihood, and their mean log-density, (C,)."""
    reached = np.full(len(places.shares), -np.inf)
    going = np.arange(len(reached))
    found = _Laws(*(part.copy() for part in laws))
    for _ in range(max_steps):
        some = _Places(*(part[going] for part in places))
        law = _Laws(*(part[going] for part in found))
        shares, density = _expected(some, law)
        gained, reached[going] = density - reached[going], density
        on = gained >= least_gain
        going = going[on]
        if not len(going):
            break
        moved = _moments(_Places(*(part[on] for part in some)), shares[on])
        for part, new in zip(found, moved, strict=True):
            part[going] = new
    return found, reached


def _expected(places: _Places, laws: _Laws) -> tuple[np.ndarray, np.ndarray]:
    """Return the components' shares of the groups, (C, K, G), and the mean log-density, (C,)."""
    precision = 1 / laws.variances
    constant = np.log(np.maximum(laws.weights, 1e-300)) - 0.5 * (_LOG_2_PI - np.log(precision))
    logs = places.means[:, None] - laws.means[..., None]
    logs *= logs
    logs += places.variances[:, None]
    logs *= -0.5 * precision[..., None]
    logs += constant[..., None]
    top = logs.max(1)
    logs -= top[:, None]
    np.exp(logs, out=logs)
    total = logs.sum(1)
    logs *= (places.shares / total)[:, None]
    return logs, ((np.log(total) + top) * places.shares).sum(-1)
