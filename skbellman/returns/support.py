"""The support of returns: first from rewards, then widened when laws reach beyond it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch


@dataclass
class Support:
    """The interval that the centres cover, for the rewards seen so far.

    Parameters
    ----------
    gamma : float
    size : int
        Number of centres.
    gradient_weight : float
        Gradient weight of the inner product, see `GaussianBasis`.

    Attributes
    ----------
    least, most : float
        Least and largest reward seen.
    ended : tuple of float
        Outermost ``usual`` quantiles of returns that ended. The support always covers them.
    margin : float
        Room beyond the outermost returns, in spacings.
    growth : float
        Share of its width by which the support is widened at once.
    beyond, most_noise : float
        Mass of a batch's backed-up laws that may lie beyond an end, and the part of it that may be
        noise.
    empty, room : float
        Mass that counts as 0, and the room that is left around the rest.
    usual : tuple of float
        Quantiles between which returns are no outliers.
    most_sorted : int
        Largest number of returns for quantiles.
    """

    margin: ClassVar[float] = 2.0
    growth: ClassVar[float] = 0.5
    beyond: ClassVar[float] = 1e-3
    most_noise: ClassVar[float] = 0.02
    empty: ClassVar[float] = 3e-4
    room: ClassVar[float] = 0.15
    usual: ClassVar[tuple[float, float]] = (0.001, 0.999)
    most_sorted: ClassVar[int] = 1_000_000

    gamma: float
    size: int
    gradient_weight: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    ended: tuple[float, float] = (math.inf, -math.inf)

    def first(self, rewards: Tensor) -> GaussianBasis:
        """Return a basis for the returns of single steps, from a sample of rewards."""
        self.see(rewards)
        low, high = self.least, self.most
        if high == low:
            room = 0.5 * abs(low) or 0.5
            low, high = low - room, high + room
        margin = self.margin * (high - low) / (self.size - 1 - 2 * self.margin)
        return GaussianBasis(low - margin, high + margin, self.size, self.gradient_weight)

    def see(self, rewards: Tensor) -> None:
        """Record rewards, which bound the returns."""
        self.least = min(self.least, float(rewards.min()))
        self.most = max(self.most, float(rewards.max()))

    def moved(
        self, basis: GaussianBasis, positions: Tensor, weights: Tensor, sparse: float = 0.0
    ) -> GaussianBasis | None:
        """Return a basis for backed-up atoms, (n, K), if they lie beyond this one, else None.

        It is never wider than the discounted rewards allow. It is narrowed if the share in use is
        less than ``sparse``.
        """
        low, high = self._widened(basis, positions, weights)
        if (low, high) == (basis.low, basis.high):
            low, high = self._drawn_in(basis, positions, weights) if sparse else (low, high)
            if high - low >= sparse * (basis.high - basis.low):
                return None
        return self._with_atoms(basis, low, high)

    def covering(self, basis: GaussianBasis, reward_sums: Tensor) -> GaussianBasis | None:
        """Return a wider basis if returns that ended lie beyond this one, else None."""
        if not len(reward_sums):
            return None
        least, most = float(reward_sums.min()), float(reward_sums.max())
        some = reward_sums[:: 1 + len(reward_sums) // self.most_sorted].float()
        usual = torch.quantile(some, torch.tensor(self.usual).to(some))
        self.ended = min(self.ended[0], float(usual[0])), max(self.ended[1], float(usual[1]))
        if basis.low <= least and most <= basis.high:
            return None
        low, high = min(basis.low, least), max(basis.high, most)
        margin = self.margin * (high - low) / basis.size
        return self._with_atoms(basis, low - margin, high + margin)

    def _with_atoms(self, basis: GaussianBasis, low: float, high: float) -> GaussianBasis:
        """Return a basis from roughly low to high, with 0 and the extreme reward as centres."""
        if low < 0 < high:
            spacing = (high - low) / (basis.size - 1)
            extreme = max(abs(self.least), abs(self.most))
            low, spacing = with_centres_at(extreme, low, spacing, basis.size)
            high = low + spacing * (basis.size - 1)
        return replace(basis, low=low, high=high)

    def _widened(
        self, basis: GaussianBasis, positions: Tensor, weights: Tensor
    ) -> tuple[float, float]:
        low, high = basis.low, basis.high
        span, (least, most) = high - low, self._bounds()
        # A law that is cut off at an end has ripples, so its noise grows with the mass beyond.
        sure = max(self.beyond, min(_noise(basis, weights), self.most_noise))
        if low > least and _share(positions < low, weights) > sure:
            low = max(low - self.growth * span, least)
        if high < most and _share(positions > high, weights) > sure:
            high = min(high + self.growth * span, most)
        return low, high

    def _drawn_in(
        self, basis: GaussianBasis, positions: Tensor, weights: Tensor
    ) -> tuple[float, float]:
        """Return the interval in use, with room for returns that ended.

        They count even if they are too rare to be in most batches.
        """
        low, high = self._used(basis, positions, weights)
        room = self.margin * basis.spacing
        low, high = min(low, self.ended[0] - room), max(high, self.ended[1] + room)
        return max(low, basis.low), min(high, basis.high)

    def _used(
        self, basis: GaussianBasis, positions: Tensor, weights: Tensor
    ) -> tuple[float, float]:
        """Return the interval that holds the mean of the laws, with some room at either end."""
        cell = ((positions - basis.low) / basis.spacing).round().long().clamp(0, basis.size - 1)
        mass = weights.new_zeros(basis.size).index_add_(0, cell.flatten(), weights.flatten())
        cumulative = (mass / len(weights)).cumsum(0)
        sure = max(self.empty, _noise(basis, weights))
        inside = ((cumulative.abs() > sure) & ((1 - cumulative).abs() > sure)).nonzero()
        if not len(inside):
            return basis.low, basis.high
        first, last = float(inside[0]) - 1, float(inside[-1]) + 1
        room = self.room * (last - first)
        return (
            max(basis.low + (first - room) * basis.spacing, basis.low),
            min(basis.low + (last + room) * basis.spacing, basis.high),
        )

    def _bounds(self) -> tuple[float, float]:
        """Return the least and largest possible return, with a margin."""
        horizon = 1 / (1 - self.gamma) if self.gamma < 1 else math.inf
        low = min(self.least, self.least * horizon, 0.0)
        high = max(self.most, self.most * horizon, 0.0)
        margin = self.margin * (high - low) / self.size if math.isfinite(high - low) else 0.0
        return low - margin, high + margin


class Carrier(Protocol):
    """An object whose laws can move to another basis."""

    field: Any

    def move_to(self, basis: GaussianBasis) -> None:
        """Take the laws to another basis."""


class SupportPolicy(ABC):
    """A policy for moving the basis during learning."""

    @abstractmethod
    def after_a_look(
        self, basis: GaussianBasis, batch: Batch, discount: float, next_weights: Tensor
    ) -> Tensor:
        """Return the weights of next laws, (n, K), on the basis after a look at them."""


class FixedSupport(SupportPolicy):
    """A basis that never moves."""

    def after_a_look(
        self, basis: GaussianBasis, batch: Batch, discount: float, next_weights: Tensor
    ) -> Tensor:
        """Return the weights unchanged."""
        return next_weights


class MovingSupport(SupportPolicy):
    """A basis that follows the backed-up laws.

    Parameters
    ----------
    support : Support
    carrier : Carrier
        The object whose laws are moved.

    Attributes
    ----------
    look_every : int
        Backups between looks: a look waits for the device.
    least_used : float
        The support is narrowed if a smaller share is in use and a return has ended.
    """

    look_every = 25
    least_used = 0.6

    def __init__(self, support: Support, carrier: Carrier) -> None:
        self.support, self.carrier = support, carrier
        self.n_backups = 0
        self.sparse = 0.0

    def see(self, rewards: Tensor) -> None:
        """Record rewards, which bound the returns."""
        self.support.see(rewards)

    def cover(self, returns: Tensor) -> None:
        """Widen the support to returns that ended. After the first one, it may be narrowed.

        Before any return has ended, all laws are close to one value. A support around that value
        would have no room for better returns.
        """
        wider = self.support.covering(self.carrier.field.basis, returns)
        if wider is not None:
            self.carrier.move_to(wider)
        self.sparse = self.least_used

    def after_a_look(
        self, basis: GaussianBasis, batch: Batch, discount: float, next_weights: Tensor
    ) -> Tensor:
        """Return the weights of next laws on the current basis, which moves every so often."""
        self.n_backups += 1
        if (self.n_backups - 1) % self.look_every:
            return next_weights
        discounts = batch.discounts(discount).unsqueeze(-1)
        positions = batch.reward.unsqueeze(-1) + discounts * basis.centres.to(next_weights)
        moved = self.support.moved(basis, positions, next_weights, self.sparse)
        if moved is None:
            return next_weights
        self.carrier.move_to(moved)
        return basis.convert(next_weights, moved)


def _share(where: Tensor, weights: Tensor) -> float:
    return float(torch.where(where, weights, 0.0).sum(-1).mean().abs())


def _noise(basis: GaussianBasis, weights: Tensor) -> float:
    """Return the mass of the laws that may be error: half of their negative mass."""
    density = basis.density(weights, basis.centres.to(weights)) * basis.spacing
    return 0.5 * float(density.clamp(max=0).sum(-1).mean().abs())


def with_centres_at(
    extreme: float, low: float, spacing: float, size: int, least_apart: int = 8
) -> tuple[float, float]:
    """Return an end and a spacing near these, so that 0 and the extreme reward are centres.

    Many returns have exactly these values, and an atom between centres has ripples. If the two are
    too few spacings apart, the basis would be stretched by more than an eighth; then only 0 is a
    centre.
    """
    n_between = math.floor(extreme / spacing)
    if least_apart <= n_between < size:
        spacing = extreme / n_between
    return spacing * math.floor(low / spacing), spacing
