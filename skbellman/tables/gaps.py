"""Gaps: which columns are missing together, and the rows without any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skbellman.tables.kinds import Cells, is_missing


@dataclass(frozen=True)
class Gaps:
    """How often which columns of a table are missing together, whatever the values are.

    Parameters
    ----------
    patterns : array of bool, shape (n_patterns, n_features)
        The sets of columns that were missing together in a row.
    shares : array of float, shape (n_patterns,)
        The share of the rows that each of them had.
    """

    patterns: np.ndarray
    shares: np.ndarray

    @classmethod
    def among(cls, values: list[np.ndarray]) -> Gaps:
        """Return the gaps of columns."""
        missing = np.column_stack([is_missing(v) for v in values])
        patterns, counts = np.unique(missing, axis=0, return_counts=True)
        return cls(patterns, counts / len(missing))

    def draw(self, n_rows: int, given: list[Cells] | None, rng: np.random.Generator) -> np.ndarray:
        """Return gaps, (n_rows, n_features), as often as they were, but where given."""
        gaps = self.patterns[rng.choice(len(self.patterns), size=n_rows, p=self.shares)]
        return gaps if given is None else gaps & np.column_stack([c.missing for c in given])


def whole_rows(
    values: list[np.ndarray], columns: list[int], most: int = 100_000
) -> list[np.ndarray]:
    """Return these columns, of numbers, in the rows in which none of them is missing.

    Of more rows, about ``most`` are looked at, evenly.
    """
    if not columns:
        return []
    every = -(-len(values[columns[0]]) // most)
    matrix = np.column_stack([values[j][::every] for j in columns])
    return list(matrix[~np.isnan(matrix).any(1)].T)
