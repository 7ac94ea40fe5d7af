"""What an agent of labelled states answers, against its own counts."""

from __future__ import annotations

import numpy as np
import pytest

from skbellman import DistributionalValueEstimator

gymnasium = pytest.importorskip("gymnasium")
GAMMA = 0.9


class Coin(gymnasium.Env):
    """One state and two actions, with rewards that are nearly alike."""

    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        reward = float((self.np_random.random() < 0.5) + 0.1 * action)
        return 0, reward, bool(self.np_random.random() < 0.01), False, {}


def test_expected_returns_are_those_of_the_agents_own_counts():
    agent = DistributionalValueEstimator(
        policy="greedy", gamma=GAMMA, n_random_steps=100, random_state=0
    ).fit(Coin(), n_steps=400)
    steps = agent._steps_seen[0]
    count, reward = steps.count.numpy(), steps.reward.numpy().astype(float)
    follows, action = steps.follows.numpy(), steps.action.numpy()
    worth = np.zeros(2)
    for _ in range(500):
        after = count * (reward + GAMMA * follows * worth.max())
        worth = np.bincount(action, after) / np.bincount(action, count)
    np.testing.assert_allclose(agent.predict([0, 0], [0, 1]), worth, rtol=1e-4)
    assert agent.act(0) == worth.argmax()
