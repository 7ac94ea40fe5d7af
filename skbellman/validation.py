"""Checks of tables and counts, before any estimator uses them."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils.validation import validate_data

# Every integer up to this is exact as a float.
_WHOLE = 2**53


def validate_table(estimator: Any, X: Any, reset: bool) -> Any:
    """Return X as an array or a frame, its columns and size checked; NaN may be missing values.

    Sets n_features_in_ and feature_names_in_ of the estimator, or compares with them.
    """
    if nw.dependencies.is_polars_lazyframe(X):
        raise TypeError("X is a lazy frame, which holds no rows yet: pass X.collect().")
    # Some sparse matrices are dicts too.
    if nw.dependencies.is_into_series(X) or type(X) is dict:
        raise TypeError(
            f"X is a {type(X).__name__}, not a table: pass a frame, of a single row or column too."
        )
    least = 2 if reset else 1
    if not nw.dependencies.is_into_dataframe(X):
        with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn sums the numbers
            X = validate_data(
                estimator, _unmasked(X), dtype="numeric", reset=reset, ensure_min_samples=least,
                ensure_all_finite="allow-nan",
            )  # fmt: skip
        if X.dtype.kind not in "biuf":
            raise TypeError(f"X is an array of {X.dtype}, not of numbers: put it in a frame.")
        return X
    names = list(X.column_names if nw.dependencies.is_pyarrow_table(X) else X.columns)
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"X has more than one column named {repeated}: rename them.")
    if nameless := [j for j, name in enumerate(names) if name != name]:
        raise ValueError(f"The columns of X at {nameless} have no names, but NaN: rename them.")
    validate_data(estimator, X, skip_check_array=True, reset=reset)
    if len(X) < least or not names:
        raise ValueError(
            f"Found a table with {len(X)} sample(s) and {len(names)} feature(s) while a "
            f"minimum of {least} sample(s) and 1 feature(s) is required."
        )
    return X


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return a parameter that counts: an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse a value that is none of the choices."""
    if not any(value is choice or value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")


def check_numbers(name: str, values: Any, n_axes: int = 0) -> np.ndarray:
    """Return a parameter that is a number, or numbers along at most so many axes, as floats.

    NaN and missing values come back as NaN.
    """
    read = np.asarray(values)
    try:
        if read.dtype.kind not in "biufO":  # numpy would read strings, and drop imaginary parts
            raise TypeError
        numbers = read.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(_not_numbers(name, values, n_axes)) from error
    if numbers.ndim > n_axes:
        raise ValueError(_not_numbers(name, values, n_axes))
    return numbers


def _not_numbers(name: str, values: Any, n_axes: int) -> str:
    wanted = "a number or a list of numbers" if n_axes else "a number"
    return f"{name} must be {wanted}, got {values!r}."


def _unmasked(X: Any) -> Any:
    """Return an array without its mask: NaN where a number was masked."""
    if not isinstance(X, np.ma.MaskedArray):
        return X
    if X.mask is np.ma.nomask or not X.mask.any():
        return X.data
    shown = X.compressed()
    large = shown[(shown > _WHOLE) | (shown < -_WHOLE)] if X.dtype.kind in "iu" else shown[:0]
    if len(large):
        raise ValueError(
            f"X is a masked array of {X.dtype} that holds {large[0]}, which no float does: put it "
            "in a frame of a nullable dtype, such as Int64."
        )
    return np.where(X.mask, np.nan, X.data)
