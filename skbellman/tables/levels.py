"""Levels of a column: its distinct values, and the cells that they stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skbellman.tables.columns.base import Column, codes_of
from skbellman.tables.kinds import Kind

# Values that are looked up at once.
_CHUNK = 2**16


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
    levels = np.sort(column.drawn_exactly)
    first = _first_rows(numbers, levels)
    levels, first = levels[first >= 0], first[first >= 0]
    exact = ExactLevels(levels, cells[first])
    return None if (kind.drawn(exact.numbers) == exact.cells).all() else exact


def _first_rows(numbers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the first row of each level, -1 if no row has it."""
    first = np.full(len(levels), -1)
    for start in reversed(range(0, len(numbers), _CHUNK)):
        codes = codes_of(numbers[start : start + _CHUNK], levels)
        found, rows = np.unique(codes, return_index=True)
        first[found[found >= 0]] = start + rows[found >= 0]
    return first
