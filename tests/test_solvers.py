"""The exponential integrator against closed forms: order, what stays, what is kept in law."""

from __future__ import annotations

import pytest
import torch
from known import draw, mixture
from test_likelihood import schedule
from torch.testing import assert_close

from skbellman.fields import GaussianMixtureField
from skbellman.schedule import NoiseSchedule, PartialSchedule, masked
from skbellman.solvers import annealed_dynamics

SKEWED = GaussianMixtureField(
    torch.tensor([0.3, 0.5, 0.2]).double(),
    torch.tensor([[-1.2], [0.3], [1.7]]).double(),
    torch.tensor([0.04, 0.04, 0.01]).double()[:, None, None],
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at_ceiling(field: GaussianMixtureField, levels: NoiseSchedule, n_rows: int) -> torch.Tensor:
    """Return rows of the density at the ceiling of the schedule."""
    clean = draw(field, n_rows, seed=3)
    return clean + levels(1.0) * torch.randn(clean.shape, generator=generator(4)).double()


def flow(field, start, levels, n_levels):
    return annealed_dynamics(field, start, levels, n_levels, generator())


def orders(errors: list[float]) -> torch.Tensor:
    """Return the powers by which errors fall where the number of levels doubles."""
    return -torch.tensor(errors).log2().diff()


def gaussian(seed: int = 0) -> GaussianMixtureField:
    return mixture(3, n_components=1, seed=seed)


def exact_flow(field: GaussianMixtureField, x: torch.Tensor, levels: NoiseSchedule) -> torch.Tensor:
    """Return where the flow of a Gaussian ends: variances shrink along its eigenvectors."""
    variances, vectors = torch.linalg.eigh(field.covariances[0])
    low, high = levels(0.0)[0].square(), levels(1.0)[0].square()
    shrink = ((variances + low) / (variances + high)).sqrt()
    return field.means + ((x - field.means) @ vectors * shrink) @ vectors.T


def test_the_flow_of_a_gaussian_is_found_to_more_than_the_third_order():
    """From so far out that the first steps, of lower order, err by nothing.

    The terms of third order add up to nothing along the flow of a Gaussian.
    """
    field = gaussian()
    levels = NoiseSchedule(0.02 * torch.ones(3).double(), 5000 * torch.ones(3).double())
    start = at_ceiling(field, levels, 500)
    exact = exact_flow(field, start, levels)
    errors = [
        float((flow(field, start, levels, n) - exact).square().mean().sqrt())
        for n in (64, 128, 256, 512)
    ]
    assert bool((orders(errors) - 4).abs().max() < 0.3), errors


def test_the_flow_of_a_mixture_is_found_to_the_third_order():
    field, levels = mixture(2), schedule(2)
    start = at_ceiling(field, levels, 500)
    fine = flow(field, start, levels, 2000)
    errors = [
        float((flow(field, start, levels, n) - fine).square().mean().sqrt())
        for n in (16, 32, 64, 128)
    ]
    assert errors[0] < 0.01
    assert bool((orders(errors) - 3).abs().max() < 0.5), errors


@pytest.mark.parametrize("n_levels", [1, 2, 5])
def test_the_flow_to_one_point_is_exact(n_levels):
    point = torch.tensor([0.7, -1.2]).double()
    field = GaussianMixtureField.normal(point, torch.zeros(2, 2).double())
    levels = NoiseSchedule(torch.tensor([0.02, 0.1]).double(), torch.tensor([20.0, 5.0]).double())
    start = 20 * torch.randn(50, 2, generator=generator()).double()
    expected = point + levels(0.0) / levels(1.0) * (start - point)
    assert_close(flow(field, start, levels, n_levels), expected)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("n_levels", [1, 3])
def test_noise_about_one_point_is_exact(beta, n_levels):
    point, n_rows = torch.tensor([0.7, -1.2]).double(), 200_000
    field = GaussianMixtureField.normal(point, torch.zeros(2, 2).double())
    levels = NoiseSchedule(torch.tensor([0.02, 0.1]).double(), torch.tensor([0.2, 0.3]).double())
    start = point + levels(1.0) * torch.randn(n_rows, 2, generator=generator()).double()
    moved = annealed_dynamics(field, start, levels, n_levels, generator(1), beta)
    assert_close(moved.var(0), levels.floor.square(), atol=0, rtol=4 * (2 / n_rows) ** 0.5)
    # Steps to a point multiply what x is off by a constant, whatever their number.
    kept = (levels.floor / levels(1.0)) ** (1 + beta)
    slope = ((moved - point) * (start - point)).mean(0) / (start - point).square().mean(0)
    assert_close(
        slope, kept, atol=float(4 / n_rows**0.5 * (levels.floor / levels(1.0)).max()), rtol=0
    )


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_held_or_unseen_stays_bit_for_bit(beta, dtype):
    field, levels = mixture(3).to(dtype), schedule(3).to(dtype)
    start = torch.randn(40, 3, generator=generator(), dtype=dtype)
    held = torch.rand(40, 3, generator=generator(1)) < 0.4
    path, rows = masked(levels, torch.where(torch.eye(40, 3).bool(), torch.nan, start), held)
    moved = annealed_dynamics(field, rows, path, 6, generator(), beta)
    moving = path.diffusivity(0.5) > 0
    assert moved.dtype == dtype
    assert torch.equal(moved[~moving], rows[~moving])
    assert bool((moved[moving] != rows[moving]).all())


def test_each_row_moves_as_it_would_alone():
    field, levels = mixture(3), schedule(3)
    start = torch.randn(6, 3, generator=generator()).double()
    moving = torch.rand(6, 3, generator=generator(1)) < 0.6
    path = PartialSchedule(levels, moving, torch.ones_like(moving))
    together = flow(field, start, path, 8)
    alone = [flow(field, start[[k]], path.rows(torch.tensor([k])), 8) for k in range(6)]
    assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_noise_keeps_the_marginals(beta):
    n_rows, levels = 100_000, schedule(1)
    start = at_ceiling(SKEWED, levels, n_rows)
    moved = annealed_dynamics(SKEWED, start, levels, 128, generator(1), beta).squeeze(-1)
    part = torch.bucketize(moved, torch.tensor([-0.45, 1.15]).double())  # tails: under 2e-4
    for k, weight in enumerate(SKEWED.log_weights.exp().tolist()):
        mean, variance = float(SKEWED.means[k]), float(SKEWED.covariances[k]) + 0.02**2
        rows, error = moved[part == k], (1 / (weight * n_rows)) ** 0.5
        assert len(rows) / n_rows == pytest.approx(weight, abs=0.005)
        assert float(rows.mean()) == pytest.approx(mean, abs=4 * error * variance**0.5 + 0.005)
        assert float(rows.var()) == pytest.approx(variance, rel=4 * 2**0.5 * error + 0.01)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_rows_have_the_law_of_the_level_at_which_they_end(beta):
    field, levels = mixture(2), schedule(2)
    upper = levels.above(torch.tensor(0.7))
    start = at_ceiling(field, upper, 40_000)
    rows = annealed_dynamics(field, start, upper, 48, generator(1), beta)
    real = draw(field, 40_000)
    real = real + upper.floor * torch.randn(real.shape, generator=generator(2)).double()
    assert_close(rows.mean(0), real.mean(0), atol=0.03, rtol=0)
    assert_close(rows.T.cov(), real.T.cov(), atol=0.05, rtol=0)


@pytest.mark.parametrize(("start", "options", "message"), [
    (torch.zeros(3, 2).double(), {"n_levels": 0}, "n_levels must be at least 1"),
    (torch.zeros(3, 2).double(), {"beta": -1.0}, "beta at least 0"),
    (torch.zeros(3, 1).double(), {}, r"shape \(n, 2\)"),
    (torch.full((3, 2), torch.nan).double(), {}, "not finite"),
])  # fmt: skip
def test_bad_starts_and_numbers_are_refused(start, options, message):
    options = {"n_levels": 4} | options
    with pytest.raises(ValueError, match=message):
        annealed_dynamics(mixture(2), start, schedule(2), generator=generator(), **options)
