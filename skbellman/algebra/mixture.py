"""Mixtures of densities: each row of the table comes from one of several densities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from skbellman.algebra.base import Density, names_of, numbers_in, operand
from skbellman.algebra.rows import as_table, held_names, holds_rows, stack, take
from skbellman.identifiers import NewIdentifiers
from skbellman.questions import counted, listed_names
from skbellman.restrictions import within
from skbellman.settings import with_own_settings
from skbellman.tables.kinds import is_gap
from skbellman.tables.measures import same_measure


@with_own_settings
class MixtureDensity(Density):
    r"""The density :math:`\sum_i w_i p_i`.

    Its marginals are the mixtures of the marginals. Given columns B, the density of columns A is
    :math:`\sum_i v_i(B) p_i(A | B)` with :math:`v_i(B) \propto w_i p_i(B)`.

    Parameters
    ----------
    densities : sequence of fitted densities
        Densities of the same columns, relative to the same measure.
    weights : array-like of shape (n_densities,), optional
        Positive; normalised to sum 1. By default all are equal.
    n_jobs : int, optional
        Densities that are asked at once, as joblib counts them.

    Attributes
    ----------
    densities : list
        The parts.
    weights_ : ndarray of shape (n_densities,)
        Their probabilities.
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to, column by column.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    mixture : The function that makes one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import MixtureDensity
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> first = BellmanDiffusionDensity(n_steps=5, n_nodes=8, random_state=0).fit(X)
    >>> second = clone(first).set_params(encoder=first.encoder_).fit(X)
    >>> both = MixtureDensity([first, second], weights=[3, 1])
    >>> both.weights_
    array([0.75, 0.25])
    >>> both.sample(4, random_state=0).shape
    (4, 2)
    """

    def __init__(
        self, densities: Sequence[Any], weights: Any = None, n_jobs: int | None = None
    ) -> None:
        if hasattr(densities, "score_samples"):
            raise TypeError(f"densities is a single one: write [{densities!r}].")
        self.densities, self.n_jobs = [operand(density) for density in densities], n_jobs
        self.weights_ = _checked_weights(weights, len(self.densities))
        for density in self.densities[1:]:
            same_measure(self.densities[0].measure_, density.measure_)
        self._stand_on(self.densities[0])

    def score_samples(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return the log-density of each row, of some of its columns, or given some.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table. What is missing in a row is integrated out.
        columns : sequence of names, or of positions for an array, optional
            Columns whose density is asked, the others integrated out. By default all that
            are not in ``given``.
        given : sequence of names or positions, optional
            Columns that are conditions.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In the units of the columns, as the parts have it.

        Raises
        ------
        ValueError
            As the parts do; for conditions under which no part has any density.
        """
        columns, given = listed_names(columns, "columns"), listed_names(given, "given")
        if not given:
            return np.asarray(logsumexp(self._log_joint(X, columns), axis=1))
        X = as_table(X)
        log_shares = self._log_shares(X, given)
        asked = log_shares > -np.inf
        parts = [(X, columns, given, rows) for rows in asked.T]
        logs = np.stack(self._of_each(_score_where, parts), axis=1)
        return np.asarray(logsumexp(log_shares + logs, axis=1))

    def sample(self, n_samples: Any = 1, random_state: Any = None, *, given: Any = None) -> Any:
        """Sample rows, each from a part that is chosen by its weight.

        Parameters
        ----------
        n_samples : int or array-like of int, default=1
            At least 1. With a table of conditions, so many rows for each of its rows, or a number
            of each row.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        given : mapping, DataFrame or array-like, optional
            Values that the rows are to have: a mapping of names (positions for an array) to values,
            or a table with some of the columns, in which missing values are sampled. The part of a
            row is then chosen by how probable its conditions are under each part. In a mapping, a
            tuple of two is a closed range, and a list holds alternatives.

        Returns
        -------
        X : DataFrame or ndarray
            A table like the fitted one. With a table of m conditions, m * n_samples rows: those of
            the first condition come first.

        Raises
        ------
        ValueError
            As the parts do; for conditions under which no part has any density.
        """
        n_samples, given = counted(n_samples, given)
        rng = check_random_state(random_state)
        if (restricted := within(self, given)) is not None:
            return restricted.sample(n_samples, rng)
        if holds_rows(given):
            filled = self._fill(as_table(given), n_samples, rng)
            return NewIdentifiers([self], rng)(filled, given)
        shares = self.weights_ if given is None else self._shares_given(given)
        counts = rng.multinomial(n_samples, shares / shares.sum())
        drawn = self._draw([(n, given) for n in counts], rng)
        drawn = take(drawn, rng.permutation(n_samples))
        return NewIdentifiers([self], rng)(drawn, given)

    def _parts_drawn_from(self) -> list[Any]:
        return self.densities

    def _fill(self, given: Any, n_samples: int, rng: np.random.RandomState) -> Any:
        """Sample rows for each row of a table of conditions."""
        names = held_names(given, names_of(self))
        shares = np.exp(self._log_shares(given, names)).repeat(n_samples, axis=0)
        below = shares.cumsum(axis=1)
        # Rounding may leave the last sum below 1: no row is left without a part.
        part = (rng.random_sample((len(shares), 1)) * below[:, -1:] >= below).sum(axis=1)
        places = [np.flatnonzero(part == k) for k in range(len(self.densities))]
        requests = [(int(len(at) > 0), take(given, at // n_samples)) for at in places]
        return take(self._draw(requests, rng), np.argsort(np.concatenate(places)))

    def _draw(self, requests: list[tuple[int, Any]], rng: np.random.RandomState) -> Any:
        """Return the rows of the parts, in their order, from numbers of rows and conditions."""
        seeds = rng.randint(2**31, size=len(requests))
        arguments = [(*request, int(s)) for request, s in zip(requests, seeds, strict=True)]
        return stack([drawn for drawn in self._of_each(_draw, arguments) if drawn is not None])

    def _shares_given(self, given: Any) -> np.ndarray:
        """Return the probability of each part given the values of a mapping."""
        names = [name for name, value in given.items() if not is_gap(value)]
        row = self._row_given(given)
        return np.exp(self._log_shares(row, names)[0]) if names else self.weights_

    def _log_shares(self, X: Any, given: Sequence[Any]) -> np.ndarray:
        """Return the log-probability of each part given these columns, (n, n_densities)."""
        logs = self._log_joint(X, given)
        total = logsumexp(logs, axis=1, keepdims=True)
        if np.isneginf(total).any():
            row = int(np.isneginf(total[:, 0]).argmax())
            raise ValueError(
                f"row {row} has zero density in {list(given)}, so its conditional is undefined: "
                "leave the row out."
            )
        return logs - total

    def _log_joint(self, X: Any, columns: Sequence[Any] | None) -> np.ndarray:
        """Return the log-density of each part times its weight, (n, n_densities)."""
        parts = [(X, columns) for _ in self.densities]
        return np.stack(self._of_each(_score, parts), axis=1) + np.log(self.weights_)

    def _of_each(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        """Return the results of a function for each part, with its own arguments."""
        calls = zip(self.densities, arguments, strict=True)
        return Parallel(n_jobs=self.n_jobs)(delayed(function)(part, *args) for part, args in calls)


def mixture(
    densities: Sequence[Any], weights: Any = None, n_jobs: int | None = None
) -> MixtureDensity:
    """Return the mixture of densities, sum_i w_i p_i.

    Parameters
    ----------
    densities : sequence of fitted densities
        Densities of the same columns, relative to the same measure: fitted with one encoder.
    weights : array-like of shape (n_densities,), optional
        Positive; normalised to sum 1. By default all are equal.
    n_jobs : int, optional
        Densities that are asked at once, as joblib counts them.

    Returns
    -------
    density : MixtureDensity
        With the methods of a fitted density.

    Raises
    ------
    ValueError
        If weights do not fit, or measures differ; the message names the column and the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import mixture
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> old = BellmanDiffusionDensity(n_steps=5, n_nodes=8, random_state=0).fit(X[:50])
    >>> new = clone(old).set_params(encoder=old.encoder_).fit(X[50:])
    >>> mixture([old, new], weights=[50, 50]).score_samples(X).shape
    (100,)
    """
    return MixtureDensity(densities, weights, n_jobs)


def _checked_weights(weights: Any, n_densities: int) -> np.ndarray:
    if not n_densities:
        raise ValueError("a mixture needs at least one density.")
    shares = np.ones(n_densities) if weights is None else numbers_in(weights)
    if shares.shape != (n_densities,) or not np.all((shares > 0) & np.isfinite(shares)):
        raise ValueError(
            f"weights must be {n_densities} positive, finite numbers, one for each density, "
            f"got {weights!r}."
        )
    # The largest first, so that the sum of huge weights is a number.
    shares = shares / shares.max()
    return shares / shares.sum()


def _score(density: Any, X: Any, columns: Sequence[Any] | None) -> np.ndarray:
    return density.score_samples(X, columns=columns)


def _score_where(
    density: Any, X: Any, columns: Sequence[Any] | None, given: Sequence[Any], rows: np.ndarray
) -> np.ndarray:
    """Return conditional log-densities of some rows, and 0 for the others."""
    if rows.all():
        return density.score_samples(X, columns=columns, given=given)
    logs = np.zeros(len(rows))
    if rows.any():
        some = take(X, np.flatnonzero(rows))
        logs[rows] = density.score_samples(some, columns=columns, given=given)
    return logs


def _draw(density: Any, n_samples: int, given: Any, seed: int) -> Any:
    return density.sample(n_samples, random_state=seed, given=given) if n_samples else None
