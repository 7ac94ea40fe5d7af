"""The learned field: a Gaussian in closed form, corrected by two networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from skbellman.fields.base import DensityField, Levels, as_levels, is_seen
from skbellman.fields.evidence import PairwiseEvidence
from skbellman.fields.gaussian import ClosedFormField
from skbellman.fields.networks import ResidualNetwork, level_features, n_level_features
from skbellman.fields.shapes import ColumnShapes


class NeuralField(DensityField):
    r"""A reference field and what networks add to it.

    .. math::
        h(x, \sigma) &= h_0(x, \sigma) + \frac{F_\theta(x, \sigma)}{\sigma \sqrt{1 + \sigma^2}},\\
        \log s(x, \sigma) &= \log s_0(x, \sigma) + f_\phi(x, \sigma),

    where :math:`(s_0, h_0)` is the reference: with the mean and the covariance of the data
    it is the exact limit for large sigma. Both networks give 0 at first, so that an
    untrained field is the reference. Part of F in a number's column is what the column's own law
    says (`ColumnShapes`), with a weight that the network gives: narrow modes are learned slowly
    from x, of which a network is a smooth function. The scale of the rest of F is that of EDM
    (arXiv 2206.00364, table 1) for columns of unit variance. Both networks are shown
    :math:`\sigma h_0` next to x: it is x in the units of the noise along each direction of the
    covariance, without which narrow directions (nearly collinear columns) are learned slowly.

    Where the reference has categories, :math:`h = (E[e | x] - x) / \sigma^2` is exact for the
    posterior probabilities of their points e, and F adds to the logarithms of those:

    .. math:: E[e | x] = \sum_k e_k\, \mathrm{softmax}_k(\log q_k(x, \sigma) + F_k(x, \sigma)),

    q the reference's posterior. Part of F is what categories say about one another, counted in
    pairs, with weights that the network gives (`PairwiseEvidence`): where one follows from
    another it is as sharp as the table, which logits learned by regression are not. Of a category
    alone, the others unseen, the reference's posterior is exact and stays as it is. At low levels
    the softmax saturates whatever F is, so that each point is the centre of an exact Gaussian
    peak. The networks are shown the reference's :math:`E_0[e | x]` for such coordinates.

    Parameters
    ----------
    reference : ClosedFormField
        Usually of one component, with the mean and covariance of the columns.
    width, depth : int
        Of the gradient network F. The scalar network f has half the width.
    dropout : float, default=0.0
        Share of the units inside a residual block of F that is dropped in training.
    evidence : PairwiseEvidence, optional
        Of the reference's categories.
    shapes : ColumnShapes, optional
        Of the columns of numbers, which are the first ones.
    """

    def __init__(
        self,
        reference: ClosedFormField,
        width: int,
        depth: int,
        dropout: float = 0.0,
        evidence: PairwiseEvidence | None = None,
        shapes: ColumnShapes | None = None,
    ) -> None:
        super().__init__()
        n_columns = reference.n_columns
        self.n_columns = n_columns
        self.reference: ClosedFormField = reference
        self.n_numbers = n_columns - sum(c.points.shape[1] for c in reference.corners)
        widths = [c.points.shape[1] for c in reference.corners]
        # A number or category has one level, of all its coordinates: shown once.
        first = accumulate(widths[:-1], initial=self.n_numbers) if widths else ()
        self._pieces = [*range(self.n_numbers), *first]
        n_inputs = self.n_numbers + n_columns + n_level_features(len(self._pieces))
        self.evidence = evidence or PairwiseEvidence([{} for _ in reference.corners])
        self.shapes = shapes
        self.n_outputs = [
            self.n_numbers,
            self.n_numbers if shapes else 0,
            *(len(c.points) for c in reference.corners),
            *map(len, self.evidence.sources),
        ]
        self.shape_outputs = slice(self.n_numbers, sum(self.n_outputs[:2]))
        self.gradient_network = ResidualNetwork(
            n_inputs, sum(self.n_outputs), width, depth, dropout
        )
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
        h0, log_posteriors = self.reference.gradient_and_posteriors(x, sigma)
        outputs = self.gradient_network(self._features(x, sigma, h0))
        return h0, self._residual(x, sigma, log_posteriors, outputs)

    def gradient_products(
        self, x: Tensor, sigma: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return h_0, r = h - h_0, and the products of directions, (k, n, D), with dr/dx.

        By autograd around the network, which has a way of its own.
        """
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            h0, log_posteriors = self.reference.gradient_and_posteriors(points, sigma)
            features = self._features(points, sigma, h0)
        outputs, slopes = self.gradient_network.with_slopes(features.detach())
        with torch.enable_grad():
            outputs.requires_grad_()
            r = self._residual(points, sigma, log_posteriors, outputs)
        pull = partial(torch.autograd.grad, is_grads_batched=True, allow_unused=True)
        of_outputs, direct = pull(r, (outputs, points), directions, retain_graph=True)
        of_features = self.gradient_network.pulled_back(of_outputs, slopes)
        (through,) = pull(features, points, of_features)
        products = through if direct is None else direct + through
        return h0.detach(), r.detach(), products

    def _residual(
        self, x: Tensor, sigma: Tensor, log_posteriors: list[Tensor], outputs: Tensor
    ) -> Tensor:
        """Return h - h_0, (..., n, D), from what the gradient network says."""
        own, weights, *of_categories = outputs.split(self.n_outputs, -1)
        residuals, start = [self._of_numbers(x, sigma, own, weights)], self.n_numbers
        tilts = self._tilts(log_posteriors, of_categories)
        told = is_seen(sigma[..., self._pieces]).sum(-1, keepdim=True) > 1
        for corners, log_q, tilt in zip(self.reference.corners, log_posteriors, tilts, strict=True):
            block = slice(start, start := start + corners.points.shape[1])
            change = (log_q + told * tilt).softmax(-1) - log_q.exp()
            residuals.append(change @ corners.points / sigma[..., block].square())
        return torch.cat(residuals, -1)

    def _of_numbers(self, x: Tensor, sigma: Tensor, own: Tensor, weights: Tensor) -> Tensor:
        """Return h - h_0 in the columns of numbers, (..., n, P)."""
        x, sigma = x[..., : self.n_numbers], sigma[..., : self.n_numbers]
        learned = own * _edm_scale(sigma)
        return learned if self.shapes is None else learned + weights * self.shapes(x, sigma)

    def _tilts(self, log_posteriors: list[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return F of each category, (..., n, K): of the network, and of other categories."""
        n_categories = len(log_posteriors)
        evidence = self.evidence(log_posteriors, outputs[n_categories:])
        return [own + told for own, told in zip(outputs[:n_categories], evidence, strict=True)]

    def log_scalar_residual(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log s - log s_0, shape (..., n)."""
        h0 = self.reference.log_gradient(x, sigma)
        return self.scalar_network(self._features(x, sigma, h0)).squeeze(-1)

    @property
    def first_shape_weights(self) -> Tensor:
        """What the columns' laws weigh before training, shape (P,): a view of the parameters."""
        return self.gradient_network.bias[self.shape_outputs]

    def _features(self, x: Tensor, sigma: Tensor, h0: Tensor) -> Tensor:
        seen = is_seen(sigma)
        finite = torch.where(seen, sigma, 1.0)
        scaled_x = torch.where(seen, x / (1 + finite.square()).sqrt(), 0.0)[..., : self.n_numbers]
        scaled_h0 = (finite * h0)[..., : self.n_numbers]
        expected = torch.where(seen, x + finite.square() * h0, 0.0)[..., self.n_numbers :]
        levels = level_features(sigma[..., self._pieces], seen[..., self._pieces])
        levels = levels.expand(*x.shape[:-1], -1)
        return torch.cat([scaled_x, scaled_h0, expected, levels], -1)


def _edm_scale(sigma: Tensor) -> Tensor:
    """Return 1 / (sigma sqrt(1 + sigma^2)), 0 where unseen."""
    return torch.where(is_seen(sigma), 1 / (sigma * (1 + sigma.square()).sqrt()), 0.0)
