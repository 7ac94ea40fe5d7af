"""The closed-form part of a fitted field, and its weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known import draw, grid
from scipy.optimize import minimize_scalar

from skbellman.batches import Rows
from skbellman.fields import GaussianMixtureField
from skbellman.fitting import fit_mixture
from skbellman.mixtures import best_mixture, normal_moments, refined, stacking_weights
from skbellman.schedule import NoiseSchedule

RNG = np.random.default_rng(0)


def test_bic_finds_the_number_of_modes():
    modes = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    rows = modes[RNG.integers(0, 4, 1000)] + RNG.normal(0, 0.4, (1000, 2))
    assert best_mixture(rows, seed=0).n_components == 4
    assert best_mixture(RNG.normal(size=(1000, 2)), seed=0).n_components == 1
    assert best_mixture(np.zeros((1, 2)), seed=0).n_components == 1


def test_a_mixture_is_refined_by_more_rows_than_chose_it():
    rows = np.random.default_rng(1).normal(size=(100_000, 6))
    rows[::2] += 4
    few = best_mixture(rows, seed=0)
    many = refined(few, rows)
    assert many.n_components == few.n_components == 2
    expected = np.outer([0, 4], np.ones(6))
    errors = [np.sort(m.means_, 0) - expected for m in (few, many)]
    assert np.abs(errors[1]).mean() < 0.5 * np.abs(errors[0]).mean()
    assert refined(few, rows[:100]) is few


def test_stacking_weights_are_the_likeliest():
    x = np.where(RNG.random(20_000) < 0.3, RNG.normal(-2, 1, 20_000), RNG.normal(2, 1, 20_000))
    logs = -0.5 * (x[:, None] - np.array([-2.0, 2.0, 50.0])) ** 2
    weights = stacking_weights(logs)
    np.testing.assert_allclose(weights, [0.3, 0.7, 0.0], atol=0.015)
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1)


def test_stacking_weights_of_densities_that_are_nearly_equal():
    x = np.random.default_rng(2).normal(size=2000)
    logs = -0.5 * (x[:, None] - np.array([0.0, 0.1])) ** 2

    def minus_log_posterior(weight: float) -> float:
        parts = np.exp(logs) @ [weight, 1 - weight]
        return -(np.log(parts).sum() + 0.01 * np.log(weight * (1 - weight)))

    expected = minimize_scalar(minus_log_posterior, bounds=(1e-6, 1 - 1e-6), method="bounded").x
    assert stacking_weights(logs)[0] == pytest.approx(expected, abs=1e-4)


def test_moments_of_rows_with_gaps_are_those_of_the_whole():
    """The second column is missing where the first is large: complete rows would mislead."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=20_000)
    rows = np.column_stack([first, 0.8 * first + 0.6 * rng.normal(size=20_000)])[:10_000]
    gaps = rows.copy()
    gaps[gaps[:, 0] > 0, 1] = np.nan
    mean, covariance = normal_moments(gaps)
    np.testing.assert_allclose(mean, [0, 0], atol=0.04)
    np.testing.assert_allclose(covariance, [[1, 0.8], [0.8, 1]], atol=0.05)
    mean, covariance = normal_moments(rows)
    np.testing.assert_allclose(mean, rows.mean(0))
    np.testing.assert_allclose(covariance, np.cov(rows.T, bias=True))


def test_the_noise_of_the_floor_is_taken_out_of_the_covariances():
    floor = torch.tensor([0.5, 0.01]).double()
    truth = GaussianMixtureField.normal(
        torch.zeros(2).double(), torch.tensor([[0.0, 0.0], [0.0, 1.0]]).double()
    )
    x = draw(GaussianMixtureField.normal(torch.zeros(2).double(), torch.eye(2).double()), 20_000)
    x[:, 0] = 0.0  # a column of points, seen through its floor alone
    rows = Rows(x[None], x[:10], torch.zeros(10), torch.arange(2), [])
    found = fit_mixture(rows, NoiseSchedule(floor, 20 * torch.ones(2).double()), seed=0)
    points, cell = grid(2, n_points=101)
    assert float(found.scalar(points, floor).sum() * cell) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(
        found.log_scalar(points[::500] / 3, floor),
        truth.log_scalar(points[::500] / 3, floor),
        atol=0.15,
        rtol=0.02,
    )
