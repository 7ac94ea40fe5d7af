"""Columns of states and actions: their names, their order, and values as they were given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.notices import warn

# Names of the columns of a part of a table, None if it has no names.
Names = tuple[Any, ...] | None


def named_columns(X: Any) -> dict[Any, Any] | None:
    """Return the columns of a frame or a mapping by name, None if X is neither."""
    if isinstance(X, Mapping):
        return {name: column for name, column in X.items() if column is not None}
    if not nw.dependencies.is_into_dataframe(X):
        return None
    try:
        frame = nw.from_native(X, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(f"Two columns have the same name. Rename one: {error}") from error
    return dict(zip(frame.columns, frame.iter_columns(), strict=True))


def columns_of(part: str, available: Iterable[Any]) -> list[Any]:
    """Return the columns of a part: its own, or those that begin with its name and _."""
    names = list(available)
    if part in names:
        return [part]
    return [name for name in names if isinstance(name, str) and name.startswith(f"{part}_")]


def ends_of(names: Iterable[Any], part: str) -> list[Any]:
    """Return the names of columns without that of their part."""
    return ["" if name == part else str(name).removeprefix(f"{part}_") for name in names]


def order_of(found: Names, known: Names, part: str) -> list[int] | None:
    """Return the places of columns in the order of others, None if they are matched by position.

    Parameters
    ----------
    found, known : tuple or None
        Names of the columns at hand, and of those in fit. None for an array.
    part : str

    Raises
    ------
    ValueError
        If the columns are not the same.
    """
    if found is None or known is None:
        return None
    unseen = [name for name in found if name not in known]
    absent = [name for name in known if name not in found]
    if unseen or absent:
        raise ValueError(
            f"The columns of {part} are matched by name with those of fit, {list(known)}. Missing: "
            f"{absent}; unseen in fit: {unseen}. Rename them, or pass an array in that order."
        )
    return [found.index(name) for name in known]


def warn_of_names(found: Names, known: Names, part: str) -> None:
    """Warn of columns that are matched by position because only one side has names."""
    if found is None and known is not None and len(known) > 1:
        warn(
            f"{part} does not have valid feature names, but the estimator was fitted with feature "
            f"names: columns are taken in the order {list(known)}."
        )
    if known is None and found is not None and len(found) > 1:
        warn(
            f"{part} has feature names, but the estimator was fitted without feature names: "
            "columns are taken in their order."
        )


def in_order(values: np.ndarray, found: Names, known: Names, part: str) -> np.ndarray:
    """Return values with their columns in the order of fit."""
    if values.size != len(values):
        warn_of_names(found, known, part)
    order = order_of(found, known, part)
    return values if order is None or values.ndim == 1 else values[:, order]


def asked(question: Any, part: str, known: Names) -> np.ndarray:
    """Return the states or actions of a question, (n,) or (n, d), in the order of fit.

    A frame may hold other columns beside those of the part.
    """
    columns = named_columns(question)
    if columns is None:
        values = read_values(question, f"{part}s")
        if not values.ndim:
            raise ValueError(
                f"{part}s must be a sequence of them, got {question!r}: write [{part}]."
            )
        return in_order(values, None, known, part)
    found = columns_of(part, columns)
    if known is not None and all(name in columns for name in known):
        found = [*known, *(name for name in found if name not in known)]
    found = found or list(columns)
    values = side_by_side(columns, found, part)
    return in_order(values, tuple(found), known, part)


def is_frame(candidate: Any) -> bool:
    """Return whether something is a frame."""
    return bool(nw.dependencies.is_into_dataframe(candidate))


def is_row(candidate: Any) -> bool:
    """Return whether something is a row with names: a mapping, a pandas Series."""
    keys = list(candidate.keys()) if hasattr(candidate, "keys") else []
    return not is_frame(candidate) and bool(keys) and all(isinstance(key, str) for key in keys)


def named_cells(row: Any) -> Any:
    """Return a row with names as columns of one row, None if it has no names.

    A frame is returned as it is.
    """
    if is_frame(row):
        return row
    return {key: _objects([row[key]]) for key in list(row.keys())} if is_row(row) else None


def side_by_side(columns: Mapping[Any, Any], names: list[Any], part: str) -> np.ndarray:
    """Return one column unchanged, (n,), or several columns of numbers, (n, d)."""
    if len(names) == 1:
        return read_values(columns[names[0]], names[0])
    return np.column_stack([_numbers(read_values(columns[n], n), n, part) for n in names])


def read_values(column: Any, name: Any) -> np.ndarray:
    """Return a column as an array of what was given: numbers, booleans, or objects.

    Missing values are NaN in an array of floats, and None in an array of objects.

    Raises
    ------
    ValueError
        If it holds dates, complex numbers, or lists of different lengths.
    """
    if nw.dependencies.is_into_series(column):
        array = _of_series(nw.from_native(column, series_only=True, pass_through=False))
    elif isinstance(column, np.ma.MaskedArray):
        array = np.array(column.data, dtype=object)
        array[np.ma.getmaskarray(column)] = None
    elif isinstance(column, np.ndarray):
        array = column
    else:
        array = _of_sequence(column, name)
    if array.dtype.kind not in "biufOUS":
        raise ValueError(
            f"{name} has dtype {array.dtype}: write labels as whole numbers or strings, and other "
            "values as real numbers."
        )
    if array.dtype.kind in "OUS":
        array = array.astype(object)
        missing = is_gap(array)
        seen = plain(array[~missing])
        if not missing.any():
            return seen.reshape(array.shape)
        array[missing] = None
        array[~missing] = seen
        return array.astype(float) if seen.dtype.kind == "f" else array
    return array


def plain(values: np.ndarray) -> np.ndarray:
    """Return objects, none missing, as booleans or numbers if all are, else unchanged."""
    if values.dtype != object or not values.size:
        return values
    kinds = set(map(type, values.ravel().tolist()))
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return values.astype(bool)
    if any(issubclass(kind, bool | np.bool_) for kind in kinds):
        return values
    if all(issubclass(kind, Integral) for kind in kinds):
        return _whole_numbers(values)
    numbers = all(issubclass(kind, Real | Decimal) for kind in kinds)
    return values.astype(np.float64) if numbers else values


def is_gap(values: np.ndarray) -> np.ndarray:
    """Return where an array holds None, NaN, NaT or pandas' NA, in its shape."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    if values.dtype != object:
        return np.zeros(values.shape, dtype=bool)
    flat = [not _equals_itself(value) for value in values.ravel().tolist()]
    return np.array(flat, dtype=bool).reshape(values.shape)


def rows_with_gaps(values: np.ndarray) -> np.ndarray:
    """Return which rows have a missing value, (n,)."""
    return np.any(is_gap(values).reshape(len(values), -1), axis=1)


def are_whole(values: np.ndarray) -> bool:
    """Return whether floats are whole numbers that floats hold exactly."""
    exact = 2.0**53  # up to here every whole number is a float of its own
    return bool(np.all(np.abs(values) < exact) and np.all(values == np.rint(values)))


def _of_series(series: Any) -> np.ndarray:
    # Whole numbers with gaps would become floats, which are exact up to 2^53 only. Strings would
    # become arrays of a fixed width, which lose a zero at the end.
    exact = series.dtype.is_temporal() or series.dtype.is_numeric() or series.dtype == nw.Boolean
    if series.dtype.is_float() or (exact and not series.is_null().any()):
        return series.to_numpy()
    return _objects(series.to_list())


def _of_sequence(values: Any, name: Any) -> np.ndarray:
    """Return a list as an array, of objects if numpy would convert its elements."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array: {error}.") from error
    if array.ndim == 1 and array.dtype.kind in "fUS" and not hasattr(values, "dtype"):
        return _objects(list(values))
    return array


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    for dtype in (np.int64, np.uint64):
        bounds = np.iinfo(dtype)
        if bounds.min <= values.min() and values.max() <= bounds.max:
            return values.astype(dtype)
    return values


def _numbers(values: np.ndarray, name: Any, part: str) -> np.ndarray:
    """Return one of several columns, which must be numbers; gaps are NaN."""
    missing = is_gap(values)
    seen = plain(values[~missing])
    if values.ndim != 1 or (len(seen) and seen.dtype.kind not in "biuf"):
        example = repr(seen.tolist()[0]) if len(seen) else f"shape {values.shape}"
        raise ValueError(
            f"Several columns of {part} must all be numbers, but {name} holds {example}. Encode it "
            "as numbers, or keep one column of labels."
        )
    if not missing.any():
        return seen
    numbers = np.full(len(values), np.nan)
    numbers[~missing] = seen
    return numbers


def _equals_itself(value: Any) -> bool:
    same = value is not None and value == value
    return isinstance(same, bool | np.bool_) and bool(same)
