"""Change of unit: an affine map of numeric columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skbellman.algebra.base import Density, names_of, numbers_in, operand, row_given
from skbellman.algebra.reweighting import column_measure
from skbellman.algebra.rows import (
    as_table,
    cells_of_column,
    holds_rows,
    numbers_of,
    position_of,
    with_values,
)
from skbellman.questions import listed_names
from skbellman.restrictions import OtherUnitsError
from skbellman.settings import with_own_settings
from skbellman.tables.kinds import NUMBERS, is_gap
from skbellman.tables.measures import ColumnMeasure, Names


@dataclass(frozen=True)
class Unit:
    """The map of one column, scale * x + shift, and the measure of x."""

    measure: ColumnMeasure
    scale: float
    shift: float

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return values in the new unit."""
        return self.scale * values + self.shift

    def back(self, values: np.ndarray) -> np.ndarray:
        """Return values in the old unit. Values stay on point masses and grids despite rounding."""
        return self.measure.reference.snapped((values - self.shift) / self.scale)

    def is_whole(self) -> bool:
        """Say whether whole numbers stay whole."""
        return float(self.scale).is_integer() and float(self.shift).is_integer()


@with_own_settings
class RescaledDensity(Density):
    """The density of a table whose numeric columns are in other units.

    Parameters
    ----------
    density : fitted density
        In the old units.
    units : mapping of column to (scale, shift)
        A value x of the column becomes scale * x + shift.

    Attributes
    ----------
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to: grids and point masses are in the new units.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    rescale : The function that makes one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import RescaledDensity
    >>> X = load_iris(as_frame=True).data
    >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(X)
    >>> in_inches = RescaledDensity(density, {"petal length (cm)": (1 / 2.54, 0)})
    >>> in_inches.measure_[2].reference.step
    0.0393700787402
    """

    def __init__(self, density: Any, units: Mapping[Any, tuple[float, float]]) -> None:
        self.density = density = operand(density)
        if not isinstance(units, Mapping):
            raise TypeError(f"units is {units!r}: give a mapping of columns to (scale, shift).")
        self.units = {
            name: _checked_unit(column_measure(density, name), pair) for name, pair in units.items()
        }
        self._stand_on(density)
        self.measure_ = tuple(
            column.rescaled(self.units[column.name].scale, self.units[column.name].shift)
            if column.name in self.units
            else column
            for column in self.measure_
        )

    def score_samples(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return the log-density of each row, of some of its columns, or given some.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            In the new units. What is missing in a row is integrated out.
        columns : sequence of names, or of positions for an array, optional
            Columns whose density is asked. By default all that are not in ``given``.
        given : sequence of names or positions, optional
            Columns that are conditions.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In the new units. Probabilities (of a point mass or a level) keep their value.
        """
        old = self._back(as_table(X))
        columns, given = listed_names(columns, "columns"), listed_names(given, "given")
        names = [name for name in names_of(self) if name not in (given or ())]
        asked = names if columns is None else columns
        log_density = self.density.score_samples(old, columns=columns, given=given)
        for name, unit in self.units.items():
            if name in asked:
                values = self._numbers(old, name)
                per_unit = unit.measure.is_per_unit(values) & ~np.isnan(values)
                log_density = log_density - np.where(per_unit, np.log(abs(unit.scale)), 0.0)
        return log_density

    def sample(self, n_samples: Any = 1, random_state: Any = None, *, given: Any = None) -> Any:
        """Sample rows, or rows given some of their values, in the new units.

        Parameters
        ----------
        n_samples : int or array-like of int, default=1
            At least 1. With a table of conditions, so many rows for each of its rows, or a number
            of each row.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        given : mapping, DataFrame or array-like, optional
            Values, in the new units, that the rows shall have. In a mapping, a tuple of two is a
            closed range, and a list holds alternatives.

        Returns
        -------
        X : DataFrame or ndarray
            A table like the fitted one. Integers stay integers if scale and shift are whole;
            otherwise the column has floats.
        """
        rng = check_random_state(random_state)
        if holds_rows(given):
            table = as_table(given)
            drawn = self.density.sample(n_samples, random_state=rng, given=self._back(table))
            kept = {name: self._numbers(table, name) for name in self.units}
            return self._forward(drawn, {k: v.repeat(n_samples) for k, v in kept.items()})
        old = None if given is None else self._back_values(given)
        drawn = self.density.sample(n_samples, random_state=rng, given=old)
        kept = {
            name: _number(name, given[name])
            for name in self.units.keys() & (given or {}).keys()
            if type(given[name]) not in (list, tuple)
        }
        return self._forward(drawn, kept)

    def _fitted_part(self) -> Any:
        raise OtherUnitsError(
            "the values of a rescaled density are not read in its units, by pictures, nor as "
            "ranges and lists of a density that it is a part of: draw it in the old units, or "
            "rescale the result, not its parts."
        )

    def _row_given(self, given: Mapping[Any, Any]) -> Any:
        return self._forward(row_given(self.density, self._back_values(given)), {})

    def _back_values(self, given: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the values of a mapping in the old units."""
        old = dict(given)
        for name in self.units.keys() & given.keys():
            old[name] = self._back_value(name, given[name])
        return old

    def _back_value(self, name: Any, value: Any) -> Any:
        """Return a value, a range of a low and a high one, or a list of them, in the old unit."""
        if type(value) in (list, tuple):
            values = [self._back_value(name, each) for each in value]
            is_turned = type(value) is tuple and self.units[name].scale < 0
            return type(value)(values[::-1] if is_turned else values)
        return value if is_gap(value) else float(self.units[name].back(_number(name, value))[0])

    def _back(self, X: Any) -> Any:
        """Return a table in the old units."""
        for name, unit in self.units.items():
            position = position_of(X, name, names_of(self))
            if position is not None:
                X = with_values(X, name, position, unit.back(self._numbers(X, name)))
        return X

    def _forward(self, X: Any, kept: Mapping[Any, np.ndarray]) -> Any:
        """Return sampled rows in the new units; given values stay as they were given."""
        for name, unit in self.units.items():
            position = position_of(X, name, names_of(self))
            cells = cells_of_column(X, position or 0)
            values = unit.forward(cells.numbers())
            given = np.broadcast_to(kept.get(name, np.nan), values.shape)
            values = np.where(np.isnan(given), values, given)
            if cells.values.dtype.kind in "iu" and unit.is_whole() and not np.isnan(values).any():
                values = np.rint(values).astype(np.int64)
            X = with_values(X, name, position, values)
        return X

    def _numbers(self, X: Any, name: Any) -> np.ndarray:
        """Return the numbers of a column, NaN where they are missing."""
        return numbers_of(X, position_of(X, name, names_of(self)))


def rescale(density: Any, units: Mapping[Any, tuple[float, float]]) -> RescaledDensity:
    """Return a density of the same table in other units.

    A value x of a column becomes scale * x + shift. A density per unit is divided by abs(scale).
    The probability of a point mass is not. A column on a grid scores the probability of a step,
    divided by the length of the step. So this score is divided too, and the probabilities of the
    grid's values stay the same.

    Parameters
    ----------
    density : fitted density
        In the old units.
    units : mapping of column to (scale, shift)
        Numeric columns by name, or by position for an array. No scale may be 0.

    Returns
    -------
    density : RescaledDensity
        With the methods of a fitted density.

    Raises
    ------
    ValueError
        If a column is unknown or does not hold numbers, or a scale is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import rescale
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> in_cm = BellmanDiffusionDensity(n_steps=5, n_nodes=8, random_state=0).fit(X)
    >>> in_mm = rescale(in_cm, {0: (10, 0)})
    >>> round(in_cm.score(X) - in_mm.score(X * [10, 1]) - np.log(10), 6) + 0.0
    np.float64(0.0)
    """
    return RescaledDensity(density, units)


def _checked_unit(measure: ColumnMeasure, pair: Any) -> Unit:
    if measure.reference == Names():
        raise ValueError(
            f"Column {measure.name!r} holds identifiers, which have no unit: leave it out."
        )
    if measure.held != NUMBERS:
        raise ValueError(
            f"Column {measure.name!r} holds {measure.held}, which have no unit: leave it out."
        )
    numbers = numbers_in(pair)
    if numbers.shape != (2,) or not np.isfinite(numbers).all() or numbers[0] == 0:
        raise ValueError(
            f"The unit of column {measure.name!r} is {pair!r}: give (scale, shift), a finite scale "
            "other than 0, and a finite shift."
        )
    return Unit(measure, *numbers.tolist())


def _number(name: Any, value: Any) -> np.ndarray:
    """Return a given value of a column as an array of one number, NaN where it is missing."""
    if is_gap(value):
        return np.array([np.nan])
    if np.ndim(value) or not hasattr(value, "__float__"):
        raise ValueError(f"Column {name!r} holds numbers, not {value!r}: give one of them.")
    return np.array([float(value)])
