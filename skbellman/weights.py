"""Row weights: a weighted table is a table with repeated rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight


def repeats_of(
    sample_weight: Any, X: Any, rng: np.random.Generator, most_repeats: float = 100
) -> np.ndarray:
    """Return row numbers of a table, each repeated by its weight, (m,).

    Whole weights are numbers of repeats. Others are scaled to the mean 1 and rounded down or up at
    random without bias (systematic resampling, Kitagawa, 1996). Their sum is the number of rows.
    Rows of equal weight have their share of it, but for one row.

    Raises
    ------
    ValueError
        If weights are negative, not finite or not one for each row, or leave fewer than two rows.
        If whole weights are more than 100 repeats of each row: they are relative then.
    """
    weights = _check_sample_weight(
        sample_weight, np.empty((len(X), 0)), dtype=np.float64, ensure_non_negative=True
    )
    if np.count_nonzero(weights) < 2:
        raise ValueError("sample_weight is above 0 for fewer than two rows: nothing can be fitted.")
    if (weights == np.rint(weights)).all():
        if weights.sum() > max(most_repeats * len(weights), 2**22):
            raise ValueError(
                "sample_weight holds whole numbers, which are numbers of repeats, "
                f"{weights.sum():g} in all. If they are relative, divide them by their mean."
            )
        counts = weights.astype(np.int64)
    else:
        # In order of the weights, rows of one weight have together as many repeats as they are to
        # have. In order of the table, rows of two kinds in turn would all be rounded alike.
        # In units of about the largest: sums of very large or small weights are no numbers.
        weights = np.ldexp(weights, -np.frexp(weights.max())[1])
        order = rng.permutation(len(weights))
        order = order[np.argsort(weights[order], kind="stable")]
        ends = rng.random() + np.cumsum(weights[order] * (len(weights) / weights.sum()))
        counts = np.empty(len(weights))
        # Rounding may leave the last end just below an integer.
        counts[order] = np.diff(np.floor(ends + 1e-9), prepend=0.0)
    if np.count_nonzero(counts) < 2:
        raise ValueError(
            "sample_weight is so large for one row that no other is left: nothing can be fitted."
        )
    return np.repeat(np.arange(len(weights)), counts.astype(np.int64))
