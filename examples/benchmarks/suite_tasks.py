"""Environments of control_suite.py, with the score of a random policy and one of a good policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

# Maps a list of observations to actions.
Policy = Callable[[list[Any]], np.ndarray]


@dataclass(frozen=True)
class Task:
    """An environment, a budget, and scores to compare with.

    Attributes
    ----------
    make : callable
        Returns the environment.
    n_steps : int
        Steps in the environment, the same for all methods.
    random, good : float
        Mean returns of the uniform policy and of a good one: they count as 0 and 1.
    support : tuple of float
        Least and largest discounted return, for methods that have to be told.
    n_episodes : int
        Episodes of an evaluation.
    """

    make: Callable[[], gymnasium.Env]
    n_steps: int
    random: float
    good: float
    support: tuple[float, float]
    n_episodes: int = 20

    def normalised(self, score: float) -> float:
        """Return a score as a share of the way from the random policy to the good one."""
        return (score - self.random) / (self.good - self.random)


class MinAtar(gymnasium.Env):
    """A game of MinAtar (arXiv 1903.03176), cut off after so many steps."""

    def __init__(self, game: str, n_steps: int = 500) -> None:
        from minatar import Environment

        self.game, self.n_steps = Environment(game), n_steps
        shape = tuple(self.game.state_shape())
        self.observation_space = gymnasium.spaces.Box(0, 1, shape, bool)
        self.action_space = gymnasium.spaces.Discrete(self.game.num_actions())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.game.seed(seed)
        self.game.reset()
        self.n_taken = 0
        return self.game.state(), {}

    def step(self, action):
        reward, ended = self.game.act(int(action))
        self.n_taken += 1
        return self.game.state(), float(reward), bool(ended), self.n_taken >= self.n_steps, {}


def _named(name: str, **settings: Any) -> Callable[[], gymnasium.Env]:
    return partial(gymnasium.make, name, **settings)


def _room() -> gymnasium.Env:
    import minigrid  # noqa: F401 - registers its environments

    room = gymnasium.make("MiniGrid-Empty-Random-6x6-v0")
    return gymnasium.wrappers.FilterObservation(room, ["direction", "image"])


# "random": means of 60 episodes or more of uniform actions. In CliffWalking and Taxi it is -200,
# the score of a policy that never arrives and does no harm: uniform actions fall off a cliff.
TASKS = {
    "CliffWalking": Task(
        _named("CliffWalking-v1", max_episode_steps=200), 5_000, -200.0, -13.0, (-100.0, 0.0), 1
    ),
    "FrozenLake": Task(_named("FrozenLake-v1"), 10_000, 0.016, 0.74, (0.0, 1.0), 200),
    "Taxi": Task(_named("Taxi-v4"), 10_000, -200.0, 7.9, (-100.0, 20.0), 50),
    "Blackjack": Task(_named("Blackjack-v1"), 5_000, -0.4, -0.045, (-1.0, 1.0), 500),
    "CartPole": Task(_named("CartPole-v1"), 10_000, 21.0, 500.0, (0.0, 100.0), 20),
    "Acrobot": Task(_named("Acrobot-v1"), 10_000, -500.0, -80.0, (-100.0, 0.0), 10),
    "MountainCar": Task(_named("MountainCar-v0"), 10_000, -200.0, -110.0, (-100.0, 0.0), 20),
    "LunarLander": Task(_named("LunarLander-v3"), 10_000, -170.0, 200.0, (-300.0, 300.0), 10),
    "MiniGrid room": Task(_room, 6_000, 0.2, 0.96, (0.0, 1.0), 50),
    "MinAtar Breakout": Task(partial(MinAtar, "breakout"), 5_000, 0.5, 8.0, (0.0, 20.0), 20),
}


def mean_return(task: Task, policy: Policy, seed: int) -> float:
    """Return the mean return of a policy over the task's episodes."""
    n = task.n_episodes
    copies = SyncVectorEnv([task.make] * n, autoreset_mode=AutoresetMode.SAME_STEP)
    observations, _ = copies.reset(seed=seed)
    returns, alive = np.zeros(n), np.ones(n, dtype=bool)
    while alive.any():
        seen = list(gymnasium.vector.utils.iterate(copies.observation_space, observations))
        observations, rewards, ended, cut, _ = copies.step(policy(seen))
        returns += rewards * alive
        alive &= ~(ended | cut)
    copies.close()
    return float(returns.mean())
