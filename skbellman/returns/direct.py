"""The paper's form of a return field: the return x is an input of two networks, g and s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from skbellman.fields import DensityField
from skbellman.fields.base import Levels
from skbellman.fields.direct import check_one_level
from skbellman.returns.batch import Batch
from skbellman.returns.fields import ReturnField
from skbellman.returns.laws import SignedLaw
from skbellman.returns.learning import ByAutograd, Learner
from skbellman.returns.optimiser import Adam
from skbellman.returns.perceptron import perceptron


class DirectReturnField(ReturnField):
    """Networks for the density s and its gradient g, functions of the return and of the state.

    They are the fields of arXiv 2410.01796, section 3. Nothing makes g the gradient of s, s
    positive, or its integral 1. There is one noise level.

    Parameters
    ----------
    n_inputs : int
        Width of a state.
    n_actions : int
    hidden : sequence of int
        Units of the hidden layers of both networks.
    low, high : float
        The interval of returns.

    Attributes
    ----------
    n_levels : int
        Noise levels in the support.
    n_waves : int
        Number of waves of x that a network sees: enough to resolve one noise level.
    """

    goes_on = False
    n_levels, n_waves = 30, 20

    def __init__(
        self, n_inputs: int, n_actions: int, hidden: Sequence[int], low: float, high: float
    ) -> None:
        super().__init__()
        self.n_actions, self.low, self.high = n_actions, low, high
        self.level = (high - low) / self.n_levels
        width = n_inputs + 1 + 2 * self.n_waves
        self.scalar_network = perceptron(width, hidden, n_actions)
        self.gradient_network = perceptron(width, hidden, n_actions)

    def forward(self, states: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return s and g at returns x, (n, m), in states, (n, n_inputs): two of (n, m, A)."""
        place = (2 * x - self.low - self.high) / (self.high - self.low)
        phases = place.unsqueeze(-1) * math.pi * torch.arange(1, self.n_waves + 1).to(x)
        seen = states.unsqueeze(1).expand(-1, x.shape[1], -1)
        inputs = torch.cat([seen, place.unsqueeze(-1), phases.sin(), phases.cos()], -1)
        # A network has learned nothing beyond its support, and the waves would repeat there.
        inside = ((x > self._edges[0]) & (x < self._edges[1])).unsqueeze(-1)
        s, g = self.scalar_network(inputs), self.gradient_network(inputs)
        return inside * s / self.level, inside * g / self.level**2

    @property
    def _edges(self) -> tuple[float, float]:
        return self.low - self.tail * self.level, self.high + self.tail * self.level

    def points(self, offset: Tensor) -> Tensor:
        """Return places from end to end, (n, m), one level apart, shifted by a share of it."""
        places = torch.arange(round(self.n_levels + 2 * self.tail)).to(offset)
        return self._edges[0] + self.level * (places + offset.unsqueeze(-1))

    def means(self, states: Tensor) -> Tensor:
        """Return the expected returns, (n, n_actions)."""
        x = self.points(torch.full((len(states),), 0.5).to(states))
        s, _ = self(states, x)
        return (x.unsqueeze(-1) * s).sum(1) / s.sum(1)

    def density(self, states: Tensor, policy: Tensor, x: Tensor) -> Tensor:
        """Return the density at x under actions of a policy, (n, m)."""
        s, _ = self(states, x.to(states).expand(len(states), -1))
        return (s @ policy.unsqueeze(-1)).squeeze(-1)

    def support(self) -> tuple[float, float, float]:
        """Return the ends of the density, and the noise level."""
        return *self._edges, self.level

    def law(self, state: Tensor, action: int) -> DensityField:
        """Return the law in one state, of shape (n_inputs,), after one action."""
        return DirectLaw(self, state, action)


class DirectLaw(SignedLaw):
    """One law of a `DirectReturnField`, at its only level, which is called 0.

    Parameters
    ----------
    field : DirectReturnField
    state : tensor of shape (n_inputs,)
    action : int
    """

    def __init__(self, field: DirectReturnField, state: Tensor, action: int) -> None:
        super().__init__()
        self.field, self.action = field, action
        self.state: Tensor
        self.register_buffer("state", state)

    def scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return s(x), shape (..., n), of either sign."""
        return self._fields(x, sigma)[0]

    def gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return g(x), shape (..., n, 1)."""
        return self._fields(x, sigma)[1].unsqueeze(-1)

    def _fields(self, x: Tensor, sigma: Levels) -> tuple[Tensor, Tensor]:
        check_one_level(sigma, "this law")
        fields = self.field(self.state.unsqueeze(0), x.reshape(1, -1).to(self.state))
        s, g = (part[0, :, self.action].reshape(x.shape[:-1]).to(x) for part in fields)
        return s, g


@dataclass(frozen=True)
class FieldMatching:
    """Gradient matching and identity matching towards the target's backup.

    The two share no parameters, so their losses need no relative weight.

    Attributes
    ----------
    discount : float
        Discount of the law at the next state.
    """

    discount: float

    def __call__(self, field: DirectReturnField, target: DirectReturnField, batch: Batch) -> Tensor:
        """Return the dimensionless loss of a batch."""
        x = field.points(torch.rand_like(batch.reward))
        with torch.no_grad():
            goals = backed_up_fields(target, batch, _policy(field, batch), self.discount, x)
        index = batch.action.view(-1, 1, 1).expand(-1, x.shape[1], 1)
        own = (part.gather(2, index).squeeze(2) for part in field(batch.state, x))
        scales = field.level, field.level**2
        errors = (
            (scale * (mine - goal)).square().sum(1).mean()
            for scale, mine, goal in zip(scales, own, goals, strict=True)
        )
        return sum(errors, torch.zeros(()).to(x))


def _policy(field: DirectReturnField, batch: Batch) -> Tensor:
    if batch.policy is not None:
        return batch.policy
    best = field.best(batch.next_state, batch.mask)
    return nn.functional.one_hot(best, field.n_actions).to(batch.reward)


class DirectLearner(Learner):
    """Steps of gradient matching and identity matching.

    Parameters
    ----------
    field : DirectReturnField
        Trained in place.
    discount : float
        Discount of the law at the next state.
    learning_rate, target_rate : float
        As for `Learner`.
    """

    def __init__(
        self, field: DirectReturnField, discount: float, learning_rate: float, target_rate: float
    ) -> None:
        optimiser = Adam(field.parameters(), learning_rate)
        objective = ByAutograd(FieldMatching(discount))
        super().__init__(field, objective, optimiser, target_rate)


def backed_up_fields(
    field: DirectReturnField,
    batch: Batch,
    policy: Tensor,
    discount: float,
    x: Tensor,
    n_nodes: int = 3,
    max_factor: float = 2.0,
) -> tuple[Tensor, Tensor]:
    r"""Return the density and the gradient field of :math:`r + \gamma Z'` at x, (n, m).

    The same as `skbellman.returns.bellman_backup`, for fields at one level. The noise e that keeps
    the level is integrated by quadrature,

    .. math:: (T s)(x) = \sum_k w_k \frac{1}{\gamma} s\Big(\frac{x - r - e_k}{\gamma}\Big), \qquad
        (T g)(x) = \sum_k w_k \frac{1}{\gamma^2} g\Big(\frac{x - r - e_k}{\gamma}\Big)

    Both are then divided by the sum over x, evenly spaced places, within a limit.
    """
    reward, level = batch.reward.unsqueeze(-1), field.level
    offset = x - reward
    normal = torch.exp(-0.5 * (offset / level).square()) / (level * math.sqrt(2 * math.pi))
    ended = normal, -offset / level**2 * normal
    if not discount:
        return ended
    nodes, shares = (torch.as_tensor(a).to(x) for a in np.polynomial.hermite_e.hermegauss(n_nodes))
    noise = level * math.sqrt(1 - discount**2) * nodes
    places = (offset.unsqueeze(-1) - noise) / discount
    fields = field(batch.next_state, places.flatten(1))
    s, g = ((part @ policy.unsqueeze(-1)).view_as(places) for part in fields)
    s, g = s @ shares / shares.sum() / discount, g @ shares / shares.sum() / discount**2
    mass = s.sum(1, keepdim=True) * (x[:, 1:2] - x[:, :1])
    factor = 1 / mass.clamp(1 / max_factor, max_factor)
    follows = batch.follows.unsqueeze(-1)
    return torch.where(follows, factor * s, ended[0]), torch.where(follows, factor * g, ended[1])
