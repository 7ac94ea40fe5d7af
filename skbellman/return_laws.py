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
    """Base of estimators of laws of returns. A subclass defines their densities."""

    def predict(self, states: Any, actions: Any = None) -> np.ndarray:
        """Return the expected returns.

        Parameters
        ----------
        states : DataFrame or array-like of shape (n_states,) or (n_states, n_features)
            As in fit. The columns of a frame are matched by name with ``feature_names_in_``, and
            other columns are ignored. Columns of an array are in that order.
        actions : DataFrame or array-like of shape (n_states,) or (n_states, n_numbers), optional
            First actions, after which the policy acts. One action applies to all states. By default
            the policy takes the first action, too. Columns are matched as those of states.

        Returns
        -------
        ndarray of shape (n_states,)
            In units of the reward.

        Raises
        ------
        ValueError
            For states or actions that were not seen in fit, or that have another shape or other
            columns. If actions are left out and only the recorded actions of the policy are known.

        Warns
        -----
        UserWarning
            If states of several columns have names and had none in fit, or the reverse.

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
        """Sample returns.

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
            Log-densities of the laws at the noise level ``level_``; -inf if the density is not
            positive.

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
            In nats, for a density per unit of the reward.

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
            raise ValueError(f"q must be a number from 0 to 1, or a list of such numbers, got {q}.")
        laws = self._laws(states, actions, with_noise=False)
        found = laws.quantile(np.broadcast_to(probabilities, (len(laws), probabilities.size)))
        return found[:, 0] if probabilities.ndim == 0 else found

    def cdf(self, states: Any, actions: Any = None, *, returns: Any) -> np.ndarray:
        """Return the probabilities that the returns are at most the given ones.

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
                f"returns must be a number or a list of numbers, without NaN, got {returns}."
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
        """Return the laws with the noise of their level, or without it."""


class MixtureOfReturns(ReturnLaws):
    """The laws of the returns if one of several policies is chosen at the start.

    The law is the mixture of the laws of the policies.

    Parameters
    ----------
    estimators : sequence of fitted estimators
        Estimators of the same process.
    weights : array-like of shape (n_estimators,)
        Probabilities of the choice; normalised.

    Raises
    ------
    ValueError
        If the weights have another length, or one is negative.

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
        # The noise is removed from each part, because its removal from the mixture is not linear.
        parts = [e._laws(states, actions, with_noise) for e in self.estimators]
        return TabulatedLaws.mixture(parts, self._shares())

    def _shares(self) -> np.ndarray:
        return np.asarray(self.weights, dtype=np.float64) / np.sum(self.weights)
