"""Fitting of each column of the table by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skbellman.notices import warn
from skbellman.tables.columns.choose import (
    Numbers,
    column_of_levels,
    column_of_numbers,
)
from skbellman.tables.columns.identifier import IdentifierColumn
from skbellman.tables.containers import Container
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.kinds import NUMBERS, Cells
from skbellman.tables.levels import exact_levels, levels_of
from skbellman.tables.looks import what_text_looks_like
from skbellman.tables.reading import check_finite


@dataclass(frozen=True)
class ColumnLearner:
    """Fit columns of a table, one at a time.

    Parameters
    ----------
    container : Container
        Container of the table.
    max_categories : int
    dequantize : bool
    atom_share : float or "auto"
    is_first : array of bool, shape (n,), or None
        Whether a row differs from all rows before it; None if that does not matter.
    largest : float, default=1e306
        Largest value of a column, so that ranges and steps beyond an end do not overflow.
    """

    container: Container
    max_categories: int
    dequantize: bool
    atom_share: Any
    is_first: np.ndarray | None
    largest: float = 1e306

    def learn(
        self, X: Any, j: int, declared: bool | None, is_name: bool | None = None
    ) -> tuple[FittedColumn, np.ndarray]:
        """Return the fitted column j, and its values.

        ``declared`` says whether it holds categories; with None its dtype decides. ``is_name`` says
        whether it holds identifiers; with None its values decide.
        """
        name = self.container.names[j]
        cells = self.container.cells(X, j, bool(declared))
        present = ~cells.missing
        if not present.any():
            raise ValueError(f"Column {name!r} holds no value (all are missing): drop it.")
        if is_name:
            return self._of_names(name, j, cells, present)
        if not cells.kind.is_categorical:
            return self._of_numbers(name, j, cells, present)
        if declared is False:
            raise ValueError(
                f"Column {name!r} holds categories but is not among "
                'categorical_features: add it, or use categorical_features="from_dtype".'
            )
        levels, first = levels_of(cells.values if present.all() else cells.values[present])
        may_name = declared is None and is_name is None and cells.kind.is_text
        if may_name and self._are_names(levels, int(present.sum())):
            warn(
                f"Column {name!r} holds text that differs in nearly every row. It counts as an "
                "identifier, which has no part in the density and is sampled anew. Name it in "
                "TableEncoder(identifiers=) to avoid this warning, or drop it."
            )
            return self._of_names(name, j, cells, present)
        self._check_levels(name, levels, cells.kind.is_text)
        palette = self.container.palette(X, j, np.flatnonzero(present)[first])
        column = column_of_levels(levels)
        return FittedColumn(name, j, cells.kind, column, palette=palette), cells.values

    def _are_names(self, levels: np.ndarray, n_rows: int, nearly_all: float = 0.9) -> bool:
        """Return whether text identifies rows, and is not dates or numbers read as text."""
        if len(levels) <= self.max_categories or len(levels) < nearly_all * n_rows:
            return False
        texts = levels.tolist()
        are_codes = len(set(map(len, texts))) == 1 and all(map(str.isdecimal, texts))
        return are_codes or not what_text_looks_like(levels)

    def _of_names(
        self, name: Any, j: int, cells: Cells, present: np.ndarray
    ) -> tuple[FittedColumn, np.ndarray]:
        """Return a column of identifiers."""
        check_finite(name, cells)
        values, plain = cells.numbers(), cells.kind.plain(cells.values[present])
        if cells.kind.is_categorical:
            are_names = all(type(value) is str for value in values[present].tolist())
        else:
            are_names = cells.kind.held == NUMBERS and bool(
                (values[present] == np.rint(values[present])).all()
            )
        if not are_names:
            raise ValueError(
                f"Column {name!r} is in identifiers, but does not hold only text or whole numbers. "
                "Remove it from identifiers, or convert it."
            )
        return FittedColumn(name, j, cells.kind, IdentifierColumn(plain)), values

    def _of_numbers(
        self, name: Any, j: int, cells: Cells, present: np.ndarray
    ) -> tuple[FittedColumn, np.ndarray]:
        kind, is_whole = cells.kind, present.all()
        held = cells.values if is_whole else cells.values[present]
        kind.learn(held)
        values = cells.numbers()
        check_finite(name, cells)
        numbers = values if is_whole else values[present]
        self._check_magnitude(name, numbers)
        bounds = kind.number_bounds
        is_first = None if self.is_first is None else self.is_first[present]
        looked_at = Numbers(
            numbers,
            kind.precision,
            bounds,
            self.dequantize,
            self.atom_share,
            is_first,
        )
        column = column_of_numbers(looked_at)
        exact = exact_levels(column, kind, numbers, held)
        return FittedColumn(name, j, kind, column, exact=exact), values

    def _check_magnitude(self, name: Any, numbers: np.ndarray) -> None:
        ends = numbers.min(), numbers.max()
        extreme = max(ends, key=abs)
        if abs(extreme) > self.largest and ends[0] != ends[1]:
            raise ValueError(
                f"Column {name!r} holds {extreme:g}, so large that sums overflow: divide the "
                "column by a constant, or correct the value."
            )

    def _check_levels(self, name: Any, levels: np.ndarray, are_text: bool) -> None:
        """Refuse too many levels, and warn of text that looks like something else."""
        hint = what_text_looks_like(levels) if are_text else ""
        if len(levels) > self.max_categories:
            may_name = all(type(level) in (str, int) for level in levels.tolist())
            remedies = (
                f"name it in TableEncoder(identifiers=){'' if may_name else ', as text,'} if it is "
                "an identifier, group rare categories, or raise"
            )
            remedies = f"it holds text that {hint}, {remedies}" if hint else remedies
            raise ValueError(
                f"Column {name!r} has {len(levels)} categories, more than "
                f"max_categories={self.max_categories}: {remedies} max_categories."
            )
        if hint:
            warn(
                f"Column {name!r} holds text that {hint}, or declare it, with "
                "astype('category'), if it is an identifier."
            )
