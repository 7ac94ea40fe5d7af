"""Batches of noisy rows, prepared for many training steps at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from skbellman.fields import DensityField, NeuralField
from skbellman.fields.base import is_seen
from skbellman.fields.neural import Prepared
from skbellman.likelihood import FlowIntegral
from skbellman.matching import (
    antithetic_noise,
    averaged_noise,
    level_weight,
    mixed_levels,
    shared_levels,
    shares_of_own,
    taught_noise,
    with_noise,
)
from skbellman.schedule import NoiseSchedule

# Largest number of rows for closed forms, and number of rows in one block.
WHOLE_ROWS, CHUNK = 100_000, 2**14
# Number of steps prepared at once. It is smaller if a batch has more numbers than this limit.
_STEPS_AHEAD, _MOST_NUMBERS = 16, 2**24


@dataclass(frozen=True)
class FieldSettings:
    """Shape of the networks and of a batch; see `BellmanDiffusionDensity`.

    Attributes
    ----------
    group_size : int
        Rows of a batch that share their noise levels, and so one matrix factorisation.
    """

    width: int
    depth: int
    dropout: float
    batch_size: int
    conditional_fraction: float
    group_size: int = 8

    @property
    def n_groups(self) -> int:
        """Groups of a batch."""
        return max(self.batch_size // self.group_size, 2)


@dataclass(frozen=True)
class Rows:
    """The rows that a field is fitted to.

    Attributes
    ----------
    draws : tensor of shape (n_draws, n, D)
        Training rows, with NaN for missing values. Each draw spreads values on a grid anew.
    validation : tensor of shape (n_validation, D)
    validation_log_measure : tensor of shape (n_validation,)
        Added to log-densities of the validation rows in reports.
    blocks : tensor of int, shape (D,)
        The table's column that each coordinate belongs to.
    corners : list of tensor of shape (K, d)
        Points of the categories, whose coordinates are the last ones.
    teacher : DensityField, optional
        The field that the rows were drawn from, to learn from in place of their noise.
    can_be_missing : tensor of bool, shape (D,), optional
        Whether NaN is a missing value, and not a number that a row with a point mass does not have.
    drawn : tensor of bool, shape (n, D), optional
        Which values of the training rows were missing and are drawn.
    edges : list of tensor of shape (k,)
        For each number the bounds of cells of frequent values, see `Intervals`. Empty if no number
        has any.
    is_label : tensor of bool, shape (D,), optional
        Coordinates of labels: they are drawn with the rows, but have no part in scores.
    """

    draws: Tensor
    validation: Tensor
    validation_log_measure: Tensor
    blocks: Tensor
    corners: list[Tensor]
    teacher: DensityField | None = None
    can_be_missing: Tensor | None = None
    drawn: Tensor | None = None
    edges: list[Tensor] = field(default_factory=list)
    is_label: Tensor | None = None

    @property
    def n_numbers(self) -> int:
        """Number of coordinates of numbers."""
        return self.draws.shape[-1] - sum(points.shape[1] for points in self.corners)

    @cached_property
    def has_gaps(self) -> bool:
        """Whether any value of the training rows is missing."""
        return any(bool(self.missing(part).any()) for part in self.draws[0].split(CHUNK))

    def missing(self, part: Tensor) -> Tensor:
        """Return which coordinates of some rows, (n, D), are missing values."""
        lacks = torch.isnan(part)
        return lacks if self.can_be_missing is None else lacks & self.can_be_missing

    @property
    def whole(self) -> Tensor:
        """The first training rows, (n, D), to which closed forms are fitted."""
        return self.draws[0, :WHOLE_ROWS]

    @property
    def judges(self) -> Tensor:
        """The first 256 validation rows, (n, D), which every evaluation scores."""
        return self.validation[:256]

    def integral(
        self, n_probes: int | Literal["auto"] | None = "auto", n_nodes: int = 16
    ) -> FlowIntegral:
        """Return the flow integral that scores validation rows."""
        return FlowIntegral(n_nodes, n_probes)

    def quick_integral(self, n_nodes: int = 8, most_exact: int = 16) -> FlowIntegral:
        """Return the flow integral of evaluations, which compare states of one network.

        Beyond some coordinates it uses 8 probes: with fewer, noise selected the state of wide
        tables.
        """
        return FlowIntegral(n_nodes, None if self.validation.shape[1] <= most_exact else 8)


class Batches:
    """An endless stream of batches, and the loss of a field on them.

    Everything that does not depend on the weights is computed for several steps at once: levels,
    noise, targets, and the fixed parts of the field at the noisy rows.

    Parameters
    ----------
    field : NeuralField
    rows : Rows
    schedule : NoiseSchedule
    settings : FieldSettings
    generator : torch.Generator
        On the device of the rows.
    """

    def __init__(
        self,
        field: NeuralField,
        rows: Rows,
        schedule: NoiseSchedule,
        settings: FieldSettings,
        generator: torch.Generator,
    ) -> None:
        self.field, self.rows, self.schedule = field, rows, schedule
        self.settings, self.generator = settings, generator
        self.ready: list[_Step] = []

    def loss(self, network: nn.Module) -> Tensor:
        """Return the loss of the field, with this gradient network, on a new batch.

        It is the `denoising_loss` of the numbers, and the cross-entropy of intervals and levels.
        """
        if not self.ready:
            self.ready = self._prepare()
        step = self.ready.pop()
        numbers, logs = self.field.answers(step.prepared, network(step.prepared.features))
        total = (numbers * step.factor + step.offset).square().sum() - (step.choices * logs).sum()
        return total / len(step.offset)

    @torch.no_grad()
    def _prepare(self) -> list[_Step]:
        rows, field, n = self.rows, self.field, self.field.n_numbers
        drawn = draw_batches(rows, self.schedule, self.settings, self.generator, self._n_ahead())
        clean, sigma = without_gaps(*drawn[:2])
        noisy, finite = with_noise(clean, sigma, drawn[2])
        own = drawn[0][:, :, : self.settings.group_size // 2].flatten(1, 2)
        shares = shares_of_own(noisy, sigma, own)
        if rows.teacher is not None:
            noise = taught_noise(rows.teacher, noisy, sigma)
        else:
            noise = averaged_noise(noisy, sigma, own, shares)
        prepared = field.prepare(noisy, sigma)
        n_seen = is_seen(sigma)[..., field.pieces].expand(*noisy.shape[:-1], -1)
        weight = level_weight(self.schedule, sigma) / n_seen.sum((-1, -2), keepdim=True).clamp(1)
        root = weight[..., :n].sqrt()
        factor = finite[..., :n] * root
        offset = (finite * prepared.h0 + noise)[..., :n] * root
        choices = self._choices(own, shares, noisy) * field.choices.of_choices(
            torch.where(prepared.pull > 0, self._choice_weight(weight), 0.0)
        )
        each = zip(*(part.unbind(0) for part in (*prepared, factor, offset, choices)), strict=True)
        return [_Step(Prepared(*parts[:-3]), *parts[-3:]) for parts in each]

    def _choice_weight(self, weight: Tensor, of_numbers: float = 0.1) -> Tensor:
        """Return the weight of cross-entropies: a tenth for numbers, which have their own loss."""
        n = self.field.n_numbers
        return torch.cat([of_numbers * weight[..., :n], weight[..., n:]], -1)

    def _choices(self, own: Tensor, shares: Tensor, noisy: Tensor) -> Tensor:
        """Return the probability of each choice, (..., n, K), given the batch's own rows."""
        held = self.field.choices.one_hot(own.nan_to_num(0.0))
        return (shares @ held).view(*noisy.shape[:-1], -1)

    def _n_ahead(self) -> int:
        """Return the number of steps to prepare: fewer if a step is large."""
        field, size = self.field, self.settings.batch_size
        width = 8 * field.n_columns + (3 + field.evidence.n_slots) * len(field.choices)
        return max(1, min(_STEPS_AHEAD, _MOST_NUMBERS // (size * (width + size))))


class _Step(NamedTuple):
    r"""A batch. Its loss is the mean over groups of a sum over rows.

    The summands are :math:`|r f + o|^2`, with the numbers' residual r, factors f and offsets o,
    minus :math:`w \cdot \log P` of the choices, whose targets w have the weight of the noise.
    """

    prepared: Prepared
    factor: Tensor
    offset: Tensor
    choices: Tensor


def draw_batches(
    rows: Rows,
    schedule: NoiseSchedule,
    settings: FieldSettings,
    generator: torch.Generator,
    n_batches: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return clean rows, levels and noise of some batches.

    Shapes (n_batches, n_groups, 8, D), (n_batches, n_groups, 1, D) and as the first; 8 is the size
    of a group in the settings. Each row occurs twice, with opposite noise. NaN is missing.
    """
    n_draws, n_rows, n_columns = rows.draws.shape
    n_groups, half = settings.n_groups, settings.group_size // 2
    n_mixed = round(settings.conditional_fraction * n_groups)
    levels, batches = [], (n_batches,)
    if n_mixed < n_groups:
        levels.append(shared_levels(schedule, n_groups - n_mixed, generator, batches))
    if n_mixed:
        levels.append(mixed_levels(schedule, rows.blocks, n_mixed, generator, batches))
    picked = _integers(n_draws * n_rows, n_batches * n_groups * half, generator)
    shape = (n_batches, n_groups, half, n_columns)
    clean, sigma = rows.draws.view(-1, n_columns)[picked].view(shape), torch.cat(levels, 1)
    if rows.drawn is not None:
        # Conditionals are learned from what rows hold, all else from completed rows.
        has_condition = (sigma == schedule.floor).any(-1, keepdim=True)
        drawn = rows.drawn[picked % n_rows].view(shape) & has_condition
        clean = torch.where(drawn, torch.nan, clean)
    if rows.is_label is not None:
        # Every other group has the levels that scores need, see `shared_levels`.
        sigma[:, 1::2] = torch.where(rows.is_label, torch.inf, sigma[:, 1::2])
    clean = clean.repeat(1, 1, 2, 1)
    return clean, sigma, antithetic_noise(clean, generator)


def without_gaps(clean: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows without NaN, and levels that mark these columns as hidden."""
    gaps = torch.isnan(clean)
    if not bool(gaps.any()):
        return clean, levels
    return torch.where(gaps, 0.0, clean), torch.where(gaps, torch.inf, levels)


def _integers(high: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(high, (count,), generator=generator, device=generator.device)
