"""Questions to the laws of returns, and their answers under a choice among policies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from skbellman.returns.encoding import check_rows
from skbellman.returns.laws import TabulatedLaws
from skbellman.returns.risk import checked_share
from skbellman.settings import with_own_settings
from skbellman.validation import check_count


@with_own_settings
class ReturnLaws(BaseEstimator):
    """Questions to the laws of returns, which a subclass knows by their densities."""

    def predict(self, states: Any, actions: Any = None) -> np.ndarray:
        """Return the expected returns.

        Parameters
        ----------
        states : DataFrame or array-like of shape (n_states,) or (n_states, n_features)
            As in fit. The columns of a frame are matched by name with ``feature_names_in_``; other
            columns than those of states are left alone. Those of an array are in that order.
        actions : DataFrame or array-like of shape (n_states,) or (n_states, n_numbers), optional
            First actions, after which the policy acts; one for all is enough. Without them the
            policy takes the first one too. Columns are matched as those of states.

        Returns
        -------
        ndarray of shape (n_states,)
            In units of the reward.

        Raises
        ------
        ValueError
            For states or actions that were not there in fit, or of another shape or other columns;
            if actions are left out and the policy is known by its recorded actions alone.

        Warns
        -----
        UserWarning
            If states of several columns have names, but had none in fit, or the reverse.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(gamma=0.5, n_steps=300, random_state=0)
        >>> value.fit(chain).predict([0, 1]).round(1)
        array([2., 2.])
        """
        return self._means(states, actions)

    def sample(
        self, states: Any, actions: Any = None, n_samples: int = 1, random_state: Any = None
    ) -> np.ndarray:
        """Draw returns.

        Parameters
        ----------
        states, actions
            As for `predict`.
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_states, n_samples)

        Raises
        ------
        ValueError
            As for `predict`, and if n_samples is less than 1.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(n_steps=20, random_state=0).fit(chain)
        >>> value.sample([0, 1], n_samples=5, random_state=0).shape
        (2, 5)
        """
        n_samples = check_count("n_samples", n_samples)
        seed = int(check_random_state(random_state).randint(2**31))
        return self._laws(states, actions, with_noise=False).sample(
            n_samples, np.random.default_rng(seed)
        )

    def score_samples(self, states: Any, actions: Any = None, *, returns: Any) -> np.ndarray:
        """Return the log-densities of observed returns, one for each state.

        Parameters
        ----------
        states, actions
            As for `predict`.
        returns : array-like of shape (n_states,)

        Returns
        -------
        ndarray of shape (n_states,)
            Of the law seen at the noise level ``level_``; -inf where it has no density.

        Raises
        ------
        ValueError
            As for `predict`, and for returns that are not finite or of another length.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(gamma=0.5, n_steps=100, random_state=0)
        >>> near, far = value.fit(chain).score_samples([0, 0], returns=[2.0, 1.0])
        >>> bool(near > far)
        True
        """
        laws = self._laws(states, actions, with_noise=True)
        observed = check_rows("returns", returns, len(laws)).astype(np.float64)
        if not np.isfinite(observed).all():
            raise ValueError(f"returns must be finite, got {observed[~np.isfinite(observed)][0]}.")
        with np.errstate(divide="ignore"):
            return np.log(laws.density(observed))

    def score(self, states: Any, actions: Any = None, *, returns: Any) -> float:
        """Return the mean log-density of observed returns.

        Parameters
        ----------
        states, actions, returns
            As for `score_samples`.

        Returns
        -------
        float
            In natural logarithms of the density by units of the reward.

        Raises
        ------
        ValueError
            As for `score_samples`.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(n_steps=20, random_state=0).fit(chain)
        >>> isinstance(value.score([1], returns=[2.0]), float)
        True
        """
        return float(self.score_samples(states, actions, returns=returns).mean())

    def quantile(self, states: Any, actions: Any = None, *, q: Any) -> np.ndarray:
        """Return quantiles of the returns.

        Parameters
        ----------
        states, actions
            As for `predict`.
        q : float or array-like of shape (n_quantiles,)
            Probabilities.

        Returns
        -------
        ndarray of shape (n_states,) or (n_states, n_quantiles)

        Raises
        ------
        ValueError
            As for `predict`, and for q outside [0, 1].

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(n_steps=20, random_state=0).fit(chain)
        >>> value.quantile([0, 1], q=[0.1, 0.5, 0.9]).shape
        (2, 3)
        """
        probabilities = np.asarray(q, dtype=np.float64)
        if probabilities.ndim > 1 or not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(f"q must be a number from 0 to 1 or a list of them, got {q}.")
        laws = self._laws(states, actions, with_noise=False)
        found = laws.quantile(np.broadcast_to(probabilities, (len(laws), probabilities.size)))
        return found[:, 0] if probabilities.ndim == 0 else found

    def cdf(self, states: Any, actions: Any = None, *, returns: Any) -> np.ndarray:
        """Return the probabilities that the returns are at most given ones.

        Parameters
        ----------
        states, actions
            As for `predict`.
        returns : float or array-like of shape (n_returns,)

        Returns
        -------
        ndarray of shape (n_states,) or (n_states, n_returns)

        Raises
        ------
        ValueError
            As for `predict`, and for returns of another shape, or NaN.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(n_steps=20, random_state=0).fit(chain)
        >>> value.cdf([0, 1], returns=[1.0, 4.0]).shape
        (2, 2)
        """
        points = np.asarray(returns, dtype=np.float64)
        if points.ndim > 1 or np.isnan(points).any():
            raise ValueError(
                f"returns must be a number or a list of them, none NaN, got {returns}."
            )
        laws = self._laws(states, actions, with_noise=False)
        found = laws.cdf(np.broadcast_to(points, (len(laws), points.size)))
        return found[:, 0] if points.ndim == 0 else found

    def cvar(self, states: Any, actions: Any = None, *, alpha: float = 0.1) -> np.ndarray:
        """Return the conditional value at risk: the mean of the worst share of the returns.

        Parameters
        ----------
        states, actions
            As for `predict`.
        alpha : float, default=0.1
            The share. 1 is the expected return.

        Returns
        -------
        ndarray of shape (n_states,)

        Raises
        ------
        ValueError
            As for `predict`, and for alpha outside (0, 1].

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(n_steps=20, random_state=0).fit(chain)
        >>> bool((value.cvar([0, 1], alpha=0.1) < value.predict([0, 1])).all())
        True
        """
        share = checked_share(alpha)
        return self._laws(states, actions, with_noise=False).cvar(share)

    @abstractmethod
    def _means(self, states: Any, actions: Any) -> np.ndarray:
        """Return the expected returns, (n_states,)."""

    @abstractmethod
    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        """Return the laws at the noise level, whose densities are learned, or without the noise."""


class MixtureOfReturns(ReturnLaws):
    """The laws of the returns where one of several policies is chosen at the start.

    Laws are linear in that choice: they are the mixture of the laws of each policy.

    Parameters
    ----------
    estimators : sequence of fitted estimators
        Of the same process.
    weights : array-like of shape (n_estimators,)
        Probabilities of the choice; normalised.

    Raises
    ------
    ValueError
        If the weights do not fit.

    Examples
    --------
    >>> from skbellman import DistributionalValueEstimator, MixtureOfReturns
    >>> low, high = [
    ...     DistributionalValueEstimator(n_steps=100, random_state=0).fit(
    ...         {"state": [0, 0], "next_state": [0, 0], "reward": [r, r], "terminated": [1, 1]}
    ...     )
    ...     for r in (1.0, 2.0)
    ... ]
    >>> MixtureOfReturns([low, high], [0.5, 0.5]).predict([0]).round(1)
    array([1.5])
    """

    def __init__(self, estimators: Sequence[ReturnLaws], weights: Any) -> None:
        self.estimators = estimators
        self.weights = weights
        shares = np.asarray(weights, dtype=np.float64)
        if shares.shape != (len(estimators),) or not (shares >= 0).all() or not shares.sum() > 0:
            raise ValueError(
                f"weights must be {len(estimators)} numbers, none negative, got {weights!r}."
            )

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        parts = [e._means(states, actions) for e in self.estimators]
        return np.asarray(self._shares() @ parts)

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        # Each part without its own noise: taking it out of the mixture would not be linear.
        parts = [e._laws(states, actions, with_noise) for e in self.estimators]
        return TabulatedLaws.mixture(parts, self._shares())

    def _shares(self) -> np.ndarray:
        return np.asarray(self.weights, dtype=np.float64) / np.sum(self.weights)
