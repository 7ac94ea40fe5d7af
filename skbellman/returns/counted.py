"""Distinct steps between labelled states, and how often each was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from skbellman.returns.batch import Batch
from skbellman.returns.replay import Replay, Transition


def counted(batch: Batch) -> Batch:
    """Return the distinct steps of a batch, their counts, and the mean policy of each.

    The backup is linear in the policy, so equal steps have the backup of their mean policy.
    """
    state, following = batch.state.argmax(-1), batch.next_state.argmax(-1)
    parts = [state, batch.action, torch.where(batch.follows, following, state), batch.follows]
    keys = torch.stack([part.double() for part in [*parts, batch.reward]], -1)
    own = (torch.ones_like(batch.reward) if batch.count is None else batch.count).double()
    _, place = torch.unique(keys, dim=0, return_inverse=True)
    n_distinct = int(place.max()) + 1
    count = own.new_zeros(n_distinct).index_add_(0, place, own)
    first = torch.empty_like(place[:n_distinct]).scatter_(
        0, place, torch.arange(len(place)).to(place)
    )
    distinct = replace(batch.take(first), count=count)
    if batch.policy is None:
        return distinct
    policy = batch.policy.double()
    sums = policy.new_zeros(n_distinct, policy.shape[1])
    sums.index_add_(0, place, own.unsqueeze(-1) * policy)
    return replace(distinct, policy=(sums / count.unsqueeze(-1)).to(batch.policy))


class CountedReplay(Replay):
    """The last distinct transitions, and how often each was seen.

    Parameters
    ----------
    capacity, n_inputs, rng, device
        As for `Replay`.

    Attributes
    ----------
    most_swept : int
        Distinct steps that are backed up at most for one step in an environment.
    """

    most_swept = 256
    shorter = False

    def __init__(
        self, capacity: int, n_inputs: int, rng: np.random.Generator, device: torch.device
    ) -> None:
        super().__init__(capacity, n_inputs, rng, device)
        self._place: dict[Any, int] = {}
        self._keys: list[Any] = []
        self._counts = np.zeros(capacity, dtype=np.float32)
        self._pairs = np.zeros((capacity, 2), dtype=np.int64)

    def add(self, transition: Transition) -> None:
        """Count a known transition; a new one replaces the oldest."""
        key = _key(transition)
        if key not in self._place:
            self._begin(key)
            super().add(transition)
        self._counts[self._place[key]] += 1

    def _begin(self, key: Any) -> None:
        at = self.n_seen % self.capacity
        if at < len(self._keys):
            del self._place[self._keys[at]]
            self._keys[at] = key
        else:
            self._keys.append(key)
        self._place[key], self._counts[at], self._pairs[at] = at, 0, key[:2]

    def recall(self, batch: Batch) -> None:
        """Add the distinct steps of an earlier fit."""
        assert batch.count is not None
        for k, count in enumerate(batch.count.tolist()):
            step = Transition(
                batch.state[k].numpy(), int(batch.action[k]), float(batch.reward[k]),
                batch.next_state[k].numpy(), bool(batch.follows[k]),
                None if batch.mask is None else batch.mask[k].numpy(),
            )  # fmt: skip
            self.add(step)
            self._counts[self._place[_key(step)]] += count - 1

    def everything(self) -> Batch:
        """Return all distinct steps."""
        return self._counted(np.arange(len(self)))

    def sample(self, batch_size: int) -> Batch:
        """Return all distinct steps, or all those of some states and actions if there are many."""
        if len(self) <= self.most_swept:
            return self.everything()
        pairs = np.ravel_multi_index(self._pairs[: len(self)].T, self._pairs.max(0) + 1)
        _, pair, n_rows = np.unique(pairs, return_inverse=True, return_counts=True)
        order = self.rng.permutation(len(n_rows))
        n_pairs = np.searchsorted(n_rows[order].cumsum(), self.most_swept, side="right")
        return self._counted(np.flatnonzero(np.isin(pair, order[: max(n_pairs, 1)])))

    def _counted(self, rows: np.ndarray) -> Batch:
        count = torch.as_tensor(self._counts[rows], device=self.device)
        return replace(self._batch(rows), count=count)


def _key(transition: Transition) -> Any:
    state, following = int(transition.state.argmax()), int(transition.next_state.argmax())
    following = following if transition.follows else state
    reward = float(np.float32(transition.reward))  # in the dtype of the replay
    return state, transition.action, following, transition.follows, reward
