"""Quantiles of a column, which stand for its values where these are many."""

from __future__ import annotations

import numpy as np

# So many quantiles have the shape of a column, to a thousandth of its deviation and less.
_MOST = 2**17


def quantiles(ascending: np.ndarray) -> np.ndarray:
    """Return evenly spaced quantiles of ascending values, all of them if they are few."""
    return ascending[_ranks(len(ascending))]


def even_places(ascending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return quantiles, and a place from 0 to 1 for each, evenly spread among equal values.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman.tables.quantiles import even_places
    >>> even_places(np.array([1.0, 1.0, 2.0]))[1]
    array([0.25, 0.75, 0.5 ])
    """
    rank = _ranks(len(ascending))
    found = ascending[rank]
    first = np.searchsorted(ascending, found)
    n_equal = np.searchsorted(ascending, found, "right") - first
    return found, (rank - first + 0.5) / n_equal


def different(ascending: np.ndarray) -> np.ndarray:
    """Return the different ones of ascending values."""
    return ascending[are_new(ascending)]


def are_new(ascending: np.ndarray) -> np.ndarray:
    """Return which of ascending values differ from the one before, (n,)."""
    is_new = np.ones(len(ascending), dtype=bool)
    is_new[1:] = ascending[1:] != ascending[:-1]
    return is_new


def _ranks(n_values: int) -> np.ndarray:
    """Return evenly spaced ranks of ascending values, (m,), both ends among them."""
    return np.rint(np.linspace(0, n_values - 1, min(n_values, _MOST))).astype(np.int64)
