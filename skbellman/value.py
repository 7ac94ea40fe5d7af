"""DistributionalValueEstimator: the laws of the returns of a Markov decision process."""

from __future__ import annotations

from collections.abc import Sequence
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

    Actions of a Box are chosen by an actor, a second network, that climbs the mean of the laws, or
    the mean of their worst share (``risk``). Two critics learn the laws: at first the lower law is
    backed up (arXiv 1802.09477), at last their mixture.

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
        Share of random actions in an environment, once it has fallen from 1. Where actions are a
        Box: deviation of the noise on actions, in halves of their range.
    exploration_fraction : float, default=0.2
        Share of the steps over which it falls. Less is enough where random steps soon show what
        there is, as in CartPole.
    n_random_steps : int, default=1000
        Steps in an environment before learning begins.
    replay_size : int, default=50000
        Transitions that are remembered; distinct ones where laws are a table.
    risk : "mean" or ("cvar", alpha), default="mean"
        What the actor of a Box of actions makes large: the expected return, or the mean of its
        worst share. With alpha near 1 that is a mean without the best returns. For labels of
        actions ``act`` has a risk of its own.
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
        The actions, if there is a choice among labels; (n_actions, ...) where an action is an array
        of labels (MultiDiscrete, MultiBinary).
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
        "multi_step": [Interval(Integral, 1, None, closed="left")],
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
        multi_step: int = 1,
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
            for a policy that does not fit; for an environment whose actions have no finite bounds,
            are more than 1000 labels of several parts, or of another space; for observations or
            masks that cannot be read; for a risk without a Box of actions.
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
        return self._fit(X, n_steps, before=None)

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
        before = self._before()
        if self.form != "basis" or not (before is None or before.field.goes_on):
            raise ValueError('partial_fit needs form="basis", whose support moves; use fit.')
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
            One state, as the environment or the table has it. A row with names, or a mapping, is
            matched by name, where the table had names. An array with one more axis, a frame, or a
            list of observations of several parts holds several states.
        risk : "mean" or ("cvar", alpha), optional
            What is best: the largest expected return, or the largest mean of its worst share. By
            default the ``risk`` of fit, "mean". Actors of a Box have no other.
        action_mask : array-like of shape (n_actions,) or (n_states, n_actions), optional
            Which actions there are, 1 or True; all of them by default. In fit it is taken from the
            environment's ``info["action_mask"]``.

        Returns
        -------
        int or object, or ndarray of shape (n_states, ...)
            As in fit. Actions of a Box are within its bounds.

        Raises
        ------
        ValueError
            If there is no choice of actions, the mask leaves none or is of another length, the risk
            is none of these or not that of an actor, or the state is of another shape.

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
        if self.actions_ is None and not self.field_.acts:
            raise ValueError("there is no choice of actions to act by.")
        if self.field_.acts and risk not in (None, self.risk):
            raise ValueError(
                f"the actor learned for risk={self.risk!r}, not {risk!r}: set risk and fit again, "
                "or go on by partial_fit."
            )
        return self._questions().act(observation, risk or self.risk, action_mask)

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
        return -HeldOut(self._questions(), self.gamma).error(read_transitions(states))

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
        return self._questions().law(state, action)

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
        with renewed(self) as draft:
            if is_environment(X):
                learned = fit_environment(plan, X)
            else:
                learned = fit_table(plan, read_transitions(X))
            draft._keep(learned, plan.device)
        learned.curves.raise_if_diverged()
        return self

    def _keep(self, learned: Learned, device: torch.device) -> None:
        """Set the fitted attributes, all at once."""
        field, self.space_, self._steps_seen = learned.fitted
        self.field_, self.device_ = field.eval().requires_grad_(False), device
        actions = self.space_.actions
        self.actions_ = None if actions is None else actions.labels
        low, high, self.level_ = field.reach(learned.states)
        self.support_ = (low, high)
        self.history_ = learned.curves.as_dict()

    def _before(self) -> Fitted | None:
        """Return what was fitted, None if nothing was."""
        if not hasattr(self, "field_"):
            return None
        return Fitted(self.field_, self.space_, self._steps_seen)

    def _questions(self) -> Questions:
        check_is_fitted(self)
        return Questions(self.field_, self.space_, policy_of(self.policy), self.device_)

    def _means(self, states: Any, actions: Any) -> np.ndarray:
        return self._questions().means(states, actions)

    def _laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        return self._questions().laws(states, actions, with_noise)
