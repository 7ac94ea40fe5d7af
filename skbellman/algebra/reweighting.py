"""Prior shift: a categorical column gets other probabilities; the rest given it stays the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skbellman.algebra.base import Density, names_of, numbers_in, operand
from skbellman.algebra.mixture import MixtureDensity
from skbellman.algebra.rows import (
    as_table,
    cells_of_column,
    holds_rows,
    position_of,
    take,
    with_values,
)
from skbellman.questions import listed_names
from skbellman.settings import with_own_settings
from skbellman.tables.kinds import as_objects, is_missing
from skbellman.tables.measures import ColumnMeasure


@with_own_settings
class DensityGivenLevel(Density):
    """The density of the rows that have one level in a categorical column.

    Parameters
    ----------
    density : fitted density
    column : name, or position for an array
    level : Any
        A level of the column.

    Attributes
    ----------
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to, column by column.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.
    """

    def __init__(self, density: Any, column: Any, level: Any) -> None:
        self.density, self.column, self.level = operand(density), column, level
        self._stand_on(self.density)

    def score_samples(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return log-densities given the level; -inf for a row with another level."""
        X = as_table(X)
        conditions = listed_names(given, "given") or []
        names = [name for name in names_of(self) if name not in conditions]
        asked = listed_names(columns, "columns")
        asked = names if asked is None else asked
        agrees = self._agrees(X, self.column in [*asked, *conditions])
        rest = [name for name in asked if name != self.column]
        logs = np.where(agrees, 0.0, -np.inf)
        if rest and agrees.any():
            rows = self._with_level(X if agrees.all() else take(X, np.flatnonzero(agrees)))
            conditions = [*(name for name in conditions if name != self.column), self.column]
            logs[agrees] = self.density.score_samples(rows, columns=rest, given=conditions)
        return logs

    def sample(self, n_samples: Any = 1, random_state: Any = None, *, given: Any = None) -> Any:
        """Sample rows that have the level and the given values."""
        if holds_rows(given):
            given = self._with_level(as_table(given))
        else:
            given = {**(given or {}), self.column: self.level}
        return self.density.sample(n_samples, random_state=random_state, given=given)

    def _agrees(self, X: Any, is_looked_at: bool) -> np.ndarray:
        """Return which rows have the level, or none."""
        position = position_of(X, self.column, names_of(self))
        if position is None or not is_looked_at:
            return np.ones(len(X), dtype=bool)
        values = cells_of_column(X, position, as_categories=True).numbers()
        return is_missing(values) | np.array([value == self.level for value in values.tolist()])

    def _with_level(self, X: Any) -> Any:
        levels = as_objects([self.level] * len(X))
        position = position_of(X, self.column, names_of(self))
        return with_values(X, self.column, position, levels)


def reweight(density: Any, column: Any, probabilities: Mapping[Any, float]) -> MixtureDensity:
    """Return a density whose categorical column has other probabilities.

    The distribution of the other columns given the category stays the same: log p(x, c) becomes log
    p(x | c) + log P'(c), which is log p(x, c) - log P(c) + log P'(c). Use it for a population in
    which classes have other sizes (prior shift), or to sample classes of equal sizes.

    Parameters
    ----------
    density : fitted density
        Density of a table with that column.
    column : name, or position for an array
        A categorical column.
    probabilities : mapping of level to probability
        Probabilities in the new table; their sum is 1. A level that is left out has probability 0.

    Returns
    -------
    density : MixtureDensity
        Mixture of the densities given each level, with the new probabilities as weights.

    Raises
    ------
    ValueError
        If the column is no categorical one, a level is unknown, a probability is negative or not
        finite, or their sum is not 1.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import reweight
    >>> df = pd.DataFrame({"x": [0.11, 0.42, 0.27, 0.93], "c": ["a", "b", "a", "a"]})
    >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(df)
    >>> balanced = reweight(density, "c", {"a": 0.5, "b": 0.5})
    >>> np.exp(balanced.score_samples(df[["c"]], columns=["c"])).round(3)
    array([0.5, 0.5, 0.5, 0.5])
    """
    density = operand(density)
    levels = _levels_of(density, column)
    if not isinstance(probabilities, Mapping):
        raise TypeError(f"probabilities is {probabilities!r}: give a mapping of levels to numbers.")
    if unknown := [level for level in probabilities if level not in levels]:
        raise ValueError(
            f"probabilities names {unknown}, which are not levels of column {column!r}: those are "
            f"{list(levels)}."
        )
    weights = np.atleast_1d(numbers_in(list(probabilities.values()))).tolist()
    if not all(weight >= 0 for weight in weights) or not math.isclose(
        sum(weights), 1, abs_tol=1e-6
    ):
        raise ValueError(
            f"the probabilities of column {column!r} must not be negative, and their sum must be "
            f"1, got {dict(probabilities)!r}: divide them by their sum."
        )
    kept = {level: p for level, p in zip(probabilities, weights, strict=True) if p > 0}
    parts = [DensityGivenLevel(density, column, level) for level in kept]
    return MixtureDensity(parts, list(kept.values()))


def _levels_of(density: Any, column: Any) -> tuple[Any, ...]:
    measure = column_measure(density, column)
    if measure.held != "categories":
        raise ValueError(
            f"Column {column!r} holds {measure.held}, not categories: reweight takes a column of "
            "categories; declare it as one of categorical_features."
        )
    return measure.reference.levels or ()


def column_measure(density: Any, column: Any) -> ColumnMeasure:
    """Return the measure of a column, which has to be there."""
    found = [c for c in density.measure_ if c.name == column]
    if not found:
        raise ValueError(
            f"{column!r} is not a column of the density: its columns are {names_of(density)}."
        )
    return found[0]
