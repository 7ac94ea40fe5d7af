"""What has to work on a GPU as on a CPU; skipped where there is none."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from known import draw, mixture
from torch.testing import assert_close

from skbellman import BellmanDiffusionDensity
from skbellman.dynamics import bellman_dynamics
from skbellman.schedule import NoiseSchedule

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
QUICK = {"n_steps": 60, "width": 16, "random_state": 0}


@pytest.mark.parametrize("falling", [False, True])
def test_the_dynamics_keep_the_law(falling):
    field, n_rows = mixture(2).to("cuda"), 4000
    ones = torch.ones(2, dtype=torch.float64, device="cuda")
    schedule = NoiseSchedule(0.02 * ones, 20 * ones) if falling else None
    generator = torch.Generator("cuda").manual_seed(0)
    noise = torch.randn(n_rows, 2, generator=generator, device="cuda", dtype=torch.float64)
    start = 20 * noise if falling else draw(mixture(2), n_rows).to("cuda")
    path = bellman_dynamics(field, start, 4 if falling else 200, generator, schedule=schedule)
    assert path.rows.device.type == "cuda"
    real = draw(mixture(2), n_rows, seed=1)
    assert_close(path.rows.mean(0).cpu(), real.mean(0), atol=0.07, rtol=0)
    assert_close(path.rows.T.cov().cpu(), real.T.cov(), atol=0.1, rtol=0)


@pytest.mark.parametrize("objective", ["denoising", "pairwise", "sliced"])
def test_an_estimator_fitted_there_scores_the_same_here(objective):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 2)), columns=["x", "y"])
    if objective == "denoising":
        frame = frame.assign(c=rng.choice(["a", "b"], 300)).mask(rng.random((300, 3)) < 0.1)
    density = BellmanDiffusionDensity(objective=objective, device="cuda", **QUICK).fit(frame)
    assert density.device_.type == "cuda"
    assert len(density.sample(50, random_state=0)) == 50
    here = pickle.loads(pickle.dumps(density)).set_params(device="cpu")
    here.field_.to("cpu")
    here.schedule_.to("cpu")
    here.device_ = torch.device("cpu")
    np.testing.assert_allclose(
        density.score_samples(frame), here.score_samples(frame), rtol=1e-4, atol=1e-4
    )
    if objective == "denoising":
        filled = density.sample(given=frame, random_state=0)
        assert not filled.isna().any(axis=None)
