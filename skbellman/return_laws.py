"""Questions to the laws of returns."""

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
from skbellman.validation import check_count, check_numbers


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
            the policy takes the first action, too. Where actions are numbers and the policy is a
            random function, that is one draw. Columns are matched as those of states.

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

    def std(self, states: Any, actions: Any = None) -> np.ndarray:
        """Return the standard deviations of the returns.

        Parameters
        ----------
        states, actions
            As for `predict`.

        Returns
        -------
        ndarray of shape (n_states,)
            In units of the reward.

        Raises
        ------
        ValueError
            As for `predict`.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> steps = {"state": [0, 0], "next_state": [0, 0], "reward": [1.0, 3.0],
        ...          "terminated": [True, True]}
        >>> value = DistributionalValueEstimator(n_steps=20, random_state=0).fit(steps)
        >>> value.std([0]).round(3)
        array([1.])
        """
        return self._laws(states, actions, with_noise=False).deviation()

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
        observed = check_numbers("returns", check_rows("returns", returns, len(laws)), 1)
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
        probabilities = check_numbers("q", q, 1)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(f"q must be a number from 0 to 1, or a list of such numbers, got {q}.")
        laws = self._laws(states, actions, with_noise=False)
        found = laws.quantile(np.broadcast_to(probabilities, (len(laws), probabilities.size)))
        return found[:, 0] if probabilities.ndim == 0 else found

    def interval(self, states: Any, actions: Any = None, *, coverage: float = 0.9) -> np.ndarray:
        """Return the intervals between quantiles that hold a share of the returns.

        They say where a return falls. They do not say how well its mean is known.

        Parameters
        ----------
        states, actions
            As for `predict`.
        coverage : float, default=0.9
            The probability of the interval. As much lies below as above.

        Returns
        -------
        ndarray of shape (n_states, 2)
            Lower and upper ends.

        Raises
        ------
        ValueError
            As for `predict`, and for coverage outside [0, 1].

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(n_steps=20, random_state=0).fit(chain)
        >>> value.interval([0, 1], coverage=0.5).shape
        (2, 2)
        """
        if not 0 <= check_numbers("coverage", coverage) <= 1:
            raise ValueError(f"coverage must be a number from 0 to 1, got {coverage!r}.")
        return self.quantile(states, actions, q=[(1 - coverage) / 2, (1 + coverage) / 2])

    def cdf(self, states: Any, actions: Any = None, *, returns: Any) -> np.ndarray:
        """Return the probabilities that the returns are at most the given ones.

        Parameters
        ----------
        states, actions
            As for `predict`.
        returns : float or array-like of shape (n_returns,) or (n_states, n_returns)
            The same returns for all states, or a row of returns for each.

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
        points = check_numbers("returns", returns, 2)
        if np.isnan(points).any():
            raise ValueError(
                f"returns must be a number or a list of numbers, without NaN, got {returns}."
            )
        laws = self._laws(states, actions, with_noise=False)
        if points.ndim == 2 and len(points) != len(laws):
            raise ValueError(
                f"returns must be a number or a list of numbers, or have a row for each of the "
                f"{len(laws)} states; got {len(points)} rows."
            )
        n_points = points.shape[-1] if points.ndim else 1
        found = laws.cdf(np.broadcast_to(points, (len(laws), n_points)))
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

    @abstractmethod
    def _added_by_rewards(self) -> float:
        """Return what one more unit of every reward adds to each return.

        Raises
        ------
        ValueError
            If laws alone do not tell.
        """


def checked_estimators(estimators: Any) -> Sequence[ReturnLaws]:
    """Return a list of estimators of laws, or raise an error that names what is not one."""
    named = isinstance(estimators, Sequence) and not isinstance(estimators, str)
    if not named or not len(estimators):
        raise TypeError(f"estimators must be a list with at least one of them, got {estimators!r}.")
    for place, estimator in enumerate(estimators):
        checked_estimator(estimator, f"estimators[{place}]")
    return estimators


def checked_estimator(estimator: Any, name: str = "estimator") -> ReturnLaws:
    """Return an estimator of laws, or raise an error that names the parameter."""
    if not isinstance(estimator, ReturnLaws):
        raise TypeError(
            f"{name} must be a fitted DistributionalValueEstimator, or a mixture, sum or other law "
            f"made of them, got {estimator!r}."
        )
    return estimator
