"""Laws of finitely many states and actions: first moments, then the shape of each law.

The backup of a pair of state and action is the mean over all its steps: a linear operator on the
laws. Means, variances and fourth moments solve linear equations, and determine the support. The
operator is then applied to normal laws of these moments until the shapes settle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix

from skbellman.returns.basis import GaussianBasis, linear_weights
from skbellman.returns.batch import Batch
from skbellman.returns.moments import (
    Moments,
    PairSteps,
    bounds,
    expected_returns,
    is_tied,
)
from skbellman.returns.support import with_centres_at

# Laws have settled if no distribution function changes by more: during the search for the support,
# and in the end.
_ROUGH, SETTLED = 1e-4, 1e-5
# Room beyond each end, in spacings.
MARGIN = 2.5

Weights = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Table:
    """Counted steps between labelled states.

    Attributes
    ----------
    state, action, next_state : array of int, shape (n,)
    reward : array of float64, shape (n,)
    follows : array of bool, shape (n,)
    count : array of float64, shape (n,)
    policy : array of shape (n, n_actions) or None
        Probabilities of the next actions; None for the best.
    mask : array of bool, shape (n, n_actions)
        Which actions are available in the next state.
    n_states : int
    """

    state: np.ndarray
    action: np.ndarray
    next_state: np.ndarray
    reward: np.ndarray
    follows: np.ndarray
    count: np.ndarray
    policy: np.ndarray | None
    mask: np.ndarray
    n_states: int

    @classmethod
    def of(cls, steps: Batch, n_actions: int) -> Table:
        """Return the table of counted steps with one-hot states."""
        mask, policy, count = (
            None if part is None else part.cpu().numpy()
            for part in (steps.mask, steps.policy, steps.count)
        )
        n, follows = len(steps.action), steps.follows.cpu().numpy()
        if mask is None:
            mask = np.ones((n, n_actions), dtype=bool)
        return cls(
            state=steps.state.argmax(-1).cpu().numpy(),
            action=steps.action.cpu().numpy(),
            next_state=steps.next_state.argmax(-1).cpu().numpy(),
            reward=steps.reward.double().cpu().numpy(),
            follows=follows,
            count=np.ones(n) if count is None else count.astype(np.float64),
            policy=None if policy is None else policy.astype(np.float64),
            mask=mask | ~follows[:, None],  # after the end no action is taken
            n_states=steps.state.shape[1],
        )

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        return int(self.mask.shape[1])

    @property
    def pair(self) -> np.ndarray:
        """Pair of each step: state times n_actions, plus action."""
        return self.state * self.n_actions + self.action

    @property
    def is_known(self) -> np.ndarray:
        """Which actions were taken in each state, (n_states, n_actions)."""
        known = np.zeros((self.n_states, self.n_actions), dtype=bool)
        known[self.state, self.action] = True
        return known

    def steps(self, policy: np.ndarray, gamma: float) -> PairSteps:
        """Return the steps from pair to pair under next actions of given probabilities.

        An action that was never taken gets the mean of the state's other actions. A state in which
        no step begins has the return 0.
        """
        n, n_pairs = len(self.state), self.n_states * self.n_actions
        row, action = np.nonzero(np.where(self.follows[:, None], policy, 0.0))
        ended = np.flatnonzero(~self.follows)
        untold, other = self._untold()
        own, at = np.unique(untold, return_inverse=True)
        entries = np.concatenate([policy[row, action], np.ones(len(ended) + len(untold))])
        rows = np.concatenate([row, ended, n + at])
        columns = np.concatenate(
            [self.next_state[row] * self.n_actions + action, self.pair[ended], other]
        )
        following = csr_matrix((entries, (rows, columns)), (n + len(own), n_pairs))
        totals = np.asarray(following.sum(1)).ravel()
        following = following.multiply(1 / totals[:, None]).tocsr()
        pair = np.concatenate([self.pair, own])
        weight = np.concatenate([self.count, np.ones(len(own))])
        onwards = (self.is_known.sum(1) > 0)[own // self.n_actions]
        return PairSteps(
            pair=pair,
            reward=np.concatenate([self.reward, np.zeros(len(own))]),
            discount=np.concatenate([np.where(self.follows, gamma, 0.0), onwards * 1.0]),
            share=weight / np.bincount(pair, weight, n_pairs)[pair],
            following=following,
        )

    def _untold(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the unseen pairs, each with every seen pair of its state.

        A pair of a state in which no step begins is listed with itself.
        """
        known = self.is_known
        none = known.sum(1) == 0
        beside = known[:, None, :] | (none[:, None, None] & np.eye(self.n_actions, dtype=bool))
        state, untold, other = np.nonzero(~known[:, :, None] & beside)
        return state * self.n_actions + untold, state * self.n_actions + other


def evaluated(table: Table, gamma: float, name: Callable[[int], str]) -> PairSteps:
    """Return the steps from pair to pair under the table's policy, or the best next actions.

    Policy iteration on exact means finds the best actions.

    Raises
    ------
    ValueError
        If an expected return is infinite.
    """

    def under(policy: np.ndarray) -> PairSteps:
        steps = table.steps(policy, gamma)
        return steps.ending_where_nothing_is_paid(name) if gamma == 1 else steps

    if table.policy is not None:
        return under(table.policy)
    # The first policy takes every action, so it ends wherever an end can be reached.
    policy = table.mask / table.mask.sum(1, keepdims=True)
    chosen = np.full(len(policy), -1)
    while True:
        steps = under(policy)
        better = _best_actions(table, expected_returns(steps), chosen)
        if np.array_equal(better, chosen):
            return steps
        chosen, policy = better, np.eye(table.n_actions)[better]


def _best_actions(table: Table, returns: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the best next action of each step, (n,). Ties keep the earlier action."""
    worth = returns.reshape(table.n_states, table.n_actions)[table.next_state]
    known = table.mask & table.is_known[table.next_state]
    worth = np.where(np.where(known.sum(1, keepdims=True) > 0, known, table.mask), worth, -np.inf)
    rows, best = np.arange(len(worth)), worth.argmax(1)
    kept = (before >= 0) & is_tied(worth[rows, before], worth[rows, best])
    return np.where(kept, before, best)


def merged(steps: PairSteps, reward: np.ndarray, share: np.ndarray, row: np.ndarray) -> PairSteps:
    """Return one step for each pair, reward and discount, followed by a mixture.

    The backup is linear in the law that follows.

    Parameters
    ----------
    steps : PairSteps
    reward, share : array of shape (m,)
        Reward and share of parts of the steps.
    row : array of int, shape (m,)
        Step that a part is of.
    """
    keys = np.stack([steps.pair[row], steps.discount[row], reward], 1)
    distinct, place = np.unique(keys, axis=0, return_inverse=True)
    place = place.ravel()
    total = np.bincount(place, share)
    gather = csr_matrix((share / total[place], (place, row)), (len(distinct), len(steps.pair)))
    return PairSteps(
        pair=distinct[:, 0].astype(np.int64),
        reward=distinct[:, 2],
        discount=distinct[:, 1],
        share=total,
        following=gather @ steps.following,
    )


def with_few_rewards(
    steps: PairSteps, basis: GaussianBasis, most_entries: int = 2_000_000
) -> PairSteps | None:
    """Return the merged steps, with rewards in bins if many differ, or None.

    A reward between two bins is split between both, which keeps the mean. Eight bins per spacing
    add at most 1 / 256 of a squared spacing to a variance. There are fewer bins if the operator
    would have too many entries.
    """
    most = most_entries // basis.size
    rows = np.arange(len(steps.pair))
    few = merged(steps, steps.reward, steps.share, rows)
    for n_bins in (8, 4, 2, 1) if len(few.pair) > most else ():
        width = basis.spacing / n_bins
        lower = np.floor(few.reward / width)
        upper_share = few.reward / width - lower
        reward = np.concatenate([lower, lower + 1]) * width
        share = np.concatenate([few.share * (1 - upper_share), few.share * upper_share])
        some = share > 0
        both = np.tile(np.arange(len(few.pair)), 2)
        binned = merged(few, reward[some], share[some], both[some])
        if len(binned.pair) <= most:
            return binned
    return few if len(few.pair) <= most else None


def located(
    steps: PairSteps,
    gamma: float,
    solved: Moments,
    like: GaussianBasis,
    n_trims: int = 2,
    most_sweeps: int = 2000,
) -> tuple[PairSteps, GaussianBasis] | None:
    """Return merged steps, and a basis that covers all laws except at most 1e-3 of their mass.

    The ends come from Markov's inequality for fourth moments, within the bounds of returns. A
    projection that keeps laws positive then narrows them. None if steps are too many.
    """
    low, high = _reached(steps, gamma, solved)
    basis = with_atoms(like, low, high, steps.reward)
    for _ in range(n_trims if high > low else 0):
        few = with_few_rewards(steps, basis)
        if few is None:
            return None
        sweep = operator(few, basis, linear_weights)
        laws = settled(sweep, normal_laws(basis, solved), _ROUGH, most_sweeps)
        low, high = _drawn_in(laws, basis, low, high)
        basis = with_atoms(like, low, high, steps.reward)
    few = with_few_rewards(steps, basis)
    return None if few is None else (few, basis)


def _reached(
    steps: PairSteps, gamma: float, solved: Moments, beyond: float = 1e-3
) -> tuple[float, float]:
    """Return the ends beyond which laws have at most so much mass, by Markov's inequality."""
    least, most = bounds(steps, gamma)
    reach = (solved.fourth / beyond) ** 0.25
    low, high = np.maximum(least, solved.mean - reach), np.minimum(most, solved.mean + reach)
    return float(low.min()), float(high.max())


def _drawn_in(
    laws: np.ndarray, basis: GaussianBasis, low: float, high: float, beyond: float = 3e-4
) -> tuple[float, float]:
    """Return the interval beyond whose ends no law has more than a little mass."""
    below = np.cumsum(laws.clip(0), 1) / laws.clip(0).sum(1, keepdims=True)
    first = int((below < beyond).sum(1).min())
    last = int((below < 1 - beyond).sum(1).max())
    at = basis.low + basis.spacing * np.array([first - 0.5, last + 0.5])
    return max(low, float(at[0])), min(high, float(at[1]))


def with_atoms(like: GaussianBasis, low: float, high: float, rewards: np.ndarray) -> GaussianBasis:
    """Return a basis from about low to high that has 0 and the extreme reward as centres."""
    extreme = float(np.abs(rewards).max())
    # Laws of one atom have no width.
    lacking = (1e-6 * max(abs(low), abs(high), extreme) or 1.0) - (high - low)
    low, high = low - max(lacking, 0.0) / 2, high + max(lacking, 0.0) / 2
    spacing = (high - low) / (like.size - 1 - 2 * MARGIN)
    low -= MARGIN * spacing
    if low < 0 < low + spacing * (like.size - 1):
        low, spacing = with_centres_at(extreme, low, spacing, like.size)
    return replace(like, low=low, high=low + spacing * (like.size - 1))


def operator(
    steps: PairSteps, basis: GaussianBasis, weights: Weights
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the projected backup of all laws, (n_pairs, K) to (n_pairs, K). It is linear."""
    size, n = basis.size, len(steps.pair)
    # The law of a terminal step is an atom at the reward, whatever the next law.
    value = steps.reward[:, None] + steps.discount[:, None] * basis.centres.numpy()
    place = torch.as_tensor((value - basis.low) / basis.spacing)
    node, share = (part.numpy() for part in weights(place, size))
    into = steps.pair[:, None, None] * size + node
    out = np.broadcast_to(np.arange(n * size).reshape(n, size, 1), into.shape)
    entries = steps.share[:, None, None] * share
    shape = (steps.n_pairs * size, n * size)
    pushed = csr_matrix((entries.ravel(), (into.ravel(), out.ravel())), shape)
    pushed.eliminate_zeros()
    return lambda laws: (pushed @ (steps.following @ laws).ravel()).reshape(laws.shape)


def normal_laws(basis: GaussianBasis, solved: Moments) -> np.ndarray:
    """Return normal laws of the right means and deviations, (n_pairs, K)."""
    offset = basis.centres.numpy() - solved.mean[:, None]
    variance = np.maximum(solved.variance[:, None], basis.spacing**2)
    exponent = -0.5 * offset**2 / variance
    laws = np.exp(exponent - exponent.max(1, keepdims=True))
    return laws / laws.sum(1, keepdims=True)


def settled(
    sweep: Callable[[np.ndarray], np.ndarray],
    laws: np.ndarray,
    tolerance: float,
    n_sweeps: int,
    note: Callable[[int, float, np.ndarray], None] = lambda step, change, laws: None,
    look_every: int = 20,
) -> np.ndarray:
    """Return the laws, (n_pairs, K), once sweeps no longer change them.

    The change is measured every so many sweeps.
    """
    for k in range(1, n_sweeps + 1):
        after = sweep(laws)
        if k % look_every == 0 or k == n_sweeps:
            after /= after.sum(1, keepdims=True)
            change = float(np.abs(np.cumsum(after - laws, 1)).max())
            note(k, change, after)
            if change < tolerance:
                return after
        laws = after
    return laws
