"""What single columns say beyond a Gaussian, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.testing import assert_close

from skbellman.batches import FieldSettings, Rows
from skbellman.column_laws import column_mixtures
from skbellman.fields import ColumnShapes, GaussianMixtureField, Marginal, NeuralField
from skbellman.fitting import initial_field, weigh_shapes
from skbellman.mixtures import best_mixture
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
    # A column that is asked alone has its own law whatever the weights.
    alone = bool(torch.isinf(levels).any())
    far = (shaped(0.0).log_gradient(x, levels) - truth).abs().max()
    assert far < 1e-9 if alone else far > 0.1


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
    weights, means, _ = column_mixtures(column)
    assert (weights > 0).sum() == 4
    np.testing.assert_allclose(np.sort(means[weights > 0]), modes, atol=0.1)


def log_densities(laws, x: np.ndarray) -> np.ndarray:
    """Return the log-density of each column's mixture at x, (n, D)."""
    weights, means, variances = laws
    offset = x[..., None] - means
    logs = np.log(weights.clip(1e-300)) - 0.5 * (
        offset**2 / variances + np.log(2 * np.pi * variances)
    )
    return np.logaddexp.reduce(logs, -1)


@pytest.mark.parametrize("n_rows", [800, 30_000])
def test_laws_of_columns_are_as_likely_as_scikit_learns(n_rows):
    """Of new values: skewed, of separate modes, and half of them at one place."""
    rng = np.random.default_rng(3)

    def draw(n):
        modes = rng.choice([-1.5, 0.0, 1.5], n) + 0.1 * rng.normal(size=n)
        peak = np.where(rng.random(n) < 0.5, 0.0, rng.normal(1.0, 1.0, n)) + 0.01 * rng.normal(
            size=n
        )
        return np.column_stack([rng.gamma(2.0, 0.7, n) - 1.4, modes, peak])

    rows, new = draw(n_rows), draw(5000)
    found = log_densities(column_mixtures(rows), new).mean(0)
    for column, test, mean in zip(rows.T, new.T, found, strict=True):
        fits = [
            GaussianMixture(k, reg_covar=1e-4, random_state=0).fit(column[:10_000, None])
            for k in (1, 2, 4, 8)
        ]
        best = min(fits, key=lambda fit: fit.bic(column[:10_000, None]))
        assert mean > best.score(test[:, None]) - 0.02
    assert len({tuple(map(bytes, column_mixtures(rows))) for _ in range(2)}) == 1


def test_laws_of_values_at_few_places():
    """There are fewer places than components, and fewer values than groups."""
    weights, means, variances = column_mixtures(np.array([[0.0, 2.0], [1.0, 2.0]] * 20))
    assert means[0, weights[0] > 0] == pytest.approx([0.0, 1.0], abs=1e-6)
    assert (means[1] * weights[1]).sum() == pytest.approx(2.0)
    assert variances.min() >= 1e-4


def test_gaps_are_left_out_and_an_empty_column_is_standard():
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(500, 2))
    rows[::2, 0], rows[:, 1] = np.nan, np.nan
    weights, means, variances = column_mixtures(rows)
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
    assert weights[0] > 0.9
    assert ((weights >= 0) & (weights <= 1)).all()
    with torch.no_grad():
        scores = [
            rows.integral().log_density(f, rows.judges, schedule) for f in (field, field.reference)
        ]
    expected = Marginal(product(), [0]).log_scalar(x[:400, :1].double(), 0.0)
    normal = GaussianMixtureField.normal(x[:, :1].mean(0), x[:, :1].T.cov().view(1, 1))
    gain = expected.mean() - normal.log_scalar(x[:400, :1], 0.0).mean()
    assert float((scores[0] - scores[1]).mean()) == pytest.approx(float(gain), rel=0.1)
