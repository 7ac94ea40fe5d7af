"""What one fit of laws is to do, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from skbellman.returns.batch import Batch
from skbellman.returns.encoding import DecisionSpace
from skbellman.returns.fields import ReturnField
from skbellman.returns.from_table import TableFit
from skbellman.returns.learners import GreedyKind
from skbellman.returns.learning import Curves, Learner
from skbellman.returns.policies import Policy, policy_of
from skbellman.returns.risk import share_of
from skbellman.settings import Seeded


class StepsSeen(NamedTuple):
    """Distinct steps of a table of laws, beside what they depend on.

    The span is that of sums of rewards: steps, and their discount.
    """

    steps: Batch
    policy: Policy
    span: tuple[int, float]


class Fitted(NamedTuple):
    """The laws of a fit, how their states are read, and the steps that still count in the next."""

    field: ReturnField
    space: DecisionSpace
    seen: StepsSeen | None


class Learned(NamedTuple):
    """What a fit has found, how that went, and some of the states that were seen."""

    fitted: Fitted
    curves: Curves
    states: torch.Tensor


@dataclass(frozen=True)
class Plan:
    """One fit: what is asked for, what was learned before, and where chance comes from.

    Attributes
    ----------
    parameters : DistributionalValueEstimator
        Whose parameters are read by their names.
    hidden : list of int
        Units of the hidden layers.
    n_steps : int or "auto"
    before : Fitted or None
        What goes on; None where all begins anew.
    rng : numpy Generator
    seeded : Seeded
        Open while fields are built and policies asked. While steps are taken it is not: it costs
        a call of Python for each of torch's.
    device : torch.device
    """

    parameters: Any
    hidden: list[int]
    n_steps: int | str
    before: Fitted | None
    rng: np.random.Generator
    seeded: Seeded
    device: torch.device

    @property
    def policy(self) -> Policy:
        """Whose returns."""
        return policy_of(self.parameters.policy)

    def check_no_actor(self) -> None:
        """Raise an error if a risk is set that only an actor could learn for."""
        if share_of(self.parameters.risk) < 1:
            raise ValueError(
                f"risk={self.parameters.risk!r} in fit needs a Box of actions, among which an "
                "actor chooses; elsewhere laws are of the best expected return: pass risk to act."
            )

    def steps(self, usual: int) -> int:
        """Return how many steps are taken, where "auto" is the usual number."""
        return usual if self.n_steps == "auto" else int(self.n_steps)

    @property
    def batch_size(self) -> int | None:
        """The rows of a batch, None for the usual number."""
        asked = self.parameters.batch_size
        return None if asked == "auto" else int(asked)

    def rates(self, kind: type[Learner] | GreedyKind, target_rate: float) -> tuple[float, float]:
        """Return the rates of learning and of the target: where "auto", the usual and the given."""
        rates = self.parameters.learning_rate, self.parameters.target_rate
        usual = kind.usual_rate, target_rate
        first, second = (
            of if rate == "auto" else float(rate) for rate, of in zip(rates, usual, strict=True)
        )
        return first, second

    def generator(self) -> torch.Generator:
        """Return a new generator of torch."""
        return torch.Generator(self.device).manual_seed(int(self.rng.integers(2**62)))

    def table_fit(self, space: DecisionSpace) -> TableFit:
        """Return how laws are learned from a table."""
        return TableFit(
            gamma=self.parameters.gamma,
            sizes=(space.n_inputs, space.n_actions),
            n_basis=self.parameters.n_basis,
            gradient_weight=self.parameters.gradient_weight,
            hidden=self.hidden,
            batch_size=self.batch_size,
            rates=self.rates,
            generator=self.generator(),
            seeded=self.seeded,
            report=self.report,
        )

    def report(self, line: str) -> None:
        """Say how far it is, if that is asked for."""
        if self.parameters.verbose:
            print(line)

    def steps_seen(self, steps: Batch, n: int) -> StepsSeen:
        """Return distinct steps as the next fit takes them; n are the steps of a backup."""
        return StepsSeen(steps.to("cpu"), self.policy, self._span(n))

    def steps_before(self, n: int) -> Batch | None:
        """Return the distinct steps of before, if they are of the same policy and span."""
        seen = None if self.before is None else self.before.seen
        if seen is None or seen.span != self._span(n):
            return None
        return seen.steps if seen.policy.agrees_with(self.policy) else None

    def _span(self, n: int) -> tuple[int, float]:
        return n, self.parameters.gamma if n > 1 else 1.0
