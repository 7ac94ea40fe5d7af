"""A density that is known exactly, with the words of a fitted one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.utils import check_random_state

from skbellman.tables.measures import AtomsBeside, ColumnMeasure, Lebesgue, Levels

NUMBERS = ["x", "y"]


class ExactDensity:
    """A category c and, for each level, two correlated Gaussian numbers x and y."""

    def __init__(self, shares, means, covariances, atoms=()):
        self.levels = sorted(shares)
        self.log_shares = np.log([shares[level] for level in self.levels])
        self.means = [np.asarray(means[level], float) for level in self.levels]
        self.covariances = [np.asarray(covariances[level], float) for level in self.levels]
        self.feature_names_in_ = np.array([*NUMBERS, "c"], dtype=object)
        self.n_features_in_ = 3
        self.measure_ = (
            ColumnMeasure("x", AtomsBeside(atoms) if atoms else Lebesgue(), "numbers"),
            ColumnMeasure("y", Lebesgue(), "numbers"),
            ColumnMeasure("c", Levels(tuple(self.levels)), "categories", "categories"),
        )

    def score_samples(self, X, *, columns=None, given=None):
        given = list(given or [])
        names = [n for n in self.feature_names_in_ if n not in given]
        asked = names if columns is None else list(columns)
        joint = logsumexp(self._logs(X, [*asked, *given]), axis=1)
        return joint - logsumexp(self._logs(X, given), axis=1) if given else joint

    def _logs(self, X, names):
        """Return the log-density of these columns with each level, (n, n_levels)."""
        numbers = [n for n in NUMBERS if n in names]
        values = X[numbers].to_numpy(float)
        logs = np.tile(self.log_shares, (len(X), 1))
        for k, level in enumerate(self.levels):
            if "c" in names:
                held = X["c"].to_numpy(object)
                logs[[v is not None and v == v and v != level for v in held], k] = -np.inf
            logs[:, k] += self._gaussian(k, numbers, values)
        return logs

    def _gaussian(self, k, numbers, values):
        logs = np.zeros(len(values))
        for pattern in np.unique(np.isnan(values), axis=0):
            at = [NUMBERS.index(n) for n, gap in zip(numbers, pattern, strict=True) if not gap]
            rows = (np.isnan(values) == pattern).all(1)
            if at:
                law = multivariate_normal(self.means[k][at], self.covariances[k][np.ix_(at, at)])
                logs[rows] = law.logpdf(values[rows][:, ~pattern])
        return logs

    def sample(self, n_samples=1, random_state=None, *, given=None):
        rng = check_random_state(random_state)
        table = hasattr(given, "columns")
        rows = given if table else pd.DataFrame([given or {}])
        rows = rows.reset_index(drop=True)
        rows = rows.loc[rows.index.repeat(n_samples)].reset_index(drop=True)
        rows = rows.reindex(columns=self.feature_names_in_)
        rows = rows.astype({"c": object})
        logs = self._logs(rows, list(self.feature_names_in_))
        below = np.exp(logs - logsumexp(logs, axis=1, keepdims=True)).cumsum(1)
        level = (rng.random_sample((len(rows), 1)) * below[:, -1:] >= below).sum(1)
        values = rows[NUMBERS].to_numpy(float)
        for k in range(len(self.levels)):
            for pattern in np.unique(np.isnan(values), axis=0):
                at = np.flatnonzero((level == k) & (np.isnan(values) == pattern).all(1))
                if pattern.any():
                    values[at] = self._filled(k, values[at], pattern, rng)
        return pd.DataFrame(
            {"x": values[:, 0], "y": values[:, 1], "c": np.array(self.levels, object)[level]}
        )

    def _filled(self, k, values, a, rng):
        b, cov, mean = ~a, self.covariances[k], self.means[k]
        gain = cov[np.ix_(a, b)] @ np.linalg.inv(cov[np.ix_(b, b)])
        spread = np.linalg.cholesky(cov[np.ix_(a, a)] - gain @ cov[np.ix_(b, a)])
        noise = rng.standard_normal((len(values), a.sum())) @ spread.T
        filled = values.copy()
        filled[:, a] = mean[a] + (values[:, b] - mean[b]) @ gain.T + noise
        return filled


def first():
    return ExactDensity(
        {"a": 0.7, "b": 0.3},
        {"a": [0.0, 1.0], "b": [3.0, -1.0]},
        {"a": [[1.0, 0.4], [0.4, 0.5]], "b": [[0.5, -0.2], [-0.2, 1.0]]},
    )


def second():
    return ExactDensity(
        {"a": 0.2, "b": 0.8},
        {"a": [-1.0, 0.0], "b": [2.0, 2.0]},
        {"a": [[2.0, 0.0], [0.0, 1.0]], "b": [[1.0, 0.3], [0.3, 0.6]]},
    )


def rows(n_rows=6, seed=0):
    rng = np.random.default_rng(seed)
    numbers = {name: rng.normal(size=n_rows) for name in NUMBERS}
    return pd.DataFrame({**numbers, "c": rng.choice(["a", "b"], size=n_rows)})
