"""A column of the fitted table: what it holds, its coordinates, and how cells are made of codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skbellman.tables.columns.base import Codes, Column, Values
from skbellman.tables.containers import Container
from skbellman.tables.kinds import Cells, Kind, hide, is_missing
from skbellman.tables.levels import ExactLevels
from skbellman.tables.measures import ColumnMeasure, Lebesgue
from skbellman.tables.reading import too_fine


@dataclass(frozen=True)
class FittedColumn:
    """A column of the fitted table.

    Parameters
    ----------
    name : object
    position : int
        In the table.
    kind : Kind
        What its cells are.
    column : Column
        What its coordinates are.
    palette : object
        Of a category, a cell of each level, as the container holds it.
    exact : ExactLevels or None
        Of numbers, the cells that a double cannot tell.
    """

    name: Any
    position: int
    kind: Kind
    column: Column
    palette: Any = None
    exact: ExactLevels | None = None

    @property
    def measure(self) -> ColumnMeasure:
        """What scores of the column are densities with respect to."""
        reference = self.column.measure
        # Length is the same from wherever it is counted.
        unit = self.kind.held if reference == Lebesgue() else self.kind.number_unit
        return ColumnMeasure(self.name, reference, unit, self.kind.held)

    def known(self, values: Values) -> Values:
        """Return the values, missing where they are none that the column can take."""
        hidden = is_missing(values)
        hidden[~hidden] = ~self.column.takes(values[~hidden])
        return hide(values, hidden)

    def check_known(self, values: Values, remedy: str = "", n_shown: int = 8) -> None:
        """Refuse values that were not there in fit, if the column takes no others."""
        present = values[~is_missing(values)]
        unknown, levels = present[~self.column.takes(present)].tolist(), self.column.only_levels
        if unknown and levels is not None:
            show = repr if self.kind.is_categorical else self.kind.shown
            shown = ", ".join(map(show, levels[:n_shown].tolist()))
            more = ", ..." if len(levels) > n_shown else ""
            raise ValueError(
                f"Column {self.name!r} holds {show(unknown[0])}, which was not there in fit, "
                f"among {shown}{more}.{remedy}"
            )

    def check_holdable(self, values: Values) -> None:
        """Refuse numbers between those that the dtype of the column holds."""
        unit = self.kind.unit[0]
        if self.kind.is_categorical or not unit:
            return
        present = values[~is_missing(values)]
        # What is left by rounding alone is no fraction of a unit.
        gaps = np.abs(present - np.rint(present / unit) * unit)
        between = present[gaps > 2 * np.spacing(np.abs(present))]
        if len(between):
            raise too_fine(self.name, self.kind, self.kind.shown(between[0]))

    def restored(self, container: Container, codes: Codes, given: Cells | None) -> Any:
        """Return the column of a table, with the cells that are given and else those of codes."""
        if self.kind.is_categorical:
            return container.painted(self.palette, codes)
        numbers = self.column.values_of(codes)
        cells = self.kind.drawn(numbers)
        if self.exact is not None:
            cells = self.exact.exact(numbers, cells)
        if given is not None:
            cells = np.where(given.missing, cells, given.values)
        return container.column(self.position, self.kind, cells)
