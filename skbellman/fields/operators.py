"""Operators that are linear in the density. Each takes fields and is a field again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from skbellman.fields.base import DensityField, Levels, as_levels, is_seen


class Mixture(DensityField):
    """The density sum_i w_i p_i: its fields are the mixture of the fields.

    Parameters
    ----------
    fields : sequence of DensityField
        All of the same number of columns.
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

    def _average(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, -1) @ self.weights

    def _log_parts(self, x: Tensor, sigma: Levels) -> Tensor:
        parts = torch.stack([field.log_scalar(x, sigma) for field in self.fields], -1)
        return self.weights.log() + parts


class Affine(DensityField):
    """The density of scale * X + shift, column by column, where X has the given field.

    Parameters
    ----------
    field : DensityField
        Of X.
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

    def _pull_back(self, x: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.shift) / self.scale, levels / self.scale.abs()


class Smoothed(DensityField):
    """The density of X + N(0, diag noise^2), where X has the given field.

    Parameters
    ----------
    field : DensityField
        Of X.
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

    def _widen(self, x: Tensor, sigma: Levels) -> Tensor:
        levels = as_levels(sigma, x)
        return torch.hypot(levels, self.noise.to(levels).expand_as(levels))


class Marginal(DensityField):
    """The density of some columns, the others unseen.

    Parameters
    ----------
    field : DensityField
        Of all columns.
    columns : sequence of int
        The columns that are kept, in the order that they shall have.
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

    def _embed(self, x: Tensor, sigma: Levels) -> tuple[Tensor, Tensor]:
        levels = as_levels(sigma, x)
        full_x = x.new_zeros(*x.shape[:-1], self.field.n_columns)
        full_levels = levels.new_full((*levels.shape[:-1], self.field.n_columns), torch.inf)
        full_x[..., self.columns] = x
        full_levels[..., self.columns] = levels
        return full_x, full_levels
