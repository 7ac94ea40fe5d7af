"""Comparisons in text, such as "start <= end": masks of rows, and ranges of single columns."""

from __future__ import annotations

import ast
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from skbellman.rules import Rule
from skbellman.tables import TableEncoder
from skbellman.tables.containers import container_of
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.kinds import Cells, as_objects

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq,
    "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_ASKING = re.compile("|".join(_OPERATORS))
# The operator with its sides exchanged.
_TURNED = {"<=": ">=", ">=": "<=", "==": "==", "!=": "!=", "<": ">", ">": "<"}


@dataclass(frozen=True)
class Comparison(Rule):
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
        sides = _on_grid(one, self.column), _on_grid(two, self.other or self.column)
        try:
            with np.errstate(invalid="ignore"):
                holds = _OPERATORS[self.sign](*sides)
        except TypeError as error:  # a day and a time
            raise ValueError(f"{error} in {self.text!r}: convert one of the columns.") from error
        return np.asarray(holds, dtype=bool) | one.missing | two.missing

    def bound(self) -> tuple[Any, str, Any] | None:
        """Return the column, the sign and the literal, if samples can be drawn within it."""
        if self.literal is None or self.sign == "!=" or self.column.column.is_fresh:
            return None
        return self.column.name, self.sign, self.literal

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
    # Such as "a => b", "a = b" and "a <> b".
    is_odd = len(sides) != 2 or any("=" in (side[:1], side[-1:]) for side in sides)
    if is_odd or not all(sides) or not encoder.container_.has_names:
        raise ValueError(
            f"the constraint {text!r} is no comparison of a column with another or a value, such "
            f'as "start <= end" in a frame. The signs are {", ".join(_OPERATORS)}. For anything '
            "else give a callable, from a table to a mask of its rows."
        )
    sign = _ASKING.findall(text)[0]
    named = {str(column.name): column for column in encoder.fitted_}
    if sides[0] not in named and sides[1] in named:  # "18 <= age"
        sign, sides = _TURNED[sign], sides[::-1]
    left, right = (named.get(side) for side in sides)
    if left is None:
        raise ValueError(
            f"the constraint {text!r} names {sides[0]!r}, which is no column: these are "
            f"{encoder.names}."
        )
    _check_comparable(text, sign, left, right)
    literal = _literal(text, left, sides[1]) if right is None else None
    return Comparison(text, sign, left, right, literal)


def ranges_of(rules: Iterable[Rule]) -> dict[Any, Any]:
    """Return what comparisons with values say of each column, as conditions of `sample`.

    A condition may be wider than what it stands for: a range is closed.
    """
    bounds: dict[Any, list[tuple[str, Literal]]] = defaultdict(list)
    for rule in rules:
        if (bound := rule.bound()) is not None:
            name, sign, literal = bound
            bounds[name].append((sign, literal))
    return {name: _range(found) for name, found in bounds.items()}


def _range(bounds: list[tuple[str, Literal]]) -> Any:
    """Return the value, in a list, or the range that bounds of one column leave."""
    if equal := [literal.value for sign, literal in bounds if sign == "=="]:
        return equal[:1]
    low = max((b for sign, b in bounds if sign[0] == ">"), key=Literal.number, default=None)
    high = min((b for sign, b in bounds if sign[0] == "<"), key=Literal.number, default=None)
    if low and high and low.number() > high.number():
        raise ValueError(
            f"no row keeps the constraints that a column is above {low.value} and below "
            f"{high.value}: leave one of them out."
        )
    return low and low.value, high and high.value


def _check_comparable(text: str, sign: str, left: FittedColumn, right: FittedColumn | None) -> None:
    if right is not None and left.kind.held != right.kind.held:
        raise ValueError(
            f"the constraint {text!r} compares {left.kind.held} with {right.kind.held}: convert "
            "one of the columns."
        )
    if left.kind.is_categorical and sign not in ("==", "!="):
        raise ValueError(
            f"the constraint {text!r} compares categories by their order, which text cannot: use "
            "== or !=, or a callable from a table to a mask of its rows."
        )


def _literal(text: str, column: FittedColumn, side: str) -> Literal:
    """Return the value that a text compares a column with.

    Its cell is of the type of the column's cells, where they can hold it: a float is hardly ever a
    decimal.
    """
    value = _category(column, side) if column.kind.is_categorical else _value_of(side)
    cells = column.kind.parse(value)
    if cells is None:
        raise ValueError(
            f"the constraint {text!r} compares column {column.name!r}, which holds "
            f"{column.kind.held}, with {side!r}, which is none of them, and no column either."
        )
    own, fits = column.kind.adopt(cells.values, cells.kind)
    return Literal(value, cells._replace(values=own) if fits.all() else cells)


def _category(column: FittedColumn, side: str) -> Any:
    """Return the category that a text stands for: a value of Python, or the text itself."""
    value, levels = _python_of(side), column.column.only_levels
    if levels is None:  # identifiers: samples have others than the fit
        return value
    known = levels.tolist()
    if value not in known and side not in known:
        column.check_known(as_objects([side]), " Correct the constraint.")
    return value if value in known else side


def _value_of(side: str) -> Any:
    """Return the number or date that a text stands for."""
    value = _python_of(side)
    if type(value) is float:
        with suppress(InvalidOperation):  # in brackets
            return Decimal(side.replace(" ", ""))
    return value


def _python_of(side: str) -> Any:
    """Return a value of Python, or the text if it is none."""
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(side)
    return side


def _on_grid(cells: Cells, column: FittedColumn) -> np.ndarray:
    """Return values to compare: floats without the rounding error of a grid, 0.3 for 0.1 + 0.2."""
    is_float = cells.values.dtype.kind == "f"
    return column.measure.reference.snapped(cells.values) if is_float else cells.values


def _cells_of(X: Any, column: FittedColumn | None) -> Cells:
    assert column is not None
    container = container_of(X)
    position = container.names_of(X).index(column.name)
    return container.cells(X, position, column.kind.is_categorical)
