"""Numbers of which each value is an atom."""

from __future__ import annotations

import numpy as np

from skbellman.tables.columns.base import Codes, Column, DividedColumn, Values
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.measures import Levels, Reference


class AtomColumn(DividedColumn):
    """A number that takes a few values on no grid, or two: each is a level of a category.

    Parameters
    ----------
    atoms : array of shape (n_atoms,)
    """

    holds_numbers = True

    def __init__(self, atoms: Values) -> None:
        self.levels = atoms
        self.which = CategoricalColumn(np.arange(len(atoms), dtype=np.float64))
        self.n_dims = self.which.n_dims

    @property
    def measure(self) -> Reference:
        return Levels(tuple(self.levels.tolist()))

    @property
    def only_levels(self) -> Values:
        return self.levels

    @property
    def parts(self) -> list[Column]:
        return [self.which]

    def divide(self, values: Values) -> list[Values]:
        # The column takes atoms only.
        code = np.full(len(values), -1.0)
        for k, atom in enumerate(self.levels):
            code[values == atom] = k
        return [np.where(np.isnan(values), np.nan, code)]

    def join(self, decoded: list[Codes]) -> Codes:
        return self.levels[decoded[0].astype(np.int64)]
