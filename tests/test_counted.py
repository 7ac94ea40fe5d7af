"""Laws in a table, against linear algebra and the rows themselves; what is hoped of the unknown."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from skbellman import DistributionalValueEstimator
from skbellman.returns.batch import Batch
from skbellman.returns.counted import CountedReplay, counted
from skbellman.returns.fields import TabularReturnField
from skbellman.returns.regression import (
    Backup,
    NextLaws,
    chosen_by_target,
    pushed_at_once,
)
from skbellman.returns.replay import Transition
from skbellman.returns.spaces import features_of_space
from skbellman.returns.support import FixedSupport, Support
from skbellman.returns.sweeps import Hope, TableLearner, sweep_backup

gymnasium = pytest.importorskip("gymnasium")
CPU = torch.device("cpu")
GAMMA = 0.9


def walk(n_rows=3000, n_states=5, seed=0):
    """Return random transitions between states, with two actions in each."""
    rng = np.random.default_rng(seed)
    state, action = rng.integers(n_states, size=n_rows), rng.integers(2, size=n_rows)
    next_state = (state + action * rng.integers(1, 3, size=n_rows) + 1) % n_states
    return pd.DataFrame(
        {
            "state": state,
            "action": action,
            "reward": np.where(rng.random(n_rows) < 0.3, 2.0, -1.0) * (state + 1),
            "next_state": next_state,
            "terminated": rng.random(n_rows) < 0.1,
        }
    )


def batch_of(table, policy=None):
    flags = torch.eye(5)
    return Batch(
        flags[torch.tensor(table.state.tolist())],
        flags[torch.tensor(table.next_state.tolist())],
        torch.tensor(table.action.tolist()),
        torch.tensor(table.reward.to_numpy(), dtype=torch.float32),
        torch.tensor(~table.terminated.to_numpy()),
        policy,
    )


def evaluated(policy="uniform", **parameters):
    policy = np.full((5, 2), 0.5) if isinstance(policy, str) and policy == "uniform" else policy
    return DistributionalValueEstimator(policy=policy, gamma=GAMMA, random_state=0, **parameters)


def values_of(table, greedy=False):
    """Return the expected returns of the process that the rows say, (n_states, 2)."""
    q = np.zeros((5, 2))
    for _ in range(500):
        v = q.max(1) if greedy else q.mean(1)
        follow = table.reward + GAMMA * ~table.terminated * v[table.next_state]
        q = follow.groupby([table.state, table.action]).mean().to_numpy().reshape(5, 2)
    return q


@pytest.mark.parametrize("greedy", [False, True])
def test_expected_returns_are_those_that_the_rows_say(greedy):
    table = walk()
    value = evaluated("greedy" if greedy else "uniform").fit(table)
    found = np.stack([value.predict(np.arange(5), [a] * 5) for a in range(2)], 1)
    np.testing.assert_allclose(found, values_of(table, greedy), rtol=2e-3, atol=2e-3)
    assert isinstance(value.field_, TabularReturnField)


def test_laws_are_those_of_simulated_returns():
    table = walk()
    value = evaluated().fit(table)
    rng = np.random.default_rng(1)
    by_state = [table[table.state == z] for z in range(5)]
    returns = np.zeros(4000)
    for k in range(len(returns)):
        state, discount = 0, 1.0
        while discount > 1e-3:
            step = by_state[state].iloc[rng.integers(len(by_state[state]))]
            returns[k] += discount * step.reward
            if step.terminated:
                break
            state, discount = step.next_state, discount * GAMMA
    probability = (np.arange(200) + 0.5) / 200
    gap = value.quantile([0], q=probability)[0] - np.quantile(returns, probability)
    assert np.abs(gap).mean() / returns.std() < 0.05


def test_equal_steps_are_counted_and_have_the_backup_of_the_mean_policy():
    table = walk()
    policy = torch.rand(len(table), 2, generator=torch.Generator().manual_seed(0))
    policy /= policy.sum(1, keepdim=True)
    batch = batch_of(table, policy)
    few = counted(batch)
    assert len(few.action) < 200
    assert few.count.sum() == len(table)
    assert torch.equal(counted(few.and_then(few)).count, 2 * few.count)
    support = Support(GAMMA, 31)
    next_laws = NextLaws(
        chosen_by_target, lambda weights: weights
    )  # cut off they would not be linear
    backup = Backup(GAMMA, next_laws, pushed_at_once, FixedSupport())
    first, laws = TabularReturnField(5, 2, support.first(torch.tensor([-30.0, 30.0]))), []
    for steps in (few, batch.to(CPU)):
        field = copy.deepcopy(first)
        counts = torch.ones(len(steps.action)) if steps.count is None else steps.count
        learner = TableLearner(field, backup)
        for _ in range(4):
            learner.step(replace(steps, count=counts))
        laws.append(field.laws)
    torch.testing.assert_close(laws[0], laws[1], atol=1e-5, rtol=0)


def test_partial_fit_knows_the_rows_of_before():
    table = walk()
    value = evaluated().fit(table[:1000])
    value.partial_fit(table[1000:])
    whole = evaluated().fit(table)
    actions = np.zeros(5, dtype=int)
    np.testing.assert_allclose(
        value.predict(np.arange(5), actions), whole.predict(np.arange(5), actions), atol=0.01
    )
    value.set_params(policy=np.tile([1.0, 0.0], (5, 1))).partial_fit(table[1000:])
    others = evaluated(np.tile([1.0, 0.0], (5, 1))).fit(table[1000:])
    np.testing.assert_allclose(
        value.predict(np.arange(5), actions), others.predict(np.arange(5), actions), atol=0.01
    )


def test_an_action_that_was_not_tried_is_neither_the_best_nor_the_worst():
    table = walk()
    table = table[(table.state != 2) | (table.action == 1)]
    value = evaluated().fit(table)
    tried, other = value.predict([2, 2], [1, 0])
    assert other == pytest.approx(tried, abs=1e-3)


def test_the_seldomer_an_action_was_taken_the_more_is_hoped_of_it():
    table = walk()
    table = table[(table.state != 2) | (table.action == 1)].assign(terminated=True)
    support = Support(GAMMA, 61)
    field = TabularReturnField(5, 2, support.first(torch.tensor([-10.0, 10.0])))
    hope = TableLearner(field, sweep_backup(GAMMA, FixedSupport()), Hope())
    hope.step(counted(batch_of(table)))
    rewards = table.groupby(["state", "action"]).reward.agg(["mean", "size"])
    means, roots, high = rewards["mean"], np.sqrt(rewards["size"]), field.basis.high
    expected = (roots * means + high) / (roots + 1)
    found = field.means(torch.eye(5)).detach()
    assert found[2, 0] == pytest.approx(high, abs=0.01)
    for (state, action), mean in expected.items():
        assert found[state, action] == pytest.approx(mean, abs=0.01)


class Lock(gymnasium.Env):
    """Ten dials; a wrong one begins again. A random opener needs a thousand trials."""

    observation_space = gymnasium.spaces.Discrete(11)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.dial = 0
        return 0, {}

    def step(self, action):
        self.dial = self.dial + 1 if action == self.dial % 2 else 0
        return self.dial, float(self.dial == 10), self.dial == 10, False, {}


@pytest.mark.slow
def test_what_was_not_tried_is_hoped_for():
    agent = DistributionalValueEstimator(
        policy="greedy", gamma=GAMMA, n_random_steps=100, exploration_fraction=0.1, random_state=0
    )
    agent.fit(Lock(), n_steps=2000)
    assert [agent.act(dial) for dial in range(10)] == [0, 1] * 5
    np.testing.assert_allclose(agent.predict([0, 5]), [GAMMA**9, GAMMA**4], atol=0.01)
    steps, n_steps = agent._steps_seen[0], len(agent.history_["return"])
    agent.partial_fit(Lock(), n_steps=500)
    assert agent._steps_seen[0].count.sum() == steps.count.sum() + 500
    assert n_steps > 50


def test_joint_labels_are_different_flags():
    space = gymnasium.spaces.Dict(
        {
            "pair": gymnasium.spaces.MultiDiscrete([2, 3]),
            "way": gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(4, start=1),)),
        }
    )
    features = features_of_space(space)
    every = [
        {"pair": np.array([a, b]), "way": (c,)}
        for a in range(2) for b in range(3) for c in range(1, 5)
    ]  # fmt: skip
    flags = features(every)
    assert features.one_label
    np.testing.assert_array_equal(flags[flags.argmax(1).argsort()], np.eye(24))
    assert not features_of_space(gymnasium.spaces.MultiDiscrete([40, 40])).one_label


def test_a_full_replay_forgets_the_oldest_step():
    replay = CountedReplay(3, 4, np.random.default_rng(0), CPU)
    flags = np.eye(4)

    def see(state):
        replay.add(Transition(flags[state], 0, 1.0, flags[0], True))

    for state in (0, 1, 1, 2, 3, 3):
        see(state)
    batch = replay.everything()
    order = batch.state.argmax(1)
    assert sorted(order.tolist()) == [1, 2, 3]
    assert dict(zip(order.tolist(), batch.count.tolist(), strict=True)) == {1: 2, 2: 1, 3: 2}
    see(0)
    assert sorted(replay.everything().state.argmax(1).tolist()) == [0, 2, 3]


def test_recalled_steps_are_counted_on():
    step = Transition(np.eye(4)[0], 0, 0.1, np.eye(4)[1], True)
    first, later = (CountedReplay(9, 4, np.random.default_rng(0), CPU) for _ in range(2))
    for _ in range(3):
        first.add(step)
    later.recall(first.everything())
    later.add(step)
    assert later.everything().count.tolist() == [4]


def test_where_a_step_ends_it_does_not_matter_where():
    replay = CountedReplay(9, 4, np.random.default_rng(0), CPU)
    for following in np.eye(4):
        replay.add(Transition(np.eye(4)[0], 0, 1.0, following, False))
    assert replay.everything().count.tolist() == [4]


@pytest.mark.parametrize(("n_rows", "n_swept"), [(400, 250), (4000, 500)])
def test_many_steps_are_swept_pair_by_pair(n_rows, n_swept):
    rng = np.random.default_rng(0)
    replay = CountedReplay(5000, 4, rng, CPU)
    flags = np.eye(4)
    for k in range(n_rows):
        replay.add(Transition(flags[k % 4], k // 4 % 2, float(rng.normal()), flags[0], True))
    batch = replay.sample(64)
    _, sizes = (2 * batch.state.argmax(1) + batch.action).unique(return_counts=True)
    assert set(sizes.tolist()) == {n_rows // 8}
    assert len(batch.action) == n_swept
