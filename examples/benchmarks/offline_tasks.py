"""Tasks of offline evaluation: an environment, a policy to evaluate, and policies that collect."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from processes import _cart_pole_step, _pendulum_step, _seen

N_STARTS = 300
# Returns actions for observations, (n, d).
Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# The parts of an episode: observations are one more than the steps.
Episode = dict[str, np.ndarray]


@dataclass(frozen=True)
class Task:
    """An environment and a policy to evaluate.

    ``episodes`` runs a policy for a number of episodes of at most so many steps. ``behaviours`` are
    the policies that collect data. Returns are compared from ``starts``; ``from_starts`` runs a
    policy so many times from each. ``probabilities`` are those of the target's actions, for actions
    that are labels.
    """

    gamma: float
    limit: int
    episodes: Callable[[Policy, int, int, np.random.Generator], Iterator[Episode]]
    target: Policy
    behaviours: dict[str, Policy]
    starts: np.ndarray
    from_starts: Callable[[Policy, int, int, np.random.Generator], Iterator[Episode]]
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None

    def returns(self, n_each: int, rng: np.random.Generator, left: float = 1e-3) -> np.ndarray:
        """Return returns of the target, so many from each start, without a limit of steps."""
        horizon = math.ceil(math.log(left) / math.log(self.gamma))
        runs = self.from_starts(self.target, n_each, horizon, rng)
        return np.array([self.discounted(run["rewards"]) for run in runs])

    def discounted(self, rewards: np.ndarray) -> float:
        return float(rewards @ self.gamma ** np.arange(len(rewards)))

    def data(self, behaviour: Policy, n_steps: int, rng: np.random.Generator) -> list[Episode]:
        """Return episodes of so many steps in all; the last is cut off."""
        found: list[Episode] = []
        while n_steps > 0:
            n_copies = max(n_steps // self.limit, 8)
            for run in self.episodes(behaviour, n_copies, self.limit, rng):
                if n_steps > 0:
                    found.append(_cut(run, n_steps))
                    n_steps -= len(run["rewards"])
        return found


def _cut(run: Episode, n: int) -> Episode:
    return {name: part[: n + (name == "observations")] for name, part in run.items()}


class Simulation:
    """A simulation of many copies at once: states are arrays with a column for each copy.

    ``reset`` draws states, (d, n). ``step`` returns states, rewards and ends, ``observe``
    observations, (n, k).
    """

    def __init__(self, reset: Callable, step: Callable, observe: Callable) -> None:
        self.reset, self.step, self.observe = reset, step, observe
        self.begin = reset(N_STARTS, np.random.default_rng(7))

    @property
    def starts(self) -> np.ndarray:
        return self.observe(self.begin)

    def episodes(self, policy: Policy, n: int, limit: int, rng: np.random.Generator):
        return self._run(policy, self.reset(n, rng), limit, rng)

    def from_starts(self, policy: Policy, n_each: int, limit: int, rng: np.random.Generator):
        return self._run(policy, np.repeat(self.begin, n_each, axis=1), limit, rng)

    def _run(self, policy: Policy, state: np.ndarray, limit: int, rng: np.random.Generator):
        n = state.shape[1]
        alive, ended, lengths = np.ones(n, bool), np.zeros(n, bool), np.zeros(n, int)
        observations, actions, rewards = [self.observe(state)], [], []
        for _ in range(limit):
            actions.append(policy(observations[-1], rng))
            state, reward, over = self.step(state, actions[-1])
            observations.append(self.observe(state))
            rewards.append(reward)
            lengths += alive
            ended |= alive & over
            alive &= ~over
            if not alive.any():
                break
        seen, acted, paid = np.array(observations), np.array(actions), np.array(rewards)
        for k, length in enumerate(lengths):
            yield {
                "observations": seen[: length + 1, k],
                "actions": acted[:length, k],
                "rewards": paid[:length, k],
                "terminals": (np.arange(length) == length - 1) & ended[k],
            }


def noisy(policy: Policy, deviation: float, low: float, high: float) -> Policy:
    """Return the policy with Gaussian noise on its actions."""

    def acted(observations, rng):
        action = policy(observations, rng)
        return np.clip(action + deviation * rng.standard_normal(action.shape), low, high)

    return acted


def half_random(policy: Policy, low: float, high: float) -> Policy:
    """Return the policy that takes a uniform action in every other step, by chance."""

    def acted(observations, rng):
        action = policy(observations, rng)
        uniform = rng.uniform(low, high, action.shape)
        which = (rng.random(len(action)) < 0.5).reshape(-1, *[1] * (action.ndim - 1))
        return np.where(which, uniform, action)

    return acted


def cart_pole() -> Task:
    """CartPole under a policy that pushes below the pole in 85% of the steps."""

    def reset(n, rng):
        return rng.uniform(-0.05, 0.05, (4, n))

    def step(state, action):
        state = _cart_pole_step(state.T, action).T
        over = (np.abs(state[0]) > 2.4) | (np.abs(state[2]) > 12 * np.pi / 180)
        return state, np.ones(len(over)), over

    def pushing(share):
        def probabilities(x):
            right = np.where(x[:, 2] + 0.5 * x[:, 3] > 0, share, 1 - share)
            return np.column_stack([1 - right, right])

        def policy(x, rng):
            return (rng.random(len(x)) < probabilities(x)[:, 1]).astype(np.int64)

        return policy, probabilities

    target, probabilities = pushing(0.85)
    behaviours = {"itself": target, "65%": pushing(0.65)[0], "uniform": pushing(0.5)[0]}
    runs = Simulation(reset, step, np.transpose)
    return Task(
        0.99, 500, runs.episodes, target, behaviours, runs.starts, runs.from_starts, probabilities
    )


def pendulum() -> Task:
    """Pendulum-v1 under a policy that swings it up and holds it, with noise."""

    def reset(n, rng):
        return np.stack([rng.uniform(-np.pi, np.pi, n), rng.uniform(-1, 1, n)])

    def step(state, torque):
        place, speed, reward = _pendulum_step(*state, torque)
        return np.stack([place, speed]), reward, np.zeros(len(place), dtype=bool)

    def swing(seen, rng):
        angle = np.arctan2(seen[:, 1], seen[:, 0])
        hold = -(10 * angle + 2 * seen[:, 2])
        pump = 2 * np.sign(seen[:, 2])
        return np.clip(np.where(seen[:, 0] > 0.8, hold, pump), -2, 2)

    target = noisy(swing, 0.3, -2, 2)
    behaviours = {
        "itself": target,
        "noise 1": noisy(swing, 1.0, -2, 2),
        "half random": half_random(target, -2, 2),
    }
    runs = Simulation(reset, step, lambda state: _seen(*state))
    return Task(0.95, 200, runs.episodes, target, behaviours, runs.starts, runs.from_starts)


def hopper(n_tried: int = 80) -> Task:
    """Hopper-v5 under the best of some random linear policies, with noise."""
    import gymnasium

    env = gymnasium.make("Hopper-v5").unwrapped

    def episodes(policy, n, limit, rng):
        for _ in range(n):
            parts = {"observations": [], "actions": [], "rewards": [], "terminals": []}
            seen, _ = env.reset(seed=int(rng.integers(2**31)))
            parts["observations"].append(seen)
            for _ in range(limit):
                action = policy(seen[None], rng)[0]
                seen, reward, over, _, _ = env.step(action)
                row = seen, action, reward, over
                for part, value in zip(parts.values(), row, strict=True):
                    part.append(value)
                if over:
                    break
            yield {name: np.array(part) for name, part in parts.items()}

    def linear(weights):
        return lambda seen, rng: np.tanh(np.clip(seen, -10, 10) @ weights)

    rng, best = np.random.default_rng(0), (-np.inf, None)
    for _ in range(n_tried):
        weights = rng.standard_normal((11, 3))
        runs = episodes(linear(weights), 2, 300, np.random.default_rng(1))
        reached = np.mean([run["rewards"].sum() for run in runs])
        best = max(best, (reached, weights), key=lambda pair: pair[0])
    steady = linear(best[1])
    target = noisy(steady, 0.6, -1, 1)
    behaviours = {
        "itself": target,
        "noise 1": noisy(steady, 1.0, -1, 1),
        "half random": half_random(target, -1, 1),
    }
    first = episodes(target, N_STARTS, 1, np.random.default_rng(7))
    starts = np.stack([run["observations"][0] for run in first])

    def from_starts(policy, n_each, limit, rng):
        """Its starts differ by a noise of 0.005 only, so others are as good."""
        return episodes(policy, n_each * N_STARTS, limit, rng)

    return Task(0.99, 1000, episodes, target, behaviours, starts, from_starts)


TASKS: dict[str, Callable[[], Task]] = {
    "CartPole": cart_pole,
    "Pendulum": pendulum,
    "Hopper": hopper,
}
