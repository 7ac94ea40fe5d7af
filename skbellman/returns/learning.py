"""Learning laws by regression on their backups."""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from skbellman.returns.basis import GaussianBasis, law_of_mean
from skbellman.returns.batch import Batch
from skbellman.returns.bellman import project_backup, push_forward
from skbellman.returns.fields import BasisReturnField
from skbellman.returns.optimiser import BlockwiseAdam
from skbellman.returns.support import Support
from skbellman.training import Record, TrainingDivergedError

# Steps between looks at where the backed-up laws lie: a look waits for the device.
_LOOK_EVERY = 25
_N_REPORTS = 10
# Share of a support in use, below which it is drawn in.
_SPARSE = 0.6
# Of matching distribution functions beside densities, where actions follow what is learned.
_CUMULATIVE_WEIGHT = 0.1


class Learner(ABC):
    """An online field, a slower target field, and the steps of one towards the other's backup.

    Parameters
    ----------
    field : ReturnField
        Trained in place.
    discount : float
        Of the law at the next state.
    learning_rate : float
        Of the optimiser.
    target_rate : float
        How far the target moves towards the field at each step.

    Attributes
    ----------
    usual_rate : float
        A learning rate that suits the optimiser, where none is asked for.
    """

    usual_rate: ClassVar[float] = 1e-3

    def __init__(
        self, field: Any, discount: float, learning_rate: float, target_rate: float
    ) -> None:
        self.field, self.discount, self.target_rate = field, discount, target_rate
        self.target = self._slower(field)
        self.optimiser = self._optimiser(learning_rate)
        self._slow: list[Tensor] = list(self.target.parameters())
        self._fast: list[Tensor] = list(field.parameters())
        self.n_steps = 0
        self._good = self._state()

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the distance of the field to the target's backup."""

    def _slower(self, field: Any) -> Any:
        """Return the target field as it is at first."""
        return copy.deepcopy(field).requires_grad_(False)

    def _optimiser(self, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.field.parameters(), learning_rate, fused=True)

    def anneal(self, share_of_steps: float) -> None:
        """Lower the rate after a share of the steps."""
        anneal(self.optimiser, share_of_steps)

    def step(self, batch: Batch) -> Tensor:
        """Take one step; return the loss without waiting for the device."""
        loss = self.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._slow, self._fast, self.target_rate)
        self.n_steps += 1
        return loss.detach()

    def keep_if_finite(self, loss: Tensor) -> bool:
        """Remember the field if its loss is finite, else go back to what is remembered."""
        finite = bool(torch.isfinite(loss))
        if finite:
            self._good = self._state()
        else:
            self._restore(self._good)
        return finite

    def _state(self) -> Any:
        return copy.deepcopy(self.field.state_dict())

    def _restore(self, state: Any) -> None:
        self.field.load_state_dict(state)
        self.target.load_state_dict(state)


class BasisLearner(Learner):
    """Steps of regression on the projected backup.

    Parameters
    ----------
    field : BasisReturnField
        Trained in place.
    discount, learning_rate, target_rate : float
        As for `Learner`. A batch may have a discount for each row.
    """

    def loss(self, batch: Batch) -> Tensor:
        """Return the squared distance in coordinates."""
        goal = self.backup(batch)
        return self._distance(self.field.coordinates(batch.state, batch.action) - goal).mean()

    @torch.no_grad()
    def backup(self, batch: Batch) -> Tensor:
        """Return the coordinates, (n, K), of the target's backup."""
        basis, discount = self.field.basis, batch.discounts(self.discount)
        pushed = push_forward(basis, batch.reward, discount, self._next_weights(batch))
        return basis.coordinates(pushed)

    def _next_weights(self, batch: Batch) -> Tensor:
        """Return the weights of the laws at the next states, (n, K): linear in the policy."""
        if batch.policy is None:
            coordinates = self._best_coordinates(batch)
        else:
            coordinates = (batch.policy.unsqueeze(1) @ self.target(batch.next_state)).squeeze(1)
        return self.target.basis.weights(coordinates)

    def _best_coordinates(self, batch: Batch) -> Tensor:
        """Return those of the next actions: chosen by the field, valued by the slower one."""
        best = self.field.best(batch.next_state, batch.mask)
        return self.target.coordinates(batch.next_state, best)

    def _distance(self, gap: Tensor) -> Tensor:
        """Return the squared distance of laws from the gap of their coordinates, (n, K): (n,)."""
        return gap.square().sum(-1)


class SupportedLearner(BasisLearner):
    """The same, with a support that moves to where the backed-up laws lie.

    Parameters
    ----------
    field : BasisReturnField
        Trained in place.
    support : Support
    discount, learning_rate, target_rate : float
        As for `Learner`.

    Attributes
    ----------
    sparse : float
        Share of a support in use, below which it is drawn in; 0 leaves it as wide as it is.
    """

    def __init__(
        self,
        field: BasisReturnField,
        support: Support,
        discount: float,
        learning_rate: float,
        target_rate: float,
    ) -> None:
        super().__init__(field, discount, learning_rate, target_rate)
        self.support = support
        self.sparse = 0.0

    @torch.no_grad()
    def backup(self, batch: Batch) -> Tensor:
        """Return the coordinates, (n, K), of the target's backup, after a look at where it lies."""
        next_weights = self._next_weights(batch)
        if self.n_steps % _LOOK_EVERY == 0:
            self._follow(batch, next_weights)
        return project_backup(
            self.field.basis, batch.reward, self.discount, batch.follows, next_weights
        )

    def cover(self, returns: Tensor) -> None:
        """Widen the support to returns, or rewards, that were seen."""
        wider = self.support.covering(self.field.basis, returns)
        if wider is not None:
            self._move(wider)

    def _state(self) -> Any:
        return super()._state(), self.field.basis

    def _restore(self, state: Any) -> None:
        weights, basis = state
        self.field.basis = self.target.basis = basis
        super()._restore(weights)

    def _follow(self, batch: Batch, next_weights: Tensor) -> None:
        """Move the support to where the backed-up laws lie."""
        basis = self.field.basis
        centres = basis.centres.to(next_weights)
        discount = self.discount * batch.follows.unsqueeze(-1)
        positions = batch.reward.unsqueeze(-1) + discount * centres
        moved = self.support.moved(basis, positions, next_weights, self.sparse)
        if moved is not None:
            next_weights.copy_(basis.convert(next_weights, moved))
            self._move(moved)

    def _move(self, basis: GaussianBasis) -> None:
        self.field.move_to(basis)
        self.target.move_to(basis)
        for parameter in self.field.last_layer.parameters():
            self.optimiser.state.pop(parameter, None)


class GreedyLearner(SupportedLearner):
    r"""Steps of the same kind where actions are chosen by what is learned.

    The backup brings distribution functions nearer, by :math:`\sqrt\gamma`, and takes densities
    apart, by :math:`1 / \sqrt\gamma` (arXiv 1802.08163): a policy that follows the errors makes
    them grow. So distribution functions are matched beside densities. What is backed up is a law
    without weights below 0 and of the same mean, which keeps expected returns on the support. Every
    action is chosen by the slower field, whose choices do not waver from step to step.
    """

    usual_rate = 2e-3

    @property
    def actor(self) -> BasisReturnField:
        """The field whose best actions are taken."""
        return self.target

    def cover(self, returns: Tensor) -> None:
        """Widen the support to returns that ended; from the first of them on it may be drawn in.

        Before, all laws are of what never ends, which is nearly one value: a support drawn in to it
        has no room for better ones.
        """
        super().cover(returns)
        self.sparse = _SPARSE

    def _optimiser(self, learning_rate: float) -> torch.optim.Optimizer:
        return BlockwiseAdam(self.field.parameters(), learning_rate)

    def _next_weights(self, batch: Batch) -> Tensor:
        return self._as_law(super()._next_weights(batch))

    def _as_law(self, weights: Tensor) -> Tensor:
        """Return the weights, (n, K), of a law of the same mean near those that are learned."""
        return law_of_mean(weights)

    def _best_coordinates(self, batch: Batch) -> Tensor:
        return self.target.best_coordinates(batch.next_state, batch.mask)

    def _distance(self, gap: Tensor) -> Tensor:
        cumulative = self.field.basis.cumulative(gap).square().sum(-1)
        return super()._distance(gap) + _CUMULATIVE_WEIGHT * cumulative


class LabelGreedyLearner(GreedyLearner):
    """The same where states are flags of labels.

    Weights of seldom seen labels need Adam's steps, as long for each number.
    """

    usual_rate = Learner.usual_rate
    _optimiser = Learner._optimiser


def greedy_kind(one_hot: bool) -> type[GreedyLearner]:
    """Return the learner for states that are flags of labels, or numbers."""
    return LabelGreedyLearner if one_hot else GreedyLearner


@dataclass
class Curves:
    """What happened: losses and supports by step, and the returns of episodes, if there are any."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    support: list[tuple[float, float]] = field(default_factory=list)
    episode_return: list[float] = field(default_factory=list)
    diverged: bool = False

    def note(self, step: int, loss: Tensor | None, learner: Learner) -> None:
        """Take note of the state of things; a learner that diverged goes back to the last note."""
        self.step.append(step)
        self.loss.append(math.nan if loss is None else float(loss))
        self.support.append(learner.field.support()[:2])
        if loss is not None:
            self.diverged = not learner.keep_if_finite(loss)

    def line(self, n_steps: int, n_last: int = 1) -> str:
        """Return a line on the last notes, of n_steps that are to be taken."""
        low, high = self.support[-1]
        parts = [f"step {self.step[-1]} of {n_steps}: loss {self.loss[-1]:.4f}"]
        if last := self.episode_return[-n_last:]:
            parts.append(f"return {sum(last) / len(last):.4g}")
        return ", ".join([*parts, f"support {low:.4g} to {high:.4g}"])

    def raise_if_diverged(self) -> None:
        """Raise the error that says so."""
        if self.diverged:
            raise TrainingDivergedError(
                f"training diverged before step {self.step[-1]}. The state of the report before is "
                "kept; lower learning_rate.",
                Record(self.step, self.loss),
            )

    def as_dict(self) -> dict[str, list[Any]]:
        """Return the curves by name."""
        curves: dict[str, list[Any]] = {
            "step": self.step, "loss": self.loss, "support": self.support
        }  # fmt: skip
        return curves | ({"return": self.episode_return} if self.episode_return else {})


def random_rows(table: Batch, batch_size: int, generator: torch.Generator) -> Callable[[], Batch]:
    """Return what draws rows of a table."""

    def draw() -> Batch:
        rows = torch.randint(
            len(table.action), (batch_size,), generator=generator, device=generator.device
        )
        return table.take(rows)

    return draw


def fit_to_table(
    learner: Learner,
    draw: Callable[[], Batch],
    n_steps: int,
    report: Callable[[str], None],
    curves: Curves,
) -> Curves:
    """Take steps on batches that are drawn, at a rate that falls to 0 along a cosine."""
    before = curves.step[-1] if curves.step else 0
    note_at = {round(n_steps * (i + 1) / _N_REPORTS) for i in range(_N_REPORTS)}
    with kept_if_interrupted():
        for step in range(1, n_steps + 1):
            learner.anneal((step - 1) / n_steps)
            loss = learner.step(draw())
            if step in note_at:
                curves.note(before + step, loss, learner)
                report(curves.line(before + n_steps))
                if curves.diverged:
                    break
    return curves


def anneal(optimiser: torch.optim.Optimizer, share_of_steps: float) -> None:
    """Set the rate after a share of the steps, which falls to 0 along a cosine."""
    for group in optimiser.param_groups:
        first = group.setdefault("initial_lr", group["lr"])
        group["lr"] = first * 0.5 * (1 + math.cos(math.pi * share_of_steps))


@contextmanager
def kept_if_interrupted() -> Iterator[None]:
    """Turn an interrupt from the keyboard into a warning: what was learned is kept."""
    try:
        yield
    except KeyboardInterrupt:
        warnings.warn(
            "fit was interrupted; what was learned until then is kept.",
            RuntimeWarning,
            stacklevel=4,
        )
