"""Moments of returns of finitely many pairs of state and action, by linear equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix, identity
from scipy.sparse.linalg import splu

# Relative difference of expected returns that is rounding alone.
_TIED = 1e-9


@dataclass(frozen=True)
class PairSteps:
    """Steps of a process between finitely many pairs of state and action.

    Attributes
    ----------
    pair : array of int, shape (n,)
        Pair that a step begins in. Every pair has at least one step.
    reward : array of float64, shape (n,)
    discount : array of float64, shape (n,)
        Discount of the return that follows, 0 if none follows.
    share : array of float64, shape (n,)
        Probability of the step in its pair.
    following : sparse matrix of shape (n, n_pairs)
        Probabilities of the pairs that follow, each row of sum 1 (any pair where none follows).
    """

    pair: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    share: np.ndarray
    following: csr_matrix

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return int(self.following.shape[1])

    @cached_property
    def edges(self) -> Edges:
        """The edges of the steps: one for each pair that may follow."""
        entries = self.following.tocoo()
        step = entries.row
        return Edges(
            self.pair[step],
            entries.col,
            self.reward[step],
            self.discount[step],
            self.share[step] * entries.data,
            self.n_pairs,
        )

    def ending_where_nothing_is_paid(self, name: Callable[[int], str]) -> PairSteps:
        """Return the steps, in which endless loops with reward 0 and discount 1 end.

        Parameters
        ----------
        name : callable
            Returns the name of a pair, for the error message.

        Raises
        ------
        ValueError
            If an endless loop has rewards: its expected return is infinite.
        """
        unpaid = self.edges.is_never_paid()[self.pair]
        steps = replace(self, discount=np.where(unpaid, 0.0, self.discount))
        endless = ~steps.edges.can_end()
        if endless.any():
            raise ValueError(
                f"With gamma=1 the return of {name(int(endless.argmax()))} is infinite: it leads "
                "to a loop with rewards that no step of the table ends. Use gamma below 1, or "
                "mark the steps that end an episode as terminated."
            )
        return steps


@dataclass(frozen=True)
class Edges:
    """Steps from pair to pair, as in `PairSteps`, each with one pair that follows."""

    pair: np.ndarray
    following: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    share: np.ndarray
    n_pairs: int

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the expectation of a function of edges for each pair, (n_pairs,)."""
        return np.bincount(self.pair, self.share * values, self.n_pairs)

    def solved(self, power: int, constant: np.ndarray) -> np.ndarray:
        r"""Return the solution x of :math:`x = E[c + \gamma^k x']`, (n_pairs,)."""
        shape = (self.n_pairs, self.n_pairs)
        weight = self.share * self.discount**power
        onwards = csr_matrix((weight, (self.pair, self.following)), shape)
        return np.asarray(splu((identity(self.n_pairs) - onwards).tocsc()).solve(constant))

    def is_never_paid(self) -> np.ndarray:
        """Return the pairs from which every later reward is 0, (n_pairs,)."""
        found = np.ones(self.n_pairs, dtype=bool)
        found[self.pair[self.reward != 0]] = False
        while True:
            leads_out = (self.discount > 0) & ~found[self.following]
            kept = found.copy()
            kept[self.pair[leads_out]] = False
            if np.array_equal(kept, found):
                return found
            found = kept

    def can_end(self) -> np.ndarray:
        """Return the pairs from which an end, or a discount below 1, can be reached, (n_pairs,)."""
        found = np.zeros(self.n_pairs, dtype=bool)
        found[self.pair[self.discount < 1]] = True
        while True:
            reached = found.copy()
            reached[self.pair[found[self.following]]] = True
            if np.array_equal(reached, found):
                return found
            found = reached


@dataclass(frozen=True)
class Moments:
    """Mean, variance and fourth central moment of the return of each pair, (n_pairs,)."""

    mean: np.ndarray
    variance: np.ndarray
    fourth: np.ndarray


def expected_returns(steps: PairSteps) -> np.ndarray:
    r"""Return the solution of :math:`m = E[r + \gamma m']`, (n_pairs,)."""
    return steps.edges.solved(1, steps.edges.sums(steps.edges.reward))


def moments(steps: PairSteps) -> Moments:
    r"""Return the moments of returns, each the solution of linear equations.

    With the error of one step :math:`e = r + \gamma m' - m` central moments follow without
    cancellation (Sobel, The variance of discounted Markov decision processes, 1982):

    .. math:: v = E[e^2 + \gamma^2 v'], \qquad
        c_3 = E[e^3 + 3 e \gamma^2 v' + \gamma^3 c_3'], \qquad
        c_4 = E[e^4 + 6 e^2 \gamma^2 v' + 4 e \gamma^3 c_3' + \gamma^4 c_4'].
    """
    edges, mean = steps.edges, expected_returns(steps)
    to, discount = edges.following, edges.discount
    e = edges.reward + discount * mean[to] - mean[edges.pair]
    # In this unit, fourth powers of errors are at most 1. Smaller ones than rounding become 0.
    unit = max(float(np.abs(e).max()), _TIED * float(np.abs(mean).max()), np.finfo(float).tiny)
    e = e / unit
    variance = edges.solved(2, edges.sums(e**2)).clip(0)
    v = discount**2 * variance[to]
    third = edges.solved(3, edges.sums(e**3 + 3 * e * v))
    c = discount**3 * third[to]
    fourth = edges.solved(4, edges.sums(e**4 + 6 * e**2 * v + 4 * e * c)).clip(0)
    return Moments(mean, unit**2 * variance, unit**4 * fourth)


def bounds(steps: PairSteps, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest return that each pair can have, (n_pairs,) each.

    They are infinite if gamma is 1 and steps form a cycle.
    """
    edges = steps.edges
    return -_most(replace(edges, reward=-edges.reward), gamma), _most(edges, gamma)


def _most(edges: Edges, gamma: float, n_sweeps: int = 1000) -> np.ndarray:
    start = max(edges.reward.max(), 0.0) / (1 - gamma) if gamma < 1 else np.inf
    most, goes_on = np.full(edges.n_pairs, start), edges.discount > 0
    for _ in range(n_sweeps):
        after = edges.reward.copy()
        after[goes_on] += edges.discount[goes_on] * most[edges.following[goes_on]]
        lower = np.full(edges.n_pairs, -np.inf)
        np.maximum.at(lower, edges.pair, after)
        lower = np.minimum(lower, most)
        if np.array_equal(lower, most):
            break
        most = lower
    return most


def is_tied(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return where expected returns differ by no more than rounding."""
    return np.abs(a - b) <= _TIED * np.maximum(np.abs(a), np.abs(b))
