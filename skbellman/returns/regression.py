"""Objectives of laws on a basis: their distance to the projected backup, or a cross-entropy.

A backup consists of the laws at the next states, a support that may move, and a projection onto the
basis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.bellman import project_backup, push_forward
from skbellman.returns.support import SupportPolicy


@dataclass(frozen=True)
class NextLaws:
    """The weights of the laws at the next states, (n, K): linear in the policy.

    Attributes
    ----------
    best : callable
        Returns the coordinates of the best actions, (n, K), given a field and the slower one.
    as_law : callable
        Turns the learned weights into those that are backed up, (n, K).
    """

    best: Callable[[Any, Any, Batch], Tensor]
    as_law: Callable[[Tensor], Tensor]

    def __call__(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Return the weights under the batch's policy, (n, K)."""
        if batch.policy is None:
            coordinates = self.best(field, target, batch)
        else:
            coordinates = target.mixed(batch.next_state, batch.policy)
        return self.as_law(target.basis.weights(coordinates))


def chosen_by_target(field: Any, target: Any, batch: Batch) -> Tensor:
    """Return coordinates of actions that the slower field chooses and evaluates."""
    return target.best_coordinates(batch.next_state, batch.mask)


def cut_off(weights: Tensor) -> Tensor:
    """Set negative weights to 0: without noise, they come from atoms between centres."""
    positive = weights.clamp(min=0)
    return positive / positive.sum(-1, keepdim=True)


class Projection(Protocol):
    """Project the backup of the laws at the next states onto a basis."""

    def __call__(
        self, basis: GaussianBasis, batch: Batch, discount: float, weights: Tensor, /
    ) -> Tensor:
        """Return coordinates of r + gamma Z', (n, K), for Z' with the given weights."""


def pushed_by_rows(basis: GaussianBasis, batch: Batch, discount: float, weights: Tensor) -> Tensor:
    """Return coordinates of backed-up laws, where each row may have a discount of its own."""
    pushed = push_forward(basis, batch.reward, batch.discounts(discount), weights)
    return basis.coordinates(pushed)


def pushed_at_once(basis: GaussianBasis, batch: Batch, discount: float, weights: Tensor) -> Tensor:
    """Return coordinates of backed-up laws, all of one discount."""
    return project_backup(basis, batch.reward, discount, batch.follows, weights)


def pushed_as_given(basis: GaussianBasis, batch: Batch, discount: float, weights: Tensor) -> Tensor:
    """Return coordinates of backed-up laws: at once, unless rows have discounts of their own."""
    pushed = pushed_at_once if batch.discount is None else pushed_by_rows
    return pushed(basis, batch, discount, weights)


@dataclass(frozen=True)
class Backup:
    """The target of a batch of steps: the projected backup.

    Attributes
    ----------
    discount : float
        Discount of the law at the next state.
    next_laws : NextLaws
    project : Projection
    support : SupportPolicy
        Moves the basis when needed.
    """

    discount: float
    next_laws: NextLaws
    project: Projection
    support: SupportPolicy

    @torch.no_grad()
    def __call__(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Return the coordinates, (n, K), of the target's backup."""
        weights = self.next_laws(field, target, batch)
        weights = self.support.after_a_look(field.basis, batch, self.discount, weights)
        return self.project(field.basis, batch, self.discount, weights)


@dataclass(frozen=True)
class Regression:
    """The mean distance of laws to their backup, computed from coordinates.

    Attributes
    ----------
    backup : Backup
    cumulative_weight : float
        Weight of matching distribution functions as well as densities.
    """

    backup: Backup
    cumulative_weight: float = 0.0

    @torch.no_grad()
    def set_gradients(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Set the gradients of the field's parameters, in place; return the loss of a batch."""
        return self.towards(field, self.backup(field, target, batch), batch)

    @torch.no_grad()
    def towards(self, field: Any, goal: Tensor, batch: Batch) -> Tensor:
        """Set the gradients of the distance to coordinates, (n, K); return the distance."""
        found, back = field.coordinates_and_back(batch.state, batch.action)
        gap = found - goal
        slopes = gap
        if self.cumulative_weight:
            slopes = gap @ metric(field.basis, self.cumulative_weight, gap.dtype, gap.device)
        loss = torch.dot(gap.flatten(), slopes.flatten()) / len(gap)
        back(slopes, 2 / len(gap))
        return loss


@dataclass(frozen=True)
class CrossEntropy:
    r"""The cross-entropy of laws and their backup, :math:`-\sum_k q_k \log p_k`.

    Weights p of a law are positive. Slopes by their logits are p - q, also where interpolation
    makes q slightly negative. So p is the mean of the backups.

    Attributes
    ----------
    discount : float
        Discount of the law at the next state. A batch may have one for each row.
    """

    discount: float

    @torch.no_grad()
    def set_gradients(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Set the gradients of the field's parameters, in place; return the loss of a batch."""
        policy = batch.policy
        if policy is None:  # the field chooses, and the slower field evaluates
            best = field.best(batch.next_state, batch.mask)
            policy = one_hot(best, field.n_actions).to(batch.state)
        following = target.weights_under(batch.next_state, policy)
        discounts = batch.discounts(self.discount)
        goal = push_forward(field.basis, batch.reward, discounts, following)
        logits, back = field.logits_and_back(batch.state, batch.action)
        log_weights = logits.log_softmax(-1)
        back((log_weights.exp() - goal) / len(goal))
        return -(goal * log_weights).sum(-1).mean()


@lru_cache(maxsize=4)
def metric(
    basis: GaussianBasis, cumulative_weight: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the matrix M, (K, K), of the squared distance u M u of a difference u."""
    identity = torch.eye(basis.size, dtype=torch.float64)
    cumulative = basis.cumulative(identity)
    return (identity + cumulative_weight * cumulative @ cumulative.T).to(device, dtype)
