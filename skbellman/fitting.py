"""From rows of a matrix to a fitted field: reference, gradient network, scalar network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skbellman.fields import GaussianMixtureField, NeuralField
from skbellman.likelihood import FlowIntegral
from skbellman.matching import denoising_loss, mixed_levels, regression_loss, shared_levels
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan, Record, train

_GROUP = 8  # rows of a batch that share their levels: one factorisation for all of them
_VALIDATION_ROWS = 400
_TRAJECTORY_ROWS = 4096
_VALIDATION_NODES = 16
_RIDGES = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.3)


@dataclass(frozen=True)
class FieldSettings:
    """Shape of the networks and of a batch; see `BellmanDiffusionDensity`."""

    width: int
    depth: int
    dropout: float
    batch_size: int
    conditional_fraction: float


@dataclass(frozen=True)
class Rows:
    """What a field is fitted to.

    Attributes
    ----------
    draws : tensor of shape (n_draws, n, D)
        Training rows; each draw spreads values on a grid anew.
    validation : tensor of shape (n_validation, D)
    validation_log_measure : tensor of shape (n_validation,)
        Added to log-densities of the validation rows when they are reported.
    blocks : tensor of int, shape (D,)
        The table's column that each coordinate belongs to.
    """

    draws: Tensor
    validation: Tensor
    validation_log_measure: Tensor
    blocks: Tensor


def initial_field(rows: Rows, schedule: NoiseSchedule, settings: FieldSettings) -> NeuralField:
    """Return the field before training: the Gaussian with the moments of the rows.

    The ridge on its covariance is the one under which the validation rows are likeliest.
    """
    data = rows.draws.flatten(0, 1).double()
    mean, centred = data.mean(0), data - data.mean(0)
    covariance = centred.T @ centred / len(data)
    eye = torch.eye(len(mean), dtype=data.dtype, device=data.device)
    candidates = [
        GaussianMixtureField.normal(mean, covariance + ridge * eye).to(data) for ridge in _RIDGES
    ]
    floor = schedule(0.0).double()
    scores = [c.log_scalar(rows.validation.double(), floor).mean() for c in candidates]
    best = int(torch.stack(scores).argmax())
    field = NeuralField(candidates[best], settings.width, settings.depth, settings.dropout)
    return field.to(rows.draws)


def fit_gradient(
    field: NeuralField,
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    plan: Plan,
    generator: torch.Generator,
    report: Callable[[Record], bool],
) -> Record:
    """Train the gradient network; the held-out log-density chooses the state."""
    validation = rows.validation[:_VALIDATION_ROWS]
    log_measure = rows.validation_log_measure[: len(validation)].mean()
    levels = shared_levels(schedule, len(validation), generator).squeeze(1)
    noise = _normal(validation.shape, rows.draws, generator)

    def loss(_: nn.Module) -> Tensor:
        clean, sigma = draw_batch(rows, schedule, settings, generator)
        return denoising_loss(field, clean, sigma, _normal(clean.shape, clean, generator))

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        with _swapped(field, "gradient_network", network):
            exact = FlowIntegral(_VALIDATION_NODES).log_density(field, validation, schedule)
            held_out = denoising_loss(
                field, validation.unsqueeze(1), levels.unsqueeze(1), noise.unsqueeze(1)
            )
        return {"score": float(exact.mean() + log_measure), "validation_loss": float(held_out)}

    return train(field.gradient_network, loss, plan, evaluate, report)


def fit_scalar(
    field: NeuralField,
    rows: Rows,
    schedule: NoiseSchedule,
    batch_size: int,
    plan: Plan,
    generator: torch.Generator,
) -> Record:
    """Train the scalar network on the log-densities that the flow passes through.

    Its "score" is minus the root mean squared error, in nats, on held-out trajectories.
    """
    integral = FlowIntegral(_VALIDATION_NODES)
    sample = rows.draws[0, _choose(rows.draws.shape[1], _TRAJECTORY_ROWS, generator)]
    with torch.no_grad():
        levels, x, ratio = integral.log_ratios(field, sample, schedule)
        held_out = integral.log_ratios(field, rows.validation[:_VALIDATION_ROWS], schedule)

    def loss(_: nn.Module) -> Tensor:
        picked = _integers(x.shape[1], max(4 * batch_size // len(x), 1), generator)
        return regression_loss(field, x[:, picked], levels, ratio[:, picked])

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        with _swapped(field, "scalar_network", network):
            error = regression_loss(field, held_out[1], held_out[0], held_out[2]).sqrt()
        return {"score": -float(error)}

    return train(field.scalar_network, loss, plan, evaluate)


def draw_batch(
    rows: Rows, schedule: NoiseSchedule, settings: FieldSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return clean rows, (n_groups, 8, D), and levels, (n_groups, 1, D)."""
    n_draws, n_rows, n_columns = rows.draws.shape
    n_groups = max(settings.batch_size // _GROUP, 2)
    n_mixed = round(settings.conditional_fraction * n_groups)
    levels = []
    if n_mixed < n_groups:
        levels.append(shared_levels(schedule, n_groups - n_mixed, generator))
    if n_mixed:
        levels.append(mixed_levels(schedule, rows.blocks, n_mixed, generator))
    picked = _integers(n_draws * n_rows, n_groups * _GROUP, generator)
    clean = rows.draws.view(-1, n_columns)[picked].view(n_groups, _GROUP, n_columns)
    return clean, torch.cat(levels)


class _swapped:  # noqa: N801 - reads as a verb where it is used
    """While open, the field has another network in place of its own."""

    def __init__(self, field: NeuralField, name: str, network: nn.Module) -> None:
        self.field, self.name, self.network = field, name, network

    def __enter__(self) -> None:
        self.own = getattr(self.field, self.name)
        self.network.eval()
        setattr(self.field, self.name, self.network)

    def __exit__(self, *exception: object) -> None:
        setattr(self.field, self.name, self.own)


def _normal(shape: torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def _integers(high: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(high, (count,), generator=generator, device=generator.device)


def _choose(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Return at most `count` different numbers below n."""
    return torch.randperm(n, generator=generator, device=generator.device)[:count]
