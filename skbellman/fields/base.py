"""What a density field is: the protocol that everything else is written against."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

Levels = Tensor | float


class DensityField(nn.Module, ABC):
    r"""A density as two fields of the position x and of the noise level sigma.

    With :math:`p_\sigma = p * N(0, \mathrm{diag}\,\sigma^2)` the two fields are

    .. math:: s(x, \sigma) = p_\sigma(x), \qquad g(x, \sigma) = \nabla p_\sigma(x).

    Both are linear in the density p (arXiv 2410.01796, section 3). In more than a few
    columns they underflow, so a field is implemented through their logarithmic forms,
    ``log_scalar`` and ``log_gradient``; ``scalar`` and ``gradient`` follow.

    A noise level is given per column. ``sigma[..., j] = inf`` says that column j is not
    seen: the density is the marginal of the other columns, the value of x there is
    ignored, and the gradient there is 0.

    Attributes
    ----------
    n_columns : int
        Number D of columns of x.

    Notes
    -----
    Every method takes ``x`` of shape (..., n, D) and ``sigma``, a float or a tensor of
    shape (D,), (..., 1, D) (shared by the n rows: the fast case) or (..., n, D). Dtype and
    device are those of ``x``, and of the field, which moves as any ``torch.nn.Module``.
    """

    n_columns: int

    @abstractmethod
    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""

    @abstractmethod
    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma) = grad log s(x, sigma), shape (..., n, D)."""

    def scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return the scalar field s(x, sigma) = p_sigma(x), shape (..., n)."""
        return self.log_scalar(x, sigma).exp()

    def gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return the gradient field g(x, sigma) = s h, shape (..., n, D)."""
        return self.scalar(x, sigma).unsqueeze(-1) * self.log_gradient(x, sigma)


def as_levels(sigma: Levels, x: Tensor) -> Tensor:
    """Return sigma as a tensor like x with one level per column."""
    levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return levels.expand(x.shape[-1]) if levels.dim() == 0 else levels


def is_seen(sigma: Tensor) -> Tensor:
    """Return which columns are seen: those with a finite level."""
    return torch.isfinite(sigma)
