"""Two densities compared: where they differ, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skbellman.algebra.base import Estimate, names_of, operand
from skbellman.algebra.rows import as_table, numbers_of, position_of, with_values
from skbellman.algebra.thinning import Thinning
from skbellman.questions import listed_names
from skbellman.settings import with_own_settings
from skbellman.tables.containers import container_of
from skbellman.tables.kinds import NUMBERS
from skbellman.tables.measures import same_measure
from skbellman.validation import check_count


@with_own_settings
class Comparison:
    """How two densities of the same columns differ.

    Parameters
    ----------
    a, b : fitted densities
        Relative to the same measure.

    See Also
    --------
    compare : The function that makes one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import Comparison
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> a = BellmanDiffusionDensity(n_steps=5, n_nodes=8, random_state=0).fit(X)
    >>> b = clone(a).set_params(encoder=a.encoder_).fit(X + 1)
    >>> bool(Comparison(a, b).total_variation(50, random_state=0).value > 0.2)
    True
    """

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = operand(a), operand(b)
        same_measure(self.a.measure_, self.b.measure_)

    def log_ratio(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return log a(x) - log b(x) of each row, of some of its columns, or given some.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.
        columns : sequence of names, or of positions for an array, optional
            Columns whose densities are compared. By default all that are not in ``given``.
        given : sequence of names or positions, optional
            Columns that are conditions.

        Returns
        -------
        log_ratio : ndarray of shape (n_samples,)
            In nats, whatever the units of the columns are. NaN if both densities of the row are 0.
        """
        columns, given = listed_names(columns, "columns"), listed_names(given, "given")
        first, second = (
            density.score_samples(X, columns=columns, given=given) for density in (self.a, self.b)
        )
        with np.errstate(invalid="ignore"):  # -inf on both sides
            return first - second

    def gradient(self, X: Any, *, step: Mapping[Any, float] | None = None) -> Any:
        """Return the slopes of the log-ratio along each numeric column.

        They are central differences of `log_ratio`, in nats for each unit of the column. On a grid
        the difference spans one step. The slope is NaN where the number is missing, at a point
        mass, and where either of the two places has density 0.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.
        step : mapping of column to float, optional
            Half the distance of the two places, above 0, in the unit of the column. On a grid a
            multiple of its step. By default a hundredth of the column's standard deviation in 200
            samples, or one step of the grid.

        Returns
        -------
        gradient : DataFrame or ndarray of shape (n_samples, n_numeric)
            With the numeric columns of X alone, in their order; a frame of the library of X.

        Raises
        ------
        ValueError
            For a step of a column that is not numeric, or one that is not as above.
        """
        X = as_table(X)
        numeric = [
            c.name for c in self.a.measure_ if c.held == NUMBERS and c.reference.levels is None
        ]
        steps = {**self._steps(numeric), **self._checked_steps(step, numeric)}
        slopes = {name: self._slope(X, name, steps[name]) for name in numeric}
        return container_of(X).of_numbers(X, slopes)

    def total_variation(self, n_samples: int = 1000, random_state: Any = None) -> Estimate:
        r"""Estimate the total variation distance, half the integral of abs(a - b).

        It is the mean of :math:`|a - b| / (a + b)` under the even mixture of both.

        Parameters
        ----------
        n_samples : int, default=1000
            Draws from each of the two; at least 2.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.

        Returns
        -------
        estimate : Estimate
            From 0 to 1, with its standard error.
        """
        ratios = self._ratios(n_samples, random_state, (self.a, self.b))
        return Estimate.mean_of(*(np.abs(np.tanh(ratio / 2)) for ratio in ratios))

    def kl(self, n_samples: int = 1000, random_state: Any = None) -> Estimate:
        """Estimate the Kullback-Leibler divergence of a from b, the mean of log a - log b under a.

        Parameters
        ----------
        n_samples : int, default=1000
            Draws from a; at least 2.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.

        Returns
        -------
        estimate : Estimate
            In nats, with its standard error; infinite if b is 0 at a sampled row.
        """
        return Estimate.mean_of(*self._ratios(n_samples, random_state, (self.a,)))

    def jensen_shannon(self, n_samples: int = 1000, random_state: Any = None) -> Estimate:
        """Estimate the Jensen-Shannon divergence: what a row tells about which density it is from.

        Parameters
        ----------
        n_samples : int, default=1000
            Draws from each of the two; at least 2.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.

        Returns
        -------
        estimate : Estimate
            From 0 to log 2, in nats, with its standard error.
        """
        of_a, of_b = self._ratios(n_samples, random_state, (self.a, self.b))
        gains = (np.log(2) - np.logaddexp(0, -of_a), np.log(2) - np.logaddexp(0, of_b))
        return Estimate.mean_of(*gains)

    def sample_excess(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """Sample rows from where a exceeds b, in proportion to a - b.

        They show what the first density has and the second lacks. Rows of a are accepted with
        probability max(1 - b / a, 0).

        Parameters
        ----------
        n_samples : int, default=1
            At least 1.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            A table like the fitted one.

        Raises
        ------
        ValueError
            If almost no row is accepted, because a exceeds b almost nowhere.
        """
        rng = check_random_state(random_state)
        return Thinning(self.a, self.b, 0.0).sample(check_count("n_samples", n_samples), rng)

    def _ratios(
        self, n_samples: int, random_state: Any, densities: Sequence[Any]
    ) -> list[np.ndarray]:
        """Return log-ratios of rows that are sampled from each density."""
        rng = check_random_state(random_state)
        if check_count("n_samples", n_samples) < 2:
            raise ValueError("n_samples must be at least 2: one draw has no standard error.")
        return [self.log_ratio(d.sample(n_samples, random_state=rng)) for d in densities]

    def _steps(
        self, numeric: list[Any], n_draws: int = 200, part: float = 0.01
    ) -> dict[Any, float]:
        """Return the step of each numeric column: that of its grid, or a part of its spread."""
        measures = {c.name: c for c in self.a.measure_}
        drawn = self.a.sample(n_draws, random_state=0)
        spreads = [self._numbers(drawn, name).std() for name in numeric]
        return {
            name: measures[name].reference.step or part * max(float(spread), np.finfo(float).tiny)
            for name, spread in zip(numeric, spreads, strict=True)
        }

    def _checked_steps(self, step: Any, numeric: list[Any]) -> dict[Any, float]:
        """Return steps that were asked for, refusing those that lead nowhere."""
        if step is None:
            return {}
        if not isinstance(step, Mapping) or not set(step) <= set(numeric):
            raise ValueError(
                f"step is {step!r}: give a mapping of numeric columns, {numeric}, to numbers."
            )
        for column in self.a.measure_:
            size, grid = step.get(column.name, column.reference.step or 1.0), column.reference.step
            fits = 0 < size < np.inf and (not grid or abs(math.remainder(size, grid)) < 1e-6 * grid)
            if not fits:
                multiple = f", a multiple of {grid:g}, the step of its grid" if grid else ""
                raise ValueError(
                    f"step of column {column.name!r} is {size!r}: give a number above 0{multiple}."
                )
        return dict(step)

    def _slope(self, X: Any, name: Any, step: float) -> np.ndarray:
        """Return the slope of the log-ratio along a column."""
        values, position = self._numbers(X, name), position_of(X, name, names_of(self.a))
        measure = next(c for c in self.a.measure_ if c.name == name)
        ends = [measure.reference.snapped(values + side * step) for side in (1, -1)]
        above, below = (
            self.log_ratio(with_values(X, name, position, np.where(np.isnan(values), values, end)))
            for end in ends
        )
        known = np.isfinite(above) & np.isfinite(below) & ~np.isnan(values)
        known &= measure.is_per_unit(values)
        slope = np.full(len(values), np.nan)
        slope[known] = (above - below)[known] / (2 * step)
        return slope

    def _numbers(self, X: Any, name: Any) -> np.ndarray:
        return numbers_of(X, position_of(X, name, names_of(self.a)))


def compare(a: Any, b: Any) -> Comparison:
    """Return a comparison of two densities of the same columns.

    Parameters
    ----------
    a, b : fitted densities
        Relative to the same measure: fitted with one encoder.

    Returns
    -------
    comparison : Comparison
        With `log_ratio`, its `gradient`, the distances `total_variation`, `kl` and
        `jensen_shannon` with standard errors, and `sample_excess`.

    Raises
    ------
    ValueError
        If measures differ; the message names the column and the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.base import clone
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import compare
    >>> values = np.random.default_rng(0).normal(size=(100, 2))
    >>> X = pd.DataFrame(values, columns=["x", "y"])
    >>> a = BellmanDiffusionDensity(n_steps=5, n_nodes=8, random_state=0).fit(X)
    >>> b = clone(a).set_params(encoder=a.encoder_).fit(X + 1)
    >>> bool(compare(a, b).kl(50, random_state=0).value > 0.2)
    True
    >>> compare(a, b).gradient(X[:2]).columns.tolist()
    ['x', 'y']
    """
    return Comparison(a, b)
