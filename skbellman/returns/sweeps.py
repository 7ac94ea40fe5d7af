"""Sweeps over laws in a table, by all that was seen at once.

Where states are labels, equal steps are counted, and the backup of a state and action is the mean
over its steps: a linear operator on the laws, applied again and again. There is no rate, no slower
network, and no noise of batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.fields import TabularReturnField
from skbellman.returns.learning import LastGood
from skbellman.returns.regression import (
    Backup,
    NextLaws,
    chosen_by_target,
    cut_off,
    pushed_at_once,
)
from skbellman.returns.support import FixedSupport, MovingSupport, Support, SupportPolicy

# Takes a basis, laws of pairs and how often each was seen: those laws with what is supposed beside
# it, and the law of a pair that was never seen, None for the mean of the state's other actions.
Prior = Callable[[GaussianBasis, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def no_prior(basis: GaussianBasis, laws: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the laws as they are."""
    return laws, None


@dataclass(frozen=True)
class Hope:
    """Every action has had, beside its returns, others at the end of the support.

    The seldomer an action was taken, the more is hoped of it, and of what leads there: optimism, as
    in R-max (Brafman and Tennenholtz, JMLR 2002), by a mixture of laws.

    Attributes
    ----------
    weight : float
        Returns that are hoped for, by the root of how many an action had: so much less than certain
        is their mean.
    """

    weight: float = 1.0

    def __call__(
        self, basis: GaussianBasis, laws: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the laws with what is hoped."""
        best = basis.project(laws.new_tensor([[basis.high]]), laws.new_ones(1, 1))
        share = (self.weight / (self.weight + counts.sqrt())).unsqueeze(-1)
        return laws + share * (best - laws), best.squeeze(0)


class TableLearner:
    """Sweeps: laws become the means of their backups, over distinct steps that are counted.

    Parameters
    ----------
    field : TabularReturnField
        Changed in place.
    backup : Backup
    prior : callable
        What is supposed beside that which was seen.
    """

    def __init__(self, field: TabularReturnField, backup: Backup, prior: Prior = no_prior) -> None:
        self.field, self.backup, self.prior = field, backup, prior

    def step(self, batch: Batch) -> Tensor:
        """Replace the laws of the pairs in a batch; return by how much they changed, squared."""
        backed_up = self.backup(self.field, self.field, batch)
        pairs, laws, counts = self._means(batch, backed_up)
        laws, unseen = self.prior(self.field.basis, laws, counts)
        change = self.field.assign(pairs, laws)
        self.field.suppose(unseen)
        return change

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


class GreedyTableLearner:
    """Sweeps in an environment; actions are taken by laws of `Hope`, beside those learned.

    Parameters
    ----------
    field : TabularReturnField
        Changed in place.
    support : Support
    discount : float
        Of the law at the next state.

    Attributes
    ----------
    target : TabularReturnField
        The field itself: there is no slower one.
    actor : TabularReturnField
        The laws of hope, on the same basis.
    support : MovingSupport
    n_steps : int
        Sweeps that were made.
    """

    def __init__(self, field: TabularReturnField, support: Support, discount: float) -> None:
        self.field = self.target = field
        self.actor, self.support = copy.deepcopy(field), MovingSupport(support, self)
        self.learned = TableLearner(field, sweep_backup(discount, self.support))
        self.hoped = TableLearner(self.actor, sweep_backup(discount, FixedSupport()), Hope())
        self.n_steps = 0
        self._good = LastGood(field, field)

    def anneal(self, share_of_steps: float) -> None:
        """There is no rate."""

    def step(self, batch: Batch) -> Tensor:
        """Replace the laws of the pairs in a batch, and what is hoped of them."""
        change = self.learned.step(batch)
        self.hoped.step(batch)
        self.n_steps += 1
        return change

    def keep_if_finite(self, loss: Tensor) -> bool:
        """Remember the laws if they change finitely, else go back to what is remembered."""
        return self._good.keep_if_finite(loss)

    def move_to(self, basis: GaussianBasis) -> None:
        """Take the laws, and those of hope, to another basis."""
        for field in (self.field, self.actor):
            field.move_to(basis)


def sweep_backup(discount: float, support: SupportPolicy) -> Backup:
    """Return the backup of the batch's policy, or of the best actions, for laws in a table."""
    return Backup(discount, NextLaws(chosen_by_target, cut_off), pushed_at_once, support)
