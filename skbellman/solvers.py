r"""Annealed Bellman Diffusion Dynamics by an exponential multistep integrator.

The paper's dynamics, :math:`dx = g\,dt + \sqrt{s}\,dw` (arXiv 2410.01796, section 3), leave p
invariant, but cross between separated modes in exponential time. So they are annealed. The level
falls from the ceiling to the floor; the probability flow (arXiv 2011.13456, eq. 13) carries rows
from one level to the next, and the dynamics, in units of the noise, mix them at each:

.. math:: dx = -\dot\sigma \sigma h \, dt + \tfrac12 \sigma^2 (\nabla a + a h) \, d\tau
          + \sigma \sqrt{a} \, dw_\tau .

The terms in :math:`\tau` are the paper's equation with :math:`a = s / \bar s`, and keep
:math:`p_\sigma` for any positive a(x), since :math:`\nabla (a p) = p\, (\nabla a + a h)`. Here
a = 1, which needs h alone. The clock runs with the level,
:math:`d\tau = 2 \beta \, d\lambda` where :math:`\lambda = -\log \sigma`. With
:math:`-\dot\sigma \sigma\, dt = \sigma^2 d\lambda` and the data prediction
:math:`D = x + \sigma^2 h`, the mean of the clean row given x, this is

.. math:: dx = (1 + \beta) (D - x) \, d\lambda + \sqrt{2 \beta} \, \sigma \, dw_\lambda .

The marginals are :math:`p_{\sigma}` for every :math:`\beta \ge 0`. At 0 it is the flow, at 1 the
reverse of the diffusion that adds the noise (arXiv 2011.13456, eq. 6).

All but D is linear in x and solved exactly. Over a step of :math:`\Delta` in
:math:`\lambda`, with :math:`k = (1 + \beta) \Delta` and z standard normal,

.. math:: x' = e^{-k} x + k \int_0^1 e^{-k (1 - v)} D(v) \, dv
          + \sigma' \sqrt{1 - e^{-2 \beta \Delta}} \, z .

D(v) is the parabola through its last three values, which lie at v = 0, -1, -2: DPM-Solver++
(arXiv 2211.01095) of third order by multistep, one pass a step. Each column has levels of its own,
geometric in t, so a step of t is a constant step of every column's :math:`\lambda`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from skbellman.dynamics import check_start, normal_like
from skbellman.fields import DensityField
from skbellman.schedule import NoiseSchedule


@torch.no_grad()
def annealed_dynamics(
    field: DensityField,
    start: Tensor,
    schedule: NoiseSchedule,
    n_levels: int,
    generator: torch.Generator,
    beta: float = 0.0,
) -> Tensor:
    r"""Move rows from the ceiling of a schedule to its floor.

    .. math:: dx = (1 + \beta) (D - x) \, d\lambda + \sqrt{2 \beta} \, \sigma \, dw_\lambda,
              \qquad D = x + \sigma^2 h, \quad \lambda = -\log \sigma

    Parameters
    ----------
    field : DensityField
        Field whose h(x, sigma) is evaluated once for each level above the floor.
    start : tensor of shape (n, D)
        Rows of the density at the ceiling, about N(0, sigma_max^2).
    schedule : NoiseSchedule
        Levels of each column. Held and missing columns do not move.
    n_levels : int
        Steps from the ceiling to the floor. At beta = 0 the error falls with its third power.
    generator : torch.Generator
        Random generator on the device of start.
    beta : float, default=0.0
        Strength of the Bellman dynamics; 0 is the probability flow.

    Returns
    -------
    tensor of shape (n, D)
        Rows of the density at the floor.

    Raises
    ------
    ValueError
        If start has the wrong number of columns or is not finite, n_levels is below 1, or beta is
        negative.

    Examples
    --------
    >>> import torch
    >>> from skbellman.fields import GaussianMixtureField
    >>> from skbellman.schedule import NoiseSchedule
    >>> from skbellman.solvers import annealed_dynamics
    >>> field = GaussianMixtureField.normal(torch.ones(1), torch.eye(1))
    >>> schedule = NoiseSchedule(torch.tensor([0.01]), torch.tensor([20.0]))
    >>> generator = torch.Generator().manual_seed(0)
    >>> noise = 20 * torch.randn(2000, 1, generator=generator)
    >>> rows = annealed_dynamics(field, noise, schedule, 16, generator)
    >>> bool((rows.mean() - 1).abs() < 0.1), bool((rows.std() - 1).abs() < 0.1)
    (True, True)
    """
    check_start(field, start)
    if n_levels < 1 or not beta >= 0:
        raise ValueError(
            f"n_levels must be at least 1 and beta at least 0, got {n_levels} and {beta}."
        )
    moving = schedule.diffusivity(1.0) > 0
    step = schedule.rate.double() / n_levels
    kept, weights = _step_weights((1 + beta) * step)
    kept, weights = kept.to(start), [w.to(start) for w in weights]
    share = (-torch.expm1(-2 * beta * step)).sqrt().to(start)  # share of fresh noise
    x, differences = start, list[Tensor]()
    for begin, end in pairwise(torch.linspace(1.0, 0.0, n_levels + 1).tolist()):
        prediction = x + schedule(begin).square() * field.log_gradient(x, schedule(begin))
        differences = _backward_differences(prediction, differences)
        moved = kept * x + sum(w * d for w, d in zip(weights, differences, strict=False))
        if beta:
            moved = moved + share * schedule(end) * normal_like(x, generator)
        x = torch.where(moving, moved, x)
    return x


def _step_weights(k: Tensor) -> tuple[Tensor, list[Tensor]]:
    r"""Return a step's factor of x, and its weights of D and D's two backward differences.

    Newton's form of the parabola, :math:`D + v \nabla D + \tfrac12 v (v + 1) \nabla^2 D`, under
    the moments :math:`m_i = k \int_0^1 e^{-k (1 - v)} v^i dv`, for which
    :math:`m_i = 1 - i\, m_{i-1} / k`.
    """
    zeroth = -torch.expm1(-k)
    first = 1 - zeroth / k
    second = 1 - 2 * first / k
    return torch.exp(-k), [zeroth, first, (first + second) / 2]


def _backward_differences(value: Tensor, before: list[Tensor], order: int = 3) -> list[Tensor]:
    """Return the value and its backward differences to previous values, below order."""
    differences = [value]
    for earlier in before[: order - 1]:
        differences.append(differences[-1] - earlier)
    return differences
