"""Numbers with point masses (atoms): values that each hold a share of the column."""

from __future__ import annotations

import numpy as np

from skbellman.tables.columns.base import Codes, Column, DividedColumn, Values
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.columns.numeric import NumericColumn
from skbellman.tables.measures import AtomsBeside, Levels, Reference


class AtomColumn(DividedColumn):
    """A number with atoms (values that each hold a share of the column) and a density of the rest.

    A category says which atom a row is at, if any. A number holds the value of all other rows; at
    an atom it is missing. So a row at an atom scores a probability, and other rows score a density.

    Parameters
    ----------
    atoms : array of shape (n_atoms,)
    rest : NumericColumn or None
        Column of the other values; None if there are none.
    """

    holds_numbers = True

    def __init__(self, atoms: Values, rest: NumericColumn | None) -> None:
        self.atoms, self.rest = atoms, rest
        n_levels = len(atoms) + (rest is not None)
        self.which = CategoricalColumn(np.arange(n_levels, dtype=np.float64))
        self.n_dims = self.which.n_dims + (rest is not None)
        self.is_on_grid = rest is not None and rest.is_on_grid

    @property
    def measure(self) -> Reference:
        atoms = tuple(self.atoms.tolist())
        return Levels(atoms) if self.rest is None else AtomsBeside(atoms, self.rest.measure)

    @property
    def only_levels(self) -> Values | None:
        return self.atoms if self.rest is None else None

    @property
    def drawn_exactly(self) -> Values:
        return self.atoms

    @property
    def parts(self) -> list[Column]:
        return [self.which] if self.rest is None else [self.rest, self.which]

    def divide(self, values: Values) -> list[Values]:
        code = np.full(len(values), np.nan if self.rest is None else float(len(self.atoms)))
        for k, atom in enumerate(self.atoms):
            code[values == atom] = k
        missing = np.isnan(values)
        # Without other values, the column takes atoms only.
        unknown = np.where(np.isnan(code), -1.0, code)
        which = np.where(missing, np.nan, unknown)
        if self.rest is None:
            return [which]
        return [np.where(code < len(self.atoms), np.nan, values), which]

    def join(self, decoded: list[Codes]) -> Codes:
        code = decoded[-1].astype(np.int64)
        if self.rest is None:
            return self.atoms[code]
        return np.where(code < len(self.atoms), np.append(self.atoms, 0.0)[code], decoded[0])

    def spread(self, values: Values, place: np.ndarray | float) -> Values:
        if self.rest is None:
            return values
        return np.where(np.isin(values, self.atoms), values, self.rest.spread(values, place))
