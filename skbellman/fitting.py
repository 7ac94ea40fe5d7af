"""From rows of a matrix to a fitted field: a mixture of a neural field and Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from skbellman.batches import Batches, FieldSettings, Rows, draw_batches, without_gaps
from skbellman.categories import pairwise_evidence
from skbellman.closed_forms import column_shapes, fit_mixture, fit_reference, without_missing
from skbellman.completion import drawn_gaps
from skbellman.fields import (
    ClosedFormField,
    DensityField,
    Mixture,
    NeuralField,
)
from skbellman.fields.intervals import Intervals
from skbellman.matching import denoising_loss, level_weight, shared_levels
from skbellman.mixtures import (
    stacking_weights,
)
from skbellman.notices import warn
from skbellman.scalars import ScalarLearner
from skbellman.schedule import NoiseSchedule
from skbellman.settings import Seeded
from skbellman.training import (
    INTERRUPTED,
    Plan,
    Record,
    TrainingDivergedError,
    swapped,
    train,
    train_in_rounds,
)


@dataclass(frozen=True)
class Fit:
    """A fitted field, with its history and its failure, if any.

    Attributes
    ----------
    field : Mixture
        The mixture of the neural field and a closed form, or a direct field alone.
    record : Record
        The history of the gradient network.
    failure : TrainingDivergedError or None
    interrupted : str
        The stage that a keyboard interrupt ended or skipped, empty if there was none.
    complaint : str
        What is wrong with samples of the field, empty if nothing is known.
    """

    field: Mixture
    record: Record
    failure: TrainingDivergedError | None
    interrupted: str = ""
    complaint: str = ""

    def warn_or_raise(self) -> None:
        """Warn of an interrupt and of poor samples; raise the error of a diverged training."""
        if self.interrupted:
            warn(
                f"fit was interrupted in {self.interrupted}. The state of step "
                f"{self.record.best_step} is kept.",
                RuntimeWarning,
            )
        if self.failure is not None:
            raise self.failure
        if self.complaint and not self.interrupted:
            warn(self.complaint)


def fit_field(
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    plan: Plan,
    seed: int,
    report: Callable[[Record], bool],
) -> Fit:
    """Fit the neural field, the closed-form mixture, and their weights.

    If training diverges, the result reports it and has the best earlier state. An interrupt ends
    the training of the network. A later interrupt leaves the neural field without a closed form.
    """
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    if rows.has_gaps:
        rows, n_before = completed(rows, schedule, settings, plan, seed, report)
        report = _in_stage(report, n_before=n_before)
    neural = untrained_field(rows, schedule, settings, seed, generator)
    fit = train_networks(neural, rows, schedule, settings, plan, generator, report)
    try:
        return replace(fit, field=with_mixture(neural, rows, schedule, seed).eval())
    except KeyboardInterrupt:
        return replace(fit, interrupted="the fit of the Gaussian mixture, which is left out")


def completed(
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    plan: Plan,
    seed: int,
    report: Callable[[Record], bool],
    share: float = 0.3,
) -> tuple[Rows, int]:
    """Return rows whose missing training values are drawn from a field of conditionals.

    Also return the number of steps that the field was trained.

    Where values are missing depends on the others, rows that lack nothing have another law than the
    table. A fit to what rows hold would take their law for samples of all columns. Its conditionals
    are right, and are learned here in a share of the steps.
    """
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    settings, record = replace(settings, conditional_fraction=1.0), Record()
    report = _in_stage(report, n_after=plan.n_steps)
    plan = replace(plan, n_steps=max(round(share * plan.n_steps), 1), max_steps=0)
    field = untrained_field(rows, schedule, settings, seed, generator)
    with suppress(TrainingDivergedError):  # the field has its best state, as the next will
        record = fit_gradient(field, rows, schedule, settings, plan, generator, report)
        if record.ended == INTERRUPTED:
            raise KeyboardInterrupt
    return drawn_gaps(field.eval(), rows, schedule, generator), record.n_steps


def _in_stage(report: Callable[[Record], bool], **steps: Any) -> Callable[[Record], bool]:
    """Return a report of one stage of a fit: before it, or after it, are steps of another."""
    return lambda record: report(replace(record, **steps))


def train_networks(
    field: NeuralField,
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    plan: Plan,
    generator: torch.Generator,
    report: Callable[[Record], bool],
) -> Fit:
    """Train the gradient network, and return the field alone."""
    record, failure = Record(), None
    try:
        record = fit_gradient(field, rows, schedule, settings, plan, generator, report)
    except TrainingDivergedError as error:
        failure, record = error, error.record
    field.scalar_learner = ScalarLearner(schedule, int(generator.initial_seed()))
    alone = Mixture([field], torch.ones(1).to(rows.draws)).eval()
    stopped = record.ended == INTERRUPTED
    return Fit(alone, record, failure, "the training of the network" if stopped else "")


def with_mixture(field: NeuralField, rows: Rows, schedule: NoiseSchedule, seed: int) -> Mixture:
    """Return the mixture of the field and a closed form."""
    whole = without_missing(rows, field.reference, schedule, seed)
    return stacked([field, fit_mixture(whole, schedule, seed)], rows, schedule)


@torch.no_grad()
def stacked(
    fields: list[NeuralField | ClosedFormField],
    rows: Rows,
    schedule: NoiseSchedule,
    n_judges: int = 1600,
) -> Mixture:
    """Return the mixture of the fields with the largest likelihood of the validation rows.

    A limited number of rows is used, see doc/decisions/closed-form-mixture.md.
    """
    judges = rows.validation[:n_judges]
    scores = [rows.integral().log_density(field, judges, schedule) for field in fields]
    weights = stacking_weights(torch.stack(scores, -1).double().cpu().numpy())
    return Mixture(fields, torch.as_tensor(weights).to(rows.draws))


def untrained_field(
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    seed: int,
    generator: torch.Generator,
) -> NeuralField:
    """Return the field that training begins with; the generator is that of dropout and batches."""
    field = initial_field(rows, schedule, settings, seed)
    field.gradient_network.drop_by(generator)
    weigh_shapes(field, rows, schedule, settings, generator)
    return field


def initial_field(
    rows: Rows, schedule: NoiseSchedule, settings: FieldSettings, seed: int
) -> NeuralField:
    """Return the field before training: the reference, and the laws of columns and pairs.

    These laws have weight 0 at first, see `weigh_shapes`. The seed sets the weights of the
    networks.
    """
    reference = fit_reference(rows, schedule)
    intervals = Intervals(rows.edges).to(rows.draws) if rows.edges else None
    evidence = pairwise_evidence(rows.draws[0], rows.corners, intervals)
    shapes = column_shapes(rows.whole[:, : rows.n_numbers])
    with Seeded(seed):
        field = NeuralField(
            reference, settings.width, settings.depth, settings.dropout, evidence, shapes, intervals
        )
    return field.to(rows.draws)


def weigh_shapes(
    field: NeuralField,
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    generator: torch.Generator,
    n_batches: int = 16,
) -> None:
    """Set the weights of the column laws, from 0 to 1, that minimise the loss.

    The loss is quadratic in each weight, so its slopes at 0 and 1 give the minimum.
    """
    if field.shapes is None:
        return
    weights, joint = field.first_shape_weights, replace(settings, conditional_fraction=0.0)
    clean, levels, noise = draw_batches(rows, schedule, joint, generator, n_batches)
    clean, levels = without_gaps(clean, levels)
    weight, slopes = level_weight(schedule, levels), []
    for k in (0, 1):
        with torch.no_grad():
            weights.fill_(k)
        loss = denoising_loss(field, clean, levels, noise, weight)
        (slope,) = torch.autograd.grad(loss, field.gradient_network.bias)
        slopes.append(slope[field.shape_outputs])
    with torch.no_grad():
        weights.copy_((slopes[0] / (slopes[0] - slopes[1]).clamp(max=-1e-12)).clamp(0, 1))


def fit_gradient(
    field: NeuralField,
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    plan: Plan,
    generator: torch.Generator,
    report: Callable[[Record], bool],
) -> Record:
    """Train the gradient network. The held-out log-density selects the state."""
    validation, integral = rows.judges, rows.quick_integral()
    log_measure = rows.validation_log_measure[: len(validation)].mean()
    (judged,) = _noisy_judges(validation, schedule, generator, least=1)
    batches = Batches(field, rows, schedule, settings, generator)

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        with swapped(field, "gradient_network", network):
            log_density = integral.log_density(field, validation, schedule)
            held_out = denoising_loss(field, *judged)
        return {
            "score": float(log_density.mean() + log_measure),
            "validation_loss": float(held_out),
        }

    return train_in_rounds(field.gradient_network, batches.loss, plan, evaluate, report)


def fit_own_field(
    field: DensityField,
    draws: Tensor,
    validation: Tensor,
    schedule: NoiseSchedule,
    plan: Plan,
    *,
    batch_size: int = 128,
    conditional_fraction: float = 0.25,
    blocks: Tensor | None = None,
    seed: int = 0,
    report: Callable[[Record], bool] = lambda record: False,
) -> Record:
    """Train a field of one's own by denoising; the held-out loss chooses the state that is kept.

    Parameters
    ----------
    field : DensityField
        Trained in place, for example a `NetworkField`. Left ready to be scored and sampled.
    draws : tensor of shape (n, D) or (n_draws, n, D)
        Training rows of about unit variance, on the device and in the dtype of the field. NaN is
        missing. Several draws of the same rows differ, for example, in their dequantisation.
    validation : tensor of shape (n_validation, D)
        Held-out rows.
    schedule : NoiseSchedule
        Levels of the columns.
    plan : Plan
        Steps, learning rate and so on.
    batch_size : int, default=128
        Rows of a step: each is there twice, with opposite noise.
    conditional_fraction : float, default=0.25
        Share of each batch in which random columns are given or missing (their level is inf). Set
        0 for a field that cannot take that: only whole rows can be scored and sampled then.
    blocks : tensor of int, shape (D,), optional
        Columns of one number are given or missing together. By default each column for itself.
    seed : int, default=0
        Seeds batches and noise, but not the first weights of the network.
    report : callable, optional
        Called with the record after each evaluation; a true answer stops the training.

    Returns
    -------
    Record
        The loss, and as "score" minus the held-out loss, by evaluation.

    Raises
    ------
    ValueError
        If the rows do not have the field's columns.
    TrainingDivergedError
        If the loss is not finite. The field then holds the best state before.

    Examples
    --------
    >>> import torch
    >>> from skbellman.fields import GaussianMixtureField, NeuralField
    >>> from skbellman.fitting import fit_own_field
    >>> from skbellman.schedule import NoiseSchedule
    >>> from skbellman.training import Plan
    >>> rows = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).sign()
    >>> field = NeuralField(GaussianMixtureField.normal(torch.zeros(2), torch.eye(2)), 16, 1)
    >>> schedule = NoiseSchedule(torch.full((2,), 0.05), torch.full((2,), 20.0))
    >>> plan = Plan(20, learning_rate=3e-3, n_evaluations=1)
    >>> record = fit_own_field(field, rows[:150], rows[150:], schedule, plan)
    >>> record.n_steps
    20
    """
    for name, given in (("draws", draws), ("validation", validation)):
        if given.shape[-1] != field.n_columns:
            raise ValueError(
                f"{name} must have {field.n_columns} columns, as the field has; "
                f"got shape {tuple(given.shape)}."
            )
    generator = torch.Generator(draws.device).manual_seed(seed)
    blocks = torch.arange(field.n_columns, device=draws.device) if blocks is None else blocks
    rows = Rows(draws.view(-1, *draws.shape[-2:]), validation, validation.new_zeros(0), blocks, [])
    settings = FieldSettings(0, 0, 0.0, batch_size, conditional_fraction, group_size=2)
    judged = _noisy_judges(validation, schedule, generator)
    loss_of = cast("Callable[..., Tensor]", denoising_loss)  # `train` knows modules, not fields

    def loss(module: nn.Module) -> Tensor:
        clean, levels, noise = draw_batches(rows, schedule, settings, generator, 1)
        clean, levels = without_gaps(clean, levels)
        return loss_of(module, clean, levels, noise, level_weight(schedule, levels))

    @torch.no_grad()
    def evaluate(module: nn.Module) -> dict[str, float]:
        parts = [float(loss_of(module.eval(), *part)) for part in judged]
        return {"score": -float(np.mean(parts))}

    record = train(field, loss, plan, evaluate, report)
    field.eval()
    return record


def _noisy_judges(
    validation: Tensor, schedule: NoiseSchedule, generator: torch.Generator, least: int = 2048
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return rows, levels, noise and weights, in parts: some judges at several levels each."""
    clean = validation.repeat(-(-least // len(validation)), 1).unsqueeze(1)
    levels = shared_levels(schedule, len(clean), generator)
    clean, levels = without_gaps(clean, levels)
    noise = torch.randn(clean.shape, generator=generator, device=clean.device).to(clean)
    held = (clean, levels, noise, level_weight(schedule, levels))
    return list(zip(*(part.split(512) for part in held), strict=True))
