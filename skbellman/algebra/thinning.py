"""Rows of one density, accepted by how far another density lies below it."""

from __future__ import annotations

from typing import Any

import numpy as np

from skbellman.algebra.rows import take
from skbellman.identifiers import NewIdentifiers
from skbellman.rejection import accepted_for_each, accepted_rows


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
        reason = (
            "the second density is at least as high as the first almost everywhere. Lower the "
            "weight, or exchange the two."
        )
        rows, _ = accepted_rows(
            lambda n: self.p.sample(n, random_state=_seed(rng), given=given),
            lambda drawn: rng.random_sample(len(drawn)) < self.acceptance(drawn),
            n_samples,
            reason,
            self.most_at_once,
        )
        return self._renamed(rows, given, rng)

    def fill(self, given: Any, rng: np.random.RandomState) -> Any:
        """Return an accepted row for each row of a table of conditions."""
        rows, _ = accepted_for_each(
            lambda at: self.p.sample(1, random_state=_seed(rng), given=take(given, at)),
            lambda drawn: rng.random_sample(len(drawn)) < self.acceptance(drawn),
            len(given),
            "the difference is nearly 0 there. Leave the row out, or lower the weight.",
            self.most_rounds,
        )
        return self._renamed(rows, given, rng)

    def _renamed(self, rows: Any, given: Any, rng: np.random.RandomState) -> Any:
        return NewIdentifiers([self.p, self.q], rng)(rows, given)


def _seed(rng: np.random.RandomState) -> int:
    return int(rng.randint(2**31))
