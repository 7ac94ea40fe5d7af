"""Rows of a table that are whole copies of others: repeats of a bootstrap, rows with weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from skbellman.tables.containers import Container
from skbellman.tables.kinds import Cells

# What `_mixed` shifts by and multiplies with (Steele, Lea and Flood, 2014: splitmix64).
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
# The code of a missing cell, which no number in use has.
_MISSING = np.uint64(0x9E3779B97F4A7C15)


def are_first(
    container: Container,
    X: Any,
    origin: np.ndarray | None = None,
    left_out: Collection[int] = (),
    categories: Collection[int] = (),
) -> np.ndarray:
    """Return whether each row of X differs from all rows before it, (n,).

    Rows of one ``origin``, (n,), are copies. In a table of one column, copies are known by their
    origin only: a repeated value may be a repeated row. Identifiers are left out, as copies may
    have new ones. Categories may be values of any type.
    """
    hashes = np.zeros(len(X), dtype=np.uint64)
    compared = [j for j in range(len(container.names)) if j not in left_out]
    if len(compared) > 1:
        for j in compared:
            hashes = _mixed(hashes + _codes(container.cells(X, j, j in categories)))
    elif origin is None:
        return np.ones(len(X), dtype=bool)
    if origin is not None:
        hashes = _mixed(hashes + origin.astype(np.uint64))
    _, first = np.unique(hashes, return_index=True)
    is_first = np.zeros(len(X), dtype=bool)
    is_first[first] = True
    return is_first


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Replace each number by another, all of whose 64 bits depend on all of its bits."""
    for shift, factor in _ROUNDS:
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    return bits


def _codes(cells: Cells) -> np.ndarray:
    """Return a number of each cell, equal where cells are."""
    codes = _places(cells.values)
    codes[cells.missing] = _MISSING
    return codes


def _places(values: np.ndarray) -> np.ndarray:
    """Return a number of each value, equal where values are."""
    if values.dtype == object:
        place: dict[Any, int] = {}
        places = (place.setdefault(v, len(place)) for v in values.tolist())
        return np.fromiter(places, dtype=np.uint64, count=len(values))
    if values.dtype.kind == "f":
        return (values.astype(np.float64) + 0.0).view(np.uint64)  # -0 + 0 is 0
    return values.astype(np.uint64)
