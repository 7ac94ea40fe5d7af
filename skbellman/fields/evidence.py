"""What categories say about one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn


class PairwiseEvidence(nn.Module):
    r"""How seeing one category through noise changes the odds of the levels of another.

    .. math:: r_{abk}(x) = \log \sum_j P(a = j | x_a) \frac{P(b = k | a = j)}{P(b = k)}

    Added to the log-posterior of category b that x_b alone gives, it completes Bayes' rule for the
    two. Sources are not independent of one another: what their evidence weighs is learned.

    Parameters
    ----------
    ratios : sequence of mapping of int to tensor
        For each category b its sources a, with P(b = k | a = j) / P(b = k), positive, of
        shape (K_a, K_b).
    """

    def __init__(self, ratios: Sequence[Mapping[int, Tensor]]) -> None:
        super().__init__()
        self.sources = [list(of_b) for of_b in ratios]
        for b, of_b in enumerate(ratios):
            for a, ratio in of_b.items():
                self.register_buffer(f"ratio_{a}_{b}", ratio)

    def forward(self, log_posteriors: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        """Return the weighted sum of the evidence on each category, (..., n, K_b).

        Parameters
        ----------
        log_posteriors : sequence of tensor of shape (..., n, K_a)
            Of each category, from its own coordinates.
        weights : sequence of tensor of shape (..., n, n_sources)
            For each category, one to each of its sources.
        """
        probabilities = [log_q.exp() for log_q in log_posteriors]
        totals = [torch.zeros_like(log_q) for log_q in log_posteriors]
        for b, sources in enumerate(self.sources):
            for a, weight in zip(sources, weights[b].unbind(-1), strict=True):
                evidence = (probabilities[a] @ self._ratio(a, b)).log()
                totals[b] = totals[b] + weight.unsqueeze(-1) * evidence
        return totals

    def _ratio(self, a: int, b: int) -> Tensor:
        return cast("Tensor", getattr(self, f"ratio_{a}_{b}"))
