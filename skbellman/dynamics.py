r"""The paper's Bellman Diffusion Dynamics, at one level (arXiv 2410.01796, section 3).

:math:`dx = g\,dt + \sqrt{s}\,dw` leaves p invariant, but crosses between separated modes in
exponential time. So the library samples by annealed dynamics, see `skbellman.solvers`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from skbellman.fields import DensityField


@dataclass(frozen=True)
class Trajectory:
    """The result of Bellman Diffusion Dynamics.

    Attributes
    ----------
    rows : tensor of shape (n, D)
        Rows at the end.
    times : tensor of shape (n_kept,)
        Times at which rows were kept, evenly spaced in steps. The last one is the end.
    kept : tensor of shape (n_kept, n, D)
    n_negative : int
        Number of negative values of s, which were set to 0.
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
    n_kept: int = 1,
) -> Trajectory:
    r"""Move rows by the paper's dynamics, at one level.

    .. math:: dx = g(x)\,dt + \sqrt{s(x)}\,dw

    (arXiv 2410.01796, section 3), by the Euler-Maruyama scheme. p is stationary, and the
    distribution of the rows tends to it (theorem 4.1). But rows hardly cross between modes, where s
    is about 0.

    Parameters
    ----------
    field : DensityField
        Field with the stationary density.
    start : tensor of shape (n, D)
        Rows to begin with.
    n_steps : int
        Steps of the dynamics.
    generator : torch.Generator
        On the device of start.
    dt : float, optional
        Time of a step. By default 0.05 beta max s / max \|g\|^2, with the largest values so far:
        then rows move by a fraction of the length over which s changes.
    beta : float, default=1.0
        Factor of the safe step.
    sigma : float or tensor of shape (D,), default=0.0
        Level at which the field is evaluated.
    n_kept : int, default=1
        Number of times at which rows are kept.

    Returns
    -------
    Trajectory
        The rows at the end, and those kept along the way.

    Raises
    ------
    ValueError
        If start has the wrong number of columns or is not finite. If n_steps, n_kept, beta or dt is
        out of range. If dt is so large that rows jump over the length on which s changes; the
        message names a safe dt. If dt is left out and g is 0 at every row.

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
    check_start(field, start)
    _check_numbers(n_steps, n_kept, dt, beta)
    stepper = _Stepper(field, generator, dt, beta)
    keep_at = {round((k + 1) * n_steps / n_kept) for k in range(n_kept)}
    moves = enumerate(stepper.steps(start, n_steps, sigma), 1)
    kept = [(stepper.time, rows) for i, rows in moves if i in keep_at]
    times, rows = (torch.stack(parts) for parts in zip(*kept, strict=True))
    return Trajectory(rows[-1], times, rows, int(stepper.n_negative))


class _Stepper:
    """Steps of the dynamics, with a size that suits the largest s and g so far.

    The safe size is a fraction of max s / max |g|^2. This is the square of the length over which s
    changes, divided by max s.
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
        self, x: Tensor, n_steps: int, sigma: float | Tensor, check_every: int = 50
    ) -> Iterator[Tensor]:
        """Yield the rows after each step.

        The size of a step is checked only sometimes, because a check waits for the device.
        """
        largest_s = largest_g = x.new_zeros(())
        for step in range(1, n_steps + 1):
            s, g = self.field.scalar(x, sigma), self.field.gradient(x, sigma)
            self.n_negative = self.n_negative + (s < 0).sum()
            largest_s = torch.maximum(largest_s, s.max())
            largest_g = torch.maximum(largest_g, g.square().sum(-1).max())
            scale = largest_s / largest_g
            if step % check_every == 1 or step == n_steps:
                self._check_step(float(scale))
            dt = self.safe_part * self.beta * scale if self.dt is None else x.new_tensor(self.dt)
            x = x + euler_maruyama_increment(g, s.clamp(min=0), dt, self.generator)
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
    return g * dt + (s * dt).sqrt().unsqueeze(-1) * normal_like(g, generator)


def check_start(field: DensityField, start: Tensor) -> None:
    """Refuse rows that are not finite, or have another number of columns than the field."""
    if start.dim() != 2 or start.shape[1] != field.n_columns:
        raise ValueError(
            f"start must have shape (n, {field.n_columns}), as the field has {field.n_columns} "
            f"columns; got {tuple(start.shape)}."
        )
    if not bool(torch.isfinite(start).all()):
        raise ValueError("start holds values that are not finite.")


def _check_numbers(n_steps: int, n_kept: int, dt: float | None, beta: float) -> None:
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}.")
    if not 1 <= n_kept <= n_steps:
        raise ValueError(f"n_kept must be from 1 to {n_steps}, got {n_kept}.")
    if dt is not None and not dt > 0:
        raise ValueError(f"dt must be positive, got {dt}.")
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}.")


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers with the shape, dtype and device of a tensor."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
