"""Learners of laws on a basis, each with its objective and optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from skbellman.returns.fields import BasisReturnField
from skbellman.returns.frames import FramedReturnField
from skbellman.returns.learning import Learner
from skbellman.returns.optimiser import Adam, BlockwiseAdam, Optimiser
from skbellman.returns.regression import (
    Backup,
    CrossEntropy,
    NextLaws,
    Regression,
    chosen_by_target,
    pushed_as_given,
)
from skbellman.returns.simplex import law_of_mean
from skbellman.returns.support import MovingSupport, Support


class FramedLearner(Learner):
    """Cross-entropy to the backup in frames of states, with a fixed basis.

    Parameters
    ----------
    field : FramedReturnField
        Trained in place.
    discount : float
        Discount of the law at the next state. A batch may have one for each row.
    learning_rate, target_rate : float
        As for `Learner`.
    """

    def __init__(
        self, field: FramedReturnField, discount: float, learning_rate: float, target_rate: float
    ) -> None:
        optimiser = Adam(field.parameters(), learning_rate)
        super().__init__(field, CrossEntropy(discount), optimiser, target_rate)


class GreedyLearner(Learner):
    r"""Regression on the backup of the greedy policy, with a support that moves.

    The backup contracts distances of distribution functions by :math:`\sqrt\gamma`, and expands
    those of densities by :math:`1 / \sqrt\gamma` (arXiv 1802.08163). A policy that follows the
    errors would amplify them, so distribution functions are matched as well as densities. Before
    its backup, a law loses its negative weights and keeps its mean, so expected returns stay on the
    support. The slower field chooses every action, because its choices change less from step to
    step.

    Parameters
    ----------
    field : BasisReturnField
        Trained in place.
    support : Support
    discount : float
        Discount of the law at the next state.
    learning_rate, target_rate : float
        As for `Learner`.
    optimiser : callable
        Returns the optimiser, given parameters and a rate.

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
        backup = Backup(discount, next_laws, pushed_as_given, self.support)
        objective = Regression(backup, self.cumulative_weight)
        made = optimiser(field.parameters(), learning_rate)
        super().__init__(field, objective, made, target_rate)


@dataclass(frozen=True)
class GreedyKind:
    """The settings of a greedy learner for a kind of states.

    Attributes
    ----------
    usual_rate : float
        Default learning rate for the optimiser.
    optimiser : callable
        See `GreedyLearner`.
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

    Weights of rare labels need Adam, whose steps have the same length for each weight.
    """
    return GreedyKind(Learner.usual_rate, Adam) if one_hot else GreedyKind(2e-3, BlockwiseAdam)
