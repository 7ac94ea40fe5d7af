"""Numbers and categories together: a mixture of classes, in closed form at every noise level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, cast

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from skbellman.fields.base import Levels, as_levels
from skbellman.fields.gaussian import ClosedFormField, GaussianMixtureField, draw_class
from skbellman.packing import refuse_gone


class LatentClassField(ClosedFormField):
    r"""Fields of a mixture of classes, within which numbers and categories are independent.

    .. math:: p(x, c) = \sum_j w_j N(x; m_j, C_j) \prod_b \sum_k \pi_{jbk} \delta(c_b - e_{bk})

    for numbers x, which come first in a row, and categories b. Level k of b is the point
    :math:`e_{bk}` in coordinates of its own. Noise keeps the form, with
    :math:`N(c_b; e_{bk}, \sigma^2)` in place of the peak.

    Parameters
    ----------
    gaussians : GaussianMixtureField
        Field of the numbers; its J components are the classes.
    corners : sequence of tensor of shape (K_b, d_b)
        The points of each category.
    probabilities : sequence of tensor of shape (J, K_b)
        Positive; normalised to sum 1 in each class.

    Raises
    ------
    ValueError
        If the shapes disagree or a probability is not positive.

    Examples
    --------
    >>> import torch
    >>> from skbellman.fields import GaussianMixtureField, LatentClassField
    >>> number = GaussianMixtureField.normal(torch.zeros(1), torch.eye(1))
    >>> field = LatentClassField(number, [torch.tensor([[0.0], [1.0]])], [torch.ones(1, 2)])
    >>> field.scalar(torch.zeros(1, 2), sigma=torch.tensor([0.0, 0.1]))  # 1/2 of 2 peaks
    tensor([0.7958])
    """

    def __init__(
        self,
        gaussians: GaussianMixtureField,
        corners: Sequence[Tensor],
        probabilities: Sequence[Tensor],
    ) -> None:
        super().__init__(corners)
        n_classes = len(gaussians.means)
        for points, shares in zip(corners, probabilities, strict=True):
            if shares.shape != (n_classes, len(points)) or not bool((shares > 0).all()):
                raise ValueError(
                    f"probabilities must be positive, of shape {(n_classes, len(points))} for "
                    f"a category of {len(points)} points, got {shares}."
                )
        self.gaussians = gaussians
        self.widths = [gaussians.n_columns, *(points.shape[1] for points in corners)]
        self.n_columns = sum(self.widths)
        for b, shares in enumerate(probabilities):
            self.register_buffer(f"log_probabilities_{b}", log_softmax(shares.log(), -1))

    @property
    def log_weights(self) -> Tensor:  # type: ignore[override]
        """Logarithms of the weights of the classes, shape (J,)."""
        return self.gaussians.log_weights

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), shape (..., n)."""
        log_classes, _, _ = self._classes(x, as_levels(sigma, x))
        return log_classes.logsumexp(-2)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return h(x, sigma), shape (..., n, D)."""
        return self.gradient_and_posteriors(x, as_levels(sigma, x))[0]

    def gradient_and_posteriors(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h(x, sigma) and log P(level | x) of each category, (..., n, K_b)."""
        log_classes, gradients, log_joints = self._classes(x, sigma)
        log_share = log_classes.log_softmax(-2).unsqueeze(-1)
        parts = [(log_share.exp() * gradients).sum(-3)]
        log_posteriors = [(log_share + z.log_softmax(-1)).logsumexp(-3) for z in log_joints]
        for corners, log_q, c, levels in zip(
            self.corners, log_posteriors, self._split(x)[1:], self._split(sigma)[1:], strict=True
        ):
            parts.append(corners.pull(log_q.exp(), c, levels))
        return torch.cat(parts, -1), log_posteriors

    def draw(self, n_rows: int, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Sample rows of p_sigma for levels of shape (D,): (n_rows, D)."""
        component = self._draw_components(n_rows, generator)
        number_levels, *block_levels = self._split(sigma)
        parts = [self.gaussians.draw_from(component, number_levels, generator)]
        for b, level in enumerate(block_levels):
            parts.append(self._draw_block(b, component, level, generator))
        return torch.cat(parts, -1)

    def draw_given(self, given: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the NaN of the rows, (n, D), by samples of p_sigma given the rest."""
        levels = torch.where(torch.isnan(given), torch.inf, sigma)
        log_classes, _, _ = self._classes(given.nan_to_num(0.0), levels)
        component = draw_class(log_classes, generator)
        (numbers, *blocks), (number_levels, *block_levels) = self._split(given), self._split(sigma)
        parts = [self.gaussians.complete(numbers, component, number_levels, generator)]
        for b, (block, level) in enumerate(zip(blocks, block_levels, strict=True)):
            drawn = self._draw_block(b, component, level, generator)
            parts.append(torch.where(torch.isnan(block), drawn, block))
        return torch.cat(parts, -1)

    def _draw_block(
        self, b: int, component: Tensor, level: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Sample the coordinates of category b for one row of each given class, (n, d_b)."""
        shares = self._log_probabilities(b).exp()[component]
        codes = torch.multinomial(shares, 1, generator=generator).squeeze(-1)
        points = self.corners[b].points[codes]
        noise = torch.randn(
            points.shape, generator=generator, device=level.device, dtype=level.dtype
        )
        return points + level * noise

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(self.widths, -1)

    def _log_probabilities(self, b: int) -> Tensor:
        return cast("Tensor", getattr(self, f"log_probabilities_{b}"))

    def _classes(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return log w_j p_j(x), (..., J, n), the numbers' gradient in each class, (..., J, n, P).

        Also return log pi_jbk N(c_b; e_bk, sigma^2) of each category, (..., J, n, K_b).
        """
        (numbers, *blocks), (levels, *block_levels) = self._split(x), self._split(sigma)
        log_classes, gradients = self.gaussians.components(numbers, levels)
        log_joints = []
        for b, (c, level) in enumerate(zip(blocks, block_levels, strict=True)):
            log_likelihood = self.corners[b].log_likelihood(c, level).unsqueeze(-3)
            log_joints.append(self._log_probabilities(b).unsqueeze(-2) + log_likelihood)
            log_classes = log_classes + log_joints[-1].logsumexp(-1)
        return log_classes, gradients, log_joints


def __getattr__(name: str) -> NoReturn:
    refuse_gone(__name__, name, ["Corners"])
