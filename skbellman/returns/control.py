"""Control: acting in an environment, and learning from what was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from skbellman.notices import warn
from skbellman.returns.batch import Batch
from skbellman.returns.encoding import DecisionSpace
from skbellman.returns.episodes import Step, run_episodes
from skbellman.returns.learning import Curves, kept_if_interrupted
from skbellman.returns.replay import MultiStep, Replay


@dataclass(frozen=True)
class Exploration:
    """Random actions: a share that falls linearly from 1 to ``last`` over ``n_steps``."""

    last: float
    n_steps: int

    def __call__(self, step: int) -> float:
        """Return the share of random actions at a step."""
        return max(1.0 - (1.0 - self.last) * step / max(self.n_steps, 1), self.last)


@dataclass(frozen=True)
class ControlSettings:
    """Numbers of steps in an environment, see `DistributionalValueEstimator`."""

    n_steps: int
    n_random_steps: int
    batch_size: int
    multi_step: int
    gamma: float
    exploration: Exploration
    target_return: float | None


class ControlLearner(Protocol):
    """A learner whose fields choose actions while it learns.

    Attributes
    ----------
    field : ReturnField
        Trained in place.
    actor : ReturnField
        The field that chooses actions.
    support : MovingSupport
    n_steps : int
        Steps of learning.
    """

    field: Any
    n_steps: int

    @property
    def actor(self) -> Any:
        """The field that chooses actions."""

    @property
    def support(self) -> Any:
        """The support of the laws."""

    def anneal(self, share_of_steps: float) -> None:
        """Lower the learning rate after a share of the steps."""

    def step(self, batch: Batch) -> torch.Tensor:
        """Take one step; return the loss without waiting for the device."""

    def keep_if_finite(self, loss: torch.Tensor) -> bool:
        """Save the field if its loss is finite, else restore the saved one."""


class Controller:
    """Acts in an environment and learns a step for each step that it takes.

    Parameters
    ----------
    learner : ControlLearner
    replay : Replay
    settings : ControlSettings
    rng : numpy Generator
        The generator of exploration.

    Attributes
    ----------
    report_every : int
        Episodes between reports, over which returns are averaged.
    largest_reward : float
        Limit of rewards: replays hold float32.
    settles_after : float
        Share of the steps after which returns with random actions are left out, so that laws are
        those of the learned policy.
    """

    report_every = 20
    largest_reward = 1e30
    settles_after = 0.7

    def __init__(
        self,
        learner: ControlLearner,
        replay: Replay,
        settings: ControlSettings,
        rng: np.random.Generator,
    ) -> None:
        self.learner, self.replay, self.settings, self.rng = learner, replay, settings, rng
        self.curves = Curves()
        self.n_steps = 0

    def run(
        self,
        environment: Any,
        space: DecisionSpace,
        seed: int,
        report: Callable[[int, int, str], None],
    ) -> None:
        """Take the steps of the settings, fewer if the target is reached or the user interrupts.

        Warns if none of them was a learning step.
        """
        n_copies, settings = environment.num_envs, self.settings
        kind = settings.multi_step, settings.gamma, self.replay.shorter
        pending = [MultiStep(*kind) for _ in range(n_copies)]
        episode_returns = np.zeros(n_copies)
        steps = islice(run_episodes(environment, space, self._act, seed), settings.n_steps)
        with kept_if_interrupted():
            for step in steps:
                self._remember(pending[step.copy], step)
                self.n_steps += 1
                episode_returns[step.copy] += step.reward
                loss = self.learn()
                if not (step.terminated or step.truncated):
                    continue
                self.curves.episode_return.append(float(episode_returns[step.copy]))
                self.curves.note(self.n_steps, loss, self.learner)
                episode_returns[step.copy] = 0.0
                if self.curves.diverged or self._is_good_enough():
                    break
                if len(self.curves.step) % self.report_every == 0:
                    figures = self.curves.figures(self.report_every)
                    report(self.n_steps, settings.n_steps, figures)
        if not self.learner.n_steps:
            warn(
                f"Nothing was learned in {self.n_steps} steps. Learning begins after "
                f"n_random_steps={settings.n_random_steps} steps, once a backup over "
                f"multi_step={settings.multi_step} steps is seen. Raise n_steps or lower "
                "n_random_steps."
            )

    def _is_good_enough(self) -> bool:
        target, last = self.settings.target_return, self.curves.episode_return[-self.report_every :]
        return (
            target is not None
            and len(last) == self.report_every
            and sum(last) >= target * len(last)
        )

    def _act(self, states: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
        share = self.settings.exploration(self.n_steps)
        if self.n_steps < self.settings.n_random_steps:
            share = 1.0
        self._explored = explored = self.rng.random(len(states)) < share
        draws = self.rng.random((len(states), self.learner.field.n_actions))
        random = (draws if masks is None else draws * masks).argmax(1)
        if explored.all():
            return random
        inputs = torch.as_tensor(states, dtype=torch.float32, device=self.replay.device)
        mask = None if masks is None else torch.as_tensor(masks, device=self.replay.device)
        with torch.no_grad():
            return np.where(explored, random, self.learner.actor.best(inputs, mask).cpu().numpy())

    def _remember(self, pending: MultiStep, step: Step) -> None:
        if not abs(step.reward) <= self.largest_reward:
            raise ValueError(
                f"The environment gave the reward {step.reward} at step {self.n_steps + 1}. "
                f"Rewards must be finite, and at most {self.largest_reward:.3g}. Rescale them."
            )
        support = self.learner.support
        support.see(torch.tensor([step.reward]))
        for transition in pending.push(step, self._explored[step.copy]):
            self.replay.add(transition)
            if not transition.follows:
                support.cover(torch.tensor([transition.reward]))

    def learn(self) -> torch.Tensor | None:
        """Take one step of learning, once there is something to learn from."""
        if self.n_steps <= self.settings.n_random_steps or not len(self.replay):
            return None
        share = self.n_steps / self.settings.n_steps
        self.replay.only_on_policy = share > self.settles_after
        self.learner.anneal(share)
        return self.learner.step(self.replay.sample(self.settings.batch_size))


class ActorController(Controller):
    """Takes the actions of an actor, with noise.

    The first actions are drawn uniformly. Later, exploration is the standard deviation of the
    noise, with actions from -1 to 1.
    """

    def _act(self, states: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
        shape = len(states), self.replay.n_numbers
        self._explored = np.zeros(len(states), dtype=bool)  # noise is no other policy
        if self.n_steps < self.settings.n_random_steps:
            return self.rng.uniform(-1, 1, shape)
        inputs = torch.as_tensor(states, dtype=torch.float32, device=self.replay.device)
        with torch.no_grad():
            chosen = self.learner.actor.actions(inputs).cpu().numpy()
        noise = self.settings.exploration(self.n_steps) * self.rng.standard_normal(shape)
        return (chosen + noise).clip(-1, 1)
