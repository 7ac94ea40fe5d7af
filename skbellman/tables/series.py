"""From series of pandas, polars and other narwhals libraries to cells, and back."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.tables.dates import Dates
from skbellman.tables.kinds import (
    Categories,
    Cells,
    Decimals,
    Kind,
    WholeNumbers,
    as_objects,
    is_gap,
    kind_of_dtype,
)
from skbellman.tables.objects import kind_of_objects

_CATEGORY_DTYPES = (nw.Categorical, nw.Enum, nw.String, nw.Boolean)
# Levels that are read at once.
_CHUNK = 2**16
# Remedies for refused dtypes, by the beginning of their names.
_REMEDIES = {
    "duration": "a duration to a number, e.g. of hours",
    "period": "a period to a time, with .dt.to_timestamp()",
    "interval": "an interval to its middle, with .array.mid, or to its two ends",
    "sparse": "a sparse column to a dense one, with .sparse.to_dense()",
    "complex": "a complex number to two columns, its real and its imaginary part",
    "time": "a time of day to a number, e.g. of hours",
    "date64": "it to date32, or to a timestamp",
}


def cells_of(series: nw.Series[Any], as_categories: bool = False) -> Cells:
    """Return the cells of a series; as categories of any dtype if asked."""
    missing = series.is_null().to_numpy().astype(bool)
    dtype = series.dtype
    if dtype in _CATEGORY_DTYPES:
        levels = _levels_of(series)
        levels[missing] = None
        return Cells(Categories(dtype == nw.String and not as_categories), levels, missing)
    if as_categories or dtype == nw.Object or missing.all():
        values = [None if is_gap(value) else value for value in series.to_list()]
        missing = np.fromiter((v is None for v in values), dtype=bool, count=len(values))
        cells = as_objects(values)
        kind = Categories() if as_categories else kind_of_objects(series.name, cells[~missing])
        return Cells(kind, cells, missing)
    kind = _kind_of(series)
    return Cells(kind, *kind.of_series(series, missing))


def _levels_of(series: nw.Series[Any]) -> np.ndarray:
    """Return the levels of a series, each of them one object: libraries make one for each row."""
    levels, known = np.empty(len(series), dtype=object), dict[Any, Any]()
    for start in range(0, len(series), _CHUNK):
        part = series[start : start + _CHUNK].to_list()
        levels[start : start + _CHUNK] = as_objects(list(map(known.setdefault, part, part)))
    return levels


def series_like(template: nw.Series[Any], kind: Kind, cells: np.ndarray) -> Any:
    """Return a native series of the template's name and dtype with these cells."""
    library, dtype = template.implementation, template.dtype
    if library.is_pandas_like():
        # Without a dtype, pandas would infer one from the objects.
        native = library.to_native_namespace().Series(
            cells, name=template.name, dtype=object if cells.dtype == object else None
        )
        if kind.zone is not None:
            native = native.dt.tz_localize("UTC")
        return native.astype(template.to_native().dtype)
    if cells.dtype == object:
        known = dtype == nw.Object or dtype.is_integer()
        series = nw.new_series(
            template.name, cells.tolist(), dtype if known else None, backend=library
        )
        return series.to_native() if known else series.cast(dtype).to_native()
    series = nw.new_series(template.name, cells, backend=library)
    if kind.zone is not None:
        series = series.dt.replace_time_zone("UTC")
    return series.cast(dtype).to_native()


def _kind_of(series: nw.Series[Any]) -> Kind:
    """Return the kind of a dtype that is neither categorical nor of objects."""
    dtype = series.dtype
    if dtype == nw.Date:
        return Dates("D")
    if isinstance(dtype, nw.Datetime):
        return Dates(dtype.time_unit, dtype.time_zone)
    if dtype.is_decimal():
        native = _native_dtype(series)
        return Decimals(native.scale, native.precision)
    if dtype.is_integer() and "128" in str(dtype):
        unsigned = str(dtype).startswith("U")
        least, most = (0, 2**128 - 1) if unsigned else (-(2**127), 2**127 - 1)
        return WholeNumbers(np.dtype(object), least, most)
    if dtype.is_numeric():
        return kind_of_dtype(np.dtype(str(dtype).lower()))
    name = str(_native_dtype(series) if dtype == nw.Unknown else dtype)
    remedy = next(
        (text for start, text in _REMEDIES.items() if name.lower().startswith(start)),
        "it to numbers",
    )
    raise ValueError(
        f"Column {series.name!r} has dtype {name}, which is not a number, date or category: "
        f"convert {remedy}, or drop it."
    )


def _native_dtype(series: nw.Series[Any]) -> Any:
    """Return the library's own dtype; pyarrow's if it is backed by pyarrow."""
    native = series.to_native()
    dtype = native.dtype if hasattr(native, "dtype") else native.type
    return getattr(dtype, "pyarrow_dtype", dtype)
