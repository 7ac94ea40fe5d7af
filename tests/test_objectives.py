"""Matching, training and dynamics: from rows to a field and back to rows."""

from __future__ import annotations

import pytest
import torch
from known import draw, mixture, moments
from test_likelihood import _Wrapped, schedule
from torch import nn
from torch.testing import assert_close

from skbellman.fields import Mixture
from skbellman.matching import (
    antithetic_noise,
    denoising_loss,
    mixed_levels,
    shared_levels,
)
from skbellman.sampling import Annealing, draw_rows
from skbellman.training import Plan, TrainingDivergedError, train, train_in_rounds

INF = torch.inf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_like(x: torch.Tensor) -> torch.Tensor:
    return torch.randn(x.shape, generator=generator(), dtype=x.dtype)


@pytest.mark.parametrize("levels", [[0.5, 0.5], [0.1, 2.0], [0.5, INF]])
def test_the_true_field_minimises_the_denoising_loss(levels):
    truth = mixture(2)
    clean = draw(truth, 40_000)
    sigma = torch.tensor([levels]).double()

    def loss(scale):
        field = _Wrapped(moments(truth), truth)
        field.log_gradient = lambda x, s: scale * truth.log_gradient(x, s)
        return float(denoising_loss(field, clean, sigma, noise_like(clean)))

    assert loss(1.0) < min(loss(0.9), loss(1.1))


def test_the_denoising_loss_of_a_gaussian_is_known():
    field = mixture(1, n_components=1)
    variance, sigma = float(field.covariances), 0.7
    clean = draw(field, 200_000)
    found = denoising_loss(field, clean, torch.tensor([[sigma]]).double(), noise_like(clean))
    expected = (1 + sigma**2) * variance / (variance + sigma**2)
    assert float(found) == pytest.approx(expected, rel=0.01)


def test_shared_levels_are_stratified_in_two_ways():
    levels = shared_levels(schedule(2), 8000, generator())
    assert levels.shape == (8000, 1, 2)
    edges = torch.tensor([0.02, 0.1, 0.5, 1.0, 2.0, 20.0]).double()
    # Log-uniform sigma, and a density of log sigma proportional to 1 / (1 + sigma^2).
    for first, measure in [
        (0, edges.log().diff()),
        (1, (edges.log() - 0.5 * edges.square().log1p()).diff()),
    ]:
        sigma = levels[first::2, 0, 0]
        assert (sigma.diff() > 0).all()
        counts = torch.histogram(sigma, edges).hist
        assert_close(counts, 4000 * measure / measure.sum(), atol=1.5, rtol=0)


def test_antithetic_noise_cancels_where_the_field_is_linear():
    noise = antithetic_noise(torch.zeros(5, 8, 3), generator())
    assert_close(noise[:, :4], -noise[:, 4:])
    assert float(noise.std()) == pytest.approx(1, abs=0.2)


def test_mixed_levels_observe_move_and_hide_whole_columns():
    blocks = torch.tensor([0, 1, 1, 2])
    levels = mixed_levels(schedule(4), blocks, 4000, generator()).squeeze(1)
    assert_close(levels[:, 1], levels[:, 2])
    observed, unseen = levels == 0.02, torch.isinf(levels)
    assert (~(observed | unseen)).any(1).all()
    for kind in (observed, unseen, ~(observed | unseen)):
        assert 0.08 < float(kind.double().mean()) < 0.6


class _Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))


def squared_error(module):
    return (module.slope - 1) ** 2


def test_training_keeps_the_best_state():
    best = 0.3
    module = _Line()
    record = train(
        module, squared_error, Plan(500, 0.01, n_evaluations=50, patience=5),
        lambda m: {"score": -abs(m.slope.item() - best)},
    )  # fmt: skip
    assert abs(module.slope.item() - best) < 0.1
    assert record.ended == "no better score in 5 evaluations"
    assert record.best_step < record.step[-1]


@pytest.mark.parametrize(("gain", "n_steps"), [(0.05, 700), (0.03, 100)])
def test_more_rounds_follow_while_the_score_rises(gain, n_steps):
    scores = []

    def evaluate(_):
        scores.append(gain * len(scores))
        return {"score": scores[-1]}

    record = train_in_rounds(_Line(), squared_error, Plan(100, 0.01, max_steps=1000), evaluate)
    assert record.step[-1] == record.best_step == n_steps  # 100 + 200 + 400; 800 more are too many
    assert record.step == sorted(set(record.step))


def test_divergence_is_an_error_and_leaves_the_last_good_state():
    module, calls = _Line(), []

    def loss(m):
        calls.append(1)
        return squared_error(m) * (torch.nan if len(calls) > 20 else 1)

    def evaluate(m):
        return {"score": m.slope.item()}

    with pytest.raises(TrainingDivergedError, match=r"state of step 20 is kept.*learning_rate"):
        train(module, loss, Plan(100, 0.1, n_evaluations=10), evaluate)
    assert torch.isfinite(module.slope)
    assert module.slope > 0


def test_an_interrupted_training_says_so_and_keeps_what_it_learned():
    module, calls = _Line(), []

    def loss(m):
        calls.append(1)
        if len(calls) > 25:
            raise KeyboardInterrupt
        return squared_error(m)

    record = train(
        module, loss, Plan(100, 0.1, n_evaluations=10), lambda m: {"score": m.slope.item()}
    )
    assert record.ended == "interrupted"
    assert record.step == [10, 20, 25]
    assert record.best_step == 25
    assert module.slope.item() == record.scores[-1]["score"] > 0


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_annealed_dynamics_draws_from_the_density(beta):
    truth = mixture(2)
    field = _Wrapped(moments(truth), truth)
    drawn = draw_rows(field, 20_000, schedule(2), Annealing(60, beta), generator())
    real = draw(truth, 20_000)
    assert_close(drawn.mean(0), real.mean(0), atol=0.03, rtol=0)
    assert_close(drawn.T.cov(), real.T.cov(), atol=0.05, rtol=0)
    quantiles = torch.linspace(0.02, 0.98, 25).double()
    for direction in torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, -0.7]]).double():
        found, expected = (rows @ direction for rows in (drawn, real))
        assert_close(found.quantile(quantiles), expected.quantile(quantiles), atol=0.06, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_draws_ask_no_field_for_its_scalar(beta):
    field = _Wrapped(moments(mixture(2)), mixture(2))
    field.log_scalar = None
    assert draw_rows(field, 10, schedule(2), Annealing(4, beta), generator()).shape == (10, 2)


def test_a_mixture_is_drawn_from_its_parts():
    narrow, wide = mixture(2, seed=1), mixture(2, seed=2)
    neural = _Wrapped(moments(wide), wide)
    both = Mixture([narrow, neural], torch.tensor([0.3, 0.7]).double())
    drawn = draw_rows(both, 20_000, schedule(2), Annealing(60), generator())
    means = [field.log_weights.exp() @ field.means for field in (narrow, wide)]
    assert_close(drawn.mean(0), 0.3 * means[0] + 0.7 * means[1], atol=0.03, rtol=0)
    real = torch.cat([draw(narrow, 6000), draw(wide, 14_000)])
    assert_close(drawn.T.cov(), real.T.cov(), atol=0.05, rtol=0)
