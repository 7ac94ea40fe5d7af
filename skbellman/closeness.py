"""Distances of rows to those of a fit, and their density under a Gaussian mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from skbellman.fields import GaussianMixtureField
from skbellman.tables import TableEncoder
from skbellman.tables.columns.base import Column


class StandardColumns:
    """Rows of a table as points, in which every column has the same weight.

    Numbers are in standard deviations. A category has a coordinate for each level, with a total
    variance of 1, the same as a number.

    Parameters
    ----------
    encoder : TableEncoder
        Fitted.
    X : table
        Without missing values.

    Attributes
    ----------
    column_of : array of int, shape (n_dims,)
        The position of the column that each coordinate belongs to.
    """

    def __init__(self, encoder: TableEncoder, X: Any) -> None:
        self.encoder = encoder
        blocks = self._blocks(X)
        self.column_of = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
        points = np.hstack(blocks)
        # In units of the largest value, so that squares are finite.
        self.unit = _positive(np.abs(points).max(0))
        points = points / self.unit
        self.mean = points.mean(0)
        variances = np.bincount(self.column_of, points.var(0), len(blocks))
        self.scale = _positive(np.sqrt(variances))[self.column_of]

    def points(self, X: Any, farthest: float = 1e9) -> np.ndarray:
        """Return the points of rows, (n, n_dims). Coordinates of missing values are arbitrary."""
        points = (np.hstack(self._blocks(X)) / self.unit - self.mean) / self.scale
        return points.clip(-farthest, farthest)

    def _blocks(self, X: Any) -> list[np.ndarray]:
        codes = self.encoder.codes(self.encoder.read(X))
        return [
            _block(code, column) for column, code in zip(self.encoder.columns_, codes, strict=True)
        ]


def _block(codes: np.ndarray, column: Column) -> np.ndarray:
    """Return a number's coordinate, or that of each level of a category, (n, d)."""
    if column.holds_numbers or column.only_levels is None:
        return codes[:, None].astype(np.float64)
    return (codes[:, None] == np.arange(len(column.only_levels))).astype(np.float64)


class Neighbours:
    """The rows of a fit, for searches of nearest neighbours.

    Parameters
    ----------
    points : array of shape (n, n_dims)
        At least two.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.rows = points

    def distances(
        self, points: np.ndarray, n_neighbors: Sequence[int], seen: np.ndarray
    ) -> list[np.ndarray]:
        """Return the root mean square distances to numbers of nearest rows, (n,) each.

        Only observed coordinates count. A row of the fit is not its own neighbour: of rows at
        distance 0, one is left out.
        """
        most = min(max(n_neighbors), len(self.rows) - 1)
        # A tree computes differences of points, not of squares, so equal rows have distance 0.
        tree = NearestNeighbors(n_neighbors=most + 1, algorithm="kd_tree").fit(self.rows[:, seen])
        squares = np.square(tree.kneighbors(points[:, seen])[0])
        others = np.where(squares[:, :1] == 0, squares[:, 1:], squares[:, :-1])
        return [np.sqrt(others[:, :k].mean(1)) for k in n_neighbors]


class Gaussians:
    """A mixture of Gaussians of standard columns.

    Parameters
    ----------
    points : array of shape (n, n_dims)
    n_components : int
        Largest number of components. Each after the first needs ten rows per column, and a point
        that differs from all others.
    seed : int
    """

    def __init__(
        self, points: np.ndarray, n_components: int, seed: int, ridge: float = 1e-3
    ) -> None:
        from sklearn.mixture import GaussianMixture  # a slow import, only for detectors

        n_components = min(n_components, 1 + len(points) // (10 * points.shape[1]))
        n_components = min(n_components, len(np.unique(points, axis=0)))
        found = GaussianMixture(n_components, reg_covar=ridge, random_state=seed)
        with config_context(array_api_dispatch=False):
            found.fit(points)
        parts = (found.weights_, found.means_, found.covariances_)
        self.field = GaussianMixtureField(*map(torch.as_tensor, parts))

    def log_density(self, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the log-density of points, (n,), by their observed coordinates."""
        levels = torch.as_tensor(np.where(seen, 0.0, np.inf))
        x = torch.as_tensor(np.where(seen, points, 0.0))
        return self.field.log_scalar(x, levels).numpy()


def _positive(scales: np.ndarray) -> np.ndarray:
    """Return scales, with 1 in place of 0 for constants."""
    return np.where(scales > 0, scales, 1.0)
