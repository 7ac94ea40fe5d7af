"""Batches made ready ahead, their targets, the optimiser, and the scalar network."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from known import draw, latent_classes, mixture
from torch import nn
from torch.testing import assert_close

from skbellman import BellmanDiffusionDensity
from skbellman.batches import Batches, FieldSettings, Rows, draw_batches, without_gaps
from skbellman.fields import ColumnShapes, GaussianMixtureField, NeuralField, PairwiseEvidence
from skbellman.fields.networks import ResidualNetwork
from skbellman.matching import (
    averaged_noise,
    denoising_loss,
    level_weight,
    shared_levels,
    shares_of_own,
    taught_noise,
    with_noise,
)
from skbellman.optimiser import FlatOptimiser, nearly_orthogonal
from skbellman.schedule import NoiseSchedule

SETTINGS = FieldSettings(16, 1, 0.0, batch_size=64, conditional_fraction=0.5)
SCHEDULE = NoiseSchedule(torch.full((4,), 0.1).double(), torch.full((4,), 20.0).double())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def neural_field() -> NeuralField:
    """Return a field of a number and two categories, with weights at random."""
    reference = latent_classes()
    ratios = torch.rand(3, 2, generator=generator(1)).double() + 0.5
    evidence = PairwiseEvidence([{1: ratios.T}, {0: ratios}], [3, 2])
    shapes = ColumnShapes(torch.zeros(1, 2), torch.tensor([[-1.0, 1.0]]), torch.ones(1, 2))
    field = NeuralField(reference, 16, 1, 0.0, evidence, shapes).double()
    with torch.no_grad():
        for p in field.gradient_network.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator(2)))
    return field


def rows_of(gaps: bool, teacher: GaussianMixtureField | None = None) -> Rows:
    x = latent_classes().draw(200, torch.full((4,), 0.1).double(), generator())
    if gaps:
        x[:50, 0], x[100:140, 1:3] = torch.nan, torch.nan
    corners = [c.points for c in latent_classes().corners]
    return Rows(x[None], x[:10], torch.zeros(10), torch.tensor([0, 1, 1, 2]), corners, teacher)


def posteriors(points: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of the corners of a simplex from the mean of them."""
    system = torch.cat([points.T, torch.ones(1, len(points)).double()])
    known = torch.cat([mean, torch.ones_like(mean[..., :1])], -1)
    return torch.linalg.solve(system, known.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("taught", [False, True])
def test_the_loss_of_a_prepared_batch_is_that_of_its_noise_and_levels(gaps, taught):
    teacher = mixture(4, seed=5) if taught else None
    field, rows = neural_field(), rows_of(gaps, teacher)
    batches = Batches(field, rows, SCHEDULE, SETTINGS, generator())
    n_ahead = batches._n_ahead()
    found = torch.stack([batches.loss(field.gradient_network) for _ in range(n_ahead)])
    clean, sigma, noise = draw_batches(rows, SCHEDULE, SETTINGS, generator(), n_ahead)
    own = clean[:, :, :4].flatten(1, 2)
    clean, sigma = without_gaps(clean, sigma)
    noisy, finite = with_noise(clean, sigma, noise)
    shares = shares_of_own(noisy, sigma, own)
    target = (
        averaged_noise(noisy, sigma, own, shares)
        if teacher is None
        else taught_noise(teacher, noisy, sigma)
    )
    h, weight = field.log_gradient(noisy, sigma), level_weight(SCHEDULE, sigma)
    pieces = torch.tensor([0, 1, 3])
    n_seen = (~sigma[..., pieces].isinf()).expand(*noisy.shape[:-1], -1).sum((-1, -2))
    alone = (~sigma[..., pieces].isinf()).sum(-1) == 1
    each = (weight * (finite * h + target).square())[..., 0]
    for corners, at in zip(field.reference.corners, (slice(1, 3), slice(3, 4)), strict=True):
        log_p = posteriors(corners.points, noisy[..., at] + finite[..., at] ** 2 * h[..., at]).log()
        held = torch.eye(len(corners.points)).double()[corners.nearest(own[..., at].nan_to_num())]
        wanted = (shares @ held).view(*noisy.shape[:-1], -1)
        taken = ~sigma[..., at.start].isinf() & ~alone
        entropy = torch.where(wanted > 1e-9, wanted * log_p, 0.0).sum(-1)
        each = each - torch.where(taken, weight[..., at.start] * entropy, 0.0)
    expected = (each.sum(-1) / n_seen).mean(-1)
    assert_close(found.flip(0), expected, rtol=1e-5, atol=1e-5)


def test_levels_are_weighed_as_the_log_density_weighs_errors():
    schedule = NoiseSchedule(torch.full((1,), 0.01).double(), torch.full((1,), 20.0).double())
    sigma = shared_levels(schedule, 20_000, generator())
    weight = level_weight(schedule, sigma)
    for low, high in [(0.01, 0.1), (0.1, 1.0), (1.0, 20.0)]:
        within = ((sigma >= low) & (sigma < high)) * weight
        first = ((sigma >= 0.01) & (sigma < 0.1)) * weight
        ratio = float(within.sum() / first.sum())
        assert ratio == pytest.approx(np.log(high / low) / np.log(10), rel=0.01)
    assert level_weight(schedule, torch.full((1,), torch.inf).double()) == 0


def test_averaged_noise_is_that_of_a_density_with_a_peak_at_each_row():
    own = torch.randn(2, 20, 3, generator=generator()).double()
    levels = torch.tensor([[[0.3, 0.2, 0.5]], [[2.0, 0.1, torch.inf]]]).double().expand(2, 2, 1, 3)
    x = torch.randn(2, 2, 5, 3, generator=generator(1)).double()
    found = averaged_noise(x, levels, own, shares_of_own(x, levels, own))
    for batch in range(2):
        peaks = GaussianMixtureField(torch.ones(20), own[batch], torch.zeros(20, 3, 3).double())
        expected = taught_noise(peaks, x[batch], levels[batch])
        assert_close(found[batch], expected, rtol=1e-6, atol=1e-6)


def test_a_row_that_lacks_what_is_seen_is_none_of_those_averaged():
    own = torch.tensor([[[0.0, 1.0], [5.0, torch.nan], [0.2, -1.0]]]).double()
    x, levels = torch.tensor([[[[4.9, 0.0]]]]).double(), torch.full((1, 1, 1, 2), 0.5).double()

    def averaged(levels, own):
        return averaged_noise(x, levels, own, shares_of_own(x, levels, own))

    assert_close(averaged(levels, own), averaged(levels, own[:, [0, 2]]))
    first = torch.tensor([[[[0.5, torch.inf]]]]).double()
    nearest = averaged(first, own)[0, 0, 0]
    assert_close(nearest, torch.tensor([(4.9 - 5.0) / 0.5, 0.0]).double(), atol=1e-6, rtol=0)


def test_a_teacher_has_no_loss_on_its_own_noise():
    teacher, sigma = mixture(2, seed=1), torch.tensor([[0.4, torch.inf]]).double()
    x = torch.where(sigma.isinf(), 0.0, draw(teacher, 64))
    noise = taught_noise(teacher, x, sigma)
    clean = x - torch.where(sigma.isinf(), 0.0, sigma * noise)
    assert float(denoising_loss(teacher, clean, sigma, noise)) < 1e-20
    assert float(denoising_loss(mixture(2, seed=2), clean, sigma, noise)) > 0.01


def test_nearly_orthogonal_matrices_keep_the_singular_vectors():
    matrices = torch.randn(3, 12, 12, generator=generator()).double()
    u, _, v = torch.linalg.svd(matrices)
    inner = u.mT @ nearly_orthogonal(matrices) @ v.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert_close(inner, torch.diag_embed(values), atol=1e-9, rtol=0)
    assert (values.sort(-1).values[:, 1:] > 0.3).all()
    assert (values < 1.3).all()


def loss_of(module: nn.Module) -> torch.Tensor:
    x = torch.linspace(-1, 1, 15).view(5, 3)
    return (module(x) - 3).square().mean()


def test_parameters_move_as_by_adamw():
    module = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1))
    twin = copy.deepcopy(module)
    own = FlatOptimiser(module, 0.1, 0.2, largest_gradient=1.0)
    adam = torch.optim.AdamW(twin.parameters(), 0.1, weight_decay=0.2, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in twin.parameters()]
    for factor, decay in [(1.0, 0.1), (0.5, 0.5), (0.2, 0.9)]:
        own.step(loss_of(module), factor, decay)
        adam.zero_grad()
        loss_of(twin).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        adam.param_groups[0]["lr"] = 0.1 * factor
        adam.step()
        average = [
            a.lerp(p.detach(), 1 - decay) for a, p in zip(average, twin.parameters(), strict=True)
        ]
    own.release()
    for p, q in zip(module.parameters(), twin.parameters(), strict=True):
        assert_close(p, q, rtol=1e-4, atol=1e-6)
    for p, q in zip(own.averaged.parameters(), average, strict=True):
        assert_close(p, q, rtol=1e-4, atol=1e-6)
    assert len({p.untyped_storage().data_ptr() for p in module.parameters()}) == 4


def test_hidden_matrices_move_by_orthogonal_ones_every_second_step():
    network = ResidualNetwork(3, 1, 8, depth=2, dropout=0.0)
    nn.init.normal_(network[-1].weight)
    hidden = [p for block in list(network)[1:3] for p in (block.into.weight, block.out_of.weight)]
    before = [p.detach().clone() for p in hidden]
    own = FlatOptimiser(network, 0.01, 0.3, largest_gradient=1e9, hidden_rate=7.0)
    loss = loss_of(network)
    first = torch.autograd.grad(loss, hidden, retain_graph=True)
    own.step(loss, 1.0, 0.0)
    for p, q in zip(hidden, before, strict=True):
        assert_close(p.detach(), q)
    loss = loss_of(network)
    second = torch.autograd.grad(loss, hidden, retain_graph=True)
    own.step(loss, 0.5, 0.0)
    mean = [0.05 * (0.95 * f + s) for f, s in zip(first, second, strict=True)]
    ahead = torch.stack([s.lerp(m, 0.95) for s, m in zip(second, mean, strict=True)])
    rate = 2 * 0.01 * 0.5
    moved = (1 - rate * 0.3) * torch.stack(before) - 7 * rate * nearly_orthogonal(ahead)
    assert_close(torch.stack([p.detach() for p in hidden]), moved, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def density():
    rng = np.random.default_rng(0)
    X = 0.3 * rng.normal(size=(400, 2)) + 2 * rng.integers(0, 2, (400, 1))
    return BellmanDiffusionDensity(n_steps=200, width=32, random_state=0).fit(X)


@pytest.mark.slow
def test_the_scalar_network_is_learned_when_it_is_first_asked(density):
    density = copy.deepcopy(density)
    field, x = density.field_.fields[0], torch.randn(50, 2, generator=generator())
    kept = pickle.loads(pickle.dumps(density)).field_.fields[0]
    assert np.isnan(field.scalar_error)
    with torch.no_grad():
        found = field.log_scalar(x, 0.5)
    assert field.scalar_error < 0.4
    exact = density._integral(approximate=False).log_density(
        field, x, density.schedule_.above(torch.tensor(0.5))
    )
    assert float((found - exact).abs().mean()) < 0.4
    assert float((field.reference.log_scalar(x, 0.5) - exact).abs().mean()) > 0.02
    with torch.no_grad():
        assert torch.equal(kept.log_scalar(x, 0.5), found)


@pytest.mark.slow
def test_threads_that_ask_at_once_get_the_same_scalar_network(density):
    field, x = copy.deepcopy(density.field_.fields[0]), torch.zeros(1, 2)
    state = torch.random.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        answers = [t.result() for t in [pool.submit(field.log_scalar, x, 1.0) for _ in range(2)]]
    assert torch.equal(*answers)
    assert torch.equal(torch.random.get_rng_state(), state)
