"""Independent columns in closed form, and a network of one's own that corrects them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from known import Exact, draw
from torch import Tensor, nn
from torch.testing import assert_close

from skbellman.fields import (
    DiagonalGaussianField,
    GaussianMixtureField,
    GridField,
    Mixture,
    NetworkField,
)
from skbellman.fitting import fit_own_field
from skbellman.likelihood import FlowIntegral
from skbellman.sampling import Annealing, draw_given, draw_rows
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan

MEAN, VARIANCE = torch.tensor([0.3, -1.0, 2.0]).double(), torch.tensor([1.0, 0.2, 3.0]).double()
POINTS = torch.tensor([-1.0, 0.0, 1.5]).double()
SHARES = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]).double()
# One level; a level for each column, one of which is missing; levels of each row.
LEVELS = {
    "one": 0.4,
    "each column": torch.tensor([0.3, torch.inf, 1.2]).double(),
    "each row": torch.tensor([[0.3, 0.5, 1.2], [torch.inf, 2.0, 0.1]]).double(),
}
EXAMPLES = Path(__file__).parent.parent / "examples" / "images"


def rows(n: int, n_columns: int, seed: int = 0) -> Tensor:
    return torch.randn(n, n_columns, generator=torch.Generator().manual_seed(seed)).double()


def path(n_columns: int, ceiling: float = 20.0) -> NoiseSchedule:
    ones = torch.ones(n_columns).double()
    return NoiseSchedule(0.05 * ones, ceiling * ones)


def peaks(grid: GridField) -> GaussianMixtureField:
    """Return the field of two columns on a grid as a mixture of all pairs of values."""
    pairs = torch.cartesian_prod(grid.points, grid.points)
    shares = grid.log_probabilities.exp()
    weights = (shares[0][:, None] * shares[1]).flatten()
    return GaussianMixtureField(weights, pairs, torch.zeros(len(pairs), 2, 2).double())


class Wave(nn.Module):
    """A convolution over the columns: a network that knows what lies beside what."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(3, 6, 3, padding=1), nn.SiLU(), nn.Conv1d(6, 1, 3, padding=1)
        )

    def forward(self, x: Tensor, levels: Tensor, seen: Tensor) -> Tensor:
        return self.layers(torch.stack([x, levels, seen.to(x)], 1)).squeeze(1)


class Still(Wave):
    """The same, silent before training."""

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)


class Short(Wave):
    """A network whose answer lacks a column."""

    def forward(self, x: Tensor, levels: Tensor, seen: Tensor) -> Tensor:
        return super().forward(x, levels, seen)[:, 1:]


@pytest.mark.parametrize("sigma", LEVELS.values(), ids=LEVELS)
def test_independent_gaussians_are_a_gaussian_with_a_diagonal_covariance(sigma):
    own = DiagonalGaussianField(MEAN, VARIANCE)
    known = GaussianMixtureField.normal(MEAN, VARIANCE.diag())
    x = rows(2, 3)
    assert_close(own.log_scalar(x, sigma), known.log_scalar(x, sigma))
    assert_close(own.log_gradient(x, sigma), known.log_gradient(x, sigma))


@pytest.mark.parametrize("sigma", [0.3, torch.tensor([0.2, 1.0]), torch.tensor([torch.inf, 0.4])])
def test_a_grid_is_the_mixture_of_its_values(sigma):
    own = GridField(POINTS, SHARES)
    x = rows(5, 2)
    assert_close(own.log_scalar(x, sigma), peaks(own).log_scalar(x, sigma))
    assert_close(own.log_gradient(x, sigma), peaks(own).log_gradient(x, sigma))


def test_a_tilt_multiplies_the_law_by_an_exponential():
    tilt, x, sigma = torch.tensor([0.7, -2.0]).double(), rows(4, 2), torch.tensor([0.5, 0.9])
    grid, gaussian = GridField(POINTS, SHARES), DiagonalGaussianField(MEAN[:2], VARIANCE[:2])
    tilted_grid = GridField(POINTS, SHARES * (tilt[:, None] * POINTS).exp())
    tilted_gaussian = DiagonalGaussianField(MEAN[:2] + VARIANCE[:2] * tilt, VARIANCE[:2])
    for field, known in ((grid, tilted_grid), (gaussian, tilted_gaussian)):
        h, gain = field.tilted(x, sigma, tilt.expand_as(x))
        assert_close(h, field.log_gradient(x, sigma))
        assert_close(h + gain, known.log_gradient(x, sigma))


@pytest.mark.parametrize(
    "field", [DiagonalGaussianField(MEAN, VARIANCE), GridField(POINTS, SHARES)]
)
def test_independent_columns_draw_what_they_score(field):
    generator, n = torch.Generator().manual_seed(0), field.n_columns
    sigma = torch.full((n,), 0.3).double()
    x = field.draw(40_000, sigma, generator)
    h = field.log_gradient(x, sigma)
    # E h = 0 and E x h = -1 hold for the rows' own density alone.
    assert float(h.mean(0).abs().max()) < 5 * float(h.std() / 200)
    assert_close((x * h).mean(0), -torch.ones(n).double(), atol=0.05, rtol=0)
    given = torch.full((3, n), torch.nan).double()
    given[:, 1] = 0.7
    filled = field.draw_given(given, sigma, generator)
    assert bool((filled[:, 1] == 0.7).all())
    assert not bool(torch.isnan(filled).any())


def test_nothing_is_as_large_as_the_square_of_the_columns():
    n_columns = 200_000  # whose square takes 160 GB
    for reference in (
        DiagonalGaussianField(torch.zeros(n_columns), torch.ones(n_columns)),
        GridField(torch.tensor([0.0, 1.0]), torch.ones(n_columns, 2)),
    ):
        field = NetworkField(reference, Still)
        x = reference.draw(2, torch.full((n_columns,), 0.1), torch.Generator().manual_seed(0))
        path = NoiseSchedule(torch.full((n_columns,), 0.1), torch.full((n_columns,), 20.0))
        with torch.no_grad():
            found = FlowIntegral(2, n_probes=2).log_density(field, x, path)
            assert_close(found, reference.log_scalar(x, 0.1))


def test_an_untrained_field_is_its_reference():
    reference = GridField(POINTS, SHARES)
    field = NetworkField(reference, Still)
    x = reference.draw(20, path(2)(0.0), torch.Generator().manual_seed(0))
    found = FlowIntegral(8).log_density(field, x, path(2))
    assert_close(found, reference.log_scalar(x, 0.05))


def test_any_network_has_mass_1_at_the_values_of_the_grid():
    torch.manual_seed(0)
    points = torch.tensor([0.0, 1.0, 2.0]).double()
    field = NetworkField(GridField(points, SHARES), Wave)
    axis = 0.05 * torch.arange(-5, 6).double()
    x = torch.cartesian_prod(points, points)[:, None] + torch.cartesian_prod(axis, axis)
    density = FlowIntegral(16).log_density(field, x.flatten(0, 1), path(2)).exp()
    assert_close(float(density.sum() * 0.05**2), 1.0, atol=2e-3, rtol=0)


def test_products_with_the_jacobian_are_those_of_autograd():
    torch.manual_seed(0)
    field = NetworkField(GridField(POINTS, SHARES.repeat(2, 1)), Wave)
    x, sigma = rows(3, 4), torch.tensor([0.3, 0.3, torch.inf, 0.1]).double()
    directions = rows(6, 4, seed=1).view(2, 3, 4)
    h0, r, products = field.gradient_products(x, sigma, directions)
    assert_close(h0, field.reference.log_gradient(x, sigma))
    assert_close(h0 + r, field.log_gradient(x, sigma).detach())
    for k in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda row: field.gradient_parts(row[None], sigma)[1][0], x[k]
        )
        assert_close(products[:, k], directions[:, k] @ jacobian)


def test_a_gaussian_that_a_network_knows_has_its_closed_form():
    truth = GaussianMixtureField.normal(MEAN[:2], torch.tensor([[1.0, 0.6], [0.6, 0.8]]).double())
    reference = DiagonalGaussianField(truth.means[0], truth.covariances[0].diagonal())
    field = NetworkField(reference, lambda n_columns: Exact(truth, reference))
    x = draw(truth, 30)
    whole = FlowIntegral(32).log_density(field, x, path(2, 100.0))
    assert_close(whole, truth.log_scalar(x, 0.05), atol=1e-3, rtol=0)
    alone = torch.tensor([True, False])
    found = FlowIntegral(32).log_density(field, torch.where(alone, x, torch.nan), path(2, 100.0))
    levels = torch.tensor([0.05, torch.inf]).double()
    assert_close(found, truth.log_scalar(x, levels), atol=1e-3, rtol=0)


def test_levels_and_the_mask_reach_the_network_as_promised():
    seen_by_network = []

    class Listener(nn.Module):
        def forward(self, *inputs):
            seen_by_network[:] = inputs
            return torch.zeros_like(inputs[0])

    field = NetworkField(DiagonalGaussianField(MEAN, VARIANCE), lambda n_columns: Listener())
    field.log_gradient(rows(4, 3).view(2, 2, 3), torch.tensor([1.0, 3.0, torch.inf]).double())
    x, levels, seen = seen_by_network
    assert [tuple(part.shape) for part in (x, levels, seen)] == [(4, 3)] * 3
    assert_close(x[:, :2], rows(4, 3)[:, :2] / torch.tensor([2.0, 10.0]).double().sqrt())
    assert_close(levels[0], torch.tensor([0.0, 3.0, 1.0]).double().log().nan_to_num(neginf=0) / 4)
    assert seen.tolist() == [[True, True, False]] * 4
    assert not bool(x[:, 2].any())


def test_a_network_of_another_form_is_refused():
    reference = DiagonalGaussianField(MEAN, VARIANCE)
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*got \(2, 2\)"):
        NetworkField(reference, Short)
    with pytest.raises(TypeError, match=r"network\(3\) must return a torch.nn.Module, got list"):
        NetworkField(reference, lambda n_columns: [])
    with pytest.raises(NotImplementedError, match="FlowIntegral"):
        NetworkField(reference, Still).log_scalar(rows(2, 3), 0.1)


def test_references_of_another_form_are_refused():
    with pytest.raises(ValueError, match="leave it out"):
        DiagonalGaussianField(MEAN, torch.zeros(3).double())
    with pytest.raises(ValueError, match="same shape"):
        DiagonalGaussianField(MEAN, VARIANCE[:2])
    with pytest.raises(ValueError, match="add a fraction of a row"):
        GridField(POINTS, torch.tensor([[1.0, 0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2, 2\)"):
        GridField(POINTS, SHARES[:, :2])


def test_a_fit_learns_what_columns_say_of_one_another_and_can_be_pickled():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    first = POINTS[torch.multinomial(SHARES[0], 1200, replacement=True, generator=generator)]
    x = torch.stack([first, first], 1)  # a column and its copy
    field = NetworkField(GridField(POINTS, SHARES[:1].repeat(2, 1)), Still)
    state = torch.get_rng_state()
    plan = Plan(n_steps=250, learning_rate=0.03)
    record = fit_own_field(field, x[:1000], x[1000:], path(2), plan, conditional_fraction=0.5)
    assert torch.equal(state, torch.get_rng_state())
    assert record.scores[-1]["score"] > record.scores[0]["score"]
    integral = FlowIntegral(32)
    gain = integral.log_density(field, x[:100], path(2)) - field.reference.log_scalar(x[:100], 0.05)
    copied = pickle.loads(pickle.dumps(field))
    assert torch.equal(copied.log_gradient(x, 0.3), field.log_gradient(x, 0.3))
    # All that the second column adds is known from the first.
    assert float(gain.mean()) > 0.8 * float(-(SHARES[0] * SHARES[0].log()).sum())
    given = torch.stack([first[:200], torch.full((200,), torch.nan).double()], 1)
    filled = draw_given(field, given, path(2), Annealing(16), generator)
    nearest = (filled[:, 1:] - POINTS).abs().argmin(1)
    assert float((POINTS[nearest] == first[:200]).double().mean()) > 0.95


def test_a_fit_of_other_columns_is_refused():
    field = NetworkField(DiagonalGaussianField(MEAN, VARIANCE), Still)
    with pytest.raises(ValueError, match="validation must have 3 columns"):
        fit_own_field(field, rows(9, 3), rows(9, 2), path(3), Plan(5, 1e-3))


def test_a_network_field_is_a_part_of_a_mixture():
    torch.manual_seed(0)
    reference = DiagonalGaussianField(MEAN, VARIANCE)
    parts = Mixture([NetworkField(reference, Still), reference], torch.ones(2).double())
    x = rows(5, 3)
    assert_close(FlowIntegral(8).log_density(parts, x, path(3)), reference.log_scalar(x, 0.05))
    assert draw_rows(parts, 7, path(3), Annealing(4), torch.Generator()).shape == (7, 3)


@pytest.mark.slow
def test_digits_take_fewer_bits_than_the_default_for_tables(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmark import digits
    from density import ImageDensity
    from networks import digits_network

    data = digits(0)
    density = ImageDensity(digits_network, 17, n_steps=500).fit(data.train, data.validation)
    bits = density.bits(data.test, FlowIntegral(16, 8))
    assert float(bits.mean()) < 1.9  # the default of BellmanDiffusionDensity takes 2.17
