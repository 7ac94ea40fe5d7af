"""The paper's own method: networks for g and s at one level, matched by kernels or slices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skbellman.batches import FieldSettings, Rows
from skbellman.fields import DirectField, Mixture
from skbellman.fitting import Fit
from skbellman.matching import (
    kernel_density,
    likeliest_bandwidth,
    pairwise_gradient_loss,
    pairwise_identity_loss,
    slice_directions,
    sliced_gradient_loss,
    sliced_identity_loss,
    sliced_kernel_density,
)
from skbellman.settings import Seeded
from skbellman.training import INTERRUPTED, Plan, Record, TrainingDivergedError, train


@dataclass(frozen=True)
class Matching:
    """How fields are matched without noise levels (arXiv 2410.01796, section 3).

    Parameters
    ----------
    kind : {"pairwise", "sliced"}
    eps : float or None
        Variance of the kernel in each column; None selects it by likelihood.
    slices : {"sphere", "gaussian", "axes"}
        Distribution of the directions of the sliced objective.
    n_slices : int
        Number of directions in a step.
    n_others : int
        Largest number of rows that a batch is compared with.
    n_bandwidth_rows : int
        Largest number of rows that select the bandwidth.
    n_validation_slices : int
        Number of directions for held-out rows.
    """

    kind: str
    eps: float | None = None
    slices: str = "sphere"
    n_slices: int = 16
    n_others: int = 4096
    n_bandwidth_rows: int = 1000
    n_validation_slices: int = 16


def fit_direct(
    rows: Rows,
    matching: Matching,
    settings: FieldSettings,
    plan: Plan,
    seed: int,
    report: Callable[[Record], bool],
) -> Fit:
    """Fit a `DirectField` by gradient matching plus identity matching, in units of its square.

    The state with the least loss on held-out rows is kept. Divergence is reported in the result. If
    no two rows are within a kernel of each other, ValueError is raised.
    """
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    data = rows.draws.flatten(0, 1)
    picked = data[_order(len(data), generator)[: matching.n_bandwidth_rows]]
    eps = matching.eps or likeliest_bandwidth(picked)
    unit = _typical_density(picked, matching, eps, generator)
    width, depth = settings.width, settings.depth
    with Seeded(seed):
        field = DirectField(data.shape[1], unit, width, depth).to(rows.draws)
    held_out = data[_order(len(data), generator)[: matching.n_others]]
    directions = _directions(matching, matching.n_validation_slices, data, generator)

    # A step of the sliced objective sees as many pairs as one of the pairwise objective.
    n_pairs = matching.n_others
    n_others = n_pairs if directions is None else max(n_pairs // matching.n_slices, 1)

    def loss(_: nn.Module) -> Tensor:
        order = _order(len(data), generator)
        n_rows = min(settings.batch_size, len(data) // 2)
        x, others = data[order[:n_rows]], data[order[n_rows : n_rows + n_others]]
        drawn = _directions(matching, matching.n_slices, data, generator)
        return matching_loss(field, x, others, drawn, eps) / unit**2

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        error = matching_loss(network, rows.judges, held_out, directions, eps) / unit**2  # type: ignore[arg-type]
        return {"score": -float(error), "validation_loss": float(error)}

    record, failure = Record(), None
    try:
        record = train(field, loss, plan, evaluate, report)
    except TrainingDivergedError as error:
        failure, record = error, error.record
    interrupted = "training" if record.ended == INTERRUPTED else ""
    alone = Mixture([field.eval()], torch.ones(1).to(rows.draws))
    return Fit(alone, record, failure, interrupted)


def matching_loss(
    field: DirectField, x: Tensor, others: Tensor, directions: Tensor | None, eps: float
) -> Tensor:
    """Return the sum of the gradient and the identity objective: sliced if there are directions."""
    if directions is None:
        gradient = pairwise_gradient_loss(field, x, others, eps)
        return gradient + pairwise_identity_loss(field, x, others, eps)
    gradient = sliced_gradient_loss(field, x, others, directions, eps)
    return gradient + sliced_identity_loss(field, x, others, directions, eps)


def _directions(
    matching: Matching, n_slices: int, like: Tensor, generator: torch.Generator
) -> Tensor | None:
    if matching.kind == "pairwise":
        return None
    return slice_directions(matching.slices, n_slices, like.shape[1], generator).to(like)


def _typical_density(
    x: Tensor, matching: Matching, eps: float, generator: torch.Generator
) -> float:
    """Return the mean of the scalar network's target."""
    half, other = x.tensor_split(2)
    directions = _directions(matching, matching.n_validation_slices, x, generator)
    if directions is None:
        typical = float(kernel_density(half, other, eps).mean())
    else:
        typical = float(sliced_kernel_density(half, other, directions, eps).mean())
    if not 0 < typical < math.inf:
        raise ValueError(
            f"objective={matching.kind!r} finds no density to match: with bandwidth={eps**0.5:.2g} "
            f"the mean kernel between {len(x)} rows of {x.shape[1]} columns is {typical}. Set a "
            "wider bandwidth, give more rows, or use BellmanDiffusionDensity."
        )
    return typical


def _order(n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator, device=generator.device)
