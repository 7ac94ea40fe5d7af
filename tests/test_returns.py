"""The Bellman operator and what is read off laws, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from scipy import stats

from skbellman.dynamics import bellman_dynamics
from skbellman.fields import GaussianMixtureField
from skbellman.returns import (
    BasisLaw,
    GaussianBasis,
    TabulatedLaws,
    bellman_backup,
    project_backup,
)
from skbellman.returns.batch import Batch
from skbellman.returns.direct import DirectReturnField, backed_up_fields
from skbellman.returns.fields import BasisReturnField
from skbellman.returns.learners import GreedyLearner, greedy_kind
from skbellman.returns.optimiser import Adam, BlockwiseAdam
from skbellman.returns.simplex import law_of_mean, nearest_law
from skbellman.returns.spaces import BoxFeatures
from skbellman.returns.support import Support

X = torch.linspace(-8, 8, 801, dtype=torch.float64)


def basis(gradient_weight: float = 0.0, size: int = 81) -> GaussianBasis:
    return GaussianBasis(-8.0, 8.0, size, gradient_weight)


def law_of(field: GaussianMixtureField, of: GaussianBasis) -> torch.Tensor:
    """Return the weights of a mixture of Gaussians seen at the level of the basis, (1, K)."""
    means, variances = field.means.flatten(), field.covariances.flatten()
    at = np.linspace(-6, 6, 801)
    weight = stats.norm.pdf(at)
    atoms = means[:, None] + variances.sqrt()[:, None] * torch.tensor(at)
    shares = field.log_weights.exp()[:, None] * torch.tensor(weight / weight.sum())
    return of.weights(of.project(atoms.reshape(1, -1), shares.reshape(1, -1)))


def gaussians() -> GaussianMixtureField:
    return GaussianMixtureField(
        torch.tensor([0.3, 0.7]).double(),
        torch.tensor([[-1.5], [1.0]]).double(),
        torch.tensor([[[0.3]], [[0.8]]]).double(),
    )


@pytest.mark.parametrize("gradient_weight", [0.0, 1.0])
def test_basis_holds_a_smooth_law_and_its_gradient(gradient_weight):
    of, field = basis(gradient_weight), gaussians()
    weights = law_of(field, of)
    level = torch.tensor(of.level)
    torch.testing.assert_close(
        of.density(weights, X)[0], field.scalar(X[:, None], level), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        BasisLaw(of, weights[0]).gradient(X[:, None], 0.0)[:, 0],
        field.gradient(X[:, None], level)[:, 0],
        atol=5e-4,
        rtol=0,
    )


@pytest.mark.parametrize("gradient_weight", [0.0, 2.0])
def test_inner_product_is_that_of_densities_and_gradients(gradient_weight):
    of = basis(gradient_weight)
    p, q = (of.density(torch.eye(of.size).double()[[k]], X)[0] for k in (30, 32))
    step = X[1] - X[0]
    slopes = [torch.gradient(f, spacing=float(step))[0] for f in (p, q)]
    product = (p * q).sum() + gradient_weight * of.level**2 * (slopes[0] * slopes[1]).sum()
    norm = (p * p).sum()  # the kernel is 1 at distance 0 for densities alone
    found = of.kernel(torch.tensor(2.0).double())
    assert float(found) == pytest.approx(float(product / norm), abs=5e-3)


def test_projected_backup_is_the_bellman_operator():
    of, reward = basis(), torch.tensor([0.7, -1.3]).double()
    weights = law_of(gaussians(), of).expand(2, -1)
    follows = torch.tensor([True, False])
    found = of.density(of.weights(project_backup(of, reward, 0.9, follows, weights)), X)
    law = BasisLaw(of, weights[0])
    for k, discount in enumerate([0.9, 0.0]):
        exact = bellman_backup(
            [float(reward[k])], [discount], [law], torch.ones(1).double(), of.level
        )
        error = (found[k] - exact.scalar(X[:, None], 0.0)).abs().max()
        # An atom between two centres is what the basis holds worst: 4% of its peak is off.
        assert float(error) < (1e-3 if discount else 0.05 * float(found[k].max()))


def test_backup_is_linear_in_the_law_and_exact_in_its_moments():
    of, generator = basis(), torch.Generator().manual_seed(0)
    atoms = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    weights = of.weights(of.project(atoms, torch.full_like(atoms, 0.2)))
    reward, follows = torch.full((6,), 0.3).double(), torch.ones(6, dtype=torch.bool)
    parts = of.weights(project_backup(of, reward, 0.8, follows, weights))
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.2, 0.1]]).double()
    mixed = of.weights(project_backup(of, reward[:1], 0.8, follows[:1], shares @ weights))
    torch.testing.assert_close(mixed, shares @ parts, atol=1e-6, rtol=0)
    for power in (0, 1, 2):
        expected = ((0.3 + 0.8 * atoms) ** power).mean(1)
        torch.testing.assert_close((parts * of.centres**power).sum(1), expected, atol=1e-6, rtol=0)


def test_backup_contracts_means_by_gamma():
    of = basis()
    atoms = torch.tensor([[-2.0], [3.0]]).double()
    weights = of.weights(of.project(atoms, torch.ones(2, 1).double()))
    follows = torch.ones(2, dtype=torch.bool)
    for k in range(1, 5):
        weights = of.weights(project_backup(of, torch.zeros(2).double(), 0.7, follows, weights))
        gap = (weights @ of.centres).diff().item()
        assert gap == pytest.approx(5 * 0.7**k, abs=1e-9)


def test_backup_contracts_distribution_functions_but_not_densities():
    of, gamma = basis(), 0.7
    normals = [GaussianMixtureField.normal(torch.tensor([m]), torch.eye(1)) for m in (-1.0, 1.5)]
    weights = torch.cat([law_of(field.double(), of) for field in normals])
    x = of.centres.numpy() + of.spacing / 2
    exact = [stats.norm(mean).cdf(x) for mean in (-1.0, 1.5)]
    coordinates = of.project(of.centres.expand(2, -1), weights)
    np.testing.assert_allclose(of.cumulative(coordinates), exact, atol=2e-3)
    follows = torch.ones(2, dtype=torch.bool)
    after = project_backup(of, torch.zeros(2).double(), gamma, follows, weights)
    before, after = coordinates.diff(dim=0), after.diff(dim=0)
    density_ratio = float(after.square().sum() / before.square().sum())
    ratio = float(of.cumulative(after).square().sum() / of.cumulative(before).square().sum())
    assert density_ratio == pytest.approx(1 / gamma, rel=0.03)
    assert ratio == pytest.approx(gamma, rel=0.03)


def test_what_a_greedy_learner_backs_up_is_no_law_beyond_the_support():
    torch.manual_seed(0)
    of = GaussianBasis(0.0, 10.0, 31)
    field = BasisReturnField(2, 3, (16,), of)
    with torch.no_grad():
        field.last_layer.weight.mul_(100)
    states = torch.randn(200, 2)
    batch = Batch(
        states, states, torch.zeros(200, dtype=torch.long), torch.zeros(200), states[:, 0] > 0
    )
    learner = GreedyLearner(field, Support(0.9, 31), 0.9, 1e-3, 0.1)
    greedy = learner.objective.backup.next_laws(field, learner.target, batch)
    plain = of.weights(field.best_coordinates(states)).detach()
    centres = of.centres.float()
    assert (plain @ centres).max() > 10
    assert (plain < 0).any()
    assert (greedy >= 0).all()
    torch.testing.assert_close(greedy.sum(-1), torch.ones(200))
    torch.testing.assert_close(greedy, law_of_mean(plain))


def test_the_nearest_law_is_the_nearest():
    """No corner of the simplex lies in the direction of what was taken off."""
    weights = torch.randn(200, 21, generator=torch.Generator().manual_seed(0)).double()
    weights += (1 - weights.sum(-1, keepdim=True)) / 21
    law = nearest_law(weights)
    assert (law >= 0).all()
    torch.testing.assert_close(law.sum(-1), torch.ones(200).double())
    off = weights - law
    assert (off <= (off * law).sum(-1, keepdim=True) + 1e-12).all()
    torch.testing.assert_close(nearest_law(law), law)
    assert nearest_law(weights * torch.nan).isnan().all()


def test_the_nearest_law_of_a_noisy_one_is_nearer_its_mean():
    """Negative weights alone cut off would leave the noise above 0, far from the mean."""
    place = torch.linspace(0, 1, 51)
    law = torch.exp(-0.5 * ((place - 0.8) / 0.03).square())
    law /= law.sum()
    noise = 0.003 * torch.randn(2000, 51, generator=torch.Generator().manual_seed(0))
    noisy = law + noise - noise.mean(-1, keepdim=True)
    positive = noisy.clamp(min=0)
    cut_off = (positive / positive.sum(-1, keepdim=True)) @ place
    bias, bias_cut_off = (m.mean() - law @ place for m in (nearest_law(noisy) @ place, cut_off))
    assert bias.abs() < 0.5 * bias_cut_off.abs()


def test_a_greedy_learner_backs_up_the_actions_that_the_slower_field_takes():
    torch.manual_seed(0)
    of = GaussianBasis(0.0, 10.0, 31)
    learner = GreedyLearner(BasisReturnField(2, 3, (16,), of), Support(0.9, 31), 0.9, 1e-3, 0.1)
    states, mask = torch.randn(200, 2), torch.rand(200, 3) < 0.7
    mask[~mask.any(-1)] = True
    batch = Batch(states, states, states, states, states, mask=mask)
    with torch.no_grad():
        learner.field.last_layer.weight.normal_()
        learner.target.last_layer.weight.normal_(0, 0.1)
        best_laws = learner.objective.backup.next_laws.best
        found = best_laws(learner.field, learner.target, batch)
    best = learner.actor.best(states, mask)
    assert mask[torch.arange(200), best].all()
    assert (best != learner.field.best(states, mask)).any()
    torch.testing.assert_close(found, learner.target.coordinates(states, best))


@pytest.mark.parametrize(("optimiser", "rotates"), [(BlockwiseAdam, True), (Adam, False)])
def test_steps_turn_with_the_coordinates(optimiser, rotates):
    """Of laws, whose inner product is the same in every orthonormal basis; Adam's do not."""
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    straight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    turned = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimisers = optimiser([straight], 0.1), optimiser([turned], 0.1)
    for _ in range(20):
        straight.grad.normal_()
        turned.grad.copy_(rotation @ straight.grad)
        for each in optimisers:
            each.step()
    assert torch.allclose(turned, rotation @ straight, atol=1e-6) == rotates


@pytest.mark.parametrize(
    ("space", "one_hot"),
    [
        (Discrete(4), True),
        (MultiDiscrete([2, 3]), True),
        (Box(-1, 1, (4,)), False),
        (Tuple([Discrete(4), Discrete(2)]), True),
        (Dict(a=Discrete(4), b=MultiDiscrete([2, 3])), True),
        (Dict(a=Discrete(4), b=Box(-1, 1, (4,))), False),
    ],
)
def test_states_that_are_labels_have_steps_as_long_for_each_number(space, one_hot):
    """Else what is seldom seen is hardly learned: FrozenLake8x8 was not learned at all."""
    features = BoxFeatures(space)
    field = BasisReturnField(features.width, 2, (16,), GaussianBasis(0.0, 10.0, 31))
    learner = greedy_kind(features.one_hot)(field, Support(0.9, 31), 0.9, 1e-3, 0.1)
    assert isinstance(learner.optimiser, Adam if one_hot else BlockwiseAdam)


def test_the_first_step_is_as_long_as_the_rate_says():
    parameter = torch.tensor([1.0, 2.0], requires_grad=True)
    optimiser = BlockwiseAdam([parameter], 0.1)
    parameter.grad.copy_(torch.tensor([3.0, -4.0]))
    optimiser.step()
    expected = torch.tensor([1.0, 2.0]) - 0.1 * torch.tensor([3.0, -4.0]) / 12.5**0.5
    torch.testing.assert_close(parameter.detach(), expected)


def test_fixed_point_of_two_states_with_gaussian_rewards():
    """State 0 leads to 1 and back, for ever; the returns are Gaussian."""
    gamma, means, sd = 0.8, np.array([1.0, -0.5]), np.array([0.6, 1.0])
    of, (at, share) = GaussianBasis(-6.0, 7.0, 101), np.polynomial.hermite_e.hermegauss(20)
    rewards = torch.tensor(means[:, None] + sd[:, None] * at).double()
    share = torch.tensor(share / share.sum())
    weights = torch.zeros(2, of.size).double()
    weights[:, 50] = 1.0
    follows = torch.ones(len(at), dtype=torch.bool)
    for _ in range(80):
        backed_up = [
            share
            @ of.weights(
                project_backup(of, rewards[z], gamma, follows, weights[[1 - z]].expand(len(at), -1))
            )
            for z in (0, 1)
        ]
        weights = torch.stack(backed_up)
    mean = [(means[z] + gamma * means[1 - z]) / (1 - gamma**2) for z in (0, 1)]
    var = [(sd[z] ** 2 + gamma**2 * sd[1 - z] ** 2) / (1 - gamma**4) for z in (0, 1)]
    x = torch.linspace(-6, 7, 301, dtype=torch.float64)
    for z in (0, 1):
        exact = stats.norm(mean[z], np.sqrt(var[z] + of.level**2)).pdf(x.numpy())
        np.testing.assert_allclose(of.density(weights, x)[z].numpy(), exact, atol=2e-3)


@pytest.mark.parametrize("wider", [GaussianBasis(-12.0, 9.0, 81), GaussianBasis(-8.0, 16.0, 81)])
def test_field_moves_to_a_wider_basis_without_forgetting(wider):
    torch.manual_seed(0)
    field = BasisReturnField(3, 2, [8], basis()).double()
    states = torch.randn(4, 3, dtype=torch.float64)
    weights = field.weights(states)
    middle = weights * torch.exp(-((basis().centres / 3) ** 2))  # a law has no mass at the ends
    field.network[-1].weight.data.zero_()
    field.network[-1].bias.data = (middle[0] @ torch.linalg.inv(basis().whitening)).flatten()
    before = field.weights(states)
    means = field.means(states)
    field.move_to(wider)
    torch.testing.assert_close(field.means(states), means, atol=1e-8, rtol=0)
    law = GaussianMixtureField.normal(torch.zeros(1).double(), torch.eye(1).double())
    assert before.shape == field.weights(states).shape
    converted = basis().convert(law_of(law, basis()), wider)
    exact = law.scalar(X[:, None], wider.level)
    torch.testing.assert_close(wider.density(converted, X)[0], exact, atol=1e-3, rtol=0)


class NormalField(DirectReturnField):
    """The law N(1, 4), seen at the level, in every state."""

    variance = 4.0

    def forward(self, states, x):
        variance = self.variance + self.level**2
        s = torch.exp(-0.5 * (x - 1).square() / variance) / (2 * np.pi * variance) ** 0.5
        return s.unsqueeze(-1), (-(x - 1) / variance * s).unsqueeze(-1)


def test_backup_of_the_papers_form_equals_the_closed_form():
    field = NormalField(1, 1, [4], -12.0, 12.0)
    reward, follows = torch.tensor([0.5, 2.0]), torch.tensor([True, False])
    batch = Batch(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2).long(), reward, follows)
    x = field.points(torch.zeros(2))
    s, g = backed_up_fields(field, batch, torch.ones(2, 1), 0.7, x)
    variance = torch.tensor([[0.49 * 4.0], [0.0]]) + field.level**2
    offset = x - torch.tensor([[0.5 + 0.7], [2.0]])
    exact = torch.exp(-0.5 * offset.square() / variance) / (2 * np.pi * variance).sqrt()
    torch.testing.assert_close(s, exact, atol=2e-4, rtol=0)
    torch.testing.assert_close(g, -offset / variance * exact, atol=2e-4, rtol=0)


def test_support_widens_to_where_laws_are_and_no_further():
    support = Support(gamma=0.5, size=41)
    first = support.first(torch.tensor([0.0, 1.0]))
    assert first.low < 0.0 < 1.0 < first.high
    atoms = torch.linspace(1.2, 1.5, 41).expand(3, -1)
    weights = torch.full_like(atoms, 1 / 41)
    wider = support.moved(first, atoms, weights)
    assert wider.high > 1.5
    for _ in range(20):
        wider = support.moved(wider, atoms + 100, weights) or wider
    assert wider.high == pytest.approx(2.0, abs=0.2)  # 1 / (1 - gamma) and a margin


def test_support_is_drawn_in_where_it_is_empty():
    support, wide = Support(gamma=0.9, size=101), GaussianBasis(-100.0, 100.0, 101)
    support.see(torch.tensor([-20.0, 20.0]))
    weights = torch.zeros(2, 101)
    weights[:, 48:53] = 0.2
    assert support.moved(wide, wide.centres.expand(2, -1), weights) is None
    narrower = support.moved(wide, wide.centres.expand(2, -1), weights, sparse=0.6)
    assert -40 < narrower.low < -4 < 4 < narrower.high < 40
    # Not beyond returns that ended, few as they are in a batch.
    support.covering(wide, torch.tensor([30.0]))
    kept = support.moved(wide, wide.centres.expand(2, -1), weights, sparse=0.6)
    assert kept.low == pytest.approx(narrower.low, abs=2)
    assert 30 < kept.high < 40


def test_moved_supports_have_zero_and_the_extreme_reward_as_centres():
    support, narrow = Support(gamma=0.9, size=101), GaussianBasis(-0.03, 0.4, 101)
    support.see(torch.tensor([0.0, 1.0]))
    wider = support.covering(narrow, torch.tensor([1.0]))
    assert wider.low < 0 < 1 < wider.high < 1.2
    for atom in (0.0, 1.0):
        assert (wider.centres - atom).abs().min() < 1e-9


@pytest.mark.slow
def test_law_is_a_field_that_dynamics_draw_from():
    of = basis()
    law = BasisLaw(of, law_of(gaussians(), of)[0])
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)[:, None].requires_grad_()
    s = law.scalar(x, 0.0)
    (slope,) = torch.autograd.grad(s.sum(), x)
    torch.testing.assert_close(law.gradient(x, 0.0), slope)
    start = torch.linspace(-3, 3, 1000)[:, None]
    path = bellman_dynamics(law, start, 1500, torch.Generator().manual_seed(0))
    edges = np.linspace(-8, 8, 641)
    middle = torch.tensor((edges[1:] + edges[:-1]) / 2)
    exact = TabulatedLaws(edges, of.density(law.weights[None], middle).numpy())
    drawn = exact.sample(3000, np.random.default_rng(0))[0]
    distance = stats.wasserstein_distance(path.rows[:, 0].numpy(), drawn)
    assert distance < 0.12 * drawn.std()


def test_readings_of_a_normal_law():
    edges = np.linspace(-6, 8, 1401)
    middle = (edges[1:] + edges[:-1]) / 2
    laws = TabulatedLaws(edges, np.stack([stats.norm(m, 1).pdf(middle) for m in (0.0, 1.0)]))
    np.testing.assert_allclose(laws.mean(), [0, 1], atol=1e-4)
    q = np.array([[0.01, 0.5, 0.9]] * 2)
    exact = stats.norm.ppf(q) + np.array([[0], [1]])
    np.testing.assert_allclose(laws.quantile(q), exact, atol=1e-3)
    np.testing.assert_allclose(laws.cdf(exact), q, atol=1e-4)
    cvar = -stats.norm.pdf(stats.norm.ppf(0.1)) / 0.1
    np.testing.assert_allclose(laws.cvar(0.1), [cvar, cvar + 1], atol=1e-3)
    np.testing.assert_allclose(laws.cvar(1.0), laws.mean(), atol=1e-9)
    np.testing.assert_allclose(laws.density(np.array([0.0, 1.0])), stats.norm.pdf(0), atol=1e-4)
    assert (laws.density(np.array([-7.0, 9.0])) == 0).all()
    draws = laws.sample(4000, np.random.default_rng(0))
    assert stats.kstest(draws[1] - 1, "norm").pvalue > 1e-3


def test_noise_is_taken_out_of_atoms_and_not_of_what_is_smooth():
    edges, level = np.linspace(-6, 8, 281), 0.2
    middle = (edges[1:] + edges[:-1]) / 2
    atoms = 0.3 * stats.norm(0, level).pdf(middle) + 0.7 * stats.norm(1.9, level).pdf(middle)
    smooth = stats.norm(1, np.hypot(1.5, level)).pdf(middle)
    seen = TabulatedLaws(edges, np.stack([atoms, smooth]))
    laws = seen.without_noise(level)
    np.testing.assert_allclose(laws.mean(), seen.mean(), atol=1e-6)
    q = (np.arange(500) + 0.5) / 500
    exact = np.stack([np.where(q < 0.3, 0, 1.9), stats.norm(1, 1.5).ppf(q)])
    before, after = (np.abs(of.quantile(np.stack([q, q])) - exact).mean(1) for of in (seen, laws))
    assert after[0] < 0.4 * before[0]
    assert after[1] < 0.015


def test_negative_density_is_reported_and_taken_as_none():
    laws = TabulatedLaws(np.array([0.0, 1.0, 2.0]), np.array([[1.0, -0.25]]))
    assert laws.negative_mass[0] == pytest.approx(0.25)
    assert laws.mean()[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no positive mass"):
        TabulatedLaws(np.array([0.0, 1.0]), np.array([[-1.0]]))
