"""Where a density is evaluated for rows whose values stand for cells of a grid, or for peaks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import hadamard

from skbellman.tables.columns import CategoricalColumn, Column
from skbellman.tables.kinds import is_missing

# Places of a cell of the grid: its centre, between the two nodes of Gauss and Legendre.
_PLACES = 0.5 + np.array([-1.0, 0.0, 1.0]) / np.sqrt(12)
# Coordinates between the nodes beyond which a density is not constant there.
_WIDE = 0.05
# Coordinates of a row, at most, in which nodes are taken: twice as many nodes, or as the next
# power of two.
_MOST_WIDE = 4


class Cells(NamedTuple):
    """Coordinates of rows at the lower node of their cells, the centre and the upper node.

    Attributes
    ----------
    z : array of shape (3, n, d)
    log_measure : array of shape (3, n, d)
        Of each coordinate.
    rest : array of shape (n,)
        What belongs to the log-measure of the row, wherever it is.
    wide : array of bool, shape (n, d)
        Coordinates along which a density may change within the cell.
    """

    z: np.ndarray
    log_measure: np.ndarray
    rest: np.ndarray
    wide: np.ndarray


def cells_of(column: Column, values: np.ndarray) -> Cells:
    """Return the cells of one part of a table, NaN and of log-measure 0 where it is missing.

    A category has a peak at its corner, a Gaussian of the floor's noise unless the fields are not
    quite those of a density: the nodes are those of Gauss and Hermite.
    """
    missing = is_missing(values)
    if isinstance(column, CategoricalColumn):
        z, log_measure = column.encode(values)
        z = np.where(missing[:, None], np.nan, z)
        moved = np.array([-1.0, 0.0, 1.0])[:, None, None] * np.ones_like(z)
        rest = np.where(missing, 0.0, log_measure)
        return Cells(z + column.floor * moved, 0.5 * moved**2, rest, ~np.isnan(z))
    pairs = [column.encode(column.spread(values, place)) for place in _PLACES]
    z = np.where(missing[:, None], np.nan, [z for z, _ in pairs])
    log_measures = np.where(missing, 0.0, [log for _, log in pairs])[:, :, None]
    return Cells(z, log_measures, np.zeros(len(values)), np.abs(z[2] - z[0]) > _WIDE)


def joined(parts: list[Cells]) -> Cells:
    """Return the cells of whole rows."""
    z, log_measures, rests, wides = zip(*parts, strict=True)
    return Cells(
        np.concatenate(z, -1),
        np.concatenate(log_measures, -1),
        np.sum(rests, axis=0),
        np.concatenate(wides, -1),
    )


def nodes(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places, (m, d), the row that each is of, and its log-measure, (m,).

    The sum over a row's places is exact for a density that is a polynomial of the third degree
    within the cell. A row with many wide cells has one place, the centre.
    """
    n_wide = cells.wide.sum(1)
    n_wide = np.where(n_wide > _MOST_WIDE, 0, n_wide)
    found = []
    for k in np.unique(n_wide):
        rows, patterns = np.flatnonzero(n_wide == k), _patterns(int(k))
        found += [_at(cells, rows, signs, 1 / len(patterns)) for signs in patterns]
    z, of_rows, log_measures = (np.concatenate(part) for part in zip(*found, strict=True))
    return z, of_rows, log_measures


def _at(
    cells: Cells, rows: np.ndarray, signs: np.ndarray, weight: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of some rows on these sides of their wide coordinates."""
    side = np.ones((1, len(rows), cells.wide.shape[1]), dtype=np.int64)
    if len(signs):
        side[0, cells.wide[rows]] += np.tile(signs, len(rows))
    z, log_measure = (
        np.take_along_axis(of_sides[:, rows], side, 0)[0]
        for of_sides in (cells.z, cells.log_measure)
    )
    return z, rows, log_measure.sum(1) + cells.rest[rows] + np.log(weight)


def _patterns(n_wide: int) -> np.ndarray:
    """Return signs of so many coordinates, (n_patterns, n_wide), any two of them uncorrelated."""
    if not n_wide:
        return np.zeros((1, 0), dtype=np.int64)
    order = 2 ** int(np.ceil(np.log2(n_wide)))
    signs = hadamard(order)[:, :n_wide]
    return np.concatenate([signs, -signs])
