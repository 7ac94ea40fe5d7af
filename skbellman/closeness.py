"""How near rows are to those of a fit: to single rows, and to Gaussians that many rows share."""

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
    """Rows of a table as points, in which every column has the same say.

    Numbers are in deviations. A category has a coordinate for each level; all of them together have
    a variance of 1, as a number has.

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
        # In units of the largest, whose squares are numbers.
        self.unit = _positive(np.abs(points).max(0))
        points = points / self.unit
        self.mean = points.mean(0)
        variances = np.bincount(self.column_of, points.var(0), len(blocks))
        self.scale = _positive(np.sqrt(variances))[self.column_of]

    def points(self, X: Any, farthest: float = 1e9) -> np.ndarray:
        """Return the points of rows, (n, n_dims); anything where a value is missing."""
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
    """The rows of a fit, as the neighbours of others.

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
        """Return the root mean square distance to so many nearest rows, (n,) each.

        By the coordinates that are seen. A row of the fit is none of its own neighbours: of rows at
        no distance at all, one is left out.
        """
        most = min(max(n_neighbors), len(self.rows) - 1)
        # A tree takes the differences of points, and not of their squares: equal rows are at 0.
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
        At most; one beside the first for each ten rows in a column.
    seed : int
    """

    def __init__(
        self, points: np.ndarray, n_components: int, seed: int, ridge: float = 1e-3
    ) -> None:
        from sklearn.mixture import GaussianMixture  # who fits no detector does not wait for it

        n_components = min(n_components, 1 + len(points) // (10 * points.shape[1]))
        found = GaussianMixture(n_components, reg_covar=ridge, random_state=seed)
        with config_context(array_api_dispatch=False):
            found.fit(points)
        parts = (found.weights_, found.means_, found.covariances_)
        self.field = GaussianMixtureField(*map(torch.as_tensor, parts))

    def log_density(self, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the log-density of points by the coordinates that are seen, (n,)."""
        levels = torch.as_tensor(np.where(seen, 0.0, np.inf))
        x = torch.as_tensor(np.where(seen, points, 0.0))
        return self.field.log_scalar(x, levels).numpy()


def _positive(scales: np.ndarray) -> np.ndarray:
    """Return scales, 1 where they are 0: of constants nothing is to be divided."""
    return np.where(scales > 0, scales, 1.0)
