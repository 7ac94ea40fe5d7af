"""Gaps: sets of columns that are missing together, and rows without missing values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skbellman.tables.kinds import Cells


@dataclass(frozen=True)
class Gaps:
    """Frequencies of the sets of columns that are missing together, whatever the values are.

    Parameters
    ----------
    patterns : array of bool, shape (n_patterns, n_features)
        The sets of columns that were missing together in a row.
    shares : array of float, shape (n_patterns,)
        Share of the rows with each set.
    """

    patterns: np.ndarray
    shares: np.ndarray

    @classmethod
    def among(cls, missing: list[np.ndarray]) -> Gaps:
        """Return the gaps of columns, given which values of each are missing, (n,)."""
        # Eight columns are one byte, and eight bytes one number: rows are sorted by few numbers.
        packed = np.packbits(np.stack(missing, axis=1), axis=1)
        packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(">u8")
        found = packed[:, 0] if packed.shape[1] == 1 else packed
        codes, counts = np.unique(found, axis=0, return_counts=True)
        packed = np.ascontiguousarray(codes.reshape(len(counts), -1)).view(np.uint8)
        patterns = np.unpackbits(packed, axis=1, count=len(missing)).astype(bool)
        return cls(patterns, counts / counts.sum())

    @classmethod
    def joined(cls, parts: Sequence[Gaps], n_rows: Sequence[float]) -> Gaps:
        """Return the gaps of tables with so many rows each, one below the other."""
        patterns, place = np.unique(
            np.concatenate([part.patterns for part in parts]), axis=0, return_inverse=True
        )
        counts = [n * part.shares for part, n in zip(parts, n_rows, strict=True)]
        shares = np.bincount(place.ravel(), np.concatenate(counts))
        return cls(patterns, shares / shares.sum())

    def are_those_of(self, other: Gaps) -> bool:
        """Return whether the sets of columns and their shares are equal."""
        return np.array_equal(self.patterns, other.patterns) and np.array_equal(
            self.shares, other.shares
        )

    def draw(self, n_rows: int, given: list[Cells] | None, rng: np.random.Generator) -> np.ndarray:
        """Return gaps, (n_rows, n_features), as frequent as they were in rows with what is given.

        If no row had all of that, they are as frequent as in all rows, except where given.
        """
        if given is None:
            return self._drawn(self.shares, n_rows, rng)
        free = np.column_stack([c.missing for c in given])
        gaps = np.empty_like(free)
        kinds, kind_of = np.unique(free, axis=0, return_inverse=True)
        for k, is_free in enumerate(kinds):
            rows = np.flatnonzero(kind_of.ravel() == k)
            shares = np.where((self.patterns & ~is_free).any(1), 0.0, self.shares)
            gaps[rows] = self._drawn(shares if shares.any() else self.shares, len(rows), rng)
        return gaps & free

    def _drawn(self, shares: np.ndarray, n_rows: int, rng: np.random.Generator) -> np.ndarray:
        return self.patterns[rng.choice(len(shares), size=n_rows, p=shares / shares.sum())]


def some_rows(n_rows: int, most: int = 100_000) -> np.ndarray:
    """Return at most so many row numbers, ascending: one at random in each of equal stretches.

    Every k-th row would be rows of one kind where kinds take turns.
    """
    if n_rows <= most:
        return np.arange(n_rows)
    ends = np.linspace(0, n_rows, most + 1).astype(np.int64)
    return np.random.default_rng(0).integers(ends[:-1], ends[1:])


def whole_rows(values: list[np.ndarray], columns: list[int]) -> list[np.ndarray]:
    """Return these columns, of numbers, in the rows in which none of them is missing."""
    if not columns:
        return []
    matrix = np.column_stack([values[j] for j in columns])
    return list(matrix[~np.isnan(matrix).any(1)].T)
