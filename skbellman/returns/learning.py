"""Learning steps of a field towards the backup of a slower one, and their history."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from skbellman.notices import warn
from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.fields import ReturnField
from skbellman.returns.optimiser import Optimiser
from skbellman.training import Record, TrainingDivergedError


class Objective(Protocol):
    """The distance of a field to the backup of a slower one."""

    def set_gradients(self, field: Any, target: Any, batch: Batch, /) -> Tensor:
        """Set the gradients of the field's parameters, in place; return the loss of a batch."""


@dataclass(frozen=True)
class ByAutograd:
    """An objective whose gradients torch computes.

    Attributes
    ----------
    loss : callable
        The loss of a field, given the slower field and a batch.
    """

    loss: Callable[[Any, Any, Batch], Tensor]

    def set_gradients(self, field: Any, target: Any, batch: Batch) -> Tensor:
        """Set the gradients of the field's parameters, in place; return the loss of a batch."""
        for parameter in field.parameters():
            parameter.grad.zero_()
        loss = self.loss(field, target, batch)
        loss.backward()
        return loss.detach()


class Learner:
    """An online field that takes steps towards the backup of a slower target field.

    Parameters
    ----------
    field : ReturnField
        Trained in place.
    objective : Objective
        The objective that steps minimise.
    optimiser : Optimiser
        Optimiser of the field's parameters.
    target_rate : float
        How far the target moves towards the field at each step.

    Attributes
    ----------
    target : ReturnField
    n_steps : int
        Steps so far.
    usual_rate : float
        Default learning rate for the optimiser.
    """

    usual_rate: ClassVar[float] = 1e-3

    def __init__(
        self,
        field: Any,
        objective: Objective,
        optimiser: Optimiser,
        target_rate: float,
    ) -> None:
        self.field, self.objective, self.optimiser = field, objective, optimiser
        self.target, self.target_rate = copy.deepcopy(field).requires_grad_(False), target_rate
        self._slow: list[Tensor] = list(self.target.parameters())
        self._fast: list[Tensor] = list(field.parameters())
        self.n_steps = 0
        self._good = LastGood(field, self.target)

    @property
    def actor(self) -> Any:
        """The field that chooses actions: the slower one, whose choices change less."""
        return self.target

    def anneal(self, share_of_steps: float) -> None:
        """Lower the learning rate after a share of the steps."""
        self.optimiser.anneal(share_of_steps)

    def step(self, batch: Batch) -> Tensor:
        """Take one step; return the loss without waiting for the device."""
        loss = self.objective.set_gradients(self.field, self.target, batch)
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._slow, self._fast, self.target_rate)
        self.n_steps += 1
        return loss

    def keep_if_finite(self, loss: Tensor) -> bool:
        """Save the field if its loss is finite, else restore the saved one."""
        return self._good.keep_if_finite(loss)

    def move_to(self, basis: GaussianBasis) -> None:
        """Move both fields to another basis, and reset the optimiser for the changed tensors."""
        self.field.move_to(basis)
        self.target.move_to(basis)
        self.optimiser.forget(self.field.last_layer.parameters())


class LastGood:
    """The last state of a field after which a loss was finite.

    A loss is known before its step is taken, so it says nothing about the state after it.

    Parameters
    ----------
    field : ReturnField
    target : ReturnField
        It is restored to the same state.
    """

    def __init__(self, field: ReturnField, target: ReturnField) -> None:
        self.fields = field, target
        self.state = self._latest = field.snapshot()

    def keep_if_finite(self, loss: Tensor) -> bool:
        """Save the field if its loss is finite, else restore both from the saved state."""
        finite = bool(torch.isfinite(loss))
        if finite:
            self.state, self._latest = self._latest, self.fields[0].snapshot()
        else:
            for field in self.fields:
                field.restore(self.state)
        return finite


@dataclass
class Curves:
    """History: losses and supports by step, and the returns of episodes if there are any."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    support: list[tuple[float, float]] = field(default_factory=list)
    episode_return: list[float] = field(default_factory=list)
    diverged: bool = False

    def note(self, step: int, loss: Tensor | None, learner: Any) -> None:
        """Record loss and support; a learner that diverged goes back to the last record."""
        self.step.append(step)
        self.loss.append(math.nan if loss is None else float(loss))
        self.support.append(learner.field.support()[:2])
        if loss is not None:
            self.diverged = not learner.keep_if_finite(loss)

    def figures(self, n_last: int = 1) -> str:
        """Return the figures of the last records as text."""
        low, high = self.support[-1]
        parts = [f"loss {self.loss[-1]:.4f}"]
        if last := self.episode_return[-n_last:]:
            parts.append(f"return {sum(last) / len(last):.4g}")
        return ", ".join([*parts, f"support {low:.4g} to {high:.4g}"])

    def raise_if_diverged(self) -> None:
        """Raise a TrainingDivergedError."""
        if self.diverged:
            raise TrainingDivergedError(
                f"Training diverged before step {self.step[-1]}. The state of an earlier report "
                "is kept. Lower learning_rate.",
                Record(self.step, self.loss),
            )

    def as_dict(self) -> dict[str, list[Any]]:
        """Return the curves by name."""
        curves: dict[str, list[Any]] = {
            "step": self.step, "loss": self.loss, "support": self.support
        }  # fmt: skip
        return curves | ({"return": self.episode_return} if self.episode_return else {})


def random_rows(table: Batch, batch_size: int, generator: torch.Generator) -> Callable[[], Batch]:
    """Return a function that samples rows of a table."""

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
    report: Callable[[int, int, str], None],
    curves: Curves,
    n_reports: int = 10,
) -> Curves:
    """Take steps on sampled batches. The learning rate decays to 0 by a cosine."""
    before = curves.step[-1] if curves.step else 0
    note_at = {round(n_steps * (i + 1) / n_reports) for i in range(n_reports)}
    with kept_if_interrupted():
        for step in range(1, n_steps + 1):
            learner.anneal((step - 1) / n_steps)
            loss = learner.step(draw())
            if step in note_at:
                curves.note(before + step, loss, learner)
                report(before + step, before + n_steps, curves.figures())
                if curves.diverged:
                    break
    return curves


@contextmanager
def kept_if_interrupted() -> Iterator[None]:
    """Turn a keyboard interrupt into a warning, and keep what was learned."""
    try:
        yield
    except KeyboardInterrupt:
        warn(
            "fit was interrupted. What was learned until then is kept.",
            RuntimeWarning,
        )
