"""Answers of one law of returns agree with one another, for every law that the API returns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from known_returns import chain, estimator, numbered

from skbellman import ImprovedReturns, MixtureOfReturns, RescaledReturns, SumOfReturns

# Even ranks, dense at both ends: 2000 in all.
RANKS = (np.arange(2000) + 0.5) / 2000


def ending(rewards):
    """Return steps of two states that end at once with one of the rewards, or twice it."""
    table = pd.DataFrame({"state": 0, "reward": np.asarray(rewards, float), "next_state": 0})
    other = table.assign(state=1, reward=2 * table.reward)
    return pd.concat([table, other], ignore_index=True).assign(terminated=True)


def rare_loss(seed=0):
    """Return steps of two states that pay 0 or 1, and end with a loss of 30 once in 50 steps."""
    rng = np.random.default_rng(seed)
    state, ends = rng.integers(2, size=4000), rng.random(4000) < 0.02
    return pd.DataFrame(
        {"state": state, "reward": np.where(ends, -30.0, state), "next_state": 1 - state}
    ).assign(terminated=ends)


def choice():
    """Return steps of two states in which one action is safe, and the other daring."""
    first = pd.DataFrame({"action": ["safe", "daring", "daring"], "reward": [1.0, 5.0, -4.0]})
    both = pd.concat([first.assign(state=0), first.assign(state=1, reward=2 * first.reward)])
    return both.assign(next_state=1, terminated=[False] * 3 + [True] * 3).reset_index(drop=True)


FITS = {
    "normal": lambda: estimator().fit(chain()),
    "one value": lambda: estimator().fit(ending([3.0])),
    "always 0": lambda: estimator().fit(ending([0.0])),
    "a rare atom at the bound": lambda: estimator().fit(ending([0.0] * 99 + [1.0])),
    "a frequent atom at the bound": lambda: estimator().fit(ending([0.0] + [-1.0] * 49)),
    "both bounds": lambda: estimator().fit(ending([-1.0] * 3 + [1.0])),
    "huge": lambda: estimator().fit(ending([0.0, 1e200, 3e200])),
    "a rare loss": lambda: estimator(n_basis=101).fit(rare_loss()),
    "greedy": lambda: estimator(policy="greedy").fit(choice()),
    "uniform policy": lambda: estimator(policy=np.full((2, 2), 0.5)).fit(choice()),
    "network": lambda: estimator().fit(numbered(chain())),
    "network at its bounds": lambda: estimator(n_steps=1500).fit(
        numbered(ending([0.0] * 9 + [1.0]))
    ),
    "networks of the paper": lambda: estimator(form="networks", n_steps=100).fit(chain(500)),
}
MADE = {
    "turned": lambda fit: RescaledReturns(fit("a rare atom at the bound"), scale=-2.0),
    "mixture": lambda fit: MixtureOfReturns(
        [fit("normal"), fit("a frequent atom at the bound"), fit("one value")], [1, 2, 3]
    ),
    "mixture of equal atoms": lambda fit: MixtureOfReturns(
        [fit("one value"), RescaledReturns(fit("one value"), scale=0.3)], [1, 1]
    ),
    "mixture of turned atoms": lambda fit: MixtureOfReturns(
        [RescaledReturns(fit("a rare atom at the bound"), scale=s) for s in (-0.3, 1 / 3)], [1, 1]
    ),
    "improved": lambda fit: ImprovedReturns(fit("greedy"), risk=("cvar", 0.2)),
    "sum": lambda fit: SumOfReturns([fit("normal"), fit("a rare atom at the bound")]),
    "sum of huge": lambda fit: SumOfReturns([fit("huge")] * 2),
    "sum of atoms": lambda fit: SumOfReturns([fit("one value"), fit("always 0")]),
    "nested": lambda fit: RescaledReturns(
        MixtureOfReturns(
            [SumOfReturns([fit("both bounds"), fit("network")]), SumOfReturns([fit("greedy")] * 2)],
            [3, 1],
        ),
        scale=-0.7,
    ),
}


@pytest.fixture(scope="module")
def fit():
    """Return a function from names to fitted estimators, each fitted once."""
    known = {}

    def by_name(name):
        if name not in known:
            known[name] = FITS[name]()
        return known[name]

    return by_name


SLOW = {"network at its bounds", "networks of the paper"}
NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in [*FITS, *MADE]]


@pytest.mark.parametrize("name", NAMES)
def test_answers_of_a_law_agree(fit, name):
    law = fit(name) if name in FITS else MADE[name](fit)
    states = np.array([0.0, 1.0]) if "network" in name else [0, 1]
    if name.startswith("sum") or name == "nested":
        states = [states, states]
    mean, std = law.predict(states), law.std(states)
    # Of laws of one value, the rest is rounding.
    unit = std + 1e-9 * np.abs(mean) + 1e-300
    returns = law.quantile(states, q=RANKS)
    assert (np.diff(returns) >= 0).all()
    np.testing.assert_allclose((returns.mean(1) - mean) / unit, 0, atol=0.002)
    np.testing.assert_allclose((returns / unit[:, None]).std(1) - std / unit, 0, atol=0.01)
    for alpha in (0.01, 0.1, 0.6, 1.0):
        worst = law.quantile(states, q=alpha * RANKS).mean(1)
        np.testing.assert_allclose((law.cvar(states, alpha=alpha) - worst) / unit, 0, atol=0.003)
    np.testing.assert_allclose(
        law.interval(states, coverage=0.8), law.quantile(states, q=[0.1, 0.9]), rtol=1e-12
    )
    some = RANKS[50:-50:100]
    at = law.quantile(states, q=some)
    room = 1e-6 * unit[:, None]
    assert (law.cdf(states, returns=at + room) >= some - 1e-5).all()
    assert (law.cdf(states, returns=at - room) <= some + 1e-5).all()
    drawn = law.sample(states, n_samples=4000, random_state=0)
    share = (drawn[:, None, :] <= (at + room)[:, :, None]).mean(-1)
    known = law.cdf(states, returns=at + room)
    np.testing.assert_allclose(share, known, atol=4 * np.sqrt(0.25 / 4000))
