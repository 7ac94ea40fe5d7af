"""Intervals of the coordinates of numbers: cells of frequent values, and what lies between."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.special import log_ndtr

# The first and the last interval end here. Coordinates have about unit variance.
_FARTHEST = 60.0


class Intervals(nn.Module):
    r"""Intervals that the coordinates of some numbers are divided into.

    If a clean coordinate has the law :math:`N(\mu, v)`, its probability to lie in the interval
    :math:`[a, b)`, and its mean there, are

    .. math::
        q &= \Phi(\beta) - \Phi(\alpha), \qquad \alpha = (a - \mu) / \sqrt v,\;
            \beta = (b - \mu) / \sqrt v,\\
        m &= \mu + \sqrt v\, (\phi(\alpha) - \phi(\beta)) / q.

    So :math:`\sum q\, m = \mu`. It works in the precision of its edges. Outputs have the precision
    of the input.

    Parameters
    ----------
    edges : sequence of tensor of shape (k,)
        For each number its inner edges, ascending. A number without edges is not divided.

    Attributes
    ----------
    sizes : list of int
        Number of intervals of each divided number.
    column : tensor of int, shape (K,)
        The number that each interval belongs to.
    member : tensor of shape (K, P)
        1 where an interval belongs to a number.
    """

    low: Tensor
    high: Tensor
    column: Tensor
    member: Tensor

    def __init__(self, edges: Sequence[Tensor]) -> None:
        super().__init__()
        divided = [c for c, inner in enumerate(edges) if len(inner)]
        self.sizes = [len(edges[c]) + 1 for c in divided]
        end = torch.tensor([_FARTHEST])
        low = [torch.cat([-end, edges[c].cpu()]) for c in divided]
        high = [torch.cat([edges[c].cpu(), end]) for c in divided]
        column = torch.tensor(divided).repeat_interleave(torch.tensor(self.sizes).long()).long()
        self.register_buffer("low", torch.cat([end[:0], *low]))
        self.register_buffer("high", torch.cat([end[:0], *high]))
        self.register_buffer("column", column)
        member = column.unsqueeze(1) == torch.arange(len(edges))
        self.register_buffer("member", member.to(self.low))

    def __len__(self) -> int:
        return len(self.low)

    def forward(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return log q and m, (..., n, K), for laws of the numbers, (..., n, P)."""
        dtype = mean.dtype
        mu = mean.to(self.low.dtype)[..., self.column]
        deviation = variance.to(self.low.dtype)[..., self.column].sqrt()
        alpha, beta = (self.low - mu) / deviation, (self.high - mu) / deviation
        log_q = _log_between(alpha, beta)
        pull = _hazard(alpha, log_q) - _hazard(beta, log_q)
        # Rounding may move the mean of a narrow interval out of it.
        means = (mu + deviation * pull).maximum(self.low).minimum(self.high)
        return log_q.to(dtype), means.to(dtype)

    def one_hot(self, numbers: Tensor) -> Tensor:
        """Return 1 for the interval that each number, (..., P), lies in, else 0: (..., K)."""
        z = numbers[..., self.column]
        return ((z >= self.low) & (z < self.high)).to(z)

    def codes(self, numbers: Tensor) -> list[Tensor]:
        """Return the interval of each divided number, (n,) each; -1 where it is missing."""
        found = []
        for low, c in zip(self.low.split(self.sizes), self._divided, strict=True):
            z = numbers[:, c].contiguous()
            code = torch.searchsorted(low[1:], z.nan_to_num(0.0), right=True)
            found.append(code.where(~z.isnan(), -1).to(torch.int32))
        return found

    @property
    def _divided(self) -> list[int]:
        return [int(column[0]) for column in self.column.split(self.sizes)]


def _log_between(alpha: Tensor, beta: Tensor) -> Tensor:
    """Return log(Phi(beta) - Phi(alpha)), exact in both tails."""
    right = alpha + beta > 0
    high, low = torch.where(right, -alpha, beta), torch.where(right, -beta, alpha)
    of_high = log_ndtr(high)
    return of_high + (-torch.expm1((log_ndtr(low) - of_high).clamp(max=-1e-7))).log()


def _hazard(z: Tensor, log_q: Tensor) -> Tensor:
    """Return phi(z) / q."""
    return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi) - log_q).clamp(max=60.0).exp()
