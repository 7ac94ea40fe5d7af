"""Where a density is evaluated for rows whose values stand for cells of a grid, or for peaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from skbellman.tables.columns import CategoricalColumn, Column
from skbellman.tables.kinds import is_missing

# Coordinates between the two nodes of a cell beyond which a density is not constant there.
_WIDE = 0.05
# Nodes of each wide coordinate of a row that has none, one, two, ... of them. Of more, the centre.
_NODES = (1, 8, 3, 2)


class Cells(NamedTuple):
    """Coordinates of rows at the nodes of a rule of Gauss in their cells.

    Attributes
    ----------
    z : array of shape (n_nodes, n, d)
    log_measure : array of shape (n_nodes, n, d)
        Of each coordinate, with the logarithm of the node's weight.
    rest : array of shape (n,)
        What belongs to the log-measure of the row, wherever it is.
    """

    z: np.ndarray
    log_measure: np.ndarray
    rest: np.ndarray


def nodes(
    parts: Sequence[tuple[Column, np.ndarray]], held: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places, (m, d), the row that each is of, and its log-measure, (m,).

    The sum over a row's places is its density. A row with more than three wide coordinates has one
    place, the centre; another has those of a product of rules.

    Parameters
    ----------
    parts : sequence of (column, values)
    held : array of bool, shape (d,), optional
        Coordinates that stay at the centre.
    """
    wide = np.concatenate([_is_wide(*part) for part in parts], -1)
    wide &= True if held is None else ~held
    n_wide = wide.sum(1)
    n_wide = np.where(n_wide < len(_NODES), n_wide, 0)
    found = []
    for k in np.unique(n_wide):
        rows = np.flatnonzero(n_wide == k)
        chosen = [(column, values[rows]) for column, values in parts]
        found += [
            (z, rows, log_measure)
            for z, log_measure in _product(_cells(chosen, 1), _cells(chosen, _NODES[k]), wide[rows])
        ]
    places, of_rows, logs = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return places, of_rows, logs


def _is_wide(column: Column, values: np.ndarray) -> np.ndarray:
    """Return along which coordinates the density may change within a row's cell, (n, d)."""
    z = _part(column, values, 2).z
    least = 0.0 if isinstance(column, CategoricalColumn) else _WIDE
    return np.abs(z[1] - z[0]) > least


def _product(
    centre: Cells, cells: Cells, wide: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield coordinates, (n, d), and log-measures of rows with as many wide coordinates each."""
    z = np.concatenate([centre.z, cells.z])
    log_measure = np.concatenate([centre.log_measure, cells.log_measure])
    n_wide = int(wide[0].sum()) if len(cells.z) > 1 else 0
    for picked in product(range(1, len(z)), repeat=n_wide):
        node = np.zeros((1, *wide.shape), dtype=np.int64)
        if n_wide:
            node[0, wide] = np.tile(picked, len(wide))
        logs = np.take_along_axis(log_measure, node, 0)[0]
        yield np.take_along_axis(z, node, 0)[0], logs.sum(1) + centre.rest


def _cells(parts: Sequence[tuple[Column, np.ndarray]], n_nodes: int) -> Cells:
    """Return the cells of whole rows."""
    z, log_measures, rests = zip(*(_part(*part, n_nodes) for part in parts), strict=True)
    return Cells(np.concatenate(z, -1), np.concatenate(log_measures, -1), np.sum(rests, axis=0))


def _part(column: Column, values: np.ndarray, n_nodes: int) -> Cells:
    """Return the cells of one part of a table, NaN and of log-measure 0 where it is missing."""
    if isinstance(column, CategoricalColumn):
        return _peaks(column, values, n_nodes)
    missing = is_missing(values)
    places, weights = np.polynomial.legendre.leggauss(n_nodes)
    pairs = [column.encode(column.spread(values, (1 + place) / 2)) for place in places]
    z = np.where(missing[:, None], np.nan, [z for z, _ in pairs])
    log_measures = [log + np.log(w / 2) for (_, log), w in zip(pairs, weights, strict=True)]
    log_measure = np.where(missing, 0.0, log_measures)[:, :, None]
    return Cells(z, log_measure, np.zeros(len(values)))


def _peaks(column: CategoricalColumn, values: np.ndarray, n_nodes: int) -> Cells:
    """Return the peaks of a category: at its corners, Gaussians of the noise of its floor.

    They are not quite that where fields are not quite those of a density: a probability is the
    integral of the density, whose ratio to the Gaussian is smooth.
    """
    missing = is_missing(values)
    corners, log_measure = column.encode(values)
    corners = np.where(missing[:, None], np.nan, corners)
    places, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    log_ratio = np.log(weights / weights.sum()) + 0.5 * places**2
    ones = np.ones_like(corners)
    return Cells(
        corners + column.floor * places[:, None, None] * ones,
        log_ratio[:, None, None] * ones,
        np.where(missing, 0.0, log_measure),
    )
