"""Columns of levels: categories, and constants."""

from __future__ import annotations

import numpy as np
from scipy.linalg import helmert

from skbellman.tables.columns.base import (
    Codes,
    Column,
    Coordinates,
    LogMeasure,
    Nodes,
    Values,
    codes_of,
)
from skbellman.tables.measures import Levels, Reference


class CategoricalColumn(Column):
    r"""A category of K levels: one-hot without the direction that all levels share.

    The K corners of a regular simplex in K - 1 coordinates, sqrt(2) apart like one-hot
    vectors. If noise is small compared with that distance, the density at corner k is
    :math:`P(k) (2 \pi \sigma^2)^{-(K - 1) / 2}`, which gives the log-probability. A column with one
    level has no coordinates; its value has probability 1.

    Parameters
    ----------
    levels : array of shape (K,)
        The levels, in the order of their codes.
    """

    holds_numbers = False
    # The corners are sqrt(2) apart: seven noise levels to each side.
    floor: float = 0.1
    flat_within = 0.0

    def __init__(self, levels: Values) -> None:
        self.levels = levels
        self.n_dims = len(levels) - 1
        self.corners: np.ndarray = _simplex(len(levels))

    @property
    def measure(self) -> Reference:
        return Levels(tuple(self.levels.tolist()))

    @property
    def only_levels(self) -> Values:
        return self.levels

    def codes(self, values: Values) -> Codes:
        return codes_of(values, self.levels)

    def values_of(self, codes: Codes) -> Values:
        return self.levels[codes]

    def _encode(self, values: Values, place: np.ndarray | float) -> tuple[Coordinates, LogMeasure]:
        codes = self.codes(values)
        return self.corners[codes], np.where(codes < 0, -np.inf, self._log_peak)

    def decode(self, coordinates: Coordinates) -> Codes:
        return (coordinates @ self.corners.T).argmax(1)

    def nodes(self, values: Values, n_nodes: int) -> Nodes:
        """Return nodes in the peaks of levels: Gaussians with the noise of the floor.

        Peaks of learned fields are not exactly Gaussian. A probability is the integral of the
        density, whose ratio to the Gaussian is smooth.
        """
        corners, log_measure = self.encode(values)
        places, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
        log_ratio = np.log(weights / weights.sum()) + 0.5 * places**2
        ones = np.ones_like(corners)
        return Nodes(
            corners + self.floor * places[:, None, None] * ones,
            log_ratio[:, None, None] * ones,
            log_measure,
        )

    @property
    def _log_peak(self) -> float:
        """The difference of the log-probability of a corner and the log-density there."""
        return 0.5 * self.n_dims * float(np.log(2 * np.pi * self.floor**2))


def _simplex(n_levels: int) -> np.ndarray:
    """Return the corners of a regular simplex, (K, K - 1), sqrt(2) apart."""
    return helmert(n_levels).T if n_levels > 1 else np.zeros((1, 0))
