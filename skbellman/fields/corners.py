"""The points of a category in coordinates of its own, seen through noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skbellman.fields.base import is_seen


class Corners(nn.Module):
    """The points that the coordinates of one category sit on, seen through noise.

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
        """Return log N(x; point_k, diag sigma^2), shape (..., n, K); 0 where x is unseen."""
        seen = is_seen(sigma)
        finite = torch.where(seen, sigma, 1.0)
        precision = torch.where(seen, finite.square().reciprocal(), 0.0)
        x = torch.where(seen, x, 0.0)
        log_normaliser = torch.where(seen, finite.log() + 0.5 * math.log(2 * math.pi), 0.0)
        # The squares are multiplied out: differences of each x and point would be a tensor of
        # K d numbers a row.
        own = (x.square() * precision).sum(-1, keepdim=True)
        cross = (x * precision) @ self.points.T
        of_points = precision @ self.points.T.square()
        return cross - 0.5 * (own + of_points) - log_normaliser.sum(-1, keepdim=True)

    def pull(self, probabilities: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """Return (E point - x) / sigma^2, shape (..., n, d); 0 where x is unseen."""
        seen = is_seen(sigma)
        towards = torch.where(seen, probabilities @ self.points - x, 0.0)
        return towards / torch.where(seen, sigma, 1.0).square()

    def nearest(self, x: Tensor) -> Tensor:
        """Return the level whose point is nearest to x, shape (..., n)."""
        return torch.cdist(x, self.points).argmin(-1)
