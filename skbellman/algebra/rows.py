"""Rows of frames and arrays: taken, stacked, and with a column replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.tables.containers import container_of
from skbellman.tables.kinds import Cells


def as_table(X: Any) -> Any:
    """Return a frame as it is, anything else as an array."""
    return X if nw.dependencies.is_into_dataframe(X) else np.asarray(X)


def holds_rows(given: Any) -> bool:
    """Say whether conditions are a table, and not one mapping or None."""
    return given is not None and (
        nw.dependencies.is_into_dataframe(given) or not hasattr(given, "keys")
    )


def take(X: Any, rows: np.ndarray) -> Any:
    """Return some rows of a table, with a fresh index.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman.algebra.rows import take
    >>> take(np.arange(6).reshape(3, 2), np.array([2, 0]))
    array([[4, 5],
           [0, 1]])
    """
    return container_of(X).taken(X, rows)


def stack(tables: Sequence[Any]) -> Any:
    """Return the rows of tables of the same columns in one table, with a fresh index."""
    return container_of(tables[0]).stacked(tables)


def position_of(X: Any, name: Any, names: Sequence[Any]) -> int | None:
    """Return where X has the column of a fitted table with these names; None if it lacks it.

    An array has the columns by position, and so has a frame beside a fitted array.
    """
    found = held_names(X, names)
    return found.index(name) if name in found else None


def held_names(X: Any, names: Sequence[Any]) -> list[Any]:
    """Return the names of the columns that X holds, those of a fitted table where X has none."""
    container = container_of(X)
    found = container.names_of(X)
    fitted_array = list(names) == list(range(len(names)))
    by_position = not container.has_names or (fitted_array and not set(found) <= set(names))
    return list(names) if by_position else found


def cells_of_column(X: Any, position: int, as_categories: bool = False) -> Cells:
    """Return the cells of a column of a table."""
    return container_of(X).cells(X, position, as_categories)


def numbers_of(X: Any, position: int | None) -> np.ndarray:
    """Return the numbers of a column, NaN where they, or the whole column, are missing."""
    if position is None:
        return np.full(len(X), np.nan)
    cells = cells_of_column(X, position)
    # A column without values has no kind of its own.
    return np.full(len(X), np.nan) if cells.missing.all() else cells.numbers()


def with_values(X: Any, name: Any, position: int | None, values: np.ndarray) -> Any:
    """Return a table with other values in a column, which is added where it has no position."""
    return container_of(X).with_values(X, name, position, values)
