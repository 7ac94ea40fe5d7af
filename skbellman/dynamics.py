r"""Bellman Diffusion Dynamics: the paper's, at one level, and annealed from noise to rows.

The paper's dynamics, :math:`dx = g\,dt + \sqrt{s}\,dw` (arXiv 2410.01796, section 3), leave p
invariant but cross between separated modes in exponential time. When annealed, the level falls from
the ceiling to the floor and, at any beta >= 0, the marginals :math:`p_{\sigma(t)}` are kept:

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

from skbellman.fields import ClosedFormField, DensityField, DirectField, Mixture, NeuralField
from skbellman.likelihood import velocity
from skbellman.schedule import NoiseSchedule

# a(x) varies over the typical set by exp(+-2 sqrt(D/2)); beyond this it is held constant.
_MAX_DIFFUSION = 2.0
# Step of the Bellman dynamics in units of sigma^2 / max a: larger ones widen p_sigma.
_BELLMAN_STEP = 0.05
# At a fixed level, of max s / max |g|^2, the square of the length over which s changes, over max s.
_SAFE_STEP = 0.05
_LARGEST_STEP = 1.0
_CHECK_EVERY = 50
_STEPS_A_LEVEL = 25


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


@dataclass(frozen=True)
class Trajectory:
    """Where Bellman Diffusion Dynamics went.

    Attributes
    ----------
    rows : tensor of shape (n, D)
        At the end.
    times : tensor of shape (n_kept,)
        Times at which rows were kept, evenly spaced in steps, the last one the end.
    kept : tensor of shape (n_kept, n, D)
    n_negative : int
        Values of s that were negative, and taken as 0.
    """

    rows: Tensor
    times: Tensor
    kept: Tensor
    n_negative: int


@torch.no_grad()
def bellman_dynamics(
    field: DensityField,
    start: Tensor,
    n_steps: int,
    generator: torch.Generator,
    *,
    dt: float | None = None,
    sigma: float | Tensor = 0.0,
    n_kept: int = 1,
) -> Trajectory:
    r"""Move rows by the paper's dynamics at one level.

    .. math:: dx = g(x)\,dt + \sqrt{s(x)}\,dw

    (arXiv 2410.01796, section 3), by Euler and Maruyama. p is stationary, and the law of the
    rows tends to it (theorem 4.1), but between modes, where s is about 0, nothing crosses.

    Parameters
    ----------
    field : DensityField
    start : tensor of shape (n, D)
    n_steps : int
    generator : torch.Generator
        On the device of start.
    dt : float, optional
        Time of a step. Without it, 0.05 max s / max \|g\|^2, of the largest values met so far:
        rows then move by a fraction of the length over which s changes.
    sigma : float or tensor of shape (D,), default=0.0
        Level at which the field is asked.
    n_kept : int, default=1
        How many times along the way rows are kept.

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        If start has the wrong number of columns or is not finite, if dt is not positive, or so
        large that rows jump over the length on which s changes; the message names a safe dt.

    Examples
    --------
    >>> import torch
    >>> from skbellman.dynamics import bellman_dynamics
    >>> from skbellman.fields import GaussianMixtureField
    >>> field = GaussianMixtureField.normal(torch.zeros(1), torch.eye(1))
    >>> start = 4 * torch.rand(2000, 1) - 2
    >>> path = bellman_dynamics(field, start, 500, torch.Generator().manual_seed(0))
    >>> bool((path.rows.std() - 1).abs() < 0.2)
    True
    """
    _check_start(field, start, dt)
    keep_at = {round((k + 1) * n_steps / n_kept) for k in range(n_kept)}
    x, time, kept, times = start, start.new_zeros(()), [], []
    largest_s = largest_g = n_negative = start.new_zeros(())
    for step in range(1, n_steps + 1):
        s, g = field.scalar(x, sigma), field.gradient(x, sigma)
        n_negative = n_negative + (s < 0).sum()
        largest_s = torch.maximum(largest_s, s.max())
        largest_g = torch.maximum(largest_g, g.square().sum(-1).max())
        scale = largest_s / largest_g
        if dt is not None and (step % _CHECK_EVERY == 1 or step == n_steps):
            _check_step(dt, float(scale))  # now and then: it waits for the device
        step_dt = _SAFE_STEP * scale if dt is None else start.new_tensor(dt)
        x = euler_maruyama_step(x, g, s.clamp(min=0), step_dt, generator)
        time = time + step_dt
        if step in keep_at:
            kept.append(x)
            times.append(time)
    return Trajectory(x, torch.stack(times), torch.stack(kept), int(n_negative))


def euler_maruyama_step(
    x: Tensor, g: Tensor, s: Tensor, dt: Tensor, generator: torch.Generator
) -> Tensor:
    """Return x + g dt + sqrt(s dt) n, for g of shape (n, D) and s of shape (n,)."""
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + g * dt + (s * dt).sqrt().unsqueeze(-1) * noise


def _check_start(field: DensityField, start: Tensor, dt: float | None) -> None:
    if start.dim() != 2 or start.shape[1] != field.n_columns:
        raise ValueError(
            f"start must have shape (n, {field.n_columns}), as the field has {field.n_columns} "
            f"columns; got {tuple(start.shape)}."
        )
    if not bool(torch.isfinite(start).all()):
        raise ValueError("start holds values that are not finite.")
    if dt is not None and not dt > 0:
        raise ValueError(f"dt must be positive, got {dt}.")


def _check_step(dt: float, scale: float) -> None:
    if dt > _LARGEST_STEP * scale:
        raise ValueError(
            f"dt={dt:g} is too large for this field: rows would jump over the length on which its "
            f"density changes. Use at most {_SAFE_STEP * scale:.2g}, or leave dt out."
        )


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
    neural field's come from annealed dynamics, a direct field's from dynamics at its one level
    and a standard normal start.

    Parameters
    ----------
    field : NeuralField, ClosedFormField, DirectField, or Mixture of such
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
    if isinstance(field, DirectField):
        shape, like = (n_rows, field.n_columns), schedule.floor
        start = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        n_steps = _STEPS_A_LEVEL * annealing.n_levels
        return bellman_dynamics(field, start, n_steps, generator).rows
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
    step = x.new_tensor(beta * _BELLMAN_STEP / _MAX_DIFFUSION)
    drift = 0.5 * sigma * (grad_a + a * field.log_gradient(x, sigma))
    return sigma * euler_maruyama_step(x / sigma, drift, a.squeeze(-1), step, generator)


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
