"""Where returns lie: found from rewards at first, widened when laws reach beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skbellman.returns.basis import GaussianBasis

_GROWTH = 0.5
# Of a batch's backed-up mass that may lie beyond an end.
_BEYOND = 1e-3
# Of a support that is in use, below which it is drawn in; mass that counts as none; room left.
_SPARSE = 0.6
_EMPTY = 3e-4
_ROOM = 0.15
# Room beyond the outermost returns, in spacings.
_MARGIN = 2.0


@dataclass
class Support:
    """The interval that centres are spread over, for rewards seen so far.

    Parameters
    ----------
    gamma : float
    size : int
        Number of centres.
    gradient_weight : float
        Of the inner product, see `GaussianBasis`.
    """

    gamma: float
    size: int
    gradient_weight: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def first(self, rewards: Tensor) -> GaussianBasis:
        """Return a basis for the returns of single steps, from a sample of rewards."""
        self.see(rewards)
        low, high = self.least, self.most
        if high == low:
            room = 0.5 * abs(low) or 0.5
            low, high = low - room, high + room
        margin = _MARGIN * (high - low) / (self.size - 1 - 2 * _MARGIN)
        return GaussianBasis(low - margin, high + margin, self.size, self.gradient_weight)

    def see(self, rewards: Tensor) -> None:
        """Take note of rewards, which bound the returns."""
        self.least = min(self.least, float(rewards.min()))
        self.most = max(self.most, float(rewards.max()))

    def moved(
        self, basis: GaussianBasis, positions: Tensor, weights: Tensor, may_shrink: bool = True
    ) -> GaussianBasis | None:
        """Return a basis for backed-up atoms, (n, K), if they lie beyond this one, else None.

        It is never wider than the discounted rewards allow, and may be drawn in where most of it is
        empty.
        """
        low, high = self._widened(basis, positions, weights)
        if (low, high) == (basis.low, basis.high):
            if not may_shrink:
                return None
            low, high = _used(basis, positions, weights)
            if high - low > _SPARSE * (basis.high - basis.low):
                return None
        return replace(basis, low=low, high=high)

    def covering(self, basis: GaussianBasis, reward_sums: Tensor) -> GaussianBasis | None:
        """Return a wider basis if returns that ended lie beyond this one, else None."""
        if not len(reward_sums):
            return None
        least, most = float(reward_sums.min()), float(reward_sums.max())
        if basis.low <= least and most <= basis.high:
            return None
        low, high = min(basis.low, least), max(basis.high, most)
        margin = _MARGIN * (high - low) / basis.size
        return replace(basis, low=low - margin, high=high + margin)

    def _widened(
        self, basis: GaussianBasis, positions: Tensor, weights: Tensor
    ) -> tuple[float, float]:
        low, high = basis.low, basis.high
        span, (least, most) = high - low, self._bounds()
        sure = max(_BEYOND, _noise(basis, weights))
        if low > least and _share(positions < low, weights) > sure:
            low = max(low - _GROWTH * span, least)
        if high < most and _share(positions > high, weights) > sure:
            high = min(high + _GROWTH * span, most)
        return low, high

    def _bounds(self) -> tuple[float, float]:
        """Return the least and largest return there can be, with a margin."""
        horizon = 1 / (1 - self.gamma) if self.gamma < 1 else math.inf
        low = min(self.least, self.least * horizon, 0.0)
        high = max(self.most, self.most * horizon, 0.0)
        margin = _MARGIN * (high - low) / self.size if math.isfinite(high - low) else 0.0
        return low - margin, high + margin


def _share(where: Tensor, weights: Tensor) -> float:
    return float(torch.where(where, weights, 0.0).sum(-1).mean().abs())


def _noise(basis: GaussianBasis, weights: Tensor) -> float:
    """Return the mass that errors of the laws may put anywhere: half of what they have below 0."""
    density = basis.density(weights, basis.centres.to(weights)) * basis.spacing
    return 0.5 * float(density.clamp(max=0).sum(-1).mean().abs())


def _used(basis: GaussianBasis, positions: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return the interval that holds the mean of the laws, with some room at either end."""
    cell = ((positions - basis.low) / basis.spacing).round().long().clamp(0, basis.size - 1)
    mass = weights.new_zeros(basis.size).index_add_(0, cell.flatten(), weights.flatten())
    cumulative = (mass / len(weights)).cumsum(0)
    sure = max(_EMPTY, _noise(basis, weights))
    inside = ((cumulative.abs() > sure) & ((1 - cumulative).abs() > sure)).nonzero()
    if not len(inside):
        return basis.low, basis.high
    first, last = float(inside[0]) - 1, float(inside[-1]) + 1
    room = _ROOM * (last - first)
    return (
        max(basis.low + (first - room) * basis.spacing, basis.low),
        min(basis.low + (last + room) * basis.spacing, basis.high),
    )
