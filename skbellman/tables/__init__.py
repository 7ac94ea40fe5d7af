"""From frames and arrays to matrices and back: columns, grids, categories, log-Jacobians.

This package uses numpy and narwhals. It does not know torch, fields or estimators.
"""

from skbellman.tables.columns import CategoricalColumn
from skbellman.tables.encoder import TableEncoder
from skbellman.tables.kinds import Cells, hide, is_missing
from skbellman.tables.measures import same_measure
from skbellman.tables.repeats import RepeatedRows

__all__ = [
    "CategoricalColumn",
    "Cells",
    "RepeatedRows",
    "TableEncoder",
    "hide",
    "is_missing",
    "same_measure",
]
