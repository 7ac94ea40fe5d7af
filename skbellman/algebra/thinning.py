"""Rows of one density, accepted by how far another density lies below it."""

from __future__ import annotations

from typing import Any

import numpy as np

from skbellman.algebra.rows import stack, take


class Thinning:
    """Rows of p, accepted with probability max(1 - exp(log_factor) q / p, 0).

    Parameters
    ----------
    p, q : fitted densities
    log_factor : float
    most_at_once : int
        Rows that are sampled at once.
    most_rounds : int
        Attempts for each given row.
    """

    def __init__(
        self, p: Any, q: Any, log_factor: float, most_at_once: int = 4096, most_rounds: int = 1000
    ) -> None:
        self.p, self.q, self.log_factor = p, q, log_factor
        self.most_at_once, self.most_rounds = most_at_once, most_rounds

    def acceptance(self, X: Any) -> np.ndarray:
        """Return the probability that each row is accepted."""
        log_p, log_q = (density.score_samples(X) for density in (self.p, self.q))
        # p never samples a row where both densities are 0.
        with np.errstate(invalid="ignore"):
            log_share = self.log_factor + log_q - log_p
        return np.nan_to_num(-np.expm1(np.minimum(log_share, 0.0)), nan=0.0)

    def sample(self, n_samples: int, rng: np.random.RandomState, given: Any = None) -> Any:
        """Return accepted rows; ``given`` holds the conditions of all of them, a mapping."""
        kept: list[Any] = []
        n_drawn = n_kept = 0
        while n_kept < n_samples:
            _check_share(n_kept, n_drawn)
            rate = max(n_kept, 1) / max(n_drawn, 1)
            n_asked = int(min(1.2 * (n_samples - n_kept) / rate + 8, self.most_at_once))
            drawn = self.p.sample(n_asked, random_state=_seed(rng), given=given)
            accepted = np.flatnonzero(rng.random_sample(n_asked) < self.acceptance(drawn))
            kept.append(take(drawn, accepted))
            n_drawn, n_kept = n_drawn + n_asked, n_kept + len(accepted)
        return take(stack(kept), np.arange(n_samples))

    def fill(self, given: Any, rng: np.random.RandomState) -> Any:
        """Return an accepted row for each row of a table of conditions."""
        n_rows, n_drawn = len(given), 0
        pending, rows, places = np.arange(n_rows), [], []
        for _ in range(self.most_rounds):
            drawn = self.p.sample(1, random_state=_seed(rng), given=take(given, pending))
            accepted = rng.random_sample(len(pending)) < self.acceptance(drawn)
            rows.append(take(drawn, np.flatnonzero(accepted)))
            places.append(pending[accepted])
            n_drawn, pending = n_drawn + len(pending), pending[~accepted]
            if not len(pending):
                return take(stack(rows), np.argsort(np.concatenate(places)))
        raise ValueError(
            f"the difference is nearly 0 at row {pending[0]} of given: {self.most_rounds} samples "
            "were rejected. Leave the row out, or lower the weight."
        )


def _check_share(
    n_kept: int, n_drawn: int, least_share: float = 1e-3, not_before: int = 4000
) -> None:
    """Refuse to continue if almost no row is accepted."""
    if n_drawn >= not_before and n_kept < least_share * n_drawn:
        raise ValueError(
            f"{n_kept} of {n_drawn} samples were accepted: the second density is at least as high "
            "as the first almost everywhere. Lower the weight, or exchange the two."
        )


def _seed(rng: np.random.RandomState) -> int:
    return int(rng.randint(2**31))
