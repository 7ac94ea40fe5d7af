"""The learned field: a Gaussian in closed form, corrected by two networks."""

from __future__ import annotations

import torch
from torch import Tensor

from skbellman.fields.base import DensityField, Levels, as_levels, is_seen
from skbellman.fields.gaussian import GaussianMixtureField
from skbellman.fields.networks import ResidualNetwork, level_features, n_level_features


class NeuralField(DensityField):
    r"""A reference field and what networks add to it.

    .. math::
        h(x, \sigma) &= h_0(x, \sigma) + \frac{F_\theta(x, \sigma)}{\sigma \sqrt{1 + \sigma^2}},\\
        \log s(x, \sigma) &= \log s_0(x, \sigma) + f_\phi(x, \sigma),

    where :math:`(s_0, h_0)` is the reference: with the mean and the covariance of the data
    it is the exact limit for large sigma. Both networks give 0 at first, so that an
    untrained field is the reference. The scale of F is that of EDM (arXiv 2206.00364,
    table 1) for columns of unit variance. Both networks are shown :math:`\sigma h_0` next to
    x: it is x in the units of the noise along each direction of the covariance, without
    which narrow directions (nearly collinear columns) are learned slowly.

    Parameters
    ----------
    reference : GaussianMixtureField
        Usually one Gaussian, with the mean and covariance of the columns.
    width, depth : int
        Of the gradient network F. The scalar network f has half the width.
    dropout : float, default=0.0
        Share of the units inside a residual block of F that is dropped in training.
    """

    def __init__(
        self, reference: GaussianMixtureField, width: int, depth: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        n_columns = reference.n_columns
        n_inputs = 2 * n_columns + n_level_features(n_columns)
        self.n_columns = n_columns
        self.reference = reference
        self.gradient_network = ResidualNetwork(n_inputs, n_columns, width, depth, dropout)
        self.scalar_network = ResidualNetwork(n_inputs, 1, max(width // 2, 1), depth, 0.0)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        h0, residual = self.gradient_parts(x, as_levels(sigma, x))
        return h0 + residual

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        levels = as_levels(sigma, x)
        return self.reference.log_scalar(x, levels) + self.log_scalar_residual(x, levels)

    def gradient_parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reference h_0 and the residual h - h_0, each (..., n, D)."""
        h0 = self.reference.log_gradient(x, sigma)
        seen = is_seen(sigma)
        finite = torch.where(seen, sigma, 1.0)
        scale = torch.where(seen, 1 / (finite * (1 + finite.square()).sqrt()), 0.0)
        return h0, self.gradient_network(self._features(x, sigma, h0)) * scale

    def log_scalar_residual(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log s - log s_0, shape (..., n)."""
        h0 = self.reference.log_gradient(x, sigma)
        return self.scalar_network(self._features(x, sigma, h0)).squeeze(-1)

    @staticmethod
    def _features(x: Tensor, sigma: Tensor, h0: Tensor) -> Tensor:
        seen = is_seen(sigma)
        finite = torch.where(seen, sigma, 1.0)
        scaled_x = torch.where(seen, x / (1 + finite.square()).sqrt(), 0.0)
        levels = level_features(sigma, seen)
        return torch.cat([scaled_x, finite * h0, levels.expand(*x.shape[:-1], -1)], -1)
