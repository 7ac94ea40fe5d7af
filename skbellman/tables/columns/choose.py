"""The choice of the kind of a column, in one place.

A new kind is a file next to this one, and a line in `column_of_numbers`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skbellman.tables.columns.atoms import AtomColumn
from skbellman.tables.columns.base import Column, Values
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.columns.counted import CountedColumn
from skbellman.tables.columns.numeric import NumericColumn
from skbellman.tables.columns.tallied import TalliedColumn
from skbellman.tables.ends import ends_at_once
from skbellman.tables.grids import grid_step, mean_beside, tally


@dataclass(frozen=True)
class Numbers:
    """The numbers of a column, and properties that select its kind.

    Parameters
    ----------
    values : array of shape (n,)
        Finite.
    precision : float
        Relative rounding error of the values.
    bounds : tuple of float, default=(-inf, inf)
        The least and the largest number that the dtype of the column holds.
    dequantize : bool, default=True
        Whether to look for grids.
    atom_share : float, default=0.05
        Share of the column that makes a value an atom; with 1 no value is examined by itself.
    """

    values: Values
    precision: float
    bounds: tuple[float, float] = (-np.inf, np.inf)
    dequantize: bool = True
    atom_share: float = 0.05

    @property
    def looks_at_values(self) -> bool:
        """Whether values are examined one by one."""
        return self.dequantize and self.atom_share < 1

    @cached_property
    def step(self) -> float:
        """The step of the grid; 0 without a grid, or if values are not examined."""
        return grid_step(self.values, self.precision) if self.looks_at_values else 0.0

    @cached_property
    def atoms(self) -> Values:
        """The atoms."""
        return find_atoms(self.values, self.atom_share)

    @cached_property
    def rest(self) -> Numbers:
        """The numbers that are not atoms."""
        return replace(self, values=self.values[~np.isin(self.values, self.atoms)])


def column_of_levels(levels: Values) -> Column:
    """Return a column of a category."""
    return CategoricalColumn(levels)


def column_of_numbers(numbers: Numbers) -> Column:
    """Return a column of numbers: the first kind that suits them."""
    values = numbers.values
    if are_equal(values):
        return CategoricalColumn(values[:1])
    if not len(numbers.rest.values):
        return AtomColumn(numbers.atoms, None)
    step = numbers.step
    if are_few(values, step):
        return CountedColumn(values, step)
    if numbers.looks_at_values and are_scattered(values, step):
        return AtomColumn(np.unique(values), None)
    if len(numbers.atoms) and not (is_short(values, step) and stands_apart(values, step)):
        return AtomColumn(numbers.atoms, column_on_the_line(numbers.rest))
    return column_on_the_line(numbers)


def column_on_the_line(numbers: Numbers) -> NumericColumn:
    """Return a column without atoms: tallied if values stand apart, else smooth."""
    if stands_apart(numbers.values, numbers.step):
        return TalliedColumn(numbers.values, numbers.precision, numbers.bounds)
    return NumericColumn(numbers.values, numbers.dequantize, numbers.precision, numbers.bounds)


def are_equal(values: Values) -> bool:
    """Return whether all values are equal."""
    return bool((values == values[0]).all())


def find_atoms(values: Values, least_share: float, standing_out: float = 3) -> Values:
    """Return the atoms of a column, ascending.

    They hold at least that share of the column, and three times as much as the values next to them.
    If there are two values only, or fewer than two would be left, every value is an atom.
    """
    if least_share >= 1:
        return values[:0]
    levels, counts = np.unique(values, return_counts=True)
    beside = np.maximum(np.append(counts[1:], 0), np.insert(counts[:-1], 0, 0))
    stands_out = (counts >= least_share * len(values)) & (counts >= standing_out * beside)
    if len(levels) == 2 or (~stands_out).sum() < 2:
        return levels
    return levels[stands_out]


def are_few(values: Values, step: float) -> bool:
    """Return whether a grid has few enough values that each can be a level."""
    if not step:
        return False
    return bool(np.ptp(values) / step + 1 <= _most_levels(values))


def are_scattered(values: Values, step: float) -> bool:
    """Return whether values are that few and lie on no grid, or on a too long one."""
    return not is_countable(values, step) and len(np.unique(values)) <= _most_levels(values)


def is_short(values: Values, step: float, max_steps: int = 512) -> bool:
    """Return whether the grid has few steps, with or without values."""
    return bool(step and np.ptp(values) <= max_steps * step)


def is_countable(values: Values, step: float) -> bool:
    """Return whether the grid has few enough steps to count them one by one."""
    return is_short(values, step, max_steps=2**20)


def stands_apart(values: Values, step: float) -> bool:
    """Return whether some value or end of a grid stands apart from a smooth shape.

    Such values are more or less frequent than their neighbours. Such an end is abrupt: adults from
    18 on, or ages of 90 that stand for all above.
    """
    if not (is_short(values, step) or (_are_often(values) and is_countable(values, step))):
        return False
    counts = tally(values, step)
    return ends_at_once(counts) or ends_at_once(counts[::-1]) or _are_uneven(counts)


def _are_uneven(counts: np.ndarray, least_gain: float = 0.05) -> bool:
    """Return whether the count of a value predicts it better than neighbouring counts do.

    The gain in the mean log-likelihood of a row must be at least that.
    """
    n_rows = counts.sum()
    beside = mean_beside(counts) + 0.5
    others = counts - 0.5
    gain = np.log(others.clip(0.5) / (n_rows - 1 + 0.5 * len(counts)))
    gain -= np.log(beside / beside.sum())
    return bool((counts * gain).sum() > least_gain * n_rows)


def _are_often(values: Values) -> bool:
    """Return whether there are many rows for each value."""
    return len(np.unique(values)) <= _most_levels(values, at_most=np.inf)


def _most_levels(values: Values, at_most: float = 24, rows_for_each: int = 10) -> float:
    """Return the largest number of levels with shares that the rows can estimate."""
    return min(at_most, len(values) / rows_for_each)
