"""Samples of a field: whole rows, or the missing values of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from skbellman.dynamics import bellman_dynamics, normal_like
from skbellman.fields import ClosedFormField, DensityField
from skbellman.likelihood import FlowIntegral
from skbellman.schedule import NoiseSchedule, masked
from skbellman.solvers import annealed_dynamics

# Least number of rows that are moved at one level.
_LEAST_ROWS = 256


@dataclass(frozen=True)
class Annealing:
    """Parameters of sampling with a falling noise level.

    Parameters
    ----------
    n_levels : int
        Steps from the ceiling to the floor, see `skbellman.solvers.annealed_dynamics`.
    beta : float
        Strength of the Bellman dynamics; 0 is the probability flow.
    n_steps_at_one_level : int
        Steps for a field that has only one level.
    n_nodes : int
        Nodes of the flow integral for the densities of conditions.
    """

    n_levels: int
    beta: float = 0.0
    n_steps_at_one_level: int = 2000
    n_nodes: int = 6

    @property
    def integral(self) -> FlowIntegral:
        """The integral for the densities of conditions, which select the parts of a mixture."""
        return FlowIntegral(self.n_nodes, "auto")

    def along(
        self,
        field: DensityField,
        given: Tensor,
        schedule: NoiseSchedule,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the rows, (n, D), with their NaN moved from noise at the ceiling to the floor."""
        held = ~torch.isnan(given)
        start = self._at_ceiling(field, given, schedule, generator)
        path, start = masked(schedule, torch.where(held, given, start), held)
        if bool(held.any()):
            start = start + _conditional_shift(field, start, path)
        return annealed_dynamics(field, start, path, self.n_levels, generator, self.beta)

    def at_one_level(
        self, field: DensityField, n_rows: int, like: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return rows, (n_rows, D), moved at level 0 from a standard normal start.

        Enough rows are moved to find a safe step. A few might all lie where s is not positive.
        """
        start = normal_like(like[:1].expand(max(n_rows, _LEAST_ROWS), -1), generator)
        if not bool((field.scalar(start, 0.0) > 0).any()):
            raise ValueError(
                "the scalar network is positive at no row of a standard normal start, so the "
                "paper's dynamics do not move: raise n_steps, or use BellmanDiffusionDensity."
            )
        return bellman_dynamics(field, start, self.n_steps_at_one_level, generator).rows[:n_rows]

    def _at_ceiling(
        self,
        field: DensityField,
        given: Tensor,
        schedule: NoiseSchedule,
        generator: torch.Generator,
    ) -> Tensor:
        """Return rows at the ceiling, where the field is its reference, (n, D)."""
        reference = cast("ClosedFormField", field.reference)
        start = reference.fill(given, schedule, self, generator)
        added = schedule(1.0).square() - schedule(0.0).square()
        return start + added.sqrt() * normal_like(start, generator)


@torch.no_grad()
def draw_rows(
    field: DensityField,
    n_rows: int,
    schedule: NoiseSchedule,
    annealing: Annealing,
    generator: torch.Generator,
) -> Tensor:
    """Sample rows of p at the floor of the schedule.

    Each row of a `Mixture` comes from one of its parts. A closed form samples its own rows. A field
    with a reference uses annealed dynamics. A direct field uses dynamics at its one level, from a
    standard normal start.

    Parameters
    ----------
    field : DensityField
    n_rows : int
    schedule : NoiseSchedule
    annealing : Annealing
    generator : torch.Generator
        Random generator on the field's device.

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
    r"""Fill the missing values of rows by conditional samples.

    The given columns B are held at the floor, and the missing columns A move. These dynamics leave
    :math:`p(x_A | x_B)` invariant, because it is proportional to :math:`p(x_A, x_B)` in
    :math:`x_A`. A row of a `Mixture` comes from one part, chosen by the part's weight times its
    marginal density of the given values.

    Parameters
    ----------
    field : DensityField
    given : tensor of shape (n, D)
        Rows, NaN where a value shall be sampled.
    schedule, annealing, generator
        As for `draw_rows`.

    Returns
    -------
    tensor of shape (n, D)
        Completed rows; given values are unchanged.

    Raises
    ------
    TypeError
        For a field without a reference.
    ValueError
        For a field without conditionals, if any value is given.
    """
    return field.fill(given, schedule, annealing, generator)


def _conditional_shift(field: DensityField, x: Tensor, path: NoiseSchedule) -> Tensor:
    r"""Return the field's conditional means minus those of the reference, at the ceiling.

    By Tweedie's formula the mean given x is :math:`x + \sigma^2 h`. The two are equal if nothing is
    held.
    """
    _, residual = field.gradient_parts(x, path(1.0))
    moving = path.diffusivity(1.0) > 0
    return torch.where(moving, path(1.0).square() * residual, 0.0)
