"""What single columns say beyond a Gaussian, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from skbellman.batches import FieldSettings, Rows
from skbellman.fields import ColumnShapes, GaussianMixtureField, Marginal, NeuralField
from skbellman.fitting import initial_field, weigh_shapes
from skbellman.mixtures import best_mixture, column_mixtures
from skbellman.schedule import NoiseSchedule

INF = torch.inf
WEIGHTS = torch.tensor([[0.3, 0.7], [0.6, 0.4]]).double()
MEANS = torch.tensor([[-1.0, 1.2], [0.3, -2.0]]).double()
VARIANCES = torch.tensor([[0.1, 0.3], [0.2, 0.05]]).double()


def product() -> GaussianMixtureField:
    """Return the mixture of the four pairs of the two columns' components."""
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    columns = torch.arange(2)
    return GaussianMixtureField(
        WEIGHTS[columns, pairs].prod(-1),
        MEANS[columns, pairs],
        torch.diag_embed(VARIANCES[columns, pairs]),
    )


def shaped(weight: float) -> NeuralField:
    shapes = ColumnShapes(WEIGHTS.log(), MEANS, VARIANCES)
    reference = GaussianMixtureField.normal(shapes.mean, torch.diag(shapes.variance))
    field = NeuralField(reference, width=4, depth=1, shapes=shapes).double()
    with torch.no_grad():
        field.first_shape_weights.fill_(weight)
    return field


@pytest.mark.parametrize("levels", [0.05, 0.4, torch.tensor([1.5, 0.1]), torch.tensor([INF, 0.3])])
def test_shapes_of_independent_columns_are_all_there_is(levels):
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)).double()
    levels = torch.as_tensor(levels).double()
    truth = product().log_gradient(x, levels)
    assert_close(shaped(1.0).log_gradient(x, levels), truth)
    assert (shaped(0.0).log_gradient(x, levels) - truth).abs().max() > 0.1


def test_levels_of_each_row_agree_with_shared_levels():
    field = shaped(0.7)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()
    levels = torch.tensor([[0.2, 1.0], [INF, 0.5], [0.7, 0.7]]).double()
    rows = [field.log_gradient(x[i : i + 1], levels[i]) for i in range(3)]
    assert_close(field.log_gradient(x, levels), torch.cat(rows))


@pytest.mark.parametrize("sigma", [0.05, 3.0])
def test_far_out_shapes_pull_no_more_than_where_rows_end(sigma):
    shapes, levels = shaped(1.0).shapes, torch.full((1, 2), sigma).double()
    deviation = (VARIANCES + sigma**2).sqrt().max(1).values
    ends = MEANS.max(1).values + 4 * (VARIANCES.sqrt().max(1).values + sigma)
    further = torch.stack([ends, ends + 100, -ends - 100, -ends - 1e6])
    found = shapes(further, levels)
    assert_close(found[0], found[1])
    assert_close(found[2], found[3])
    assert (found.abs() < 20 / deviation).all()


def test_four_modes_are_found_where_two_are_no_better_than_one():
    rng, modes = np.random.default_rng(0), np.array([-2.0, -0.7, 0.7, 2.0])
    picked = rng.choice(4, 2000, p=(0.1, 0.4, 0.4, 0.1))
    column = modes[picked, None] + 0.35 * rng.normal(size=(2000, 1))
    assert best_mixture(column, 0).n_components == 1
    weights, means, _ = column_mixtures(column, 0)
    assert (weights > 0).sum() == 4
    np.testing.assert_allclose(np.sort(means[weights > 0]), modes, atol=0.1)


def test_gaps_are_left_out_and_an_empty_column_is_standard():
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(500, 2))
    rows[::2, 0], rows[:, 1] = np.nan, np.nan
    weights, means, variances = column_mixtures(rows, 0)
    assert weights[:, 0] == pytest.approx([1.0, 1.0])
    assert means[:, 0] == pytest.approx([np.nanmean(rows[:, 0]), 0.0])
    assert variances[:, 0] == pytest.approx([np.nanvar(rows[:, 0]), 1.0], rel=1e-3)


def test_an_independent_columns_shape_has_weight_one_from_the_start():
    rng = np.random.default_rng(0)
    n, bimodal = (
        4000,
        product().draw(4000, torch.zeros(2).double(), torch.Generator().manual_seed(0))[:, 0],
    )
    other = rng.normal(size=n)
    twins = torch.as_tensor(np.c_[other, other + 0.1 * rng.normal(size=n)])
    x = torch.cat([bimodal[:, None], twins], 1).float()
    rows = Rows(x[None], x[:400], torch.zeros(400), torch.arange(3), corners=[])
    schedule = NoiseSchedule(0.01 * torch.ones(3), 20 * torch.ones(3))
    settings = FieldSettings(16, 1, dropout=0.0, batch_size=64, conditional_fraction=0.5)
    field = initial_field(rows, schedule, settings, seed=0)
    weigh_shapes(field, rows, schedule, settings, torch.Generator().manual_seed(0))
    weights = field.first_shape_weights.detach()
    assert weights[0] > 0.95
    assert ((weights >= 0) & (weights <= 1)).all()
    with torch.no_grad():
        scores = [
            rows.integral().log_density(f, rows.judges, schedule) for f in (field, field.reference)
        ]
    expected = Marginal(product(), [0]).log_scalar(x[:400, :1].double(), 0.0)
    normal = GaussianMixtureField.normal(x[:, :1].mean(0), x[:, :1].T.cov().view(1, 1))
    gain = expected.mean() - normal.log_scalar(x[:400, :1], 0.0).mean()
    assert float((scores[0] - scores[1]).mean()) == pytest.approx(float(gain), rel=0.1)
