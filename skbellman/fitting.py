"""From rows of a matrix to a fitted field: a neural field, and a Gaussian mixture beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from skbellman.batches import Batches, FieldSettings, Rows, draw_batches, without_gaps
from skbellman.categories import pairwise_evidence
from skbellman.closed_forms import column_shapes, fit_mixture, fit_reference, without_missing
from skbellman.completion import drawn_gaps
from skbellman.fields import (
    ClosedFormField,
    Mixture,
    NeuralField,
)
from skbellman.matching import denoising_loss, level_weight, shared_levels
from skbellman.mixtures import (
    stacking_weights,
)
from skbellman.scalars import ScalarLearner
from skbellman.schedule import NoiseSchedule
from skbellman.settings import Seeded
from skbellman.training import (
    INTERRUPTED,
    Plan,
    Record,
    TrainingDivergedError,
    swapped,
    train_in_rounds,
)


@dataclass(frozen=True)
class Fit:
    """A fitted field, how it came about, and what is wrong with it, if anything.

    Attributes
    ----------
    field : Mixture
        Of the neural field and a closed form, or of a direct field alone.
    record : Record
        Of the gradient network.
    failure : TrainingDivergedError or None
    interrupted : str
        What an interrupt from the keyboard ended or left out, empty if there was none.
    complaint : str
        What is wrong with samples of the field, empty if nothing is known.
    """

    field: Mixture
    record: Record
    failure: TrainingDivergedError | None
    interrupted: str = ""
    complaint: str = ""

    def warn_or_raise(self) -> None:
        """Warn of an interrupt and of poor samples; raise the error of a divergence."""
        if self.interrupted:
            warnings.warn(
                f"fit was interrupted in {self.interrupted}; the state of step "
                f"{self.record.best_step} is kept.",
                RuntimeWarning,
                stacklevel=6,
            )
        if self.failure is not None:
            raise self.failure
        if self.complaint and not self.interrupted:
            warnings.warn(self.complaint, UserWarning, stacklevel=6)


def fit_field(
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    plan: Plan,
    seed: int,
    report: Callable[[Record], bool],
) -> Fit:
    """Fit everything: the neural field, the Gaussian mixture, and their weights.

    A training that diverges is reported in the result, whose field has the best state before. Once
    the gradient network has learned something, an interrupt ends the training of networks; one in
    what comes after them leaves the neural field alone.
    """
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    if rows.has_gaps:
        rows = completed(rows, schedule, settings, plan, seed)
    neural = initial_field(rows, schedule, settings, seed)
    neural.gradient_network.drop_by(generator)
    weigh_shapes(neural, rows, schedule, settings, generator)
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
    share: float = 0.3,
) -> Rows:
    """Return training rows whose missing values are drawn from a field of conditionals.

    Where values are missing depends on the others, rows that lack nothing have another law than the
    table. A fit to what rows hold would take their law for samples of all columns. Its conditionals
    are right, and are learned here in a share of the steps.
    """
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    settings = replace(settings, conditional_fraction=1.0)
    plan = replace(plan, n_steps=max(round(share * plan.n_steps), 1), max_steps=0)
    field = initial_field(rows, schedule, settings, seed)
    field.gradient_network.drop_by(generator)
    weigh_shapes(field, rows, schedule, settings, generator)
    fit_gradient(field, rows, schedule, settings, plan, generator, lambda record: False)
    return drawn_gaps(field.eval(), rows, schedule, generator)


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
    """Return the field beside a mixture in closed form."""
    whole = without_missing(rows, field.reference, schedule, seed)
    return stacked([field, fit_mixture(whole, schedule, seed)], rows, schedule)


@torch.no_grad()
def stacked(
    fields: list[NeuralField | ClosedFormField],
    rows: Rows,
    schedule: NoiseSchedule,
    n_judges: int = 1600,
) -> Mixture:
    """Return the mixture of the fields under which the validation rows are likeliest.

    By so many of them: see doc/decisions/closed-form-mixture.md.
    """
    judges = rows.validation[:n_judges]
    scores = [rows.integral().log_density(field, judges, schedule) for field in fields]
    weights = stacking_weights(torch.stack(scores, -1).double().cpu().numpy())
    return Mixture(fields, torch.as_tensor(weights).to(rows.draws))


def initial_field(
    rows: Rows, schedule: NoiseSchedule, settings: FieldSettings, seed: int
) -> NeuralField:
    """Return the field before training: the reference, beside what columns and pairs of them say.

    The latter have no weight yet, see `weigh_shapes`. The seed is that of the networks' weights.
    """
    reference = fit_reference(rows, schedule)
    evidence = pairwise_evidence(rows.draws[0], rows.corners)
    shapes = column_shapes(rows.whole[:, : rows.n_numbers])
    with Seeded(seed):
        field = NeuralField(
            reference, settings.width, settings.depth, settings.dropout, evidence, shapes
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
    """Give the columns' laws of an untrained field the weights, from 0 to 1, of least loss.

    The loss is quadratic in each of them: its slopes at 0 and at 1 say where it is least.
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
    """Train the gradient network; the held-out log-density chooses the state."""
    validation, integral = rows.judges, rows.quick_integral()
    log_measure = rows.validation_log_measure[: len(validation)].mean()
    levels = shared_levels(schedule, len(validation), generator).squeeze(1)
    noise = torch.randn(validation.shape, generator=generator, device=generator.device)
    judged, judged_levels = without_gaps(validation.unsqueeze(1), levels.unsqueeze(1))
    weight = level_weight(schedule, judged_levels)
    batches = Batches(field, rows, schedule, settings, generator)

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        with swapped(field, "gradient_network", network):
            log_density = integral.log_density(field, validation, schedule)
            held_out = denoising_loss(field, judged, judged_levels, noise.unsqueeze(1), weight)
        return {
            "score": float(log_density.mean() + log_measure),
            "validation_loss": float(held_out),
        }

    return train_in_rounds(field.gradient_network, batches.loss, plan, evaluate, report)
