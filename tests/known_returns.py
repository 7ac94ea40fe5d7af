"""A process whose laws of returns are known, and an estimator that learns them quickly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from skbellman import DistributionalValueEstimator

MEANS, DEVIATIONS = np.array([1.0, -1.0, 2.0]), np.array([1.0, 0.5, 0.8])
PROBABILITIES = (np.arange(400) + 0.5) / 400


def estimator(**parameters):
    return DistributionalValueEstimator(
        **{
            "gamma": 0.8,
            "n_basis": 61,
            "n_steps": 500,
            "batch_size": 128,
            "hidden_layer_sizes": (64, 64),
            "learning_rate": 2e-3,
            "random_state": 0,
        }
        | parameters
    )


def chain(n_rows=4000, scale=1.0, shift=0.0, seed=0):
    """Return transitions of 0 -> 1 -> 2 -> end, with Gaussian rewards."""
    rng = np.random.default_rng(seed)
    state = rng.integers(3, size=n_rows)
    reward = scale * (MEANS[state] + DEVIATIONS[state] * rng.standard_normal(n_rows)) + shift
    return pd.DataFrame(
        {
            "state": state,
            "reward": reward,
            "next_state": np.where(state == 2, np.nan, state + 1),
            "terminated": state == 2,
        }
    )


def numbered(table):
    """Return transitions whose states are numbers, which networks take."""
    return table.astype({"state": float, "next_state": float})


def chain_laws(gamma, scale=1.0, shift=0.0):
    """Return the exact laws of the chain's returns, Gaussian."""
    discounts = [gamma ** np.arange(3 - z) for z in range(3)]
    means = [d @ (scale * MEANS[z:] + shift) for z, d in enumerate(discounts)]
    variances = [d**2 @ (scale * DEVIATIONS[z:]) ** 2 for z, d in enumerate(discounts)]
    return stats.norm(np.array(means)[:, None], np.sqrt(variances)[:, None])


def distances(value, laws, states=(0, 1, 2)):
    """Return W1 to the exact laws, in their deviations."""
    quantiles = value.quantile(np.array(states), q=PROBABILITIES)
    return np.abs(quantiles - laws.ppf(PROBABILITIES)).mean(1) / laws.std()[:, 0]
