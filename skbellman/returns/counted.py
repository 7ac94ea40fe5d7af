"""Laws in a table, learned from all that was seen at once.

Where states are labels, equal steps are counted, and the backup of a state and action is the mean
over its steps: a linear operator on the laws, applied again and again. There is no rate, no slower
network, and no noise of batches.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.control import Replay, Transition
from skbellman.returns.fields import TabularReturnField
from skbellman.returns.learning import GreedyLearner, SupportedLearner
from skbellman.returns.support import Support

# Distinct steps that are backed up for one step in an environment, or those of one pair.
_SWEPT = 256
# Returns that are hoped for, beside those that an action had, by the root of how many it had: so
# much less than certain is their mean.
_HOPE = 1.0


def counted(batch: Batch) -> Batch:
    """Return the distinct steps of a batch, how often each is there, and its mean policy.

    The backup is linear in the policy: equal steps have the backup of the mean.
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
    """The last distinct transitions, and how often each was seen."""

    def __init__(
        self, capacity: int, n_inputs: int, rng: np.random.Generator, device: torch.device
    ) -> None:
        super().__init__(capacity, n_inputs, rng, device)
        self._place: dict[Any, int] = {}
        self._keys: list[Any] = []
        self._counts = np.zeros(capacity, dtype=np.float32)
        self._pairs = np.zeros((capacity, 2), dtype=np.int64)

    def add(self, transition: Transition) -> None:
        """Count a transition that is there; keep another in place of the oldest."""
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
        """Take up the distinct steps of an earlier time."""
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
        """Return all distinct steps, or, of many, all those of some states and actions."""
        if len(self) <= _SWEPT:
            return self.everything()
        pairs = np.ravel_multi_index(self._pairs[: len(self)].T, self._pairs.max(0) + 1)
        _, pair, n_rows = np.unique(pairs, return_inverse=True, return_counts=True)
        order = self.rng.permutation(len(n_rows))
        n_pairs = np.searchsorted(n_rows[order].cumsum(), _SWEPT, side="right")
        return self._counted(np.flatnonzero(np.isin(pair, order[: max(n_pairs, 1)])))

    def _counted(self, rows: np.ndarray) -> Batch:
        count = torch.as_tensor(self._counts[rows], device=self.device)
        return replace(self._batch(rows), count=count)


def _key(transition: Transition) -> Any:
    state, following = int(transition.state.argmax()), int(transition.next_state.argmax())
    following = following if transition.follows else state
    reward = float(np.float32(transition.reward))  # as it is kept
    return state, transition.action, following, transition.follows, reward


class TableLearner(SupportedLearner):
    """Sweeps: laws become the means of their backups, over distinct steps that are counted."""

    field: TabularReturnField

    def step(self, batch: Batch) -> Tensor:
        """Replace the laws of the pairs in a batch; return by how much they changed, squared."""
        pairs, laws, _ = self._means(batch, self.backup(batch))
        change = self.field.assign(pairs, laws)
        self.field.suppose()
        self.n_steps += 1
        return change

    def anneal(self, share_of_steps: float) -> None:
        """There is no rate."""

    def _means(self, batch: Batch, laws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pairs in a batch, the means of their laws, and how often each was seen."""
        codes = batch.state.argmax(-1) * self.field.n_actions + batch.action
        pairs, place = codes.unique(return_inverse=True)
        assert batch.count is not None
        count = batch.count.to(laws)
        counts = count.new_zeros(len(pairs)).index_add_(0, place, count)
        shares = (count / counts[place]).unsqueeze(-1)
        means = laws.new_zeros(len(pairs), laws.shape[1]).index_add_(0, place, shares * laws)
        return pairs, means, counts

    def _slower(self, field: TabularReturnField) -> TabularReturnField:
        return field

    def _move(self, basis: GaussianBasis) -> None:
        self.field.move_to(basis)


class GreedyTable(TableLearner, GreedyLearner):
    """Sweeps in an environment, where the next actions are the best.

    Actions are taken by these laws while an agent learns. Its answers are those of `tabular`.
    """

    def _as_law(self, weights: Tensor) -> Tensor:
        """Cut weights off below 0: they are those of atoms between centres, without noise."""
        positive = weights.clamp(min=0)
        return positive / positive.sum(-1, keepdim=True)


class Hope(GreedyTable):
    """Laws in which every action has had, beside its returns, another at the end of the support.

    The seldomer an action was taken, the more is hoped of it, and of what leads there: optimism, as
    in R-max (Brafman and Tennenholtz, JMLR 2002), by a mixture of laws.

    Parameters
    ----------
    field : TabularReturnField
        Whose basis is moved by others.
    support, discount, learning_rate, target_rate
        As for `GreedyLearner`.
    """

    def step(self, batch: Batch) -> Tensor:
        """Replace the laws of the pairs in a batch; return by how much they changed, squared."""
        basis = self.field.basis
        pairs, laws, counts = self._means(batch, self.backup(batch))
        best = basis.project(laws.new_tensor([[basis.high]]), laws.new_ones(1, 1))
        share = (_HOPE / (_HOPE + counts.sqrt())).unsqueeze(-1)
        change = self.field.assign(pairs, laws + share * (best - laws))
        self.field.suppose(best.squeeze(0))
        self.n_steps += 1
        return change

    def _follow(self, batch: Batch, next_weights: Tensor) -> None:
        """Stay on the support of the laws that are learned."""


class GreedyTableLearner(GreedyTable):
    """Sweeps in an environment; actions are taken by the laws of `Hope`, beside those learned."""

    def __init__(self, field: TabularReturnField, support: Support, *rates: float) -> None:
        super().__init__(field, support, *rates)
        self.hope = Hope(copy.deepcopy(field), support, *rates)

    @property
    def actor(self) -> TabularReturnField:
        """The laws of hope."""
        return self.hope.field

    def step(self, batch: Batch) -> Tensor:
        """Replace the laws of the pairs in a batch, and what is hoped of them."""
        change = super().step(batch)
        self.hope.step(batch)
        return change

    def _move(self, basis: GaussianBasis) -> None:
        super()._move(basis)
        self.hope.field.move_to(basis)
