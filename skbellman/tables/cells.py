"""Places at which a density is evaluated for rows in cells of a grid or in peaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from skbellman.tables.columns.base import Column, Nodes, Values, nodes_of


def nodes(
    parts: Sequence[tuple[Column, Values]],
    held: np.ndarray | None,
    n_nodes: Sequence[int] = (1, 8, 3, 2),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places, (m, d), the row of each place, and its log-measure, (m,).

    The sum over the places of a row is its density. A row with more than three wide coordinates has
    one place, the centre. Other rows have the places of a product of Gauss rules.

    Parameters
    ----------
    parts : sequence of (column, values)
    held : array of bool, shape (d,), optional
        Coordinates that stay at the centre.
    n_nodes : sequence of int, default=(1, 8, 3, 2)
        Nodes of each wide coordinate, for rows with 0, 1, 2, ... wide coordinates.
    """
    wide = np.concatenate([_is_wide(*part) for part in parts], -1)
    wide &= True if held is None else ~held
    n_wide = wide.sum(1)
    n_wide = np.where(n_wide < len(n_nodes), n_wide, 0)
    found = []
    for k in np.unique(n_wide):
        rows = np.flatnonzero(n_wide == k)
        chosen = [(column, values[rows]) for column, values in parts]
        found += [
            (z, rows, log_measure)
            for z, log_measure in _product(
                nodes_of(chosen, 1), nodes_of(chosen, n_nodes[k]), wide[rows]
            )
        ]
    places, of_rows, logs = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return places, of_rows, logs


def _is_wide(column: Column, values: Values) -> np.ndarray:
    """Return the coordinates along which the density may change within a row's cell, (n, d)."""
    z = column.nodes(values, 2).z
    return np.abs(z[1] - z[0]) > column.flat_within


def _product(
    centre: Nodes, nodes: Nodes, wide: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield coordinates, (n, d), and log-measures of rows with equally many wide coordinates."""
    z = np.concatenate([centre.z, nodes.z])
    log_measure = np.concatenate([centre.log_measure, nodes.log_measure])
    n_wide = int(wide[0].sum()) if len(nodes.z) > 1 else 0
    for picked in product(range(1, len(z)), repeat=n_wide):
        node = np.zeros((1, *wide.shape), dtype=np.int64)
        if n_wide:
            node[0, wide] = np.tile(picked, len(wide))
        logs = np.take_along_axis(log_measure, node, 0)[0]
        yield np.take_along_axis(z, node, 0)[0], logs.sum(1) + centre.rest


def even_places(n_places: int, n_columns: int) -> np.ndarray:
    """Return points that fill the unit cube evenly, (n_places, n_columns), the centre first.

    They are an additive recurrence of the powers of the root of x^(d + 1) = x + 1.
    """
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (n_columns + 1))
    steps = root ** -np.arange(1.0, n_columns + 1)
    return (0.5 + np.arange(n_places)[:, None] * steps) % 1.0
