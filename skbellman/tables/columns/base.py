"""What a column of a table is: a map from its values to coordinates, and back.

Three words for what rows hold of a column:

values
    What the table says: float64, NaN where a number is missing; of a category, its levels, in an
    array of objects, None where one is missing.
codes
    Values as numbers alone, to which coordinates are decoded. The code of a level is its place
    among the levels, -1 where there is none; a number is its own code.
coordinates
    What fields are functions of, (n, n_dims): a number at unit scale, a level as a point. NaN where
    a value is missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from skbellman.tables.kinds import is_missing
from skbellman.tables.measures import Reference

Values: TypeAlias = np.ndarray
Codes: TypeAlias = np.ndarray
Coordinates: TypeAlias = np.ndarray
LogMeasure: TypeAlias = np.ndarray


class Nodes(NamedTuple):
    """Coordinates of rows at the nodes of a rule of Gauss in their cells.

    Attributes
    ----------
    z : array of shape (n_nodes, n, d)
    log_measure : array of shape (n_nodes, n, d)
        Of each coordinate, with the logarithm of the node's weight.
    rest : array of shape (n,)
        What belongs to the log-measure of the row, wherever it is.
    """

    z: Coordinates
    log_measure: LogMeasure
    rest: LogMeasure


class Column(ABC):
    """A column of a table, or a part of one that has coordinates of its own.

    A new kind implements `_encode`, `decode` and `measure`, and what differs from the answers
    here, which are those of a column in one part that takes any number.

    Attributes
    ----------
    n_dims : int
        How many coordinates.
    holds_numbers : bool
        Whether codes are numbers, and not places among levels.
    """

    n_dims: int
    holds_numbers: bool

    # Of levels alone: their points among the coordinates, (K, n_dims), and the level of noise at
    # which probabilities are read off; numbers have the lowest level of the schedule.
    corners: np.ndarray | None = None
    floor: float | None = None
    # Values that have a probability beside a density of the others.
    atoms: np.ndarray = np.empty(0)
    # Whether draws have new values, that no code stands for.
    is_fresh: bool = False
    # Whether values are spread over a step of a grid.
    is_on_grid: bool = False
    # Whether `straight` has another answer than the column itself.
    is_shaped: bool = False
    # Between the two nodes of a cell, the distance up to which a density is constant there.
    flat_within: float = 0.05

    @property
    @abstractmethod
    def measure(self) -> Reference:
        """What scores of the column are densities with respect to."""

    @property
    def only_levels(self) -> Values | None:
        """The only values that the column takes, or None if it takes any number."""
        return None

    @property
    def drawn_exactly(self) -> Values | None:
        """The values that draws repeat, and do not only come near to; None if there are none."""
        return self.only_levels

    def takes(self, values: Values) -> np.ndarray:
        """Return which values, none of them missing, the column can take."""
        if self.only_levels is None:
            return np.ones(len(values), dtype=bool)
        return codes_of(values, self.only_levels) >= 0

    @property
    def parts(self) -> list[Column]:
        """The parts that have coordinates of their own: the column itself, if it is not divided."""
        return [self]

    def divide(self, values: Values) -> list[Values]:
        """Return the values of each part, missing where the part is not seen."""
        return [values]

    def join(self, decoded: list[Codes]) -> Codes:
        """Return the codes of the column from those of its parts."""
        return decoded[0]

    def codes(self, values: Values) -> Codes:
        """Return the code of each value."""
        return values

    def values_of(self, codes: Codes) -> Values:
        """Return the value that each code, none of them missing, stands for."""
        return codes

    def straight(self, values: Values) -> Column:
        """Return the column without shaping, as fitted to values that none is missing of."""
        return self

    def encode(self, values: Values) -> tuple[Coordinates, LogMeasure]:
        """Return coordinates, (n, n_dims), and the log-measure of each value, (n,).

        The log-measure is what turns a log-density of the coordinates into one of the values with
        respect to `measure`: the log-Jacobian of a number, what integrates the peak of a level. It
        is 0 where a value is missing, and -inf where the column cannot take it.
        """
        coordinates, log_measure = self._encode(values)
        missing = is_missing(values)
        return (
            np.where(missing[:, None], np.nan, coordinates),
            np.where(missing, 0.0, log_measure),
        )

    @abstractmethod
    def _encode(self, values: Values) -> tuple[Coordinates, LogMeasure]:
        """Do what `encode` does, with anything where a value is missing."""

    @abstractmethod
    def decode(self, coordinates: Coordinates) -> Codes:
        """Return the codes that any coordinates, none of them missing, stand for."""

    def spread(self, values: Values, place: np.ndarray | float) -> Values:
        """Return the values moved within their step of the grid, to a place from 0 to 1."""
        return values

    def nodes(self, values: Values, n_nodes: int) -> Nodes:
        """Return where to evaluate a density for the score of each value's cell of the grid."""
        missing = is_missing(values)
        places, weights = np.polynomial.legendre.leggauss(n_nodes)
        pairs = [self.encode(self.spread(values, (1 + place) / 2)) for place in places]
        log_measures = [log + np.log(w / 2) for (_, log), w in zip(pairs, weights, strict=True)]
        log_measure = np.where(missing, 0.0, log_measures)[:, :, None]
        return Nodes(np.stack([z for z, _ in pairs]), log_measure, np.zeros(len(values)))


class DividedColumn(Column):
    """A column whose coordinates are those of its parts, side by side."""

    @property
    @abstractmethod
    def parts(self) -> list[Column]:
        """The parts, numbers before categories."""

    @abstractmethod
    def divide(self, values: Values) -> list[Values]: ...

    @abstractmethod
    def join(self, decoded: list[Codes]) -> Codes: ...

    def _encode(self, values: Values) -> tuple[Coordinates, LogMeasure]:
        pairs = zip(self.parts, self.divide(values), strict=True)
        return side_by_side([part.encode(v) for part, v in pairs])

    def decode(self, coordinates: Coordinates) -> Codes:
        blocks = blocks_of(self.parts, coordinates)
        return self.join([part.decode(z) for part, z in zip(self.parts, blocks, strict=True)])

    def nodes(self, values: Values, n_nodes: int) -> Nodes:
        pairs = zip(self.parts, self.divide(values), strict=True)
        return nodes_of(list(pairs), n_nodes)


def side_by_side(
    encoded: list[tuple[Coordinates, LogMeasure]],
) -> tuple[Coordinates, LogMeasure]:
    """Return the coordinates and log-measures of rows from those of parts."""
    return np.hstack([z for z, _ in encoded]), np.sum([log for _, log in encoded], axis=0)


def blocks_of(parts: Sequence[Column], coordinates: Coordinates) -> list[Coordinates]:
    """Return the coordinates of each of some parts that lie side by side."""
    return np.split(coordinates, np.cumsum([part.n_dims for part in parts])[:-1], axis=1)


def nodes_of(parts: Sequence[tuple[Column, Values]], n_nodes: int) -> Nodes:
    """Return the nodes of parts, with their values, that lie side by side."""
    z, log_measures, rests = zip(*(part.nodes(v, n_nodes) for part, v in parts), strict=True)
    return Nodes(np.concatenate(z, -1), np.concatenate(log_measures, -1), np.sum(rests, axis=0))


def codes_of(values: Values, levels: Values) -> Codes:
    """Return the place of each value among the levels, -1 for one that is none of them."""
    if values.dtype != object and levels.dtype != object:
        order = np.argsort(levels, kind="stable")
        place = order[np.searchsorted(levels, values, sorter=order).clip(max=len(levels) - 1)]
        return np.where(levels[place] == values, place, -1)
    index = {level: code for code, level in enumerate(levels.tolist())}
    codes = (index.get(value, -1) for value in values.tolist())
    return np.fromiter(codes, dtype=np.int64, count=len(values))
