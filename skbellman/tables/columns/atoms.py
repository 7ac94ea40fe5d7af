"""Numbers of which each value is an atom."""

from __future__ import annotations

from skbellman.tables.columns.base import NumberOfLevels, Values
from skbellman.tables.columns.categorical import CategoricalColumn


class AtomColumn(NumberOfLevels):
    """A number that takes a few values on no grid, or two: each is a level of a category.

    Parameters
    ----------
    atoms : array of shape (n_atoms,)
    """

    def __init__(self, atoms: Values) -> None:
        super().__init__(CategoricalColumn(atoms))
