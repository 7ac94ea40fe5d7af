"""Arrays and data frames, seen as lists of columns, and put together again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from datetime import date, datetime
from numbers import Real
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

_DATE_DTYPES = (nw.Datetime, nw.Date)
_DAY = 86_400_000_000  # microseconds
_CLOCK_UNITS = (_DAY, 3_600_000_000, 60_000_000, 1_000_000, 1000, 1)
_YEARS = (-292 * 365 * _DAY, 292 * 365 * _DAY)  # either side of 1970: what nanoseconds can hold
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
    def is_date(X: Any, j: int) -> bool:
        """Say whether the dtype of column j of X is one of dates, whose numbers are days."""

    @abstractmethod
    def held_dates(self, j: int) -> bool:
        """Say whether column j of the fitted table held dates."""

    @abstractmethod
    def precision(self, j: int) -> float:
        """Return the relative rounding error of the numbers of column j."""

    @abstractmethod
    def is_integer(self, j: int) -> bool:
        """Say whether the dtype of column j holds whole numbers only."""

    @abstractmethod
    def number(self, j: int, value: Any) -> float | None:
        """Return a single value of column j as `values` would, None if it is no number or date."""

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
    def is_date(X: np.ndarray, j: int) -> bool:
        return False

    def held_dates(self, j: int) -> bool:
        return False

    def precision(self, j: int) -> float:
        return float(np.finfo(self.dtype).eps)

    def is_integer(self, j: int) -> bool:
        return False

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
            if self.is_date(X, j)
        }

    @staticmethod
    def values(X: Any, j: int) -> np.ndarray:
        series = nw.from_native(X, eager_only=True)[:, j]
        if FrameContainer.is_categorical(X, j):
            return _category_values(series)
        if FrameContainer.is_date(X, j):
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
    def is_date(X: Any, j: int) -> bool:
        return nw.from_native(X, eager_only=True)[:, j].dtype in _DATE_DTYPES

    def held_dates(self, j: int) -> bool:
        return j in self.clock_units

    def precision(self, j: int) -> float:
        single = nw.from_native(self.template, eager_only=True)[:, j].dtype == nw.Float32
        return float(np.finfo(np.float32 if single else np.float64).eps)

    def is_integer(self, j: int) -> bool:
        return nw.from_native(self.template, eager_only=True)[:, j].dtype.is_integer()

    def number(self, j: int, value: Any) -> float | None:
        if j not in self.clock_units:
            return _finite_number(value)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.timestamp() * 1e6 / _DAY
        if isinstance(value, date | np.datetime64):
            stamp: np.datetime64[Any] = np.datetime64(value, "us")  # type: ignore[call-overload]
            return float(stamp.astype(np.int64) / _DAY)
        return None

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
        template = nw.from_native(self.template, eager_only=True)[:, j]
        if j in self.clock_units:
            return _date_series(template, values, self.clock_units[j])
        return _number_series(template, values)


def reader_of(X: Any) -> type[ArrayContainer] | type[FrameContainer]:
    """Return the class that reads a table that is validated already."""
    return ArrayContainer if isinstance(X, np.ndarray) else FrameContainer


def _number_series(template: nw.Series[Any], values: np.ndarray) -> Any:
    dtype = template.dtype
    if dtype.is_integer():
        bounds = np.iinfo(str(dtype).lower())  # a draw beyond them would wrap around
        values = np.rint(values).clip(bounds.min, min(bounds.max, 2**62)).astype(np.int64)
    series = nw.new_series(template.name, values, backend=template.implementation)
    if template.implementation.is_pandas_like():  # also tells Int64 from int64
        return series.to_native().astype(template.to_native().dtype)
    return series.cast(dtype).to_native()


def _date_series(template: nw.Series[Any], days: np.ndarray, unit: int) -> Any:
    """Return dates like the template, on whole units of the clock."""
    microseconds = (np.rint(days * (_DAY / unit)) * unit).clip(*_YEARS).astype(np.int64)
    series = nw.new_series(
        template.name, microseconds, dtype=nw.Int64, backend=template.implementation
    ).cast(nw.Datetime("us"))
    if zone := getattr(template.dtype, "time_zone", None):
        series = series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return series.cast(template.dtype).to_native()


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


def is_missing(values: np.ndarray) -> np.ndarray:
    """Return which values of a column of a container are missing."""
    if values.dtype == object:
        return np.array([value is None for value in values.tolist()], dtype=bool)
    return np.isnan(values)
