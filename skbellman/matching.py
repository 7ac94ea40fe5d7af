"""The objectives whose minimisers are the fields, and the levels at which they are asked."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

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
    r"""Identity matching on known values of log s - log s_0.

    The mean Huber error (threshold 1 nat): squared errors would be ruled by the few rows
    that lie far out, where log s_0 is wrong by tens of nats.

    Parameters
    ----------
    field : NeuralField
    x : tensor of shape (..., n, D)
    sigma : tensor of shape (..., 1, D)
    log_ratio : tensor of shape (..., n)
        From `FlowIntegral.log_ratios`.
    """
    return huber_loss(field.log_scalar_residual(x, sigma), log_ratio)


def shared_levels(schedule: NoiseSchedule, n_groups: int, generator: torch.Generator) -> Tensor:
    r"""Draw one level for all columns per group of rows, stratified: (n_groups, 1, D).

    :math:`q = \sigma / \sqrt{1 + \sigma^2}` is log-uniform, so that the density of log sigma is
    proportional to :math:`1 / (1 + \sigma^2)`. With that factor the `denoising_loss` is, level by
    level, the error of the log-density; high levels, where every table is a Gaussian, are seldom drawn.
    """  # noqa: E501 - one formula
    device, floor, ceiling = generator.device, schedule(0.0), schedule(1.0)
    jitter = torch.rand(n_groups, 1, generator=generator, device=device)
    t = (torch.arange(n_groups, device=device).unsqueeze(-1) + jitter).to(floor) / n_groups
    lowest, highest = floor / (1 + floor**2).sqrt(), ceiling / (1 + ceiling**2).sqrt()
    q = lowest ** (1 - t) * highest**t
    return (q / ((1 - q) * (1 + q)).sqrt()).unsqueeze(1)


def antithetic_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise of the shape (..., 2 m, D) whose second m rows are minus the first.

    For the same clean rows the two signs cancel the noise of the loss where h is linear over
    the distance sigma, which it is at low levels.
    """
    shape = (*like.shape[:-2], like.shape[-2] // 2, like.shape[-1])
    noise = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    return torch.cat([noise, -noise], -2)


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
