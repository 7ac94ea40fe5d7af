"""Missing values of training rows, drawn from a field that was fitted to what rows hold."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from skbellman.batches import CHUNK, Rows
from skbellman.categories import level_codes
from skbellman.fields import DensityField
from skbellman.sampling import Annealing
from skbellman.schedule import NoiseSchedule


@torch.no_grad()
def drawn_gaps(
    field: DensityField,
    rows: Rows,
    schedule: NoiseSchedule,
    generator: torch.Generator,
    most: int = 200_000,
) -> Rows:
    """Return the training rows with their missing values drawn given what the rows hold.

    If more rows than ``most`` lack values, only the first rows are kept. Rows are in random order,
    and to draw more takes longer than to train.
    """
    gaps = rows.missing(rows.draws[0])
    at = gaps.any(1).nonzero().squeeze(1)
    n_kept = int(at[most]) if len(at) > most else len(gaps)
    draws, gaps = rows.draws[:, :n_kept].clone(), gaps[:n_kept]
    for draw in draws:
        for part in at[:most].split(CHUNK):
            filled = _filled(field, draw[part], rows.corners, schedule, generator)
            draw[part] = torch.where(gaps[part], filled, draw[part])
    return replace(rows, draws=draws, drawn=gaps)


def _filled(
    field: DensityField,
    held: Tensor,
    corners: list[Tensor],
    schedule: NoiseSchedule,
    generator: torch.Generator,
) -> Tensor:
    """Return rows with their missing values drawn, categories without noise."""
    filled = field.fill(held, schedule, Annealing(n_levels=16), generator)
    codes = level_codes(filled, corners)
    levels = [points[code] for points, code in zip(corners, codes, strict=True)]
    n_numbers = filled.shape[1] - sum(points.shape[1] for points in corners)
    return torch.cat([filled[:, :n_numbers], *levels], -1)
