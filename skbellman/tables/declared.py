"""Columns that the user declares as categories."""

from __future__ import annotations

from typing import Any

import numpy as np


def declared_columns(
    chosen: Any, names: list[Any], parameter: str = "categorical_features"
) -> np.ndarray | list[None]:
    """Return for each column if a parameter declares it; None if dtypes or values decide.

    Parameters
    ----------
    chosen : "from_dtype", "auto", None, or sequence of names, positions or booleans
    names : list
        Names of the columns.
    parameter : str
        Its name, for messages.
    """
    if isinstance(chosen, str) and chosen in ("from_dtype", "auto"):
        return [None] * len(names)
    features = [] if chosen is None else list(chosen)
    if features and all(type(feature) in (bool, np.bool_) for feature in features):
        if len(features) != len(names):
            raise ValueError(
                f"{parameter} is a mask of {len(features)} columns, but X has {len(names)}: give "
                "one bool for each column, or names."
            )
        return np.array(features)
    mask = np.zeros(len(names), dtype=bool)
    for feature in features:
        if feature in names:
            mask[names.index(feature)] = True
        elif isinstance(feature, int | np.integer) and -len(names) <= feature < len(names):
            mask[feature] = True
        else:
            raise ValueError(f"{parameter} names {feature!r}, which is no column of X.")
    return mask
