"""Frames of states: linear temporal differences against closed forms, and laws in them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from skbellman import DistributionalValueEstimator
from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.frames import REACH, FramedReturnField, framed, new_frames
from skbellman.returns.from_table import warn_of_misplaced

GAMMA = 0.9
PERSISTENCE, NOISE = 0.8, 0.3


def drifting(n_rows=4000, seed=0, scale=1.0):
    """Return steps of x' = 0.8 x + 0.3 e with reward x: returns are normal, means linear."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=n_rows)
    after = PERSISTENCE * state + NOISE * rng.normal(size=n_rows)
    return {
        "state": state, "reward": scale * state, "next_state": after,
        "terminated": np.zeros(n_rows, dtype=bool),
    }  # fmt: skip


def exact_law(state):
    """Return mean and deviation of the return from a state."""
    slope = 1 / (1 - GAMMA * PERSISTENCE)
    return slope * state, GAMMA * NOISE * slope / np.sqrt(1 - GAMMA**2)


def batch_of(table):
    def column(name):
        return torch.tensor(table[name], dtype=torch.float32).unsqueeze(-1)

    n = len(table["state"])
    return Batch(
        column("state"),
        column("next_state"),
        torch.zeros(n, dtype=torch.long),
        torch.tensor(table["reward"], dtype=torch.float64),
        torch.tensor(~table["terminated"]),
        torch.ones(n, 1),
    )


def frames_of(steps, n_actions=1):
    return new_frames(steps, n_actions, GAMMA, torch.Generator().manual_seed(0))


def test_frames_are_where_the_returns_are():
    steps = batch_of(drifting())
    frames = frames_of(steps)
    at = np.linspace(-1.5, 1.5, 7)
    centre, scale = frames(torch.tensor(at, dtype=torch.float32).unsqueeze(-1))
    mean, deviation = exact_law(at)
    np.testing.assert_allclose(centre, mean, atol=0.2 * deviation)
    np.testing.assert_allclose(scale, deviation, rtol=0.1)
    rows = framed(steps, frames, GAMMA)
    assert rows.reward.std() == pytest.approx(np.sqrt(1 - GAMMA**2), rel=0.1)
    torch.testing.assert_close(rows.discount.mean(), torch.tensor(GAMMA), atol=0.02, rtol=0)


def test_frames_of_labels_are_exact():
    rng = np.random.default_rng(0)
    state, after = rng.integers(4, size=(2, 3000))
    reward, ended = rng.normal(size=3000) + state, rng.random(3000) < 0.1
    flags = torch.eye(4)
    steps = Batch(
        flags[state], flags[after], torch.zeros(3000, dtype=torch.long),
        torch.tensor(reward), torch.tensor(~ended), torch.ones(3000, 1),
    )  # fmt: skip
    values = np.zeros(4)
    for _ in range(500):
        follow = reward + GAMMA * ~ended * values[after]
        values = np.bincount(state, follow, 4) / np.bincount(state)
    found, _ = frames_of(steps)(flags)
    np.testing.assert_allclose(found, values, rtol=1e-3)


def test_frames_of_the_best_actions():
    """Action 1 pays 1 and action 0 nothing, wherever the state is; nothing ends."""
    rng = np.random.default_rng(0)
    state, after = torch.tensor(rng.normal(size=(2, 3000, 1)), dtype=torch.float32)
    action = torch.tensor(rng.integers(2, size=3000))
    steps = Batch(state, after, action, action.double(), torch.ones(3000, dtype=torch.bool))
    means = frames_of(steps, 2).means(state[:50])
    torch.testing.assert_close(means.mean(0), torch.tensor([9.0, 10.0]).double(), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    "scale", [1.0, *(pytest.param(scale, marks=pytest.mark.slow) for scale in (1e-200, -1e6))]
)
def test_laws_of_a_linear_process_of_numbers(scale):
    value = DistributionalValueEstimator(gamma=GAMMA, n_steps=1000, random_state=0)
    value.fit(drifting(scale=scale))
    at = np.array([-1.0, 0.0, 1.0])
    mean, deviation = exact_law(at)
    np.testing.assert_allclose(value.predict(at) / scale, mean, atol=0.15 * deviation)
    q = value.quantile(at, q=[0.1, 0.9]) / scale
    width = np.abs(q[:, 1] - q[:, 0])
    np.testing.assert_allclose(width, 2 * 1.2816 * deviation, rtol=0.1)


@pytest.mark.parametrize("gamma", [0.99, 0.999])
def test_numbers_that_are_paid_for_ever(gamma):
    states = np.random.default_rng(0).normal(size=(2, 500))
    table = {
        "state": states[0], "reward": np.ones(500), "next_state": states[1],
        "terminated": np.zeros(500, dtype=bool),
    }  # fmt: skip
    value = DistributionalValueEstimator(gamma=gamma, n_steps=50, random_state=0).fit(table)
    np.testing.assert_allclose(value.predict([0.0, 1.0]), 1 / (1 - gamma), rtol=1e-3)
    np.testing.assert_allclose(value.cvar([0.0]), 1 / (1 - gamma), rtol=0.01)


def test_returns_of_nothing_are_nothing():
    zeros = np.zeros(6)
    table = {"state": zeros, "reward": zeros, "next_state": zeros, "terminated": zeros}
    value = DistributionalValueEstimator(gamma=0.5, n_steps=3, random_state=0).fit(table)
    for found in (value.predict([0.0]), value.cvar([0.0]), value.quantile([0.0], q=[0.0, 1.0])):
        np.testing.assert_array_equal(found, 0.0 * found)


def field_of(steps):
    basis = GaussianBasis(-REACH, REACH, 61)
    return FramedReturnField(1, 1, [8], basis, frames_of(steps))


def test_laws_that_are_misplaced_are_reported():
    steps = batch_of(drifting())
    field = field_of(steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_misplaced(field, steps, GAMMA)
    field.frames.coefficients[1] *= 0.02  # frames a seventh as wide
    with pytest.warns(UserWarning, match=r"of the mass of returns is beyond.*raise n_steps"):
        warn_of_misplaced(field, steps, GAMMA)
    field = field_of(steps)
    field.last_layer.bias.data.copy_(-0.5 * (field.basis.centres - 0.5).square())
    with pytest.warns(UserWarning, match=r"where linear equations say.*raise n_steps"):
        warn_of_misplaced(field, steps, GAMMA)


def test_a_choice_of_policy_is_linear_in_a_frame():
    steps = replace(batch_of(drifting()), policy=torch.full((4000, 2), 0.5))
    field = FramedReturnField(1, 2, [8], GaussianBasis(-REACH, REACH, 61), frames_of(steps, 2))
    torch.nn.init.normal_(field.last_layer.weight, generator=torch.Generator().manual_seed(0))
    states, x = torch.tensor([[0.5]]), torch.linspace(-3, 3, 50)
    mixed = field.density(states, torch.tensor([[0.3, 0.7]]), x)
    parts = [field.density(states, one_hot(torch.tensor([a]), 2).float(), x) for a in range(2)]
    torch.testing.assert_close(mixed, 0.3 * parts[0] + 0.7 * parts[1])
    policy = torch.tensor([[0.3, 0.7]])
    mean = (policy * field.means(states)).sum()
    torch.testing.assert_close(field.moments(states, policy)[0][0], mean)


@pytest.mark.slow
def test_worst_tenth_of_a_linear_system_with_continuous_actions():
    rng = np.random.default_rng(0)
    n = 20_000
    e = rng.normal(size=(4, n))
    state = 1.5 * rng.normal(size=n)
    action = -0.4 * state + 0.5 * e[0]
    after = 0.9 * state + 0.5 * action + 0.3 * e[1]
    table = {
        "state": state, "action": action, "reward": state - 0.1 * action + 0.2 * e[2],
        "next_state": after, "next_action": -0.4 * after + 0.5 * e[3],
        "terminated": np.zeros(n, dtype=bool),
    }  # fmt: skip
    value = DistributionalValueEstimator(gamma=GAMMA, n_steps=6000, random_state=0).fit(table)
    states, levels = np.linspace(-2, 2, 5), (np.arange(200) + 0.5) / 200
    actions = -0.4 * states + 0.25
    returns = np.zeros((5, 4000))
    x, a = np.repeat(states[:, None], 4000, 1), np.repeat(actions[:, None], 4000, 1)
    for k in range(120):
        returns += GAMMA**k * (x - 0.1 * a + 0.2 * rng.normal(size=x.shape))
        x = 0.9 * x + 0.5 * a + 0.3 * rng.normal(size=x.shape)
        a = -0.4 * x + 0.5 * rng.normal(size=x.shape)
    deviation = returns.std(1)
    exact = np.quantile(returns, levels, axis=1).T
    found = value.quantile(states, actions, q=levels)
    assert np.median(np.abs(found - exact).mean(1) / deviation) < 0.06
    worst = value.cvar(states, actions) - exact[:, :20].mean(1)
    assert np.median(np.abs(worst) / deviation) < 0.08


def test_frames_reach_no_farther_than_the_bounds_of_returns():
    table = drifting()
    ended = np.random.default_rng(1).random(len(table["state"])) < 0.1
    steps = batch_of(table | {"reward": np.ones(len(ended)), "terminated": ended})  # from 0 to 10
    frames, states = frames_of(steps), torch.linspace(-1, 1, 9).unsqueeze(-1)
    (centre, scale), (mean, deviation) = frames.reaching(states), frames(states)
    assert bool((centre == mean).all())
    assert bool((scale < 0.5 * deviation).all())
    low, high = centre - REACH * scale, centre + REACH * scale
    assert bool(((low < -0.2) | (high > 10.2)).all())  # the farther end has room beside it
    assert bool(((low <= 0.5) & (high >= 9.5)).all())
    far = frames_of(batch_of(table))  # rewards of both signs: bounds are far
    assert bool((far.reaching(states)[1] == far(states)[1]).all())
