"""The learned field: a Gaussian in closed form, corrected by two networks."""

from __future__ import annotations

import math
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from skbellman.fields.base import DensityField, Levels, as_levels, is_seen
from skbellman.fields.choices import Choices
from skbellman.fields.evidence import PairwiseEvidence
from skbellman.fields.gaussian import ClosedFormField
from skbellman.fields.intervals import Intervals
from skbellman.fields.networks import ResidualNetwork, level_features, n_level_features
from skbellman.fields.shapes import ColumnShapes

# The variance of a smooth answer is at most exp(4) times smaller than that of the number alone. An
# output of 0 leaves it nearly as it is.
_MOST_NARROWED = 4.0


class Prepared(NamedTuple):
    """The parts of a `NeuralField` at some points and levels without its gradient network.

    They do not depend on the weights. Training computes them for many steps at once.

    Attributes
    ----------
    features : tensor of shape (..., n, n_inputs)
        Inputs of the network.
    h0 : tensor of shape (..., n, D)
        Gradient of the reference.
    scale : tensor of shape (..., 1 or n, P)
        Scale of the network's output for numbers.
    shapes : tensor of shape (..., n, P)
        Gradients of the columns' mixtures; P is 0 if there are none.
    law : tensor of shape (..., n, P)
        h - h_0 of a number that is seen alone, by its column's own mixture; 0 of others. Empty if
        the table has one column, which the network learns.
    log_posteriors : tensor of shape (..., n, K)
        Log-posteriors of the levels of all categories, from the reference. Those of intervals
        depend on the weights.
    evidence : tensor of shape (..., n, n_slots K)
        Evidence of choices of columns about one another.
    pull : tensor of shape (..., 1 or n, D)
        1 / sigma^2; 0 if all other columns are missing, where the law of the column is exact.
    numbers : tensor of shape (..., n, P)
        The numbers themselves.
    """

    features: Tensor
    h0: Tensor
    scale: Tensor
    shapes: Tensor
    law: Tensor
    log_posteriors: Tensor
    evidence: Tensor
    pull: Tensor
    numbers: Tensor


class Learner(Protocol):
    """A method that learns a scalar network from a field, see `skbellman.scalars.ScalarLearner`."""

    def learned(self, field: NeuralField) -> tuple[ResidualNetwork, float]:
        """Return the network and its mean absolute error in nats."""


class NeuralField(DensityField):
    r"""A reference field with corrections by networks.

    .. math::
        h(x, \sigma) &= h_0(x, \sigma) + \frac{F_\theta(x, \sigma)}{\sigma \sqrt{1 + \sigma^2}},\\
        \log s(x, \sigma) &= \log s_0(x, \sigma) + f_\phi(x, \sigma),

    where :math:`(s_0, h_0)` is the reference: with the mean and the covariance of the data it is
    the exact limit for large sigma. Both networks are initially 0, so an untrained field is the
    reference. For a number, part of F comes from the column's own mixture (`ColumnShapes`), with a
    weight given by the network. A network is a smooth function of x and would learn narrow modes
    slowly. The scale of the rest of F is that of EDM (arXiv 2206.00364, table 1) for columns of
    unit variance. Inputs of both networks are :math:`\sigma h_0` and x. The former is x in units
    of the noise along each direction of the covariance. Without it, narrow directions (nearly
    collinear columns) are learned slowly.

    If the reference has categories, :math:`h = (E[e | x] - x) / \sigma^2` is exact for the
    posterior probabilities of their points e, and F adds to the logarithms of those:

    .. math:: E[e | x] = \sum_k e_k\, \mathrm{softmax}_k(\log q_k(x, \sigma) + F_k(x, \sigma)),

    with the reference's posterior q. Part of F is the counted evidence of other categories
    (`PairwiseEvidence`), with weights given by the network. If one category follows from another,
    this is as sharp as the table; logits learned by regression are not. If all other columns are
    missing, the reference's posterior is exact and is not changed; a number has the gradient of its
    column's mixture then. At low levels the softmax saturates for any F, so each point is the
    centre of an exact Gaussian peak. For these coordinates, the input of the networks is the
    reference's :math:`E_0[e | x]`.

    A number with frequent values is divided in the same way into `Intervals` of its coordinate:
    cells of frequent values, and what lies between. The network's smooth answer is the mean of a
    Gaussian posterior of the clean coordinate. Its probabilities of the intervals are tilted by F
    and by evidence, which moves the mean:

    .. math:: \sigma^2 h + x = \mu + \sum_k m_k\, (\mathrm{softmax}_k(\log q_k + F_k) - q_k).

    So zeros that go together with other zeros, or ratios of small counts, are as sharp as the
    table. See doc/decisions/intervals.md.

    Parameters
    ----------
    reference : ClosedFormField
        Usually of one component, with the mean and covariance of the columns.
    width, depth : int
        Units of each layer and residual blocks of the gradient network F. The scalar network f has
        half the width.
    dropout : float, default=0.0
        Share of the units in residual blocks of F that are dropped in training.
    evidence : PairwiseEvidence, optional
        Evidence of divided numbers and of the reference's categories, in this order.
    shapes : ColumnShapes, optional
        Mixtures of the columns of numbers, which come first.
    intervals : Intervals, optional
        Intervals of numbers with frequent values.

    Attributes
    ----------
    pieces : list of int
        The first coordinate of each number and each category.
    scalar_learner : Learner or None
        Method that learns the scalar network when it is first used; None if it is final.
    scalar_error : float
        Mean absolute error of the scalar network, in nats; NaN until it is learned.
    """

    def __init__(
        self,
        reference: ClosedFormField,
        width: int,
        depth: int,
        dropout: float = 0.0,
        evidence: PairwiseEvidence | None = None,
        shapes: ColumnShapes | None = None,
        intervals: Intervals | None = None,
    ) -> None:
        super().__init__()
        n_columns = reference.n_columns
        self.n_columns = n_columns
        self.reference: ClosedFormField = reference
        self.n_numbers = n_columns - sum(c.points.shape[1] for c in reference.corners)
        widths = [c.points.shape[1] for c in reference.corners]
        # All coordinates of a column have one level, which is an input once.
        first = accumulate(widths[:-1], initial=self.n_numbers) if widths else ()
        self.pieces = [*range(self.n_numbers), *first]
        if intervals is None:
            intervals = Intervals([torch.empty(0)] * self.n_numbers)
        points = [c.points for c in reference.corners]
        self.choices = Choices(intervals, points, self.n_numbers)
        n_inputs = self.n_numbers + n_columns + n_level_features(len(self.pieces)) + len(intervals)
        self.evidence = evidence or _no_evidence(self.choices)
        self.shapes = shapes
        self.n_outputs = [
            self.n_numbers,
            self.n_numbers if shapes else 0,
            len(self.choices),
            self.evidence.n_weights,
            self.n_numbers if len(intervals) else 0,
        ]
        self.shape_outputs = slice(self.n_numbers, sum(self.n_outputs[:2]))
        self.gradient_network = ResidualNetwork(
            n_inputs, sum(self.n_outputs), width, depth, dropout
        )
        self.scalar_network = ResidualNetwork(n_inputs, 1, max(width // 2, 1), depth, 0.0)
        self.scalar_learner: Learner | None
        self.register_module("scalar_learner", None)
        self.scalar_error = math.nan

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
        prepared = self.prepare(x, sigma)
        return prepared.h0, self.residual(prepared, self.gradient_network(prepared.features))

    def prepare(self, x: Tensor, sigma: Tensor) -> Prepared:
        """Return all parts that do not depend on the weights of the gradient network."""
        h0, log_posteriors = self.reference.gradient_and_posteriors(x, sigma)
        numbers, of_numbers = self._split(x)[0], self._split(sigma)[0]
        alone = is_seen(sigma[..., self.pieces]).sum(-1, keepdim=True) == 1
        none, scale = x[..., :0], _edm_scale(of_numbers)
        shapes = law = none
        of_intervals = self._of_intervals(numbers, of_numbers)
        if self.shapes is not None:
            shapes = self.shapes(numbers, of_numbers)
            if len(self.pieces) > 1:
                gaussians = self.shapes.gaussian(numbers, of_numbers)
                law = shapes + gaussians - self._split(h0)[0]
                shapes = torch.where(self.is_divided & is_seen(of_numbers), law, shapes)
                law = torch.where(alone, law, 0.0)
                shapes, scale = torch.where(alone, 0.0, shapes), torch.where(alone, 0.0, scale)
        return Prepared(
            features=self._features(x, sigma, h0, of_intervals),
            h0=h0,
            scale=scale,
            shapes=shapes,
            law=law,
            log_posteriors=torch.cat([none, *log_posteriors], -1),
            evidence=self._evidence([*of_intervals, *log_posteriors], none),
            pull=torch.where(alone, 0.0, sigma.square().reciprocal()),
            numbers=numbers,
        )

    def gradient_products(
        self, x: Tensor, sigma: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return h_0, r = h - h_0, and the products of directions, (k, n, D), with dr/dx.

        Autograd is used around the network, whose products are written out.
        """
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            prepared = self.prepare(points, sigma)
        outputs, slopes = self.gradient_network.with_slopes(prepared.features.detach())
        with torch.enable_grad():
            outputs.requires_grad_()
            r = self.residual(prepared, outputs)
        pull = partial(torch.autograd.grad, is_grads_batched=True, allow_unused=True)
        of_outputs, direct = pull(r, (outputs, points), directions, retain_graph=True)
        of_features = self.gradient_network.pulled_back(of_outputs, slopes)
        (through,) = pull(prepared.features, points, of_features)
        products = through if direct is None else direct + through
        return prepared.h0.detach(), r.detach(), products

    def residual(self, prepared: Prepared, outputs: Tensor) -> Tensor:
        """Return h - h_0, (..., n, D), of what the gradient network answers."""
        numbers, log_probabilities = self.answers(prepared, outputs)
        _, of_levels = self.choices.split(log_probabilities)
        change = of_levels.exp() - prepared.log_posteriors.exp()
        moved = self.choices.levels.mean_points(change)
        return torch.cat([numbers, moved * self._split(prepared.pull)[1]], -1)

    def answers(self, prepared: Prepared, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return h - h_0 of the numbers, (..., n, P), and log-probabilities of choices.

        The latter have shape (..., n, K): the intervals and the levels of all columns.
        """
        own, of_shapes, tilts, of_sources, of_widths = outputs.split(self.n_outputs, -1)
        numbers = own * prepared.scale
        if self.shapes is not None:
            numbers = numbers + of_shapes * prepared.shapes
        if prepared.law.shape[-1]:
            numbers = numbers + prepared.law
        tilts = tilts + self.evidence.weighted(prepared.evidence, of_sources)
        if not of_widths.shape[-1]:
            return numbers, self.choices.log_probabilities(prepared.log_posteriors + tilts)
        log_q, means = self._smooth_posterior(prepared, numbers, of_widths)
        logits = torch.cat([log_q, prepared.log_posteriors], -1) + tilts
        logs = self.choices.log_probabilities(logits)
        change = self.choices.split(logs)[0].exp() - log_q.exp()
        moved = (change * means) @ self.choices.intervals.member.to(change)
        return numbers + moved * self._split(prepared.pull)[0], logs

    def _smooth_posterior(
        self, prepared: Prepared, numbers: Tensor, of_widths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return probabilities of intervals, and means there, by the network's smooth answer.

        The posterior's variance is at most that of a standard normal number seen alone.
        """
        pull, h0 = self._split(prepared.pull)[0], self._split(prepared.h0)[0]
        noise = torch.where(pull > 0, pull, 1.0).reciprocal()
        mean = prepared.numbers + noise * (h0 + numbers)
        narrowed = (_MOST_NARROWED * ((of_widths + _MOST_NARROWED).sigmoid() - 1)).exp()
        return self.choices.intervals(mean, noise / (1 + noise) * narrowed)

    def _of_intervals(self, numbers: Tensor, sigma: Tensor) -> list[Tensor]:
        """Return log-posteriors of the intervals of each divided number by its own law."""
        intervals, seen = self.choices.intervals, is_seen(sigma)
        if not len(intervals):
            return []
        noise = torch.where(seen, sigma, 1.0).square()
        mean = torch.where(seen, numbers / (1 + noise), 0.0)
        variance = torch.where(seen, noise / (1 + noise), 1.0).expand_as(mean)
        return list(intervals(mean, variance)[0].split(intervals.sizes, -1))

    def _evidence(self, log_posteriors: list[Tensor], none: Tensor) -> Tensor:
        return self.evidence(log_posteriors) if log_posteriors else none

    @property
    def is_divided(self) -> Tensor:
        """Whether each number is divided into intervals, (P,)."""
        return self.choices.intervals.member.any(0)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the part of numbers and that of categories."""
        return x[..., : self.n_numbers], x[..., self.n_numbers :]

    def log_scalar_residual(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log s - log s_0, shape (..., n)."""
        self.learn_scalar()
        return self.scalar_network(self.prepare(x, sigma).features).squeeze(-1)

    def learn_scalar(self) -> None:
        """Learn the scalar network, if this was postponed until its first use.

        Concurrent threads learn the same network.
        """
        learner = self.scalar_learner
        if learner is not None:
            with torch.enable_grad():
                self.scalar_network, self.scalar_error = learner.learned(self)
            self.scalar_learner = None

    def single_precision(self) -> None:
        """Convert the learned part of the gradient to single precision."""
        self.gradient_network.float()
        self.choices.intervals.float()
        if self.shapes is not None:
            self.shapes.float()

    @property
    def first_shape_weights(self) -> Tensor:
        """The weights of the columns' mixtures before training, (P,): a view of parameters."""
        return self.gradient_network.bias[self.shape_outputs]

    def _features(self, x: Tensor, sigma: Tensor, h0: Tensor, of_intervals: list[Tensor]) -> Tensor:
        seen = is_seen(sigma)
        finite = torch.where(seen, sigma, 1.0)
        scaled_x = torch.where(seen, x / (1 + finite.square()).sqrt(), 0.0)[..., : self.n_numbers]
        scaled_h0 = (finite * h0)[..., : self.n_numbers]
        expected = torch.where(seen, x + finite.square() * h0, 0.0)[..., self.n_numbers :]
        levels = level_features(sigma[..., self.pieces], seen[..., self.pieces])
        levels = levels.expand(*x.shape[:-1], -1)
        shares = [log_q.exp() for log_q in of_intervals]
        return torch.cat([scaled_x, scaled_h0, expected, levels, *shares], -1)


def _no_evidence(choices: Choices) -> PairwiseEvidence:
    return PairwiseEvidence([{} for _ in choices.sizes], choices.sizes)


def _edm_scale(sigma: Tensor) -> Tensor:
    """Return 1 / (sigma sqrt(1 + sigma^2)), 0 where missing."""
    return torch.where(is_seen(sigma), 1 / (sigma * (1 + sigma.square()).sqrt()), 0.0)
