"""What categories say about one another, against Bayes' rule and in draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from known import latent_classes
from torch.testing import assert_close

from skbellman import BellmanDiffusionDensity
from skbellman.categories import pairwise_evidence
from skbellman.fields import GaussianMixtureField, LatentClassField, NeuralField, PairwiseEvidence

INF = torch.inf
NOTHING = GaussianMixtureField.normal(torch.zeros(0).double(), torch.zeros(0, 0).double())
POINTS = [corners.points for corners in latent_classes().corners]
PAIRS = torch.tensor([[0.30, 0.02], [0.05, 0.20], [0.03, 0.40]]).double()


def two_dependent_categories() -> LatentClassField:
    """Return a class to each of the six pairs of levels, which holds it (nearly) alone."""
    alone = [torch.eye(k).double() + 1e-14 for k in PAIRS.shape]
    shares = [alone[0].repeat_interleave(2, 0), alone[1].repeat(3, 1)]
    nothing = torch.zeros(6, 0).double(), torch.zeros(6, 0, 0).double()
    return LatentClassField(GaussianMixtureField(PAIRS.flatten(), *nothing), POINTS, shares)


def told(weight: float) -> NeuralField:
    """Return the field of independent categories whose evidence on each other has a weight."""
    overall = [PAIRS.sum(1), PAIRS.sum(0)]
    reference = LatentClassField(NOTHING, POINTS, [shares[None] for shares in overall])
    ratio = PAIRS / (overall[0][:, None] * overall[1])
    evidence = PairwiseEvidence([{1: ratio.T}, {0: ratio}], PAIRS.shape)
    field = NeuralField(reference, width=4, depth=1, evidence=evidence).double()
    field.gradient_network[-1].bias.data[-2:] = weight
    return field


@pytest.mark.parametrize(
    "levels", [0.6, torch.tensor([0.3, 0.3, 0.9]), torch.tensor([INF, INF, 0.5])]
)
def test_two_categories_tell_each_other_all_there_is(levels):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).double()
    truth = two_dependent_categories().log_gradient(x, levels)
    assert_close(told(1.0).log_gradient(x, levels), truth, atol=1e-8, rtol=1e-8)
    if torch.as_tensor(levels).isfinite().all():
        assert (told(0.0).log_gradient(x, levels) - truth).abs().max() > 0.1


def rows(levels: np.ndarray) -> torch.Tensor:
    """Return coordinates of levels, (n, 2), NaN where a level is -1."""
    parts = [
        points[codes].where(codes[:, None] >= 0, torch.nan)
        for points, codes in zip(POINTS, torch.as_tensor(levels).T, strict=True)
    ]
    return torch.cat([torch.zeros(len(levels), 1).double(), *parts], 1)  # a number comes first


def test_pairs_are_counted_where_both_are_seen():
    levels = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1], [-1, 0], [2, -1]], 40, axis=0)
    counted = levels[(levels >= 0).all(1)]
    ratio = pairwise_evidence(rows(levels), POINTS).ratio_0_1
    for (j, k), value in np.ndenumerate(ratio.numpy()):
        given = counted[counted[:, 0] == j, 1] == k
        assert value == pytest.approx(given.mean() / (counted[:, 1] == k).mean(), abs=0.05)
    overall = np.bincount(counted[:, 0]) / len(counted)
    assert_close(torch.as_tensor(overall) @ ratio, torch.ones(2).double(), atol=0.01, rtol=0)


def test_categories_that_are_independent_tell_nothing():
    rng = np.random.default_rng(0)
    chance = rng.integers([3, 2], size=(2000, 2))
    assert pairwise_evidence(rows(chance), POINTS).sources == [[], []]
    chance[:300, 1] = chance[:300, 0] % 2
    assert pairwise_evidence(rows(chance), POINTS).sources == [[1], [0]]


@pytest.mark.slow
def test_a_category_that_follows_from_another_does_so_in_draws():
    rng = np.random.default_rng(0)
    place = rng.choice(12, 600, p=rng.dirichlet(np.full(12, 2.0)))
    frame = pd.DataFrame({"place": place.astype(str), "code": (7 * place % 12).astype(str)})
    frame["number"] = rng.normal(size=600) + place % 3
    density = BellmanDiffusionDensity(n_steps=200, random_state=0).fit(frame)
    code = frame.groupby("place").code.first()
    drawn = density.sample(1000, random_state=0)
    assert (drawn.code == drawn.place.map(code)).mean() > 0.95
    given = density.sample(given=drawn[["place"]][:300], random_state=0)
    assert (given.code == given.place.map(code)).mean() > 0.92
