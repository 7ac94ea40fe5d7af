"""One optimisation loop for every objective."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from skbellman.optimiser import FlatOptimiser

ALL_DONE, INTERRUPTED = "all steps done", "interrupted"


class TrainingDivergedError(RuntimeError):
    """The loss or the validation score stopped being a finite number.

    The estimator keeps the best state before that, and can be used.

    Parameters
    ----------
    message : str
        The cause and the remedy.
    record : Record
        The curves up to the divergence.

    Attributes
    ----------
    record : Record
        The curves up to the divergence.

    Examples
    --------
    >>> from skbellman import BellmanDiffusionDensity, TrainingDivergedError
    >>> density = BellmanDiffusionDensity(n_steps=20, learning_rate=1e30, random_state=0)
    >>> try:
    ...     density.fit([[0.1, 1.2], [0.4, 0.8], [0.2, 1.1], [0.9, 0.3]])
    ... except TrainingDivergedError:
    ...     print("kept step", density.n_iter_)
    kept step 0
    """

    def __init__(self, message: str, record: Record) -> None:
        super().__init__(message)
        self.record = record


@dataclass(frozen=True)
class Plan:
    """How a module is trained.

    Parameters
    ----------
    n_steps : int
        Optimiser steps. The learning rate decays to 0 by a cosine.
    learning_rate, weight_decay : float
        Peak learning rate and weight decay of AdamW.
    hidden_rate : float
        Learning rate of Muon relative to AdamW, see `FlatOptimiser`. 0 is AdamW only.
    n_evaluations : int
        Number of evenly spaced evaluations of the averaged weights.
    patience : int
        Stop after so many evaluations without a better score.
    max_steps : int
        Largest number of steps of all rounds, see `train_in_rounds`. 0 is one round.
    least_rise : float
        Rise of the score, in nats a row, over the second half of a round that starts another round,
        see doc/decisions/training-rounds.md.
    warm_up : int
        Steps in which the learning rate rises to its peak.
    largest_decay : float
        Largest decay of the moving average of the weights.
    largest_gradient : float
        Norm to which larger gradients are clipped.
    """

    n_steps: int
    learning_rate: float
    weight_decay: float = 0.0
    n_evaluations: int = 10
    patience: int = 4
    max_steps: int = 0
    least_rise: float = 0.2
    warm_up: int = 100
    largest_decay: float = 0.999
    largest_gradient: float = 1.0
    hidden_rate: float = 0.0


@dataclass
class Record:
    """History of a training: curves by step, the best step, and the reason of its end.

    ``n_before`` steps of another module came before, and ``n_after`` are still to come.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    n_planned: int = 0
    n_before: int = 0
    n_after: int = 0
    ended: str = ALL_DONE

    def note(self, step: int, loss: float, figures: dict[str, float]) -> None:
        """Add an evaluation."""
        self.step.append(step)
        self.loss.append(loss)
        self.scores.append(figures)

    @property
    def n_steps(self) -> int:
        """Steps until the last evaluation."""
        return self.step[-1] if self.step else 0


def train_in_rounds(
    module: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    plan: Plan,
    evaluate: Callable[[nn.Module], dict[str, float]],
    report: Callable[[Record], bool] = lambda record: False,
) -> Record:
    """Train in rounds, each with up to twice the steps, while the score rises.

    The number of steps that a table needs is unknown before. Some tables overfit after as many
    steps as others, with as many rows, need for half of the progress.

    Parameters
    ----------
    module, loss, plan, evaluate, report
        As for `train`; ``plan`` is that of the first round.

    Returns
    -------
    Record
        The history of all rounds.
    """
    record = train(module, loss, plan, evaluate, report)
    while record.ended == ALL_DONE and _still_rises(record, plan):
        n_steps = min(2 * plan.n_steps, plan.max_steps - record.n_steps)
        if n_steps < plan.n_steps:
            break
        plan = replace(plan, n_steps=n_steps)
        record = train(module, loss, plan, evaluate, report, record)
    return record


def _still_rises(record: Record, plan: Plan) -> bool:
    """Return whether the second half of the last round raised the score."""
    scores = [figures["score"] for figures in record.scores[-plan.n_evaluations :]]
    half = len(scores) // 2
    return max(scores[half:]) - max(scores[:half], default=math.inf) > plan.least_rise


def train(
    module: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    plan: Plan,
    evaluate: Callable[[nn.Module], dict[str, float]],
    report: Callable[[Record], bool] = lambda record: False,
    record: Record | None = None,
) -> Record:
    """Minimise the loss. The module ends with the averaged weights of the best score.

    A keyboard interrupt ends the training. The weights are scored once more, and the record tells
    of the interrupt.

    Parameters
    ----------
    module : nn.Module
        Trained in place.
    loss : callable
        The loss of the module. It samples its own batch.
    plan : Plan
    evaluate : callable
        Maps the module with averaged weights to named figures. Their "score" selects the best
        state; higher is better.
    report : callable, optional
        Called with the record after each evaluation. True stops the training.
    record : Record, optional
        Record of an earlier round to continue.

    Returns
    -------
    Record

    Raises
    ------
    TrainingDivergedError
        If the loss or the score is not finite. The module then has the best earlier state.
    KeyboardInterrupt
        If interrupted before anything was learned.
    """
    record, run = record or Record(), None
    try:
        run = _Run(module, loss, plan, evaluate, record)
        run.advance(report)
    except KeyboardInterrupt:
        if run is not None:
            run.score_once_more()
        if not record.step:
            raise
        record.ended = INTERRUPTED
    finally:
        if run is not None:
            run.end()
    return record


class _Run:
    """One round of training: the module, its averaged weights, and the best state."""

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[nn.Module], Tensor],
        plan: Plan,
        evaluate: Callable[[nn.Module], dict[str, float]],
        record: Record,
    ) -> None:
        self.module, self.loss, self.evaluate, self.record = module, loss, evaluate, record
        first = copy.deepcopy(module.state_dict())
        self.optimiser = FlatOptimiser(
            module,
            plan.learning_rate,
            plan.weight_decay,
            plan.largest_gradient,
            plan.hidden_rate,
        )
        self.best = _Best(first, evaluate(self.optimiser.averaged)["score"])
        self.plan, self.begun, self.step = plan, record.n_steps, 0
        record.n_planned = record.n_steps + plan.n_steps
        self.losses: list[Tensor] = []

    def advance(self, report: Callable[[Record], bool]) -> None:
        """Take the steps of the plan, unless the training ends early."""
        plan, evaluation_steps = self.plan, _evaluation_steps(self.plan)
        while self.step < plan.n_steps:
            self._take_step()
            if self.step not in evaluation_steps:
                continue
            self.score()
            if report(self.record):
                self.record.ended = "stopped by a callback"
                break
            if self.best.stale >= plan.patience:
                self.record.ended = f"no better score in {plan.patience} evaluations"
                break

    def score(self) -> None:
        """Score the averaged weights, and keep them if they are the best."""
        figures = self.evaluate(self.optimiser.averaged)
        self.record.note(self.begun + self.step, float(torch.stack(self.losses).mean()), figures)
        self.losses.clear()
        _check_finite(self.record)
        if self.best.update(self.optimiser.averaged, figures["score"]):
            self.record.best_step = self.begun + self.step

    def score_once_more(self) -> None:
        """Score the weights since the last evaluation, unless interrupted again."""
        if self.losses:
            with suppress(KeyboardInterrupt):
                self.score()

    def end(self) -> None:
        """Load the best state into the module."""
        self.optimiser.release()
        self.module.load_state_dict(self.best.state)

    def _take_step(self) -> None:
        """Take one optimiser step, without waiting for the device."""
        self.module.train()
        value = self.loss(self.module)
        factor = _cosine(self.step, self.plan)
        self.step += 1
        self.optimiser.step(value, factor, _warm_decay(self.step, self.plan))
        self.losses.append(value.detach())


class _Best:
    """The best state so far, and the number of evaluations since."""

    def __init__(self, state: dict[str, Tensor], score: float) -> None:
        self.state, self.score, self.stale = state, score, 0

    def update(self, module: nn.Module, score: float) -> bool:
        """Keep the module's state if its score is better; return whether it is."""
        better = score > self.score
        self.stale = 0 if better else self.stale + 1
        if better:
            self.state, self.score = copy.deepcopy(module.state_dict()), score
        return better


def _check_finite(record: Record) -> None:
    figures = {"loss": record.loss[-1], **record.scores[-1]}
    if not all(math.isfinite(value) for value in figures.values()):
        raise TrainingDivergedError(
            f"Training diverged before step {record.step[-1]}: {figures}. The state of step "
            f"{record.best_step} is kept. Lower learning_rate, or look for extreme values "
            "in the table.",
            record,
        )


def _evaluation_steps(plan: Plan) -> set[int]:
    count = min(plan.n_evaluations, plan.n_steps)
    return {round(plan.n_steps * (i + 1) / count) for i in range(count)}


def _cosine(step: int, plan: Plan) -> float:
    """Return the factor of the learning rate: linear warm-up, then a cosine to 0."""
    warm = min(1.0, (step + 1) / min(plan.warm_up, plan.n_steps))
    return warm * 0.5 * (1 + math.cos(math.pi * step / plan.n_steps))


def _warm_decay(step: int, plan: Plan) -> float:
    """Return the decay of the moving average. Its memory grows with the steps, up to a limit."""
    return min(step / (step + 9), plan.largest_decay)


class swapped:  # noqa: N801 - reads as a verb where it is used
    """A context in which a field has another network."""

    def __init__(self, field: nn.Module, name: str, network: nn.Module) -> None:
        self.field, self.name, self.network = field, name, network

    def __enter__(self) -> None:
        self.own = getattr(self.field, self.name)
        self.network.eval()
        setattr(self.field, self.name, self.network)

    def __exit__(self, *exception: object) -> None:
        setattr(self.field, self.name, self.own)
