"""Columns of Python objects, as SQL and JSON give them: numbers, decimals and dates."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral
from typing import Any

import numpy as np

from skbellman.tables.dates import UNITS, Dates, utc_moments
from skbellman.tables.kinds import (
    Categories,
    Cells,
    Decimals,
    Floats,
    Kind,
    WholeNumbers,
    as_objects,
    is_number_type,
    kind_of_dtype,
    one_cell,
)

_NO_CELLS = (time, timedelta, complex, np.timedelta64, np.complexfloating)


def kind_of_objects(name: Any, cells: np.ndarray) -> Kind:
    """Return the kind of a column of objects, none of them missing."""
    values = cells.tolist()
    nested = next((v for v in values if not isinstance(v, Hashable)), None)
    if nested is not None:
        raise ValueError(
            f"Column {name!r} holds {nested!r}, a {type(nested).__name__}: split it into "
            "columns of single values, or drop it."
        )
    types = set(map(type, values))
    if types and all(map(is_number_type, types)):
        return _kind_of_numbers(types, values)
    if len(types) > 1:
        names = sorted(kind.__name__ for kind in types)
        raise ValueError(
            f"Column {name!r} mixes values of types {', '.join(names)}. Convert it to one "
            "type, e.g. with astype(str) or astype(float)."
        )
    kind = types.pop() if types else str
    if issubclass(kind, _NO_CELLS):
        raise ValueError(
            f"Column {name!r} holds {values[0]!r}, a {kind.__name__}, which is not a number, date "
            "or category. Convert it to numbers (e.g. hours, or real and imaginary parts), or drop "
            "it."
        )
    if not issubclass(kind, date | np.datetime64):
        return Categories()
    return _kind_of_dates(name, kind, values)


class Objects(Kind):
    """Objects of one type that correspond to a plain kind.

    Parameters
    ----------
    inner : Kind
    type_ : type
        Type of the objects.
    """

    is_of_objects = True

    def __init__(self, inner: Kind, type_: type) -> None:
        self.inner, self.type = inner, type_
        self.held, self.bounds, self.unit = inner.held, inner.bounds, (0.0, inner.unit[1])

    @property
    def number_unit(self) -> str:
        return self.inner.number_unit

    @property
    def number_bounds(self) -> tuple[float, float]:
        return self.inner.number_bounds

    def learn(self, cells: np.ndarray) -> None:
        self.inner.learn(self.plain(cells))

    def plain(self, cells: np.ndarray) -> np.ndarray:
        return self.inner.plain(cells)

    def numbers(self, plain: np.ndarray) -> np.ndarray:
        return self.inner.numbers(plain)

    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        return self._made(self.inner.drawn(numbers))

    def take(self, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells, fits = self.inner.take(plain)
        return self._made(cells), fits

    def adopt(self, cells: np.ndarray, source: Kind) -> tuple[np.ndarray, np.ndarray]:
        """Leave objects unchanged: a column of objects can hold any."""
        if source.is_of_objects:
            return cells, np.ones(len(cells), dtype=bool)
        return super().adopt(cells, source)

    def parse(self, value: Any) -> Cells | None:
        found = self.inner.parse(value)
        return one_cell(self, value) if found is not None and self._is_one(value) else found

    def shown(self, number: float) -> str:
        return self.inner.shown(number)

    def limits(self) -> str:
        return self.inner.limits()

    def is_beyond(self, plain: np.ndarray) -> bool:
        return self.inner.is_beyond(plain)

    def _made(self, cells: np.ndarray) -> np.ndarray:
        return as_objects([self._object(cell) for cell in cells])

    def _object(self, cell: Any) -> Any:
        return self.type(cell)

    def _is_one(self, value: Any) -> bool:
        return isinstance(value, self.type) and not isinstance(value, bool)


class DateObjects(Objects):
    """Dates, datetimes of Python, pandas' timestamps or NumPy's datetimes."""

    inner: Dates

    def learn(self, cells: np.ndarray) -> None:
        super().learn(cells)
        self.unit = self.inner.unit

    def plain(self, cells: np.ndarray) -> np.ndarray:
        values = cells.tolist()
        if self.inner.zone is None:
            exact = [v.to_datetime64() if hasattr(v, "to_datetime64") else v for v in values]
            return np.array(exact, dtype=self.inner.dtype)
        moments = utc_moments(values).astype(self.inner.dtype)
        beyond = [getattr(v, "nanosecond", 0) for v in values]
        return moments + np.array(beyond, "timedelta64[ns]") if any(beyond) else moments

    def _is_one(self, value: Any) -> bool:
        zoned = getattr(value, "tzinfo", None) is not None
        return super()._is_one(value) and zoned == (self.inner.zone is not None)

    def _object(self, cell: Any) -> Any:
        if issubclass(self.type, np.datetime64):
            return cell
        zone = self.inner.zone
        if not hasattr(self.type, "to_datetime64"):
            moment = cell.item()
            return moment if zone is None else moment.replace(tzinfo=UTC).astimezone(zone)
        timestamp: Any = self.type
        moment = timestamp(cell)
        return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)


def _kind_of_numbers(types: set[type], values: list[Any]) -> Kind:
    """Return the kind of the widest type: decimals, then floats, then integers."""
    if decimals := [v for v in values if isinstance(v, Decimal)]:
        return Objects(Decimals(_places(decimals)), Decimal)
    fractional = {kind for kind in types if not issubclass(kind, Integral)}
    widest = fractional or types
    type_ = next(iter(widest)) if len(widest) == 1 else (float if fractional else int)
    if issubclass(type_, np.generic):
        return Objects(kind_of_dtype(np.dtype(type_)), type_)
    plain = Floats(np.dtype(float)) if fractional else WholeNumbers(np.dtype(object))
    return Objects(plain, type_)


def _places(values: list[Decimal], double_digits: int = 15) -> int:
    """Return the number of decimals of the values, at most those of a double of their size."""
    finite = [v for v in values if v.is_finite()]
    most = max((-int(v.as_tuple().exponent) for v in finite), default=0)
    largest = max((v.adjusted() for v in finite if v), default=0)
    return min(most, double_digits - largest)


def _kind_of_dates(name: Any, type_: type, values: list[Any]) -> Kind:
    if issubclass(type_, np.datetime64):
        unit = np.datetime_data(np.array(values).dtype)[0]
        return DateObjects(Dates(unit if unit in UNITS else "s"), type_)
    if not issubclass(type_, datetime):
        return DateObjects(Dates("D"), type_)
    zones = [v.tzinfo for v in values]
    if any((zone is None) != (zones[0] is None) for zone in zones):
        raise ValueError(
            f"Column {name!r} mixes times with and without a time zone: give all of them one."
        )
    unit = "ns" if any(getattr(v, "nanosecond", 0) for v in values) else "us"
    return DateObjects(Dates(unit, zones[0]), type_)
