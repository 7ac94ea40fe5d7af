"""From a table to the rows of coordinates that a field is fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skbellman.batches import Rows
from skbellman.tables import TableEncoder
from skbellman.tables.parts import parts_of

# How often rows are spread over their grid, and the largest number of spread rows, unless the table
# has more. In a large table each row is seen only a few times in training.
_GRID_DRAWS, _SPREAD_ROWS = 8, 2**18
# Rows that are read at once.
_CHUNK = 2**14


def read_rows(
    encoder: TableEncoder,
    X: Any,
    validation_fraction: float,
    rng: np.random.Generator,
    device: torch.device,
    origin: np.ndarray | None = None,
) -> Rows:
    """Return the rows of a table, shuffled, some of them held out.

    The table is read in parts, so it is never in memory as a whole in double precision. Rows with
    the same ``origin``, (n,), are held out together. Otherwise held-out rows would repeat training
    rows.
    """
    n_rows, n_columns = len(X), len(encoder.blocks_)
    n_validation = min(max(round(validation_fraction * n_rows), 1), n_rows - 1)
    if origin is None:
        place = _places(rng.permutation(n_rows), n_validation)
    else:
        place = _places(*_held_together(origin, n_validation, rng))
        n_validation = int((place < 0).sum())
    n_draws = _n_draws(encoder, n_rows)
    draws = np.empty((n_draws, n_rows - n_validation, n_columns), np.float32)
    judges = _Judges(n_validation, encoder.floors(sigma_min=0.0))
    for part, some in parts_of(X, _CHUNK):
        values, at = encoder.read(some), place[part]
        matrix, log_measure = encoder.spread(values, n_draws, rng)
        judges.put(at, matrix[0], log_measure[0], rng)
        draws[:, at[at >= 0]] = encoder.layout_.labelled(matrix, values)[:, at >= 0]

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    return Rows(
        draws=tensor(draws),
        validation=tensor(judges.rows),
        validation_log_measure=tensor(judges.log_measure),
        blocks=torch.as_tensor(encoder.blocks_, device=device),
        can_be_missing=torch.as_tensor(encoder.layout_.can_be_missing, device=device),
        corners=[tensor(points) for points in encoder.corners()],
        edges=[tensor(edges) for edges in encoder.layout_.edges()],
        is_label=torch.as_tensor(encoder.layout_.is_label, device=device),
    )


def _places(order: np.ndarray, n_held_out: int) -> np.ndarray:
    """Return the position of each row in an order of rows; below 0 it is held out."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(-n_held_out, len(order) - n_held_out)
    return place


def _held_together(
    origin: np.ndarray, n_held_out: int, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return a random order of rows, those held out first, and the number of held-out rows.

    Rows with the same origin are on the same side, so the number is only about right.
    """
    _, number, counts = np.unique(origin, return_inverse=True, return_counts=True)
    order = rng.permutation(len(counts))
    n_first = int(np.searchsorted(np.cumsum(counts[order]), n_held_out, side="right"))
    held = order[: min(max(n_first, 1), len(counts) - 1)]
    shuffled = rng.permutation(len(origin))
    judges = np.isin(number[shuffled], held)
    return shuffled[np.argsort(~judges, kind="stable")], int(judges.sum())


def _n_draws(encoder: TableEncoder, n_rows: int) -> int:
    if not encoder.has_cells():
        return 1
    return max(min(_GRID_DRAWS, _SPREAD_ROWS // n_rows), 1)


class _Judges:
    """The held-out rows.

    Categories are scored with the noise of their floor. Scored at the exact corners, a field with
    too narrow peaks would look better than the true one.
    """

    def __init__(self, n_rows: int, floors: np.ndarray) -> None:
        self.rows = np.empty((n_rows, len(floors)), np.float32)
        self.log_measure = np.empty(n_rows, np.float32)
        self.floors = floors

    def put(
        self, at: np.ndarray, matrix: np.ndarray, log_measure: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Take the rows whose positions are below 0."""
        held_out = at < 0
        matrix, places = matrix[held_out], at[held_out]
        noise = rng.standard_normal(matrix.shape)
        self.rows[places] = matrix + self.floors * noise
        blurred = (self.floors > 0) & ~np.isnan(matrix)
        self.log_measure[places] = log_measure[held_out] + 0.5 * (blurred * noise**2).sum(1)
