"""C51, quantile regression and expected values, learned in the library's own loops.

The same network, batches, optimiser, slower target and choice of the next action; only the
representation of the law and its loss differ. C51 is told the support.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss, one_hot

from skbellman.returns.batch import Batch
from skbellman.returns.perceptron import perceptron


class Peer(nn.Module, ABC):
    """A network with ``size`` outputs for each action, that say a law."""

    def __init__(self, n_inputs: int, n_actions: int, size: int) -> None:
        super().__init__()
        self.n_actions, self.size = n_actions, size
        self.network = perceptron(n_inputs, (128, 128), n_actions * size)

    def forward(self, states: Tensor) -> Tensor:
        """Return the outputs, (n, n_actions, size)."""
        return self.network(states).unflatten(-1, (self.n_actions, self.size))

    @abstractmethod
    def means(self, states: Tensor) -> Tensor:
        """Return the expected returns, (n, n_actions)."""

    def best(self, states: Tensor, mask: None = None) -> Tensor:
        """Return the actions of the largest expected return, (n,)."""
        return self.means(states).argmax(-1)

    def support(self) -> tuple[float, float, float]:
        """Return ends and noise level; a peer does not say them."""
        return float("nan"), float("nan"), 0.0

    @abstractmethod
    def law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Return places and probabilities of the law under a policy, (n, m)."""

    def next_law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the law that is learned from."""
        return self.law(states, policy)

    @abstractmethod
    def loss(self, own: Tensor, places: Tensor, shares: Tensor) -> Tensor:
        """Return the loss of outputs, (n, size), beside a law."""


class Categorical(Peer):
    """C51 (arXiv 1707.06887): probabilities of atoms on a grid."""

    def __init__(self, n_inputs: int, n_actions: int, size: int, support: tuple[float, float]):
        super().__init__(n_inputs, n_actions, size)
        self.atoms = torch.linspace(*support, size)

    def means(self, states: Tensor) -> Tensor:
        return self(states).softmax(-1) @ self.atoms

    def law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
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


class Quantile(Peer):
    """QR (arXiv 1710.10044): quantiles at even probabilities, by the pinball loss."""

    def __init__(self, n_inputs: int, n_actions: int, size: int):
        super().__init__(n_inputs, n_actions, size)
        self.levels = (torch.arange(size) + 0.5) / size

    def means(self, states: Tensor) -> Tensor:
        return self(states).mean(-1)

    def law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        places = self(states)
        shares = policy.unsqueeze(-1).expand_as(places) / places.shape[-1]
        return places.flatten(1), shares.flatten(1)

    def loss(self, own: Tensor, places: Tensor, shares: Tensor) -> Tensor:
        """Return what has the gradient of the pinball loss, F(quantile) - level, without pairs."""
        places, order = places.sort(1)
        cumulative = shares.gather(1, order).cumsum(1)
        cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], 1)
        below = cumulative.gather(1, torch.searchsorted(places, own.detach().contiguous()))
        return (own * (below - self.levels)).sum(1).mean()


class HuberQuantile(Quantile):
    """QR with Huber's loss of kappa 1, as libraries ship it."""

    def next_law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the law of one action drawn: pairs with the quantiles of all would be too many."""
        drawn = torch.multinomial(policy, 1).squeeze(1)
        places = self(states)[torch.arange(len(drawn)), drawn]
        return places, torch.full_like(places, 1 / self.size)

    def loss(self, own: Tensor, places: Tensor, shares: Tensor) -> Tensor:
        gap = places.unsqueeze(1) - own.unsqueeze(2)
        size = huber_loss(gap, torch.zeros_like(gap), reduction="none")
        tilt = (self.levels.unsqueeze(-1) - (gap < 0).to(gap)).abs()
        return ((tilt * size) @ shares.unsqueeze(-1)).sum(1).mean()


class Expected(Peer):
    """The mean alone, as DQN has it (double: arXiv 1509.06461), with Huber's loss."""

    def __init__(self, n_inputs: int, n_actions: int) -> None:
        super().__init__(n_inputs, n_actions, 1)

    def means(self, states: Tensor) -> Tensor:
        return self(states).squeeze(-1)

    def law(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        mean = (policy * self.means(states)).sum(1, keepdim=True)
        return mean, torch.ones_like(mean)

    def loss(self, own: Tensor, places: Tensor, shares: Tensor) -> Tensor:
        return huber_loss(own, (places * shares).sum(1, keepdim=True))


class PeerLearner:
    """Steps of a peer towards its target's backup, as `skbellman.returns.learning.Learner`'s."""

    def __init__(self, peer: Peer, discount: float, rate: float, target_rate: float) -> None:
        self.field, self.discount = peer, discount
        self.rate, self.target_rate = rate, target_rate
        self.target = copy.deepcopy(peer).requires_grad_(False)
        self._slow, self._fast = list(self.target.parameters()), list(peer.parameters())
        self.optimiser = torch.optim.Adam(peer.parameters(), rate, fused=True)

    @property
    def actor(self) -> Peer:
        """The network by which actions are chosen."""
        return self.field

    def anneal(self, share_of_steps: float) -> None:
        self.optimiser.param_groups[0]["lr"] = (
            self.rate * 0.5 * (1 + math.cos(math.pi * share_of_steps))
        )

    def step(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            places, shares = self.next_law(batch)
            discount = batch.discounts(self.discount).unsqueeze(-1)
            places = batch.reward.unsqueeze(-1) + discount * places
        own = self.field(batch.state)[torch.arange(len(batch.action)), batch.action]
        loss = self.field.loss(own, places, shares)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._slow, self._fast, self.target_rate)
        return loss.detach()

    def next_law(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the law that follows each step, of the best action where there is no policy."""
        policy = batch.policy
        if policy is None:
            best = self.actor.best(batch.next_state)
            policy = one_hot(best, self.field.n_actions).to(batch.reward)
        return self.target.next_law(batch.next_state, policy)


def fit_peer(peer: Peer, table: Batch, gamma: float, n_steps: int, rate: float) -> None:
    """Train in place, as `skbellman.returns.learning.fit_to_table` does."""
    learner = PeerLearner(peer, gamma, rate, 0.1)
    for step in range(n_steps):
        learner.anneal(step / n_steps)
        learner.step(table.take(torch.randint(len(table.action), (256,))))


@torch.no_grad()
def quantiles(peer: Peer, states: Tensor, policy: Tensor, q: np.ndarray) -> np.ndarray:
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
