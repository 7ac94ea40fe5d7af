"""Projections of weights onto laws: weights of at least 0 with sum 1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def nearest_law(weights: Tensor) -> Tensor:
    """Return the nearest weights, (n, K), that are at least 0 and sum to 1.

    The Euclidean projection on the simplex (Duchi et al., ICML 2008): all are lowered by one number
    and cut at 0. This removes positive and negative noise alike.
    """
    excess = _largest_first(weights).cumsum(-1) - 1
    # If the k largest are kept, each is lowered by its share of their excess. The right k maximises
    # this number.
    shares = _shares(weights.shape[-1], weights.dtype, weights.device)
    return (weights - (excess * shares).amax(-1, keepdim=True)).clamp_(min=0)


def law_of_mean(weights: Tensor, n_tilts: int = 2, least_variance: float = 1e-12) -> Tensor:
    """Return weights of a law near given ones, (n, K), with the same mean if possible.

    It is the nearest law with tilted weights: they are multiplied by linear functions of the place.
    Each tilt keeps the mass, and corrects the mean if no weight is cut off at 0. Half the basis is
    the unit of the variance. See doc/decisions/simplex-projection.md.
    """
    place = _half_way(weights.shape[-1], weights.dtype, weights.device)
    mean = (weights @ place.T).clamp_(-1, 1)
    law = nearest_law(weights)
    for _ in range(n_tilts):
        now = law @ place.T
        offset = place - now
        first = law * offset
        variance = (first * offset).sum(-1, keepdim=True).clamp_(min=least_variance)
        law = torch.addcmul(law, (mean - now).div_(variance), first).clamp_(min=0)
        law /= law.sum(-1, keepdim=True)
    return law


def _largest_first(weights: Tensor) -> Tensor:
    """Return each row's weights in order."""
    if weights.device.type != "cpu":
        return weights.sort(dim=-1, descending=True).values
    # NumPy sorts short rows five times as fast as torch, which also returns indices.
    return torch.from_numpy(-np.sort(-weights.numpy(), -1))


@lru_cache(maxsize=8)
def _shares(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return 1 / k for each k from 1."""
    return 1 / torch.arange(1, size + 1, dtype=dtype, device=device)


@lru_cache(maxsize=8)
def _half_way(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return places on a basis, (1, K), -1 and 1 at its ends."""
    return torch.linspace(-1, 1, size, dtype=dtype, device=device).unsqueeze(0)
