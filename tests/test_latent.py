"""Numbers and categories together, against every combination written out."""

from __future__ import annotations

import pytest
import torch
from known import expanded, latent_classes
from torch.testing import assert_close

from skbellman.fields import GaussianMixtureField, LatentClassField, NeuralField

INF = torch.inf
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
LEVELS = {
    "one for all": 0.5,
    "one per column": torch.tensor([0.3, 0.5, 0.8, 0.2]).double(),
    "a category unseen": torch.tensor([0.3, INF, INF, 0.2]).double(),
    "the number unseen": torch.tensor([INF, 0.4, 0.4, 0.4]).double(),
    "of each row": torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).double() + 0.2,
}


def neural() -> NeuralField:
    torch.manual_seed(0)  # of the first weights, and of what a test draws after them
    field = NeuralField(latent_classes(), width=16, depth=2).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in field.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator).double()
    return field


@pytest.mark.parametrize("levels", LEVELS.values(), ids=list(LEVELS))
def test_fields_are_those_of_every_combination(levels):
    field = latent_classes()
    assert_close(field.log_scalar(X, levels), expanded(field).log_scalar(X, levels))
    assert_close(field.log_gradient(X, levels), expanded(field).log_gradient(X, levels))


def test_posteriors_are_those_of_bayes():
    field, sigma = latent_classes(), 0.6
    each = expanded(field).components(X, sigma)[0].exp().view(2, 3, 2, -1)
    found = field.gradient_and_posteriors(X, torch.full((4,), sigma).double())[1]
    for b, kept in enumerate((1, 2)):
        joint = each.sum([k for k in range(3) if k != kept])
        expected = (joint / joint.sum(0)).T
        assert_close(found[b].exp(), expected)


def test_draws_have_the_shares_and_the_noise():
    field, levels = latent_classes(), torch.tensor([0.1, 0.2, 0.2, 0.05]).double()
    x = field.draw(50_000, levels, torch.Generator().manual_seed(0))
    truth = expanded(field)
    weights = truth.log_weights.exp()
    assert_close(x.mean(0), weights @ truth.means, atol=0.02, rtol=0)
    offset = truth.means - weights @ truth.means
    spread = truth.covariances + offset.unsqueeze(-1) * offset.unsqueeze(-2)
    covariance = (weights[:, None, None] * spread).sum(0) + torch.diag(levels**2)
    assert_close(x.T.cov(), covariance, atol=0.02, rtol=0)
    near = field.corners[1].points[field.corners[1].nearest(x[:, 3:])]
    assert float((x[:, 3:] - near).std()) == pytest.approx(0.05, rel=0.02)


def test_an_untrained_neural_field_is_its_reference():
    reference = latent_classes()
    field = NeuralField(reference, width=8, depth=1).double()
    assert_close(field.log_scalar(X, 0.3), reference.log_scalar(X, 0.3))
    assert_close(field.log_gradient(X, 0.3), reference.log_gradient(X, 0.3))


def test_points_are_exact_peaks_of_a_neural_field_at_low_levels():
    field, sigma = neural(), 0.1
    points = torch.cat([corners.points[:1] for corners in field.reference.corners], -1)
    x = torch.cat([torch.zeros(5, 1), points + 0.1 * torch.randn(5, 3)], -1).double()
    assert_close(field.log_gradient(x, sigma)[:, 1:], (points - x[:, 1:]) / sigma**2)
    numbers = field.log_gradient(x, sigma)[:, 0]
    assert_close(numbers, numbers[:1].expand(5))
    trained, reference = field.log_gradient(x, 1.5), field.reference.log_gradient(x, 1.5)
    assert ((trained - reference).abs()[:, 1:] > 1e-3).all()


def test_a_neural_field_ignores_an_unseen_category():
    field, levels = neural(), LEVELS["a category unseen"]
    moved = X + torch.tensor([0.0, 5.0, -3.0, 0.0]).double()
    assert_close(field.log_gradient(X, levels), field.log_gradient(moved, levels))
    assert_close(field.log_scalar(X, levels), field.log_scalar(moved, levels))
    assert (field.log_gradient(X, levels)[:, 1:3] == 0).all()


def test_categories_alone_make_a_field():
    nothing = GaussianMixtureField.normal(torch.zeros(0), torch.zeros(0, 0))
    field = LatentClassField(nothing, [torch.tensor([[0.0], [1.0]])], [torch.tensor([[0.2, 0.8]])])
    x, levels = torch.tensor([[0.0], [1.0]]), torch.tensor([0.05])
    peak = 1 / (0.05 * (2 * torch.pi) ** 0.5)
    assert_close(field.scalar(x, levels), peak * torch.tensor([0.2, 0.8]))
    assert field.draw(3, levels, torch.Generator()).shape == (3, 1)


@pytest.mark.parametrize("shares", [torch.tensor([[0.0, 1.0]]), torch.ones(2, 2)])
def test_bad_shares_are_refused(shares):
    number = GaussianMixtureField.normal(torch.zeros(1), torch.eye(1))
    with pytest.raises(ValueError, match="probabilities must be positive"):
        LatentClassField(number, [torch.zeros(2, 1)], [shares])
