"""What the log-density of a table is relative to: a reference measure for each column.

A stand-in until encoders know their measures themselves; it reads them off the fitted columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from skbellman.tables.columns import AtomColumn, Column, NumericColumn
from skbellman.tables.encoder import TableEncoder
from skbellman.tables.kinds import NUMBERS
from skbellman.tables.tallied import CountedColumn

# Share of a value, or of a step, that arithmetic may have moved it.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ColumnMeasure:
    """The reference measure of one column.

    A level or an atom has a probability. Any other number has a density per unit; on a grid that is
    the probability of its step divided by the step.

    Parameters
    ----------
    name : Any
    held : str
        "numbers", "categories", or what else the column holds.
    levels : tuple or None
        The only values that the column takes, each with a probability; None if it takes others.
    step : float
        Of the grid; 0 without one.
    phase : float
        Share of a step by which the grid misses 0.
    atoms : tuple of float
        Values with a probability in a column that has a density elsewhere.
    origin : float
        A point of the grid.
    """

    name: Any
    held: str = NUMBERS
    levels: tuple[Any, ...] | None = None
    step: float = 0.0
    phase: float = 0.0
    atoms: tuple[float, ...] = ()
    origin: float = field(default=0.0, compare=False)

    @classmethod
    def on_grid(cls, name: Any, step: float, origin: float, **fields: Any) -> ColumnMeasure:
        """Return the measure of a grid, or of the line where the step is 0."""
        phase = round(origin / step % 1, 5) % 1 if step else 0.0
        return cls(name, step=_rounded(step), phase=phase, origin=origin, **fields)

    def is_per_unit(self, values: np.ndarray) -> np.ndarray:
        """Return which numbers have a density per unit, and not a probability."""
        if self.levels is not None:
            return np.zeros(len(values), dtype=bool)
        return ~np.isin(values, self.atoms)

    def snapped(self, values: np.ndarray) -> np.ndarray:
        """Return numbers, those on atoms, levels or the grid but for rounding moved onto them."""
        values = self._on_grid(values)
        for point in (*self.atoms, *(self.levels or ())):
            values = np.where(np.isclose(values, point, rtol=1e-9, atol=0.0), point, values)
        return values

    def _on_grid(self, values: np.ndarray) -> np.ndarray:
        if not self.step:
            return values
        n_steps = (values - self.origin) / self.step
        nearest = self.origin + np.rint(n_steps) * self.step
        return np.where(np.abs(n_steps - np.rint(n_steps)) < _ROUNDING, nearest, values)

    def rescaled(self, scale: float, shift: float) -> ColumnMeasure:
        """Return the measure of scale * x + shift."""

        def moved(points: Sequence[float]) -> tuple[float, ...]:
            return tuple(sorted(_rounded(scale * point + shift) for point in points))

        levels = None if self.levels is None else moved(self.levels)
        grid = self.on_grid(self.name, abs(scale) * self.step, scale * self.origin + shift)
        return replace(grid, held=self.held, levels=levels, atoms=moved(self.atoms))


Measure = tuple[ColumnMeasure, ...]


def measure_of(encoder: TableEncoder) -> Measure:
    """Return the reference measures of the columns of a fitted encoder.

    Examples
    --------
    >>> import pandas as pd
    >>> from skbellman.tables import TableEncoder
    >>> from skbellman.tables.references import measure_of
    >>> encoder = TableEncoder().fit(pd.DataFrame({"n": [1, 4, 2, 6], "c": ["a", "b", "a", "b"]}))
    >>> [(column.name, column.step, column.levels) for column in measure_of(encoder)]
    [('n', 1.0, None), ('c', 0.0, ('a', 'b'))]
    """
    kinds = encoder.reader_.kinds
    columns = zip(encoder.names, kinds, encoder.columns_, strict=True)
    return tuple(replace(_measure(name, column), held=kind.held) for name, kind, column in columns)


def _measure(name: Any, column: Column) -> ColumnMeasure:
    match column:
        case CountedColumn(which=which):
            return ColumnMeasure.on_grid(name, which.step, float(which.levels[0]))
        case AtomColumn(atoms=atoms, rest=NumericColumn() as rest):
            points = tuple(float(atom) for atom in atoms)
            return ColumnMeasure.on_grid(name, rest.step, rest.low, atoms=points)
        case NumericColumn(step=step, low=low):
            return ColumnMeasure.on_grid(name, step, low)
    levels = column.only_levels
    return ColumnMeasure(name, levels=None if levels is None else tuple(levels.tolist()))


def _rounded(value: float) -> float:
    """Return a number to twelve digits, so that equal units compare equal."""
    return float(f"{value:.12g}")
