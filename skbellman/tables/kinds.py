"""Kinds of cells: from cells to numbers or levels, and back to cells.

A cell is a value exactly as the table holds it. A number is the double that a density is learned
from: the cell itself, or its distance from an origin if all cells are too large for doubles. Cells
that a user gave are kept as cells. Only sampled cells are made from numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from datetime import date
from decimal import Decimal, localcontext
from enum import Enum
from itertools import repeat
from numbers import Real
from operator import is_
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np

NUMBERS = "numbers"
# Digits that decimals of any dtype need: those of decimal256 and the largest double.
_DECIMAL_DIGITS = 400
# Every integer up to this is exact as a double.
MOST_WHOLE = 2.0**53


class Kind(ABC):
    """What kind of cells a column holds.

    Attributes
    ----------
    held : str
        The word for the cells in messages.
    is_categorical : bool
    is_text : bool
        Whether the dtype is text, and not categories.
    bounds : tuple of float
        The least and the largest number that the column can hold, counted from 0.
    unit : tuple of (float, str)
        The number of which all numbers are multiples (0 for none), and its name for messages.
    precision : float
        Relative rounding error of the numbers.
    origin : object
        The origin of the numbers, in the unit of the cells.
    zone : str, tzinfo or None
        Time zone of dates.
    is_of_objects : bool
        Whether the column can hold objects of any type.
    """

    held = NUMBERS
    is_categorical, is_text, is_of_objects = False, False, False
    bounds: tuple[float, float] = (-np.inf, np.inf)
    unit: tuple[float, str] = (0.0, "numbers")
    precision = float(np.finfo(np.float64).eps)
    origin: Any = 0
    zone: Any = None

    @property
    def number_unit(self) -> str:
        """The unit of the numbers, and their origin if it is not 0."""
        return f"{self.held} from {self.origin} on" if self.origin else self.held

    @property
    def number_bounds(self) -> tuple[float, float]:
        """The bounds as numbers: from the origin."""
        return self.bounds

    def learn(self, cells: np.ndarray) -> None:  # noqa: B027 - most kinds have nothing to learn
        """Learn from the cells of the fitted column, none of them missing."""

    def of_series(
        self, series: nw.Series[Any], missing: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells of a series of this kind, and which of them are missing."""
        return as_objects(series.to_list()), missing

    @abstractmethod
    def numbers(self, plain: np.ndarray) -> np.ndarray:
        """Return plain cells, none of them missing, as float64; categories unchanged."""

    @abstractmethod
    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        """Return the nearest cells that the column can hold."""

    @abstractmethod
    def take(self, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return plain cells of another dtype in this one, and which of them fit."""

    def plain(self, cells: np.ndarray) -> np.ndarray:
        """Return cells as an array that any similar kind can read."""
        return cells

    def read(self, cells: Cells) -> np.ndarray:
        """Return the numbers of cells of any similar kind, NaN where missing.

        Categories give levels, None where missing.
        """
        if self.is_categorical or not cells.missing.any():
            return self.numbers(cells.kind.plain(cells.values))
        numbers = np.full(len(cells.values), np.nan)
        present = ~cells.missing
        numbers[present] = self.numbers(cells.kind.plain(cells.values[present]))
        return numbers

    def adopt(self, cells: np.ndarray, source: Kind) -> tuple[np.ndarray, np.ndarray]:
        """Return cells of another kind as cells of this one, and which of them fit."""
        return self.take(source.plain(cells))

    def parse(self, value: Any) -> Cells | None:
        """Return a single value, as users write it, as a cell; None if it is of another kind.

        A date may be ISO 8601 text. Without a time zone it is in that of the column.
        """
        number = isinstance(value, Real | Decimal | np.bool_) and not np.isinf(as_float(value))
        return one_cell(self, value) if number else None

    def shown(self, number: float) -> str:
        """Return a number of the column as text."""
        return repr(number)

    def limits(self) -> str:
        """Return the bounds as text."""
        return f"{self.bounds[0]:g} to {self.bounds[1]:g}"

    def is_beyond(self, plain: np.ndarray) -> bool:
        """Return whether the column cannot hold a plain cell because of its bounds."""
        number = as_floats(plain)[0]
        return not self.bounds[0] < number < self.bounds[1]


class Cells(NamedTuple):
    """The cells of a column, unchanged; where one is missing, the stored value is arbitrary."""

    kind: Kind
    values: np.ndarray
    missing: np.ndarray

    def numbers(self) -> np.ndarray:
        """Return float64, NaN where a number is missing; levels or None for categories."""
        return self.kind.read(self)

    def at(self, rows: np.ndarray) -> Cells:
        """Return the cells of some rows."""
        return Cells(self.kind, self.values[rows], self.missing[rows])

    def repeat(self, n_times: int) -> Cells:
        """Return each cell n_times, one after the other."""
        return self.at(np.repeat(np.arange(len(self.missing)), n_times))


class Categories(Kind):
    """Levels of any hashable type, None where missing."""

    held, is_categorical = "categories", True

    def __init__(self, is_text: bool = False) -> None:
        self.is_text = is_text

    def numbers(self, plain: np.ndarray) -> np.ndarray:
        return plain

    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        return numbers

    def take(self, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return plain, np.ones(len(plain), dtype=bool)

    def parse(self, value: Any) -> Cells | None:
        return one_cell(self, value) if isinstance(value, Hashable) else None


class Floats(Kind):
    """Floating-point numbers of any width."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        ends = np.finfo(np.float64 if dtype.itemsize > 8 else dtype)
        self.bounds = float(ends.min), float(ends.max)
        self.unit = 0.0, f"{dtype} numbers"
        if dtype == np.float32:
            self.precision = float(ends.eps)

    def of_series(
        self, series: nw.Series[Any], missing: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        cells = series.to_numpy().astype(self.dtype, copy=False)
        return cells, np.isnan(cells)

    def numbers(self, plain: np.ndarray) -> np.ndarray:
        """Return float64, rounded as the dtype does: 0.1 is the 0.1 of the fitted table."""
        numbers = as_floats(plain)
        if plain.dtype == self.dtype:
            return numbers
        with np.errstate(over="ignore"):
            rounded = numbers.astype(self.dtype).astype(np.float64)
        return np.where(np.isfinite(rounded), rounded, numbers)

    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        return numbers.clip(*self.bounds).astype(self.dtype)

    def take(self, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Round as the dtype does; refuse integers with more digits than it holds."""
        numbers = as_floats(plain)
        inside = (numbers >= self.bounds[0]) & (numbers <= self.bounds[1])
        cells = np.where(inside, numbers, 0.0).astype(self.dtype)
        if plain.dtype.kind == "f":
            return cells, inside
        same = (
            not is_whole(given) or int(given) == int(cell)
            for given, cell in zip(plain.tolist(), cells.tolist(), strict=True)
        )
        return cells, inside & np.fromiter(same, dtype=bool, count=len(plain))


class WholeNumbers(Kind):
    """Integers from least to most; without bounds in an object dtype."""

    def __init__(self, dtype: np.dtype[Any], least: float = -np.inf, most: float = np.inf) -> None:
        self.dtype, self.least, self.most = dtype, least, most
        self.bounds = float(least), float(most)
        self.unit = 1.0, "whole numbers"

    def of_series(
        self, series: nw.Series[Any], missing: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.dtype == object:
            return super().of_series(series, missing)
        return (series.fill_null(0) if missing.any() else series).to_numpy(), missing

    def learn(self, cells: np.ndarray) -> None:
        if are_all_beyond(cells, MOST_WHOLE):
            self.origin = int(np.sort(cells)[len(cells) // 2])

    @property
    def number_bounds(self) -> tuple[float, float]:
        return float(self.least - self.origin), float(self.most - self.origin)

    def numbers(self, plain: np.ndarray) -> np.ndarray:
        return as_floats(plain.astype(object) - self.origin if self.origin else plain)

    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        # The double next to 2**63 - 1 is 2**63, which an int64 would wrap around.
        least, most = self.number_bounds
        low, high = numbers <= least, numbers >= most
        cells = np.rint(np.where(low | high, 0.0, numbers))
        if self.origin or self.dtype == object:
            cells = _whole_objects(cells) + self.origin
        cells = cells.astype(self.dtype)
        cells[low], cells[high] = self.least, self.most
        return cells

    def shown(self, number: float) -> str:
        return str(int(number) + self.origin) if is_whole(number) else super().shown(number)

    def limits(self) -> str:
        return f"{self.least} to {self.most}"

    def take(self, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if plain.dtype.kind == "f" and plain.dtype.itemsize < 8:
            plain = plain.astype(np.float64)  # which holds the bounds
        fits = _are_whole(plain) & (plain >= self.least) & (plain < self.most + 1)
        held = np.where(fits, plain, 0)
        if object in (self.dtype, plain.dtype):
            held = _whole_objects(held)
        return held.astype(self.dtype), fits


class Decimals(Kind):
    """Decimals with so many places, and digits in all if they are bounded."""

    def __init__(self, places: int, digits: int | None = None) -> None:
        self._step = Decimal(1).scaleb(-places)
        with localcontext(prec=_DECIMAL_DIGITS):
            self._most = None if digits is None else (10**digits - 1) * self._step
        if self._most is not None:
            self.bounds = -float(self._most), float(self._most)
        self.unit = float(self._step), f"numbers with {places} decimals"
        self.origin = Decimal(0)

    def learn(self, cells: np.ndarray) -> None:
        if are_all_beyond(cells, MOST_WHOLE * self.unit[0]):
            self.origin = as_decimal(np.sort(cells)[len(cells) // 2])

    @property
    def number_bounds(self) -> tuple[float, float]:
        least, most = self.bounds
        return least - float(self.origin), most - float(self.origin)

    def numbers(self, plain: np.ndarray) -> np.ndarray:
        if not self.origin:
            return as_floats(plain)
        with localcontext(prec=_DECIMAL_DIGITS):
            return np.array([as_float(as_decimal(v) - self.origin) for v in plain.tolist()])

    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        with localcontext(prec=_DECIMAL_DIGITS):
            drawn = [Decimal(repr(x)) + self.origin for x in numbers.tolist()]
            return as_objects([self._nearest(value) for value in drawn])

    def shown(self, number: float) -> str:
        return str(self.drawn(np.array([number]))[0]) if self.origin else super().shown(number)

    def take(self, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with localcontext(prec=_DECIMAL_DIGITS):
            given = [as_decimal(value) for value in plain.tolist()]
            cells = [self._nearest(value) for value in given]
        fits = np.array([a == b for a, b in zip(given, cells, strict=True)], dtype=bool)
        return as_objects(cells), fits

    def _nearest(self, value: Decimal) -> Decimal:
        nearest = value.quantize(self._step)
        return nearest if self._most is None else max(-self._most, min(nearest, self._most))


def kind_of_dtype(dtype: np.dtype[Any]) -> Kind:
    """Return the kind of an array of numbers."""
    if dtype.kind == "f":
        return Floats(dtype)
    if dtype.kind == "b":
        return WholeNumbers(dtype, 0, 1)
    ends = np.iinfo(dtype)
    return WholeNumbers(dtype, int(ends.min), int(ends.max))


def is_gap(value: Any) -> bool:
    """Return whether a single value is missing: None, NaN, NaT or pd.NA."""
    pandas = nw.dependencies.get_pandas()
    if value is None or (pandas is not None and value is pandas.NA):
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, Real | date | np.datetime64) and value != value


def is_missing(values: np.ndarray) -> np.ndarray:
    """Return which numbers, or levels, of a column are missing."""
    if values.dtype == object:
        same = map(is_, values.tolist(), repeat(None))
        return np.fromiter(same, dtype=bool, count=len(values))
    return np.isnan(values)


def hide(values: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return numbers, or levels, of a column, missing where they are to be hidden."""
    nothing: Any = None if values.dtype == object else np.nan
    return np.where(hidden, nothing, values)


def is_number_type(kind: type) -> bool:
    """Return whether objects of a type are numbers, and not booleans or enum members."""
    return issubclass(kind, Real | Decimal) and not issubclass(kind, bool | np.bool_ | Enum)


def as_objects(values: list[Any]) -> np.ndarray:
    """Return an array of the values, whatever they are."""
    return np.fromiter(values, dtype=object, count=len(values))


def one_cell(kind: Kind, value: Any) -> Cells:
    """Return cells with one value."""
    return Cells(kind, as_objects([value]), np.zeros(1, dtype=bool))


def as_floats(values: np.ndarray) -> np.ndarray:
    """Return numbers of any type as float64, infinite where they are too large for it."""
    if values.dtype != object:
        return values.astype(np.float64)
    return np.array([as_float(value) for value in values.tolist()], dtype=np.float64)


def as_float(value: Any) -> float:
    """Return a number as a float, infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def are_all_beyond(cells: np.ndarray, size: float) -> bool:
    """Return whether all numbers, of any type, are finite and at least of a size."""

    def are_beyond(numbers: np.ndarray) -> bool:
        return bool(np.isfinite(numbers).all() and np.abs(numbers).min() >= size)

    return are_beyond(as_floats(cells[:1])) and are_beyond(as_floats(cells))


def is_whole(value: Any) -> bool:
    """Return whether a number, which may be infinite, is whole."""
    return bool(np.isfinite(as_float(value))) and value == int(value)


def _are_whole(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return values == np.rint(values)
    if values.dtype != object:
        return np.ones(len(values), dtype=bool)
    return np.fromiter(map(is_whole, values.tolist()), dtype=bool, count=len(values))


def as_decimal(value: Any) -> Decimal:
    """Return a number as the decimal that it is written as: .1 is a tenth."""
    if isinstance(value, Decimal):
        return value
    return Decimal(int(value)) if is_whole(value) else Decimal(repr(float(value)))


def _whole_objects(values: np.ndarray) -> np.ndarray:
    return as_objects([int(value) for value in values.tolist()])
