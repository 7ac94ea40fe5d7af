"""Rows of a table that are whole copies of others: repeats of a bootstrap, rows with weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from skbellman.tables.containers import Container
from skbellman.tables.kinds import Cells

# An odd multiplier of 64 bits, the golden ratio's: sums of products with it are hashes of rows.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def are_first(
    container: Container,
    X: Any,
    origin: np.ndarray | None = None,
    left_out: Collection[int] = (),
) -> np.ndarray:
    """Return whether each row of X differs from all rows before it, (n,).

    Rows of one ``origin``, (n,), are copies. In a table of one column, copies are known by their
    origin only: a repeated value may be a repeated row. Identifiers are left out, as copies may
    have new ones.
    """
    hashes = np.zeros(len(X), dtype=np.uint64)
    compared = [j for j in range(len(container.names)) if j not in left_out]
    if len(compared) > 1:
        for j in compared:
            hashes = hashes * _MULTIPLIER + _codes(container.cells(X, j, False))
    elif origin is None:
        return np.ones(len(X), dtype=bool)
    if origin is not None:
        hashes = hashes * _MULTIPLIER + origin.astype(np.uint64)
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
    return np.array([place.setdefault(v, len(place)) for v in values.tolist()], dtype=np.uint64)
