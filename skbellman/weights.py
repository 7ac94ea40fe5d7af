"""Rows with weights: a weighted table is one in which rows are repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight


def repeats_of(sample_weight: Any, X: Any, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of the rows of a table, each as often as its weight says, (m,).

    Whole weights are numbers of repeats. Others are scaled to the mean 1, and a row is there as
    often as its weight, rounded down or up at random without bias (systematic resampling, Kitagawa,
    1996): the sum is the number of rows.

    Raises
    ------
    ValueError
        For weights that are negative, not finite or not one for each row, or that leave fewer than
        two rows.
    """
    weights = _check_sample_weight(
        sample_weight, np.empty((len(X), 0)), dtype=np.float64, ensure_non_negative=True
    )
    if np.count_nonzero(weights) < 2:
        raise ValueError("sample_weight is above 0 for fewer than two rows: nothing can be fitted.")
    if (weights == np.rint(weights)).all():
        counts = weights.astype(np.int64)
    else:
        ends = rng.random() + np.cumsum(weights * (len(weights) / weights.sum()))
        # Rounding may leave the last end just below a whole number.
        counts = np.diff(np.floor(ends + 1e-9), prepend=0.0)
    return np.repeat(np.arange(len(weights)), counts.astype(np.int64))
