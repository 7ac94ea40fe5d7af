"""Laws of returns made of fitted ones, without new data: mixtures, sums, units, other risks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skbellman.return_laws import ReturnLaws, checked_estimator, checked_estimators
from skbellman.returns.combined import in_units, mixture_of, sum_of
from skbellman.returns.laws import TabulatedLaws
from skbellman.returns.risk import share_of
from skbellman.settings import with_own_settings
from skbellman.validation import check_numbers


class MixtureOfReturns(ReturnLaws):
    """The laws of the returns if one of several policies is chosen at the start.

    The law is the mixture of the laws of the policies. The choice holds until the end: a policy
    that is chosen anew at every step has another law, which laws of the parts do not tell. Fit that
    one as a ``policy`` of its own, with the mean of the probabilities of its parts.

    Parameters
    ----------
    estimators : sequence of fitted estimators
        Estimators of the same process.
    weights : array-like of shape (n_estimators,)
        Probabilities of the choice; normalised.

    Raises
    ------
    TypeError
        If there is no estimator, or one is something else.
    ValueError
        If the weights have another length, or one is negative or not finite.

    See Also
    --------
    SumOfReturns : The law of a sum of returns, not of a choice among them.

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
        self._shares()

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        parts = [e._means(states, actions) for e in self.estimators]
        return np.asarray(self._shares() @ parts)

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        # The noise is removed from each part, because its removal from the mixture is not linear.
        parts = [e._laws(states, actions, with_noise) for e in self.estimators]
        return mixture_of(parts, self._shares())

    def _added_by_rewards(self) -> float:
        added = {e._added_by_rewards() for e in self.estimators}
        if len(added) > 1:
            raise ValueError(
                "The parts of the mixture have different discounts, so one shift of rewards moves "
                "them by different amounts: use RescaledReturns for each part."
            )
        return added.pop()

    def _shares(self) -> np.ndarray:
        n = len(checked_estimators(self.estimators))
        shares = check_numbers("weights", self.weights, 1)
        positive = shares.shape == (n,) and (shares >= 0).all() and shares.any()
        if not (positive and np.isfinite(shares).all()):
            raise ValueError(
                f"weights must be {n} numbers, none negative, not all 0, got {self.weights!r}."
            )
        shares = shares / shares.max()  # first, because the sum of huge weights is infinite
        return np.asarray(shares / shares.sum())


class SumOfReturns(ReturnLaws):
    r"""The law of the sum of the returns of independent processes.

    It is the convolution of their laws. Means and variances add up exactly. `score_samples` sees
    the sum at the noise of all parts together, :math:`\sqrt{\sum_i \sigma_i^2}`. If a process is
    there twice, its two returns are independent.

    Processes that share their chance (one weather, one market) are not independent, and the law of
    their sum does not follow from their laws.

    Parameters
    ----------
    estimators : sequence of fitted estimators
        One for each process. Questions take a list with the states of each process, and a list with
        the actions of each (None where the policy chooses), all of the same number of rows.

    Raises
    ------
    TypeError
        If there is no estimator, or one is something else.

    See Also
    --------
    RescaledReturns : For weights or signs of the parts.
    MixtureOfReturns : The law of a choice among returns.

    Examples
    --------
    Two coins, each 0 or 1:

    >>> from skbellman import DistributionalValueEstimator, SumOfReturns
    >>> coin = {"state": [0, 0], "next_state": [0, 0], "reward": [0.0, 1.0],
    ...         "terminated": [True, True]}
    >>> value = DistributionalValueEstimator(random_state=0).fit(coin)
    >>> both = SumOfReturns([value, value])
    >>> both.cdf([[0], [0]], returns=[0.5, 1.5]).round(2)
    array([[0.25, 0.75]])
    """

    def __init__(self, estimators: Sequence[ReturnLaws]) -> None:
        self.estimators = estimators
        checked_estimators(estimators)

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        means = [e._means(*asked) for e, asked in self._asked(states, actions)]
        _check_rows([len(mean) for mean in means])
        return np.asarray(np.sum(means, 0))

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        asked = self._asked(states, actions)
        parts = [e._laws(*questions, with_noise) for e, questions in asked]
        _check_rows([len(part) for part in parts])
        return sum_of(parts)

    def _asked(self, states: Any, actions: Any) -> list[tuple[ReturnLaws, tuple[Any, Any]]]:
        """Return each estimator with its states and actions."""
        n = len(checked_estimators(self.estimators))
        actions = [None] * n if actions is None else actions
        for name, given in (("states", states), ("actions", actions)):
            if not isinstance(given, list | tuple) or len(given) != n:
                raise ValueError(
                    f"{name} must be a list of {n}, one for each process of the sum, got {given!r}."
                )
        return list(zip(self.estimators, zip(states, actions, strict=True), strict=True))

    def _added_by_rewards(self) -> float:
        raise ValueError(
            "Each process of a sum has its own rewards: use RescaledReturns for each part."
        )


class RescaledReturns(ReturnLaws):
    r"""The laws of the returns if every reward r becomes scale * r + shift.

    A scale multiplies returns. It may be negative, such as -1 for costs. A shift adds
    :math:`shift / (1 - \gamma)` to a return that never ends. If episodes end, what a shift adds
    depends on their length, which the law of a return does not tell. So it is refused then: fit
    again with the other rewards.

    The policy stays the same. With a negative scale, the policy that was best is not best any more.

    Parameters
    ----------
    estimator : fitted estimator
        Laws of the original rewards.
    scale : float, default=1.0
        Finite, not 0.
    shift : float, default=0.0
        In units of the new reward.

    Raises
    ------
    TypeError
        If the estimator is something else.
    ValueError
        If scale is 0, or one of them is not a finite number. In questions, if there is a shift and
        steps that end were seen in fit, or if returns become too large for floats.

    See Also
    --------
    SumOfReturns : Sums of such returns.

    Examples
    --------
    >>> from skbellman import DistributionalValueEstimator, RescaledReturns
    >>> loop = {"state": [0], "next_state": [0], "reward": [1.0], "terminated": [False]}
    >>> value = DistributionalValueEstimator(gamma=0.5, random_state=0).fit(loop)
    >>> RescaledReturns(value, scale=10.0, shift=1.0).predict([0]).round(3)
    array([22.])
    """

    def __init__(self, estimator: ReturnLaws, scale: float = 1.0, shift: float = 0.0) -> None:
        self.estimator = estimator
        self.scale = scale
        self.shift = shift
        self._checked_scale()

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        scale, shift = self._unit()
        with np.errstate(over="ignore"):
            return self._checked(scale * self.estimator._means(states, actions) + shift)

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        laws = self.estimator._laws(states, actions, with_noise)
        with np.errstate(over="ignore", invalid="ignore"):
            changed = in_units(laws, *self._unit())
            self._checked(changed.edges_of_returns())
        return changed

    def _unit(self) -> tuple[float, float]:
        """Return what returns are multiplied by, and what is added."""
        scale, shift = self._checked_scale()
        return scale, shift * self.estimator._added_by_rewards() if shift else 0.0

    def _checked_scale(self) -> tuple[float, float]:
        """Return scale and shift."""
        checked_estimator(self.estimator)
        scale, shift = check_numbers("scale", self.scale), check_numbers("shift", self.shift)
        if not (scale and np.isfinite(scale) and np.isfinite(shift)):
            raise ValueError(
                f"scale must be finite and not 0, and shift finite, got scale={self.scale!r}, "
                f"shift={self.shift!r}."
            )
        return float(scale), float(shift)

    def _checked(self, returns: np.ndarray) -> np.ndarray:
        if not np.isfinite(returns).all():
            raise ValueError(
                f"scale={self.scale!r} and shift={self.shift!r} make returns too large for floats. "
                "Choose smaller ones."
            )
        return returns

    def _added_by_rewards(self) -> float:
        return self.estimator._added_by_rewards()


@with_own_settings
class ImprovedReturns(ReturnLaws):
    """The laws of the returns if the first action is the best one for another risk.

    Where a question names no action, the first one is the best by the mean, or by the mean of the
    worst share of returns. From the second step on, the policy of the fit acts. This is one step of
    policy improvement, from the laws of a policy that may have been fitted for another risk.

    If `act` is called at every step, that is another policy, with other laws: to learn them from
    the same transitions, fit an estimator with ``policy=improved.act``.

    Parameters
    ----------
    estimator : fitted DistributionalValueEstimator
        Laws after actions that are labels.
    risk : "mean" or ("cvar", alpha), default="mean"
        The statistic that the first action maximises.

    Raises
    ------
    TypeError
        If the estimator is not a `DistributionalValueEstimator`.
    ValueError
        If the risk is unknown. In questions, if there is no choice of labelled actions.

    See Also
    --------
    MixtureOfReturns : The laws if a policy is chosen at the start.

    Examples
    --------
    Action "b" is better on average, and worse in its worst half:

    >>> from skbellman import DistributionalValueEstimator, ImprovedReturns
    >>> choice = {"state": [0] * 4, "action": ["a", "a", "b", "b"], "next_state": [0] * 4,
    ...           "reward": [1.0, 1.0, 0.0, 4.0], "terminated": [True] * 4}
    >>> value = DistributionalValueEstimator(policy="greedy", random_state=0).fit(choice)
    >>> careful = ImprovedReturns(value, risk=("cvar", 0.5))
    >>> value.predict([0]).round(2), careful.predict([0]).round(2), careful.act(0)
    (array([2.]), array([1.]), 'a')
    """

    def __init__(self, estimator: Any, risk: str | tuple[str, float] = "mean") -> None:
        self.estimator = estimator
        self.risk = risk
        share_of(risk)
        self._choosing()

    def act(self, observation: Any, action_mask: Any = None) -> Any:
        """Return the best action for the risk, in one state, or in each of several.

        Parameters
        ----------
        observation : object
            One state or several, as for `DistributionalValueEstimator.act`.
        action_mask : array-like of shape (n_actions,) or (n_states, n_actions), optional
            Available actions are 1 or True. By default all are available.

        Returns
        -------
        int or object, or ndarray of shape (n_states, ...)
            Actions in the form of fit.

        Raises
        ------
        ValueError
            As for `DistributionalValueEstimator.act`.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator, ImprovedReturns
        >>> choice = {"state": [0, 0], "action": ["a", "b"], "reward": [1.0, 2.0],
        ...           "next_state": [0, 0], "terminated": [True, True]}
        >>> value = DistributionalValueEstimator(policy="greedy", random_state=0).fit(choice)
        >>> ImprovedReturns(value, risk=("cvar", 0.1)).act([0, 0])
        array(['b', 'b'], dtype=object)
        """
        return self.estimator.act(observation, self.risk, action_mask)

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        return self.estimator._means(states, self._first(states, actions))

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        return self.estimator._laws(states, self._first(states, actions), with_noise)

    def _first(self, states: Any, actions: Any) -> Any:
        return self._choosing()._best_actions(states, self.risk) if actions is None else actions

    def _choosing(self) -> Any:
        """Return the estimator, which chooses among actions."""
        if not hasattr(checked_estimator(self.estimator), "_best_actions"):
            raise TypeError(
                "ImprovedReturns needs a DistributionalValueEstimator, because it chooses among "
                f"actions. Improve the parts, and combine them then; got {self.estimator!r}."
            )
        return self.estimator

    def _added_by_rewards(self) -> float:
        return self.estimator._added_by_rewards()


def _check_rows(n_rows: list[int]) -> None:
    if len(set(n_rows)) > 1:
        raise ValueError(f"The processes of the sum have different numbers of states: {n_rows}.")
