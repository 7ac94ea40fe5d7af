"""The protocol of density fields. Everything else is written against it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from skbellman.schedule import NoiseSchedule

Levels = Tensor | float


class Integral(Protocol):
    """A method that integrates the log-density of a field over noise levels, see `FlowIntegral`."""

    def along(self, field: DensityField, x: Tensor, path: NoiseSchedule) -> Tensor:
        """Return the log-density at the floor of the moving columns given the held ones, (n,)."""


class Sampler(Protocol):
    """A method that samples a field over noise levels, see `Annealing`."""

    @property
    def integral(self) -> Integral:
        """The integral for the densities of conditions."""

    def along(
        self,
        field: DensityField,
        given: Tensor,
        schedule: NoiseSchedule,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the rows, (n, D), with their NaN sampled given the rest."""

    def at_one_level(
        self, field: DensityField, n_rows: int, like: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return rows, (n, D), sampled at level 0 only."""


class Cells(Protocol):
    """Rows of a table whose values are cells: of a grid, or peaks of a category."""

    @property
    def condition(self) -> Cells | None:
        """The cells of the held columns; None if there are none."""

    def total(
        self, log_density: Callable[[Tensor, NoiseSchedule], Tensor], fine: bool = False
    ) -> Tensor:
        """Return the logarithm of a density's integral over the cell of each row, (n,).

        The density is that of the moving columns given the held ones, which stay fixed. With
        ``fine`` it is that of all columns, evaluated at many places of the cell.
        """


class DensityField(nn.Module, ABC):
    r"""A density as two fields of the position x and of the noise level sigma.

    With :math:`p_\sigma = p * N(0, \mathrm{diag}\,\sigma^2)` the two fields are

    .. math:: s(x, \sigma) = p_\sigma(x), \qquad g(x, \sigma) = \nabla p_\sigma(x).

    Both are linear in the density p (arXiv 2410.01796, section 3). In more than a few
    columns they underflow, so a field is implemented through their logarithmic forms,
    ``log_scalar`` and ``log_gradient``; ``scalar`` and ``gradient`` follow.

    A noise level is given per column. ``sigma[..., j] = inf`` means that column j is missing: the
    density is the marginal of the other columns, the value of x there is ignored, and the gradient
    there is 0.

    Attributes
    ----------
    n_columns : int
        Number D of columns of x.
    reference : DensityField or None
        A field in closed form that this one approaches at high levels. The flow integral takes the
        difference to it, and sampling starts from it.

    Notes
    -----
    Every method takes ``x`` of shape (..., n, D) and ``sigma``, a float or a tensor of shape (D,),
    (..., 1, D) (shared by the n rows: the fast case) or (..., n, D). ``x`` and the field must have
    the same dtype and device. The field moves like any ``torch.nn.Module``.
    """

    n_columns: int
    reference: DensityField | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("reference", None)

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

    def gradient_parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reference's h_0 and the residual h - h_0, each (..., n, D)."""
        assert self.reference is not None
        h0 = self.reference.log_gradient(x, sigma)
        return h0, self.log_gradient(x, sigma) - h0

    def gradient_products(
        self, x: Tensor, sigma: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return h_0, r = h - h_0, and the products of directions, (k, n, D), with dr/dx.

        The products use reverse mode. In forward mode, each constant that is added to x costs a
        tangent of zeros: half of the time with categories.
        """
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            h0, r = self.gradient_parts(points, sigma)
        (products,) = torch.autograd.grad(r, points, directions, is_grads_batched=True)
        return h0.detach(), r.detach(), products

    def log_density(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the log-density at the path's floor, (n,), of moving columns given the held ones.

        Parameters
        ----------
        x : tensor of shape (n, D)
            Without NaN.
        path : NoiseSchedule
            Path that says which columns move, are held, or are missing.
        integral : Integral
            Integral along the path, from the reference.
        """
        self._check_reference()
        return integral.along(self, x, path)

    def density_gradient(self, x: Tensor, path: NoiseSchedule, integral: Integral) -> Tensor:
        """Return the gradient of the log-density at the floor of the path, (n, D)."""
        return self.log_gradient(x, path(0.0))

    def log_mass(self, cells: Cells, integral: Integral) -> Tensor:
        """Return the log-probability of each row's cell given the held columns, (n,).

        NaN if the held columns have density 0.
        """
        return cells.total(lambda x, path: self.log_density(x, path, integral))

    def log_masses(
        self, cells: Cells, condition: Cells, integral: Integral
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the held columns and of the whole cell, (n,) each."""
        held = self.log_mass(condition, integral)
        return held, held + self.log_mass(cells, integral)

    def fill(
        self, given: Tensor, schedule: NoiseSchedule, sampler: Sampler, generator: torch.Generator
    ) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples at the floor given the rest."""
        self._check_reference()
        return sampler.along(self, given, schedule, generator)

    def _check_reference(self) -> None:
        if self.reference is None:
            raise TypeError(
                f"{type(self).__name__} has no reference, so it cannot be scored or sampled: "
                "see `skbellman.fields.Referred`."
            )


def as_levels(sigma: Levels, x: Tensor) -> Tensor:
    """Return sigma as a tensor like x with one level per column."""
    levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return levels.expand(x.shape[-1]) if levels.dim() == 0 else levels


def is_seen(sigma: Tensor) -> Tensor:
    """Return which columns are observed: those with a finite level."""
    return torch.isfinite(sigma)
