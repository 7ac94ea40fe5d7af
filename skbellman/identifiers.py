"""Identifiers of rows that are drawn part by part: none was in a table, and none is there twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.tables import TableEncoder
from skbellman.tables.columns.identifier import IdentifierColumn
from skbellman.tables.containers import container_of
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.kinds import is_gap


class NewIdentifiers:
    """Gives new identifiers to rows, and never one twice.

    Each part of a density draws its own identifiers, and so does each round of rejection: those of
    two parts, or of two rounds, may be the same.

    Parameters
    ----------
    densities : sequence of densities
        No identifier was in a table that one of them, or a part of it, was fitted to.
    rng : RandomState
        Seeds the identifiers. It is left alone where there are none.
    """

    def __init__(self, densities: Sequence[Any], rng: np.random.RandomState) -> None:
        encoders = [encoder for density in densities for encoder in encoders_of(density)]
        self._fitted = [f for e in encoders[:1] for f in e.fitted_ if f.column.is_fresh]
        self._encoders = encoders
        self._columns = {f.position: self._of_all(f.position) for f in self._fitted}
        self._rng = np.random.default_rng(rng.randint(2**31) if self._fitted else 0)

    def __call__(self, X: Any, given: Any = None) -> Any:
        """Return a table that was drawn with new identifiers, except where they were given.

        ``given`` is a mapping, or a table whose rows each stand for as many rows of X.
        """
        for fitted in self._fitted:
            X = self._renamed(X, fitted, self._are_free(fitted.name, given, len(X)))
        return X

    def _of_all(self, position: int) -> IdentifierColumn:
        """Return a column whose new values were in no table of any encoder."""
        first, *others = (cast("IdentifierColumn", e.columns_[position]) for e in self._encoders)
        for other in others:
            first = first.avoiding_those_of(other)
        return first

    def _renamed(self, X: Any, fitted: FittedColumn, free: np.ndarray) -> Any:
        position, container = fitted.position, self._encoders[0].container_
        cells = container.cells(X, position, fitted.kind.is_categorical)
        given = cells.at(np.flatnonzero(~free & ~cells.missing))
        column = self._columns[position].avoiding(given.kind.plain(given.values))
        new = column.fresh(int(free.sum()), self._rng)
        self._columns[position] = column.avoiding(new)
        values = fitted.cells_of_names(new)
        if not free.all():
            kept = cells.values.astype(values.dtype)
            kept[free] = values
            values = kept
        made = container.column(position, fitted.kind, values)
        if cells.missing.any():
            made = container.with_gaps(made, cells.missing)
        return container.with_column(X, position, made)

    def _are_free(self, name: Any, given: Any, n_rows: int) -> np.ndarray:
        """Return which rows were given no value of a column."""
        is_frame = nw.dependencies.is_into_dataframe(given)
        if given is None or (hasattr(given, "keys") and not is_frame):
            return np.full(n_rows, is_gap((given or {}).get(name)))
        table = given if is_frame else np.asarray(given)
        container, encoder = container_of(table), self._encoders[0]
        by_position = encoder.goes_by_position(table)
        names = encoder.names if by_position else container.names_of(table)
        if name not in names:
            return np.ones(n_rows, dtype=bool)
        missing = container.cells(table, names.index(name), True).missing
        return missing.repeat(n_rows // len(missing))


def encoders_of(density: Any) -> list[TableEncoder]:
    """Return the encoders of the fitted densities that a density is made of."""
    if hasattr(density, "_parts_drawn_from"):
        return [e for part in density._parts_drawn_from() for e in encoders_of(part)]
    return [density.encoder_] if hasattr(density, "encoder_") else []
