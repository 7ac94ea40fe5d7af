"""The methods that every density of the algebra has, and which densities can be combined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skbellman.constraints import as_scored
from skbellman.restrictions import fitted_part
from skbellman.tables.measures import TableMeasure


class Estimate(NamedTuple):
    """A number that was estimated from samples.

    Parameters
    ----------
    value : float
        The mean.
    standard_error : float
        Standard error of the mean; NaN if the mean is infinite.

    Examples
    --------
    >>> from skbellman.algebra import Estimate
    >>> Estimate(0.5, 0.01).value
    0.5
    """

    value: float
    standard_error: float

    @classmethod
    def mean_of(cls, *samples: np.ndarray) -> Estimate:
        """Return the mean over independent samples of the means of each."""
        value = np.mean([sample.mean() for sample in samples])
        if not np.isfinite(value):
            return cls(float(value), float("nan"))
        variances = [sample.var() / max(len(sample) - 1, 1) for sample in samples]
        return cls(float(value), float(np.sqrt(np.sum(variances)) / len(samples)))


class Density(ABC):
    """A density of a table with the methods of a fitted one, so that results nest.

    Attributes
    ----------
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to, column by column.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.
    """

    measure_: TableMeasure
    n_features_in_: int
    # The density that gives the fitted attributes and reads conditions.
    _operand: Any

    @abstractmethod
    def score_samples(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return the log-density of each row, of some of its columns, or given some."""

    @abstractmethod
    def sample(self, n_samples: Any = 1, random_state: Any = None, *, given: Any = None) -> Any:
        """Sample rows, or rows given some of their values."""

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-density of the rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.
        y : None
            Ignored.

        Returns
        -------
        score : float
            In nats for each row.
        """
        return float(self.score_samples(X).mean())

    def _stand_on(self, operand: Any) -> None:
        """Take the columns and the measure of an operand."""
        self._operand = operand
        self.measure_ = operand.measure_
        self.n_features_in_ = operand.n_features_in_
        if hasattr(operand, "feature_names_in_"):
            self.feature_names_in_ = operand.feature_names_in_

    def _fitted_part(self) -> Any:
        """Return a density that was fitted, whose columns are those of this one."""
        return fitted_part(self._operand)

    def _parts_drawn_from(self) -> list[Any]:
        """Return the densities whose tables no new identifier is to be in."""
        return [self._operand]

    def _row_given(self, given: Mapping[Any, Any]) -> Any:
        """Return a table of one row with these values."""
        return row_given(self._operand, given)


def operand(density: Any) -> Any:
    """Return a density to combine, whose samples follow its scores.

    Raises
    ------
    TypeError
        If it is none, or does not say what its log-densities are relative to.
    NotFittedError
        If it is not fitted.
    """
    if not hasattr(density, "score_samples") or not hasattr(density, "sample"):
        raise TypeError(f"{density!r} is no density: pass one that is fitted.")
    if hasattr(density, "fit"):
        check_is_fitted(density)
    if not hasattr(density, "measure_"):
        raise TypeError(
            f"{density!r} has no measure_, which says what log-densities are relative to: only "
            "densities of this library can be combined."
        )
    return as_scored(density)


def numbers_in(values: Any) -> np.ndarray:
    """Return values as an array of floats; NaN in place of what is none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)


def row_given(density: Any, given: Mapping[Any, Any]) -> Any:
    """Return a table of one row that holds the given values as the fitted table holds them.

    The fitted density reads them by sampling; only the given values of the sample are used.
    """
    if isinstance(density, Density):
        return density._row_given(given)
    return density.sample(1, random_state=0, given=given)


def names_of(density: Any) -> list[Any]:
    """Return the names of the columns of a density; positions if they have none."""
    return [column.name for column in density.measure_]
