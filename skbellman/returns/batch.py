"""Encoded transitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Encoded transitions.

    Attributes
    ----------
    state, next_state : tensor of shape (n, d)
    action : tensor of int, shape (n,), or of numbers, (n, n_numbers)
    reward : tensor of shape (n,)
        The sum of discounted rewards until the next state.
    follows : tensor of bool, shape (n,)
        Whether the return goes on from there.
    policy : tensor of shape (n, n_actions) or None
        Probabilities of the next actions; None takes the best.
    mask : tensor of bool, shape (n, n_actions), or None
        Which actions are available in the next state; None if all are.
    count : tensor of shape (n,), or None
        How often each step was seen; None if steps are not counted.
    discount : tensor of shape (n,), or None
        Discount of the return that follows each step; NaN for the common one. None if all rows
        share one.
    """

    state: Tensor
    next_state: Tensor
    action: Tensor
    reward: Tensor
    follows: Tensor
    policy: Tensor | None = None
    mask: Tensor | None = None
    count: Tensor | None = None
    discount: Tensor | None = None

    def discounts(self, discount: float) -> Tensor:
        """Return the discount of each row, (n,), 0 if nothing follows, from the common one."""
        goes_on = self.follows.to(self.reward)
        if self.discount is None:
            return discount * goes_on
        return goes_on * self.discount.nan_to_num(discount)

    def take(self, rows: Tensor) -> Batch:
        """Return some of the rows."""
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device | str) -> Batch:
        """Return the rows on a device."""
        return self._each(lambda part: part.to(device))

    def and_then(self, other: Batch) -> Batch:
        """Return the rows of both, which have the same parts."""
        parts = vars(other)
        return replace(
            self, **{k: torch.cat([v, parts[k]]) for k, v in vars(self).items() if v is not None}
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(self, **{k: change(v) for k, v in vars(self).items() if v is not None})
