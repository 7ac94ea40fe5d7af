"""Training rows whose missing values are drawn from a field."""

from __future__ import annotations

from dataclasses import replace

import torch

from skbellman.batches import FieldSettings, Rows, draw_batches
from skbellman.completion import drawn_gaps
from skbellman.fields import GaussianMixtureField
from skbellman.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule(torch.full((2,), 0.01), torch.full((2,), 20.0))


def rows_with_gaps(n: int) -> tuple[GaussianMixtureField, Rows]:
    """Return a normal law of correlation 0.8, and rows of it that lack y in every second row."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    law = GaussianMixtureField.normal(torch.zeros(2), covariance)
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    x = x @ torch.linalg.cholesky(covariance).T
    x[::2, 1] = torch.nan
    return law, Rows(x[None], x[:9], torch.zeros(9), torch.arange(2), corners=[])


def test_missing_values_have_their_conditional_law():
    law, rows = rows_with_gaps(20_000)
    drawn = drawn_gaps(law, rows, SCHEDULE, torch.Generator().manual_seed(1))
    x, y = drawn.draws[0, ::2].T
    rest = y - 0.8 * x
    assert abs(float(rest.mean())) < 0.02
    assert abs(float(rest.std()) - 0.6) < 0.02
    assert abs(float((rest * x).mean())) < 0.02
    assert torch.equal(drawn.draws[0, 1::2], rows.draws[0, 1::2])
    assert torch.equal(drawn.drawn, torch.isnan(rows.draws[0]))


def test_a_number_that_a_point_mass_hides_is_not_drawn():
    law, rows = rows_with_gaps(50)
    rows.draws[0, ::4, 0] = torch.nan
    rows = replace(rows, can_be_missing=torch.tensor([True, False]))
    drawn = drawn_gaps(law, rows, SCHEDULE, torch.Generator().manual_seed(1))
    assert not torch.isnan(drawn.draws[..., 0]).any()
    assert torch.isnan(drawn.draws[0, ::2, 1]).all()
    assert not replace(rows, draws=rows.draws[:, 2::4]).has_gaps


def test_of_many_rows_that_lack_values_the_first_are_drawn():
    law, rows = rows_with_gaps(100)
    drawn = drawn_gaps(law, rows, SCHEDULE, torch.Generator().manual_seed(1), most=10)
    assert drawn.draws.shape == (1, 20, 2)
    assert not torch.isnan(drawn.draws).any()


def test_conditions_are_what_rows_hold():
    law, rows = rows_with_gaps(1000)
    drawn = drawn_gaps(law, rows, SCHEDULE, torch.Generator().manual_seed(1))
    settings = FieldSettings(8, 1, 0.0, 512, conditional_fraction=0.5)
    clean, levels, _ = draw_batches(drawn, SCHEDULE, settings, torch.Generator().manual_seed(2), 4)
    given = (levels == SCHEDULE.floor).any(-1, keepdim=True).expand((*clean.shape[:-1], 1))
    lacks = torch.isnan(clean).any(-1, keepdim=True)
    assert not lacks[~given].any()
    assert 0.4 < float(lacks[given].float().mean()) < 0.6
