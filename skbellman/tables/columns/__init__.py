"""Kinds of columns, one in each file. `base` defines a column; `choose` selects its kind."""

from skbellman.tables.columns.atoms import AtomColumn
from skbellman.tables.columns.base import Column, Nodes
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.columns.counted import CountedColumn, LevelsOnALine
from skbellman.tables.columns.identifier import IdentifierColumn
from skbellman.tables.columns.numeric import NumericColumn
from skbellman.tables.columns.ranked import RankedColumn

__all__ = [
    "AtomColumn",
    "CategoricalColumn",
    "Column",
    "CountedColumn",
    "IdentifierColumn",
    "LevelsOnALine",
    "Nodes",
    "NumericColumn",
    "RankedColumn",
]
