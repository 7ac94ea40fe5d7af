"""What has to work on a GPU as on a CPU; skipped where there is none."""

from __future__ import annotations

import pickle
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from known import draw, mixture
from known_returns import chain, chain_laws, distances, estimator, numbered
from torch.testing import assert_close

from skbellman import BellmanDiffusionDensity, BellmanImputer, PaperDensity
from skbellman.dynamics import bellman_dynamics
from skbellman.schedule import NoiseSchedule
from skbellman.solvers import annealed_dynamics

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
QUICK = {"n_steps": 60, "width": 16, "random_state": 0}


def moved_to_cpu(model):
    """Return the fitted estimator as a machine without a GPU loads it."""
    with mock.patch.object(torch.cuda, "is_available", return_value=False):
        here = pickle.loads(pickle.dumps(model))
    assert here.device_.type == "cpu"
    return here


@pytest.mark.parametrize("falling", [False, True])
def test_the_dynamics_keep_the_law(falling):
    field, n_rows = mixture(2).to("cuda"), 4000
    ones = torch.ones(2, dtype=torch.float64, device="cuda")
    schedule = NoiseSchedule(0.02 * ones, 20 * ones)
    generator = torch.Generator("cuda").manual_seed(0)
    noise = torch.randn(n_rows, 2, generator=generator, device="cuda", dtype=torch.float64)
    start = 20 * noise if falling else draw(mixture(2), n_rows).to("cuda")
    if falling:
        rows = annealed_dynamics(field, start, schedule, 48, generator, beta=1.0)
    else:
        rows = bellman_dynamics(field, start, 200, generator).rows
    assert rows.device.type == "cuda"
    real = draw(mixture(2), n_rows, seed=1)
    assert_close(rows.mean(0).cpu(), real.mean(0), atol=0.07, rtol=0)
    assert_close(rows.T.cov().cpu(), real.T.cov(), atol=0.1, rtol=0)


@pytest.mark.parametrize("objective", ["denoising", "pairwise", "sliced"])
def test_an_estimator_fitted_there_scores_the_same_here(objective):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 2)), columns=["x", "y"])
    if objective == "denoising":
        frame = frame.assign(c=rng.choice(["a", "b"], 300)).mask(rng.random((300, 3)) < 0.1)
    if objective == "denoising":
        density = BellmanDiffusionDensity(device="cuda", **QUICK)
    else:
        density = PaperDensity(objective=objective, device="cuda", n_steps=30, random_state=0)
    density.fit(frame)
    assert density.device_.type == "cuda"
    assert len(density.sample(50, random_state=0)) == 50
    here = moved_to_cpu(density)
    np.testing.assert_allclose(
        density.score_samples(frame), here.score_samples(frame), rtol=1e-4, atol=1e-4
    )
    if objective == "denoising":
        filled = density.sample(given=frame, random_state=0)
        assert not filled.isna().any(axis=None)
        np.testing.assert_allclose(
            density.score_samples(frame, columns=["x"], given=["c"]),
            here.score_samples(frame, columns=["x"], given=["c"]),
            rtol=1e-4,
            atol=1e-4,
        )


def test_a_fit_is_the_same_twice_and_leaves_the_random_state_alone():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2)), columns=["x", "y"])
    before = torch.cuda.get_rng_state()
    one, two = (BellmanDiffusionDensity(device="cuda", **QUICK).fit(frame) for _ in range(2))
    pd.testing.assert_frame_equal(one.sample(20, random_state=0), two.sample(20, random_state=0))
    assert_close(torch.cuda.get_rng_state(), before)


def test_an_imputer_fills_the_gaps():
    rng = np.random.default_rng(0)
    table = rng.multivariate_normal([0, 0], [[1, 0.99], [0.99, 1]], 400)
    gaps = np.where(rng.random(table.shape) < [0.0, 0.2], np.nan, table)
    density = BellmanDiffusionDensity(device="cuda", **QUICK)
    filled = BellmanImputer(density, statistic="mean", n_draws=50).fit_transform(gaps)
    assert np.abs(filled - table)[np.isnan(gaps)].mean() < 0.2


@pytest.mark.parametrize("form", ["basis", "networks", "table of laws"])
def test_laws_of_returns_are_right_there_and_the_same_here(form):
    table = chain() if form == "table of laws" else numbered(chain())
    forms = {"form": "networks", "n_steps": 1500} if form == "networks" else {}
    value = estimator(device="cuda", **forms).fit(table)
    assert value.device_.type == "cuda"
    assert distances(value, chain_laws(0.8)).max() < 0.12
    here, states, q = moved_to_cpu(value), np.array([0, 1, 2]), [0.1, 0.5, 0.9]
    np.testing.assert_allclose(value.quantile(states, q=q), here.quantile(states, q=q), atol=1e-3)
    np.testing.assert_allclose(value.cvar(states), here.cvar(states), atol=1e-3)
    np.testing.assert_allclose(value.predict(states), here.predict(states), atol=1e-3)
    assert value.sample(states, n_samples=50, random_state=0).shape == (3, 50)
    level = 0.0 if form == "networks" else value.level_
    assert float(value.law(0).scalar(torch.zeros(1, 1, device="cuda"), sigma=level)) > 0
    if form != "networks":
        assert np.isfinite(value.partial_fit(table, n_steps=20).predict(states)).all()


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1"])
def test_an_agent_learns_there_and_acts_here(name):
    agent = estimator(policy="greedy", device="cuda", n_random_steps=100)
    agent.fit(name, n_steps=400)
    observation = np.zeros(4) if name == "CartPole-v1" else 0
    here = moved_to_cpu(agent)
    assert agent.act(observation) == here.act(observation)
    assert agent.act(observation, ("cvar", 0.2)) == here.act(observation, ("cvar", 0.2))
    assert np.isfinite(agent.partial_fit(name, n_steps=50).predict([observation], [0])).all()
