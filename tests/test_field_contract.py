"""One contract of all fields: what they score and draw is what their parts and operators say."""

from __future__ import annotations

import pytest
import torch
from known import Exact, conditional, draw, latent_classes, mixture, moments
from torch.testing import assert_close

from skbellman.fields import (
    Affine,
    DiagonalGaussianField,
    GaussianMixtureField,
    Marginal,
    Mixture,
    NetworkField,
    NeuralField,
    Referred,
    Smoothed,
)
from skbellman.likelihood import FlowIntegral
from skbellman.sampling import Annealing, draw_given
from skbellman.schedule import NoiseSchedule

NAN = torch.nan
WEIGHTS = torch.tensor([0.3, 0.7]).double()
SCALE, SHIFT = torch.tensor([2.0, -0.5]).double(), torch.tensor([1.0, -3.0]).double()
NOISE = torch.tensor([0.3, 0.6]).double()


def path(n_columns: int = 2) -> NoiseSchedule:
    ones = torch.ones(n_columns).double()
    return NoiseSchedule(0.02 * ones, 20 * ones)


def learned(n_columns: int, seed: int = 0) -> Referred:
    """Return a mixture as if networks had learned it: known by its gradients alone."""
    truth = mixture(n_columns, seed=seed)
    return Referred(truth, moments(truth))


def own_network(truth: GaussianMixtureField) -> NetworkField:
    """Return uncorrelated columns as a network of one's own that corrects independent ones."""
    real = moments(truth)
    reference = DiagonalGaussianField(real.means[0], real.covariances[0].diagonal())
    return NetworkField(reference, lambda n_columns: Exact(truth, reference))


def affine(field: GaussianMixtureField) -> GaussianMixtureField:
    return GaussianMixtureField(
        field.log_weights.exp(),
        SCALE * field.means + SHIFT,
        SCALE[:, None] * field.covariances * SCALE,
    )


def smoothed(field: GaussianMixtureField) -> GaussianMixtureField:
    noise = torch.diag(NOISE.square())
    return GaussianMixtureField(field.log_weights.exp(), field.means, field.covariances + noise)


def some(field: GaussianMixtureField, columns: list[int]) -> GaussianMixtureField:
    covariances = field.covariances[:, columns][:, :, columns]
    return GaussianMixtureField(field.log_weights.exp(), field.means[:, columns], covariances)


def mixed(*fields: GaussianMixtureField) -> GaussianMixtureField:
    weights = [w * f.log_weights.exp() for w, f in zip(WEIGHTS, fields, strict=True)]
    parts = torch.cat([f.means for f in fields]), torch.cat([f.covariances for f in fields])
    return GaussianMixtureField(torch.cat(weights), *parts)


ONE, TWO, THREE = mixture(2, seed=1), mixture(2, seed=2), mixture(3)
CORNERS = GaussianMixtureField(  # uncorrelated, and not independent
    torch.tensor([1.0, 1.0, 2.0]).double(),
    torch.tensor([[-1.0, 1.0], [-1.0, -1.0], [1.0, 0.0]]).double(),
    torch.diag_embed(torch.tensor([[0.1, 0.2], [0.1, 0.2], [0.3, 0.1]]).double()),
)
# Each field, and the mixture of Gaussians that it is.
FIELDS = {
    "closed form": (lambda: ONE, ONE),
    "learned": (lambda: learned(2, 1), ONE),
    "network of one's own": (lambda: own_network(CORNERS), CORNERS),
    "mixture": (lambda: Mixture([learned(2, 1), TWO], WEIGHTS), mixed(ONE, TWO)),
    "affine": (lambda: Affine(learned(2, 1), SCALE, SHIFT), affine(ONE)),
    "affine mixture": (
        lambda: Affine(Mixture([learned(2, 1), TWO], WEIGHTS), SCALE, SHIFT),
        affine(mixed(ONE, TWO)),
    ),
    "smoothed": (lambda: Smoothed(learned(2, 1), NOISE), smoothed(ONE)),
    "smoothed closed form": (lambda: Smoothed(ONE, NOISE), smoothed(ONE)),
    "marginal": (lambda: Marginal(learned(3), [2, 0]), some(THREE, [2, 0])),
    "marginal of a mixture": (
        lambda: Marginal(Mixture([learned(3), THREE], WEIGHTS), [1, 2]),
        some(THREE, [1, 2]),
    ),
    "mixture of operators": (
        lambda: Mixture([Affine(learned(2, 1), SCALE, SHIFT), Marginal(THREE, [2, 0])], WEIGHTS),
        mixed(affine(ONE), some(THREE, [2, 0])),
    ),
}  # fmt: skip


def at_floor(field: GaussianMixtureField) -> GaussianMixtureField:
    """Return the field at the floor of the path, where fields are scored."""
    floor = 0.02**2 * torch.eye(field.n_columns).double()
    return GaussianMixtureField(field.log_weights.exp(), field.means, field.covariances + floor)


@pytest.mark.parametrize("name", FIELDS)
def test_scores_are_those_of_the_density(name):
    make, truth = FIELDS[name]
    x = draw(truth, 40)
    found = FlowIntegral(32, tolerance=0.01).log_density(make(), x, path())
    assert_close(found, truth.log_scalar(x, 0.02), atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", FIELDS)
def test_scores_of_some_columns_and_given_some(name):
    make, truth = FIELDS[name]
    x = draw(truth, 40)
    integral = FlowIntegral(32, tolerance=0.01)
    held = torch.tensor([False, True])
    marginal = some(at_floor(truth), [1]).log_scalar(x[:, 1:], 0.0)
    seen = torch.where(held, x, NAN)
    assert_close(integral.log_density(make(), seen, path()), marginal, atol=2e-3, rtol=0)
    found = integral.log_density(make(), x, path(), held=held)
    assert_close(found, truth.log_scalar(x, 0.02) - marginal, atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", FIELDS)
def test_draws_are_those_of_the_density(name):
    make, truth = FIELDS[name]
    n_rows, generator = 8000, torch.Generator().manual_seed(0)
    nothing = torch.full((n_rows, 2), NAN).double()
    drawn = draw_given(make(), nothing, path(), Annealing(40), generator)
    agree(drawn, truth)


@pytest.mark.parametrize("name", FIELDS)
def test_draws_given_a_column_are_those_of_the_conditional(name):
    make, truth = FIELDS[name]
    given = torch.tensor([NAN, float(truth.means[0, 1])]).double()
    generator = torch.Generator().manual_seed(0)
    drawn = draw_given(make(), given.expand(8000, -1), path(), Annealing(40), generator)
    assert bool((drawn[:, 1] == given[1]).all())
    agree(drawn[:, :1], conditional(at_floor(truth), given))


def agree(drawn: torch.Tensor, truth: GaussianMixtureField) -> None:
    """Compare means and covariances within five standard errors, and 2% for the levels."""
    real = moments(truth)
    deviation = real.covariances[0].diagonal().sqrt()
    gap = (drawn.mean(0) - real.means[0]) / deviation
    assert float(gap.abs().max()) < 5 / len(drawn) ** 0.5 + 0.02
    spread = drawn.T.cov().view(real.covariances[0].shape) - real.covariances[0]
    assert float((spread / deviation[:, None] / deviation).abs().max()) < 0.09


def test_a_network_with_categories_is_a_part_like_any_other():
    torch.manual_seed(0)
    closed = latent_classes()
    neural = NeuralField(closed, width=8, depth=1).double().eval()  # untrained: the reference
    x = closed.draw(30, torch.full((4,), 0.02).double(), torch.Generator().manual_seed(0))
    both = Mixture([neural, closed], WEIGHTS)
    found = FlowIntegral(8).log_density(both, x, path(4))
    assert_close(found, closed.log_scalar(x, 0.02), atol=1e-6, rtol=0)
