"""A learner of twin critics, and of an actor that climbs a statistic of their laws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from skbellman.returns.actors import ActorCriticField
from skbellman.returns.batch import Batch
from skbellman.returns.learning import Learner
from skbellman.returns.optimiser import BlockwiseAdam
from skbellman.returns.regression import Backup, NextLaws, Regression, pushed_as_given
from skbellman.returns.risk import Statistic
from skbellman.returns.simplex import law_of_mean
from skbellman.returns.support import MovingSupport, Support


class CautiousLaws:
    """The laws after the slower actor's action: at first those of the critic with the lower value.

    An actor exploits overestimates of its critics. The lower of two critics seldom overestimates
    (arXiv 1802.09477), but it underestimates. As the actor settles, the law changes to the mixture
    of both critics, which does neither. It is linear in them.

    Parameters
    ----------
    statistic : Statistic
        The lower value of this statistic is taken.

    Attributes
    ----------
    caution : float
        Share of the lower law, from 1 to 0; the rest is the mixture.
    """

    def __init__(self, statistic: Statistic) -> None:
        self.statistic, self.caution = statistic, 1.0

    def __call__(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Return coordinates, (n, K)."""
        first, second = target.twins(target.with_own_actions(batch.next_state))
        values = [self.statistic(target.basis, twin)[0] for twin in (first, second)]
        lower = torch.where((values[0] <= values[1]).unsqueeze(-1), first, second)
        return torch.lerp((first + second) / 2, lower, self.caution)


@dataclass(frozen=True)
class TwinsAndActor:
    """The distance of both critics to one backup, and the statistic that the actor maximises.

    Attributes
    ----------
    regression : Regression
    statistic : Statistic
        The actor maximises it for the laws of the first critic.
    """

    regression: Regression
    statistic: Statistic

    @torch.no_grad()
    def set_gradients(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Set the gradients of critics and actor, in place; return the loss of the critics."""
        goal = self.regression.backup(field, target, batch)
        only = torch.zeros(len(goal), dtype=torch.long, device=goal.device)
        pairs = replace(batch, state=torch.cat([batch.state, batch.action], -1), action=only)
        losses = [self.regression.towards(critic, goal, pairs) for critic in field.critics]
        self._climb(field, batch.state)
        return torch.stack(losses).mean()

    def _climb(self, field: Any, states: Tensor) -> None:
        """Set the gradients of the actor to minus the slopes of the statistic."""
        actions, back = field.actor.actions_and_back(states)
        inputs = torch.cat([states, actions], -1)
        slopes = field.critics[0].slopes_by_inputs(inputs, self.statistic)
        back(slopes[:, states.shape[1] :] / -len(states))


class ActorLearner(Learner):
    """Train twin critics towards their backup, and an actor, on a support that moves.

    Parameters
    ----------
    field : ActorCriticField
        Trained in place.
    support : Support
    statistic : Statistic
        The actor maximises it.
    discount : float
        Discount of the law at the next state.
    learning_rate, target_rate : float
        As for `Learner`.

    Attributes
    ----------
    after : CautiousLaws
        The laws that are backed up.
    cumulative_weight : float
        Weight of matching distribution functions as well as densities, see `GreedyLearner`.
    """

    usual_rate = 2e-3
    cumulative_weight = 0.1

    def __init__(
        self,
        field: ActorCriticField,
        support: Support,
        statistic: Statistic,
        discount: float,
        learning_rate: float,
        target_rate: float,
    ) -> None:
        self.support = MovingSupport(support, self)
        self.after = CautiousLaws(statistic)
        next_laws = NextLaws(self.after, law_of_mean)
        backup = Backup(discount, next_laws, pushed_as_given, self.support)
        objective = TwinsAndActor(Regression(backup, self.cumulative_weight), statistic)
        optimiser = BlockwiseAdam(field.parameters(), learning_rate)
        super().__init__(field, objective, optimiser, target_rate)

    def anneal(self, share_of_steps: float) -> None:
        """Lower the learning rate, and the caution in the second half of the steps."""
        super().anneal(share_of_steps)
        self.after.caution = min(1.0, 2 * (1 - share_of_steps))
