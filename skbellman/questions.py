"""The parameters ``columns`` and ``given`` of a fitted density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals.stable.v2 as nw
from scipy.sparse import issparse

from skbellman.tables import Cells
from skbellman.validation import validate_table


def given_cells(density: Any, given: Any) -> list[Cells]:
    """Return the cells of each column, missing where they are not given."""
    encoder = density.encoder_
    if isinstance(given, Mapping) and not issparse(given):  # some sparse matrices are
        check_names(density, list(given), "given")
    elif nw.dependencies.is_into_dataframe(given) and not encoder.goes_by_position(given):
        check_names(density, nw.from_native(given).columns, "given")
    else:
        given = validate_table(density, given, reset=False)
    cells: list[Cells] = encoder.read_given(given)
    if not len(cells[0].missing):
        raise ValueError("given holds no row.")
    values = [c.numbers() for c in cells]
    encoder.check_holdable(values)
    encoder.check_known(values)
    return cells


def asked_columns(
    density: Any, X: Any, columns: Sequence[Any] | None, given: Sequence[Any] | None
) -> tuple[Any, list[Any], list[Any]]:
    """Return the table, the names in ``columns`` and the names in ``given``."""
    encoder = density.encoder_
    if columns is None and given is None:
        return validate_table(density, X, reset=False), encoder.names, []
    conditions: Sequence[Any] = [] if given is None else given
    check_names(density, conditions, "given")
    if columns is None:
        columns = [name for name in encoder.names if name not in conditions]
    check_names(density, columns, "columns")
    asked, conditions = list(columns), list(conditions)
    if both := [name for name in asked if name in conditions]:
        raise ValueError(f"{both} are both among columns and among given.")
    if not asked:
        raise ValueError("no column is left to score: columns is empty, or given names them all.")
    if not nw.dependencies.is_into_dataframe(X) or encoder.goes_by_position(X):
        return validate_table(density, X, reset=False), asked, conditions
    if absent := [name for name in [*asked, *conditions] if name not in list(X.columns)]:
        raise ValueError(f"X lacks the columns {absent}, which are in columns or given.")
    if not len(X):
        raise ValueError("X holds no row.")
    return X, asked, conditions


def check_names(density: Any, names: Sequence[Any], parameter: str) -> None:
    """Refuse names in a parameter that are not columns of the table."""
    if isinstance(names, str):
        raise ValueError(f"{parameter} is a single name: write {parameter}=[{names!r}].")
    if isinstance(names, Mapping) or nw.dependencies.is_into_dataframe(names):
        raise ValueError(f"{parameter} takes names of columns, whose values X holds.")
    known = density.encoder_.names
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"{parameter} names {unknown}, which the fitted table does not have: its columns "
            f"are {known}."
        )
