"""Gaps: sets of columns that are missing together, and rows without missing values."""

from __future__ import annotations

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
        patterns, counts = np.unique(np.column_stack(missing), axis=0, return_counts=True)
        return cls(patterns, counts / counts.sum())

    def draw(self, n_rows: int, given: list[Cells] | None, rng: np.random.Generator) -> np.ndarray:
        """Return gaps, (n_rows, n_features), as frequent as they were, except where given."""
        gaps = self.patterns[rng.choice(len(self.patterns), size=n_rows, p=self.shares)]
        return gaps if given is None else gaps & np.column_stack([c.missing for c in given])


def evenly(values: np.ndarray, most: int = 100_000) -> np.ndarray:
    """Return a copy of a column's values in at most about ``most`` rows, evenly chosen."""
    return values[:: -(-len(values) // most)].copy()


def whole_rows(values: list[np.ndarray], columns: list[int]) -> list[np.ndarray]:
    """Return these columns, of numbers, in the rows in which none of them is missing."""
    if not columns:
        return []
    matrix = np.column_stack([values[j] for j in columns])
    return list(matrix[~np.isnan(matrix).any(1)].T)
