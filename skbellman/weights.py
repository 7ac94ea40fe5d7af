"""Row weights: a weighted table is a table with repeated rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight


def repeats_of(sample_weight: Any, X: Any, rng: np.random.Generator) -> np.ndarray:
    """Return row numbers of a table, each repeated by its weight, (m,).

    Whole weights are numbers of repeats. Others are scaled to the mean 1 and rounded down or up at
    random without bias (systematic resampling, Kitagawa, 1996). Their sum is the number of rows.

    Raises
    ------
    ValueError
        If weights are negative, not finite or not one for each row, or leave fewer than two rows.
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
        # Rounding may leave the last end just below an integer.
        counts = np.diff(np.floor(ends + 1e-9), prepend=0.0)
    return np.repeat(np.arange(len(weights)), counts.astype(np.int64))
