"""A fit in an environment: the agent that acts, and the laws that it learned."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from skbellman.notices import warn
from skbellman.returns.actor_learner import ActorLearner
from skbellman.returns.actors import Actor, ActorCriticField
from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.control import ActorController, Controller, ControlSettings, Exploration
from skbellman.returns.convolution import ImageReturnField
from skbellman.returns.counted import CountedReplay
from skbellman.returns.encoding import DecisionSpace
from skbellman.returns.environment_space import environment_space
from skbellman.returns.episodes import opened
from skbellman.returns.fields import BasisReturnField, ReturnField, TabularReturnField
from skbellman.returns.fit_table import MOST_SWEEPS
from skbellman.returns.from_table import warn_of_mass_beyond
from skbellman.returns.learners import GreedyLearner, greedy_kind
from skbellman.returns.plan import Fitted, Learned, Plan, StepsSeen
from skbellman.returns.replay import Replay
from skbellman.returns.risk import statistic_of
from skbellman.returns.support import Support
from skbellman.returns.sweeps import GreedyTableLearner


def fit_environment(plan: Plan, environment: Any) -> Learned:
    """Return the laws of the best policy's returns in an environment."""
    if not plan.policy.is_greedy:
        raise ValueError(
            'A fit in an environment learns the best policy. Set policy="greedy", or pass a table '
            "of transitions of the policy to evaluate."
        )
    if plan.parameters.form != "basis":
        raise ValueError('In an environment, form must be "basis".')
    with opened(environment) as copies:
        space = environment_space(copies)
        if plan.before is not None and not space.agrees_with(plan.before.space):
            raise ValueError(
                "The environment has other states or actions than those of fit. Call fit instead "
                "of partial_fit."
            )
        kind = _kind_of(space)
        if kind is not ActorAgent:
            plan.check_no_actor()
        return kind(plan, space).run(copies)


@dataclass(frozen=True)
class Agent(ABC):
    """An agent: how it holds laws, and which steps it remembers.

    Attributes
    ----------
    plan : Plan
    space : DecisionSpace
    controller : type of Controller
        How the agent acts.
    """

    controller: ClassVar[type[Controller]] = Controller

    plan: Plan
    space: DecisionSpace

    def run(self, environment: Any) -> Learned:
        """Act and learn; return the learned laws."""
        parameters, rng = self.plan.parameters, self.plan.rng
        support = Support(parameters.gamma, parameters.n_basis, parameters.gradient_weight)
        learner, replay = self.learner(self._field(support), support), self.replay()
        controller = self.controller(learner, replay, self._settings(), rng)
        seed = int(rng.integers(2**31))
        controller.run(environment, self.space, seed, self.plan.report)
        field, steps = self.kept(learner, replay)
        fitted = Fitted(field, self.space, steps, self.plan.ends(replay.follows))
        return Learned(fitted, controller.curves, replay.some().state)

    @abstractmethod
    def new_field(self, basis: GaussianBasis) -> ReturnField:
        """Return initial laws."""

    @abstractmethod
    def learner(self, field: Any, support: Support) -> Any:
        """Return the learner of a field."""

    @abstractmethod
    def replay(self) -> Replay:
        """Return the memory of transitions."""

    @abstractmethod
    def kept(self, learner: Any, replay: Any) -> tuple[ReturnField, StepsSeen | None]:
        """Return the laws to keep, and the steps that count in the next fit."""

    @property
    def discount(self) -> float:
        """The discount of the law at the end of a backup."""
        return float(self.plan.parameters.gamma**self.n_backed_up)

    @property
    def n_backed_up(self) -> int:
        """The steps of a backup."""
        asked = self.plan.parameters.multi_step
        return self.usual_multi_step if asked == "auto" else int(asked)

    @property
    def usual_multi_step(self) -> int:
        """The steps of a backup for "auto"."""
        return 1

    def _field(self, support: Support) -> ReturnField:
        """Return the field to train: that of the last fit, or a new one."""
        basis, before = support.first(torch.zeros(1)), self.plan.before
        if before is None:
            with self.plan.seeded:
                return self.new_field(basis).to(self.plan.device)
        return copy.deepcopy(before.field).requires_grad_().to(self.plan.device)

    def _settings(self) -> ControlSettings:
        parameters, goes_on = self.plan.parameters, self.plan.before is not None
        n_steps = self.plan.steps(30_000)
        n_explored = 0 if goes_on else round(parameters.exploration_fraction * n_steps)
        return ControlSettings(
            n_steps=n_steps,
            n_random_steps=0 if goes_on else parameters.n_random_steps,
            batch_size=self.plan.batch_size or 64,
            multi_step=self.n_backed_up,
            gamma=parameters.gamma,
            exploration=Exploration(parameters.exploration, n_explored),
            target_return=parameters.target_return,
        )


class NetworkAgent(Agent):
    """An agent whose laws are given by a network.

    Attributes
    ----------
    placed_after : int
        Learning steps after which laws should lie within their ends.
    """

    placed_after: ClassVar[int] = 1000

    @property
    def usual_multi_step(self) -> int:
        """3, but 1 if states are labels, whose transitions are often random."""
        return 1 if self.space.features.one_hot else 3

    def new_field(self, basis: GaussianBasis) -> ReturnField:
        """Return a network, with convolutions if states hold an image."""
        parts = self.space.n_inputs, self.space.n_actions, self.plan.hidden, basis
        picture = self.space.features.picture
        return BasisReturnField(*parts) if picture is None else ImageReturnField(picture, *parts)

    def learner(self, field: BasisReturnField, support: Support) -> GreedyLearner:
        """Return a learner with gradients."""
        kind = greedy_kind(self.space.features.one_hot)
        return kind(field, support, self.discount, *self.plan.rates(kind, 0.02))

    def replay(self) -> Replay:
        """Return a replay of the last transitions."""
        parameters, features = self.plan.parameters, self.space.features
        return Replay(
            parameters.replay_size, features.width, self.plan.rng, self.plan.device,
            dtype=features.dtype,
        )  # fmt: skip

    def kept(self, learner: GreedyLearner, replay: Replay) -> tuple[ReturnField, StepsSeen | None]:
        """Return the slower network, whose policy changes less from step to step."""
        seen = replay.some()
        warn_of_scale(seen, self.space)
        if learner.n_steps >= self.placed_after:
            warn_of_mass_beyond(learner.target, seen, self.discount)
        return learner.target, None


class TableAgent(Agent):
    """An agent whose laws are a table."""

    def new_field(self, basis: GaussianBasis) -> ReturnField:
        """Return a table."""
        return TabularReturnField(self.space.n_inputs, self.space.n_actions, basis)

    def learner(self, field: TabularReturnField, support: Support) -> GreedyTableLearner:
        """Return a learner with sweeps."""
        return GreedyTableLearner(field, support, self.discount)

    def replay(self) -> CountedReplay:
        """Return a count of distinct transitions.

        It keeps those of the last fit if they still apply.
        """
        parts = self.plan.parameters.replay_size, self.space.n_inputs
        replay = CountedReplay(*parts, self.plan.rng, self.plan.device)
        before = self.plan.steps_before(self.n_backed_up)
        if before is not None:
            replay.recall(before)
        return replay

    def kept(
        self, learner: GreedyTableLearner, replay: CountedReplay
    ) -> tuple[ReturnField, StepsSeen | None]:
        """Return the laws of all counted steps, or the learned ones if there are too many steps."""
        seen = replay.everything()
        if not len(seen.action):
            return learner.field, None
        fit = replace(self.plan.table_fit(self.space), gamma=self.discount, report=_silent)
        found = fit.with_labels(seen, MOST_SWEEPS, self.space.pair_name)
        field = learner.field if found is None else found[0]
        return field, self.plan.steps_seen(seen, self.n_backed_up)


class ActorAgent(Agent):
    """An agent whose actions are numbers. An actor chooses them by the laws of twin critics."""

    controller = ActorController

    def new_field(self, basis: GaussianBasis) -> ReturnField:
        """Return an actor and its critics."""
        width, n_inputs, hidden = self.space.features.width, self.space.n_inputs, self.plan.hidden
        actor = Actor(width, hidden, n_inputs - width)
        return ActorCriticField(
            actor, [BasisReturnField(n_inputs, 1, hidden, basis) for _ in range(2)]
        )

    def learner(self, field: ActorCriticField, support: Support) -> ActorLearner:
        """Return a learner of actor and critics."""
        statistic = statistic_of(self.plan.parameters.risk)
        rates = self.plan.rates(ActorLearner, 0.02)
        return ActorLearner(field, support, statistic, self.discount, *rates)

    def replay(self) -> Replay:
        """Return a replay of the last transitions."""
        parameters, width = self.plan.parameters, self.space.features.width
        return Replay(
            parameters.replay_size, width, self.plan.rng, self.plan.device,
            n_numbers=self.space.n_inputs - width,
        )  # fmt: skip

    def kept(self, learner: ActorLearner, replay: Replay) -> tuple[ReturnField, None]:
        """Return the slower networks."""
        target, seen = learner.target, replay.some()
        warn_of_scale(seen, self.space)
        if learner.n_steps >= NetworkAgent.placed_after:
            with_actions = replace(seen, next_state=target.with_own_actions(seen.next_state))
            warn_of_mass_beyond(target, with_actions, self.discount)
        return target, None


def warn_of_scale(seen: Batch, space: DecisionSpace, usual: float = 100.0) -> None:
    """Warn of numbers in observations that are far from unit scale."""
    if space.features.picture is not None or not len(seen.state):
        return
    largest, number = seen.state.abs().max(0).values.max(0)
    if float(largest) > usual:
        warn(
            f"Number {int(number)} of the observations reaches {float(largest):.3g}. It has no "
            "finite bounds to be scaled by, and networks learn poorly from numbers far from 1. "
            "Divide it, e.g. with gymnasium.wrappers.TransformObservation."
        )


def _kind_of(space: DecisionSpace) -> type[Agent]:
    """Return the agent for a space."""
    if space.action_features is not None:
        return ActorAgent
    return TableAgent if space.is_tabular else NetworkAgent


def _silent(step: int, n_steps: int, figures: str) -> None:
    """Report nothing."""
