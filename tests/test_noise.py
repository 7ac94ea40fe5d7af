"""Rows seen through noise: the same integral, begun at a higher level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from skbellman import BellmanDiffusionDensity, PaperDensity
from skbellman.fields import GaussianMixtureField

RNG = np.random.default_rng(0)
N = 300
TABLE = pd.DataFrame({"x": RNG.normal(size=N), "c": RNG.choice(["a", "b", "c"], N)})
TABLE["y"] = 0.8 * TABLE["x"] + 0.6 * RNG.normal(size=N) + (TABLE["c"] == "a")
NUMBERS = TABLE[["x", "y"]]


def fitted(table, **parameters):
    return BellmanDiffusionDensity(
        **{"n_steps": 40, "width": 16, "random_state": 0, **parameters}
    ).fit(table)


@pytest.fixture(scope="module")
def density():
    return fitted(TABLE)


def coordinates(density, table):
    encoder = density.encoder_
    return next(encoder.encode_cells(encoder.read(table), 1))


@pytest.mark.parametrize("noise", [0.0, 0.3, {"y": 2.0}, [0.5, 1.5]])
def test_a_mixture_in_closed_form_is_wider_by_the_noise(noise):
    density = fitted(NUMBERS)
    means, spread = torch.tensor([[-1.0, 0.5], [1.0, 0.0]]), torch.tensor([[0.2, 0.1], [0.1, 0.3]])
    density.field_ = GaussianMixtureField(torch.tensor([0.3, 0.7]), means, spread.expand(2, 2, 2))
    z, log_slope = coordinates(density, NUMBERS)
    each = [noise.get(name, 0.0) for name in NUMBERS] if isinstance(noise, dict) else noise
    levels = torch.as_tensor(np.hypot(0.01, np.broadcast_to(each, 2)))
    expected = density.field_.double().log_scalar(torch.tensor(z), levels).numpy() + log_slope
    np.testing.assert_allclose(density.score_samples(NUMBERS, noise=noise), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5])
def test_the_density_seen_through_noise_integrates_to_one(density, noise):
    x = np.linspace(-9, 9, 91)
    cells = pd.MultiIndex.from_product([x, list("abc")], names=["x", "c"]).to_frame(index=False)
    mass = np.exp(density.score_samples(cells, columns=["x", "c"], noise=noise)).sum() * (
        x[1] - x[0]
    )
    assert mass == pytest.approx(1, abs=0.01)
    cells = cells[cells.c == "a"]
    given = np.exp(density.score_samples(cells, columns=["x"], given=["c"], noise=noise))
    assert given.sum() * (x[1] - x[0]) == pytest.approx(1, abs=0.01)


def test_it_is_the_mean_of_the_noise_about_draws():
    density = fitted(TABLE[["x"]], n_steps=200)
    at = pd.DataFrame({"x": [-2.0, 0.0, 1.5]})
    (z, log_slope), (drawn, _) = (coordinates(density, t) for t in (at, density.sample(20_000, 0)))
    noise = np.hypot(0.5, 0.01)
    kernel = np.exp(-0.5 * ((z - drawn.T) / noise) ** 2) / (noise * np.sqrt(2 * np.pi))
    error = kernel.std(1) / np.sqrt(kernel.shape[1])
    found = np.exp(density.score_samples(at, noise=0.5) - log_slope)
    assert (abs(found - kernel.mean(1)) < 4 * error + 0.01).all()


def test_no_noise_is_no_change_and_levels_stay_exact(density):
    plain = density.score_samples(TABLE[:20])
    np.testing.assert_array_equal(density.score_samples(TABLE[:20], noise=0.0), plain)
    np.testing.assert_array_equal(density.score_samples(TABLE[:20], noise={"x": 0}), plain)
    shares = density.score_samples(TABLE[:20], columns=["c"])
    through = density.score_samples(TABLE[:20], columns=["c"], noise=3.0)
    np.testing.assert_array_equal(shares, through)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"noise": -0.1}, "finite and at least 0, got -0.1"),
        ({"noise": np.nan}, "finite and at least 0, got nan"),
        ({"noise": {"c": 1.0}}, "noise names column 'c', whose values have probabilities"),
        ({"noise": {"w": 1.0}}, "noise names \\['w'\\]"),
        ({"noise": [1.0, 2.0]}, "array of 3 numbers"),
        ({"noise": {"x": 1.0}, "given": ["x"]}, "noise names column 'x', which is not asked"),
    ],
)
def test_what_is_refused(density, asked, message):
    with pytest.raises(ValueError, match=message):
        density.score_samples(TABLE[:2], **asked)


def test_fields_of_one_level_are_not_seen_through_others():
    density = PaperDensity(n_steps=2, n_dynamics_steps=2).fit(NUMBERS)
    with pytest.raises(ValueError, match="at one level of noise"):
        density.score_samples(NUMBERS, noise=1.0)
