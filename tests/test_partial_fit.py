"""Rows that come later: an exact mixture of fits, and one network again."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skbellman import BellmanDiffusionDensity

QUICK = {"n_steps": 30, "width": 16, "n_nodes": 8, "random_state": 0}


def rows(seed, n_rows=90):
    rng = np.random.default_rng(seed)
    c = rng.choice(["a", "b"], n_rows)
    return pd.DataFrame({"x": rng.normal(size=n_rows) + seed * (c == "a"), "c": c})


@pytest.fixture(scope="module")
def parts():
    """Return a density of both tables, and one of each with the encoder of the first."""
    first, second = rows(0), rows(3, 30)
    both = BellmanDiffusionDensity(**QUICK).partial_fit(first)
    alone = [BellmanDiffusionDensity(**QUICK).fit(first)]
    alone.append(clone(alone[0]).set_params(encoder=both.encoder_).fit(second))
    return both.partial_fit(second), alone


def test_the_first_call_is_a_fit_and_the_next_a_mixture(parts):
    both, alone = parts
    assert both.n_samples_seen_ == 120
    X = rows(5)
    logs = [part.score_samples(X) for part in alone]
    expected = np.logaddexp(logs[0] + np.log(0.75), logs[1] + np.log(0.25))
    np.testing.assert_allclose(both.score_samples(X), expected, atol=1e-6)
    given = [part.score_samples(X, columns=["x"]) for part in alone]
    marginal = np.logaddexp(given[0] + np.log(0.75), given[1] + np.log(0.25))
    np.testing.assert_allclose(both.score_samples(X, columns=["x"]), marginal, atol=1e-6)
    joint = both.score_samples(X, given=["x"])
    # The marginal is its column's own law; the conditional is what few steps have learned.
    np.testing.assert_allclose(joint, expected - marginal, atol=0.4)
    assert both.measure_ == alone[0].measure_
    again = pickle.loads(pickle.dumps(both))
    np.testing.assert_array_equal(again.score_samples(X), both.score_samples(X))


def test_draws_are_of_all_rows(parts):
    both, alone = parts
    drawn = both.sample(4000, random_state=0)
    shares = [np.exp(p.score_samples(rows(0)[:1].assign(c="a"), columns=["c"])) for p in alone]
    share = float(0.75 * shares[0][0] + 0.25 * shares[1][0])
    assert abs((drawn["c"] == "a").mean() - share) < 4 * (share * (1 - share) / 4000) ** 0.5 + 0.03


def test_what_does_not_fit_leaves_the_density_as_it_was(parts):
    both, X = pickle.loads(pickle.dumps(parts[0])), rows(1)
    before = both.score_samples(X)
    with pytest.raises(ValueError, match="'c' holds 'z'"):
        both.partial_fit(X.assign(c="z"))
    with pytest.raises(ValueError, match=r"sigma_min=0\.1 differs from that of the first rows"):
        both.set_params(sigma_min=0.1).partial_fit(X)
    with pytest.raises(ValueError, match="feature names"):
        both.set_params(sigma_min=0.01).partial_fit(X[["c", "x"]])
    np.testing.assert_array_equal(both.score_samples(X), before)
    assert both.n_samples_seen_ == 120


@pytest.mark.slow
def test_one_network_is_learned_from_the_mixture_alone():
    rng = np.random.default_rng(0)
    left, right = (rng.normal(m, 0.5, size=(300, 2)) for m in (-2.0, 2.0))
    density = BellmanDiffusionDensity(n_steps=150, width=32, n_nodes=8, random_state=0)
    density.partial_fit(left).partial_fit(right)
    one = density.consolidated(random_state=0)
    held_out = np.r_[rng.normal(-2.0, 0.5, size=(100, 2)), rng.normal(2.0, 0.5, size=(100, 2))]
    assert abs(one.score(held_out) - density.score(held_out)) < 0.1
    assert len(one.field_.fields) == 2  # networks and a closed form: no mixture of mixtures
    assert one.n_samples_seen_ == 600


@pytest.mark.parametrize(
    ("first", "more", "shown"),
    [
        (np.arange(300) % 6, np.arange(300) % 10, "has 120 values beyond.*such as 9"),
        (np.linspace(0.01, 5, 300), np.linspace(-1, 4, 300), "has 60 values beyond.*such as -1"),
    ],
)
def test_values_that_the_first_rows_exclude_are_said(first, more, shown):
    """Bounds are those of the first rows: added values beyond them are not silently others."""
    density = BellmanDiffusionDensity(n_steps=2, width=8, random_state=0)
    density.fit(pd.DataFrame({"k": first}))
    with pytest.warns(UserWarning, match=f"Column 'k' {shown}"):
        density.partial_fit(pd.DataFrame({"k": more}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        density.partial_fit(pd.DataFrame({"k": first}))
