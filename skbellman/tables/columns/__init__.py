"""Kinds of columns, one a file; `base` says what a column is, `choose` which kind values make."""

from skbellman.tables.columns.atoms import AtomColumn
from skbellman.tables.columns.base import Column, Nodes
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.columns.counted import CountedColumn, LevelsOnALine
from skbellman.tables.columns.identifier import IdentifierColumn
from skbellman.tables.columns.numeric import NumericColumn
from skbellman.tables.columns.tallied import TalliedColumn

__all__ = [
    "AtomColumn",
    "CategoricalColumn",
    "Column",
    "CountedColumn",
    "IdentifierColumn",
    "LevelsOnALine",
    "Nodes",
    "NumericColumn",
    "TalliedColumn",
]
