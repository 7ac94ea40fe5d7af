"""Counts of levels and pairs of levels of categories, from rows of coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from skbellman.fields import (
    ClosedFormField,
    GaussianMixtureField,
    LatentClassField,
    PairwiseEvidence,
)
from skbellman.fields.corners import Corners
from skbellman.fields.intervals import Intervals

# Rows that are processed at once.
_CHUNK = 2**14


def with_categories(
    gaussians: GaussianMixtureField, x: Tensor, responsibilities: Tensor, points: Sequence[Tensor]
) -> ClosedFormField:
    """Add to each Gaussian the shares of the levels of categories among its rows.

    So that no share is 0, each class gets one more row, spread like the levels of all rows. These
    levels get one more row too, spread evenly.

    Parameters
    ----------
    gaussians : GaussianMixtureField
        Mixture of the numbers.
    x : tensor of shape (n, D)
        Rows, with the coordinates of categories last; NaN is missing.
    responsibilities : tensor of shape (n, J)
        Responsibilities of the Gaussians.
    points : sequence of tensor of shape (K, d)
        Points of each category.
    """
    if not points:
        return gaussians
    shares = []
    for codes, corners in zip(level_codes(x, points), points, strict=True):
        counts, total = _by_class(codes, len(corners), responsibilities)
        overall = (total + 1 / len(corners)) / (len(x) + 1)
        counts = counts + overall
        shares.append((counts / counts.sum(-1, keepdim=True)).to(x))
    return LatentClassField(gaussians, points, shares)


def _by_class(codes: Tensor, n_levels: int, responsibilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return counts of each level in each class, (J, K), and in all rows, (K,)."""
    shape = (responsibilities.shape[1] + 1, n_levels)
    counts = torch.zeros(shape, dtype=torch.float64, device=codes.device)
    parts = zip(codes.split(_CHUNK), responsibilities.split(_CHUNK), strict=True)
    for some, shares in parts:
        indicator = one_hot(some.long().clamp(min=0), n_levels) * (some >= 0).unsqueeze(-1)
        counts[:-1] += shares.double().T @ indicator.double()
        counts[-1] += indicator.sum(0)
    return counts[:-1], counts[-1]


def pairwise_evidence(
    x: Tensor,
    points: Sequence[Tensor],
    intervals: Intervals | None = None,
    most_sources: int = 4,
    most_pairs: int = 2**18,
    significance: float = 3.0,
) -> PairwiseEvidence:
    """Return the evidence about each category from those that say most about it.

    Numbers that are divided into intervals are categories here, and come first. Two categories are
    compared by the G statistic of their table of pairs, minus its expected value for independent
    categories. See doc/decisions/category-pairs.md.

    Parameters
    ----------
    x, points
        As for `with_categories`.
    intervals : Intervals, optional
        Intervals of numbers.
    most_sources : int
        Largest number of sources for one category.
    most_pairs : int
        Largest number of pairs of levels; two categories with more are not compared.
    significance : float
        Least excess of the statistic over independent categories, in deviations.
    """
    codes, sizes = level_codes(x, points), [len(corners) for corners in points]
    if intervals is not None:
        codes, sizes = intervals.codes(x) + codes, intervals.sizes + sizes
    found = [list[_Source]() for _ in sizes]
    for a, b in combinations(range(len(sizes)), 2):
        if sizes[a] * sizes[b] > most_pairs:
            continue
        pairs = _count_pairs(codes[a], codes[b], sizes[a], sizes[b])
        if (excess := _excess(pairs, significance)) > 0:
            found[a].append(_Source(excess, b, pairs.T))
            found[b].append(_Source(excess, a, pairs))
    best = [sorted(of_b, key=lambda f: -f.excess)[:most_sources] for of_b in found]
    ratios = [{f.source: _ratio(f.pairs).to(x) for f in of_b} for of_b in best]
    return PairwiseEvidence(ratios, sizes).to(x)


class _Source(NamedTuple):
    """The excess evidence of a category about another, its position, and pairs with it."""

    excess: float
    source: int
    pairs: Tensor


def level_codes(x: Tensor, points: Sequence[Tensor]) -> list[Tensor]:
    """Return the level of each row in each category, (n,), -1 where it is missing."""
    widths = [corners.shape[1] for corners in points]
    blocks = x[:, x.shape[1] - sum(widths) :].split(widths, -1)
    return [
        torch.cat([_nearest(part, Corners(corners)) for part in block.split(_CHUNK)])
        for block, corners in zip(blocks, points, strict=True)
    ]


def _nearest(block: Tensor, corners: Corners) -> Tensor:
    nearest = corners.nearest(block.nan_to_num(0.0)).where(~block.isnan().any(-1), -1)
    return nearest.to(torch.int32)


def _count_pairs(a: Tensor, b: Tensor, n_a: int, n_b: int) -> Tensor:
    """Return the number of rows with each pair of levels, (n_a, n_b)."""
    counts = torch.zeros(n_a * n_b, dtype=torch.int64, device=a.device)
    for of_a, of_b in zip(a.split(_CHUNK), b.split(_CHUNK), strict=True):
        seen = (of_a >= 0) & (of_b >= 0)
        counts += (of_a[seen] * n_b + of_b[seen]).bincount(minlength=n_a * n_b)
    return counts.view(n_a, n_b).double()


def _excess(pairs: Tensor, significance: float) -> float:
    """Return the excess of G over its likely maximum for independent categories."""
    rows, columns = pairs.sum(1), pairs.sum(0)
    expected = rows.unsqueeze(1) * columns / pairs.sum().clamp(min=1)
    statistic = 2 * torch.xlogy(pairs, pairs / expected.clamp(min=1e-300)).sum()
    freedom = float(((rows > 0).sum() - 1).clamp(min=0) * ((columns > 0).sum() - 1).clamp(min=0))
    return float(statistic) - freedom - significance * (2 * freedom) ** 0.5


def _ratio(pairs: Tensor) -> Tensor:
    """Return P(b | a) / P(b); each level of a gets one more row, spread like b's levels."""
    overall = (pairs.sum(0) + 1 / pairs.shape[1]) / (pairs.sum() + 1)
    return (pairs + overall) / (pairs.sum(1, keepdim=True) + 1) / overall
