"""Comparisons in text, such as "start <= end": masks of rows, and ranges of single columns."""

from __future__ import annotations

import ast
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from skbellman.tables import TableEncoder
from skbellman.tables.containers import container_of
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.kinds import Cells

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq,
    "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_ASKING = re.compile("|".join(_OPERATORS))


@dataclass(frozen=True)
class Comparison:
    """A column compared with another, or with a value. It holds where either is missing.

    Parameters
    ----------
    text : str
    sign : str
        One of <=, >=, ==, !=, <, >.
    column : FittedColumn
    other : FittedColumn or None
    literal : Literal or None
        The value, if there is no other column.
    """

    text: str
    sign: str
    column: FittedColumn
    other: FittedColumn | None
    literal: Literal | None

    def __call__(self, X: Any) -> np.ndarray:
        """Return which rows of a table it holds for."""
        one = _cells_of(X, self.column)
        two = _cells_of(X, self.other) if self.literal is None else self.literal.cells
        with np.errstate(invalid="ignore"):
            holds = _OPERATORS[self.sign](one.values, two.values)
        return np.asarray(holds, dtype=bool) | one.missing | two.missing

    def __repr__(self) -> str:
        return repr(self.text)


@dataclass(frozen=True)
class Literal:
    """A value in a comparison: as Python has it, and as a cell of the column beside it."""

    value: Any
    cells: Cells

    def number(self) -> Any:
        """Return the value as a number of the column."""
        return self.cells.numbers()[0]


def comparison_of(text: str, encoder: TableEncoder) -> Comparison:
    """Return the comparison that a text such as "start <= end" stands for."""
    sides = [side.strip() for side in _ASKING.split(text)]
    if len(sides) != 2 or not encoder.container_.has_names:
        raise ValueError(
            f"the constraint {text!r} is no comparison of a column with another or a value, such "
            'as "start <= end" in a frame: give a callable, from a table to a mask of its rows.'
        )
    sign = _ASKING.findall(text)[0]
    named = {str(column.name): column for column in encoder.fitted_}
    left, right = (named.get(side) for side in sides)
    if left is None:
        raise ValueError(
            f"the constraint {text!r} names {sides[0]!r}, which is no column: these are "
            f"{encoder.names}."
        )
    _check_comparable(text, sign, left, right)
    literal = _literal(text, left, sides[1]) if right is None else None
    return Comparison(text, sign, left, right, literal)


def ranges_of(comparisons: Iterable[Comparison]) -> dict[Any, Any]:
    """Return what comparisons with values say of each column, as conditions of `sample`.

    A condition may be wider than what it stands for: a range is closed.
    """
    bounds: dict[Any, list[tuple[str, Literal]]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.literal and comparison.sign != "!=" and not comparison.column.column.is_fresh:
            bounds[comparison.column.name].append((comparison.sign, comparison.literal))
    return {name: _range(found) for name, found in bounds.items()}


def _range(bounds: list[tuple[str, Literal]]) -> Any:
    """Return the value, in a list, or the range that bounds of one column leave."""
    if equal := [literal.value for sign, literal in bounds if sign == "=="]:
        return equal[:1]
    low = max((b for sign, b in bounds if sign[0] == ">"), key=Literal.number, default=None)
    high = min((b for sign, b in bounds if sign[0] == "<"), key=Literal.number, default=None)
    return low and low.value, high and high.value


def _check_comparable(text: str, sign: str, left: FittedColumn, right: FittedColumn | None) -> None:
    if right is not None and left.kind.held != right.kind.held:
        raise ValueError(
            f"the constraint {text!r} compares {left.kind.held} with {right.kind.held}: convert "
            "one of the columns."
        )
    if left.kind.is_categorical and sign not in ("==", "!="):
        raise ValueError(
            f"the constraint {text!r} puts categories in an order, which they have none of: use == "
            "or !=, or a callable."
        )


def _literal(text: str, column: FittedColumn, side: str) -> Literal:
    """Return the value that a text compares a column with.

    Its cell is of the type of the column's cells, where they can hold it: a float is hardly ever a
    decimal.
    """
    value = _value_of(side, column.kind.is_categorical)
    cells = column.kind.parse(value)
    if cells is None:
        raise ValueError(
            f"the constraint {text!r} compares column {column.name!r}, which holds "
            f"{column.kind.held}, with {side!r}, which is none of them, and no column either."
        )
    own, fits = column.kind.adopt(cells.values, cells.kind)
    return Literal(value, cells._replace(values=own) if fits.all() else cells)


def _value_of(side: str, is_category: bool) -> Any:
    """Return what a text stands for: itself, or a value of Python."""
    value: Any = side
    with suppress(ValueError, SyntaxError):
        value = ast.literal_eval(side)
    is_fraction = type(value) is float and not is_category
    return Decimal(side.replace(" ", "")) if is_fraction else value


def _cells_of(X: Any, column: FittedColumn | None) -> Cells:
    assert column is not None
    container = container_of(X)
    position = container.names_of(X).index(column.name)
    return container.cells(X, position, column.kind.is_categorical)
