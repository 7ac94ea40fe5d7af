from __future__ import annotations

import pytest
import torch
from known import draw, grid, mixture
from torch.testing import assert_close

from skbellman.fields import Affine, GaussianMixtureField, Marginal, Mixture, NeuralField, Smoothed

INF = torch.inf


def neural(n_columns: int = 2) -> NeuralField:
    torch.manual_seed(0)
    reference = GaussianMixtureField.normal(torch.zeros(n_columns), torch.eye(n_columns))
    field = NeuralField(reference, width=16, depth=2).double().eval()
    for parameter in field.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return field


FIELDS = {
    "gaussian mixture": mixture(),
    "mixture": Mixture([mixture(seed=1), mixture(seed=2)], torch.tensor([0.3, 0.7]).double()),
    "affine": Affine(mixture(), torch.tensor([2.0, -0.5]).double(), torch.ones(2).double()),
    "smoothed": Smoothed(mixture(), torch.tensor([0.3, 0.8]).double()),
    "marginal": Marginal(mixture(3), [2, 0]),
}


@pytest.mark.parametrize("sigma", [0.0, 0.7, torch.tensor([0.2, 1.5]).double()])
@pytest.mark.parametrize("name", FIELDS)
def test_gradient_is_the_autograd_of_the_scalar_field(name, sigma):
    field = FIELDS[name]
    x = draw(mixture(), 20).requires_grad_()
    (gradient,) = torch.autograd.grad(field.scalar(x, sigma).sum(), x)
    assert_close(field.gradient(x, sigma), gradient)
    (log_gradient,) = torch.autograd.grad(field.log_scalar(x, sigma).sum(), x)
    assert_close(field.log_gradient(x, sigma), log_gradient)


@pytest.mark.parametrize("sigma", [0.0, 0.7])
@pytest.mark.parametrize("name", FIELDS)
def test_scalar_field_integrates_to_one(name, sigma):
    points, cell = grid(2, width=12.0)
    assert float(FIELDS[name].scalar(points, sigma).sum() * cell) == pytest.approx(1, abs=1e-6)


def test_noise_is_convolution():
    field, sigma = mixture(1), 0.6
    points, cell = grid(1, n_points=2001)
    kernel = torch.distributions.Normal(0.0, sigma).log_prob(points - points.T).exp()
    assert_close(
        kernel @ field.scalar(points, 0.0) * cell, field.scalar(points, sigma), atol=1e-6, rtol=0
    )


def test_unseen_columns_are_integrated_out():
    field = mixture(2)
    axis, cell = grid(1, width=12.0)
    point = torch.tensor([[0.3]]).double()
    both = torch.cat([point.expand(len(axis), 1), axis], 1)
    expected = field.scalar(both, 0.0).sum() * cell
    levels = torch.tensor([0.0, INF]).double()
    x = torch.tensor([[0.3, torch.nan]]).double()
    assert_close(field.scalar(x, levels)[0], expected)
    assert_close(Marginal(field, [0]).scalar(point, 0.0)[0], expected)
    assert field.log_gradient(x, levels)[0, 1] == 0


@pytest.mark.parametrize("name", [*FIELDS, "neural"])
def test_levels_of_each_row_agree_with_shared_levels(name):
    field = {**FIELDS, "neural": neural()}[name]
    x = draw(mixture(), 4)
    levels = torch.tensor([[0.1, 2.0], [INF, 0.5], [0.3, INF], [0.4, 0.4]]).double()
    for method in (field.log_scalar, field.log_gradient):
        rows = [method(x[i : i + 1], levels[i]) for i in range(len(x))]
        assert_close(method(x, levels), torch.cat(rows))
        grouped = method(x.unsqueeze(1), levels.unsqueeze(1)).squeeze(1)
        assert_close(grouped, torch.cat(rows))


@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_mixture_is_linear_to_round_off(sigma):
    parts = [mixture(seed=1), mixture(seed=2)]
    weights = torch.tensor([1.0, 3.0]).double()
    x = draw(parts[0], 50)
    both = Mixture(parts, weights)
    for name in ("scalar", "gradient"):
        expected = sum(
            w * getattr(f, name)(x, sigma) for w, f in zip(weights / 4, parts, strict=True)
        )
        assert_close(getattr(both, name)(x, sigma), expected, rtol=1e-14, atol=1e-14)
    merged = GaussianMixtureField(
        torch.cat([w * f.log_weights.exp() for w, f in zip(weights, parts, strict=True)]),
        torch.cat([f.means for f in parts]),
        torch.cat([f.covariances for f in parts]),
    )
    assert_close(both.log_scalar(x, sigma), merged.log_scalar(x, sigma))


@pytest.mark.parametrize("wrap", [
    lambda field: Affine(field, torch.tensor([2.0, -3.0]).double(), torch.ones(2).double()),
    lambda field: Smoothed(field, 0.4),
    lambda field: Marginal(field, [1]),
])  # fmt: skip
def test_operators_are_linear_in_the_density(wrap):
    parts, weights = [mixture(seed=1), mixture(seed=2)], torch.tensor([0.25, 0.75]).double()
    whole = wrap(Mixture(parts, weights))
    x = torch.randn(9, whole.n_columns, dtype=torch.float64)
    for name in ("scalar", "gradient"):
        separate = sum(
            w * getattr(wrap(f), name)(x, 0.2) for w, f in zip(weights, parts, strict=True)
        )
        assert_close(getattr(whole, name)(x, 0.2), separate, rtol=1e-13, atol=1e-15)


def test_affine_and_smoothed_agree_with_the_closed_form():
    field, x = mixture(), draw(mixture(), 9)
    scale, shift = torch.tensor([2.0, -0.5]).double(), torch.tensor([1.0, 3.0]).double()
    pushed = GaussianMixtureField(
        field.log_weights.exp(),
        field.means * scale + shift,
        field.covariances * scale * scale[:, None],
    )
    levels = torch.tensor([0.3, INF]).double()
    for sigma in (0.0, 0.7, levels):
        assert_close(Affine(field, scale, shift).log_scalar(x, sigma), pushed.log_scalar(x, sigma))
    noise = torch.tensor([0.3, 0.4]).double()
    widened = GaussianMixtureField(
        field.log_weights.exp(), field.means, field.covariances + torch.diag(noise**2)
    )
    assert_close(Smoothed(field, noise).log_gradient(x, 0.5), widened.log_gradient(x, 0.5))


def test_an_untrained_neural_field_is_its_reference():
    reference = GaussianMixtureField.normal(torch.ones(3), 2 * torch.eye(3))
    field = NeuralField(reference, width=8, depth=1)
    x = torch.randn(5, 3)
    assert_close(field.log_scalar(x, 0.3), reference.log_scalar(x, 0.3))
    assert_close(field.log_gradient(x, 0.3), reference.log_gradient(x, 0.3))


def test_a_neural_field_ignores_what_is_unseen():
    field = neural()
    levels = torch.tensor([0.5, INF]).double()
    x = torch.tensor([[0.1, 0.0], [0.1, 1e9]]).double()
    assert_close(field.log_scalar(x, levels)[0], field.log_scalar(x, levels)[1])
    h = field.log_gradient(x, levels)
    assert_close(h[0], h[1])
    assert (h[:, 1] == 0).all()


@pytest.mark.parametrize("make", [
    lambda: GaussianMixtureField(torch.zeros(1), torch.zeros(1, 2), torch.eye(2)[None]),
    lambda: GaussianMixtureField(torch.ones(1), torch.zeros(1, 2), torch.eye(3)[None]),
    lambda: Mixture([mixture(1), mixture(2)], torch.ones(2)),
    lambda: Affine(mixture(), torch.tensor([1.0, 0.0]), torch.zeros(2)),
    lambda: Marginal(mixture(2), [0, 2]),
])  # fmt: skip
def test_bad_arguments_are_refused(make):
    with pytest.raises(ValueError, match=r"weights|covariances|scales|columns"):
        make()
