"""What columns choose among: intervals of numbers, and levels of categories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skbellman.fields.corners import LevelGroups
from skbellman.fields.intervals import Intervals


class Choices(nn.Module):
    """The intervals of all divided numbers, then the levels of all categories.

    Parameters
    ----------
    intervals : Intervals
    points : sequence of tensor of shape (K, d)
        Points of each category.
    n_numbers : int
        Number of coordinates of numbers, which come first.

    Attributes
    ----------
    sizes : list of int
        Number of choices of each divided number and each category.
    """

    first: Tensor

    def __init__(self, intervals: Intervals, points: Sequence[Tensor], n_numbers: int) -> None:
        super().__init__()
        self.intervals, self.levels = intervals, LevelGroups(points)
        self.n_numbers = n_numbers
        self.sizes = [*intervals.sizes, *map(len, points)]
        first = torch.cat([intervals.column, n_numbers + self.levels.first])
        self.register_buffer("first", first)

    def __len__(self) -> int:
        return len(self.first)

    def split(self, of_choices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the part of the intervals and that of the levels."""
        n = len(self.intervals)
        return of_choices[..., :n], of_choices[..., n:]

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return the logarithm of a softmax in each column, (..., n, K)."""
        of_intervals, of_levels = self.split(logits)
        parts = [part.log_softmax(-1) for part in of_intervals.split(self.intervals.sizes, -1)]
        return torch.cat([*parts, self.levels.log_probabilities(of_levels)], -1)

    def one_hot(self, coordinates: Tensor) -> Tensor:
        """Return 1 for what each column of rows without noise has, else 0: (..., n, K)."""
        numbers, levels = coordinates.tensor_split([self.n_numbers], -1)
        return torch.cat([self.intervals.one_hot(numbers), self.levels.one_hot(levels)], -1)

    def of_choices(self, of_coordinates: Tensor) -> Tensor:
        """Return for each choice what the first coordinate of its column has, (..., K)."""
        return of_coordinates[..., self.first]
