"""Differences: more of one density, less of another."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state

from skbellman.algebra.base import Density, names_of, operand
from skbellman.algebra.rows import as_table, cells_of_column, holds_rows, position_of, take
from skbellman.algebra.thinning import Thinning
from skbellman.questions import counted
from skbellman.restrictions import within
from skbellman.settings import with_own_settings
from skbellman.tables.measures import same_measure
from skbellman.validation import check_count


@with_own_settings
class DifferenceDensity(Density):
    r"""The density in proportion to :math:`((1 + w) p - w q)_+`.

    If the difference is nowhere negative, its integral is 1. Otherwise it is estimated from samples
    of p. Rows are sampled from p and accepted with probability
    :math:`\max(1 - w q / ((1 + w) p), 0)`,
    which is exact.

    The positive part has no marginals in closed form, so only whole rows can be scored.

    Parameters
    ----------
    p, q : fitted densities
        Relative to the same measure.
    weight : float
        The w of the formula, above 0.
    n_samples : int, default=1000
        Samples from which the integral is estimated.
    random_state : int, RandomState instance or None, default=None
        Seeds them.

    Attributes
    ----------
    log_normaliser_ : float
        The logarithm of the integral of the positive part.
    log_normaliser_error_ : float
        Its standard error.
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to, column by column.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    difference : The function that makes one, and why it does not forget rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import DifferenceDensity
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> p = BellmanDiffusionDensity(n_steps=5, n_nodes=8, random_state=0).fit(X)
    >>> q = clone(p).set_params(encoder=p.encoder_).fit(X[:50])
    >>> DifferenceDensity(p, q, 0.2, n_samples=100, random_state=0).sample(3, random_state=0).shape
    (3, 2)
    """

    _has_marginals: ClassVar[bool] = False

    def __init__(
        self, p: Any, q: Any, weight: float, n_samples: int = 1000, random_state: Any = None
    ) -> None:
        self.p, self.q = operand(p), operand(q)
        same_measure(self.p.measure_, self.q.measure_)
        if not (isinstance(weight, Real) and 0 < weight < np.inf):
            raise ValueError(f"weight must be a finite number above 0, got {weight!r}.")
        self.weight: float = float(weight)
        self._stand_on(self.p)
        self._estimate_normaliser(check_count("n_samples", n_samples), random_state)

    def log_ratio(self, X: Any) -> np.ndarray:
        """Return log p(x) - log q(x) of each row.

        The difference is 0 where this is less than log(w / (1 + w)).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.

        Returns
        -------
        log_ratio : ndarray of shape (n_samples,)
            In nats.
        """
        return self.p.score_samples(X) - self.q.score_samples(X)

    def score_samples(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return the log-density of each row, up to the error of the normalising constant.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Whole rows, with the columns of the fitted table.
        columns, given : None
            Not available.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            -inf where the difference is not positive. All values share the error of
            ``log_normaliser_``.

        Raises
        ------
        ValueError
            If ``columns`` or ``given`` is set, or a row has missing values.
        """
        if columns is not None or given is not None:
            raise ValueError(
                "the positive part of a difference has no marginals in closed form: score whole "
                "rows, or sample rows and look at these columns."
            )
        self._check_whole(as_table(X))
        with np.errstate(divide="ignore"):  # log 0 where the difference is not positive
            log_share = np.log(self._thinning.acceptance(X))
        log_density = self.p.score_samples(X) + np.log1p(self.weight) + log_share
        return np.asarray(log_density - self.log_normaliser_)

    def sample(self, n_samples: Any = 1, random_state: Any = None, *, given: Any = None) -> Any:
        """Sample rows from p, and accept them by how far q lies below.

        Parameters
        ----------
        n_samples : int or array-like of int, default=1
            At least 1. With a table of conditions, so many rows for each of its rows, or a number
            of each row.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        given : mapping, DataFrame or array-like, optional
            Values that the rows shall have. In a mapping, a tuple of two is a closed range, and a
            list holds alternatives.

        Returns
        -------
        X : DataFrame or ndarray
            A table like the fitted one.

        Raises
        ------
        ValueError
            If almost no row is accepted.
        """
        n_samples, given = counted(n_samples, given)
        rng = check_random_state(random_state)
        if (restricted := within(self, given)) is not None:
            return restricted.sample(n_samples, rng)
        if holds_rows(given):
            table = as_table(given)
            rows = np.arange(len(table)).repeat(n_samples)
            return self._thinning.fill(take(table, rows), rng)
        return self._thinning.sample(n_samples, rng, given)

    @property
    def _thinning(self) -> Thinning:
        return Thinning(self.p, self.q, np.log(self.weight) - np.log1p(self.weight))

    def _estimate_normaliser(
        self, n_samples: int, random_state: Any, least_accepted: int = 10
    ) -> None:
        """Estimate the constant from samples; if too few are accepted it would be unknown."""
        drawn = self.p.sample(n_samples, random_state=check_random_state(random_state))
        share = self._thinning.acceptance(drawn)
        if share.sum() < min(least_accepted, 0.1 * n_samples):
            raise ValueError(
                f"{share.sum():.1f} of {n_samples} samples are accepted, too few to estimate the "
                "difference: lower the weight, raise n_samples, or exchange the two densities."
            )
        self.log_normaliser_ = float(np.log1p(self.weight) + np.log(share.mean()))
        error = share.std() / np.sqrt(max(n_samples - 1, 1))
        self.log_normaliser_error_ = float(error / share.mean())

    def _check_whole(self, X: Any) -> None:
        """Refuse rows with missing values, whose density is a marginal."""
        for column in self.measure_:
            position = position_of(X, column.name, names_of(self))
            if position is None:
                continue  # which the densities refuse
            if cells_of_column(X, position, column.held == "categories").missing.any():
                raise ValueError(
                    f"Column {column.name!r} has missing values, but a difference scores whole "
                    "rows only: fill them, for example by sample(given=X)."
                )


def difference(
    p: Any, q: Any, weight: float, n_samples: int = 1000, random_state: Any = None
) -> DifferenceDensity:
    """Return the density in proportion to the positive part of (1 + w) p - w q.

    It emphasises what is in p and not in q. The weight says how much of q is subtracted. With a
    small weight the difference is positive everywhere, and exact.

    A difference does not forget rows. The fit of all rows minus the fit of some is not a refit
    without them, because the errors of two fits do not cancel. To forget rows exactly, fit them as
    a shard of a `ShardedDensity` and call its `forget`.

    Parameters
    ----------
    p, q : fitted densities
        Relative to the same measure: fitted with one encoder.
    weight : float
        The w of the formula, above 0.
    n_samples : int, default=1000
        Samples of p from which the constant is estimated.
    random_state : int, RandomState instance or None, default=None
        Seeds them.

    Returns
    -------
    density : DifferenceDensity
        It scores whole rows and samples rows, also given some values.

    Raises
    ------
    ValueError
        If measures differ, the weight is not above 0, or almost nothing is left.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.algebra import difference
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> p = BellmanDiffusionDensity(n_steps=5, n_nodes=8, random_state=0).fit(X)
    >>> q = clone(p).set_params(encoder=p.encoder_).fit(X[:50])
    >>> rest = difference(p, q, weight=0.2, n_samples=100, random_state=0)
    >>> rest.score(X[50:]) > p.score(X[50:])
    True
    """
    return DifferenceDensity(p, q, weight, n_samples, random_state)
