"""The points of categories in their own coordinates, with noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from skbellman.fields.base import is_seen


class Corners(nn.Module):
    """The points of the levels of one category, with noise.

    Parameters
    ----------
    points : tensor of shape (K, d)
        One for each level.
    """

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points: Tensor
        self.register_buffer("points", points)

    def log_likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log N(x; point_k, diag sigma^2), shape (..., n, K); 0 where x is missing."""
        seen = is_seen(sigma)
        finite = torch.where(seen, sigma, 1.0)
        precision = torch.where(seen, finite.square().reciprocal(), 0.0)
        x = torch.where(seen, x, 0.0)
        log_normaliser = torch.where(seen, finite.log() + 0.5 * math.log(2 * math.pi), 0.0)
        # Squares are expanded: differences of each x and point would need K d numbers for each row.
        own = (x.square() * precision).sum(-1, keepdim=True)
        cross = (x * precision) @ self.points.T
        of_points = precision @ self.points.T.square()
        return cross - 0.5 * (own + of_points) - log_normaliser.sum(-1, keepdim=True)

    def pull(self, probabilities: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """Return (E point - x) / sigma^2, shape (..., n, d); 0 where x is missing."""
        seen = is_seen(sigma)
        towards = torch.where(seen, probabilities @ self.points - x, 0.0)
        return towards / torch.where(seen, sigma, 1.0).square()

    def nearest(self, x: Tensor) -> Tensor:
        """Return the level whose point is nearest to x, shape (..., n)."""
        return torch.cdist(x, self.points).argmin(-1)


class LevelGroups(nn.Module):
    """The levels of all categories side by side, with a softmax in each category.

    Categories are processed in groups: products with block matrices are faster than a loop over
    small categories. A group has few levels, because its blocks are mostly 0.

    Parameters
    ----------
    points : sequence of tensor of shape (K, d)
        Points of each category.
    """

    first: Tensor

    def __init__(self, points: Sequence[Tensor]) -> None:
        super().__init__()
        self.n_levels = sum(map(len, points))
        grouped = list(_grouped(points))
        self.groups = nn.ModuleList(map(_LevelGroup, grouped))
        self.sizes = [sum(map(len, group)) for group in grouped]
        widths = [of_one.shape[1] for of_one in points]
        starts = accumulate(widths, initial=0)
        first = [k for k, of_one in zip(starts, points, strict=False) for _ in of_one]
        self.register_buffer("first", torch.tensor(first, dtype=torch.long))

    @property
    def _groups(self) -> list[_LevelGroup]:
        return [cast("_LevelGroup", group) for group in self.groups]

    def mean_points(self, probabilities: Tensor) -> Tensor:
        """Return the mean points of all categories, (..., n, d), for probabilities of levels.

        The latter have shape (..., n, K), with the levels of the first category first. They need
        not be positive: differences of probabilities give those of mean points.
        """
        pairs = zip(self._groups, probabilities.split(self.sizes, -1), strict=True)
        return torch.cat(
            [probabilities[..., :0], *(part @ group.points for group, part in pairs)], -1
        )

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return the logarithm of a softmax in each category, (..., n, K)."""
        parts = zip(self._groups, logits.split(self.sizes, -1), strict=True)
        found = (group.log_softmax(part) for group, part in parts)
        return torch.cat([logits[..., :0], *found], -1)

    def one_hot(self, coordinates: Tensor) -> Tensor:
        """Return 1 for the level nearest to each category's coordinates, else 0: (..., n, K)."""
        widths = [group.points.shape[1] for group in self._groups]
        parts = zip(self._groups, coordinates.split(widths, -1), strict=True)
        found = (group.one_hot(part) for group, part in parts)
        return torch.cat([coordinates[..., :0], *found], -1)


class _LevelGroup(nn.Module):
    """Categories of one group, see `LevelGroups`."""

    points: Tensor
    member: Tensor
    category: Tensor

    def __init__(self, points: Sequence[Tensor]) -> None:
        super().__init__()
        self.register_buffer("points", torch.block_diag(*points))
        ones = [torch.ones(len(of_one), 1).to(of_one) for of_one in points]
        self.register_buffer("member", torch.block_diag(*ones))
        self.register_buffer("category", self.member.argmax(-1))

    def log_softmax(self, logits: Tensor) -> Tensor:
        """Return logarithms of probabilities that sum to 1 in each category."""
        shifted = logits - self._highest(logits) @ self.member.T
        return shifted - (shifted.exp() @ self.member).log() @ self.member.T

    def one_hot(self, coordinates: Tensor) -> Tensor:
        """Return 1 for the level nearest to the coordinates of each category, else 0."""
        nearness = coordinates @ self.points.T - 0.5 * self.points.square().sum(-1)
        return (nearness >= self._highest(nearness) @ self.member.T).to(nearness)

    def _highest(self, logits: Tensor) -> Tensor:
        """Return the highest of each category, without its gradient."""
        lowest = logits.new_full((*logits.shape[:-1], self.member.shape[1]), -torch.inf)
        places = self.category.expand_as(logits)
        return lowest.scatter_reduce(-1, places, logits.detach(), "amax")


def _grouped(points: Sequence[Tensor], most_levels: int = 256) -> Iterator[list[Tensor]]:
    """Yield groups of neighbours with at most that many levels, or single categories."""
    group: list[Tensor] = []
    for of_one in points:
        if group and sum(map(len, group)) + len(of_one) > most_levels:
            yield group
            group = []
        group.append(of_one)
    if group:
        yield group
