"""The objective of laws on a basis: their distance to the projected backup, in parts.

A backup has the laws at the next states, a support that may move, and a projection onto the basis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

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
        Gives the coordinates after the best actions, (n, K), by a field and the slower one.
    as_law : callable
        Takes weights as they are learned to those that are backed up, (n, K).
    """

    best: Callable[[Any, Any, Batch], Tensor]
    as_law: Callable[[Tensor], Tensor]

    def __call__(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Return the weights under the batch's policy, (n, K)."""
        if batch.policy is None:
            coordinates = self.best(field, target, batch)
        else:
            coordinates = (batch.policy.unsqueeze(1) @ target(batch.next_state)).squeeze(1)
        return self.as_law(target.basis.weights(coordinates))


def chosen_by_field(field: Any, target: Any, batch: Batch) -> Tensor:
    """Return coordinates of actions chosen by the field, valued by the slower one."""
    return target.coordinates(batch.next_state, field.best(batch.next_state, batch.mask))


def chosen_by_target(field: Any, target: Any, batch: Batch) -> Tensor:
    """Return coordinates of actions chosen and valued by the slower field."""
    return target.best_coordinates(batch.next_state, batch.mask)


def as_learned(weights: Tensor) -> Tensor:
    """Return the weights as they are."""
    return weights


def cut_off(weights: Tensor) -> Tensor:
    """Cut weights off below 0: they are those of atoms between centres, without noise."""
    positive = weights.clamp(min=0)
    return positive / positive.sum(-1, keepdim=True)


class Projection(Protocol):
    """Takes the laws at the next states one step back, onto a basis."""

    def __call__(
        self, basis: GaussianBasis, batch: Batch, discount: float, weights: Tensor, /
    ) -> Tensor:
        """Return coordinates of r + gamma Z', (n, K), where Z' has the weights."""


def pushed_by_rows(basis: GaussianBasis, batch: Batch, discount: float, weights: Tensor) -> Tensor:
    """Return coordinates of backed-up laws, where each row may have a discount of its own."""
    pushed = push_forward(basis, batch.reward, batch.discounts(discount), weights)
    return basis.coordinates(pushed)


def pushed_at_once(basis: GaussianBasis, batch: Batch, discount: float, weights: Tensor) -> Tensor:
    """Return coordinates of backed-up laws, all of one discount."""
    return project_backup(basis, batch.reward, discount, batch.follows, weights)


@dataclass(frozen=True)
class Backup:
    """What laws are to become by a batch of steps: their backup, projected.

    Attributes
    ----------
    discount : float
        Of the law at the next state.
    next_laws : NextLaws
    project : Projection
    support : SupportPolicy
        Moves the basis, if that is called for.
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
    """The mean distance of laws to their backup, from the gap of their coordinates.

    Attributes
    ----------
    backup : Backup
    cumulative_weight : float
        Of matching distribution functions beside densities.
    """

    backup: Backup
    cumulative_weight: float = 0.0

    def __call__(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        goal = self.backup(field, target, batch)
        gap = field.coordinates(batch.state, batch.action) - goal
        return self._distance(field.basis, gap).mean()

    def _distance(self, basis: GaussianBasis, gap: Tensor) -> Tensor:
        """Return the squared distance of laws, (n,), from the gap of their coordinates, (n, K)."""
        densities = gap.square().sum(-1)
        if not self.cumulative_weight:
            return densities
        return densities + self.cumulative_weight * basis.cumulative(gap).square().sum(-1)
