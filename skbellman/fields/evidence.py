"""Evidence of categories about one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn


class PairwiseEvidence(nn.Module):
    r"""Change of the odds of a category's levels by observing another category with noise.

    .. math:: r_{abk}(x) = \log \sum_j P(a = j | x_a) \frac{P(b = k | a = j)}{P(b = k)}

    Added to the log-posterior of category b given x_b alone, it completes Bayes' rule for the two.
    Sources are not independent of one another, so weights of their evidence are learned.

    Parameters
    ----------
    ratios : sequence of mapping of int to tensor
        For each category b its sources a, with P(b = k | a = j) / P(b = k), positive, of
        shape (K_a, K_b).
    n_levels : sequence of int
        Number of levels K_b of each category.
    """

    places: Tensor

    def __init__(self, ratios: Sequence[Mapping[int, Tensor]], n_levels: Sequence[int]) -> None:
        super().__init__()
        self.sources = [list(of_b) for of_b in ratios]
        self.n_slots = max(map(len, self.sources), default=0)
        self.n_weights = sum(map(len, self.sources))
        for b, of_b in enumerate(ratios):
            for a, ratio in of_b.items():
                self.register_buffer(f"ratio_{a}_{b}", ratio)
        self.register_buffer("places", self._places(n_levels))

    def _places(self, n_levels: Sequence[int]) -> Tensor:
        """Return the places of the weights of sources, (n_weights, n_slots K), marked by 1."""
        first = list(accumulate(n_levels, initial=0))
        places = torch.zeros(self.n_weights, self.n_slots, first[-1])
        weight = 0
        for b, sources in enumerate(self.sources):
            for slot in range(len(sources)):
                places[weight, slot, first[b] : first[b + 1]] = 1.0
                weight += 1
        return places.flatten(1)

    def forward(self, log_posteriors: Sequence[Tensor]) -> Tensor:
        """Return the evidence of the first source of each category, then of the second, ...

        Parameters
        ----------
        log_posteriors : sequence of tensor of shape (..., n, K_a)
            Log-posteriors of each category, from its own coordinates.

        Returns
        -------
        tensor of shape (..., n, n_slots K)
            Evidence on the levels of all categories; 0 if a category has fewer sources.
        """
        probabilities = [log_q.exp() for log_q in log_posteriors]
        parts = [log_posteriors[0][..., :0]]
        for slot in range(self.n_slots):
            for b, sources in enumerate(self.sources):
                if slot < len(sources):
                    a = sources[slot]
                    parts.append((probabilities[a] @ self._ratio(a, b)).log())
                else:
                    parts.append(torch.zeros_like(log_posteriors[b]))
        return torch.cat(parts, -1)

    def weighted(self, evidence: Tensor, weights: Tensor) -> Tensor | float:
        """Return the weighted sum over the sources, (..., n, K), of the evidence.

        ``weights``, of shape (..., n, n_weights), has those of the first category's sources first.
        """
        if not self.n_weights:
            return 0.0
        each = weights @ self.places
        return (each * evidence).unflatten(-1, (self.n_slots, -1)).sum(-2)

    def _ratio(self, a: int, b: int) -> Tensor:
        return cast("Tensor", getattr(self, f"ratio_{a}_{b}"))
