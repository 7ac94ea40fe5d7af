"""Transitions of an environment: built from its steps, stored and sampled."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from skbellman.returns.batch import Batch
from skbellman.returns.episodes import Step


class Transition(NamedTuple):
    """A transition to learn from: one step, or several with the sum of their rewards.

    The discount is that of the return that follows; None is the usual one. ``on_policy`` says that
    no action after the first was a random one.
    """

    state: np.ndarray
    action: Any
    reward: float
    next_state: np.ndarray
    follows: bool
    next_mask: np.ndarray | None = None
    discount: float | None = None
    on_policy: bool = True


class MultiStep:
    """Build transitions over n steps, as steps arrive.

    Parameters
    ----------
    n : int
    gamma : float
    shorter : bool
        Whether the last steps of a truncated episode begin transitions over fewer steps, with a
        discount of their own. Otherwise they begin none.
    """

    def __init__(self, n: int, gamma: float, shorter: bool = False) -> None:
        self.n, self.gamma, self.shorter = n, gamma, shorter
        self._steps: deque[tuple[Step, bool]] = deque()

    def push(self, step: Step, explored: bool = False) -> Iterator[Transition]:
        """Add a step, and whether its action was random; yield the transitions that it completes.

        They have exactly n steps, or end the return, or are the last of a truncated episode.
        """
        self._steps.append((step, explored))
        if step.terminated:
            while self._steps:
                yield self._first()
        elif len(self._steps) == self.n:
            yield self._first()
        if step.truncated:
            while self.shorter and self._steps:
                yield self._first()._replace(discount=self.gamma ** (len(self._steps) + 1))
            self._steps.clear()

    def _first(self) -> Transition:
        total = sum(self.gamma**k * step.reward for k, (step, _) in enumerate(self._steps))
        (last, _), (first, _) = self._steps[-1], self._steps.popleft()
        return Transition(
            first.state, first.action, total, last.next_state, not last.terminated, last.next_mask,
            on_policy=not any(explored for _, explored in self._steps),
        )  # fmt: skip


class Replay:
    """The last transitions, sampled uniformly.

    Parameters
    ----------
    capacity, n_inputs : int
    rng : numpy Generator
    device : torch.device
    n_numbers : int
        Numbers of an action; 0 if actions are labels.
    dtype : numpy dtype
        Dtype of the states. Bytes are cast when they are used.

    Attributes
    ----------
    shorter : bool
        Whether transitions may have discounts of their own, see `MultiStep`.
    only_on_policy : bool
        Whether returns with random actions after the first are left out of samples.

    Raises
    ------
    ValueError
        If the states need more memory than the machine has.
    """

    shorter: ClassVar[bool] = True

    def __init__(
        self,
        capacity: int,
        n_inputs: int,
        rng: np.random.Generator,
        device: torch.device,
        n_numbers: int = 0,
        dtype: Any = np.float32,
    ) -> None:
        check_memory(capacity, n_inputs, np.dtype(dtype))
        self.capacity, self.rng, self.device = capacity, rng, device
        self.n_numbers = n_numbers
        self.n_seen, self.only_on_policy = 0, False
        self._states = np.zeros((2, capacity, n_inputs), dtype=dtype)
        numbers = np.zeros((capacity, n_numbers), dtype=np.float32)
        self._actions = numbers if n_numbers else np.zeros(capacity, dtype=np.int64)
        self._rewards = np.zeros(capacity, dtype=np.float32)
        self._follows = np.zeros(capacity, dtype=bool)
        self._on_policy = np.zeros(capacity, dtype=bool)
        self._masks: np.ndarray | None = None
        self._discounts = np.full(capacity, np.nan, dtype=np.float32)

    def __len__(self) -> int:
        return min(self.n_seen, self.capacity)

    def add(self, transition: Transition) -> None:
        """Store a transition. It replaces the oldest if the replay is full."""
        at = self.n_seen % self.capacity
        self._states[:, at] = transition.state, transition.next_state
        self._actions[at] = transition.action
        self._rewards[at] = transition.reward
        self._follows[at] = transition.follows
        self._on_policy[at] = transition.on_policy
        self._discounts[at] = np.nan if transition.discount is None else transition.discount
        if self._masks is None and transition.next_mask is not None:
            self._masks = np.ones((self.capacity, len(transition.next_mask)), dtype=bool)
        if self._masks is not None:
            self._masks[at] = True if transition.next_mask is None else transition.next_mask
        self.n_seen += 1

    @property
    def follows(self) -> torch.Tensor:
        """Whether the return goes on after each transition, (n,)."""
        return torch.as_tensor(self._follows[: len(self)])

    def everything(self) -> Batch:
        """Return all transitions."""
        return self._batch(np.arange(len(self)))

    def some(self, n_most: int = 5000) -> Batch:
        """Return transitions spread evenly over all, at most so many."""
        return self._batch(np.arange(0, len(self), 1 + len(self) // n_most))

    def sample(self, batch_size: int) -> Batch:
        """Return transitions, sampled with replacement. The next actions are the best."""
        rows = np.flatnonzero(self._on_policy) if self.only_on_policy else ()
        if len(rows):
            return self._batch(self.rng.choice(rows, batch_size))
        return self._batch(self.rng.integers(len(self), size=batch_size))

    def _batch(self, rows: np.ndarray) -> Batch:
        parts = (self._states[0], self._states[1], self._actions, self._rewards, self._follows)
        batch = Batch(*(torch.as_tensor(part[rows], device=self.device) for part in parts))
        if self._masks is not None:
            batch = replace(batch, mask=torch.as_tensor(self._masks[rows], device=self.device))
        if np.isnan(self._discounts[rows]).all():
            return batch
        return replace(batch, discount=torch.as_tensor(self._discounts[rows], device=self.device))


def check_memory(capacity: int, n_inputs: int, dtype: np.dtype) -> None:
    """Raise an error if two states for each transition need more memory than the machine has."""
    needed = 2 * capacity * n_inputs * dtype.itemsize
    there = memory()
    if needed > there:
        raise ValueError(
            f"A replay of {capacity} transitions with {n_inputs} numbers in a state needs "
            f"{needed / 2**30:.3g} GiB, and this machine has {there / 2**30:.3g}. Lower "
            "replay_size, or make observations smaller: resize images, write labels as numbers."
        )


def memory() -> float:
    """Return the memory of this machine in bytes, infinity if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf
