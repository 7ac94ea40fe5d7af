"""Reading of later tables as columns of the fitted one, with errors where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skbellman.tables.containers import Container, container_of
from skbellman.tables.kinds import NUMBERS, Cells, Kind, as_floats, is_gap


class TableReader:
    """The kinds of the fitted columns, and the reading of other tables as such columns.

    Parameters
    ----------
    container : Container
        Container of the fitted table.
    kinds : list of Kind
        Kind of each of its columns.

    Attributes
    ----------
    names : list
        Names of the columns.
    """

    def __init__(self, container: Container, kinds: list[Kind]) -> None:
        self.names, self.kinds = container.names, kinds
        self._has_names = container.has_names

    def read(self, X: Any, columns: Sequence[Any] | None = None) -> list[Cells]:
        """Return the cells of each column; if ``columns`` are given, all others are missing."""
        names = self._names_in(X)
        wanted = self.names if columns is None else columns
        if absent := [name for name in wanted if name not in names]:
            raise ValueError(f"X lacks the columns {absent} of the fitted table.")
        return [
            self._cells(X, j, names.index(name)) if name in wanted else self._gaps(j, len(X))
            for j, name in enumerate(self.names)
        ]

    def read_given(self, X: Any) -> list[Cells]:
        """Return the cells of each column in the dtype of the fitted table; refuse all others."""
        if isinstance(X, Mapping):
            found = [self._parsed(j, X.get(name)) for j, name in enumerate(self.names)]
        else:
            found = self.read(X, self._names_in(X))
        return [self._adopted(j, cells) for j, cells in enumerate(found)]

    def goes_by_position(self, X: Any) -> bool:
        """Say whether columns of X are matched by position, and not by name.

        They are if one of the two tables has no names.
        """
        container = container_of(X)
        if not container.has_names:
            return True
        return not self._has_names and not set(container.names_of(X)) <= set(self.names)

    def _names_in(self, X: Any) -> list[Any]:
        """Return the names of the columns of X, in the order of its columns."""
        return self.names if self.goes_by_position(X) else container_of(X).names_of(X)

    def _cells(self, X: Any, j: int, position: int) -> Cells:
        """Return column j, found at a position of X."""
        cells = container_of(X).cells(X, position, self.kinds[j].is_categorical)
        if cells.missing.all():
            return self._gaps(j, len(cells.missing))
        self._check_same_kind(j, cells)
        check_finite(self.names[j], cells)
        return cells

    def _parsed(self, j: int, value: Any) -> Cells:
        """Return the cell of column j for a single value."""
        if is_gap(value):
            return self._gaps(j, 1)
        cells = self.kinds[j].parse(value)
        if cells is None:
            raise ValueError(
                f"Column {self.names[j]!r} holds {self.kinds[j].held}, not {value!r}: give one of "
                "them."
            )
        return cells

    def _gaps(self, j: int, n_rows: int) -> Cells:
        """Return cells of column j, all of them missing."""
        kind, missing = self.kinds[j], np.ones(n_rows, dtype=bool)
        if kind.is_categorical:
            return Cells(kind, np.full(n_rows, None, dtype=object), missing)
        return Cells(kind, kind.drawn(np.zeros(n_rows)), missing)

    def _adopted(self, j: int, cells: Cells) -> Cells:
        """Return cells as those of the fitted column, and refuse those that it cannot hold."""
        kind = self.kinds[j]
        if kind.is_categorical or cells.missing.all():
            return cells
        present = np.flatnonzero(~cells.missing)
        adopted, fits = kind.adopt(cells.values[present], cells.kind)
        if not fits.all():
            raise self._misfit(j, cells.at(present[~fits]))
        values = self._gaps(j, len(cells.values)).values
        values[present] = adopted
        return Cells(kind, values, cells.missing)

    def _misfit(self, j: int, cells: Cells) -> ValueError:
        """Return the error for the first of some cells that a column cannot hold."""
        kind, plain = self.kinds[j], cells.kind.plain(cells.values[:1])
        if not kind.is_beyond(plain):
            return too_fine(self.names[j], kind, str(plain[0]))
        return ValueError(
            f"The dtype of column {self.names[j]!r} holds {kind.limits()}, so it cannot hold "
            f"{plain[0]}: fit the column with a wider dtype."
        )

    def _check_same_kind(self, j: int, cells: Cells) -> None:
        """Refuse dates in a column of numbers and the reverse; zones must agree too."""
        then, now = self.kinds[j].held, cells.kind.held
        if now == then:
            return
        if cells.kind.is_categorical:
            first = cells.values[~cells.missing][0]
            was = "was numeric" if then == NUMBERS else f"held {then}"
            raise ValueError(
                f"Column {self.names[j]!r} holds {first!r} but {was} in fit: convert it."
            )
        raise ValueError(
            f"Column {self.names[j]!r} holds {now}, but held {then} in fit: convert it."
        )


def check_finite(name: Any, cells: Cells) -> None:
    """Refuse infinite numbers of a column."""
    if cells.kind.held != NUMBERS or cells.values.dtype.kind not in "fO":
        return
    present = np.flatnonzero(~cells.missing)
    numbers = as_floats(cells.values[present])
    if np.isinf(numbers).any():
        first = int(np.isinf(numbers).argmax())
        raise ValueError(
            f"Column {name!r} holds the infinite value {numbers[first]} in row {present[first]}: "
            "replace it or drop the row."
        )


def too_fine(name: Any, kind: Kind, shown: str) -> ValueError:
    """Return the error for a value between those that a column can hold."""
    return ValueError(
        f"Column {name!r} holds {kind.unit[1]}, so it cannot hold {shown}: round it, or fit the "
        "column as finer."
    )
