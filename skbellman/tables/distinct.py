"""Rows of a table that are whole copies of others: repeats of a bootstrap, rows with weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from skbellman.tables.containers import Container
from skbellman.tables.kinds import Cells

# An odd multiplier of 64 bits, the golden ratio's: sums of products with it are hashes of rows.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def are_first(container: Container, X: Any) -> np.ndarray:
    """Return which rows of X are no copy of a row before them, (n,).

    A table of one column has no copies: there a value that repeats cannot be told from a row that
    does.
    """
    if len(container.names) == 1:
        return np.ones(len(X), dtype=bool)
    hashes = np.zeros(len(X), dtype=np.uint64)
    for j in range(len(container.names)):
        hashes = hashes * _MULTIPLIER + _codes(container.cells(X, j, False))
    _, first = np.unique(hashes, return_index=True)
    is_first = np.zeros(len(X), dtype=bool)
    is_first[first] = True
    return is_first


def _codes(cells: Cells) -> np.ndarray:
    """Return a number of each cell, equal where cells are; 0 where one is missing."""
    present = np.flatnonzero(~cells.missing)
    codes = np.zeros(len(cells.missing), dtype=np.uint64)
    codes[present] = 1 + _places(cells.values[present])
    return codes


def _places(values: np.ndarray) -> np.ndarray:
    """Return the place of each value among the different ones."""
    if values.dtype != object:
        return np.unique(values, return_inverse=True)[1].astype(np.uint64)
    place: dict[Any, int] = {}
    found = (place.setdefault(value, len(place)) for value in values.tolist())
    return np.fromiter(found, dtype=np.uint64, count=len(values))
