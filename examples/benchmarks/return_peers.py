"""C51 and quantile regression for the laws of returns of a table, in the library's own loop.

The same network, batches, optimiser, rate and slower target; only the representation of the law and
its loss differ. C51 is told the support.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from skbellman.returns.fields import perceptron
from skbellman.returns.learning import Batch


class Categorical(nn.Module):
    """C51 (arXiv 1707.06887): probabilities of atoms on a grid."""

    def __init__(self, n_inputs: int, n_actions: int, size: int, support: tuple[float, float]):
        super().__init__()
        self.network, self.shape = perceptron(n_inputs, (128, 128), n_actions * size), (
            n_actions, size,
        )  # fmt: skip
        self.atoms = torch.linspace(*support, size)

    def forward(self, states: Tensor) -> Tensor:
        return self.network(states).unflatten(-1, self.shape)

    def law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Return places and probabilities, (n, K)."""
        mixed = (policy.unsqueeze(1) @ self(states).softmax(-1)).squeeze(1)
        return self.atoms.expand_as(mixed), mixed

    def loss(self, own: Tensor, places: Tensor, shares: Tensor) -> Tensor:
        """Cross-entropy to the law projected to the grid (their algorithm 1)."""
        step = self.atoms[1] - self.atoms[0]
        at = ((places.clamp(self.atoms[0], self.atoms[-1]) - self.atoms[0]) / step).clamp(
            0, len(self.atoms) - 1
        )
        below = at.floor().long().clamp(max=len(self.atoms) - 2)
        goal = torch.zeros_like(own)
        goal.scatter_add_(1, below, shares * (below + 1 - at))
        goal.scatter_add_(1, below + 1, shares * (at - below))
        return -(goal * own.log_softmax(-1)).sum(-1).mean()


class Quantile(nn.Module):
    """QR (arXiv 1710.10044) with the pinball loss, or Huber's with kappa 1."""

    def __init__(self, n_inputs: int, n_actions: int, size: int, kappa: float):
        super().__init__()
        self.network, self.shape = perceptron(n_inputs, (128, 128), n_actions * size), (
            n_actions, size,
        )  # fmt: skip
        self.kappa, self.levels = kappa, (torch.arange(size) + 0.5) / size

    def forward(self, states: Tensor) -> Tensor:
        return self.network(states).unflatten(-1, self.shape)

    def law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Return places and probabilities, (n, A K): of the mixture over actions."""
        places = self(states)
        shares = policy.unsqueeze(-1).expand_as(places) / places.shape[-1]
        return places.flatten(1), shares.flatten(1)

    def loss(self, own: Tensor, places: Tensor, shares: Tensor) -> Tensor:
        gap = places.unsqueeze(1) - own.unsqueeze(2)
        size = gap.abs()
        if self.kappa:
            size = huber_loss(gap, torch.zeros_like(gap), reduction="none", delta=self.kappa)
        tilt = (self.levels.unsqueeze(-1) - (gap < 0).to(gap)).abs()
        return ((tilt * size) @ shares.unsqueeze(-1)).sum(1).mean()


def fit_peer(
    peer: Categorical | Quantile, table: Batch, gamma: float, n_steps: int, rate: float
) -> None:
    """Train in place, as `skbellman.returns.learning.fit_to_table` does."""
    target = copy.deepcopy(peer).requires_grad_(False)
    optimiser = torch.optim.Adam(peer.parameters(), rate, eps=1e-8, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)
    for _ in range(n_steps):
        batch = table.take(torch.randint(len(table.action), (256,)))
        with torch.no_grad():
            places, shares = target.law(batch.next_state, batch.policy)
            discount = gamma * batch.follows.unsqueeze(-1)
            places = batch.reward.unsqueeze(-1) + discount * places
        own = peer(batch.state)[torch.arange(256), batch.action]
        loss = peer.loss(own, places, shares)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), peer.parameters(), strict=True):
                slow.lerp_(fast, 0.1)


@torch.no_grad()
def quantiles(
    peer: Categorical | Quantile, states: Tensor, policy: Tensor, q: np.ndarray
) -> np.ndarray:
    """Return the quantiles of each law, (n, len(q)), of the atoms as they are."""
    places, shares = (part.double().numpy() for part in peer.law(states, policy))
    order = places.argsort(1)
    places, shares = (np.take_along_axis(part, order, 1) for part in (places, shares))
    cumulative = shares.cumsum(1) / shares.sum(1, keepdims=True)
    return np.stack(
        [
            place[np.searchsorted(total, q).clip(0, len(place) - 1)]
            for place, total in zip(places, cumulative, strict=True)
        ]
    )
