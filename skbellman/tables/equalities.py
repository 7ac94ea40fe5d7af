"""Numbers that equal another column in some rows: a payment of the whole bill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skbellman.tables.columns.base import Codes, Column, Values
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.gaps import some_rows
from skbellman.tables.grids import exceed_neighbours

# The label of rows in which a column equals none of its sources.
_NONE = -1


@dataclass(frozen=True)
class Equality:
    """The columns that a column of numbers equals in some rows.

    Two smooth densities never draw equal numbers. So a label says which column is equal. It is a
    category among the coordinates, but no column of the table: it is not scored, and samples in
    which it names a column repeat its value. See doc/decisions/equal-columns.md.

    Parameters
    ----------
    column : int
        Position of the column.
    sources : tuple of int
        Positions of the columns that it equals, all before it, the most frequent first.
    frequent : array of float
        Values of the column that are equal to others without this reason.
    """

    column: int
    sources: tuple[int, ...]
    frequent: np.ndarray

    @property
    def part(self) -> Column:
        """The category of the labels."""
        return CategoricalColumn(np.array([_NONE, *self.sources], dtype=object))

    def labels(self, values: list[Values]) -> Values:
        """Return the label of each row, None where a missing value hides it."""
        own = values[self.column]
        is_rare, found = ~np.isin(own, self.frequent), np.full(len(own), _NONE, dtype=object)
        unknown = np.isnan(own)
        for source in reversed(self.sources):
            found[is_rare & (own == values[source])] = source
            unknown = unknown | (is_rare & np.isnan(values[source]))
        found[unknown & (found == _NONE)] = None
        return found

    def equal_rows(self, codes: Codes) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the sources and the rows that equal them, by the codes of the labels."""
        for code, source in enumerate(self.sources, start=1):
            yield source, codes == code


def equalities_among(
    columns: Sequence[FittedColumn],
    values: list[Values],
    least_share: float = 0.03,
    least_rows: int = 30,
    most_rows: int = 20_000,
) -> list[Equality]:
    """Return which columns equal columns before them, in at least that share of the rows.

    Zeros that are frequent in both columns do not count. Neither do values on a grid that are close
    to each other: differences of 0 must stand apart from those beside them.

    Parameters
    ----------
    columns : sequence of FittedColumn
    values : list of array, each (n,)
        Values of some rows of each column.
    least_share : float, default=0.03
    least_rows : int, default=30
    most_rows : int, default=20_000
        Largest number of rows that are compared.
    """
    picked = some_rows(len(values[0]), most_rows)
    least = max(least_share * len(picked), least_rows)
    numbers = [j for j, column in enumerate(columns) if _is_any_number(column)]
    some = {j: values[j][picked] for j in numbers}
    units = {j: columns[j].kind.number_unit for j in numbers}
    found = []
    for j in numbers:
        frequent = _frequent(some[j])
        rare = np.where(np.isin(some[j], frequent), np.nan, some[j])
        before = {k: some[k] for k in numbers if k < j and units[k] == units[j]}
        sources = _sources(rare, before, least)
        if sources:
            found.append(Equality(j, sources, frequent))
    return found


def made_equal(
    equalities: Sequence[Equality],
    columns: Sequence[Column],
    decoded: list[Codes],
    labels: Sequence[Codes],
    known: list[np.ndarray],
) -> list[Codes]:
    """Return decoded columns in which numbers equal the columns that the labels name.

    Parameters
    ----------
    equalities : sequence of Equality
        In the order of their columns.
    columns : sequence of Column
    decoded : list of array, each (n,)
        The columns, given values included.
    labels : sequence of array, each (n,)
        Codes of the labels of each equality.
    known : list of array of bool, each (n,)
        Which values are given: they are not changed, and their sources equal them.
    """
    if not equalities:
        return decoded
    made, known = [codes.copy() for codes in decoded], [held.copy() for held in known]
    pairs = list(zip(equalities, labels, strict=True))
    for equality, codes in reversed(pairs):
        j = equality.column
        for k, rows in equality.equal_rows(codes):
            changed = rows & known[j] & ~known[k]
            _repeat(made[j], made[k], changed, columns[k])
            known[k] |= changed
    for equality, codes in pairs:
        j = equality.column
        for k, rows in equality.equal_rows(codes):
            _repeat(made[k], made[j], rows & ~known[j], columns[j])
    return made


def _is_any_number(column: FittedColumn) -> bool:
    """Say whether a column holds numbers that are neither a few levels nor identifiers."""
    is_number = not column.kind.is_categorical and not column.column.is_fresh
    return is_number and column.column.only_levels is None


def _frequent(values: Values, share: float = 0.01, least: int = 10) -> np.ndarray:
    """Return the values of at least that share of the rows, and of some rows."""
    known, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    return known[counts >= max(share * len(values), least)]


def _sources(own: Values, others: dict[int, Values], least: float) -> tuple[int, ...]:
    """Return the columns that a column equals in many rows, in which those before are not equal."""
    equal = {k: own == other for k, other in others.items()}
    often = [k for k in equal if equal[k].sum() >= least and _is_apart(own - others[k])]
    left, sources = np.ones(len(own), dtype=bool), []
    for k in sorted(often, key=lambda k: -equal[k].sum()):
        if (equal[k] & left).sum() >= least:
            sources.append(k)
            left &= ~equal[k]
    return tuple(sources)


def _is_apart(differences: Values) -> bool:
    """Say whether differences of 0 stand apart from those beside them.

    Differences of close values on a grid have a peak at 0, too, but one that is less sharp.
    """
    known, counts = np.unique(differences[~np.isnan(differences)], return_counts=True)
    return bool(exceed_neighbours(counts, times=5.0)[known == 0].any())


def _repeat(source: Codes, codes: Codes, rows: np.ndarray, column: Column) -> None:
    """Set codes to those of a source in some rows, in place, where the column can hold them."""
    if not rows.any():
        return
    wanted = source[rows]
    held = np.isclose(_nearest(column, wanted), wanted, rtol=1e-6, atol=0)
    codes[rows] = np.where(held, wanted, codes[rows])


def _nearest(column: Column, values: Values) -> Values:
    """Return the nearest values that a column of numbers can hold."""
    parts = zip(column.parts, column.divide(values), strict=True)
    return column.join([part.decode(np.nan_to_num(part.encode(v)[0])) for part, v in parts])
