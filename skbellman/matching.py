"""The objectives whose minimisers are the fields, and the levels at which they are asked."""

from __future__ import annotations

import torch
from torch import Tensor

from skbellman.fields import DensityField, NeuralField
from skbellman.fields.base import is_seen
from skbellman.schedule import NoiseSchedule


def denoising_loss(field: DensityField, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    r"""Denoising form of gradient matching: its minimiser is h = grad log p_sigma.

    .. math:: E\,(1 + \sigma^2)\,|\sigma h(y + \sigma n, \sigma) + n|^2, \qquad y \sim p,\; n \sim N(0, I),

    the mean over the columns that are seen. It is :math:`D_{grad}` of arXiv 2410.01796
    (eq. 4) with weight :math:`1 / p_\sigma` in place of :math:`p`, after integration by parts
    (Vincent 2011): single rows, no kernel.

    Parameters
    ----------
    field : DensityField
    clean : tensor of shape (..., n, D)
        Rows y.
    sigma : tensor of shape (..., 1, D)
        Levels; inf for an unseen column.
    noise : tensor of shape (..., n, D)
        Standard normal n.

    Returns
    -------
    tensor of shape ()
    """  # noqa: E501 - one formula
    seen = is_seen(sigma)
    finite = torch.where(seen, sigma, 0.0)
    h = field.log_gradient(torch.where(seen, clean + finite * noise, 0.0), sigma)
    error = torch.where(seen, (finite * h + noise).square(), 0.0)
    weighted = ((1 + finite.square()) * error).sum((-1, -2))
    return (weighted / seen.sum((-1, -2))).mean() / clean.shape[-2]


def regression_loss(field: NeuralField, x: Tensor, sigma: Tensor, log_ratio: Tensor) -> Tensor:
    r"""Identity matching on known values: mean squared error of log s - log s_0.

    Parameters
    ----------
    field : NeuralField
    x : tensor of shape (..., n, D)
    sigma : tensor of shape (..., 1, D)
    log_ratio : tensor of shape (..., n)
        From `FlowIntegral.log_ratios`.
    """
    return (field.log_scalar_residual(x, sigma) - log_ratio).square().mean()


def shared_levels(schedule: NoiseSchedule, n_groups: int, generator: torch.Generator) -> Tensor:
    """Draw one level for all columns per group of rows, stratified in t: (n_groups, 1, D)."""
    device = generator.device
    jitter = torch.rand(n_groups, generator=generator, device=device)
    t = (torch.arange(n_groups, device=device) + jitter) / n_groups
    return schedule(t.to(schedule.floor)).unsqueeze(1)


def mixed_levels(
    schedule: NoiseSchedule, blocks: Tensor, n_groups: int, generator: torch.Generator
) -> Tensor:
    """Draw levels that teach conditionals and marginals: (n_groups, 1, D).

    In each group a random share of the table's columns is observed (at the floor), of the
    others a random share is unseen (inf), and the rest moves at one level. At least one
    moves. ``blocks``, of shape (D,), numbers the table's column that each column of x belongs
    to: the columns of a category are observed or unseen together.
    """
    levels = shared_levels(schedule, n_groups, generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device)

    n_blocks = int(blocks.max()) + 1
    observed = uniform(n_groups, n_blocks) < uniform(n_groups, 1)
    unseen = uniform(n_groups, n_blocks) < uniform(n_groups, 1).square()
    moving = (uniform(n_groups) * n_blocks).long().unsqueeze(-1)
    observed.scatter_(-1, moving, False)
    unseen.scatter_(-1, moving, False)
    levels = torch.where(observed[:, None, blocks], schedule.floor, levels)
    return torch.where((unseen & ~observed)[:, None, blocks], torch.inf, levels)
