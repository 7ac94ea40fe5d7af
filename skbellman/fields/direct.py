"""The paper's form of a field: two networks of x, at one noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from skbellman.fields.base import DensityField, Integral, Levels, Sampler
from skbellman.fields.networks import ResidualNetwork
from skbellman.schedule import NoiseSchedule


class DirectField(DensityField):
    """Separate networks for g and s, functions of x alone (arXiv 2410.01796, section 3).

    Nothing makes g the gradient of s, keeps s positive or makes its integral 1. The only level is
    that of the kernel used in training; it counts as level 0.

    Parameters
    ----------
    n_columns : int
        Number D of columns.
    unit : float
        Typical value of s. The outputs of both networks are multiplied by it.
    width, depth : int
        Units of each layer and residual blocks of both networks.

    Raises
    ------
    ValueError
        If sigma is not 0.
    """

    def __init__(self, n_columns: int, unit: float, width: int, depth: int) -> None:
        super().__init__()
        self.n_columns = n_columns
        self.unit = unit
        self.gradient_network = ResidualNetwork(n_columns, n_columns, width, depth, 0.0)
        self.scalar_network = ResidualNetwork(n_columns, 1, width, depth, 0.0)

    def scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return s(x), shape (..., n), which may be negative."""
        check_one_level(sigma)
        return self.unit * self.scalar_network(x).squeeze(-1)

    def gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return g(x), shape (..., n, D)."""
        check_one_level(sigma)
        return self.unit * self.gradient_network(x)

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x), shape (..., n); -inf where s is not positive."""
        return self.scalar(x, sigma).clamp(min=0).log()

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return g / s, shape (..., n, D); nan where s is not positive."""
        scalar = self.scalar(x, sigma).unsqueeze(-1)
        return torch.where(scalar > 0, self.gradient(x, sigma) / scalar, torch.nan)

    def log_density(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the logarithm of the scalar network, (n,), which is not normalised."""
        return self.log_scalar(x, 0.0)

    def density_gradient(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return g / s at the one level, (n, D)."""
        return self.log_gradient(x, 0.0)

    def fill(
        self, given: Tensor, schedule: NoiseSchedule, sampler: Sampler, generator: torch.Generator
    ) -> Tensor:
        """Sample rows, (n, D), by the dynamics at the one level.

        Raises
        ------
        ValueError
            If any value is given.
        """
        if not bool(torch.isnan(given).all()):
            raise ValueError("A DirectField has no conditionals: nothing can be given.")
        return sampler.at_one_level(self, len(given), given, generator)


def check_one_level(sigma: Levels, field: str = "A DirectField") -> None:
    """Refuse a level other than 0.0 for a field with one level."""
    if not (isinstance(sigma, float) and sigma == 0.0):
        raise ValueError(f"{field} has one level, which is called 0.0; got sigma={sigma}.")
