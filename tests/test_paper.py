"""The paper's objectives and dynamics against closed forms of Gaussians."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from known import draw, mixture
from torch.testing import assert_close

from skbellman import PaperDensity
from skbellman.dynamics import bellman_dynamics
from skbellman.fields import DirectField, GaussianMixtureField
from skbellman.matching import (
    kernel_density,
    likeliest_bandwidth,
    pairwise_gradient_loss,
    pairwise_identity_loss,
    slice_directions,
    sliced_gradient_loss,
    sliced_identity_loss,
)

EPS = 0.1


def gaussian(n_columns: int, variance: float) -> GaussianMixtureField:
    return GaussianMixtureField.normal(
        torch.zeros(n_columns).double(), variance * torch.eye(n_columns).double()
    )


def rows(n_columns: int, n_rows: int = 1500, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = draw(gaussian(n_columns, 1.0), 2 * n_rows, seed)
    x = (x - x.mean(0)) / x.std(0)
    return x[:n_rows], x[n_rows:]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def product(n_columns: int, *variances: float) -> tuple[float, float]:
    """Return the integral of centred isotropic Gaussians' product, and its variance."""
    precision = sum(1 / v for v in variances)
    log = (
        -0.5
        * n_columns
        * (
            (len(variances) - 1) * math.log(2 * math.pi)
            + sum(map(math.log, variances))
            + math.log(precision)
        )
    )
    return math.exp(log), 1 / precision


def exact_losses(n_columns: int, q: float, sliced: bool) -> tuple[float, float]:
    """Return L_grad and L_id of N(0, q I) as the fields, on rows of N(0, I)."""
    square, square_variance = product(n_columns, 1.0, q, q)
    gradient_square = square * n_columns * square_variance / q**2
    kernel_columns = 1 if sliced else n_columns
    mass, variance = product(kernel_columns, 1.0, q, 1.0 + EPS)
    rest = product(n_columns - 1, 1.0, q)[0] if sliced else 1.0
    slope = kernel_columns * (variance / q**2 - 1 / q)
    gradient = gradient_square / (n_columns if sliced else 1) + mass * rest * slope
    return gradient, square - 2 * mass * rest


def losses(n_columns: int, q: float, sliced: bool, seed: int = 0) -> tuple[float, float]:
    field, (x, others) = gaussian(n_columns, q), rows(n_columns, seed=seed)
    if not sliced:
        both = (
            loss(field, x, others, EPS) for loss in (pairwise_gradient_loss, pairwise_identity_loss)
        )
    else:
        v = slice_directions("sphere", 8, n_columns, generator(seed)).double()
        both = (
            loss(field, x, others, v, EPS) for loss in (sliced_gradient_loss, sliced_identity_loss)
        )
    gradient, identity = map(float, both)
    return gradient, identity


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize(
    ("n_columns", "q"),
    [
        (1, 0.6),
        pytest.param(3, 1.5, marks=pytest.mark.slow),
        pytest.param(2, 0.6, marks=pytest.mark.slow),
        pytest.param(2, 1.5, marks=pytest.mark.slow),
    ],
)
def test_losses_are_those_of_the_closed_form(n_columns, q, sliced):
    found = torch.tensor([losses(n_columns, q, sliced, seed) for seed in range(4)])
    expected = torch.tensor(exact_losses(n_columns, q, sliced))
    square, _ = product(n_columns, 1.0, q, q)
    assert_close(found.mean(0), expected, rtol=0.0, atol=0.06 * max(square, *expected.abs()))


def best_variance(n_columns: int, sliced: bool, which: int) -> float:
    candidates = [0.5, 0.7, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6]
    return min(candidates, key=lambda q: losses(n_columns, q, sliced)[which])


@pytest.mark.parametrize("n_columns", [1, 2])
def test_the_pairwise_minimum_is_the_smoothed_truth(n_columns):
    assert best_variance(n_columns, False, which=1) == pytest.approx(1 + EPS, abs=0.16)
    assert best_variance(n_columns, False, which=0) == pytest.approx(1 + EPS / 2, abs=0.16)


@pytest.mark.slow
def test_the_sliced_minimum_is_elsewhere_in_two_columns():
    """The mean of 1-D marginals is higher than the density: no variance of one fits."""
    assert best_variance(2, True, which=1) == 0.5


def test_sliced_and_pairwise_agree_in_one_column():
    field, (x, others) = mixture(1), rows(1, 500)
    v = torch.tensor([[1.0], [-1.0]]).double()
    assert_close(
        sliced_gradient_loss(field, x, others, v, EPS),
        pairwise_gradient_loss(field, x, others, EPS),
    )
    assert_close(
        sliced_identity_loss(field, x, others, v, EPS),
        pairwise_identity_loss(field, x, others, EPS),
    )


def test_the_minimiser_of_identity_matching_is_the_kernel_density():
    x, others = rows(2, 200)
    target = kernel_density(x, others, EPS)
    field = _Values(target)
    best = pairwise_identity_loss(field, x, others, EPS)
    for shift in (-0.01, 0.01):
        assert pairwise_identity_loss(_Values(target + shift), x, others, EPS) > best


class _Values(DirectField):
    """A field whose values of s at the rows are given."""

    def __init__(self, values):
        super().__init__(2, 1.0, width=1, depth=0)
        self.values = values

    def scalar(self, x, sigma):
        return self.values


@pytest.mark.parametrize("kind", ["sphere", "gaussian", "axes"])
def test_slices_point_everywhere_alike(kind):
    v = slice_directions(kind, 20_000, 3, generator())
    scale = 1.0 if kind == "gaussian" else 1 / 3
    assert_close(v.T @ v / len(v), scale * torch.eye(3), atol=0.03, rtol=0)
    if kind != "gaussian":
        assert_close(v.norm(dim=-1), torch.ones(len(v)))


def test_the_likeliest_bandwidth_falls_with_rows_and_follows_the_modes():
    few, many = (likeliest_bandwidth(rows(2, n)[0]) for n in (50, 2000))
    assert many < few < 1
    modes = 0.1 * rows(1, 1000)[0] + torch.randint(0, 2, (1000, 1), generator=generator())
    assert likeliest_bandwidth(modes) < 0.02


@pytest.mark.parametrize("dt", [None, 0.1])
def test_the_dynamics_keep_the_law_and_find_it(dt):
    field = mixture(1)
    truth = draw(field, 2000)
    away = 2 * torch.rand(2000, 1, generator=generator()).double() - 1 + truth.mean()
    for start in (truth, away):
        path = bellman_dynamics(field, start, 400, generator(), dt=dt, n_kept=4)
        assert path.kept.shape == (4, 2000, 1)
        assert bool((path.times.diff() > 0).all())
        distance = (path.rows.sort(0).values - draw(field, 2000, seed=5).sort(0).values).abs()
        assert float(distance.mean()) < 0.1
    assert path.n_negative == 0


def test_negative_densities_are_counted_and_do_not_diffuse():
    field = _Negative()
    path = bellman_dynamics(field, torch.zeros(3, 2), 10, generator(), dt=0.1)
    assert path.n_negative == 20
    assert_close(path.rows[1:], torch.ones(2, 2))
    assert not torch.equal(path.rows[0], torch.ones(2))


class _Negative(DirectField):
    def __init__(self):
        super().__init__(2, 1.0, width=1, depth=0)

    def scalar(self, x, sigma):
        return torch.tensor([1.0, -1.0, -1.0])

    def gradient(self, x, sigma):
        return torch.ones_like(x)


@pytest.mark.parametrize(("start", "dt", "message"), [
    (torch.zeros(3, 1).double(), None, r"shape \(n, 2\)"),
    (torch.full((3, 2), torch.nan).double(), None, "not finite"),
    (torch.zeros(3, 2).double(), -1.0, "dt must be positive"),
    (draw(mixture(2), 50), 1e4, "dt=10000 is too large"),
])  # fmt: skip
def test_bad_starts_and_steps_are_refused(start, dt, message):
    with pytest.raises(ValueError, match=message):
        bellman_dynamics(mixture(2), start, 5, generator(), dt=dt)


@pytest.mark.parametrize(("options", "message"), [
    ({"n_steps": 0}, "n_steps must be at least 1"),
    ({"beta": 0.0}, "beta must be positive"),
    ({"n_kept": 6}, "n_kept must be from 1 to 5"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(options, message):
    options = {"n_steps": 5} | options
    with pytest.raises(ValueError, match=message):
        bellman_dynamics(mixture(2), torch.zeros(3, 2).double(), generator=generator(), **options)


def test_a_start_where_the_density_is_flat_needs_a_step():
    far = torch.full((3, 2), 1e4).double()
    with pytest.raises(ValueError, match="no length is known"):
        bellman_dynamics(mixture(2), far, 5, generator())
    path = bellman_dynamics(_Negative(), torch.zeros(3, 2), 1, generator(), dt=0.1)
    assert float(path.times) == pytest.approx(0.1)


def test_a_direct_field_has_one_level():
    field = DirectField(2, 1.0, width=4, depth=1)
    assert field.scalar(torch.zeros(3, 2), 0.0).shape == (3,)
    with pytest.raises(ValueError, match="one level"):
        field.gradient(torch.zeros(3, 2), 0.5)


PAPER = {
    "n_steps": 200,
    "width": 48,
    "batch_size": 256,
    "n_dynamics_steps": 500,
    "n_slices": 2,
    "random_state": 0,
}


@pytest.mark.parametrize(
    ("objective", "n_columns"),
    [
        ("pairwise", 1),
        pytest.param("sliced", 1, marks=pytest.mark.slow),
        pytest.param("pairwise", 2, marks=pytest.mark.slow),
    ],
)
def test_the_estimator_finds_a_mixture_by_the_papers_objectives(objective, n_columns):
    truth = mixture(n_columns)
    density = PaperDensity(objective=objective, **PAPER).fit(draw(truth, 1000).numpy())
    test = draw(truth, 500, seed=1)
    error = density.score_samples(test.numpy()) - truth.log_scalar(test, 0.0).numpy()
    assert np.median(np.abs(error)) < 0.25 * n_columns
    drawn = torch.as_tensor(density.sample(1000, random_state=0))
    assert_close(drawn.mean(0), draw(truth, 5000).mean(0), atol=0.25, rtol=0)


def test_the_papers_objectives_refuse_categories_and_warn_of_columns():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 7)), columns=list("abcdefg"))
    with pytest.raises(ValueError, match="columns \\['kind'\\] hold categories"):
        PaperDensity(objective="pairwise").fit(frame.assign(kind="x" + frame.index.astype(str)))
    quick = PaperDensity(objective="pairwise", n_steps=2)
    with pytest.warns(UserWarning, match="unreliable in 7 columns"):
        quick.fit(frame)
    with pytest.raises(ValueError, match="bandwidth"):
        quick.set_params(bandwidth=0.0).fit(frame)


@pytest.mark.parametrize(("shape", "bandwidth"), [((2, 1), "auto"), ((40, 2), 1e-9)])
def test_rows_that_no_kernel_joins_are_refused(shape, bandwidth):
    x = np.random.default_rng(0).normal(size=shape)
    density = PaperDensity(objective="pairwise", bandwidth=bandwidth, n_steps=2, dequantize=False)
    with pytest.raises(ValueError, match="no density to match: with bandwidth="):
        density.fit(x)
    assert not hasattr(density, "field_")


def test_the_gradient_is_that_of_the_fields_at_their_level():
    rows = np.random.default_rng(0).normal(2.0, 3.0, (200, 2))
    density = PaperDensity(n_steps=30, n_dynamics_steps=5, random_state=0).fit(rows)
    values, layout = list(rows[:20].T), density.encoder_.layout_
    x = torch.tensor(next(layout.encode(values, 1))[0])
    with torch.no_grad():
        h = density.field_.double().log_gradient(x, 0.0).numpy()
    slope, of_log = layout.slopes(values)
    np.testing.assert_allclose(density.gradient(rows[:20], noise=0), h * slope + of_log, rtol=1e-4)
    with pytest.raises(ValueError, match="set noise=0"):
        density.gradient(rows)
