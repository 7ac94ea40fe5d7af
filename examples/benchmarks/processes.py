"""Markov decision processes whose return laws are known: transitions, and exact quantiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
from scipy import stats

PROBABILITIES = (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class Process:
    """Transitions under a policy, and the quantiles of the returns from some states.

    ``support`` is what a user of C51 would pick by hand, knowing the laws. ``policy`` is None where
    there is no choice of actions. ``of_table`` are the exact quantiles of the process that the rows
    themselves say, where it is known: no method can tell more than they do. ``actions`` are the
    first ones in the states, where those are numbers.
    """

    gamma: float
    transitions: dict[str, np.ndarray]
    states: np.ndarray
    quantiles: np.ndarray
    support: tuple[float, float]
    policy: Callable[[np.ndarray], np.ndarray] | None = None
    of_table: np.ndarray | None = None
    actions: np.ndarray | None = None


def chain(rng: np.random.Generator, n_rows: int = 50_000, gamma: float = 0.9) -> Process:
    """Five states in a row, with Gaussian rewards."""
    means, deviations = np.array([1.0, -1, 2, 0, 1]), np.array([1.0, 0.5, 0.3, 1, 0.7])
    state = rng.integers(5, size=n_rows)
    reward = means[state] + deviations[state] * rng.standard_normal(n_rows)
    discounts = [gamma ** np.arange(5 - z) for z in range(5)]
    mean = np.array([d @ means[z:] for z, d in enumerate(discounts)])
    sd = np.sqrt([d**2 @ deviations[z:] ** 2 for z, d in enumerate(discounts)])
    quantiles = stats.norm(mean[:, None], sd[:, None]).ppf(PROBABILITIES)
    table = {
        "state": state,
        "reward": reward,
        "next_state": np.minimum(state + 1, 4),
        "terminated": state == 4,
    }
    return Process(gamma, table, np.arange(5), quantiles, (-4.0, 7.0))


def endless(rng: np.random.Generator, n_rows: int = 50_000, gamma: float = 0.9) -> Process:
    """Two states that lead to one another for ever, with Gaussian rewards."""
    means, deviations = np.array([1.0, -0.5]), np.array([0.6, 1.0])
    state = rng.integers(2, size=n_rows)
    reward = means[state] + deviations[state] * rng.standard_normal(n_rows)
    mean = (means + gamma * means[::-1]) / (1 - gamma**2)
    sd = np.sqrt((deviations**2 + gamma**2 * deviations[::-1] ** 2) / (1 - gamma**4))
    quantiles = stats.norm(mean[:, None], sd[:, None]).ppf(PROBABILITIES)
    never = np.zeros(n_rows, dtype=bool)
    table = {"state": state, "reward": reward, "next_state": 1 - state, "terminated": never}
    return Process(gamma, table, np.arange(2), quantiles, (-4.0, 9.0))


def branching(rng: np.random.Generator, n_rows: int = 50_000, gamma: float = 0.9) -> Process:
    """A binary tree of three levels with Gaussian rewards: mixtures of 1, 2 and 4 Gaussians."""
    means = np.array([0.0, -1.0, 1.0, -2.0, 0.5, 1.0, 4.0])
    state, noise = rng.integers(7, size=n_rows), 0.4
    left = rng.random(n_rows) < 0.4
    following = np.where(state < 3, 2 * state + np.where(left, 1, 2), state)
    reward = means[state] + noise * rng.standard_normal(n_rows)
    laws = [_tree_law(z, means, noise, gamma) for z in range(7)]
    table = {
        "state": state, "reward": reward, "next_state": following, "terminated": state >= 3
    }  # fmt: skip
    quantiles = np.stack([_mixture_quantiles(*law) for law in laws])
    return Process(gamma, table, np.arange(7), quantiles, (-5.0, 6.5))


def _tree_law(
    z: int, means: np.ndarray, noise: float, gamma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, means and deviations of the mixture at a node of the tree."""
    if z >= 3:
        return np.ones(1), means[z : z + 1], np.array([noise])
    parts = [_tree_law(2 * z + side, means, noise, gamma) for side in (1, 2)]
    weights = np.concatenate([p * w for p, (w, _, _) in zip((0.4, 0.6), parts, strict=True)])
    mean = means[z] + gamma * np.concatenate([m for _, m, _ in parts])
    sd = np.sqrt(noise**2 + gamma**2 * np.concatenate([s for _, _, s in parts]) ** 2)
    return weights, mean, sd


def _mixture_quantiles(weights: np.ndarray, means: np.ndarray, sd: np.ndarray) -> np.ndarray:
    x = np.linspace((means - 6 * sd).min(), (means + 6 * sd).max(), 20_001)
    return np.interp(PROBABILITIES, stats.norm(means, sd).cdf(x[:, None]) @ weights, x)


def frozen_lake(
    rng: np.random.Generator,
    n_rows: int = 300_000,
    gamma: float = 0.99,
    greedy: bool = True,
) -> Process:
    """FrozenLake 4x4, slippery, under its best policy or a uniform one; states drawn evenly."""
    model = gymnasium.make("FrozenLake-v1").unwrapped.P
    steps = [
        (s, a, p, after, reward, ended)
        for s in model for a in model[s] for p, after, reward, ended in model[s][a]
    ]  # fmt: skip
    s, a, p, after, reward, ended = map(np.array, zip(*steps, strict=True))
    best = np.eye(4)[_best_actions(s, a, p, after, reward, ended, gamma)]
    policy = best if greedy else np.full((16, 4), 0.25)
    states = np.array([z for z in model if z not in (5, 7, 11, 12, 15)])
    open_steps = np.flatnonzero(np.isin(s, states))
    rows = rng.choice(open_steps, n_rows, p=p[open_steps] / p[open_steps].sum())
    table = {
        "state": s[rows], "action": a[rows], "reward": reward[rows].astype(float),
        "next_state": after[rows], "terminated": ended[rows],
    }  # fmt: skip
    quantiles = _arrival_quantiles(s, after, p * policy[s, a], reward, ended, gamma)[states]
    s, a, after, reward, ended = (part[rows] for part in (s, a, after, reward, ended))
    n_tried = np.bincount(4 * s + a, minlength=64).reshape(16, 4)
    weight = policy[s, a] / n_tried[s, a]
    of_table = _arrival_quantiles(s, after, weight, reward, ended, gamma)[states]
    return Process(
        gamma, table, states, quantiles, (0.0, 1.0), lambda z: policy[z], of_table
    )  # fmt: skip


def _best_actions(s, a, p, after, reward, ended, gamma: float) -> np.ndarray:
    value = np.zeros(16)
    for _ in range(3000):
        worth = np.zeros((16, 4))
        np.add.at(worth, (s, a), p * (reward + gamma * value[after] * ~ended))
        value = worth.max(1)
    return worth.argmax(1)


def _arrival_quantiles(s, after, weight, reward, ended, gamma: float) -> np.ndarray:
    """Return the quantiles of gamma^T, T the time of arrival, 0 if it never comes."""
    arrival, onwards = np.zeros(16), np.zeros((16, 16))
    np.add.at(arrival, s, weight * (reward > 0))
    np.add.at(onwards, (s, after), weight * ~ended)
    horizon, walk, chance = 3000, np.eye(len(arrival)), []
    for _ in range(horizon):
        chance.append(walk @ arrival)
        walk = walk @ onwards
    values = np.append(gamma ** np.arange(horizon), 0.0)[::-1]
    law = np.stack(chance, 1)
    law = np.hstack([law, 1 - law.sum(1, keepdims=True)])[:, ::-1]
    cumulative = law.cumsum(1)
    places = [np.searchsorted(row, PROBABILITIES).clip(0, horizon) for row in cumulative]
    return np.stack([values[place] for place in places])


def cart_pole(
    rng: np.random.Generator, n_rows: int = 60_000, gamma: float = 0.99, n_states: int = 40
) -> Process:
    """CartPole under a noisy policy; the laws by 1000 episodes from each of some states."""
    environment = gymnasium.make_vec("CartPole-v1", 64, vectorization_mode="vector_entry_point")
    observations, _ = environment.reset(seed=int(rng.integers(2**31)))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _PARTS}
    resetting = np.zeros(64, dtype=bool)
    while sum(map(len, parts["reward"])) < n_rows:
        actions = _noisy_actions(observations, rng)
        after, reward, ended, cut, _ = environment.step(actions)
        row = (observations, actions, reward, after, ended, cut)
        for name, part in zip(_PARTS, row, strict=True):
            parts[name].append(np.array(part)[~resetting])
        observations, resetting = after.copy(), ended | cut
    table = {name: np.concatenate(part) for name, part in parts.items()}
    open_rows = np.flatnonzero(~table["terminated"])
    states = table["state"][rng.choice(open_rows, n_states)].astype(np.float64)
    returns = np.stack([_episodes(state, 1000, gamma, rng) for state in states])
    quantiles = np.quantile(returns, PROBABILITIES, axis=1).T
    return Process(gamma, table, states, quantiles, (0.0, 100.0), _noisy_policy)


_PARTS = ("state", "action", "reward", "next_state", "terminated", "truncated")


def _noisy_policy(states: np.ndarray) -> np.ndarray:
    right = np.where(states[:, 2] + 0.5 * states[:, 3] > 0, 0.75, 0.25)
    return np.column_stack([1 - right, right])


def _noisy_actions(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(len(states)) < _noisy_policy(states)[:, 1]).astype(np.int64)


def _episodes(
    state: np.ndarray, n_episodes: int, gamma: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the returns of episodes that begin in one state; none is cut off."""
    x = np.repeat(state[None], n_episodes, 0)
    returns, alive, discount = np.zeros(n_episodes), np.ones(n_episodes, dtype=bool), 1.0
    while alive.any() and discount > 1e-4:
        returns += discount * alive
        x = _cart_pole_step(x, _noisy_actions(x, rng))
        alive &= (np.abs(x[:, 0]) <= 2.4) & (np.abs(x[:, 2]) <= 12 * np.pi / 180)
        discount *= gamma
    return returns


def _cart_pole_step(x: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return the state after 20 ms, as gymnasium's CartPole has it."""
    place, speed, angle, turn = x.T
    force = np.where(action == 1, 10.0, -10.0)
    push = (force + 0.05 * turn**2 * np.sin(angle)) / 1.1
    bend = (9.8 * np.sin(angle) - np.cos(angle) * push) / (
        0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1)
    )
    pull = push - 0.05 * bend * np.cos(angle) / 1.1
    return np.column_stack(
        [place + 0.02 * speed, speed + 0.02 * pull, angle + 0.02 * turn, turn + 0.02 * bend]
    )


def cost_until_the_end(rng: np.random.Generator, n_rows: int = 20_000) -> Process:
    """One state that costs 1 a step and ends with probability 1/20; gamma is 1."""
    zeros, ended = np.zeros(n_rows, dtype=int), rng.random(n_rows) < 0.05
    table = {"state": zeros, "reward": -np.ones(n_rows), "next_state": zeros, "terminated": ended}
    quantiles, of_table = (
        -stats.geom(p).ppf(1 - PROBABILITIES)[None] for p in (0.05, ended.mean())
    )
    return Process(1.0, table, zeros[:1], quantiles, (-120.0, 0.0), None, of_table)


def linear_gaussian(rng: np.random.Generator, n_rows: int = 20_000, gamma: float = 0.9) -> Process:
    """A linear system of one state and one continuous action, under a noisy linear policy."""
    state = 1.5 * rng.standard_normal(n_rows)
    action = _linear_action(state, rng)
    after, reward = _linear_step(state, action, rng)
    table = {
        "state": state, "action": action, "reward": reward, "next_state": after,
        "next_action": _linear_action(after, rng), "terminated": np.zeros(n_rows, dtype=bool),
    }  # fmt: skip
    states = np.linspace(-2, 2, 9)
    actions = -0.4 * states + np.tile([-0.5, 0.0, 0.5], 3)
    x, a = (np.repeat(part[:, None], 4000, 1) for part in (states, actions))
    returns = np.zeros_like(x)
    for k in range(150):
        x, reward = _linear_step(x, a, rng)
        returns, a = returns + gamma**k * reward, _linear_action(x, rng)
    quantiles = np.quantile(returns, PROBABILITIES, axis=1).T
    return Process(gamma, table, states, quantiles, (-20.0, 20.0), actions=actions)


def _linear_action(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return -0.4 * state + 0.5 * rng.standard_normal(state.shape)


def _linear_step(
    state: np.ndarray, action: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the next state and the reward."""
    noise = rng.standard_normal((2, *state.shape))
    return 0.9 * state + 0.5 * action + 0.3 * noise[0], state - 0.1 * action + 0.2 * noise[1]


def pendulum(
    rng: np.random.Generator, n_rows: int = 40_000, gamma: float = 0.95, n_states: int = 60
) -> Process:
    """Pendulum-v1 under uniform torques; the laws by 400 runs from each of some states."""
    n_copies, length = 64, 200
    place, speed = rng.uniform(-np.pi, np.pi, n_copies), rng.uniform(-1, 1, n_copies)
    rows = []
    for k in range(n_rows // n_copies):
        if k % length == 0:
            place, speed = rng.uniform(-np.pi, np.pi, n_copies), rng.uniform(-1, 1, n_copies)
        torque, before = rng.uniform(-2, 2, n_copies), (place, speed)
        place, speed, reward = _pendulum_step(place, speed, torque)
        rows.append((_seen(*before), torque, reward, _seen(place, speed)))
    state, action, reward, after = (np.concatenate(part) for part in zip(*rows, strict=True))
    table = {
        "state": state, "action": action, "reward": reward, "next_state": after,
        "next_action": rng.uniform(-2, 2, len(reward)), "terminated": np.zeros(len(reward), bool),
    }  # fmt: skip
    chosen = rng.choice(len(reward), n_states, replace=False)
    place, speed, torque = (
        np.repeat(part[chosen], 400)
        for part in (np.arctan2(state[:, 1], state[:, 0]), state[:, 2], action)
    )
    returns = np.zeros(len(torque))
    for k in range(180):
        place, speed, reward = _pendulum_step(place, speed, torque)
        returns, torque = returns + gamma**k * reward, rng.uniform(-2, 2, len(torque))
    quantiles = np.quantile(returns.reshape(n_states, 400), PROBABILITIES, axis=1).T
    return Process(
        gamma, table, state[chosen], quantiles, (-330.0, 0.0), actions=action[chosen]
    )  # fmt: skip


def _seen(place: np.ndarray, speed: np.ndarray) -> np.ndarray:
    return np.column_stack([np.cos(place), np.sin(place), speed])


def _pendulum_step(
    place: np.ndarray, speed: np.ndarray, torque: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the next place and speed, and the reward, as gymnasium's Pendulum has them."""
    angle = (place + np.pi) % (2 * np.pi) - np.pi
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + 0.05 * (15 * np.sin(place) + 3 * torque), -8, 8)
    return place + 0.05 * speed, speed, reward


PROCESSES: dict[str, Callable[[np.random.Generator], Process]] = {
    "chain": chain,
    "two states for ever": endless,
    "branching": branching,
    "FrozenLake, best policy": frozen_lake,
    "FrozenLake, best policy, 1,000,000 rows": lambda rng: frozen_lake(rng, n_rows=1_000_000),
    "FrozenLake, uniform, gamma .95": lambda rng: frozen_lake(rng, gamma=0.95, greedy=False),
    "CartPole": cart_pole,
    "cost until the end": cost_until_the_end,
    "linear-Gaussian, continuous actions": linear_gaussian,
    "Pendulum, continuous actions": pendulum,
}
