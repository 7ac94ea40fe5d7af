"""The Gaussian mixture, with fields in closed form at every noise level."""

from __future__ import annotations

import math
from abc import abstractmethod
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
from skbellman.fields.corners import Corners
from skbellman.schedule import NoiseSchedule

# Rows whose conditional covariances are computed at once.
_CHUNK = 2048


class ClosedFormField(DensityField):
    """A mixture of components whose fields are known in closed form.

    Attributes
    ----------
    log_weights : tensor of shape (J,)
    corners : sequence of Corners
        Points of the categories, whose coordinates come last. Empty without categories.
    """

    log_weights: Tensor
    corners: Sequence[Corners]

    def __init__(self, corners: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.corners = cast("Sequence[Corners]", nn.ModuleList(map(Corners, corners)))

    def gradient_and_posteriors(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h(x, sigma) and log P(level | x) of each category, (..., n, K_b)."""
        return self.log_gradient(x, sigma), []

    @abstractmethod
    def draw(self, n_rows: int, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Sample rows of p_sigma for levels of shape (D,): (n_rows, D)."""

    @abstractmethod
    def draw_given(self, given: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples of p_sigma given the rest."""

    def log_density(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the log-density at the floor, (n,), of moving columns given the held ones."""
        joint = self.log_scalar(x, path(0.0))
        held = path.condition
        return joint if held is None else joint - self.log_scalar(x, held(0.0))

    def log_mass(self, cells: Cells, integral: Integral) -> Tensor:
        """Return the log-probability of each row's cell given the held columns, (n,).

        A component may be narrower than a cell, so cells are evaluated at many places.
        """
        if cells.condition is None:
            return self._total(cells)
        held, whole = self.log_masses(cells, cells.condition, integral)
        return whole - held

    def log_masses(
        self, cells: Cells, condition: Cells, integral: Integral
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the held columns and of the whole cell, (n,) each."""
        return self._total(condition), self._total(cells)

    def _total(self, cells: Cells) -> Tensor:
        return cells.total(lambda x, path: self.log_scalar(x, path(0.0)), fine=True)

    def fill(
        self, given: Tensor, schedule: NoiseSchedule, sampler: Sampler, generator: torch.Generator
    ) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples at the floor given the rest."""
        return self.filled(given, schedule(0.0), generator)

    def filled(self, given: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples of p_sigma, some rows at a time."""
        if bool(torch.isnan(given).all()):
            return self.draw(len(given), sigma, generator)
        parts = [self.draw_given(rows, sigma, generator) for rows in given.split(_CHUNK)]
        return torch.cat(parts)

    def _draw_components(self, n_rows: int, generator: torch.Generator) -> Tensor:
        weights = self.log_weights.exp()
        return torch.multinomial(weights, n_rows, replacement=True, generator=generator)


class GaussianMixtureField(ClosedFormField):
    r"""Fields of a mixture of K Gaussians.

    Noise widens each component, :math:`p_\sigma = \sum_k w_k N(m_k, C_k + \mathrm{diag}\,
    \sigma^2)`, and a missing column drops out of it. So every marginal is in closed form too. It is
    the ground truth of tests and the reference that a `NeuralField` corrects.

    Parameters
    ----------
    weights : tensor of shape (K,)
        Positive; normalised to sum 1.
    means : tensor of shape (K, D)
    covariances : tensor of shape (K, D, D)

    Raises
    ------
    ValueError
        If the shapes disagree or a weight is not positive.

    Examples
    --------
    >>> import torch
    >>> from skbellman.fields import GaussianMixtureField
    >>> field = GaussianMixtureField(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    >>> field.scalar(torch.zeros(1, 2), sigma=0.0)  # 1 / (2 pi)
    tensor([0.1592])
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        super().__init__()
        n_components, n_columns = means.shape
        if weights.shape != (n_components,) or not bool((weights > 0).all()):
            raise ValueError(f"weights must be {n_components} positive numbers, got {weights}.")
        if covariances.shape != (n_components, n_columns, n_columns):
            raise ValueError(
                f"covariances must have shape {(n_components, n_columns, n_columns)}, "
                f"got {tuple(covariances.shape)}."
            )
        self.n_columns = n_columns
        self.means: Tensor
        self.covariances: Tensor
        self.register_buffer("log_weights", (weights / weights.sum()).log())
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)

    @classmethod
    def normal(cls, mean: Tensor, covariance: Tensor) -> GaussianMixtureField:
        """Return the field of one Gaussian, N(mean, covariance)."""
        return cls(mean.new_ones(1), mean[None], covariance[None])

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        return self.components(x, sigma)[0].logsumexp(-2)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        log_components, gradients = self.components(x, sigma)
        return (softmax(log_components, -2).unsqueeze(-1) * gradients).sum(-3)

    def components(self, x: Tensor, sigma: Levels) -> tuple[Tensor, Tensor]:
        """Return log w_k N_k(x), shape (..., K, n), and grad log N_k(x), (..., K, n, D)."""
        levels = as_levels(sigma, x)
        if levels.dim() > 1 and levels.shape[-2] > 1:  # each row has its own levels
            logs, gradients = self.components(x.unsqueeze(-2), levels.unsqueeze(-2))
            return logs.squeeze(-1).transpose(-1, -2), gradients.squeeze(-2).transpose(-2, -3)
        levels = levels if levels.dim() == 1 else levels.squeeze(-2)
        precision, log_normaliser = self._smoothed_components(levels)
        offset = x.unsqueeze(-3) - self.means.unsqueeze(-2)
        offset = torch.where(is_seen(levels)[..., None, None, :], offset, 0.0)
        gradients = -offset @ precision
        return log_normaliser.unsqueeze(-1) + 0.5 * (offset * gradients).sum(-1), gradients

    def draw(self, n_rows: int, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Sample rows of p_sigma for levels of shape (D,): (n_rows, D)."""
        return self.draw_from(self._draw_components(n_rows, generator), sigma, generator)

    def draw_from(self, component: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Sample one row of each given component, numbered in a tensor of shape (n,): (n, D)."""
        factors = torch.linalg.cholesky(self.covariances + torch.diag(sigma.square()))
        shape = (len(component), self.n_columns, 1)
        noise = torch.randn(shape, generator=generator, device=sigma.device, dtype=sigma.dtype)
        x = self.means[component]
        for k, factor in enumerate(factors):
            x[component == k] += (factor @ noise[component == k]).squeeze(-1)
        return x

    def draw_given(self, given: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples of p_sigma given the rest."""
        levels = torch.where(torch.isnan(given), torch.inf, sigma)
        log_components, _ = self.components(given.nan_to_num(0.0), levels)
        component = draw_class(log_components, generator)
        return self.complete(given, component, sigma, generator)

    def complete(
        self, given: Tensor, component: Tensor, sigma: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Fill the NaN of the rows by samples of the given components.

        A sample y of all columns is corrected to y + C (C_seen)^-1 (given - y).
        """
        y = self.draw_from(component, sigma, generator)
        seen = ~torch.isnan(given)
        covariances = self.covariances[component] + torch.diag(sigma.square())
        both = seen.unsqueeze(-1) & seen.unsqueeze(-2)
        among_seen = torch.where(both, covariances, 0.0) + torch.diag_embed((~seen).to(sigma))
        gap = torch.where(seen, given - y, 0.0).unsqueeze(-1)
        moved = y + (covariances @ torch.linalg.solve(among_seen, gap)).squeeze(-1)
        return torch.where(seen, given, moved)

    def _smoothed_components(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return (C_k + diag sigma^2)^-1 and the log-normaliser, over the observed columns."""
        seen = is_seen(levels)
        both = (seen.unsqueeze(-1) & seen.unsqueeze(-2)).unsqueeze(-3)
        variances = torch.where(seen, levels.square(), 1.0)
        covariances = torch.where(both, self.covariances, 0.0)
        factor = torch.linalg.cholesky(covariances + torch.diag_embed(variances).unsqueeze(-3))
        half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        half_log_2pi = 0.5 * math.log(2 * math.pi) * seen.sum(-1, keepdim=True).to(levels)
        return torch.cholesky_inverse(factor), self.log_weights - half_log_det - half_log_2pi


def draw_class(log_joint: Tensor, generator: torch.Generator) -> Tensor:
    """Sample a component for each row from log w_k p_k(x), (K, n): numbers, (n,)."""
    return torch.multinomial(softmax(log_joint, 0).T, 1, generator=generator).squeeze(-1)
