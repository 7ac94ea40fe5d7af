"""Marginals, conditionals and conditional draws against closed forms."""

from __future__ import annotations

import pytest
import torch
from known import conditional, draw, latent_classes, mixture, moments
from test_likelihood import _Wrapped, schedule
from torch.testing import assert_close

from skbellman.fields import Mixture
from skbellman.likelihood import FlowIntegral
from skbellman.sampling import Annealing, draw_given
from skbellman.schedule import NoiseSchedule, PartialSchedule

NAN, INF = torch.nan, torch.inf
ANNEALING = Annealing(60)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wrapped(n_columns: int = 3, seed: int = 0) -> tuple[_Wrapped, torch.Tensor]:
    truth = mixture(n_columns, seed=seed)
    return _Wrapped(moments(truth), truth), draw(truth, 60)


def hidden(x: torch.Tensor) -> torch.Tensor:
    """Hide a random half of the cells; every third row the same two columns."""
    unseen = torch.rand(x.shape, generator=generator()) < 0.5
    unseen[::3] = torch.tensor([True, False, True])
    return torch.where(unseen, NAN, x)


def exact(truth, x: torch.Tensor, floor: float = 0.02) -> torch.Tensor:
    """Return the marginal log-densities at the floor."""
    return truth.log_scalar(x.nan_to_num(0.0), torch.where(x.isnan(), INF, floor))


def test_unseen_values_are_integrated_out():
    field, x = wrapped()
    partial = hidden(x)
    found = FlowIntegral(32).log_density(field, partial, schedule(3))
    assert_close(found, exact(field.truth, partial), atol=0.02, rtol=0)
    nothing = torch.full_like(x, NAN)
    assert_close(FlowIntegral(8).log_density(field, nothing, schedule(3)), torch.zeros(60).double())


def test_rows_with_gaps_do_not_see_each_other():
    field, x = wrapped()
    partial, integral = hidden(x)[:3], FlowIntegral(16, tolerance=1e-3)
    together = integral.log_density(field, partial, schedule(3))
    alone = torch.cat([integral.log_density(field, row, schedule(3)) for row in partial.split(1)])
    assert_close(together, alone, atol=1e-9, rtol=0)


@pytest.mark.parametrize("held", [[True, False, False], [False, True, True]])
@pytest.mark.parametrize("parts", [1, 2])
def test_conditional_log_densities_are_joint_less_marginal(held, parts):
    held, (field, x), other = torch.tensor(held), wrapped(), mixture(3, seed=1)
    if parts == 2:
        truth = Mixture([field.truth, other], torch.tensor([0.3, 0.7]).double())
        field = Mixture([field, other], truth.weights)
    else:
        truth = field.truth
    x = torch.where(torch.rand(x.shape, generator=generator()) < 0.2, NAN, x)
    found = FlowIntegral(32).log_density(field, x, schedule(3), held=held)
    expected = exact(truth, x) - exact(truth, torch.where(held, x, NAN))
    assert_close(found, expected, atol=0.03, rtol=0)


def test_log_ratios_of_rows_with_gaps_are_those_of_the_closed_form():
    field, x = wrapped()
    levels, positions, ratios = FlowIntegral(32).log_ratios(field, hidden(x), schedule(3))
    assert levels.shape == positions.shape == (32, 60, 3)
    expected = [
        field.truth.log_scalar(p, s) - field.reference.log_scalar(p, s)
        for p, s in zip(positions, levels, strict=True)
    ]
    assert_close(ratios, torch.stack(expected), atol=0.03, rtol=0)


GIVEN = {
    "near": [NAN, 0.5, NAN],
    "two": [0.3, NAN, -0.2],
    "far": [NAN, 4.0, NAN],
}


@pytest.mark.parametrize("kind", ["closed form", "flow", "with noise"])
@pytest.mark.parametrize("given", GIVEN)
def test_draws_follow_the_conditional(given, kind):
    given = torch.tensor(GIVEN[given]).double()
    field, _ = wrapped()
    annealing = Annealing(60, 1.0) if kind == "with noise" else ANNEALING
    source = field.truth if kind == "closed form" else field
    rows = given.expand(10_000, -1)
    drawn = draw_given(source, rows, schedule(3), annealing, generator())
    unseen = given.isnan()
    assert torch.equal(drawn[:, ~unseen], rows[:, ~unseen])
    real = draw(conditional(field.truth, given), 50_000)
    found = drawn[:, unseen]
    assert_close(found.mean(0), real.mean(0), atol=0.05, rtol=0)
    assert_close(torch.atleast_2d(found.T.cov()), torch.atleast_2d(real.T.cov()), atol=0.08, rtol=0)
    q = torch.linspace(0.05, 0.95, 10).double()
    assert_close(found.quantile(q, 0), real.quantile(q, 0), atol=0.1, rtol=0)


def test_a_part_is_drawn_as_often_as_the_condition_says():
    left, right = mixture(2, seed=1), mixture(2, seed=2)
    both = Mixture([left, right], torch.tensor([0.5, 0.5]).double())
    given = torch.tensor([[1.2, NAN], [NAN, -0.4], [NAN, NAN]]).double().repeat_interleave(4000, 0)
    drawn = draw_given(both, given, schedule(2), ANNEALING, generator()).split(4000)
    for row, rows in zip(given[::4000], drawn, strict=True):
        logs = torch.stack([exact(part, row[None]) for part in (left, right)])
        weights = logs.softmax(0)
        means = [
            draw(conditional(part, row) if not row.isnan().all() else part, 20_000).mean(0)
            for part in (left, right)
        ]
        expected = weights[0] * means[0] + weights[1] * means[1]
        assert_close(rows[:, row.isnan()].mean(0), expected, atol=0.06, rtol=0)


def test_categories_are_drawn_by_their_posterior_and_numbers_by_theirs():
    field = latent_classes()
    levels = NoiseSchedule(
        torch.tensor([0.02, 0.1, 0.1, 0.1]).double(), 20 * torch.ones(4).double()
    )
    points = [corners.points for corners in field.corners]
    number = torch.tensor([0.4, NAN, NAN, NAN]).double()
    rare = torch.tensor([NAN, *points[0][2], NAN]).double()
    for given in (number, rare):
        drawn = draw_given(field, given.expand(8000, -1), levels, ANNEALING, generator())
        finite = given.isnan()
        log_joint = field.gaussians.components(given[:1].nan_to_num(0)[None], levels.floor[:1])[0]
        if given[0].isnan():
            log_joint = field.log_weights[:, None]
        if not finite[1]:
            log_joint = log_joint + field.log_probabilities_0[:, 2:]
        classes = log_joint.softmax(0).squeeze(-1)
        shares = classes @ field.log_probabilities_1.exp()
        found = field.corners[1].nearest(drawn[:, 3:]).bincount(minlength=2) / 8000
        assert_close(found.double(), shares, atol=0.02, rtol=0)
        if given[0].isnan():
            expected = classes @ field.gaussians.means[:, 0]
            assert float((drawn[:, 0].mean() - expected).abs()) < 0.05


def test_a_partial_schedule_moves_only_what_it_should():
    moving, seen = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    path, whole = PartialSchedule(schedule(3), moving, seen), schedule(3)
    assert_close(
        path(0.5), torch.stack([whole(0.5)[0], whole.floor[1], torch.tensor(INF).double()])
    )
    assert_close(path.diffusivity(0.5)[1:], torch.zeros(2).double())
    assert_close(path.diffusivity(0.5)[0], whole.diffusivity(0.5)[0])
