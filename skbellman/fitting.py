"""From rows of a matrix to a fitted field: a neural field, and a Gaussian mixture beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from skbellman.batches import CHUNK, Batches, FieldSettings, Rows, draw_batches, without_gaps
from skbellman.categories import pairwise_evidence, with_categories
from skbellman.column_laws import column_mixtures
from skbellman.fields import (
    ClosedFormField,
    ColumnShapes,
    DensityField,
    GaussianMixtureField,
    Mixture,
    NeuralField,
)
from skbellman.matching import denoising_loss, level_weight, shared_levels
from skbellman.mixtures import (
    best_mixture,
    normal_moments,
    refined,
    stacking_weights,
)
from skbellman.scalars import ScalarLearner
from skbellman.schedule import NoiseSchedule, masked
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
    """

    field: Mixture
    record: Record
    failure: TrainingDivergedError | None
    interrupted: str = ""

    def warn_or_raise(self) -> None:
        """Warn of an interrupt, and raise the error of a training that diverged."""
        if self.interrupted:
            warnings.warn(
                f"fit was interrupted in {self.interrupted}; the state of step "
                f"{self.record.best_step} is kept.",
                RuntimeWarning,
                stacklevel=6,
            )
        if self.failure is not None:
            raise self.failure


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
    neural = initial_field(rows, schedule, settings, seed)
    neural.gradient_network.drop_by(generator)
    weigh_shapes(neural, rows, schedule, settings, generator)
    fit = train_networks(neural, rows, schedule, settings, plan, generator, report)
    try:
        return replace(fit, field=with_mixture(neural, rows, schedule, seed).eval())
    except KeyboardInterrupt:
        return replace(fit, interrupted="the fit of the Gaussian mixture, which is left out")


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


def without_missing(
    rows: Rows, reference: ClosedFormField, schedule: NoiseSchedule, seed: int
) -> Rows:
    """Return the whole training rows, their gaps filled with draws of the reference."""
    if not rows.has_gaps:
        return rows
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    parts = rows.whole.split(CHUNK)
    filled = [reference.draw_given(part, schedule(0.0), generator) for part in parts]
    return replace(rows, draws=torch.cat(filled).unsqueeze(0))


def fit_mixture(rows: Rows, schedule: NoiseSchedule, seed: int) -> ClosedFormField:
    """Return the mixture in closed form whose number of classes has the least BIC.

    Gaussians are fitted to rows with the noise of the floor, which is then taken out of the
    covariances: without it, categories would be points. Each Gaussian becomes a class, in which
    categories are independent of the rest. No value may be missing.
    """
    data, floor = rows.whole.double().cpu().numpy(), schedule(0.0).double().cpu().numpy()
    rng = np.random.default_rng(seed)
    noisy = rng.permutation(data) + floor * rng.standard_normal(data.shape)
    mixture = refined(best_mixture(noisy, seed % 2**32), noisy)
    n = rows.n_numbers
    values, vectors = np.linalg.eigh(mixture.covariances_[:, :n, :n] - np.diag(floor[:n] ** 2))
    covariances = (vectors * values.clip(min=0)[:, None, :]) @ vectors.transpose(0, 2, 1)
    parts = (mixture.weights_, mixture.means_[:, :n], covariances)
    gaussians = GaussianMixtureField(*(torch.as_tensor(part).to(rows.draws) for part in parts))
    responsibilities = torch.as_tensor(mixture.predict_proba(noisy)).to(rows.draws)
    x = torch.as_tensor(noisy).to(rows.draws)
    return with_categories(gaussians, x, responsibilities, rows.corners)


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


def fit_reference(
    rows: Rows,
    schedule: NoiseSchedule,
    ridges: Sequence[float] = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.3),
    most_rows: int = 2**18,
    n_judges: int = 10_000,
) -> ClosedFormField:
    """Return the Gaussian with the moments of the numbers, beside the shares of the levels.

    The ridge on the covariance is the one under which the validation rows are likeliest.
    """
    numbers = rows.draws.flatten(0, 1)[:most_rows, : rows.n_numbers].double()
    mean, covariance = (torch.as_tensor(m) for m in normal_moments(numbers.cpu().numpy()))
    eye = torch.eye(len(mean), dtype=numbers.dtype)
    candidates = [
        GaussianMixtureField.normal(mean, covariance + ridge * eye).to(numbers) for ridge in ridges
    ]
    path, judges = masked(schedule, rows.validation[:n_judges].double())
    floor = path(0.0).double()[..., : rows.n_numbers]
    scores = [c.log_scalar(judges[:, : rows.n_numbers], floor).mean() for c in candidates]
    best = candidates[int(torch.stack(scores).argmax())].to(rows.draws)
    first = rows.draws[0]
    return with_categories(best, first, torch.ones_like(first[:, :1]), rows.corners)


def column_shapes(numbers: Tensor) -> ColumnShapes | None:
    """Return the laws of columns of numbers, (n, P), NaN where a value is missing."""
    if not numbers.shape[1]:
        return None
    parts = column_mixtures(numbers.double().cpu().numpy())
    weights, means, variances = (torch.as_tensor(part).to(numbers) for part in parts)
    return ColumnShapes(weights.log(), means, variances)


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
        Of batches and noise. The network's first weights are not drawn here.
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
