"""Scores of tables: their precision, and the approximate ones."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from known import draw, latent_classes, mixture, moments
from torch.testing import assert_close

from skbellman import BellmanDiffusionDensity
from skbellman.fields import ClosedFormField, ColumnShapes, DensityField, NeuralField
from skbellman.fields.networks import ResidualNetwork
from skbellman.likelihood import FlowIntegral
from skbellman.schedule import NoiseSchedule

QUICK = {"n_steps": 150, "width": 32, "random_state": 0}


@pytest.fixture(scope="module")
def frame():
    """A table with nearly collinear columns, whole numbers, zeros and a category."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    return pd.DataFrame(
        {
            "x": x,
            "twin": x + 0.003 * rng.normal(size=400),
            "n": rng.poisson(3.0, 400),
            "zeros": np.where(rng.random(400) < 0.4, 0.0, rng.gamma(2.0, size=400)),
            "c": np.where(x + rng.normal(size=400) > 0, "a", "b"),
        }
    )


@pytest.fixture(scope="module")
def fitted(frame):
    return BellmanDiffusionDensity(**QUICK).fit(frame)


@pytest.mark.slow
@pytest.mark.parametrize("question", [{}, {"columns": ["twin", "c"]}, {"given": ["x", "c"]}])
def test_single_precision_of_the_networks_costs_nothing(fitted, frame, question):
    some = frame[:60]
    found = fitted.score_samples(some, **question)
    double = copy.deepcopy(fitted)
    double.field_ = double.field_.double()
    for module in double.field_.modules():
        module.float = lambda module=module: module  # stay in double precision
    expected = double.score_samples(some, **question)
    assert np.abs(found - expected).max() < 1e-3
    assert np.abs(found - expected).max() > 0


@pytest.mark.parametrize("approximate", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_row_has_one_score_in_any_company(fitted, frame, approximate):
    together = fitted.score_samples(frame[:40], approximate=approximate)
    alone = [fitted.score_samples(frame[i : i + 1], approximate=approximate) for i in range(8)]
    np.testing.assert_allclose(np.concatenate(alone), together[:8], rtol=1e-5, atol=1e-5)
    backwards = fitted.score_samples(frame[:40][::-1], approximate=approximate)
    np.testing.assert_allclose(backwards[::-1], together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "question",
    [{}, {"columns": ["n", "c"]}, pytest.param({"given": ["x", "c"]}, marks=pytest.mark.slow)],
)
def test_approximate_scores_are_near_the_exact_ones(fitted, frame, question):
    exact = fitted.score_samples(frame[:200], **question)
    near = fitted.score_samples(frame[:200], approximate=True, **question)
    error = near - exact
    assert 0 < np.sqrt((error**2).mean()) < 0.35
    assert abs(error.mean()) < 0.15
    assert np.corrcoef(exact.argsort().argsort(), near.argsort().argsort())[0, 1] > 0.97


def test_an_approximate_integral_of_a_known_density():
    field = mixture(6)
    levels = NoiseSchedule(0.02 * torch.ones(6).double(), 20 * torch.ones(6).double())
    x = draw(field, 300)
    near = FlowIntegral(8, 2, multistep=True).log_density(field, x, levels, moments(field))
    error = near - field.log_scalar(x, levels(0.0))
    assert float(error.square().mean().sqrt()) < 0.5
    assert abs(float(error.mean())) < 0.15


def network_beside(reference: ClosedFormField, n_numbers: int) -> NeuralField:
    """Return a field with laws of its columns, and networks that add something."""
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(n_numbers, 3, generator=generator) for _ in range(3)]
    shapes = ColumnShapes(parts[0], parts[1], parts[2].exp())
    field = NeuralField(reference, width=12, depth=2, shapes=shapes)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return field.double()


@pytest.mark.parametrize(
    "field",
    [network_beside(mixture(6, n_components=1), 6), network_beside(latent_classes(), 1)],
    ids=["numbers", "categories"],
)
@pytest.mark.parametrize("unseen", [False, True])
def test_products_with_the_jacobian_are_those_of_differences(field, unseen):
    """The network has its own way in place of autograd's, and laws of columns their slopes."""
    n = field.n_columns
    sigma, x = torch.full((n,), 0.3).double(), torch.randn(5, n).double()
    if unseen:
        sigma[0] = torch.inf
    directions = torch.randn(4, 5, n).double()
    h0, r, products = field.gradient_products(x, sigma, directions)
    assert_close(h0 + r, field.log_gradient(x, sigma))
    assert_close(products, DensityField.gradient_products(field, x, sigma, directions)[2])
    step, along = 1e-5, torch.randn(5, n).double()
    ahead, behind = (field.gradient_parts(x + s * step * along, sigma)[1] for s in (1, -1))
    change = (ahead - behind) / (2 * step)
    assert_close((products * along).sum(-1), (directions * change).sum(-1), atol=1e-6, rtol=1e-5)


def test_a_network_answers_in_the_precision_of_what_it_is_given():
    network = ResidualNetwork(3, 2, width=8, depth=1, dropout=0.0)
    torch.nn.init.normal_(network[-1].weight)
    x = torch.randn(5, 3)
    assert network(x.double()).dtype == torch.float64
    assert_close(network(x.double()).float(), network(x), rtol=0, atol=0)
