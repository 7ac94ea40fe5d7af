"""Independent columns: references whose cost grows with the number of columns, not its square."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import softmax

from skbellman.fields.base import Levels, as_levels, is_seen
from skbellman.fields.gaussian import ClosedFormField

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class ProductField(ClosedFormField):
    """Fields of independent columns, which a `NetworkField` can correct.

    Subclasses know each column's law. Nothing is of size D x D.
    """

    log_weights: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.n_columns = len(like)
        self.register_buffer("log_weights", like.new_zeros(1))

    @abstractmethod
    def log_columns(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the log-density of each column, (..., n, D)."""

    @abstractmethod
    def tilted(self, x: Tensor, sigma: Tensor, tilt: Tensor) -> tuple[Tensor, Tensor]:
        """Return h, and what it gains if each column's law is multiplied by exp(tilt y).

        Parameters
        ----------
        x : tensor of shape (..., n, D)
        sigma : tensor of shape (D,), (..., 1, D) or (..., n, D)
        tilt : tensor of shape (..., n, D)

        Returns
        -------
        h, gain : tensor of shape (..., n, D)
            0 where a column is missing.
        """

    @abstractmethod
    def draw_columns(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """Sample rows of p without noise, (n_rows, D)."""

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        levels = as_levels(sigma, x)
        seen = is_seen(levels)
        logs = self.log_columns(torch.where(seen, x, 0.0), torch.where(seen, levels, 1.0))
        return torch.where(seen, logs, 0.0).sum(-1)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        return self.tilted(x, as_levels(sigma, x), torch.zeros_like(x))[0]

    def draw(self, n_rows: int, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Sample rows of p_sigma for levels of shape (D,): (n_rows, D)."""
        clean = self.draw_columns(n_rows, generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device).to(clean)
        return clean + sigma * noise

    def draw_given(self, given: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples of p_sigma: the rest says nothing."""
        return torch.where(torch.isnan(given), self.draw(len(given), sigma, generator), given)


class DiagonalGaussianField(ProductField):
    r"""Fields of independent Gaussian columns, :math:`N(m_j, v_j + \sigma_j^2)`.

    Parameters
    ----------
    mean, variance : tensor of shape (D,)
        The variances are positive.

    Raises
    ------
    ValueError
        If the shapes disagree or a variance is not positive.

    Examples
    --------
    >>> import torch
    >>> from skbellman.fields import DiagonalGaussianField
    >>> field = DiagonalGaussianField(torch.zeros(784), torch.ones(784))
    >>> field.log_gradient(torch.ones(1, 784), sigma=1.0)[0, :2]  # -1 / (1 + 1)
    tensor([-0.5000, -0.5000])
    """

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        if mean.dim() != 1 or variance.shape != mean.shape or not bool((variance > 0).all()):
            raise ValueError(
                "mean and variance must have the same shape (D,) and variances be positive, got "
                f"shapes {tuple(mean.shape)} and {tuple(variance.shape)}, and a least variance of "
                f"{float(variance.min())}: a constant column needs no field, leave it out."
            )
        super().__init__(mean)
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def log_columns(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the log-density of each column, (..., n, D)."""
        variance = self.variance + sigma.square()
        return -0.5 * ((x - self.mean).square() / variance + variance.log()) - _HALF_LOG_2PI

    def tilted(self, x: Tensor, sigma: Tensor, tilt: Tensor) -> tuple[Tensor, Tensor]:
        """Return h, and what it gains if each column's law is multiplied by exp(tilt y)."""
        seen = is_seen(sigma)
        precision = torch.where(seen, (self.variance + sigma.square()).reciprocal(), 0.0)
        offset = torch.where(seen, x - self.mean, 0.0)
        return -offset * precision, tilt * self.variance * precision

    def draw_columns(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """Sample rows of p without noise, (n_rows, D)."""
        shape = (n_rows, self.n_columns)
        noise = torch.randn(shape, generator=generator, device=generator.device).to(self.mean)
        return self.mean + self.variance.sqrt() * noise


class GridField(ProductField):
    r"""Fields of independent columns whose values lie on one grid, such as pixels.

    .. math:: p_\sigma(x) = \prod_j \sum_k q_{jk} N(x_j; y_k, \sigma_j^2)

    At low levels each value is a narrow peak. So a field with this reference holds probabilities
    of whole values, and needs no dequantisation.

    Parameters
    ----------
    points : tensor of shape (K,)
        The values y of the grid, at least two.
    probabilities : tensor of shape (D, K)
        The q of each column. Positive; normalised to sum 1.

    Raises
    ------
    ValueError
        If the shapes disagree or a probability is not positive.

    Examples
    --------
    >>> import torch
    >>> from skbellman.fields import GridField
    >>> field = GridField(torch.tensor([-1.0, 1.0]), torch.tensor([[0.5, 0.5], [0.1, 0.9]]))
    >>> x = torch.tensor([[0.0, 0.0]])
    >>> field.log_gradient(x, sigma=1.0)  # the mean of the values, were they known: 0 and 0.8
    tensor([[0.0000, 0.8000]])
    """

    def __init__(self, points: Tensor, probabilities: Tensor) -> None:
        n_points = len(points)
        if probabilities.dim() != 2 or points.shape != probabilities.shape[1:] or n_points < 2:
            raise ValueError(
                "points must have shape (K,), K > 1, and probabilities (D, K), got "
                f"{tuple(points.shape)} and {tuple(probabilities.shape)}."
            )
        if not bool((probabilities > 0).all()):
            raise ValueError(
                f"probabilities must be positive, the least is {float(probabilities.min())}: add "
                "a fraction of a row to the counts."
            )
        super().__init__(probabilities)
        self.points: Tensor
        self.log_probabilities: Tensor
        self.register_buffer("points", points)
        shares = probabilities / probabilities.sum(-1, keepdim=True)
        self.register_buffer("log_probabilities", shares.log())

    def log_columns(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the log-density of each column, (..., n, D)."""
        return self._log_joint(x, sigma).logsumexp(-1) - sigma.log() - _HALF_LOG_2PI

    def tilted(self, x: Tensor, sigma: Tensor, tilt: Tensor) -> tuple[Tensor, Tensor]:
        """Return h, and what it gains if each column's law is multiplied by exp(tilt y)."""
        seen = is_seen(sigma)
        joint = self._log_joint(torch.where(seen, x, 0.0), torch.where(seen, sigma, 1.0))
        expected = softmax(joint, -1) @ self.points
        moved = softmax(joint + tilt.unsqueeze(-1) * self.points, -1) @ self.points
        precision = torch.where(seen, sigma.square().reciprocal(), 0.0)
        h = torch.where(seen, (expected - x) * precision, 0.0)
        return h, (moved - expected) * precision

    def draw_columns(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """Sample rows of p without noise, (n_rows, D)."""
        shares = self.log_probabilities.exp()
        codes = torch.multinomial(shares, n_rows, replacement=True, generator=generator)
        return self.points[codes.T]

    def _log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log q_jk - (x_j - y_k)^2 / (2 sigma_j^2), (..., n, D, K)."""
        standard = (x.unsqueeze(-1) - self.points) / sigma.unsqueeze(-1)
        return self.log_probabilities - 0.5 * standard.square()
