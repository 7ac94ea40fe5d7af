"""The scalar network, learned from samples of its own field at its first use."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from skbellman.fields import NeuralField
from skbellman.fields.networks import ResidualNetwork
from skbellman.likelihood import FlowIntegral
from skbellman.matching import regression_loss
from skbellman.optimiser import HIDDEN_RATE
from skbellman.sampling import Annealing
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan, swapped, train


class ScalarLearner(nn.Module):
    """A learner of the scalar network of a `NeuralField`, from samples of the field.

    The network is a regression on log-densities along trajectories of the flow. No rows of the
    table are needed or kept.

    Parameters
    ----------
    schedule : NoiseSchedule
        Levels of the field.
    seed : int
        Seed of the samples and the training.
    n_draws : int, default=4096
        Number of samples, of which a sixteenth is held out.
    batch_size : int, default=2048
        Positions in a training step.
    """

    def __init__(
        self, schedule: NoiseSchedule, seed: int, n_draws: int = 4096, batch_size: int = 2048
    ) -> None:
        super().__init__()
        self.schedule = copy.deepcopy(schedule)
        self.seed, self.n_draws, self.batch_size = seed, n_draws, batch_size

    def learned(self, field: NeuralField) -> tuple[ResidualNetwork, float]:
        """Return the scalar network, and its mean absolute error in nats on held-out positions.

        The field is not changed.
        """
        own, schedule = copy.deepcopy(field).float().eval(), copy.deepcopy(self.schedule).float()
        own.scalar_learner = None
        generator = torch.Generator(schedule.floor.device).manual_seed(self.seed)
        with torch.no_grad():
            nothing = torch.full_like(schedule.floor, torch.nan).expand(self.n_draws, -1)
            x = own.fill(nothing, schedule, Annealing(n_levels=16), generator)
            n_judges = self.n_draws // 16
            held_out = FlowIntegral(16, "auto").log_ratios(own, x[:n_judges], schedule)
            known = trajectories(own, x[n_judges:], schedule)
        record = train(
            own.scalar_network,
            lambda network: regression_loss(own, *self._some(known, generator)),
            Plan(n_steps=500, learning_rate=3e-3, hidden_rate=HIDDEN_RATE),
            lambda network: {"score": -_error(own, network, *held_out)},
        )
        best = max((figures["score"] for figures in record.scores), default=torch.nan)
        return own.scalar_network.to(field.reference.log_weights), -best

    def _some(
        self, known: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return positions, levels and log-ratios of some trajectories."""
        levels, x, ratio = known
        count = max(self.batch_size // len(x), 1)
        picked = torch.randint(x.shape[1], (count,), generator=generator, device=generator.device)
        return x[:, picked], levels, ratio[:, picked]


def trajectories(
    field: NeuralField, x: Tensor, schedule: NoiseSchedule, n_probes: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """Return levels, positions and log-ratios along the flow of some rows.

    The divergence is noisy, but a regression averages its error: see
    doc/decisions/scalar-network.md.
    """
    integral = FlowIntegral(16, n_probes if x.shape[1] > n_probes else None)
    return integral.log_ratios(field, x, schedule)


@torch.no_grad()
def _error(
    field: NeuralField, network: nn.Module, levels: Tensor, x: Tensor, ratio: Tensor
) -> float:
    """Return the mean absolute error of a scalar network, in nats."""
    with swapped(field, "scalar_network", network):
        return float((field.log_scalar_residual(x, levels) - ratio).abs().mean())
