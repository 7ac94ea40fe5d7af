"""Numbers with frequent values are divided into intervals, whose probabilities are sharp."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from skbellman import BellmanDiffusionDensity
from skbellman.fields import GaussianMixtureField, NeuralField
from skbellman.fields.intervals import Intervals
from skbellman.tables.columns.ranked import RankedColumn

EDGES = [torch.tensor([-0.4, -0.38, 1.2]), torch.empty(0), torch.tensor([0.0])]


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 10.0])
def test_probabilities_and_means_are_those_of_truncated_normals(scale):
    intervals = Intervals(EDGES).double()
    mean = torch.tensor([[0.3, 5.0, -2.0], [-0.39, 0.0, 4.0]]).double()
    log_q, means = intervals(mean, torch.full_like(mean, scale**2))
    low, high = np.array([-60, -0.4, -0.38, 1.2]), np.array([-0.4, -0.38, 1.2, 60])
    for row in (0, 1):
        a, b = ((edge - float(mean[row, 0])) / scale for edge in (low, high))
        right = a > 0
        q = np.where(
            right, stats.norm.sf(a) - stats.norm.sf(b), stats.norm.cdf(b) - stats.norm.cdf(a)
        )
        found = log_q[row, :4].exp()
        assert_close(found, torch.as_tensor(q), atol=1e-12, rtol=1e-6)
        likely = q > 1e-8
        exact = stats.truncnorm.mean(a[likely], b[likely], float(mean[row, 0]), scale)
        assert_close(means[row, :4][likely], torch.as_tensor(exact), atol=1e-8, rtol=1e-6)
    total = (log_q.exp() * means) @ intervals.member
    assert_close(total[:, [0, 2]], mean[:, [0, 2]], atol=1e-6, rtol=0)


def test_each_number_lies_in_one_interval():
    intervals = Intervals(EDGES)
    numbers = torch.tensor([[-0.39, 0.0, 0.0], [torch.nan, 1.0, -3.0]])
    assert [code.tolist() for code in intervals.codes(numbers)] == [[1, -1], [1, 0]]
    assert intervals.one_hot(numbers[:1]).tolist() == [[0, 1, 0, 0, 0, 1]]
    assert len(Intervals([torch.empty(0)] * 2)) == 0


def test_products_with_the_jacobian_are_those_of_autograd():
    torch.manual_seed(0)
    reference = GaussianMixtureField.normal(torch.zeros(3), 0.5 * torch.eye(3) + 0.5)
    field = NeuralField(reference, 8, 1, intervals=Intervals(EDGES)).double().eval()
    x, sigma = torch.randn(5, 3).double(), torch.tensor([[0.3, 0.5, 0.2]]).double()
    assert_close(field.log_gradient(x, sigma), reference.double().log_gradient(x, sigma))
    with torch.no_grad():
        for parameter in field.gradient_network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    directions = torch.randn(2, 5, 3).double()
    h0, r, products = field.gradient_products(x, sigma, directions)
    points = x.clone().requires_grad_()
    residual = field.gradient_parts(points, sigma)[1]
    exact = [torch.autograd.grad(residual, points, d, retain_graph=True)[0] for d in directions]
    assert_close(products, torch.stack(exact))
    assert_close(h0 + r, field.log_gradient(x, sigma))


def test_values_apart_from_their_neighbours_are_frequent():
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [np.zeros(300), np.full(200, 5.0), rng.gamma(2, 2, 500), np.arange(9.0)]
    )
    column = RankedColumn(np.sort(values), np.array([0.0, 5.0]), 1e-15)
    assert column.frequent.tolist() == [0.0, 5.0]
    below = stats.norm.cdf(column.edges)
    assert below[:1] == pytest.approx([0.3], abs=0.01)
    assert below[2] - below[1] == pytest.approx(0.2, abs=0.01)
    counts = np.repeat(np.arange(6.0), [10, 60, 200, 210, 60, 10])
    assert not len(RankedColumn(counts, np.arange(6.0), 1e-15).frequent)


@pytest.mark.slow
def test_zeros_that_imply_each_other_are_drawn_together():
    rng = np.random.default_rng(0)
    visits = rng.poisson(1.0, 2000)
    duration = np.where(visits == 0, 0.0, visits * rng.gamma(2, 1, 2000))
    table = pd.DataFrame({"visits": visits, "duration": duration})
    density = BellmanDiffusionDensity(n_steps=300, random_state=0).fit(table)
    drawn = density.sample(2000, random_state=0)
    assert (drawn["duration"][drawn["visits"] == 0] == 0).mean() > 0.975
    assert (drawn["visits"][drawn["duration"] == 0] == 0).mean() > 0.975
