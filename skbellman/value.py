"""DistributionalValueEstimator: the laws of the returns of a Markov decision process."""

from __future__ import annotations

import contextlib
import copy
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skbellman.devices import PortableMixin, resolve_device
from skbellman.fields import DensityField
from skbellman.returns.agreement import Backups, bellman_error, some_rows
from skbellman.returns.batch import Batch
from skbellman.returns.columns import InOrder, Names, asked, named_cells
from skbellman.returns.control import (
    Controller,
    ControlSettings,
    Exploration,
    Replay,
    as_vector,
    environment_space,
)
from skbellman.returns.counted import CountedReplay, GreedyTableLearner, counted
from skbellman.returns.direct import DirectReturnField
from skbellman.returns.encoding import DecisionSpace, check_rows
from skbellman.returns.evaluation import (
    encode,
    policy_probabilities,
    space_of,
    warn_of_dead_ends,
    with_actions,
    with_next_actions,
)
from skbellman.returns.fields import BasisReturnField, ReturnField, TabularReturnField
from skbellman.returns.frames import FramedReturnField
from skbellman.returns.from_table import TableFit, warn_of_mass_beyond, warn_of_misplaced
from skbellman.returns.laws import TabulatedLaws
from skbellman.returns.learning import Curves, GreedyLearner, Learner, greedy_kind
from skbellman.returns.support import Support
from skbellman.returns.transitions import Transitions, read_transitions
from skbellman.settings import Seeded, with_own_settings
from skbellman.state import renewed
from skbellman.training import TrainingDivergedError
from skbellman.validation import check_count

# Backups of all laws of a table at most: they end once laws have settled.
_MOST_SWEEPS = 20_000
# Steps of learning in an environment after which laws are to be within their ends.
_PLACED_AFTER = 1000
_AnyLearner = TypeVar("_AnyLearner", bound=GreedyLearner)


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
        _check_alpha(alpha)
        return self._laws(states, actions, with_noise=False).cvar(alpha)

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


@with_own_settings
class DistributionalValueEstimator(PortableMixin, ReturnLaws):
    r"""The law of the return of a Markov decision process, for each state and action.

    The law of the discounted sum of rewards, not its mean alone, learned from a table of
    transitions (policy evaluation) or in a gymnasium environment (control). Its density and
    gradient field are linear in the law, and so is the Bellman backup: a regression of fields on
    fields (arXiv 2410.01796). No least and largest return have to be given: means and variances
    of returns are solved for first, and say where the laws are.

    Laws are sums of Gaussians, seen at a noise level that is the spacing of their centres. That
    costs no bias: with :math:`Z_\sigma = Z + N(0, \sigma^2)`, the law of :math:`Z_\sigma` is
    that of :math:`r + e + \gamma Z'_\sigma`, :math:`e \sim N(0, \sigma^2 (1 - \gamma^2))`.

    Where a state is one of at most 1000 labels, laws are a table. Their means and variances are
    exact for what the rows say, and the backup of all steps is repeated until the shapes settle.
    In an environment, actions are then taken by laws in which what was seldom tried is hoped to be
    good.

    Elsewhere a network gives the laws. From a table, each state has a frame: a centre and a scale
    from linear equations for the mean and the variance. The network learns the law in that frame.
    In an environment all laws share one support, which moves to where they are.

    Parameters
    ----------
    policy : "table", "greedy", callable or array of shape (n_states, n_actions), \
            default="table"
        Whose returns. "table" is the policy that acted in the table; "greedy" the best one,
        which is learned with its returns. A callable takes states and gives probabilities, of
        shape (n, n_actions), or actions, (n,); an array has a row of probabilities for each
        labelled state: for each whole number from 0 if states are such, else in sorted order. The
        columns of a frame are matched with the actions, its index with the states if it has them.
    gamma : float, default=0.99
        Discount. 1 only where episodes end.
    form : {"basis", "networks"}, default="basis"
        How laws are held. "basis": sums of Gaussians, whose inner products have closed forms.
        "networks": the paper's form, where the return is an input of networks for the density and
        its gradient; from tables only, slower and less exact, on the support found by the other.
    n_basis : int, default=101
        Number of Gaussians of a law.
    gradient_weight : float, default=0.0
        Weight of matching gradient fields beside the densities, of a network's form="basis".
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Of the network from states to laws; where laws are a table there is none.
    n_steps : int or "auto", default="auto"
        Steps of the optimiser from a table, "auto" 12000, or 6000 where states are labels. Where
        laws are a table, the most backups of all steps, "auto" 20000; they end once laws have
        settled. Steps in an environment, "auto" 30000.
    batch_size : int or "auto", default="auto"
        Of a network: "auto" is 256 from a table, 64 in an environment.
    learning_rate : float or "auto", default="auto"
        Of a network's optimiser, at first: it falls to 0 along a cosine. "auto" is 1e-3; 2e-3 in an
        environment whose states are numbers.
    target_rate : float or "auto", default="auto"
        How far the slower network, whose laws are backed up, follows at each step. "auto" is 0.1
        from a table, 0.02 in an environment.
    multi_step : int, default=1
        Steps in an environment that a backup spans. 3 learns faster where rewards are dense and
        chance is small, as in CartPole; 1 where they are rare and it is large.
    exploration : float, default=0.05
        Share of random actions in an environment, once it has fallen from 1.
    exploration_fraction : float, default=0.2
        Share of the steps over which it falls. Less is enough where random steps soon show what
        there is, as in CartPole.
    n_random_steps : int, default=1000
        Steps in an environment before learning begins.
    replay_size : int, default=50000
        Transitions that are remembered; distinct ones where laws are a table.
    target_return : float or None, default=None
        Stop once the mean return of the last 20 episodes is this high.
    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes a GPU if there is one.
    verbose : int, default=0
        1 prints how far it is now and then: steps, loss, returns of episodes, support.
    random_state : int, RandomState instance or None, default=None
        Seeds everything; the global random states are left alone.

    Attributes
    ----------
    field_ : BasisReturnField
        The laws, as fields; a TabularReturnField where they are a table.
    space_ : DecisionSpace
        How states and actions are read.
    actions_ : ndarray of shape (n_actions,) or None
        The actions, if there is a choice among labels.
    support_ : tuple of float
        Least and largest return that the laws of the seen states reach.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The columns of states, if they had names.
    n_features_in_ : int
        Numbers or labels that a state is given by.
    level_ : float
        Noise level at which the laws are seen, in units of the reward.
    history_ : dict of list
        Curves: "step", "loss", "support", and in an environment "return".
    device_ : torch.device

    See Also
    --------
    MixtureOfReturns : The laws under a choice among policies.

    References
    ----------
    arXiv 2410.01796, section 3; for the projection of laws, arXiv 1707.06887.

    Examples
    --------
    A chain of two states, whose second reward is 1 or 3:

    >>> import numpy as np, pandas as pd
    >>> from skbellman import DistributionalValueEstimator
    >>> transitions = pd.DataFrame({
    ...     "state": [0, 1, 0, 1], "reward": [0.0, 1.0, 0.0, 3.0],
    ...     "next_state": [1, 1, 1, 1], "terminated": [False, True, False, True],
    ... })
    >>> value = DistributionalValueEstimator(gamma=0.5, n_steps=300, random_state=0)
    >>> value.fit(transitions).predict([0, 1]).round(1)
    array([1., 2.])
    >>> value.quantile([1], q=[0.25, 0.75]).round(1)
    array([[1., 3.]])
    """

    _portable: ClassVar[tuple[str, ...]] = ("field_",)
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "policy": [StrOptions({"table", "greedy"}), callable, "array-like"],
        "gamma": [Interval(Real, 0, 1, closed="both")],
        "form": [StrOptions({"basis", "networks"})],
        "n_basis": [Interval(Integral, 8, None, closed="left")],
        "gradient_weight": [Interval(Real, 0, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "n_steps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "target_rate": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="right")],
        "multi_step": [Interval(Integral, 1, None, closed="left")],
        "exploration": [Interval(Real, 0, 1, closed="both")],
        "exploration_fraction": [Interval(Real, 0, 1, closed="both")],
        "n_random_steps": [Interval(Integral, 0, None, closed="left")],
        "replay_size": [Interval(Integral, 1, None, closed="left")],
        "target_return": [Real, None],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        policy: Any = "table",
        gamma: float = 0.99,
        form: str = "basis",
        n_basis: int = 101,
        gradient_weight: float = 0.0,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        n_steps: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        target_rate: float | str = "auto",
        multi_step: int = 1,
        exploration: float = 0.05,
        exploration_fraction: float = 0.2,
        n_random_steps: int = 1000,
        replay_size: int = 50_000,
        target_return: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.policy = policy
        self.gamma = gamma
        self.form = form
        self.n_basis = n_basis
        self.gradient_weight = gradient_weight
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.target_rate = target_rate
        self.multi_step = multi_step
        self.exploration = exploration
        self.exploration_fraction = exploration_fraction
        self.n_random_steps = n_random_steps
        self.replay_size = replay_size
        self.target_return = target_return
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, n_steps: int | None = None) -> ReturnLaws:
        """Learn the laws of the returns.

        Parameters
        ----------
        X : DataFrame, mapping of arrays, Minari dataset, or gymnasium environment
            Transitions have the parts state, reward, next_state and terminated, and action if
            there is a choice; truncated and next_action if they are known. A part of several
            columns has columns of a frame that begin with its name, as state_0, state_1, or is an
            array of shape (n, d). States in one column of whole numbers, strings or booleans are
            labels, others numbers. Without next_action, rows are in order, and the next action is
            that of the next row. An environment, its name, or a vector environment is acted in.
        y : None
            Ignored.
        n_steps : int, optional
            In place of the parameter of that name.

        Returns
        -------
        self : DistributionalValueEstimator
            The fitted estimator.

        Raises
        ------
        ValueError
            For transitions that lack a part or a value, of different lengths, with next states of
            other columns than states, or with rewards that are not finite or beyond 1e300; for
            gamma = 1 where no episode ends, or labelled states have an infinite expected return;
            for a policy that does not fit; for an environment whose actions are not labels, or
            whose observations or masks cannot be read.
        TypeError
            If X is neither transitions nor an environment.
        ImportError
            For an environment, if gymnasium is not installed.
        TrainingDivergedError
            If training diverges. The estimator is then fitted with the last good state.

        Warns
        -----
        UserWarning
            If returns lead to labelled states of which no row tells more; if many rows are left
            out, as they are not in order; if an environment was left before learning began; if
            more than 1% of the mass of returns is beyond the ends of a network's laws, or their
            means are not those that linear equations give.
        RuntimeWarning
            If interrupted from the keyboard: what was learned is kept.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> value = DistributionalValueEstimator(
        ...     policy="greedy", n_random_steps=100, random_state=0
        ... )
        >>> value.fit("CartPole-v1", n_steps=120).act([0.0, 0.0, 0.1, 0.0]) in (0, 1)
        True
        """
        return self._fit(X, n_steps, again=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, *, n_steps: int | None = None) -> ReturnLaws:
        """Go on learning, with other transitions or in the environment.

        Where laws are a table, the steps of before still count, if the policy is the same.

        Parameters
        ----------
        X : DataFrame, mapping of arrays, Minari dataset, or gymnasium environment
            As for `fit`, with states and actions that were there in fit.
        y : None
            Ignored.
        n_steps : int, optional
            In place of the parameter of that name.

        Returns
        -------
        self : DistributionalValueEstimator
            The fitted estimator.

        Raises
        ------
        ValueError
            As for `fit`, for states or actions that were not there, and for form="networks".

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(gamma=0.5, n_steps=100, random_state=0)
        >>> value.fit(chain).partial_fit(chain, n_steps=50).predict([1]).round(1)
        array([2.])
        """
        if self.form != "basis" or isinstance(getattr(self, "field_", None), DirectReturnField):
            raise ValueError('partial_fit needs form="basis", whose support moves; use fit.')
        return self._fit(X, n_steps, again=hasattr(self, "field_"))

    def act(
        self,
        observation: Any,
        risk: str | tuple[str, float] = "mean",
        action_mask: Any = None,
    ) -> Any:
        """Return the best action in one state.

        Parameters
        ----------
        observation : object
            One state, as the environment or the table has it. A row with names, or a mapping, is
            matched by name, where the table had names.
        risk : "mean" or ("cvar", alpha), default="mean"
            What is best: the largest expected return, or the largest mean of its worst share.
        action_mask : array-like of shape (n_actions,), optional
            Which actions there are, 1 or True; all of them by default. In fit it is taken from the
            environment's ``info["action_mask"]``.

        Returns
        -------
        int or object
            As in fit.

        Raises
        ------
        ValueError
            If there is no choice of actions, the mask leaves none or is of another length, the risk
            is none of these, or the state is of another shape.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> choice = {"state": [0, 0], "action": ["a", "b"], "reward": [1.0, 2.0],
        ...           "next_state": [0, 0], "terminated": [True, True]}
        >>> value = DistributionalValueEstimator(n_steps=200, random_state=0).fit(choice)
        >>> value.act(0)
        'b'
        """
        check_is_fitted(self)
        if self.actions_ is None:
            raise ValueError("there is no choice of actions to act by.")
        states = self._one_state(observation)
        if risk == "mean":
            worth = self.field_.means(self._inputs(states, None)).cpu().numpy()[0]
        elif isinstance(risk, tuple) and len(risk) == 2 and risk[0] == "cvar":
            worth = self.cvar(states.repeated(len(self.actions_)), self.actions_, alpha=risk[1])
        else:
            raise ValueError(f'risk must be "mean" or ("cvar", alpha), got {risk!r}.')
        if action_mask is not None:
            worth = np.where(_checked_mask(action_mask, len(worth)), worth, -np.inf)
        return self.actions_.tolist()[int(worth.argmax())]

    def score(self, states: Any, actions: Any = None, *, returns: Any = None) -> float:
        r"""Return how well the laws agree with transitions, or with observed returns.

        With ``returns``, the mean log-density of these, as of `score_samples`. Without, `states`
        are transitions, as for `fit`, and the score is minus the error of the Bellman equation
        in them: the mean of the squared Cramer distance
        :math:`\int (F_{s,a}(x) - E F_{r + \gamma Z'}(x))^2 dx` between the law at a state and
        action and its mean backup by the fit's own laws. 0 is best. So `cross_val_score` and
        `GridSearchCV` work on a frame of transitions (``GroupKFold`` by episodes keeps them whole).

        Steps from the same state and action (the ten nearest, where these are numbers) are
        multiplied in pairs, so that chance averages out: it does not favour laws that are too wide.
        Scores of few steps are noisy, and may be above 0.

        It is a distance of laws of one discount, reward and policy. Laws of another ``gamma`` or
        ``policy`` are those of other returns, and are not to be compared by it: the score says
        nothing about which ``gamma`` to take. Laws that look far (gamma near 1) may be off by
        1 / (1 - gamma) times what one step shows.

        Parameters
        ----------
        states : DataFrame, array-like, or transitions
            As for `predict`; without returns, transitions as for `fit`.
        actions : array-like of shape (n_states,), optional
            As for `predict`; of transitions they are a part.
        returns : array-like of shape (n_states,), optional
            One observed return for each state.

        Returns
        -------
        float
            With returns, in natural logarithms of the density by units of the reward; without, in
            units of the reward. The larger, the better.

        Raises
        ------
        ValueError
            As for `score_samples` and `fit`; if no step is from a state and action that were there
            in fit and leads to such.
        TypeError
            If there are no returns, and `states` are no transitions.

        Warns
        -----
        UserWarning
            If steps are left out, as their states or actions were not there in fit.

        Examples
        --------
        >>> import pandas as pd
        >>> from sklearn.model_selection import cross_val_score
        >>> from skbellman import DistributionalValueEstimator
        >>> steps = pd.DataFrame({"state": [0, 0] * 20, "next_state": [0, 0] * 20,
        ...                       "reward": [1.0, 3.0] * 20, "terminated": [True, True] * 20})
        >>> value = DistributionalValueEstimator(n_steps=50, random_state=0).fit(steps)
        >>> value.score(steps) > value.score(steps.assign(reward=5.0))
        True
        >>> cross_val_score(value, steps, cv=4).shape
        (4,)
        """
        if returns is not None:
            return super().score(states, actions, returns=returns)
        check_is_fitted(self)
        if actions is not None:
            raise ValueError("without returns, actions are a part of the transitions.")
        return -self._error_of(self._held_out(read_transitions(states)))

    def law(self, state: Any, action: Any = None) -> DensityField:
        """Return the density field of the return in one state.

        For `skbellman.dynamics.bellman_dynamics`, and for arithmetic.

        Parameters
        ----------
        state : object
            One state.
        action : object, optional
            Needed if there is a choice.

        Returns
        -------
        DensityField
            Of one column. Its density may be negative by a little.

        Raises
        ------
        ValueError
            If the state or action is unknown.

        Examples
        --------
        >>> import torch
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(gamma=0.5, n_steps=100, random_state=0)
        >>> field = value.fit(chain).law(1)
        >>> field.scalar(torch.tensor([[2.0]]), sigma=0.5).round(decimals=1)  # N(2, 0.25)
        tensor([0.8000])
        """
        check_is_fitted(self)
        actions = None if action is None else self._one_action(action)
        inputs = self._inputs(self._one_state(state), actions)
        with torch.no_grad():
            return self.field_.law(inputs[0], int(self.space_.codes(actions, 1)[0]))

    def _fit(self, X: Any, n_steps: int | None, again: bool) -> DistributionalValueEstimator:
        random_state = check_random_state(self.random_state)
        seeds = random_state.randint(2**31, size=2)
        device = resolve_device(self.device)
        steps = self.n_steps if n_steps is None else check_count("n_steps", n_steps)
        rng, failure = np.random.default_rng(seeds[1]), None
        with renewed(self) as draft, Seeded(int(seeds[0])):
            try:
                if isinstance(X, str) or (hasattr(X, "reset") and hasattr(X, "step")):
                    draft._fit_environment(X, steps, again, rng, device)
                else:
                    table = read_transitions(X)
                    table = self._in_order(table) if again else table
                    draft._fit_table(table, steps, again, rng, device)
            except TrainingDivergedError as error:
                failure = error
        if failure is not None:
            raise failure
        return self

    def _fit_table(
        self,
        table: Transitions,
        n_steps: int | str,
        again: bool,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        if self.gamma == 1 and not table.terminated.any():
            raise ValueError("gamma=1 needs episodes that end, but no step of X is terminated.")
        if isinstance(self.policy, str) and self.policy == "table":
            table = with_next_actions(table)
        space = self.space_ if again else space_of(table)
        if self._is_greedy and space.actions is None:
            raise ValueError('policy="greedy" needs labels as actions, of which one is the best.')
        warn_of_dead_ends(table, space)
        steps = encode(table, space, None if self._is_greedy else self.policy, device)
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        fit = self._table_fit(space, generator)
        few = self._counted(steps, space, again)
        tabular = None if few is None else self._tabular(fit, few, space, n_steps)
        if self.form == "networks":
            field, curves = self._papers_form(fit, steps, tabular, n_steps)
        elif tabular is not None:
            field, curves = tabular
        else:
            field, curves = fit.with_network(
                steps,
                steps_from_table(space.features.one_hot) if n_steps == "auto" else int(n_steps),
                self.field_ if again and isinstance(self.field_, FramedReturnField) else None,
            )
        if tabular is None:
            warn_of_misplaced(field, steps, self.gamma)
        self._keep(field, space, device, curves, steps.state)
        if few is not None and tabular is not None:
            self._remember(few, 1)
        curves.raise_if_diverged()

    def _table_fit(self, space: DecisionSpace, generator: torch.Generator) -> TableFit:
        return TableFit(
            gamma=self.gamma,
            sizes=(space.n_inputs, space.n_actions),
            n_basis=self.n_basis,
            gradient_weight=self.gradient_weight,
            hidden=self._hidden(),
            batch_size=None if self.batch_size == "auto" else int(self.batch_size),
            rates=self._rates,
            generator=generator,
            report=self._report,
        )

    def _counted(self, steps: Batch, space: DecisionSpace, again: bool) -> Batch | None:
        """Return the distinct steps, with those of before, if laws may be a table."""
        in_network = again and not isinstance(self.field_, TabularReturnField)
        if not space.is_tabular or in_network:
            return None
        few, before = counted(steps), self._counted_before(again, 1)
        return few if before is None else counted(few.and_then(before.to(steps.reward.device)))

    def _tabular(
        self, fit: TableFit, few: Batch, space: DecisionSpace, n_steps: int | str
    ) -> tuple[TabularReturnField, Curves] | None:
        n_sweeps = _MOST_SWEEPS if n_steps == "auto" else int(n_steps)
        return fit.with_labels(few, n_sweeps, space.pair_name)

    def _papers_form(
        self,
        fit: TableFit,
        steps: Batch,
        tabular: tuple[TabularReturnField, Curves] | None,
        n_steps: int | str,
    ) -> tuple[ReturnField, Curves]:
        n_steps = 10_000 if n_steps == "auto" else int(n_steps)
        return fit.in_the_papers_form(steps, None if tabular is None else tabular[0], n_steps)

    def _fit_environment(
        self,
        X: Any,
        n_steps: int | str,
        again: bool,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        if not self._is_greedy:
            raise ValueError(
                'in an environment the best policy is learned: set policy="greedy", or pass a '
                "table of the transitions of the policy that is evaluated."
            )
        if self.form != "basis":
            raise ValueError('in an environment form must be "basis", whose support moves.')
        with contextlib.ExitStack() as stack:
            environment = as_vector(X)
            if isinstance(X, str):
                stack.callback(environment.close)
            self._act_and_learn(environment, n_steps, again, rng, device)

    def _act_and_learn(
        self,
        environment: Any,
        n_steps: int | str,
        again: bool,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        space = environment_space(environment)
        if again and not space.agrees_with(self.space_):
            raise ValueError(
                "the estimator was fitted to other states or actions than the environment's: "
                "use fit."
            )
        n_steps = 30_000 if n_steps == "auto" else int(n_steps)
        discount = self.gamma**self.multi_step
        tabular = space.is_tabular
        kind = GreedyTableLearner if tabular else greedy_kind(space.features.one_hot)
        learner = self._basis_learner(kind, space, torch.zeros(1), again, device, discount, 0.02)
        settings = ControlSettings(
            n_steps=n_steps,
            n_random_steps=0 if again else self.n_random_steps,
            batch_size=64 if self.batch_size == "auto" else int(self.batch_size),
            multi_step=self.multi_step,
            gamma=self.gamma,
            exploration=Exploration(
                self.exploration, 0 if again else round(self.exploration_fraction * n_steps)
            ),
            target_return=self.target_return,
        )
        memory = CountedReplay if tabular else Replay
        replay = memory(self.replay_size, space.n_inputs, rng, device)
        before = self._counted_before(again, self.multi_step)
        if isinstance(replay, CountedReplay) and before is not None:
            replay.recall(before)
        controller = Controller(learner, replay, settings, rng)
        controller.run(environment, space.features, int(rng.integers(2**31)), self._report)
        # The slower network: its policy is that of many steps, and does not waver.
        field, seen = learner.target, replay.everything()
        in_table = isinstance(replay, CountedReplay) and len(replay) > 0
        if in_table:
            field = self._settled(learner, seen, space, discount, device, rng)
        elif learner.n_steps >= _PLACED_AFTER:
            warn_of_mass_beyond(field, seen, discount)
        self._keep(field, space, device, controller.curves, seen.state)
        if in_table:
            self._remember(seen, self.multi_step)
        controller.curves.raise_if_diverged()

    def _settled(
        self,
        learner: Any,
        seen: Batch,
        space: DecisionSpace,
        discount: float,
        device: torch.device,
        rng: np.random.Generator,
    ) -> ReturnField:
        """Return the laws of all steps that were counted; those learned if steps are too many."""
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        fit = self._table_fit(space, generator)
        fit = replace(fit, gamma=discount, report=lambda line: None)
        found = fit.with_labels(seen, _MOST_SWEEPS, space.pair_name)
        field: ReturnField = learner.target if found is None else found[0]
        return field

    def _basis_learner(
        self,
        kind: type[_AnyLearner],
        space: DecisionSpace,
        rewards: torch.Tensor,
        again: bool,
        device: torch.device,
        discount: float,
        target_rate: float,
    ) -> _AnyLearner:
        """Return what learns the field: the fitted one again, or a new one."""
        support = Support(self.gamma, self.n_basis, self.gradient_weight)
        basis = support.first(rewards)
        if again:
            field: Any = copy.deepcopy(self.field_).requires_grad_().to(device)
        else:
            sizes = space.n_inputs, space.n_actions
            if issubclass(kind, GreedyTableLearner):
                field = TabularReturnField(*sizes, basis).to(device)
            else:
                field = BasisReturnField(*sizes, self._hidden(), basis).to(device)
        return kind(field, support, discount, *self._rates(kind, target_rate))

    def _hidden(self) -> list[int]:
        return [check_count("hidden_layer_sizes", n) for n in self.hidden_layer_sizes]

    def _rates(self, kind: type[Learner], target_rate: float) -> tuple[float, float]:
        """Return the rates of learning and of the target: where "auto", the usual and the given."""
        return (
            kind.usual_rate if self.learning_rate == "auto" else float(self.learning_rate),
            target_rate if self.target_rate == "auto" else float(self.target_rate),
        )

    def _keep(
        self,
        field: ReturnField,
        space: DecisionSpace,
        device: torch.device,
        curves: Curves,
        states: torch.Tensor,
    ) -> None:
        """Set the fitted attributes, all at once; states are some of those that were seen."""
        self.field_ = field.eval().requires_grad_(False)
        self.space_, self.device_ = space, device
        self.actions_ = None if space.actions is None else space.actions.labels
        low, high, self.level_ = field.reach(states)
        self.support_ = (low, high)
        self.history_ = curves.as_dict()
        self._steps_seen: tuple[Batch, Any, tuple[int, float]] | None = None

    def _remember(self, steps: Batch, span: int) -> None:
        """Keep the distinct steps for `partial_fit`, beside what they depend on."""
        self._steps_seen = (steps.to("cpu"), self.policy, self._spanned(span))

    def _counted_before(self, again: bool, span: int) -> Batch | None:
        """Return the distinct steps of before, if they are of the same policy and span."""
        if not again or self._steps_seen is None:
            return None
        steps, policy, spanned = self._steps_seen
        same = policy is self.policy or (isinstance(policy, str) and policy == self.policy)
        return steps if same and spanned == self._spanned(span) else None

    def _spanned(self, span: int) -> tuple[int, float]:
        """Return what sums of rewards over a span of steps depend on."""
        return (span, self.gamma if span > 1 else 1.0)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """The columns of states, if they had names in fit."""
        names = self.space_.state_names
        if names is None:
            raise AttributeError("the estimator was fitted without feature names.")
        return np.array(names, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """Numbers or labels that a state is given by."""
        return self.space_.features.n_values

    @property
    def _is_recorded(self) -> bool:
        """Whether the policy is known by the actions that it took."""
        return self._has_choice and isinstance(self.policy, str) and self.policy == "table"

    @property
    def _has_choice(self) -> bool:
        """Whether there is a choice of actions."""
        return self.space_.n_actions > 1 or self.space_.action_features is not None

    @property
    def _is_greedy(self) -> bool:
        return isinstance(self.policy, str) and self.policy == "greedy"

    def _report(self, line: str) -> None:
        if self.verbose:
            print(line)

    def _inputs(self, states: Any, actions: Any) -> torch.Tensor:
        """Return states as the network takes them, (n, n_inputs)."""
        encoded = self.space_.inputs(self._rows(states), actions)
        return torch.as_tensor(encoded, dtype=torch.float32, device=self.device_)

    def _rows(self, states: Any) -> Any:
        """Return states as an array in the order of fit, or as they are where a state is none."""
        if isinstance(states, InOrder):
            return states.rows
        if not self.space_.features.of_parts:
            return asked(states, "state", self.space_.state_names)
        if not isinstance(states, Sequence | np.ndarray):
            raise ValueError(f"states must be a list of observations, got {states!r}.")
        return states

    def _one_state(self, observation: Any) -> InOrder:
        """Return one state, which may be a row of a frame, as a list of states."""
        cells = self._cells(observation, self.space_.state_names)
        rows = self._rows([observation] if cells is None else cells)
        if len(rows) != 1:
            raise ValueError(f"one state is asked for, but there are {len(rows)} rows.")
        return InOrder(rows)

    def _one_action(self, action: Any) -> np.ndarray:
        """Return one action, which may be a row of a frame, as an array of actions."""
        cells = self._cells(action, self.space_.action_names)
        return check_rows(
            "actions", [action] if cells is None else cells, 1, self.space_.action_names
        )

    def _cells(self, row: Any, names: Names) -> Any:
        return None if names is None else named_cells(row)

    def _held_out(self, table: Transitions) -> Transitions:
        """Return the steps among states and actions that were there in fit."""
        table = self._in_order(table)
        table = with_actions(with_next_actions(table) if self._is_recorded else table, self.space_)
        following = table.next_action if self._is_recorded else None
        known = self.space_.knows(table.state, table.action)
        known &= self.space_.knows(table.next_state, following) | table.terminated
        if not known.any():
            raise ValueError("no step of X is among states and actions that were there in fit.")
        if not known.all():
            warnings.warn(
                f"{(~known).sum()} of {len(known)} steps are left out of the score: their states "
                "or actions were not there in fit.",
                UserWarning,
                stacklevel=3,
            )
        table = table.take(np.flatnonzero(known))
        return table if self.space_.is_tabular else table.take(some_rows(len(table)))

    def _error_of(self, table: Transitions) -> float:
        """Return the error of the Bellman equation in steps, see `score`."""
        own, own_of = self._distinct_laws(table.state, table.action)
        ahead, ahead_of = self._distinct_laws(table.next_state, self._actions_after(table))
        discount = self.gamma * ~table.terminated
        backups = Backups(own, ahead, own_of, ahead_of, table.reward, discount)
        if self.space_.is_tabular:
            return bellman_error(backups, own_of)
        inputs = self.space_.inputs(table.state, table.action)
        return bellman_error(backups, self.space_.codes(table.action, len(table)), inputs)

    def _actions_after(self, table: Transitions) -> np.ndarray | None:
        """Return the actions after a step, None where the policy chooses among labels."""
        if self._is_recorded:
            return table.next_action
        if self.space_.action_features is None:
            return None
        return np.asarray(self.policy(table.next_state))

    def _distinct_laws(
        self, states: np.ndarray, actions: np.ndarray | None
    ) -> tuple[TabulatedLaws, np.ndarray]:
        """Return laws without noise, and which of them each state has: distinct ones of labels."""
        rows = of = np.arange(len(states))
        if self.space_.is_tabular:
            places = self.space_.features(states).argmax(1) * self.space_.n_actions
            if actions is not None:
                places = places + self.space_.codes(actions, len(states))
            _, rows, of = np.unique(places, return_index=True, return_inverse=True)
        some = None if actions is None else InOrder(actions[rows])
        return self._laws(InOrder(states[rows]), some, with_noise=False), of

    def _in_order(self, table: Transitions) -> Transitions:
        """Return a table with its columns in the order of fit, without actions if it had none."""
        if not self._has_choice:
            table = replace(table, action=None, next_action=None)
        elif table.action is None:
            raise ValueError("the transitions lack ['action'], of which there was a choice in fit.")
        return table.in_order_of(self.space_.state_names, self.space_.action_names)

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        field, inputs, policy = self._question(states, actions)
        with torch.no_grad():
            return field.moments(inputs, policy)[0].double().cpu().numpy()

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        field, inputs, policy = self._question(states, actions)
        return field.tabulated(inputs, policy, with_noise)

    def _question(
        self, states: Any, actions: Any
    ) -> tuple[ReturnField, torch.Tensor, torch.Tensor]:
        """Return the field, and states and probabilities of first actions as it takes them."""
        check_is_fitted(self)
        values = self._rows(states)
        if actions is not None:
            actions = check_rows("actions", actions, len(values), self.space_.action_names)
        inputs = self._inputs(InOrder(values), actions)
        policy = torch.as_tensor(self._first_actions(values, actions, inputs)).to(inputs)
        return self.field_, inputs, policy

    def _first_actions(
        self, states: np.ndarray, actions: np.ndarray | None, inputs: torch.Tensor
    ) -> np.ndarray:
        """Return the probabilities of the first actions, (n_states, n_actions)."""
        n_actions = self.space_.n_actions
        if actions is not None or n_actions == 1:
            return np.eye(n_actions)[self.space_.codes(actions, len(states))]
        if self._is_greedy:
            return np.eye(n_actions)[self.field_.best(inputs).cpu().numpy()]
        if isinstance(self.policy, str):
            raise ValueError(
                "there is a choice of actions, and the policy is known by its recorded actions "
                "alone: pass actions."
            )
        return policy_probabilities(self.policy, states, self.space_)


def steps_from_table(labels: bool) -> int:
    """Return the steps after which laws of a network have settled: more where states blend."""
    return 6000 if labels else 12_000


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be above 0 and at most 1, got {alpha!r}.")


def _checked_mask(mask: Any, n_actions: int) -> np.ndarray:
    flags = np.asarray(mask).astype(bool)
    if flags.shape != (n_actions,) or not flags.any():
        raise ValueError(f"action_mask must hold {n_actions} flags, one at least true, got {mask}.")
    return flags
