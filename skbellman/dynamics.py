r"""Bellman Diffusion Dynamics: the paper's, at one level, or while the level falls.

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

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from skbellman.fields import ClosedFormField, DensityField
from skbellman.fields.base import Levels
from skbellman.likelihood import FlowIntegral, velocity
from skbellman.schedule import NoiseSchedule, masked


@dataclass(frozen=True)
class Annealing:
    """How the level falls.

    Parameters
    ----------
    n_levels : int
        Levels from the ceiling to the floor; one Heun step of transport between two.
    beta : float
        Size of the Bellman steps, of the safe one; 0 is the probability flow.
    n_steps : int
        Bellman steps at each level.
    n_steps_at_one_level : int
        Steps of a field that has one level alone.
    n_nodes : int
        Of the flow integral that takes the densities of conditions.
    """

    n_levels: int
    beta: float = 0.0
    n_steps: int = 1
    n_steps_at_one_level: int = 2000
    n_nodes: int = 16

    @property
    def integral(self) -> FlowIntegral:
        """What takes the densities of conditions, by which parts of a mixture are drawn."""
        return FlowIntegral(self.n_nodes, "auto")

    def along(
        self,
        field: DensityField,
        given: Tensor,
        schedule: NoiseSchedule,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the rows, (n, D), with their NaN moved from noise at the ceiling to the floor."""
        return annealed_dynamics(field, given, schedule, self, generator)

    def at_one_level(
        self, field: DensityField, n_rows: int, like: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return rows, (n_rows, D), moved at level 0 from a standard normal start."""
        return _from_normal(field, n_rows, like, self, generator)


@dataclass(frozen=True)
class Trajectory:
    """Where Bellman Diffusion Dynamics went.

    Attributes
    ----------
    rows : tensor of shape (n, D)
        At the end.
    times : tensor of shape (n_kept,)
        Times at which rows were kept, evenly spaced in steps or levels, the last one the end. With
        a schedule, its t, which falls from 1 to 0.
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
    beta: float = 1.0,
    sigma: float | Tensor = 0.0,
    schedule: NoiseSchedule | None = None,
    n_levels: int = 80,
    n_kept: int = 1,
) -> Trajectory:
    r"""Move rows by the paper's dynamics, at one level or at each of a falling one.

    .. math:: dx = g(x)\,dt + \sqrt{s(x)}\,dw

    (arXiv 2410.01796, section 3), by Euler and Maruyama. p is stationary, and the law of the
    rows tends to it (theorem 4.1), but between modes, where s is about 0, nothing crosses. With
    a schedule the level falls: the probability flow carries the rows from each level to the
    next, where they make n_steps of the dynamics in units of the noise, x / sigma.

    Parameters
    ----------
    field : DensityField
        Whose density is kept.
    start : tensor of shape (n, D)
        With a schedule, rows of the density at its ceiling, about N(0, sigma_max^2).
    n_steps : int
        Steps at a level. With a schedule it may be 0: the probability flow alone.
    generator : torch.Generator
        On the device of start.
    dt : float, optional
        Time of a step. Without it, 0.05 beta max s / max \|g\|^2, of the largest values met so far
        at the level: rows then move by a fraction of the length over which s changes. With
        a schedule also at most 0.05 beta / max s, a fraction of the noise.
    beta : float, default=1.0
        Factor of the safe step.
    sigma : float or tensor of shape (D,), default=0.0
        Level at which the field is asked where there is no schedule.
    schedule : NoiseSchedule, optional
        Levels from the ceiling to the floor.
    n_levels : int, default=80
        How many of them.
    n_kept : int, default=1
        How many times along the way rows are kept.

    Returns
    -------
    Trajectory
        The rows at the end, and those kept along the way.

    Raises
    ------
    ValueError
        If start has the wrong number of columns or is not finite; if n_steps, n_levels, beta or dt is
        out of range; if dt is so large that rows jump over the length on which s changes (the
        message names a safe one); if it is left out where g is 0 at every row, so that no length
        is known.

    Examples
    --------
    >>> import torch
    >>> from skbellman.dynamics import bellman_dynamics
    >>> from skbellman.fields import GaussianMixtureField
    >>> from skbellman.schedule import NoiseSchedule
    >>> field = GaussianMixtureField.normal(torch.zeros(1), torch.eye(1))
    >>> start = 4 * torch.rand(2000, 1) - 2
    >>> path = bellman_dynamics(field, start, 500, torch.Generator().manual_seed(0))
    >>> bool((path.rows.std() - 1).abs() < 0.2)
    True

    From noise, while the level falls:

    >>> noise = 20 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    >>> schedule = NoiseSchedule(torch.tensor([0.01]), torch.tensor([20.0]))
    >>> path = bellman_dynamics(
    ...     field, noise, 1, torch.Generator().manual_seed(1), schedule=schedule
    ... )
    >>> bool((path.rows.std() - 1).abs() < 0.1)
    True
    """  # noqa: E501 - one formula
    _check_start(field, start)
    n_moves = n_steps if schedule is None else n_levels
    _check_numbers(n_steps, n_levels, dt, beta, falling=schedule is not None)
    if not 1 <= n_kept <= n_moves:
        raise ValueError(f"n_kept must be from 1 to {n_moves}, got {n_kept}.")
    stepper = _Stepper(field, generator, dt, beta)
    if schedule is None:
        moves = _at_one_level(stepper, start, n_steps, sigma)
    else:
        moves = _while_it_falls(stepper, start, n_steps, schedule, n_levels)
    keep_at = {round((k + 1) * n_moves / n_kept) for k in range(n_kept)}
    kept = [move for i, move in enumerate(moves, 1) if i in keep_at]
    times, rows = (torch.stack(parts) for parts in zip(*kept, strict=True))
    return Trajectory(rows[-1], times, rows, int(stepper.n_negative))


def _at_one_level(
    stepper: _Stepper, x: Tensor, n_steps: int, sigma: float | Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the time and the rows after each step."""
    for moved in stepper.steps(x, n_steps, sigma):
        yield stepper.time, moved


def _while_it_falls(
    stepper: _Stepper, x: Tensor, n_steps: int, schedule: NoiseSchedule, n_levels: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield t and the rows at each level."""
    for begin, end in pairwise(torch.linspace(1.0, 0.0, n_levels + 1).tolist()):
        x = heun_step(stepper.field, x, schedule, begin, end)
        for moved in stepper.steps(x, n_steps, schedule(end), schedule.diffusivity(end) > 0):
            x = moved
        yield torch.tensor(end, dtype=torch.float64, device=x.device), x


class _Stepper:
    """Steps of the dynamics, of a size that suits the largest s and g met at the level.

    The safe size is a part of max s / max |g|^2: the square of the length over which s changes,
    over max s.
    """

    def __init__(
        self,
        field: DensityField,
        generator: torch.Generator,
        dt: float | None,
        beta: float,
        safe_part: float = 0.05,
    ) -> None:
        self.field, self.generator, self.dt, self.beta = field, generator, dt, beta
        self.safe_part = safe_part
        self.time = torch.zeros((), device=generator.device, dtype=torch.float64)
        self.n_negative = torch.zeros((), device=generator.device)

    def steps(
        self,
        x: Tensor,
        n_steps: int,
        sigma: Levels,
        moving: Tensor | None = None,
        check_every: int = 50,
    ) -> Iterator[Tensor]:
        """Yield the rows after each step.

        With a mask of columns that move, steps are in units of the noise and parts of it; without
        one their size is checked now and then, as that waits for the device.
        """
        shortest = 0.0 if moving is None else 1.0
        unit = x.new_ones(()) if moving is None else torch.where(moving, sigma, 0.0)
        largest_s = largest_g = x.new_zeros(())
        for step in range(1, n_steps + 1):
            s, g = self.field.scalar(x, sigma), unit * self.field.gradient(x, sigma)
            self.n_negative = self.n_negative + (s < 0).sum()
            largest_s = torch.maximum(largest_s, s.max())
            largest_g = torch.maximum(largest_g, g.square().sum(-1).max())
            scale = 1 / torch.maximum(largest_g / largest_s, shortest * largest_s)
            if moving is not None:  # where the density is 0 in all rows, they stay
                scale = torch.where(torch.isfinite(scale), scale, 0.0)
            elif step % check_every == 1 or step == n_steps:
                self._check_step(float(scale))
            dt = self.safe_part * self.beta * scale if self.dt is None else x.new_tensor(self.dt)
            x = x + unit * euler_maruyama_increment(g, s.clamp(min=0), dt, self.generator)
            self.time = self.time + dt.double()
            yield x

    def _check_step(self, scale: float, largest_part: float = 1.0) -> None:
        if self.dt is None and not 0 < scale < math.inf:
            raise ValueError(
                "no length is known over which the density changes, as its gradient is 0 (or its "
                "values are not positive) at every row: start nearer to it, or set dt."
            )
        if self.dt is not None and self.dt > largest_part * scale:
            raise ValueError(
                f"dt={self.dt:g} is too large for this field: rows would jump over the length on "
                f"which its density changes. Use at most {self.safe_part * scale:.2g}, or leave "
                "dt out."
            )


def euler_maruyama_increment(
    g: Tensor, s: Tensor, dt: Tensor, generator: torch.Generator
) -> Tensor:
    """Return g dt + sqrt(s dt) n, for g of shape (n, D) and s of shape (n,)."""
    return g * dt + (s * dt).sqrt().unsqueeze(-1) * _normal(g, generator)


def _check_start(field: DensityField, start: Tensor) -> None:
    if start.dim() != 2 or start.shape[1] != field.n_columns:
        raise ValueError(
            f"start must have shape (n, {field.n_columns}), as the field has {field.n_columns} "
            f"columns; got {tuple(start.shape)}."
        )
    if not bool(torch.isfinite(start).all()):
        raise ValueError("start holds values that are not finite.")


def _check_numbers(
    n_steps: int, n_levels: int, dt: float | None, beta: float, falling: bool
) -> None:
    least = 0 if falling else 1
    if n_steps < least or n_levels < 1:
        raise ValueError(
            f"n_steps must be at least {least} and n_levels at least 1, got {n_steps}, {n_levels}."
        )
    if dt is not None and not dt > 0:
        raise ValueError(f"dt must be positive, got {dt}.")
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}; for the flow alone set n_steps=0.")


@torch.no_grad()
def draw_rows(
    field: DensityField,
    n_rows: int,
    schedule: NoiseSchedule,
    annealing: Annealing,
    generator: torch.Generator,
) -> Tensor:
    """Draw rows from p at the floor of the schedule.

    Each row of a `Mixture` comes from one of its parts; a closed form draws its own rows, a field
    with a reference has them from annealed dynamics, a direct field from dynamics at its one level
    and a standard normal start.

    Parameters
    ----------
    field : DensityField
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
        For a field without a reference.
    """
    nothing = torch.full_like(schedule.floor, torch.nan).expand(n_rows, -1)
    return draw_given(field, nothing, schedule, annealing, generator)


@torch.no_grad()
def draw_given(
    field: DensityField,
    given: Tensor,
    schedule: NoiseSchedule,
    annealing: Annealing,
    generator: torch.Generator,
) -> Tensor:
    r"""Fill rows by draws given what they hold.

    The dynamics restricted to the columns A that are to be drawn leave :math:`p(x_A | x_B)`
    invariant, for it is proportional to :math:`p(x_A, x_B)` in :math:`x_A`: the given columns B
    are held at the floor, and the others move. A row of a `Mixture` comes from a part drawn by
    the part's weight times its marginal density of what the row holds.

    Parameters
    ----------
    field : DensityField
    given : tensor of shape (n, D)
        NaN where a value is to be drawn.
    schedule, annealing, generator
        As for `draw_rows`.

    Returns
    -------
    tensor of shape (n, D)
        The given values as they were.

    Raises
    ------
    TypeError
        For a field without a reference.
    ValueError
        For a field without conditionals, where anything is given.
    """
    return field.fill(given, schedule, annealing, generator)


def _from_normal(
    field: DensityField,
    n_rows: int,
    like: Tensor,
    annealing: Annealing,
    generator: torch.Generator,
    least_rows: int = 256,
) -> Tensor:
    """Return rows, (n_rows, D), moved at level 0 from a standard normal start.

    Enough are moved to tell a safe step: of a few, all may lie where s is not positive.
    """
    start = _normal(like[:1].expand(max(n_rows, least_rows), -1), generator)
    if not bool((field.scalar(start, 0.0) > 0).any()):
        raise ValueError(
            "the scalar network is positive at no row of a standard normal start, so that the "
            "paper's dynamics do not move: fit with more n_steps, or a BellmanDiffusionDensity."
        )
    return bellman_dynamics(field, start, annealing.n_steps_at_one_level, generator).rows[:n_rows]


@torch.no_grad()
def annealed_dynamics(
    field: DensityField,
    given: Tensor,
    schedule: NoiseSchedule,
    annealing: Annealing,
    generator: torch.Generator,
) -> Tensor:
    """Move what is NaN in the rows from noise at the ceiling to the floor: (n, D)."""
    held = ~torch.isnan(given)
    floor, ceiling = schedule(0.0), schedule(1.0)
    # At the ceiling the field is its reference.
    start = _reference_of(field).fill(given, schedule, annealing, generator)
    start = start + (ceiling**2 - floor**2).sqrt() * _normal(start, generator)
    path, start = masked(schedule, torch.where(held, given, start), held)
    if bool(held.any()):
        start = start + _conditional_shift(field, start, path)
    still = annealing.beta == 0
    moved = bellman_dynamics(
        _Bounded(field),
        start,
        0 if still else annealing.n_steps,
        generator,
        beta=1.0 if still else annealing.beta,
        schedule=path,
        n_levels=annealing.n_levels,
    ).rows
    return torch.where(held, given, moved)


def _reference_of(field: DensityField) -> ClosedFormField:
    return cast("ClosedFormField", field.reference)


def _conditional_shift(field: DensityField, x: Tensor, path: NoiseSchedule) -> Tensor:
    r"""Return what the conditional means of the field are off the reference's, at the ceiling.

    By Tweedie's formula the mean given x is :math:`x + \sigma^2 h`; the reference's is the field's
    where nothing is held.
    """
    _, residual = field.gradient_parts(x, path(1.0))
    moving = path.diffusivity(1.0) > 0
    return torch.where(moving, path(1.0).square() * residual, 0.0)


class _Bounded(DensityField):
    r"""A field in units of its typical density, bounded, with a drift that forgives errors of s.

    As s it gives a = s / typical s, up to a bound; as g, (grad a + a h) / 2, which is grad a
    where the two networks agree, and keeps p invariant where they do not.

    a varies over the typical set by exp(+-2 sqrt(D/2)); above ``largest`` it is held constant.
    """

    def __init__(self, field: DensityField, largest: float = 2.0) -> None:
        super().__init__()
        self.field, self.n_columns, self.largest = field, field.n_columns, largest

    def scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        excess = self.field.log_scalar(x, sigma) - typical_log_scalar(self.field, sigma)
        # Bounded before it is a power: beyond the bound it has a slope of 0, not of 0 times inf.
        return excess.nan_to_num(-math.inf).clamp(max=math.log(self.largest)).exp()

    def gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            a = self.scalar(x, sigma)
            (slope,) = torch.autograd.grad(a.sum(), x)
        h = self.field.log_gradient(x.detach(), sigma)
        drift = 0.5 * (slope + a.detach().unsqueeze(-1) * h)
        return drift.nan_to_num(0.0, 0.0, 0.0)  # rows so far out that fields overflow stay there

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        return self.field.log_scalar(x, sigma)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        return self.field.log_gradient(x, sigma)


def heun_step(
    field: DensityField, x: Tensor, schedule: NoiseSchedule, start: float, stop: float
) -> Tensor:
    """Move x along the probability flow from t = start to t = stop, second order."""
    slope = velocity(field, x, schedule, start)
    end_slope = velocity(field, x + (stop - start) * slope, schedule, stop)
    return x + (stop - start) * (slope + end_slope) / 2


def typical_log_scalar(field: DensityField, sigma: Levels) -> Tensor:
    """Return about E log s_0(x, sigma): exact for a reference of one Gaussian."""
    reference = _reference_of(field)
    return reference.log_scalar(reference.centre(), sigma) - 0.5 * field.n_columns


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
