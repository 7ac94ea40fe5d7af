"""Arrays and data frames, seen as lists of columns, and put together again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from contextlib import suppress
from datetime import date, datetime
from itertools import repeat
from numbers import Real
from operator import is_
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

_DATE_DTYPES = (nw.Datetime, nw.Date)
_DAY = 86_400_000_000  # microseconds
_CLOCK_UNITS = {
    _DAY: "days", 3_600_000_000: "hours", 60_000_000: "minutes", 1_000_000: "seconds",
    1000: "milliseconds", 1: "microseconds",
}  # fmt: skip
# Days since 1970 that a date can be: in nanoseconds, 292 years either way, else from the year 1 on.
_NANOSECOND_DAYS, _DATE_DAYS = (-292.0 * 365, 292.0 * 365), (-719_162.0, 2_932_896.0)
NUMBERS, DATES, ZONED_DATES = "numbers", "dates without a time zone", "dates with a time zone"
_CATEGORY_DTYPES = (nw.Categorical, nw.Enum, nw.String, nw.Boolean, nw.Object)


class Container(ABC):
    """The kind of table that a user has: its names, dtypes and class.

    Attributes
    ----------
    names : list
        Names of the columns.
    """

    names: list[Any]

    @staticmethod
    @abstractmethod
    def values(X: Any, j: int) -> np.ndarray:
        """Return column j of X as an array: missing numbers NaN, missing categories None."""

    @staticmethod
    @abstractmethod
    def is_categorical(X: Any, j: int) -> bool:
        """Say whether the dtype of column j of X is one of categories."""

    @staticmethod
    @abstractmethod
    def kind(X: Any, j: int) -> str:
        """Say what column j of X holds if not categories: numbers, or dates, in days."""

    @abstractmethod
    def held_kind(self, j: int) -> str:
        """Say what column j of the fitted table held, as `kind` does."""

    @abstractmethod
    def precision(self, j: int) -> float:
        """Return the relative rounding error of the numbers of column j."""

    @abstractmethod
    def unit(self, j: int) -> tuple[float, str]:
        """Return what all values of column j are multiples of, and its name; 0 where nothing is.

        1 where the dtype holds whole numbers only; the unit of the clock that dates were on.
        """

    @abstractmethod
    def shown(self, j: int, value: float) -> str:
        """Return a number or date of column j as text."""

    @abstractmethod
    def bounds(self, j: int) -> tuple[float, float]:
        """Return the least and the largest number that the dtype of column j can hold."""

    @abstractmethod
    def number(self, j: int, value: Any) -> float | None:
        """Return a single value of column j as `values` would, None if it is not of its kind.

        A date may be text, as ISO 8601 writes it; without a time zone it is in that of the column.
        """

    @abstractmethod
    def restore(self, columns: list[np.ndarray], palettes: list[Any]) -> Any:
        """Return a table like the one fitted.

        ``columns[j]`` holds numbers where ``palettes[j]`` is None, else positions in the
        palette, a piece of the fitted column that holds each level once.
        """

    @abstractmethod
    def with_gaps(self, table: Any, gaps: np.ndarray) -> Any:
        """Return a table of `restore` whose values are missing where gaps, (n, n_features), are."""

    @abstractmethod
    def palette(self, X: Any, j: int, rows: np.ndarray) -> Any:
        """Return the given rows of column j, as they are."""


class ArrayContainer(Container):
    """A two-dimensional array."""

    def __init__(self, X: np.ndarray) -> None:
        self.names = list(range(X.shape[1]))
        self.dtype = X.dtype

    @staticmethod
    def values(X: np.ndarray, j: int) -> np.ndarray:
        return X[:, j].astype(float)

    @staticmethod
    def is_categorical(X: np.ndarray, j: int) -> bool:
        return False

    @staticmethod
    def kind(X: np.ndarray, j: int) -> str:
        return NUMBERS

    def held_kind(self, j: int) -> str:
        return NUMBERS

    def precision(self, j: int) -> float:
        return float(np.finfo(self.dtype).eps)

    def unit(self, j: int) -> tuple[float, str]:
        return 0.0, ""

    def shown(self, j: int, value: float) -> str:
        return f"{value:.10g}"

    def bounds(self, j: int) -> tuple[float, float]:
        return -np.inf, np.inf

    def number(self, j: int, value: Any) -> float | None:
        return _finite_number(value)

    def palette(self, X: np.ndarray, j: int, rows: np.ndarray) -> np.ndarray:
        return X[rows, j]

    def restore(self, columns: list[np.ndarray], palettes: list[Any]) -> np.ndarray:
        restored = [
            column if palette is None else palette[column]
            for column, palette in zip(columns, palettes, strict=True)
        ]
        return np.column_stack(restored).astype(self.dtype)

    def with_gaps(self, table: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        return np.where(gaps, np.nan, table).astype(self.dtype)


class FrameContainer(Container):
    """A data frame of pandas, polars or another library that narwhals knows.

    Dates and times are numbers of days since 1970, in UTC where they have a time zone.
    """

    def __init__(self, X: Any) -> None:
        frame = nw.from_native(X, eager_only=True)
        self.names = frame.columns
        self.template = frame.head(0).to_native()
        self.clock_units = {
            j: _clock_unit(_microseconds(frame[:, j]))
            for j in range(len(self.names))
            if self.kind(X, j) != NUMBERS
        }

    @staticmethod
    def values(X: Any, j: int) -> np.ndarray:
        series = nw.from_native(X, eager_only=True)[:, j]
        if FrameContainer.is_categorical(X, j):
            return _category_values(series)
        if FrameContainer.kind(X, j) != NUMBERS:
            return _microseconds(series) / _DAY
        if not series.dtype.is_numeric():
            raise ValueError(
                f"Column {series.name!r} has dtype {series.dtype}, which is no number, date or "
                "category: convert it (a duration to a number of hours, say) or drop it."
            )
        numbers = series.cast(nw.Float64).fill_null(np.nan).to_numpy()
        _check_finite(series.name, numbers)
        return numbers

    @staticmethod
    def is_categorical(X: Any, j: int) -> bool:
        return nw.from_native(X, eager_only=True)[:, j].dtype in _CATEGORY_DTYPES

    @staticmethod
    def kind(X: Any, j: int) -> str:
        dtype = nw.from_native(X, eager_only=True)[:, j].dtype
        if dtype not in _DATE_DTYPES:
            return NUMBERS
        return DATES if _zone(dtype) is None else ZONED_DATES

    def held_kind(self, j: int) -> str:
        return self.kind(self.template, j)

    def precision(self, j: int) -> float:
        single = self._empty(j).dtype == nw.Float32
        return float(np.finfo(np.float32 if single else np.float64).eps)

    def unit(self, j: int) -> tuple[float, str]:
        if j in self.clock_units:
            return self.clock_units[j] / _DAY, f"whole {_CLOCK_UNITS[self.clock_units[j]]}"
        return (1.0, "whole numbers") if self._empty(j).dtype.is_integer() else (0.0, "")

    def shown(self, j: int, value: float) -> str:
        if j not in self.clock_units:
            return f"{value:.10g}"
        return str(np.datetime64(round(value * _DAY), "us"))

    def bounds(self, j: int) -> tuple[float, float]:
        return _bounds(self._empty(j).dtype)

    def number(self, j: int, value: Any) -> float | None:
        if j not in self.clock_units:
            return _finite_number(value)
        moment = _moment(value)
        return None if moment is None else _days(moment, self._empty(j))

    def palette(self, X: Any, j: int, rows: np.ndarray) -> Any:
        return nw.from_native(X, eager_only=True)[:, j][rows.tolist()].to_native()

    def restore(self, columns: list[np.ndarray], palettes: list[Any]) -> Any:
        template = nw.from_native(self.template, eager_only=True)
        restored = [
            self._number_series(j, column)
            if palettes[j] is None
            else nw.from_native(palettes[j], series_only=True)[column.tolist()].to_native()
            for j, column in enumerate(columns)
        ]
        return _frame_like(template, restored)

    def with_gaps(self, table: Any, gaps: np.ndarray) -> Any:
        frame = nw.from_native(table, eager_only=True)
        if frame.implementation.is_pandas_like():
            return table.mask(gaps)
        seen = [nw.new_series("", ~column, backend=frame.implementation) for column in gaps.T]
        pairs = zip(seen, frame.columns, strict=True)
        return frame.select(nw.when(held).then(nw.col(name)) for held, name in pairs).to_native()

    def _number_series(self, j: int, values: np.ndarray) -> Any:
        if j in self.clock_units:
            return _date_series(self._empty(j), values, self.clock_units[j])
        return _number_series(self._empty(j), values)

    def _empty(self, j: int) -> nw.Series[Any]:
        """Return column j of the fitted table without its rows."""
        return nw.from_native(self.template, eager_only=True)[:, j]


def reader_of(X: Any) -> type[ArrayContainer] | type[FrameContainer]:
    """Return the class that reads a table that is validated already."""
    return ArrayContainer if isinstance(X, np.ndarray) else FrameContainer


def _number_series(template: nw.Series[Any], values: np.ndarray) -> Any:
    dtype = template.dtype
    if dtype.is_integer():
        # A draw beyond the bounds would wrap around.
        values = np.rint(values).clip(*_bounds(dtype)).astype(str(dtype).lower())
    series = nw.new_series(template.name, values, backend=template.implementation)
    if template.implementation.is_pandas_like():  # also tells Int64 from int64
        return series.to_native().astype(template.to_native().dtype)
    return series.cast(dtype).to_native()


def _date_series(template: nw.Series[Any], days: np.ndarray, unit: int) -> Any:
    """Return dates like the template, on whole units of the clock."""
    days = days.clip(*_bounds(template.dtype))
    microseconds = (np.rint(days * (_DAY / unit)) * unit).astype(np.int64)
    series = nw.new_series(
        template.name, microseconds, dtype=nw.Int64, backend=template.implementation
    ).cast(nw.Datetime("us"))
    if zone := _zone(template.dtype):
        series = series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return series.cast(template.dtype).to_native()


def _zone(dtype: Any) -> str | None:
    return getattr(dtype, "time_zone", None)


def _bounds(dtype: Any) -> tuple[float, float]:
    """Return the least and the largest number, or day, that a dtype can hold."""
    if dtype in _DATE_DTYPES:
        return _NANOSECOND_DAYS if getattr(dtype, "time_unit", "") == "ns" else _DATE_DAYS
    if not dtype.is_integer():
        return -np.inf, np.inf
    ends = np.iinfo(str(dtype).lower())
    high = float(ends.max)
    return float(ends.min), high if int(high) <= ends.max else float(np.nextafter(high, 0))


def _moment(value: Any) -> datetime | None:
    """Return a date, time or ISO 8601 text as a time, None if it is none."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    moment = value.astype("datetime64[us]").item() if isinstance(value, np.datetime64) else None
    return moment if isinstance(moment, datetime) else None  # a number of years beyond 9999


def _days(moment: datetime, like: nw.Series[Any]) -> float | None:
    """Return the days since 1970, None where that is not clear.

    So it is with a zone where those like it have none, and without one in the hour that a zone's
    clocks pass twice or not at all.
    """
    zone = _zone(like.dtype)
    if moment.tzinfo is not None:
        return None if zone is None else moment.timestamp() * 1e6 / _DAY
    series = nw.new_series("", [moment], dtype=nw.Datetime("us"), backend=like.implementation)
    if zone is not None:
        try:
            series = series.dt.replace_time_zone(zone)
        except Exception:  # each library has its own for what is not clear
            return None
    return float(_microseconds(series)[0] / _DAY)


def _microseconds(series: nw.Series[Any]) -> np.ndarray:
    """Return times since 1970 in microseconds, NaN where missing."""
    return series.dt.timestamp("us").cast(nw.Float64).fill_null(np.nan).to_numpy()


def _clock_unit(microseconds: np.ndarray) -> int:
    """Return the longest of day, hour, minute, second, ... that all times are whole numbers of."""
    present = microseconds[~np.isnan(microseconds)]
    return next(unit for unit in _CLOCK_UNITS if unit == 1 or not (present % unit).any())


def _finite_number(value: Any) -> float | None:
    return float(value) if isinstance(value, Real) and not np.isinf(float(value)) else None


def _frame_like(template: nw.DataFrame[Any], columns: list[Any]) -> Any:
    series = [nw.from_native(column, series_only=True) for column in columns]
    if template.implementation.is_pandas_like():
        frame = template.implementation.to_native_namespace().concat(
            [column.to_native().reset_index(drop=True) for column in series], axis=1
        )
        frame.columns = template.to_native().columns
        return frame
    named = dict(zip(template.columns, series, strict=True))
    return nw.from_dict(named).to_native()


def _check_finite(name: Any, numbers: np.ndarray) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(
            f"Column {name!r} holds the infinite value {numbers[row]} in row {row}: "
            "replace it or drop the row."
        )


def _category_values(series: nw.Series[Any]) -> np.ndarray:
    values = [
        None if missing else value
        for value, missing in zip(series.to_list(), series.is_null().to_list(), strict=True)
    ]
    nested = next((v for v in values if not isinstance(v, Hashable)), None)
    if nested is not None:
        raise ValueError(
            f"Column {series.name!r} holds {nested!r}, a {type(nested).__name__}: split it into "
            "columns of single values, or drop it."
        )
    kinds = {type(value) for value in values if value is not None}
    if series.dtype == nw.Object and len(kinds) > 1:
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(
            f"Column {series.name!r} mixes values of types {', '.join(names)}: make it one "
            "type, with astype(str) or astype(float), say."
        )
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def is_gap(value: Any) -> bool:
    """Return whether a single value stands for none: None, NaN, NaT or pd.NA."""
    pandas = nw.dependencies.get_pandas()
    if value is None or (pandas is not None and value is pandas.NA):
        return True
    return isinstance(value, Real | date | np.datetime64) and value != value


def is_missing(values: np.ndarray) -> np.ndarray:
    """Return which values of a column of a container are missing."""
    if values.dtype == object:
        same = map(is_, values.tolist(), repeat(None))
        return np.fromiter(same, dtype=bool, count=len(values))
    return np.isnan(values)
