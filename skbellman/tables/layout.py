"""The order of coordinates in a row: numbers first, categories last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from skbellman.tables.cells import even_places, nodes
from skbellman.tables.columns.base import (
    Codes,
    Column,
    Coordinates,
    LogMeasure,
    Values,
    blocks_of,
    side_by_side,
)
from skbellman.tables.equalities import Equality


class Piece(NamedTuple):
    """A part of a column: the position of the column, that of the part in it, and the part.

    Labels of equalities belong to no column: they have position -1.
    """

    column: int
    position: int
    part: Column


class Layout:
    """The coordinates of the columns of a table.

    Parameters
    ----------
    columns : sequence of Column
    equalities : sequence of Equality, default=()
        Numbers that equal another column in some rows; their labels have coordinates.

    Attributes
    ----------
    pieces : list of Piece
        The parts of the columns in the order of their coordinates.
    n_dims : int
        Number of coordinates.
    n_numbers : int
        Number of them that belong to numbers, one each; they come first.
    blocks : array of int, shape (n_dims,)
        The piece that each coordinate belongs to, counting those that have any.
    column_of : array of int, shape (n_dims,)
        The position of the column that each coordinate belongs to; -1 for labels of equalities.
    can_be_missing : array of bool, shape (n_dims,)
        Whether NaN is a missing value. In a column of several parts it may be a number that is not
        asked for, because the row has a point mass.
    """

    def __init__(self, columns: Sequence[Column], equalities: Sequence[Equality] = ()) -> None:
        self.columns, self.equalities = list(columns), list(equalities)
        pieces = [
            Piece(j, k, part) for j, c in enumerate(self.columns) for k, part in enumerate(c.parts)
        ]
        pieces += [Piece(-1, k, equality.part) for k, equality in enumerate(self.equalities)]
        self.pieces = sorted(pieces, key=lambda piece: not piece.part.holds_numbers)
        self.n_numbers = sum(piece.part.holds_numbers for piece in self.pieces)
        held = [piece for piece in self.pieces if piece.part.n_dims]
        widths = np.array([piece.part.n_dims for piece in held], dtype=np.int64)
        self.n_dims = int(widths.sum())
        self.blocks = np.repeat(np.arange(len(held)), widths)
        self.column_of = np.array([piece.column for piece in held], dtype=np.int64).repeat(widths)
        n_parts = np.array([*(len(column.parts) for column in self.columns), 1])
        self.can_be_missing = n_parts[self.column_of] == 1

    @property
    def parts(self) -> list[Column]:
        """The parts of the columns in the order of their coordinates."""
        return [piece.part for piece in self.pieces]

    @property
    def has_cells(self) -> bool:
        """Whether values of any column stand for cells."""
        return any(part.has_cells for part in self.parts)

    def corners(self) -> list[np.ndarray]:
        """Return the points of each category that has coordinates, (K, its n_dims) each."""
        corners = [part.corners for part in self.parts if part.n_dims]
        return [points for points in corners if points is not None]

    def edges(self) -> list[np.ndarray]:
        """Return the bounds of frequent values on each number's coordinate, (k,) each."""
        return [part.edges for part in self.parts[: self.n_numbers]]

    def floors(self, sigma_min: float) -> np.ndarray:
        """Return the lowest noise level of each coordinate, (n_dims,); sigma_min for numbers."""
        floors = [sigma_min if part.floor is None else part.floor for part in self.parts]
        return np.repeat(floors, [part.n_dims for part in self.parts])

    def coordinates_of(self, columns: Sequence[int]) -> np.ndarray:
        """Return which coordinates belong to the columns at these positions, (n_dims,)."""
        return np.isin(self.column_of, columns)

    def encode(
        self, values: list[Values], n_places: int
    ) -> Iterator[tuple[Coordinates, LogMeasure]]:
        """Iterate over coordinates and log-measures at places of each row's cell.

        The places are spread evenly over the cell, its centre the first of them, and the same for
        every row. Without cells there is one.
        """
        places = even_places(n_places if self.has_cells else 1, len(self.pieces))
        return self.encode_at(values, places)

    def encode_at(
        self, values: list[Values], places: Iterable[np.ndarray]
    ) -> Iterator[tuple[Coordinates, LogMeasure]]:
        """Encode values of columns at each place of their cells (or each row at one)."""
        parts = self._divided(values)
        still = [None if part.has_cells else part.encode(v) for part, v in parts]
        for place in places:
            yield side_by_side(
                [
                    part.encode(v, u) if done is None else done
                    for (part, v), u, done in zip(parts, place, still, strict=True)
                ]
            )

    def slopes(self, values: list[Values], step: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
        """Return the slope of each number's coordinate and that of its logarithm, (n, n_numbers).

        By differences over a small step of the coordinate. NaN where the number is missing, or has
        a probability.
        """
        slopes, of_logs = [], []
        for part, v in self._divided(values)[: self.n_numbers]:
            if part.drawn_exactly is not None:
                v = np.where(np.isin(v, part.drawn_exactly), np.nan, v)
            width = step * np.exp(-part.encode(v)[1])
            (z0, log0), (z1, log1) = (part.encode(v + side * width) for side in (-1, 1))
            slopes.append((z1 - z0)[:, 0] / (2 * width))
            of_logs.append((log1 - log0) / (2 * width) + 0 * slopes[-1])
        empty = np.empty((0, len(values[0])))
        return np.array(slopes or empty).T, np.array(of_logs or empty).T

    def nodes(
        self, values: list[Values], held: np.ndarray | None
    ) -> tuple[Coordinates, np.ndarray, LogMeasure]:
        """Return the places to evaluate a density at: see `skbellman.tables.cells`."""
        return nodes(self._divided(values), held)

    @property
    def is_label(self) -> np.ndarray:
        """Whether each coordinate belongs to the label of an equality, (n_dims,)."""
        return self.column_of < 0

    def labelled(self, coordinates: Coordinates, values: list[Values]) -> Coordinates:
        """Return coordinates, (..., n, n_dims), with those of the labels of equalities."""
        if not self.equalities:
            return coordinates
        labels = [
            part.encode(self.equalities[k].labels(values))[0]
            for column, k, part in self.pieces
            if column < 0
        ]
        found = coordinates.copy()
        found[..., self.is_label] = np.hstack(labels)
        return found

    def decode(self, matrix: Coordinates) -> tuple[list[Codes], list[Codes]]:
        """Return the codes of each column, and of each label, that coordinates stand for."""
        parts: list[list[Codes]] = [[] for _ in [*self.columns, self.equalities]]
        for piece, block in zip(self.pieces, blocks_of(self.parts, matrix), strict=True):
            parts[piece.column].append(piece.part.decode(block))
        *of_columns, labels = parts
        return [c.join(found) for c, found in zip(self.columns, of_columns, strict=True)], labels

    def _divided(self, values: list[Values]) -> list[tuple[Column, Values]]:
        """Return all parts and their values; those of labels are missing."""
        divided = [c.divide(v) for c, v in zip(self.columns, values, strict=True)]
        divided.append([np.full(len(values[0]), None, dtype=object)] * len(self.equalities))
        return [(part, divided[j][k]) for j, k, part in self.pieces]
