"""A column of the fitted table: its kind, its coordinates, and cells made of codes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from skbellman.tables.columns.base import Codes, Column, Values
from skbellman.tables.containers import Container
from skbellman.tables.kinds import Cells, Kind, hide, is_missing
from skbellman.tables.levels import ExactLevels
from skbellman.tables.measures import ColumnMeasure, Lebesgue
from skbellman.tables.reading import too_fine

if TYPE_CHECKING:
    from skbellman.tables.columns.identifier import IdentifierColumn


@dataclass(frozen=True)
class FittedColumn:
    """A column of the fitted table.

    Parameters
    ----------
    name : object
    position : int
        Position in the table.
    kind : Kind
        The kind of its cells.
    column : Column
        The map to its coordinates.
    palette : object
        For a category, a cell of each level, as the container holds it.
    exact : ExactLevels or None
        For numbers, the cells that a double cannot distinguish.
    """

    name: Any
    position: int
    kind: Kind
    column: Column
    palette: Any = None
    exact: ExactLevels | None = None

    @property
    def measure(self) -> ColumnMeasure:
        """The reference measure of the scores of the column."""
        reference = self.column.measure
        # Length does not depend on the origin.
        unit = self.kind.held if reference == Lebesgue() else self.kind.number_unit
        return ColumnMeasure(self.name, reference, unit, self.kind.held)

    def known(self, values: Values) -> Values:
        """Return the values, missing where they are none that the column can take."""
        hidden = is_missing(values)
        hidden[~hidden] = ~self.column.takes(values[~hidden])
        return hide(values, hidden)

    def check_known(self, values: Values, remedy: str = "", n_shown: int = 8) -> None:
        """Refuse new values, if the column takes only the fitted ones."""
        present = values[~is_missing(values)]
        unknown, levels = present[~self.column.takes(present)].tolist(), self.column.only_levels
        if unknown and levels is not None:
            show = repr if self.kind.is_categorical else self.kind.shown
            shown = ", ".join(map(show, levels[:n_shown].tolist()))
            more = ", ..." if len(levels) > n_shown else ""
            raise ValueError(
                f"Column {self.name!r} holds {show(unknown[0])}, which was not in the fitted "
                f"table: that held {shown}{more}.{remedy}"
            )

    def beyond(self, values: Values) -> np.ndarray:
        """Return the numbers that lie beyond a bound of the column."""
        if self.kind.is_categorical or self.column.is_fresh:
            return np.empty(0)
        present = values[~is_missing(values)]
        return present[self.column.beyond(present)]

    def check_holdable(self, values: Values) -> None:
        """Refuse numbers between those that the dtype of the column holds."""
        unit = self.kind.unit[0]
        if self.kind.is_categorical or not unit:
            return
        present = values[~is_missing(values)]
        # A rounding error is not a fraction of a unit.
        gaps = np.abs(present - np.rint(present / unit) * unit)
        between = present[gaps > 2 * np.spacing(np.abs(present))]
        if len(between):
            raise too_fine(self.name, self.kind, self.kind.shown(float(between[0])))

    def restored(
        self, container: Container, codes: Codes, given: Cells | None, seed: int = 0
    ) -> Any:
        """Return the column of a table, from given cells where there are any, else from codes.

        The seed is that of new identifiers.
        """
        if self.column.is_fresh:
            return self._named(container, len(codes), given, seed)
        if self.kind.is_categorical:
            return container.painted(self.palette, codes)
        numbers = self.column.values_of(codes)
        cells = self.kind.drawn(numbers)
        if self.exact is not None:
            cells = self.exact.exact(numbers, cells)
        if given is not None:
            cells = np.where(given.missing, cells, given.values)
        return container.column(self.position, self.kind, cells)

    def avoiding(self, cells: Cells) -> FittedColumn:
        """Return the column, whose new identifiers, if it has any, are none of some cells."""
        if not self.column.is_fresh:
            return self
        named = cast("IdentifierColumn", self.column)
        column = named.avoiding(cells.kind.plain(cells.values[~cells.missing]))
        return self if column is named else replace(self, column=column)

    def cells_of_names(self, values: Values) -> np.ndarray:
        """Return cells of identifiers, text or whole numbers."""
        cells, fits = self.kind.take(values)
        if not fits.all():
            raise ValueError(
                f"Column {self.name!r} holds identifiers, but its dtype holds "
                f"{self.kind.limits()}, and no {len(values)} new whole numbers: use a wider dtype."
            )
        return cells

    def _named(self, container: Container, n_rows: int, given: Cells | None, seed: int) -> Any:
        """Return a column of new names of rows, but where names are given."""
        named = cast("IdentifierColumn", self.column)
        missing = np.ones(n_rows, dtype=bool) if given is None else given.missing
        rng = np.random.default_rng([seed, self.position])
        if given is not None:
            named = named.avoiding(self.kind.plain(given.values[~missing]))
        cells = self.cells_of_names(named.fresh(int(missing.sum()), rng))
        if given is not None:
            kept = given.values.astype(cells.dtype)
            kept[missing] = cells
            cells = kept
        return container.column(self.position, self.kind, cells)
