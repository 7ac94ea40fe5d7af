"""Gaussians and Gaussian mixtures fitted to rows: moments, components, and weights."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn import config_context

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

_MAX_ROWS, _MOST_ROWS = 10_000, 100_000
# Rows of one part.
_CHUNK = 2**13
_RIDGE = 1e-4


def best_mixture(
    rows: np.ndarray,
    seed: int,
    max_components: int = 16,
    n_decimals: int = 6,
) -> GaussianMixture:
    """Return the Gaussian mixture of least BIC; components are doubled while the BIC falls.

    Parameters
    ----------
    rows : array of shape (n, D)
        Rows at about unit scale; the first 10,000 are used.
    seed : int
    max_components : int, default=16
    n_decimals : int, default=6
        Decimals of a coordinate that count as distinct. There are no more components than distinct
        rows.

    Returns
    -------
    GaussianMixture
    """
    rows = rows[:_MAX_ROWS] if len(rows) > 1 else np.repeat(rows, 2, axis=0)
    best, n_components = _fit(rows, 1, seed), 2
    n_places = len(np.unique(rows.round(n_decimals), axis=0))
    while n_components <= min(max_components, len(rows) // 4, n_places):
        larger = _fit(rows, n_components, seed)
        if larger.bic(rows) >= best.bic(rows):
            break
        best, n_components = larger, 2 * n_components
    return best


def refined(
    mixture: GaussianMixture, rows: np.ndarray, least_gain: float = 1e-5, max_steps: int = 200
) -> GaussianMixture:
    """Return the `best_mixture` of rows, (n, D), refined on the first 100,000 of them.

    Steps end when they gain less than ``least_gain``, in nats for each row. The remaining gain is
    then about ten times that, and errors are about its root (doc/decisions/closed-form-mixture.md).
    """
    if len(rows) <= _MAX_ROWS:
        return mixture
    better, last = copy(mixture), -np.inf
    for _ in range(max_steps):
        score = _improve(better, rows[:_MOST_ROWS])
        if score - last < least_gain:
            break
        last = score
    return better


def shares_of(mixture: GaussianMixture, rows: np.ndarray) -> np.ndarray:
    """Return the responsibilities of the Gaussians for rows, (n, J), in single precision."""
    parts = np.array_split(rows, len(rows) // _CHUNK + 1)
    return np.concatenate([mixture.predict_proba(part).astype(np.float32) for part in parts])


def _improve(mixture: GaussianMixture, rows: np.ndarray) -> float:
    """Do one step of expectation maximisation; return the mean log-likelihood before it.

    Rows are read in parts: scikit-learn's step has several copies of all rows in memory.
    """
    means, total = mixture.means_, 0.0
    mass = np.full(len(means), 10 * np.finfo(float).eps)
    shift, spread = np.zeros_like(means), np.zeros_like(mixture.covariances_)
    for part in np.array_split(rows, len(rows) // _CHUNK + 1):
        total += mixture.score_samples(part).sum()
        shares = mixture.predict_proba(part)
        mass += shares.sum(0)
        for k, mean in enumerate(means):
            off = part - mean
            weighted = shares[:, k, None] * off
            shift[k] += weighted.sum(0)
            spread[k] += weighted.T @ off
    shift /= mass[:, None]
    spread = spread / mass[:, None, None] - shift[:, :, None] * shift[:, None, :]
    mixture.weights_, mixture.means_ = mass / mass.sum(), means + shift
    mixture.covariances_ = spread + _RIDGE * np.eye(means.shape[1])
    factors = np.linalg.inv(np.linalg.cholesky(mixture.covariances_))
    mixture.precisions_cholesky_ = factors.transpose(0, 2, 1)
    return float(total / len(rows))


def normal_moments(rows: np.ndarray, n_steps: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of rows, (n, D), in which NaN is missing.

    Without missing values they are those of the rows. Otherwise they are the maximum-likelihood
    values of a Gaussian, by ``n_steps`` of expectation maximisation on the first 10,000 rows. A
    column without values has mean 0 and variance 1.
    """
    missing = np.isnan(rows)
    if not missing.any():
        return rows.mean(0), np.cov(rows, rowvar=False, bias=True).reshape(2 * rows.shape[1:])
    rows, missing = rows[:_MAX_ROWS], missing[:_MAX_ROWS]
    seen = (~missing).sum(0)
    zeros = np.where(missing, 0.0, rows)
    mean = zeros.sum(0) / np.maximum(seen, 1)
    squares = np.where(missing, 0.0, (zeros - mean) ** 2).sum(0)
    covariance = np.diag(np.where(seen > 1, squares / np.maximum(seen, 1), 1.0) + _RIDGE)
    for _ in range(n_steps):
        filled, uncertainty = _expected(zeros, missing, mean, covariance)
        mean = filled.mean(0)
        centred = filled - mean
        covariance = (centred.T @ centred + uncertainty) / len(rows)
        covariance += _RIDGE * np.eye(len(mean))
    return mean, covariance


def _expected(
    zeros: np.ndarray, missing: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with gaps filled by the conditional mean, and the sum of the covariances."""
    filled, uncertainty = zeros.copy(), np.zeros_like(covariance)
    patterns, pattern_of = np.unique(missing, axis=0, return_inverse=True)
    for k, a in enumerate(patterns):
        rows, b = np.flatnonzero(pattern_of == k), ~a
        gain = np.linalg.solve(covariance[np.ix_(b, b)], covariance[np.ix_(b, a)])
        filled[np.ix_(rows, a)] = mean[a] + (zeros[np.ix_(rows, b)] - mean[b]) @ gain
        rest = covariance[np.ix_(a, a)] - covariance[np.ix_(a, b)] @ gain
        uncertainty[np.ix_(a, a)] += len(rows) * rest
    return filled, uncertainty


def _fit(rows: np.ndarray, n_components: int, seed: int) -> GaussianMixture:
    # Imported here: scikit-learn's mixtures and k-means would take a third of `import skbellman`.
    from skbellman.open_mixture import OpenMixture

    # scikit-learn refuses k-means starts under array API dispatch; these rows are always numpy's.
    with config_context(array_api_dispatch=False):
        model = OpenMixture(n_components, reg_covar=_RIDGE, random_state=seed)
        return model.fit(rows)


def stacking_weights(log_densities: np.ndarray, n_lent: float = 0.01) -> np.ndarray:
    r"""Return the maximum-likelihood weights of a mixture of given densities.

    They maximise :math:`\sum_i \log \sum_k w_k p_k(x_i)`. A hundredth of a row is given to each
    density, so that no weight is 0. If densities are nearly equal at the rows, a whole row would
    lead to even weights, although one density may have far better conditionals.

    Parameters
    ----------
    log_densities : array of shape (n, K)
        Log-densities of n rows that no density was fitted to.
    n_lent : float, default=0.01
        Rows given to each density, see doc/decisions/closed-form-mixture.md.

    Returns
    -------
    array of shape (K,)
    """
    n_rows, n_densities = log_densities.shape
    densities = np.exp(log_densities - log_densities.max(1, keepdims=True))

    def minus_log_posterior(logits: np.ndarray) -> tuple[float, np.ndarray]:
        weights = softmax(logits)
        total = densities @ weights
        value = np.log(total).sum() + n_lent * np.log(weights).sum()
        slope = weights * (densities.T @ (1 / total)) + n_lent
        return -value, (n_rows + n_lent * n_densities) * weights - slope

    found = minimize(minus_log_posterior, np.zeros(n_densities), jac=True, tol=1e-12)
    return softmax(found.x)
