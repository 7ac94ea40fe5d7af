"""Densities whose fields are known, for the tests of what is computed from fields."""

from __future__ import annotations

import torch

from skbellman.fields import GaussianMixtureField


def mixture(n_columns: int = 2, n_components: int = 3, seed: int = 0) -> GaussianMixtureField:
    generator = torch.Generator().manual_seed(seed)
    shape = (n_components, n_columns, n_columns)
    roots = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return GaussianMixtureField(
        torch.rand(n_components, generator=generator, dtype=torch.float64) + 0.2,
        torch.randn(n_components, n_columns, generator=generator, dtype=torch.float64),
        roots @ roots.mT + 0.1 * torch.eye(n_columns, dtype=torch.float64),
    )


def moments(field: GaussianMixtureField) -> GaussianMixtureField:
    """Return the Gaussian with the field's mean and covariance."""
    weights = field.log_weights.exp()
    mean = weights @ field.means
    offset = field.means - mean
    spread = field.covariances + offset.unsqueeze(-1) * offset.unsqueeze(-2)
    return GaussianMixtureField.normal(mean, (weights[:, None, None] * spread).sum(0))


def draw(field: GaussianMixtureField, n_rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = field.log_weights.exp()
    component = torch.multinomial(weights, n_rows, replacement=True, generator=generator)
    noise = torch.randn(n_rows, field.n_columns, 1, generator=generator, dtype=torch.float64)
    roots = torch.linalg.cholesky(field.covariances)[component]
    return field.means[component] + (roots @ noise).squeeze(-1)


def grid(n_columns: int, width: float = 6.0, n_points: int = 401) -> tuple[torch.Tensor, float]:
    """Return the points of a regular grid, (n, D), and the volume of a cell."""
    axis = torch.linspace(-width, width, n_points, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * n_columns).view(-1, n_columns)
    return points, float(axis[1] - axis[0]) ** n_columns
