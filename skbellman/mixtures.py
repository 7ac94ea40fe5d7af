"""Gaussian mixtures in closed form: how many components a table supports, and their weight."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

_MAX_COMPONENTS = 16
_MAX_ROWS = 10_000
_RIDGE = 1e-4
_EM_STEPS = 200


def best_mixture(rows: np.ndarray, seed: int) -> GaussianMixture:
    """Return the Gaussian mixture of least BIC, its number of components doubled while that falls.

    Parameters
    ----------
    rows : array of shape (n, D)
        Of about unit scale; the first 10,000 are used.
    seed : int

    Returns
    -------
    GaussianMixture
    """
    rows = rows[:_MAX_ROWS] if len(rows) > 1 else np.repeat(rows, 2, axis=0)
    best = _fit(rows, 1, seed)
    while 2 * best.n_components <= min(_MAX_COMPONENTS, len(rows) // 4):
        larger = _fit(rows, 2 * best.n_components, seed)
        if larger.bic(rows) >= best.bic(rows):
            break
        best = larger
    return best


def _fit(rows: np.ndarray, n_components: int, seed: int) -> GaussianMixture:
    # Starting from k-means is refused under array API dispatch; these rows are numpy's in any case.
    with warnings.catch_warnings(), config_context(array_api_dispatch=False):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(n_components, reg_covar=_RIDGE, random_state=seed).fit(rows)


def stacking_weights(log_densities: np.ndarray) -> np.ndarray:
    r"""Return the weights under which a mixture of given densities is likeliest.

    Expectation maximisation of :math:`\sum_i \log \sum_k w_k p_k(x_i)`, with one more row given to
    each density, so that none has weight 0.

    Parameters
    ----------
    log_densities : array of shape (n, K)
        Of n rows that no density was fitted to.

    Returns
    -------
    array of shape (K,)
    """
    n_rows, n_densities = log_densities.shape
    weights = np.full(n_densities, 1 / n_densities)
    peak = log_densities.max(1, keepdims=True)
    densities = np.exp(log_densities - peak)
    for _ in range(_EM_STEPS):
        parts = weights * densities
        weights = ((parts / parts.sum(1, keepdims=True)).sum(0) + 1) / (n_rows + n_densities)
    return weights
