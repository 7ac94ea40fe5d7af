"""The plan of one fit of laws, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from skbellman.progress import Progress
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
    """Distinct steps of a table of laws, with the settings they depend on.

    The span is that of sums of rewards: number of steps, and discount.
    """

    steps: Batch
    policy: Policy
    span: tuple[int, float]


class Fitted(NamedTuple):
    """The laws of a fit, the encoding of their states, and the steps that the next fit reuses.

    ``ends`` says whether a return ended in the steps that were seen.
    """

    field: ReturnField
    space: DecisionSpace
    seen: StepsSeen | None
    ends: bool


class Learned(NamedTuple):
    """The result of a fit, its curves, and some of the states seen."""

    fitted: Fitted
    curves: Curves
    states: torch.Tensor


@dataclass(frozen=True)
class Plan:
    """One fit: its parameters, the earlier fit, and its sources of randomness.

    Attributes
    ----------
    parameters : DistributionalValueEstimator
        The estimator, whose parameters are read by name.
    hidden : list of int
        Units of the hidden layers.
    n_steps : int or "auto"
    before : Fitted or None
        The fit to continue; None for a new one.
    rng : numpy Generator
    seeded : Seeded
        A context that is open while fields are built and policies are called. It is closed during
        steps, because it adds a Python call to each call of torch.
    device : torch.device
    progress : Progress
    """

    parameters: Any
    hidden: list[int]
    n_steps: int | str
    before: Fitted | None
    rng: np.random.Generator
    seeded: Seeded
    device: torch.device
    progress: Progress = field(default_factory=Progress)

    @property
    def policy(self) -> Policy:
        """The policy whose returns are learned."""
        return policy_of(self.parameters.policy)

    def check_no_actor(self) -> None:
        """Raise an error if a risk is set that needs an actor."""
        if share_of(self.parameters.risk) < 1:
            raise ValueError(
                f"risk={self.parameters.risk!r} in fit needs a Box of actions. Other actions are "
                "learned for the best expected return: pass risk to act instead."
            )

    def steps(self, usual: int) -> int:
        """Return the number of steps, given the default for "auto"."""
        return usual if self.n_steps == "auto" else int(self.n_steps)

    @property
    def batch_size(self) -> int | None:
        """The rows of a batch, None for the default."""
        asked = self.parameters.batch_size
        return None if asked == "auto" else int(asked)

    def rates(self, kind: type[Learner] | GreedyKind, target_rate: float) -> tuple[float, float]:
        """Return the learning and target rates, given the defaults for "auto"."""
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
        """Return the settings of a fit to a table."""
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

    def report(self, step: int, n_steps: int, figures: str) -> None:
        """Print the progress if verbose."""
        if self.parameters.verbose:
            self.progress.show(step, n_steps, figures)

    def steps_seen(self, steps: Batch, n: int) -> StepsSeen:
        """Return distinct steps for the next fit, of backups over n steps."""
        return StepsSeen(steps.to("cpu"), self.policy, self._span(n))

    def steps_before(self, n: int) -> Batch | None:
        """Return the distinct steps of the earlier fit, if policy and span are the same."""
        seen = None if self.before is None else self.before.seen
        if seen is None or seen.span != self._span(n):
            return None
        return seen.steps if seen.policy.agrees_with(self.policy) else None

    def ends(self, follows: torch.Tensor) -> bool:
        """Return whether a return ended in steps, (n,), or in those of the earlier fit."""
        before = self.before is not None and self.before.ends
        return before or not bool(follows.all())

    def _span(self, n: int) -> tuple[int, float]:
        return n, self.parameters.gamma if n > 1 else 1.0
