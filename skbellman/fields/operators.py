"""Operators that are linear in the density. Each takes fields and is a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from skbellman.fields.base import (
    Cells,
    DensityField,
    Integral,
    Levels,
    Sampler,
    as_levels,
    is_seen,
)
from skbellman.schedule import NoiseSchedule, masked


class Mixture(DensityField):
    """The density sum_i w_i p_i: its fields are the mixture of the fields.

    Parameters
    ----------
    fields : sequence of DensityField
        Fields with the same number of columns.
    weights : tensor of shape (n_fields,)
        Positive; normalised to sum 1.
    """

    def __init__(self, fields: Sequence[DensityField], weights: Tensor) -> None:
        super().__init__()
        widths = {field.n_columns for field in fields}
        if len(widths) != 1 or weights.shape != (len(fields),) or not bool((weights > 0).all()):
            raise ValueError(
                "Mixture needs fields of one width and a positive weight for each, "
                f"got widths {sorted(widths)} and weights {weights}."
            )
        self.n_columns = widths.pop()
        self.fields = cast("list[DensityField]", nn.ModuleList(fields))
        self.weights: Tensor
        self.register_buffer("weights", weights / weights.sum())

    def scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return s = sum_i w_i s_i, shape (..., n)."""
        return self._average([field.scalar(x, sigma) for field in self.fields])

    def gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return g = sum_i w_i g_i, shape (..., n, D)."""
        return self._average([field.gradient(x, sigma) for field in self.fields])

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s, shape (..., n), without underflow."""
        return self._log_parts(x, sigma).logsumexp(-1)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h = sum_i (w_i s_i / s) h_i, shape (..., n, D)."""
        share = softmax(self._log_parts(x, sigma), -1).unsqueeze(-2)
        parts = torch.stack([field.log_gradient(x, sigma) for field in self.fields], -1)
        return (share * parts).sum(-1)

    def log_density(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the log-density at the path's floor, (n,), of moving columns given the held ones.

        Given a condition, a part weighs more if the condition is likelier under it.
        """
        log_weights, held = self.weights.log(), path.condition
        if held is not None:
            seen = torch.where(torch.isfinite(held(0.0)), x, 0.0)
            log_weights = self._log_weights_of(seen, held, integral)
        parts = [field.log_density(x, path, integral) for field in self.fields]
        return (torch.stack(parts, -1) + log_weights).logsumexp(-1)

    def density_gradient(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the gradient of the log-density, (n, D): parts weigh by their scores."""
        shares = self._log_weights_of(x, path, integral).exp().unsqueeze(-2)
        parts = [field.density_gradient(x, path, integral) for field in self.fields]
        return (shares * torch.stack(parts, -1)).sum(-1)

    def log_mass(self, cells: Cells, integral: Integral) -> Tensor:
        """Return the log-probability of each row's cell given the held columns, (n,)."""
        log_weights, condition = self.weights.log(), cells.condition
        if condition is None:
            parts = [field.log_mass(cells, integral) for field in self.fields]
            return (torch.stack(parts, -1) + log_weights).logsumexp(-1)
        pairs = [field.log_masses(cells, condition, integral) for field in self.fields]
        held, whole = (torch.stack(parts, -1) for parts in zip(*pairs, strict=True))
        # A part that excludes the condition has no weight.
        whole = torch.where(held.isneginf(), -torch.inf, whole)
        return (whole + log_weights).logsumexp(-1) - (held + log_weights).logsumexp(-1)

    def fill(
        self, given: Tensor, schedule: NoiseSchedule, sampler: Sampler, generator: torch.Generator
    ) -> Tensor:
        """Fill the NaN of the rows, (n, D): each row comes from one of the parts."""
        weights = self._weights_given(given, schedule, sampler.integral)
        part_of_row = torch.multinomial(weights, 1, generator=generator).squeeze(-1)
        x = given.clone()
        for k, field in enumerate(self.fields):
            rows = part_of_row == k
            if bool(rows.any()):
                x[rows] = field.fill(given[rows], schedule, sampler, generator)
        return x

    def _weights_given(self, given: Tensor, schedule: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the weights of the parts for each row, (n, K), given its observed values."""
        if bool(torch.isnan(given).all()):
            return self.weights.expand(len(given), -1)
        # Equal conditions, as in samples given one condition, are scored once.
        keyed = torch.cat([given.nan_to_num(0.0), torch.isnan(given).to(given)], -1)
        different, row_of = torch.unique(keyed, dim=0, return_inverse=True)
        values, hidden = different.chunk(2, -1)
        path, x = masked(schedule, torch.where(hidden > 0, torch.nan, values))
        return self._log_weights_of(x, path, integral).exp()[row_of]

    def _log_weights_of(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the logarithms of the parts' shares of the density at x, (n, K)."""
        logs = [field.log_density(x, path, integral) for field in self.fields]
        return (torch.stack(logs, -1) + self.weights.log()).log_softmax(-1)

    def _average(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, -1) @ self.weights

    def _log_parts(self, x: Tensor, sigma: Levels) -> Tensor:
        parts = torch.stack([field.log_scalar(x, sigma) for field in self.fields], -1)
        return self.weights.log() + parts


class Affine(DensityField):
    """The density of scale * X + shift, column by column, if X has the given field.

    Parameters
    ----------
    field : DensityField
        Field of X.
    scale, shift : tensor of shape (D,)
        No scale may be 0. A level of the result is a level of X times abs(scale).
    """

    def __init__(self, field: DensityField, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        if bool((scale == 0).any()):
            raise ValueError(f"Affine needs scales other than 0, got {scale}.")
        self.n_columns = field.n_columns
        self.field = field
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        levels = as_levels(sigma, x)
        log_jacobian = torch.where(is_seen(levels), self.scale.abs().log(), 0.0).sum(-1)
        return self.field.log_scalar(*self._pull_back(x, levels)) - log_jacobian

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        return self.field.log_gradient(*self._pull_back(x, as_levels(sigma, x))) / self.scale

    def log_density(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the log-density at the floor, (n,), of moving columns given the held ones."""
        moving = path.diffusivity(0.0) > 0
        log_jacobian = torch.where(moving, self.scale.abs().log(), 0.0).sum(-1)
        inner = path.scaled(1 / self.scale.abs())
        return self.field.log_density(self._back(x), inner, integral) - log_jacobian

    def fill(
        self, given: Tensor, schedule: NoiseSchedule, sampler: Sampler, generator: torch.Generator
    ) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples at the floor given the rest."""
        inner = schedule.scaled(1 / self.scale.abs())
        drawn = self.field.fill(self._back(given), inner, sampler, generator)
        return torch.where(torch.isnan(given), self.scale * drawn + self.shift, given)

    def _back(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    def _pull_back(self, x: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        return self._back(x), levels / self.scale.abs()


class Smoothed(DensityField):
    """The density of X + N(0, diag noise^2), if X has the given field.

    Parameters
    ----------
    field : DensityField
        Field of X.
    noise : float or tensor of shape (D,)
        Standard deviation of the added noise.
    """

    def __init__(self, field: DensityField, noise: Levels) -> None:
        super().__init__()
        self.n_columns = field.n_columns
        self.field = field
        self.noise: Tensor
        self.register_buffer("noise", torch.as_tensor(noise))

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        return self.field.log_scalar(x, self._widen(x, sigma))

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        return self.field.log_gradient(x, self._widen(x, sigma))

    def log_density(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the log-density at the floor, (n,), of moving columns given the held ones."""
        return self.field.log_density(x, path.above(self.noise), integral)

    def fill(
        self, given: Tensor, schedule: NoiseSchedule, sampler: Sampler, generator: torch.Generator
    ) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples at the floor given the rest."""
        return self.field.fill(given, schedule.above(self.noise), sampler, generator)

    def _widen(self, x: Tensor, sigma: Levels) -> Tensor:
        levels = as_levels(sigma, x)
        return torch.hypot(levels, self.noise.to(levels).expand_as(levels))


class Marginal(DensityField):
    """The density of some columns, with all others missing.

    Parameters
    ----------
    field : DensityField
        Field of all columns.
    columns : sequence of int
        Positions of the columns to keep, in their new order.
    """

    def __init__(self, field: DensityField, columns: Sequence[int]) -> None:
        super().__init__()
        if len(set(columns)) != len(columns) or not set(columns) <= set(range(field.n_columns)):
            raise ValueError(
                f"columns must be different numbers from 0 to {field.n_columns - 1}, "
                f"got {list(columns)}."
            )
        self.n_columns = len(columns)
        self.field = field
        self.columns = list(columns)

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        return self.field.log_scalar(*self._embed(x, sigma))

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        return self.field.log_gradient(*self._embed(x, sigma))[..., self.columns]

    def log_density(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the log-density at the floor, (n,), of moving columns given the held ones."""
        inner = path.among(self.columns, self.field.n_columns)
        return self.field.log_density(self._spread(x, 0.0), inner, integral)

    def fill(
        self, given: Tensor, schedule: NoiseSchedule, sampler: Sampler, generator: torch.Generator
    ) -> Tensor:
        """Fill the NaN of the rows, (n, D): all columns are sampled, and these are kept."""
        inner = schedule.widened(self.columns, self.field.n_columns)
        drawn = self.field.fill(self._spread(given, torch.nan), inner, sampler, generator)
        return drawn[:, self.columns]

    def _spread(self, values: Tensor, fill: float) -> Tensor:
        """Return values of these columns among all, the others filled."""
        spread = values.new_full((*values.shape[:-1], self.field.n_columns), fill)
        spread[..., self.columns] = values
        return spread

    def _embed(self, x: Tensor, sigma: Levels) -> tuple[Tensor, Tensor]:
        return self._spread(x, 0.0), self._spread(as_levels(sigma, x), torch.inf)


class Referred(DensityField):
    """A field with a reference, so that it can be scored and sampled.

    Parameters
    ----------
    field : DensityField
        Field; only its h(x, sigma) is used.
    reference : ClosedFormField
        Limit of the field at high levels: usually the Gaussian of its mean and covariance.
    """

    def __init__(self, field: DensityField, reference: DensityField) -> None:
        super().__init__()
        self.n_columns = field.n_columns
        self.field, self.reference = field, reference

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        return self.field.log_scalar(x, sigma)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        return self.field.log_gradient(x, sigma)
