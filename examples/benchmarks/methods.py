"""The objectives on rows of numbers: equal networks, batches and steps, nothing beside them."""

from __future__ import annotations

import torch
from torch import Tensor

from skbellman.batches import FieldSettings, Rows
from skbellman.closed_forms import fit_reference
from skbellman.dynamics import bellman_dynamics
from skbellman.fields import DensityField, DirectField, NeuralField
from skbellman.fitting import fit_gradient
from skbellman.likelihood import FlowIntegral
from skbellman.matching import kernel_density
from skbellman.paper import Matching, fit_direct
from skbellman.sampling import Annealing, draw_rows
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan

SETTINGS = FieldSettings(64, depth=3, dropout=0.0, batch_size=256, conditional_fraction=0.0)
N_BELLMAN_STEPS = 1000


def number_rows(train: Tensor, held_out: Tensor) -> Rows:
    """Return the rows of a table of numbers alone."""
    log_measure = torch.zeros(len(held_out))
    return Rows(train[None], held_out, log_measure, torch.arange(train.shape[1]), corners=[])


def fit_paper(rows: Rows, matching: Matching, plan: Plan, seed: int) -> DirectField:
    """Return the paper's field: networks for g and s, at one level."""
    torch.manual_seed(seed)  # of the weights that networks begin with
    field = fit_direct(rows, matching, SETTINGS, plan, seed, lambda record: False).field.fields[0]
    return field.requires_grad_(False)  # type: ignore[return-value]


def paper_draws(field: DensityField, n_rows: int, generator: torch.Generator) -> Tensor:
    """Return rows after 1000 steps of the paper's dynamics from standard normal ones."""
    start = torch.randn(n_rows, field.n_columns, generator=generator)
    return bellman_dynamics(field, start, N_BELLMAN_STEPS, generator).rows


def fit_denoising(
    rows: Rows, plan: Plan, seed: int, floor: float
) -> tuple[NeuralField, NoiseSchedule]:
    """Return the library's networks, without the closed forms in and beside them."""
    ones = torch.ones(rows.draws.shape[-1])
    schedule = NoiseSchedule(floor * ones, 20 * ones)
    torch.manual_seed(seed)
    reference = fit_reference(rows, schedule)
    field = NeuralField(reference, SETTINGS.width, SETTINGS.depth).to(rows.draws)
    generator = torch.Generator().manual_seed(seed)
    fit_gradient(field, rows, schedule, SETTINGS, plan, generator, lambda record: False)
    return field.eval().requires_grad_(False), schedule


def denoising_fields(
    field: NeuralField, schedule: NoiseSchedule, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return s, by the flow integral, and g = s h."""
    s = FlowIntegral(32).log_density(field, x, schedule).exp()
    return s, s.unsqueeze(-1) * field.log_gradient(x, schedule(0.0))


def denoising_draws(
    field: NeuralField, schedule: NoiseSchedule, n_rows: int, generator: torch.Generator
) -> Tensor:
    """Return rows by the probability flow, 16 levels."""
    return draw_rows(field, n_rows, schedule, Annealing(16), generator)


def kernel_fields(x: Tensor, train: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return s and g of the kernel density estimate."""
    x = x.clone().requires_grad_()
    s = kernel_density(x, train, eps)
    (g,) = torch.autograd.grad(s.sum(), x)
    return s.detach(), g


def kernel_draws(train: Tensor, eps: float, n_rows: int, generator: torch.Generator) -> Tensor:
    """Return rows of the kernel density estimate."""
    picked = train[torch.randint(len(train), (n_rows,), generator=generator)]
    return picked + eps**0.5 * torch.randn(picked.shape, generator=generator)
