"""DistributionalValueEstimator: the laws of the returns of a Markov decision process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skbellman.devices import PortableMixin, resolve_device
from skbellman.fields import DensityField
from skbellman.return_laws import ReturnLaws
from skbellman.returns.episodes import is_environment
from skbellman.returns.fit_environment import fit_environment
from skbellman.returns.fit_table import fit_table
from skbellman.returns.held_out import HeldOut
from skbellman.returns.laws import TabulatedLaws
from skbellman.returns.plan import Fitted, Learned, Plan
from skbellman.returns.policies import policy_of
from skbellman.returns.questions import Questions
from skbellman.returns.transitions import read_transitions
from skbellman.settings import Seeded, with_own_settings
from skbellman.state import renewed
from skbellman.validation import check_count


@with_own_settings
class DistributionalValueEstimator(PortableMixin, ReturnLaws):
    r"""The law of the return of a Markov decision process, for each state and action.

    It learns the distribution of the discounted sum of rewards, not only its mean, from a table of
    transitions (policy evaluation) or in a gymnasium environment (control). The density and
    gradient field are linear in the law, and so is the Bellman backup: learning is a regression of
    fields on fields (arXiv 2410.01796). No bounds of returns are needed: means and variances of
    returns are solved for first, and determine the support.

    Laws are sums of Gaussians at a noise level near the spacing of their centres. The noise adds no
    bias: with :math:`Z_\sigma = Z + N(0, \sigma^2)`, the law of :math:`Z_\sigma` is that of
    :math:`r + e + \gamma Z'_\sigma`, :math:`e \sim N(0, \sigma^2 (1 - \gamma^2))`.

    If states are at most 1000 labels, laws are a table. Their means and variances are exact for the
    rows, and the backup of all steps is repeated until the shapes settle. In an environment, laws
    with an exploration bonus for rare actions then choose the actions.

    An actor, a second network, chooses actions of a Box. It maximises the mean of the laws, or the
    mean of their worst share (``risk``). Two critics learn the laws. At first the law with the
    lower value is backed up (arXiv 1802.09477), in the end their mixture.

    Otherwise a network gives the laws. In a fit to a table, each state has a frame: a centre and a
    scale from linear equations for the mean and the variance. The network learns the law in that
    frame, by cross-entropy. In an environment, all laws share one support, which follows them. If
    its observations hold an image, the network begins with convolutions.

    Parameters
    ----------
    policy : "table", "greedy", callable or array of shape (n_states, n_actions), \
            default="table"
        The policy whose returns are learned. "table" is the policy that acted in the table.
        "greedy" is the best policy, which is learned together with its returns. A callable maps
        states to probabilities, (n, n_actions), or to actions, (n,). Actions that are numbers have
        shape (n,) or (n, n_numbers). It gets states as arrays in the order of fit, those of a
        dataset with mappings as rows of numbers. An array has a row of probabilities for each
        labelled state. If states are whole numbers, row i is that of state
        i, else rows follow the sorted labels. Columns of a frame are matched with the actions, and
        its index with the states if it has them.
    gamma : float, default=0.99
        Discount. 1 needs episodes that end.
    form : {"basis", "networks"}, default="basis"
        Form of the laws. "basis": sums of Gaussians, whose inner products have closed forms.
        "networks": the paper's form, where the return is an input of networks for the density and
        its gradient. It needs a table, is slower and less exact, and uses the support of the other
        form.
    n_basis : int, default=101
        Number of Gaussians of a law.
    gradient_weight : float, default=0.0
        Weight of matching gradient fields as well as densities, for networks in an environment with
        form="basis".
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Units of the hidden layers of the network from states to laws. Unused if laws are a table.
    n_steps : int or "auto", default="auto"
        Optimiser steps of a fit to a table: "auto" is 12000, or 6000 if states are labels. If laws
        are a table, the largest number of backups of all steps: "auto" is 20000, and backups end
        once laws have settled. Steps in an environment: "auto" is 30000.
    batch_size : int or "auto", default="auto"
        Rows of a batch for networks. "auto" is 256 for a table, 64 in an environment.
    learning_rate : float or "auto", default="auto"
        Initial learning rate for networks. It decays to 0 by a cosine. "auto" is 1e-3, or 2e-3 in
        an environment whose states are numbers.
    target_rate : float or "auto", default="auto"
        Share by which the slower network, whose laws are backed up, follows at each step. "auto" is
        0.1 for a table, 0.02 in an environment.
    multi_step : int or "auto", default="auto"
        Steps of a backup in an environment. "auto" is 3 if a network gives the laws of actions that
        are labels, and states are numbers or images. Otherwise it is 1. 3 learns faster if rewards
        are dense and transitions nearly deterministic, as in CartPole. Returns with random actions
        are left out in the last 30% of the steps, so laws are those of the learned policy.
    exploration : float, default=0.05
        Final share of random actions in an environment; the first share is 1. For actions of a Box,
        the standard deviation of the noise on actions, in units of half their range.
    exploration_fraction : float, default=0.2
        Share of the steps over which exploration falls. A small share is enough if random steps
        soon visit all states, as in CartPole.
    n_random_steps : int, default=1000
        Steps in an environment before learning begins.
    replay_size : int, default=50000
        Number of transitions that are kept: distinct ones if laws are a table. Images of bytes are
        kept as bytes.
    risk : "mean" or ("cvar", alpha), default="mean"
        What the actor of a Box of actions maximises: the expected return, or the mean of the worst
        share of returns. For actions that are labels, pass ``risk`` to ``act`` instead.
    target_return : float or None, default=None
        Stop once the mean return of the last 20 episodes reaches this value.
    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes a GPU if there is one.
    verbose : int, default=0
        1 reports progress: share of the steps, loss, returns of episodes, support.
    random_state : int, RandomState instance or None, default=None
        Seeds all randomness. Global random states are not changed.

    Attributes
    ----------
    field_ : BasisReturnField
        The laws as fields. A TabularReturnField if they are a table.
    space_ : DecisionSpace
        The encoding of states and actions.
    actions_ : ndarray of shape (n_actions,) or None
        The actions, if they are labels. The shape is (n_actions, ...) if an action is an array of
        labels (MultiDiscrete, MultiBinary).
    support_ : tuple of float
        Least and largest return with density, over the states seen.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of states, if they had names.
    n_features_in_ : int
        Number of values of a state.
    ends_ : bool
        Whether a return ended in the steps that were seen.
    level_ : float
        Noise level at which the laws are seen, in units of the reward.
    history_ : dict of list
        Curves: "step", "loss", "support", and in an environment "return".
    device_ : torch.device

    See Also
    --------
    MixtureOfReturns : The laws under a choice among policies.
    SumOfReturns : The law of a sum of independent returns.
    RescaledReturns : The laws under other units of the reward.
    ImprovedReturns : The laws if the first action is the best for another risk.

    References
    ----------
    arXiv 2410.01796, section 3; for the projection of laws, arXiv 1707.06887; for actors and twin
    critics, arXiv 1802.09477.

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
        "multi_step": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "exploration": [Interval(Real, 0, 1, closed="both")],
        "exploration_fraction": [Interval(Real, 0, 1, closed="both")],
        "n_random_steps": [Interval(Integral, 0, None, closed="left")],
        "replay_size": [Interval(Integral, 1, None, closed="left")],
        "risk": [StrOptions({"mean"}), tuple],
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
        multi_step: int | str = "auto",
        exploration: float = 0.05,
        exploration_fraction: float = 0.2,
        n_random_steps: int = 1000,
        replay_size: int = 50_000,
        risk: str | tuple[str, float] = "mean",
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
        self.risk = risk
        self.target_return = target_return
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, n_steps: int | None = None) -> ReturnLaws:
        """Learn the laws of the returns.

        Parameters
        ----------
        X : DataFrame, mapping of arrays, dataset, or gymnasium environment
            Transitions have the parts state, reward, next_state and terminated. They have action if
            there is a choice, and truncated and next_action if known. A part with several values is
            an array of shape (n, d), or several columns of a frame, such as state_0 and state_1.
            States in one column of whole numbers, strings or booleans are labels; others are
            numbers. Without next_action, rows must be in order, because the next action is that of
            the next row. Datasets are those of Minari, also with observations that are mappings or
            tuples; replay buffers of d3rlpy; and mappings of arrays with the names of D4RL:
            observations, actions, rewards, terminals, and next_observations, timeouts or both.
            Without next_observations, rows are in order, and steps of timeouts are left out. The
            estimator acts in an environment, given as an object, by name, or as a
            vector environment.
        y : None
            Ignored.
        n_steps : int, optional
            Replaces the parameter of the same name.

        Returns
        -------
        self : DistributionalValueEstimator
            The fitted estimator.

        Raises
        ------
        ValueError
            If a part or a value of the transitions is missing, lengths or columns differ, or
            rewards are not finite or exceed 1e300. If gamma = 1 and no episode ends, or an expected
            return is infinite. If the policy does not fit the states and actions. If actions of an
            environment have no finite bounds, more than 1000 joint labels, or an unsupported space.
            If observations or masks cannot be read, or the replay exceeds the machine's memory. If
            a risk is set without a Box of actions.
        TypeError
            If X is neither transitions nor an environment.
        ImportError
            For an environment, if gymnasium is not installed.
        TrainingDivergedError
            If training diverges. The estimator is then fitted with the last good state.

        Warns
        -----
        UserWarning
            If labelled states occur only as next states. If many rows are left out because they are
            not in order. If a fit in an environment ended before learning began, or observations
            have sentences, which are not read. If more than 1% of
            the mass of returns lies beyond the ends of a network's laws, or their means differ from
            the solved ones.
        RuntimeWarning
            If interrupted by the user: what was learned is kept.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> value = DistributionalValueEstimator(
        ...     policy="greedy", n_random_steps=100, random_state=0
        ... )
        >>> value.fit("CartPole-v1", n_steps=120).act([0.0, 0.0, 0.1, 0.0]) in (0, 1)
        True
        """
        return self._fit(X, n_steps, before=None)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, *, n_steps: int | None = None) -> ReturnLaws:
        """Continue to learn, with new transitions or in the environment.

        If laws are a table and the policy is the same, earlier steps still count.

        Parameters
        ----------
        X : DataFrame, mapping of arrays, dataset, or gymnasium environment
            As for `fit`, with states and actions that were seen in fit.
        y : None
            Ignored.
        n_steps : int, optional
            Replaces the parameter of the same name.

        Returns
        -------
        self : DistributionalValueEstimator
            The fitted estimator.

        Raises
        ------
        ValueError
            As for `fit`. Also for states or actions that were not seen in fit, and for
            form="networks".

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
        ...          "terminated": [False, True]}
        >>> value = DistributionalValueEstimator(gamma=0.5, n_steps=100, random_state=0)
        >>> value.fit(chain).partial_fit(chain, n_steps=50).predict([1]).round(1)
        array([2.])
        """
        before = self._before()
        if self.form != "basis" or not (before is None or before.field.goes_on):
            raise ValueError('partial_fit needs form="basis". Use fit instead.')
        return self._fit(X, n_steps, before)

    def act(
        self,
        observation: Any,
        risk: str | tuple[str, float] | None = None,
        action_mask: Any = None,
    ) -> Any:
        """Return the best action in one state, or in each of several.

        Parameters
        ----------
        observation : object
            One state, in the form of the environment or the table. A row with names, or a mapping,
            is matched by name if the table had names. An array with one more axis, a frame, or a
            list of observations holds several states.
        risk : "mean" or ("cvar", alpha), optional
            The statistic to maximise: the expected return, or the mean of the worst share of
            returns. By default the ``risk`` of fit. Actors of a Box allow no other.
        action_mask : array-like of shape (n_actions,) or (n_states, n_actions), optional
            Available actions are 1 or True. By default all are available. In fit, the mask comes
            from the environment's ``info["action_mask"]``.

        Returns
        -------
        int or object, or ndarray of shape (n_states, ...)
            Actions in the form of fit. Actions of a Box are within its bounds.

        Raises
        ------
        ValueError
            If there is no choice of actions. If the mask allows no action or has another length. If
            the risk is unknown or differs from that of the actor. If the state has another shape.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> choice = {"state": [0, 0], "action": ["a", "b"], "reward": [1.0, 2.0],
        ...           "next_state": [0, 0], "terminated": [True, True]}
        >>> value = DistributionalValueEstimator(n_steps=200, random_state=0).fit(choice)
        >>> value.act(0)
        'b'
        """
        self._check_choice(risk)
        return self._questions().act(observation, risk or self.risk, action_mask)

    def score(self, states: Any, actions: Any = None, *, returns: Any = None) -> float:
        r"""Return a score of the laws on transitions, or on observed returns.

        With ``returns``, the score is the mean log-density of `score_samples`. Without, `states`
        are transitions, as for `fit`, and the score is minus the error of the Bellman equation: the
        mean of the squared Cramer distance :math:`\int (F_{s,a}(x) - E F_{r + \gamma Z'}(x))^2 dx`
        between the law at a state and action and its mean backup by the fit's own laws. 0 is best.
        `cross_val_score` and `GridSearchCV` use it with a frame of transitions. ``GroupKFold``
        keeps episodes whole.

        Steps from the same state and action (the ten nearest, if states are numbers) are multiplied
        in pairs, so noise averages out. The score does not favour laws that are too wide. Scores of
        few steps are noisy, and may be above 0.

        The score compares laws of the same discount, reward and policy. Do not use it to choose
        ``gamma`` or ``policy``, which define other returns. With gamma near 1, laws may be off by 1
        / (1 - gamma) times the error of one step.

        Parameters
        ----------
        states : DataFrame, array-like, or transitions
            As for `predict`. Without returns, transitions as for `fit`.
        actions : array-like of shape (n_states,), optional
            As for `predict`. Transitions contain the actions.
        returns : array-like of shape (n_states,), optional
            One observed return for each state.

        Returns
        -------
        float
            With returns, in nats, for a density per unit of the reward. Without, in units of the
            reward. Larger is better.

        Raises
        ------
        ValueError
            As for `score_samples` and `fit`. Also if no step begins and ends in states and actions
            that were seen in fit.
        TypeError
            If there are no returns, and `states` are not transitions.

        Warns
        -----
        UserWarning
            If steps are left out because their states or actions were not seen in fit.

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
            raise ValueError("Without returns, put the actions into the transitions.")
        return -HeldOut(self._questions(), self.gamma).error(read_transitions(states))

    def law(self, state: Any, action: Any = None) -> DensityField:
        """Return the density field of the return in one state.

        It is for `skbellman.dynamics.bellman_dynamics` and for arithmetic.

        Parameters
        ----------
        state : object
            One state.
        action : object, optional
            Needed if there is a choice.

        Returns
        -------
        DensityField
            The field of one column. Its density may be slightly negative.

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
        return self._questions().law(state, action)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns of states, if they had names in fit."""
        names = self.space_.state_names
        if names is None:
            raise AttributeError("The estimator was fitted without feature names.")
        return np.array(names, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """Number of values of a state."""
        return self.space_.features.n_values

    def _check_choice(self, risk: str | tuple[str, float] | None) -> None:
        """Raise an error if there is no choice of actions, or an actor chooses for another risk."""
        check_is_fitted(self)
        if self.actions_ is None and not self.field_.acts:
            raise ValueError("act needs a choice of actions, and this fit had none.")
        if self.field_.acts and risk not in (None, self.risk):
            raise ValueError(
                f"The actor learned for risk={self.risk!r}, not {risk!r}. Set risk and fit again, "
                "or call partial_fit."
            )

    def _fit(
        self, X: Any, n_steps: int | None, before: Fitted | None
    ) -> DistributionalValueEstimator:
        seeds = check_random_state(self.random_state).randint(2**31, size=2)
        plan = Plan(
            parameters=self,
            hidden=[check_count("hidden_layer_sizes", n) for n in self.hidden_layer_sizes],
            n_steps=self.n_steps if n_steps is None else check_count("n_steps", n_steps),
            before=before,
            rng=np.random.default_rng(seeds[1]),
            seeded=Seeded(int(seeds[0])),
            device=resolve_device(self.device),
        )
        with closing(plan.progress), renewed(self) as draft:
            if is_environment(X):
                learned = fit_environment(plan, X)
            else:
                learned = fit_table(plan, read_transitions(X))
            draft._keep(learned, plan.device)
        learned.curves.raise_if_diverged()
        return self

    def _keep(self, learned: Learned, device: torch.device) -> None:
        """Set all fitted attributes at once."""
        field, self.space_, self._steps_seen, self.ends_ = learned.fitted
        self._fitted_gamma = self.gamma
        self.field_, self.device_ = field.eval().requires_grad_(False), device
        actions = self.space_.actions
        self.actions_ = None if actions is None else actions.labels
        low, high, self.level_ = field.reach(learned.states)
        self.support_ = (low, high)
        self.history_ = learned.curves.as_dict()

    def _before(self) -> Fitted | None:
        """Return the fitted laws, None before a fit."""
        if not hasattr(self, "field_"):
            return None
        return Fitted(self.field_, self.space_, self._steps_seen, self.ends_)

    def _questions(self) -> Questions:
        check_is_fitted(self)
        return Questions(self.field_, self.space_, policy_of(self.policy), self.device_)

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        return self._questions().means(states, actions)

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        return self._questions().laws(states, actions, with_noise)

    def _best_actions(self, states: Any, risk: str | tuple[str, float]) -> np.ndarray:
        """Return the best actions in states, in the form of fit."""
        self._check_choice(risk)
        return self._questions().best_actions(states, risk)

    def _added_by_rewards(self) -> float:
        check_is_fitted(self)
        if self.ends_:
            raise ValueError(
                "A shift adds to each step of a return, and returns of this fit end: how much it "
                "adds depends on the length of the episode, which the laws do not tell. Fit again "
                "with the other rewards."
            )
        return 1 / (1 - self._fitted_gamma)
