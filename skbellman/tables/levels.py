"""Levels of a column: its distinct values, and the cells that they stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skbellman.tables.columns.base import Column
from skbellman.tables.kinds import Kind


def levels_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, sorted, and the first row of each."""
    if values.dtype != object:
        _, rows = np.unique(values, return_index=True)
        return values[rows], rows
    n_rows = len(values)
    first = dict(zip(values[::-1].tolist(), reversed(range(n_rows)), strict=True))
    try:
        ordered = sorted(first)
    except TypeError:  # numbers beside text, or members of an Enum
        ordered = sorted(first, key=lambda level: (type(level).__name__, str(level)))
    rows = np.array([first[level] for level in ordered])
    return values[rows], rows


class ExactLevels(NamedTuple):
    """Levels of a column of numbers, ascending, and the cells that a double cannot distinguish."""

    numbers: np.ndarray
    cells: np.ndarray

    def exact(self, numbers: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return the cells, exact as in the fitted table where numbers are those of levels."""
        place = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        return np.where(self.numbers[place] == numbers, self.cells[place], cells)


def exact_levels(
    column: Column, kind: Kind, numbers: np.ndarray, cells: np.ndarray
) -> ExactLevels | None:
    """Return the levels of a column if some cell is not exact as a double, else None."""
    if column.drawn_exactly is None:
        return None
    found, first = np.unique(numbers, return_index=True)
    first = first[np.isin(found, column.drawn_exactly)]
    exact = ExactLevels(numbers[first], cells[first])
    return None if (kind.drawn(exact.numbers) == exact.cells).all() else exact
