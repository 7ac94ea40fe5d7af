"""The distributions of single columns, beyond their Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skbellman.fields.base import is_seen

_REACH = 4.0  # deviations


class ColumnShapes(nn.Module):
    r"""Log-gradients of single columns' Gaussian mixtures, minus those of their Gaussians.

    .. math:: r_c(x) = \frac{d}{d x_c} \log \frac{\sum_k w_{ck} N(x_c; m_{ck}, v_{ck} + \sigma_c^2)}
        {N(x_c; m_c, v_c + \sigma_c^2)}

    If a column is independent of the others, this is the exact correction of a Gaussian reference
    at every level. For other columns its weight is learned. Farther than four deviations beyond the
    outermost Gaussians it is constant. If it grew with the distance, and a network gave it too much
    weight, it would throw outlying rows to infinity. It works in the precision of its parameters.
    Outputs have the precision of the input.

    Parameters
    ----------
    log_weights, means, variances : tensor of shape (P, K)
        Mixture of each column; a weight may be 0.

    Attributes
    ----------
    mean, variance : tensor of shape (P,)
        Moments of each column.
    low, high : tensor of shape (P,)
        Bounds of the outermost Gaussians.
    """

    mean: Tensor
    variance: Tensor
    low: Tensor
    high: Tensor
    log_weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, log_weights: Tensor, means: Tensor, variances: Tensor) -> None:
        super().__init__()
        weights = log_weights.softmax(-1)
        mean = (weights * means).sum(-1)
        spread = (weights * (variances + (means - mean.unsqueeze(-1)).square())).sum(-1)
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("means", means)
        self.register_buffer("variances", variances)
        self.register_buffer("mean", mean)
        self.register_buffer("variance", spread)
        reach, there = _REACH * variances.sqrt(), weights > 0
        self.register_buffer("low", torch.where(there, means - reach, torch.inf).amin(-1))
        self.register_buffer("high", torch.where(there, means + reach, -torch.inf).amax(-1))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return r, (..., n, P), of columns and their levels; 0 where a column is missing."""
        seen, dtype = is_seen(sigma), x.dtype
        x, sigma = x.to(self.means.dtype), torch.where(seen, sigma, 1.0).to(self.means.dtype)
        low, high = self.low - _REACH * sigma, self.high + _REACH * sigma
        place = torch.where(seen, x.detach(), 0.0)
        inside = (place >= low) & (place <= high) & seen
        r, slope = self._with_slope(place.maximum(low).minimum(high), sigma.square(), x)
        r = torch.where(seen, r, 0.0)
        # A column's r depends on that column alone, so one slope replaces those of K Gaussians.
        if slope is not None:
            r = r + torch.where(inside, slope, 0.0) * (x - x.detach())
        return r.to(dtype)

    def gaussian(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the log-gradients of the columns' Gaussians; 0 where a column is missing."""
        total = self.variance.to(x.dtype) + sigma.square()
        return (self.mean.to(x.dtype) - torch.where(is_seen(sigma), x, 0.0)) / total

    def _with_slope(self, place: Tensor, noise: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return r within the columns' reach, and dr/dx if x requires a gradient."""
        total, variance = self.variances + noise.unsqueeze(-1), self.variance + noise
        offset = self.means - place.unsqueeze(-1)
        pull = offset / total
        shares = (self.log_weights - 0.5 * (offset * pull + total.log())).softmax(-1)
        gradient = (shares * pull).sum(-1)
        r = gradient - (self.mean - place) / variance
        if not x.requires_grad:
            return r, None
        spread = (shares * (pull - gradient.unsqueeze(-1)).square()).sum(-1)
        return r, spread - (shares / total).sum(-1) + 1 / variance
