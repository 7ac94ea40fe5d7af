"""Whether all columns of a table are better left untransformed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skbellman.mixtures import best_mixture
from skbellman.tables.columns.base import Column, Values, side_by_side
from skbellman.tables.gaps import whole_rows


def straightened(
    columns: Sequence[Column], values: list[Values], min_rows: int = 50, mixture_rows: int = 2000
) -> list[Column]:
    """Return the columns, untransformed if a mixture explains the table better that way.

    A transform makes the distribution of its column normal. If columns are skewed because the table
    has clusters, it bends the clusters instead.

    Parameters
    ----------
    columns : sequence of Column
    values : list of array, each (n,)
    min_rows : int, default=50
        With fewer rows the columns stay as they are.
    mixture_rows : int, default=2000
        Largest number of rows that are used.
    """
    found = list(columns)
    smooth = [j for j, c in enumerate(columns) if c.is_shaped]
    whole = whole_rows(values, smooth)
    if not smooth or len(whole[0]) < min_rows:
        return found
    rng = np.random.default_rng(0)
    shaped = [columns[j] for j in smooth]
    places = [rng.random(len(v)) for v in whole]
    # Location and scale are those of all values: rows without gaps may lie elsewhere.
    present = [values[j][~np.isnan(values[j])] for j in smooth]
    straight = [c.straight(v, rng.random(len(v))) for c, v in zip(shaped, present, strict=True)]
    order = rng.permutation(len(whole[0]))[:mixture_rows]
    some = [(v[order], u[order]) for v, u in zip(whole, places, strict=True)]
    if _mixture_evidence(straight, some) > _mixture_evidence(shaped, some):
        for j, column in zip(smooth, straight, strict=True):
            found[j] = column
    return found


def _mixture_evidence(columns: list[Column], placed: list[tuple[Values, np.ndarray]]) -> float:
    """Return minus half the BIC of the best Gaussian mixture on the columns' coordinates."""
    encoded = [c.encode(v, u) for c, (v, u) in zip(columns, placed, strict=True)]
    matrix, log_measure = side_by_side(encoded)
    return float(log_measure.sum() - 0.5 * best_mixture(matrix, seed=0).bic(matrix))
