"""A network of the user's own, as the correction of independent columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor, nn

from skbellman.fields.base import DensityField, Levels, as_levels, is_seen
from skbellman.fields.products import ProductField


class NetworkField(DensityField):
    r"""Independent columns, corrected by a network of any form: for images and other arrays.

    The network returns F. It multiplies the reference's law of each clean value :math:`y_j` given
    the row x by :math:`\exp(t_j y_j)`. The gradient follows from the expected clean value:

    .. math:: h_j = \frac{E_t[y_j | x] - x_j}{\sigma_j^2},
              \qquad t = F(x, \sigma) \frac{\sqrt{1 + \sigma^2}}{\sigma}.

    For a `DiagonalGaussianField` of unit variances this is EDM's preconditioning (arXiv
    2206.00364, table 1), :math:`h = h_0 + F / (\sigma \sqrt{1 + \sigma^2})`. For a `GridField`,
    expected values stay within the grid. The cost beside that of the network is linear in D.

    Parameters
    ----------
    reference : ProductField
        A `DiagonalGaussianField` or a `GridField`. Columns shall have about unit variance, all
        together.
    network : callable
        Given the number D of columns, it returns a torch module with
        ``forward(x, levels, seen)``. All three have shape (n, D): x / sqrt(1 + sigma^2), log(sigma)
        / 4, and whether a column is observed. Both others are 0 where it is not. The module returns
        F, of shape (n, D). Each row of F must depend on that row alone. F should be 0 before
        training (zeros in the last layer), so that the untrained field is the reference. A class or
        a function of a module can be pickled; a lambda is not kept.

    Attributes
    ----------
    network : nn.Module
        What the callable returned.

    Raises
    ------
    TypeError
        If the callable does not return a torch module.
    ValueError
        If the network's answer has another shape than (n, D).

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skbellman.fields import DiagonalGaussianField, NetworkField
    >>> class Linear(nn.Linear):
    ...     def __init__(self, n_columns):
    ...         super().__init__(3 * n_columns, n_columns)
    ...         nn.init.zeros_(self.weight), nn.init.zeros_(self.bias)
    ...
    ...     def forward(self, x, levels, seen):
    ...         return super().forward(torch.cat([x, levels, seen.to(x)], -1))
    >>> field = NetworkField(DiagonalGaussianField(torch.zeros(4), torch.ones(4)), Linear)
    >>> field.log_gradient(torch.ones(1, 4), sigma=1.0)
    tensor([[-0.5000, -0.5000, -0.5000, -0.5000]], grad_fn=<AddBackward0>)
    """

    def __init__(self, reference: ProductField, network: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.n_columns = reference.n_columns
        self.reference: ProductField = reference
        module = network(self.n_columns)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"network({self.n_columns}) must return a torch.nn.Module, got "
                f"{type(module).__name__}: give a class or a function, not what it returns."
            )
        self.network = module.to(reference.log_weights).eval()
        with torch.no_grad():  # a network of another form shall fail here, not in a training
            self.log_gradient(reference.log_weights.new_zeros(2, self.n_columns), 1.0)
        self.network.train()

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        h0, residual = self.gradient_parts(x, as_levels(sigma, x))
        return h0 + residual

    def log_scalar(self, x: Tensor, sigma: Levels) -> NoReturn:
        """Raise an error: the log-density is an integral of the gradient.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            "a NetworkField has no scalar network. Score rows by "
            "skbellman.likelihood.FlowIntegral(...).log_density(field, x, schedule)."
        )

    def gradient_parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reference's h_0 and the residual h - h_0, each (..., n, D)."""
        seen = is_seen(sigma)
        finite = torch.where(seen, sigma, 1.0)
        unit = (1 + finite.square()).sqrt()
        scaled = torch.where(seen, x / unit, 0.0)
        answers = self._answers(scaled, (finite.log() / 4).expand_as(x), seen.expand_as(x))
        return self.reference.tilted(x, sigma, answers * unit / finite)

    def gradient_products(
        self, x: Tensor, sigma: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return h_0, r = h - h_0, and the products of directions, (k, n, D), with dr/dx.

        One direction after the other: torch is slow at, or does not know, convolutions of a batch
        of directions.
        """
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            h0, r = self.gradient_parts(points, sigma)
        products = [
            torch.autograd.grad(r, points, direction, retain_graph=True)[0]
            for direction in directions
        ]
        return h0.detach(), r.detach(), torch.stack(products)

    def _answers(self, x: Tensor, levels: Tensor, seen: Tensor) -> Tensor:
        """Return what the network answers, (..., n, D)."""
        rows = x.reshape(-1, self.n_columns)
        answers = self.network(rows, levels.reshape(rows.shape), seen.reshape(rows.shape))
        if answers.shape != rows.shape:
            raise ValueError(
                f"the network must return a tensor of shape {tuple(rows.shape)}, one number for "
                f"each number of x; got {tuple(answers.shape)}."
            )
        return answers.view(x.shape)
