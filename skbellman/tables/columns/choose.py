"""The choice of the kind of a column, in one place.

A new kind is a file next to this one, and a line in `column_of_numbers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from skbellman.tables.columns.atoms import AtomColumn
from skbellman.tables.columns.base import Column, Values
from skbellman.tables.columns.categorical import CategoricalColumn
from skbellman.tables.columns.counted import CountedColumn
from skbellman.tables.columns.numeric import NumericColumn
from skbellman.tables.columns.ranked import RankedColumn
from skbellman.tables.ends import ends_at_once
from skbellman.tables.grids import grid_step, mean_beside, tally
from skbellman.tables.quantiles import are_new, quantiles


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
        Whether grids are looked for.
    atom_share : float or "auto", default="auto"
        Least share of the column that gives a value a probability; 1 turns this off. "auto" takes
        values of at least three different rows, or of 5% of all rows.
    is_first : array of bool, shape (n,), optional
        Whether a row of the table differs from all rows before it.
    """

    values: Values
    precision: float
    bounds: tuple[float, float] = (-np.inf, np.inf)
    dequantize: bool = True
    atom_share: float | Literal["auto"] = "auto"
    is_first: np.ndarray | None = None

    @property
    def looks_at_values(self) -> bool:
        """Whether values are looked at one by one."""
        return self.dequantize and self.atom_share != 1

    @cached_property
    def counted(self) -> tuple[Values, np.ndarray]:
        """The different values, ascending, and the number of rows with each."""
        return _counted(self.values)

    @cached_property
    def step(self) -> float:
        """The step of the grid; 0 without a grid, or if values are not examined."""
        return grid_step(self.counted[0], self.precision) if self.looks_at_values else 0.0

    @cached_property
    def merged(self) -> Values:
        """The values, in place of each the most frequent one at its point of the grid.

        0.1 + 0.2 and 0.3 are one value with a rounding error.
        """
        if not self.step:
            return self.values
        known, counts = self.counted
        is_new = are_new(np.rint((known - known[0]) / self.step))
        if is_new.all():
            return self.values
        point = np.cumsum(is_new) - 1
        last = np.append(np.flatnonzero(is_new)[1:], len(known)) - 1
        most_frequent = known[np.lexsort((counts, point))[last]]
        return most_frequent[point[np.searchsorted(known, self.values)]]

    @cached_property
    def repeated(self) -> Values:
        """The values that have probabilities if the column is ranked, ascending."""
        if not self.looks_at_values:
            return self.values[:0]
        values = self.merged
        known, counts = self.counted if values is self.values else _counted(values)
        share = 0.05 if self.atom_share == "auto" else float(self.atom_share)
        many = known[counts >= max(3, share * len(values))]
        if self.atom_share != "auto":
            return many
        if self.is_first is not None and not self.is_first.all():
            known, counts = _counted(values[self.is_first])
        return np.union1d(many, known[counts >= 3])

    def share(self, some: Values) -> float:
        """Return the share of the rows that hold some of the different values."""
        known, counts = self.counted
        return float(counts[np.searchsorted(known, some)].sum() / len(self.values))


def _counted(values: Values) -> tuple[Values, np.ndarray]:
    """Return the different values, ascending, and how often each occurs."""
    ascending = np.sort(values)
    first = np.flatnonzero(are_new(ascending))
    return ascending[first], np.diff(first, append=len(ascending))


def column_of_levels(levels: Values) -> Column:
    """Return a column of a category."""
    return CategoricalColumn(levels)


def column_of_numbers(numbers: Numbers) -> Column:
    """Return a column of numbers: the first kind that suits them."""
    values, step, different = numbers.values, numbers.step, numbers.counted[0]
    if len(different) == 1:
        return CategoricalColumn(values[:1])
    if numbers.atom_share != 1 and len(different) == 2:
        return AtomColumn(different)
    if are_few(values, step):
        return CountedColumn(values, step)
    if numbers.looks_at_values and are_scattered(numbers):
        return AtomColumn(different)
    ranked = ranked_column(numbers)
    if ranked is not None:
        return ranked
    return NumericColumn(values, numbers.dequantize, numbers.precision, numbers.bounds)


def ranked_column(
    numbers: Numbers, least_gain: float = 0.1, least_share: float = 0.02
) -> RankedColumn | None:
    """Return a ranked column if repeated values need probabilities of their own, else None.

    Without a grid they do, if they hold that share of the rows. On a short grid they do if some
    value or end stands apart. On a long grid they do if their counts raise the mean log-likelihood
    of a row by that much over a smooth density.
    """
    values, step, repeated = numbers.merged, numbers.step, numbers.repeated
    if not len(repeated):
        return None

    def ranked(some: Values) -> RankedColumn:
        return RankedColumn(values, some, numbers.precision, numbers.bounds)

    if not step:
        return ranked(repeated) if numbers.share(repeated) >= least_share else None
    if stands_apart(values, step):
        return ranked(repeated)
    if is_short(values, step):
        return None
    column, smooth = ranked(repeated), ranked(repeated[:0])
    some = quantiles(np.sort(values))
    gain = column.log_likelihood(some) - smooth.log_likelihood(some)
    return column if gain > least_gain else None


def are_few(values: Values, step: float) -> bool:
    """Return whether a grid has few enough values that each can be a level."""
    if not step:
        return False
    return bool(np.ptp(values) / step + 1 <= _most_levels(values))


def are_scattered(numbers: Numbers) -> bool:
    """Return whether values are that few and lie on no grid, or on a too long one."""
    few = len(numbers.counted[0]) <= _most_levels(numbers.values)
    return few and not is_countable(numbers.values, numbers.step)


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
