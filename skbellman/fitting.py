"""From rows of a matrix to a fitted field: a neural field, and a Gaussian mixture beside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

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
from skbellman.likelihood import FlowIntegral
from skbellman.matching import (
    antithetic_noise,
    denoising_loss,
    distillation_loss,
    mixed_levels,
    regression_loss,
    shared_levels,
)
from skbellman.mixtures import (
    best_mixture,
    normal_moments,
    refined,
    stacking_weights,
)
from skbellman.schedule import NoiseSchedule, masked
from skbellman.settings import Seeded
from skbellman.training import (
    INTERRUPTED,
    Plan,
    Record,
    TrainingDivergedError,
    train,
    train_in_rounds,
)

# Rows that closed forms are fitted to, at most, and that are worked on at once.
WHOLE_ROWS, _CHUNK = 100_000, 2**14


@dataclass(frozen=True)
class FieldSettings:
    """Shape of the networks and of a batch; see `BellmanDiffusionDensity`.

    Attributes
    ----------
    group_size : int
        Rows of a batch that share their levels: one factorisation for all of them.
    """

    width: int
    depth: int
    dropout: float
    batch_size: int
    conditional_fraction: float
    group_size: int = 8


@dataclass(frozen=True)
class Rows:
    """What a field is fitted to.

    Attributes
    ----------
    draws : tensor of shape (n_draws, n, D)
        Training rows, NaN where a value is missing; each draw spreads values on a grid anew.
    validation : tensor of shape (n_validation, D)
    validation_log_measure : tensor of shape (n_validation,)
        Added to log-densities of the validation rows when they are reported.
    blocks : tensor of int, shape (D,)
        The table's column that each coordinate belongs to.
    corners : list of tensor of shape (K, d)
        Points of the categories, whose coordinates are the last ones.
    teacher : DensityField, optional
        The field that the rows were drawn from, to learn from in place of their noise.
    """

    draws: Tensor
    validation: Tensor
    validation_log_measure: Tensor
    blocks: Tensor
    corners: list[Tensor]
    teacher: DensityField | None = None

    @property
    def n_numbers(self) -> int:
        """Number of coordinates that are no category's."""
        return self.draws.shape[-1] - sum(points.shape[1] for points in self.corners)

    @cached_property
    def has_gaps(self) -> bool:
        """Whether any value is missing."""
        parts = (*self.draws.flatten(0, 1).split(_CHUNK), self.validation)
        return any(bool(torch.isnan(part).any()) for part in parts)

    @property
    def whole(self) -> Tensor:
        """Training rows of which nothing was hidden, (n, D): what closed forms are fitted to."""
        return self.draws[0, :WHOLE_ROWS]

    @property
    def judges(self) -> Tensor:
        """The validation rows that are scored again and again, (n, D): the first 400."""
        return self.validation[:400]

    def integral(
        self, n_probes: int | Literal["auto"] | None = "auto", n_nodes: int = 16
    ) -> FlowIntegral:
        """Return the flow integral that scores them."""
        return FlowIntegral(n_nodes, n_probes)


@dataclass(frozen=True)
class Fit:
    """A fitted field, how it came about, and what is wrong with it, if anything.

    Attributes
    ----------
    field : Mixture
        Of the neural field and a closed form, or of a direct field alone.
    record : Record
        Of the gradient network.
    scalar_error : float
        Held-out error of the scalar network in nats.
    failure : TrainingDivergedError or None
    interrupted : str
        What an interrupt from the keyboard ended or left out, empty if there was none.
    """

    field: Mixture
    record: Record
    scalar_error: float
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
    """Train the gradient network, then the scalar network, and return the field alone."""
    record, failure, scalar_error, interrupted = Record(), None, math.nan, ""
    of_scalar = "the training of the scalar network"
    try:
        record = fit_gradient(field, rows, schedule, settings, plan, generator, report)
        if record.ended == INTERRUPTED:
            interrupted = "the training of the gradient network"
        else:
            scalar = fit_scalar(field, rows, schedule, settings.batch_size, plan, generator)
            scalar_error = -max((f["score"] for f in scalar.scores), default=math.nan)
            interrupted = of_scalar if scalar.ended == INTERRUPTED else ""
    except TrainingDivergedError as error:
        failure, record = error, record if record.step else error.record
    except KeyboardInterrupt:
        if not record.step:
            raise
        interrupted = of_scalar
    alone = Mixture([field], torch.ones(1).to(rows.draws)).eval()
    return Fit(alone, record, scalar_error, failure, interrupted)


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
    parts = rows.whole.split(_CHUNK)
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
    slopes = torch.zeros(2, *weights.shape).to(weights)
    for _ in range(n_batches):
        batch = draw_batch(rows, schedule, joint, generator)
        for k in (0, 1):
            with torch.no_grad():
                weights.fill_(k)
            loss = denoising_loss(field, *batch)
            (slope,) = torch.autograd.grad(loss, field.gradient_network.bias)
            slopes[k] += slope[field.shape_outputs]
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
    validation, integral = rows.judges, rows.integral()
    log_measure = rows.validation_log_measure[: len(validation)].mean()
    levels = shared_levels(schedule, len(validation), generator).squeeze(1)
    noise = torch.randn(validation.shape, generator=generator, device=generator.device)
    judged, judged_levels = without_gaps(validation.unsqueeze(1), levels.unsqueeze(1))

    def loss(_: nn.Module) -> Tensor:
        batch = draw_batch(rows, schedule, settings, generator)
        if rows.teacher is None:
            return denoising_loss(field, *batch)
        return distillation_loss(field, rows.teacher, *batch)

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        with _swapped(field, "gradient_network", network):
            exact = integral.log_density(field, validation, schedule)
            held_out = denoising_loss(field, judged, judged_levels, noise.unsqueeze(1))
        return {"score": float(exact.mean() + log_measure), "validation_loss": float(held_out)}

    return train_in_rounds(field.gradient_network, loss, plan, evaluate, report)


def fit_scalar(
    field: NeuralField,
    rows: Rows,
    schedule: NoiseSchedule,
    batch_size: int,
    plan: Plan,
    generator: torch.Generator,
) -> Record:
    """Train the scalar network on the log-densities that the flow passes through.

    It takes a quarter of the steps of the gradient network's plan. Its "score" is minus the mean
    absolute error, in nats, on held-out trajectories.
    """
    plan = Plan(max(plan.n_steps // 4, 1), plan.learning_rate)
    with torch.no_grad():
        levels, x, ratio = trajectories(field, rows, schedule, generator)
        held_out = rows.integral().log_ratios(field, rows.judges, schedule)

    def loss(_: nn.Module) -> Tensor:
        picked = _integers(x.shape[1], max(4 * batch_size // len(x), 1), generator)
        own = levels if levels.shape[1] == 1 else levels[:, picked]
        return regression_loss(field, x[:, picked], own, ratio[:, picked])

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        with _swapped(field, "scalar_network", network):
            error = field.log_scalar_residual(held_out[1], held_out[0]) - held_out[2]
        return {"score": -float(error.abs().mean())}

    return train(field.scalar_network, loss, plan, evaluate)


def trajectories(
    field: NeuralField,
    rows: Rows,
    schedule: NoiseSchedule,
    generator: torch.Generator,
    n_rows: int = 4096,
    n_probes: int = 2,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return levels, positions and log-ratios along the flow of some training rows.

    They make do with a noisy divergence, whose error a regression averages: see
    doc/decisions/scalar-network.md.
    """
    sample = rows.whole[_choose(len(rows.whole), n_rows, generator)]
    integral = rows.integral(n_probes if rows.validation.shape[1] > 2 else None)
    return integral.log_ratios(field, sample, schedule)


def draw_batch(
    rows: Rows, schedule: NoiseSchedule, settings: FieldSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return clean rows, levels and noise: (n_groups, 8, D), (n_groups, 1, D), (n_groups, 8, D).

    Each row is there twice, with opposite noise. Where values are missing each row has levels of
    its own, (n_groups, 8, D). 8 is the size of a group in the settings.
    """
    n_draws, n_rows, n_columns = rows.draws.shape
    n_groups = max(settings.batch_size // settings.group_size, 2)
    n_mixed = round(settings.conditional_fraction * n_groups)
    levels = []
    if n_mixed < n_groups:
        levels.append(shared_levels(schedule, n_groups - n_mixed, generator))
    if n_mixed:
        levels.append(mixed_levels(schedule, rows.blocks, n_mixed, generator))
    half = settings.group_size // 2
    picked = _integers(n_draws * n_rows, n_groups * half, generator)
    clean = rows.draws.view(-1, n_columns)[picked].view(n_groups, half, n_columns).repeat(1, 2, 1)
    noise = antithetic_noise(clean, generator)
    if not rows.has_gaps:
        return clean, torch.cat(levels), noise
    return *without_gaps(clean, torch.cat(levels)), noise


def without_gaps(clean: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows without NaN, and levels that say that those columns are not seen."""
    return clean.nan_to_num(0.0), torch.where(torch.isnan(clean), torch.inf, levels)


class _swapped:  # noqa: N801 - reads as a verb where it is used
    """While open, the field has another network in place of its own."""

    def __init__(self, field: NeuralField, name: str, network: nn.Module) -> None:
        self.field, self.name, self.network = field, name, network

    def __enter__(self) -> None:
        self.own = getattr(self.field, self.name)
        self.network.eval()
        setattr(self.field, self.name, self.network)

    def __exit__(self, *exception: object) -> None:
        setattr(self.field, self.name, self.own)


def _integers(high: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(high, (count,), generator=generator, device=generator.device)


def _choose(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Return at most `count` different numbers below n."""
    return torch.randperm(n, generator=generator, device=generator.device)[:count]
