"""How far sets of rows, and values of fields, are from one another."""

from __future__ import annotations

import numpy as np
import ot
import torch
from torch import Tensor


def w1(one: np.ndarray | Tensor, other: np.ndarray | Tensor) -> float:
    """Return the exact Wasserstein-1 distance of two sets of rows; inf if rows are not finite."""
    one, other = (np.asarray(rows, dtype=float) for rows in (one, other))
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return np.inf
    return float(ot.emd2([], [], ot.dist(one, other, metric="euclidean"), numItermax=10**6))


def mmd(one: Tensor, other: Tensor, width: float) -> float:
    """Return the unbiased squared maximum mean discrepancy of a Gaussian kernel, times 1000."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-torch.cdist(a.double(), b.double()).square() / (2 * width**2)).exp()

    def within(rows: Tensor) -> Tensor:
        n = len(rows)
        return (kernel(rows, rows).sum() - n) / (n * (n - 1))

    return 1000 * float(within(one) + within(other) - 2 * kernel(one, other).mean())


def relative_error(found: Tensor, true: Tensor) -> float:
    """Return the root mean square of the difference over that of the true values."""
    found, true = (values.detach().double() for values in (found, true))
    return float((found - true).square().sum().sqrt() / true.square().sum().sqrt())
