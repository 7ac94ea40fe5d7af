"""Densities whose fields are known, for the tests of what is computed from fields."""

from __future__ import annotations

import torch

from skbellman.fields import DiagonalGaussianField, GaussianMixtureField, LatentClassField


def mixture(n_columns: int = 2, n_components: int = 3, seed: int = 0) -> GaussianMixtureField:
    generator = torch.Generator().manual_seed(seed)
    shape = (n_components, n_columns, n_columns)
    roots = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return GaussianMixtureField(
        torch.rand(n_components, generator=generator, dtype=torch.float64) + 0.2,
        torch.randn(n_components, n_columns, generator=generator, dtype=torch.float64),
        roots @ roots.mT + 0.1 * torch.eye(n_columns, dtype=torch.float64),
    )


def latent_classes() -> LatentClassField:
    """Return two classes of one number and categories of three and of two levels."""
    corners = [
        torch.tensor([[0.8, -0.5], [-0.8, -0.5], [0.0, 0.9]]).double(),
        torch.tensor([[-0.7], [0.7]]).double(),
    ]
    shares = [
        torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]).double(),
        torch.tensor([[0.9, 0.1], [0.4, 0.6]]).double(),
    ]
    return LatentClassField(mixture(1, n_components=2), corners, shares)


def expanded(field: LatentClassField) -> GaussianMixtureField:
    """Return latent classes with every combination of points as a component of its own."""
    weights, means = [], []
    for j, log_weight in enumerate(field.log_weights):
        levels = [torch.arange(len(c.points)) for c in field.corners]
        for codes in torch.cartesian_prod(*levels):
            shares = [
                getattr(field, f"log_probabilities_{b}")[j, code] for b, code in enumerate(codes)
            ]
            points = [c.points[code] for c, code in zip(field.corners, codes, strict=True)]
            weights.append((log_weight + sum(shares)).exp())
            means.append(torch.cat([field.gaussians.means[j], *points]))
    covariances = torch.zeros(len(means), field.n_columns, field.n_columns).double()
    n, repeats = field.gaussians.n_columns, len(means) // len(field.log_weights)
    covariances[:, :n, :n] = field.gaussians.covariances.repeat_interleave(repeats, 0)
    return GaussianMixtureField(torch.stack(weights), torch.stack(means), covariances)


def conditional(field: GaussianMixtureField, given: torch.Tensor) -> GaussianMixtureField:
    """Return the mixture of the columns that are NaN in one row, (D,), given the others."""
    a, b = given.isnan(), ~given.isnan()
    means, covariances = field.means, field.covariances
    gain = covariances[:, a][:, :, b] @ torch.linalg.inv(covariances[:, b][:, :, b])
    offset = (given[b] - means[:, b]).unsqueeze(-1)
    marginal = GaussianMixtureField(
        field.log_weights.exp(), means[:, b], covariances[:, b][:, :, b]
    )
    log_weights = marginal.components(given[b][None], 0.0)[0].squeeze(-1)
    return GaussianMixtureField(
        log_weights.softmax(0),
        means[:, a] + (gain @ offset).squeeze(-1),
        covariances[:, a][:, :, a] - gain @ covariances[:, b][:, :, a],
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


class Exact(torch.nn.Module):
    """A network of a `NetworkField` that knows the gradient of a Gaussian mixture."""

    def __init__(self, truth: GaussianMixtureField, reference: DiagonalGaussianField) -> None:
        super().__init__()
        self.truth, self.variance, self.mean = truth, reference.variance, reference.mean

    def forward(self, x: torch.Tensor, levels: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        sigma = (4 * levels).exp()
        unit = (1 + sigma.square()).sqrt()
        x, total = x * unit, self.variance + sigma.square()
        h = self.truth.log_gradient(x, torch.where(seen, sigma, torch.inf))
        return (h + (x - self.mean) / total) * total / self.variance * sigma / unit
