"""The base of all columns: a map from values to coordinates, and back.

Three representations of a column:

values
    The content of the table. Numbers are float64, NaN where missing. Categories are levels in an
    array of objects, None where missing.
codes
    Values as numbers, which coordinates are decoded to. The code of a level is its position among
    the levels, -1 for none. A number is its own code.
coordinates
    The arguments of fields, (n, n_dims): a number at unit scale, a level as a point. NaN where a
    value is missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple, TypeAlias

import numpy as np

from skbellman.tables.kinds import is_missing
from skbellman.tables.measures import Reference

Values: TypeAlias = np.ndarray
Codes: TypeAlias = np.ndarray
Coordinates: TypeAlias = np.ndarray
LogMeasure: TypeAlias = np.ndarray


class Nodes(NamedTuple):
    """Coordinates of rows at the nodes of a Gauss rule in their cells.

    Attributes
    ----------
    z : array of shape (n_nodes, n, d)
    log_measure : array of shape (n_nodes, n, d)
        Log-measure of each coordinate, plus the logarithm of the node's weight.
    rest : array of shape (n,)
        The part of the row's log-measure that is the same at all nodes.
    """

    z: Coordinates
    log_measure: LogMeasure
    rest: LogMeasure


class Column(ABC):
    """A column of a table, or a part of one that has coordinates of its own.

    A new kind implements `_encode`, `decode` and `measure`, and overrides defaults that differ. The
    defaults are those of a column in one part that takes any number.

    Attributes
    ----------
    n_dims : int
        Number of coordinates.
    holds_numbers : bool
        Whether codes are numbers, and not positions among levels.
    """

    n_dims: int
    holds_numbers: bool

    # For levels: their points among the coordinates, (K, n_dims), and the noise level at which
    # probabilities are computed. Numbers use the lowest level of the schedule.
    corners: np.ndarray | None = None
    floor: float | None = None
    # Whether samples have new values, which no code stands for.
    is_fresh: bool = False
    # Whether values have cells on the coordinate: a step of a grid, or the share of an atom.
    has_cells: bool = False
    # Whether `straight` returns another column than this one.
    is_shaped: bool = False
    # Largest distance of a cell's two nodes at which a density counts as constant there.
    flat_within: float = 0.05

    @property
    @abstractmethod
    def measure(self) -> Reference:
        """The reference measure of the scores of the column."""

    @property
    def only_levels(self) -> Values | None:
        """The only values that the column takes, or None if it takes any number."""
        return None

    @property
    def atoms(self) -> Values:
        """The values with a probability, in a column with a density of the others."""
        return np.array(self.measure.atoms)

    @property
    def edges(self) -> np.ndarray:
        """The bounds of the cells of frequent values on the coordinate of a number, ascending."""
        return np.empty(0)

    @property
    def drawn_exactly(self) -> Values | None:
        """The values that samples repeat exactly; None if there are none."""
        return self.only_levels

    def takes(self, values: Values) -> np.ndarray:
        """Return which values, none of them missing, the column can take."""
        if self.only_levels is None:
            return np.ones(len(values), dtype=bool)
        return codes_of(values, self.only_levels) >= 0

    def beyond(self, values: Values) -> np.ndarray:
        """Return which values, none of them missing, lie beyond a bound: samples never do."""
        return np.zeros(len(values), dtype=bool)

    @property
    def parts(self) -> list[Column]:
        """The parts with their own coordinates: the column itself, if it is not divided."""
        return [self]

    def divide(self, values: Values) -> list[Values]:
        """Return the values of each part, missing where the part does not apply."""
        return [values]

    def join(self, decoded: list[Codes]) -> Codes:
        """Return the codes of the column from those of its parts."""
        return decoded[0]

    def codes(self, values: Values) -> Codes:
        """Return the code of each value."""
        return values

    def values_of(self, codes: Codes) -> Values:
        """Return the value of each code, none of them missing."""
        return codes

    def straight(self, values: Values, place: np.ndarray | float = 0.5) -> Column:
        """Return the column without a transform, fitted to values at a place in their cells.

        None of the values is missing.
        """
        return self

    def encode(
        self, values: Values, place: np.ndarray | float = 0.5
    ) -> tuple[Coordinates, LogMeasure]:
        """Return coordinates, (n, n_dims), and the log-measure of each value, (n,).

        A value with a cell is encoded at this place in it, from 0 to 1.

        The log-measure turns a log-density of the coordinates into one of the values with respect
        to `measure`. For a number it is the log-Jacobian; for a level it integrates the peak. It is
        0 where a value is missing, and -inf where the column cannot take it.
        """
        coordinates, log_measure = self._encode(values, place)
        missing = is_missing(values)
        return (
            np.where(missing[:, None], np.nan, coordinates),
            np.where(missing, 0.0, log_measure),
        )

    @abstractmethod
    def _encode(self, values: Values, place: np.ndarray | float) -> tuple[Coordinates, LogMeasure]:
        """Do what `encode` does; results of missing values are arbitrary."""

    @abstractmethod
    def decode(self, coordinates: Coordinates) -> Codes:
        """Return the codes of any coordinates, none of them missing."""

    def nodes(self, values: Values, n_nodes: int) -> Nodes:
        """Return the places to evaluate a density at, for the score of each value's cell."""
        missing = is_missing(values)
        places, weights = np.polynomial.legendre.leggauss(n_nodes)
        pairs = [self.encode(values, (1 + place) / 2) for place in places]
        log_measures = [log + np.log(w / 2) for (_, log), w in zip(pairs, weights, strict=True)]
        log_measure = np.where(missing, 0.0, log_measures)[:, :, None]
        return Nodes(np.stack([z for z, _ in pairs]), log_measure, np.zeros(len(values)))


class NumberOfLevels(Column):
    """A number that takes few values, each with a probability: a category holds them.

    Parameters
    ----------
    which : Column
        The category, whose levels are the values.
    """

    holds_numbers = True

    def __init__(self, which: Column) -> None:
        self.which, self.n_dims = which, which.n_dims

    @property
    def measure(self) -> Reference:
        return self.which.measure

    @property
    def only_levels(self) -> Values | None:
        return self.which.only_levels

    def takes(self, values: Values) -> np.ndarray:
        return self.which.takes(values)

    def beyond(self, values: Values) -> np.ndarray:
        return self.which.beyond(values)

    @property
    def parts(self) -> list[Column]:
        return [self.which]

    def join(self, decoded: list[Codes]) -> Codes:
        return self.which.values_of(decoded[0])

    def _encode(self, values: Values, place: np.ndarray | float) -> tuple[Coordinates, LogMeasure]:
        return self.which.encode(values, place)

    def decode(self, coordinates: Coordinates) -> Codes:
        return self.join([self.which.decode(coordinates)])

    def nodes(self, values: Values, n_nodes: int) -> Nodes:
        return self.which.nodes(values, n_nodes)


def side_by_side(
    encoded: list[tuple[Coordinates, LogMeasure]],
) -> tuple[Coordinates, LogMeasure]:
    """Return the coordinates and log-measures of rows from those of parts."""
    return np.hstack([z for z, _ in encoded]), np.sum([log for _, log in encoded], axis=0)


def blocks_of(parts: Sequence[Column], coordinates: Coordinates) -> list[Coordinates]:
    """Return the coordinates of each part from joined coordinates."""
    return np.split(coordinates, np.cumsum([part.n_dims for part in parts])[:-1], axis=1)


def nodes_of(parts: Sequence[tuple[Column, Values]], n_nodes: int) -> Nodes:
    """Return the joined nodes of parts with their values."""
    z, log_measures, rests = zip(*(part.nodes(v, n_nodes) for part, v in parts), strict=True)
    return Nodes(np.concatenate(z, -1), np.concatenate(log_measures, -1), np.sum(rests, axis=0))


def codes_of(values: Values, levels: Values) -> Codes:
    """Return the position of each value among the levels, -1 for other values."""
    if not len(levels):
        return np.full(len(values), -1)
    if values.dtype != object and levels.dtype != object:
        order = np.argsort(levels, kind="stable")
        place = order[np.searchsorted(levels, values, sorter=order).clip(max=len(levels) - 1)]
        return np.where(levels[place] == values, place, -1)
    index = {level: code for code, level in enumerate(levels.tolist())}
    codes = map(index.get, values.tolist(), repeat(-1))
    return np.fromiter(codes, dtype=np.int64, count=len(values))
