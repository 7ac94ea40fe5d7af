"""From rows of a matrix to a fitted field: a mixture of a neural field and Gaussians."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from skbellman.batches import CHUNK, Batches, FieldSettings, Rows, draw_batches, without_gaps
from skbellman.categories import pairwise_evidence, with_categories
from skbellman.column_laws import column_mixtures
from skbellman.fields import (
    ClosedFormField,
    ColumnShapes,
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
    """

    field: Mixture
    record: Record
    failure: TrainingDivergedError | None
    interrupted: str = ""

    def warn_or_raise(self) -> None:
        """Warn of an interrupt, and raise the error of a diverged training."""
        if self.interrupted:
            warnings.warn(
                f"fit was interrupted in {self.interrupted}. The state of step "
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
    """Fit the neural field, the closed-form mixture, and their weights.

    If training diverges, the result reports it and has the best earlier state. An interrupt ends
    the training of the network. A later interrupt leaves the neural field without a closed form.
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


def without_missing(
    rows: Rows, reference: ClosedFormField, schedule: NoiseSchedule, seed: int
) -> Rows:
    """Return the training rows, with gaps filled by samples of the reference."""
    if not rows.has_gaps:
        return rows
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    parts = rows.whole.split(CHUNK)
    filled = [reference.draw_given(part, schedule(0.0), generator) for part in parts]
    return replace(rows, draws=torch.cat(filled).unsqueeze(0))


def fit_mixture(rows: Rows, schedule: NoiseSchedule, seed: int) -> ClosedFormField:
    """Return the closed-form mixture whose number of classes minimises the BIC.

    Gaussians are fitted to rows with noise of the lowest level, because categories would be points
    without it. The covariances are then corrected for this noise. Each Gaussian becomes a class, in
    which categories are independent of the rest. No value may be missing.
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
    """Return the field before training: the reference, and the laws of columns and pairs.

    These laws have weight 0 at first, see `weigh_shapes`. The seed sets the weights of the
    networks.
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
    """Return the Gaussian with the moments of the numbers, and the shares of the levels.

    The ridge on the covariance maximises the likelihood of the validation rows.
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
