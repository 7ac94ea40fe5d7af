"""How well laws of returns agree with steps that they were not fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

from skbellman.returns.laws import TabulatedLaws


@dataclass(frozen=True)
class Backups:
    """Laws in some states, and their backups by one step.

    Attributes
    ----------
    own, following : TabulatedLaws
        Distinct laws, at the beginnings of steps and at their ends.
    own_of, following_of : array of int, shape (n,)
        Which of them each step has.
    reward : array of shape (n,)
    discount : array of shape (n,)
        Discount of the law at the end of a step, 0 where the return ends.
    block : int
        Steps that are compared at once.
    """

    own: TabulatedLaws
    following: TabulatedLaws
    own_of: np.ndarray
    following_of: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    block: int = 2048

    def points(self) -> np.ndarray:
        """Return ascending points that cover all laws, dense where the laws are."""
        some = some_rows(len(self.reward))
        ahead = _ranks(self.following)[self.following_of[some]] * self.discount[some, None]
        return _dense_points(np.concatenate([_ranks(self.own), self.reward[some, None] + ahead]))

    def residuals(self, x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows and the differences of their distribution functions at x, (n, q)."""
        grid = _dense_points(_ranks(self.following))
        ahead = self.following.cdf(np.broadcast_to(grid, (len(self.following), len(grid))))
        own = self.own.cdf(np.broadcast_to(x, (len(self.own), len(x))))
        for start in range(0, len(self.reward), self.block):
            rows = np.arange(start, min(start + self.block, len(self.reward)))
            backed_up = np.stack([self._backup(row, x, grid, ahead) for row in rows.tolist()])
            yield rows, own[self.own_of[rows]] - backed_up

    def _backup(self, row: int, x: np.ndarray, grid: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """Return P(r + gamma Z' <= x) after one step."""
        if self.discount[row] == 0:
            return (x >= self.reward[row]).astype(np.float64)
        with np.errstate(over="ignore"):  # beyond all laws, where the discount is tiny
            places = (x - self.reward[row]) / self.discount[row]
        return np.interp(places, grid, ahead[self.following_of[row]], 0.0, 1.0)


def bellman_error(backups: Backups, places: np.ndarray, inputs: np.ndarray | None = None) -> float:
    r"""Return the mean squared Cramer distance of laws to their mean backups, without noise.

    With :math:`R_i = F_{s,a} - F_{r + \gamma Z'}` at step i, the mean of :math:`\int R_i R_j dx`
    over other steps j from the same state and action, or the nearest ones: a kernel loss of the
    Bellman equation (arXiv 1905.10506). The noise of steps i and j is independent, so it averages
    out. The mean of :math:`\int R_i^2 dx` would contain a noise term that falls with the width of
    the laws: laws of twice the right width would score better than the right laws.

    Parameters
    ----------
    backups : Backups
    places : array of int, shape (n,)
        Which state and action a step is from, or which action where states are numbers.
    inputs : array of shape (n, d), optional
        The states, where they are numbers.

    Returns
    -------
    float
        In units of the reward. Noise may make it negative. If no step has another from its state
        and action, the mean of :math:`\int R_i^2 dx`.
    """
    x = backups.points()
    width = np.gradient(x)
    _, group = np.unique(places, return_inverse=True)
    several = np.bincount(group)[group] > 1
    if inputs is None:
        products = _products_of_groups(backups.residuals(x), group, width)
    else:
        residuals = np.concatenate([part for _, part in backups.residuals(x)])
        products = _products_of_neighbours(residuals, group, inputs, width)
    return float(products[several].mean() if several.any() else products.mean())


def some_rows(n: int, most: int = 2000) -> np.ndarray:
    """Return evenly spaced rows, all of them if they are few."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def _products_of_groups(
    parts: Iterator[tuple[np.ndarray, np.ndarray]], group: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Return the mean product of each step with the others of its group, one value a group.

    A step that is alone in its group is multiplied with itself.
    """
    sizes = np.bincount(group)
    sums, squares = np.zeros((len(sizes), len(width))), np.zeros(len(sizes))
    for rows, residuals in parts:
        np.add.at(sums, group[rows], residuals)
        np.add.at(squares, group[rows], residuals**2 @ width)
    products = (sums**2 @ width - squares) / np.maximum(sizes * (sizes - 1), 1)
    return np.where(sizes > 1, products, squares)[group]


def _products_of_neighbours(
    residuals: np.ndarray,
    group: np.ndarray,
    inputs: np.ndarray,
    width: np.ndarray,
    most_peers: int = 10,
) -> np.ndarray:
    """Return the mean product of each step with its nearest neighbours in its group.

    A step that is alone in its group is multiplied with itself.
    """
    products = residuals**2 @ width
    for rows in (np.flatnonzero(group == k) for k in range(group.max() + 1)):
        n_peers = min(most_peers, len(rows) - 1)
        if n_peers:
            nearest = NearestNeighbors(n_neighbors=n_peers).fit(inputs[rows])
            peers = residuals[rows][nearest.kneighbors(return_distance=False)].mean(1)
            products[rows] = (residuals[rows] * peers) @ width
    return products


def _ranks(laws: TabulatedLaws, n: int = 64) -> np.ndarray:
    """Return evenly ranked quantiles of each law, n of them."""
    ranks = (np.arange(n) + 0.5) / n
    return laws.quantile(np.broadcast_to(ranks, (len(laws), n)))


def _dense_points(values: np.ndarray, n: int = 1024) -> np.ndarray:
    """Return points from beyond the least to beyond the largest value, dense where values are.

    Half of them are evenly spaced.
    """
    ranked = np.quantile(values, np.linspace(0, 1, n // 2))
    room = 0.1 * (ranked[-1] - ranked[0]) or max(abs(ranked[0]), 1.0) * 1e-3
    even = np.linspace(ranked[0] - room, ranked[-1] + room, n // 2)
    return np.unique(np.concatenate([ranked, even]))
