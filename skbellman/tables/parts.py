"""Parts of a table: some rows at a time, so that memory does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from skbellman.tables.containers import container_of


def parts_of(X: Any, size: int) -> Iterator[tuple[slice, Any]]:
    """Iterate over parts of a frame or array: at most ``size`` rows, and their table.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman.tables.parts import parts_of
    >>> [(rows.start, len(part)) for rows, part in parts_of(np.zeros((5, 2)), 2)]
    [(0, 2), (2, 2), (4, 1)]
    """
    for start in range(0, len(X), size):
        rows = slice(start, start + size)
        yield rows, X if len(X) <= size else rows_of(X, rows)


def rows_of(X: Any, rows: slice | np.ndarray) -> Any:
    """Return some rows of a frame or array, by a slice or by their numbers."""
    return container_of(X).rows(X, rows)


def distinct_rows(X: Any, origin: np.ndarray | None) -> Any:
    """Return a table without copies of rows: those of one origin are copies of one row."""
    return X if origin is None else rows_of(X, np.unique(origin, return_index=True)[1])
