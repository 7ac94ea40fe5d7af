r"""Annealed Bellman Diffusion Dynamics: from noise to rows.

The paper's dynamics, :math:`dx = g\,dt + \sqrt{s}\,dw` (arXiv 2410.01796, eq. 9), leave p invariant
but cross between separated modes in exponential time. Here the level falls from the ceiling
to the floor and, at any beta >= 0, the marginals :math:`p_{\sigma(t)}` are kept:

.. math:: dx = -\dot\sigma \sigma h \, dt
          + \beta \left[ \tfrac12 \sigma^2 (\nabla a + a h) \, d\tau
          + \sigma \sqrt{a} \, dw \right], \qquad a(x) = s(x, \sigma) / \bar s(\sigma).

The bracket is the paper's equation in units of the noise: with consistent fields
:math:`\tfrac12 (\nabla a + a h) = g / \bar s`. Written with :math:`\nabla a` from the scalar
field and h from the gradient field it keeps :math:`p_\sigma` for any positive a, so an error of
the scalar field costs speed, not correctness.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from skbellman.fields import ClosedFormField, DensityField, Mixture, NeuralField
from skbellman.likelihood import velocity
from skbellman.schedule import NoiseSchedule

# a(x) varies over the typical set by exp(+-2 sqrt(D/2)); beyond this it is held constant.
_MAX_DIFFUSION = 2.0
# Step of the Bellman dynamics in units of sigma^2 / max a: larger ones widen p_sigma.
_BELLMAN_STEP = 0.05


@dataclass(frozen=True)
class Annealing:
    """How the level falls.

    Parameters
    ----------
    n_levels : int
        Levels from the ceiling to the floor; one Heun step of transport between two.
    beta : float
        Strength of the Bellman dynamics at each level; 0 is the probability flow.
    n_steps : int
        Bellman steps at each level.
    """

    n_levels: int
    beta: float = 0.0
    n_steps: int = 1


@torch.no_grad()
def draw_rows(
    field: DensityField,
    n_rows: int,
    schedule: NoiseSchedule,
    annealing: Annealing,
    generator: torch.Generator,
) -> Tensor:
    """Draw rows from p at the floor of the schedule.

    Each row of a `Mixture` comes from one of its parts; a closed form draws its own rows, a
    neural field's come from annealed dynamics.

    Parameters
    ----------
    field : NeuralField, ClosedFormField, or Mixture of such
    n_rows : int
    schedule : NoiseSchedule
    annealing : Annealing
    generator : torch.Generator
        On the field's device.

    Returns
    -------
    tensor of shape (n_rows, D)

    Raises
    ------
    TypeError
        For a field of another kind.
    """
    if isinstance(field, ClosedFormField):
        return field.draw(n_rows, schedule(0.0), generator)
    if isinstance(field, NeuralField):
        return annealed_dynamics(field, n_rows, schedule, annealing, generator)
    if not isinstance(field, Mixture):
        raise TypeError(f"{type(field).__name__} cannot be drawn from.")
    part_of_row = torch.multinomial(field.weights, n_rows, replacement=True, generator=generator)
    x = schedule.floor.new_empty(n_rows, field.n_columns)
    for k, part in enumerate(field.fields):
        rows = part_of_row == k
        if n_part := int(rows.sum()):
            x[rows] = draw_rows(part, n_part, schedule, annealing, generator)
    return x


@torch.no_grad()
def annealed_dynamics(
    field: NeuralField,
    n_rows: int,
    schedule: NoiseSchedule,
    annealing: Annealing,
    generator: torch.Generator,
) -> Tensor:
    """Move rows from noise at the ceiling to the floor of the schedule: (n_rows, D)."""
    # At the ceiling the field is its reference.
    x = field.reference.draw(n_rows, schedule(1.0), generator)
    grid = torch.linspace(1.0, 0.0, annealing.n_levels + 1).tolist()
    for start, stop in pairwise(grid):
        x = heun_step(field, x, schedule, start, stop)
        for _ in range(annealing.n_steps if annealing.beta > 0 else 0):
            x = bellman_step(field, x, schedule(stop), annealing.beta, generator)
    return x


def heun_step(
    field: DensityField, x: Tensor, schedule: NoiseSchedule, start: float, stop: float
) -> Tensor:
    """Move x along the probability flow from t = start to t = stop, second order."""
    slope = velocity(field, x, schedule, start)
    end_slope = velocity(field, x + (stop - start) * slope, schedule, stop)
    return x + (stop - start) * (slope + end_slope) / 2


def bellman_step(
    field: NeuralField, x: Tensor, sigma: Tensor, beta: float, generator: torch.Generator
) -> Tensor:
    """Move x by one Euler-Maruyama step of Bellman Diffusion Dynamics at one level."""
    a, grad_a = _diffusion(field, x, sigma)
    step = beta * _BELLMAN_STEP / _MAX_DIFFUSION
    drift = 0.5 * sigma.square() * (grad_a + a * field.log_gradient(x, sigma))
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + step * drift + sigma * (step * a).sqrt() * noise


def _diffusion(field: NeuralField, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return a(x) = s(x, sigma) / typical s, bounded, shape (n, 1), and its gradient."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_a = field.log_scalar(x, sigma) - typical_log_scalar(field, sigma)
        a = log_a.exp().clamp(max=_MAX_DIFFUSION)
        (grad_a,) = torch.autograd.grad(a.sum(), x)
    return a.detach().unsqueeze(-1), grad_a


def typical_log_scalar(field: NeuralField, sigma: Tensor) -> Tensor:
    """Return about E log s_0(x, sigma): exact for a reference of one Gaussian."""
    return field.reference.log_scalar(field.reference.centre(), sigma) - 0.5 * field.n_columns
