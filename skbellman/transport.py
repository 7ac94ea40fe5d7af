"""Steps along the probability flow, from one node of the integral to the next."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from skbellman.fields import DensityField
from skbellman.schedule import NoiseSchedule


class Transport(Protocol):
    """A method that moves rows from node to node, and receives the gradient at each."""

    def onward(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return the rows at t, (n, D), and the error estimate of the step, (n,)."""

    def see(self, x: Tensor, t: float, gradient: Tensor) -> None:
        """Take note of h at the position that was reached."""


def velocity(field: DensityField, x: Tensor, schedule: NoiseSchedule, t: float) -> Tensor:
    """Return dx/dt of the probability flow, -sigma' sigma h(x, sigma(t))."""
    return -schedule.diffusivity(t) * field.log_gradient(x, schedule(t))


class RungeKutta:
    """Kutta's third-order rule: two passes of the field for each step, besides that at the node.

    The fourth order costs one more pass and is not more exact on these nodes.

    Parameters
    ----------
    field : DensityField
    schedule : NoiseSchedule
        The path of the rows.
    """

    def __init__(self, field: DensityField, schedule: NoiseSchedule) -> None:
        self.field, self.schedule = field, schedule

    def see(self, x: Tensor, t: float, gradient: Tensor) -> None:
        """Take note of h at the position that was reached."""
        self.t, self.slope = t, -self.schedule.diffusivity(t) * gradient

    def onward(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return the rows at t, (n, D), and the error estimate of the step, (n,).

        The estimate is the rms distance to the midpoint rule, in units of the noise.
        """
        k1, dt, middle = self.slope, t - self.t, (self.t + t) / 2
        k2 = velocity(self.field, x + dt / 2 * k1, self.schedule, middle)
        k3 = velocity(self.field, x + dt * (2 * k2 - k1), self.schedule, t)
        doubt = (dt / 6 * (k1 - 2 * k2 + k3) / self.schedule(t)).square().mean(-1).sqrt()
        return x + dt / 6 * (k1 + 4 * k2 + k3), doubt


class Multistep:
    r"""A step by extrapolation of the last nodes, without a pass of the field.

    With the expected clean row :math:`e = x + \sigma^2 h`, the flow is :math:`\dot x = \rho (x -
    e)`. The step is exact if e is a polynomial in t, here through the last three nodes. There is no
    error estimate.

    Parameters
    ----------
    schedule : NoiseSchedule
        The path of the rows.
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.seen: list[tuple[float, Tensor]] = []

    def see(self, x: Tensor, t: float, gradient: Tensor) -> None:
        """Take note of h at the position that was reached."""
        moving = self.schedule.diffusivity(t) > 0
        variance = torch.where(moving, self.schedule(t), 0.0).square()
        self.seen = [*self.seen[-2:], (t, x + variance * gradient)]

    def onward(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return the rows at t, (n, D), and an error estimate of 0."""
        start, rate = self.seen[-1][0], self.schedule.rate
        growth, weights = _weights(rate, t - start, [time - start for time, _ in self.seen])
        moved = growth * x
        for weight, (_, expected) in zip(weights, self.seen, strict=True):
            moved = moved - weight * expected
        return torch.where(self.schedule.diffusivity(t) > 0, moved, x), x.new_zeros(len(x))


def _weights(rate: Tensor, dt: float, times: list[float]) -> tuple[Tensor, Tensor]:
    r"""Return :math:`e^{\rho dt}`, (D,), and the weights of clean rows at some times, (k, D).

    The weights are integrals of Lagrange polynomials times :math:`\rho e^{\rho (dt - s)}`.
    """
    growth = (rate * dt).exp()
    moments = [growth - 1]
    for power in range(1, len(times)):
        moments.append(power / rate * moments[-1] - dt**power)
    powers = torch.vander(rate.new_tensor(times), increasing=True)
    return growth, torch.linalg.solve(powers.T, torch.stack(moments))
