"""Sweeps over laws in a table, with all steps seen.

If states are labels, equal steps are counted, and the backup of a state and action is the mean over
its steps. This linear operator is applied repeatedly, without a learning rate, a slower network or
noise of batches.
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

# Maps a basis, laws of pairs and counts to the laws with a prior, and the law of unseen pairs. None
# stands for the mean of the state's other actions.
Prior = Callable[[GaussianBasis, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def no_prior(basis: GaussianBasis, laws: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the laws unchanged."""
    return laws, None


@dataclass(frozen=True)
class Hope:
    """An exploration bonus: every action gets additional returns at the end of the support.

    Rare actions, and actions that lead there, get a larger bonus. This is optimism, as in R-max
    (Brafman and Tennenholtz, JMLR 2002), by a mixture of laws.

    Attributes
    ----------
    weight : float
        Number of additional returns, relative to the root of the count of the action.
    """

    weight: float = 1.0

    def __call__(
        self, basis: GaussianBasis, laws: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the laws with the bonus."""
        best = basis.project(laws.new_tensor([[basis.high]]), laws.new_ones(1, 1))
        share = (self.weight / (self.weight + counts.sqrt())).unsqueeze(-1)
        return laws + share * (best - laws), best.squeeze(0)


class TableLearner:
    """Sweeps that replace laws by the means of their backups over counted distinct steps.

    Parameters
    ----------
    field : TabularReturnField
        Changed in place.
    backup : Backup
    prior : callable
        The prior, in addition to the steps seen.
    """

    def __init__(self, field: TabularReturnField, backup: Backup, prior: Prior = no_prior) -> None:
        self.field, self.backup, self.prior = field, backup, prior

    def step(self, batch: Batch) -> Tensor:
        """Replace the laws of the pairs in a batch, and return their squared change."""
        backed_up = self.backup(self.field, self.field, batch)
        pairs, laws, counts = self._means(batch, backed_up)
        laws, unseen = self.prior(self.field.basis, laws, counts)
        change = self.field.assign(pairs, laws)
        self.field.suppose(unseen)
        return change

    def _means(self, batch: Batch, laws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pairs in a batch, the means of their laws, and their counts."""
        codes = batch.state.argmax(-1) * self.field.n_actions + batch.action
        pairs, place = codes.unique(return_inverse=True)
        assert batch.count is not None
        count = batch.count.to(laws)
        counts = count.new_zeros(len(pairs)).index_add_(0, place, count)
        shares = (count / counts[place]).unsqueeze(-1)
        means = laws.new_zeros(len(pairs), laws.shape[1]).index_add_(0, place, shares * laws)
        return pairs, means, counts


class GreedyTableLearner:
    """Sweeps in an environment, with actions chosen by the laws of `Hope`.

    Parameters
    ----------
    field : TabularReturnField
        Changed in place.
    support : Support
    discount : float
        Discount of the law at the next state.

    Attributes
    ----------
    target : TabularReturnField
        The field itself: there is no slower one.
    actor : TabularReturnField
        The laws with the bonus, on the same basis.
    support : MovingSupport
    n_steps : int
        Sweeps so far.
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
        """Replace the laws of the pairs in a batch, and those with the bonus."""
        change = self.learned.step(batch)
        self.hoped.step(batch)
        self.n_steps += 1
        return change

    def keep_if_finite(self, loss: Tensor) -> bool:
        """Save the laws if their change is finite, else restore the saved ones."""
        return self._good.keep_if_finite(loss)

    def move_to(self, basis: GaussianBasis) -> None:
        """Move the laws, and those with the bonus, to another basis."""
        for field in (self.field, self.actor):
            field.move_to(basis)


def sweep_backup(discount: float, support: SupportPolicy) -> Backup:
    """Return the backup of the batch's policy, or of the best actions, for laws in a table."""
    return Backup(discount, NextLaws(chosen_by_target, cut_off), pushed_at_once, support)
