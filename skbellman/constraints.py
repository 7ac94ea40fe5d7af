"""Constraints on drawn rows: inequalities between columns, known combinations, uniqueness.

Rows that break a constraint are drawn again, so that the others follow the density restricted to
those that keep it.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils import check_random_state

from skbellman.identifiers import NewIdentifiers
from skbellman.rejection import accepted_for_each, accepted_rows
from skbellman.restrictions import fitted_part
from skbellman.tables import TableEncoder
from skbellman.tables.containers import container_of
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.kinds import Cells
from skbellman.validation import check_count

Mask = Callable[[Any], np.ndarray]

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq,
    "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_ASKING = re.compile("|".join(_OPERATORS))


class Constrained(NamedTuple):
    """Rows that keep constraints.

    Parameters
    ----------
    table : DataFrame or ndarray
    acceptance : float
        Share of the draws that kept them.
    """

    table: Any
    acceptance: float


class KnownCombinations:
    """Rows whose values of some columns are together in a row of a table.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_features)
        Usually the table of the fit.
    columns : sequence of names, or of positions for an array
        The columns that are looked at together.

    Examples
    --------
    >>> import pandas as pd
    >>> from skbellman.constraints import KnownCombinations
    >>> df = pd.DataFrame({"city": ["Oslo", "Lyon"], "country": ["NO", "FR"]})
    >>> KnownCombinations(df, ["city", "country"])(df.assign(country="FR"))
    array([False,  True])
    """

    def __init__(self, X: Any, columns: Sequence[Any]) -> None:
        self.columns = list(columns)
        self._known = set(_keys(X, self.columns))

    def __call__(self, X: Any) -> np.ndarray:
        """Return which rows are so."""
        return np.array([key in self._known for key in _keys(X, self.columns)], dtype=bool)


@dataclass(frozen=True)
class Unique:
    """No two drawn rows have the same values of some columns.

    Parameters
    ----------
    columns : sequence of names, or of positions for an array
        The columns that are looked at together.

    Examples
    --------
    >>> from skbellman.constraints import Unique
    >>> Unique(["name", "birthday"])
    Unique(columns=['name', 'birthday'])
    """

    columns: Sequence[Any]

    def watched(self) -> Mask:
        """Return a mask of the rows that are new, which remembers those that it has seen."""
        seen: set[tuple[Any, ...]] = set()

        def is_new(X: Any) -> np.ndarray:
            mask = np.ones(len(X), dtype=bool)
            for row, key in enumerate(_keys(X, list(self.columns))):
                mask[row] = key not in seen
                seen.add(key)
            return mask

        return is_new


def sample_constrained(
    density: Any,
    n_samples: int = 1,
    constraints: Iterable[Any] = (),
    random_state: Any = None,
    **settings: Any,
) -> Constrained:
    """Draw rows that keep constraints, and say how many of the draws did.

    Parameters
    ----------
    density : fitted density
        Any with ``sample``, of the algebra too.
    n_samples : int, default=1
        At least 1. With a table of conditions, so many rows for each of its rows.
    constraints : iterable of str, callable, KnownCombinations or Unique
        Text compares a column with another or with a value: ``"start <= end"``, ``"age >= 18"``;
        it holds where either is missing. A callable takes a table and returns a mask of its rows.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws.
    **settings : dict
        Arguments of ``density.sample``, such as ``given``.

    Returns
    -------
    constrained : Constrained
        With ``table`` and ``acceptance``.

    Raises
    ------
    ValueError
        If a constraint names an unknown column, or compares what cannot be compared; if fewer than
        one draw of a thousand keeps them.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.constraints import sample_constrained
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
    >>> table, acceptance = sample_constrained(density, 20, ["a <= b"], random_state=0)
    >>> bool((table["a"] <= table["b"]).all()), 0.2 < acceptance < 0.8
    (True, True)
    """
    n_samples, rng = check_count("n_samples", n_samples), check_random_state(random_state)
    constraints = list(constraints)
    keeps = _all_of(constraints, fitted_part(density).encoder_)
    reason = (
        f"hardly any row keeps the constraints {constraints}. Loosen one, or ask for part of it by "
        "given, with ranges and lists."
    )

    # Before rows are looked at: a constraint may be on identifiers.
    renamed = NewIdentifiers([density], rng)

    def draw(n_rows: int, given: Any) -> Any:
        seed = int(rng.randint(2**31))
        drawn = density.sample(n_rows, random_state=seed, **{**settings, "given": given})
        return renamed(drawn, given)

    given = settings.get("given")
    if given is None or (hasattr(given, "keys") and not nw.dependencies.is_into_dataframe(given)):
        return Constrained(*accepted_rows(lambda n: draw(n, given), keeps, n_samples, reason))
    table = given if nw.dependencies.is_into_dataframe(given) else np.asarray(given)
    container, rows = container_of(table), np.arange(len(table)).repeat(n_samples)
    return Constrained(
        *accepted_for_each(
            lambda at: draw(1, container.taken(table, rows[at])), keeps, len(rows), reason
        )
    )


def warn_of_few(acceptance: float, least: float = 0.1) -> None:
    """Warn where most draws break the constraints."""
    if acceptance < least:
        warnings.warn(
            f"{acceptance:.1%} of the draws kept the constraints: ask for part of them by given, "
            "with ranges and lists, to be faster.",
            UserWarning,
            stacklevel=4,
        )


def _all_of(constraints: list[Any], encoder: TableEncoder) -> Mask:
    """Return a mask of the rows that keep all constraints."""
    masks = [
        _comparison(constraint, encoder) if type(constraint) is str else constraint
        for constraint in constraints
        if not hasattr(constraint, "watched")
    ]
    if wrong := [mask for mask in masks if not callable(mask)]:
        raise ValueError(f"{wrong[0]!r} is no constraint: give text, a callable, or Unique.")
    # Last: only rows that keep all others are to be remembered.
    watched = [constraint.watched() for constraint in constraints if hasattr(constraint, "watched")]

    def keeps(X: Any) -> np.ndarray:
        kept = np.ones(len(X), dtype=bool)
        for mask in masks:
            kept &= _checked(mask, X)
        for mask in watched:
            rows = np.flatnonzero(kept)
            kept[rows] = mask(container_of(X).taken(X, rows))
        return kept

    return keeps


def _checked(mask: Mask, X: Any) -> np.ndarray:
    """Return what a mask says of the rows of a table, which has to be one truth value for each."""
    found = np.asarray(mask(X))
    if found.shape != (len(X),) or found.dtype != bool:
        raise ValueError(
            f"the constraint {mask!r} returned {found.dtype} of shape {found.shape} for a table of "
            f"{len(X)} rows: return one bool for each."
        )
    return found


def _comparison(text: str, encoder: TableEncoder) -> Mask:
    """Return the mask that a text such as "start <= end" stands for."""
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
    second = _literal(text, left, sides[1]) if right is None else partial(_cells, column=right)

    def mask(X: Any) -> np.ndarray:
        one, two = _cells(X, left), second(X)
        with np.errstate(invalid="ignore"):
            holds = _OPERATORS[sign](one.values, two.values)
        return np.asarray(holds, dtype=bool) | one.missing | two.missing

    return mask


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


def _literal(text: str, column: FittedColumn, side: str) -> Callable[[Any], Cells]:
    """Return the value that a text compares a column with, whatever the table.

    It is of the type of the column's cells, where they can hold it: a float is hardly ever a
    decimal.
    """
    cells = column.kind.parse(_value_of(side, column.kind.is_categorical))
    if cells is None:
        raise ValueError(
            f"the constraint {text!r} compares column {column.name!r}, which holds "
            f"{column.kind.held}, with {side!r}, which is none of them, and no column either."
        )
    own, fits = column.kind.adopt(cells.values, cells.kind)
    held = cells._replace(values=own) if fits.all() else cells
    return lambda X: held


def _value_of(side: str, is_category: bool) -> Any:
    """Return what a text stands for: itself, or a value of Python."""
    value: Any = side
    with suppress(ValueError, SyntaxError):
        value = ast.literal_eval(side)
    is_fraction = type(value) is float and not is_category
    return Decimal(side.replace(" ", "")) if is_fraction else value


def _cells(X: Any, column: FittedColumn) -> Cells:
    position = container_of(X).names_of(X).index(column.name)
    return container_of(X).cells(X, position, column.kind.is_categorical)


def _keys(X: Any, columns: list[Any]) -> list[tuple[Any, ...]]:
    """Return the values of some columns of each row, None where they are missing."""
    container = container_of(X)
    names = container.names_of(X)
    if unknown := [name for name in columns if name not in names]:
        raise ValueError(f"a constraint names {unknown}, which are no columns: these are {names}.")
    found = []
    for name in columns:
        cells = container.cells(X, names.index(name), False)
        pairs = zip(cells.values.tolist(), cells.missing.tolist(), strict=True)
        found.append([None if gap else value for value, gap in pairs])
    return list(zip(*found, strict=True))
