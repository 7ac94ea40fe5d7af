"""Columns that are linear functions of others: a table with such a column has no density."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skbellman.tables.columns.base import Column, Values
from skbellman.tables.gaps import whole_rows


def dependent_columns(columns: Sequence[Column], values: list[Values]) -> list[int]:
    """Return the positions of the columns with a density that are linear functions of others."""
    numeric = [j for j, c in enumerate(columns) if c.holds_numbers]
    if not numeric:
        return []
    functions = [numeric[k] for k in collinear(np.column_stack(whole_rows(values, numeric)))]
    # Levels have probabilities, also if they are functions of other columns.
    return [j for j in functions if columns[j].only_levels is None]


def collinear(matrix: np.ndarray, unexplained: float = 1e-6) -> list[int]:
    """Return which columns are linear functions of the others, up to 0.1% of their deviation.

    Constants are not returned. If there are no more rows than other columns, every column would be
    a linear function. Then none is returned.

    Parameters
    ----------
    matrix : array of shape (n, d)
    unexplained : float, default=1e-6
        Share of the variance of a column that the others must leave unexplained.
    """
    varying = np.flatnonzero((matrix != matrix[:1]).any(0))
    if len(varying) < 2 or len(matrix) <= len(varying) + 1:
        return []
    # Squares of very large and very small values overflow and underflow.
    scaled = matrix[:, varying] / np.abs(matrix[:, varying]).max(0)
    offset = scaled - scaled.mean(0)
    correlation = np.corrcoef(offset / np.abs(offset).max(0), rowvar=False)
    inverse = np.linalg.inv(correlation + 1e-9 * np.eye(len(varying)))
    return varying[1 / np.diag(inverse) < unexplained].tolist()
