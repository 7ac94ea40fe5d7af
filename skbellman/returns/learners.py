"""Learners of laws on a basis: which objective and optimiser go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from skbellman.returns.fields import BasisReturnField
from skbellman.returns.learning import Learner
from skbellman.returns.optimiser import Adam, BlockwiseAdam, Optimiser
from skbellman.returns.regression import (
    Backup,
    NextLaws,
    Regression,
    as_learned,
    chosen_by_field,
    chosen_by_target,
    pushed_at_once,
    pushed_by_rows,
)
from skbellman.returns.simplex import law_of_mean
from skbellman.returns.support import FixedSupport, MovingSupport, Support


class BasisLearner(Learner):
    """Steps of regression on the projected backup, on a basis that stays.

    Parameters
    ----------
    field : BasisReturnField
        Trained in place.
    discount : float
        Of the law at the next state. A batch may have one for each row.
    learning_rate, target_rate : float
        As for `Learner`.
    """

    def __init__(
        self, field: BasisReturnField, discount: float, learning_rate: float, target_rate: float
    ) -> None:
        next_laws = NextLaws(chosen_by_field, as_learned)
        backup = Backup(discount, next_laws, pushed_by_rows, FixedSupport())
        optimiser = Adam(field.parameters(), learning_rate)
        super().__init__(field, Regression(backup), optimiser, target_rate)


class GreedyLearner(Learner):
    r"""Steps where actions are chosen by what is learned, on a support that moves.

    The backup brings distribution functions nearer, by :math:`\sqrt\gamma`, and takes densities
    apart, by :math:`1 / \sqrt\gamma` (arXiv 1802.08163): a policy that follows the errors makes
    them grow. So distribution functions are matched beside densities. What is backed up is a law
    without weights below 0 and of the same mean, which keeps expected returns on the support. Every
    action is chosen by the slower field, whose choices do not waver from step to step.

    Parameters
    ----------
    field : BasisReturnField
        Trained in place.
    support : Support
    discount : float
        Of the law at the next state.
    learning_rate, target_rate : float
        As for `Learner`.
    optimiser : callable
        Makes the optimiser of parameters and a rate.

    Attributes
    ----------
    support : MovingSupport
    """

    cumulative_weight = 0.1

    def __init__(
        self,
        field: BasisReturnField,
        support: Support,
        discount: float,
        learning_rate: float,
        target_rate: float,
        optimiser: Callable[[Iterable[Tensor], float], Optimiser] = BlockwiseAdam,
    ) -> None:
        self.support = MovingSupport(support, self)
        next_laws = NextLaws(chosen_by_target, law_of_mean)
        backup = Backup(discount, next_laws, pushed_at_once, self.support)
        objective = Regression(backup, self.cumulative_weight)
        made = optimiser(field.parameters(), learning_rate)
        super().__init__(field, objective, made, target_rate)


@dataclass(frozen=True)
class GreedyKind:
    """A greedy learner for a kind of states.

    Attributes
    ----------
    usual_rate : float
        A learning rate that suits the optimiser, where none is asked for.
    optimiser : callable
        As for `GreedyLearner`.
    """

    usual_rate: float
    optimiser: Callable[[Iterable[Tensor], float], Optimiser]

    def __call__(
        self,
        field: BasisReturnField,
        support: Support,
        discount: float,
        learning_rate: float,
        target_rate: float,
    ) -> GreedyLearner:
        """Return the learner."""
        return GreedyLearner(field, support, discount, learning_rate, target_rate, self.optimiser)


def greedy_kind(one_hot: bool) -> GreedyKind:
    """Return the learner for states that are flags of labels, or numbers.

    Weights of seldom seen labels need Adam's steps, as long for each number.
    """
    return GreedyKind(Learner.usual_rate, Adam) if one_hot else GreedyKind(2e-3, BlockwiseAdam)
