"""Weights of rows: repeats, without bias, held out together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.model_selection import GridSearchCV

from skbellman import BellmanDiffusionDensity
from skbellman.reading import read_rows
from skbellman.tables import TableEncoder
from skbellman.weights import repeats_of

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"x": RNG.normal(size=60), "c": RNG.choice(["a", "b"], 60)})
QUICK = {"n_steps": 20, "width": 16, "random_state": 0}


def counts_of(weights, seed=0):
    weights = np.asarray(weights)
    repeats = repeats_of(weights, np.empty((len(weights), 1)), np.random.default_rng(seed))
    return np.bincount(repeats, minlength=len(weights))


def test_whole_weights_are_numbers_of_repeats():
    np.testing.assert_array_equal(counts_of([2, 0, 1, 5]), [2, 0, 1, 5])
    np.testing.assert_array_equal(counts_of([0.5, 0.5, 0.5]), [1, 1, 1])


def test_other_weights_are_rounded_without_bias():
    weights = np.array([0.1, 0.7, 1.4, 2.6, 0.2])
    counts = np.array([counts_of(weights, seed) for seed in range(4000)])
    assert (counts.sum(1) == 5).all()
    assert (np.abs(counts - weights) < 1).all()
    np.testing.assert_allclose(counts.mean(0), weights, atol=4 * 0.5 / 4000**0.5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kinds", [np.arange(600) % 2, np.arange(600) // 200, np.arange(600) % 3])
def test_kinds_of_rows_have_their_share_whatever_the_order_of_the_rows(kinds, seed):
    weights = np.array([0.5, 1.5, 0.1])[kinds]
    counts = np.bincount(kinds, counts_of(weights, seed))
    np.testing.assert_allclose(counts, np.bincount(kinds, weights) * 600 / weights.sum(), atol=1)


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_one_weight_are_chosen_at_random(seed):
    """Every second one of them is of another kind, and half of them are chosen."""
    weights = np.r_[np.full(600, 0.5), np.full(600, 1.5)]
    chosen = np.flatnonzero(counts_of(weights, seed)[:600])
    assert len(chosen) == pytest.approx(300, abs=1)
    assert (chosen % 2).mean() == pytest.approx(0.5, abs=4 * 0.5 / 300**0.5)


def test_relative_weights_may_be_as_small_or_large_as_floats_are():
    expected = counts_of(np.tile([0.5, 1.5], 30))
    np.testing.assert_array_equal(counts_of(np.tile([1.0, 3.0], 30) * 2.0**-1074), expected)
    large = np.r_[np.tile([0.5, 1.5], 30) * 2.0**1023, 0.5]
    assert counts_of(large).sum() == 61


@pytest.mark.parametrize(("weights", "match"), [
    (np.r_[-1.0, np.ones(59)], "[Nn]egative"),
    (np.r_[np.nan, np.ones(59)], "NaN"),
    (np.ones(59), "59"),
    (np.r_[1.0, np.zeros(59)], "fewer than two rows"),
    (np.r_[1e9 + 0.5, np.ones(59)], "no other is left"),
    (np.full(60, 189_778), "divide them by their mean"),
])  # fmt: skip
def test_weights_that_are_none_are_refused(weights, match):
    with pytest.raises(ValueError, match=match):
        BellmanDiffusionDensity(**QUICK).fit(FRAME, sample_weight=weights)


def test_repeats_of_a_row_are_held_out_together():
    origin = np.repeat(np.arange(60), RNG.integers(1, 6, 60))
    X = np.column_stack([RNG.normal(size=60), np.arange(60.0)])[origin]
    encoder = TableEncoder(dequantize=False, atom_share=1.0).fit(X)
    rows = read_rows(encoder, X, 0.2, np.random.default_rng(0), torch.device("cpu"), origin)
    held, trained = (set(part[:, 1].tolist()) for part in (rows.validation, rows.draws[0]))
    assert not held & trained
    assert len(held | trained) == 60
    assert len(rows.validation) + rows.draws.shape[1] == len(X)
    assert abs(len(rows.validation) - 0.2 * len(X)) <= 5


def test_weights_change_what_is_learned():
    # Weighted, the shares of the levels are 9 to 1; of what has weight 0 nothing is left.
    weights = np.where(FRAME["c"] == "a", 9.0, 1.0) / (FRAME["c"].map(FRAME["c"].value_counts()))
    density = BellmanDiffusionDensity(**QUICK).fit(FRAME, sample_weight=weights)
    share = np.exp(density.score_samples(pd.DataFrame({"c": ["a"]}), columns=["c"]))
    assert 0.8 < float(share[0]) < 0.97
    without = np.where(FRAME["c"] == "a", 1, 0)
    density.fit(FRAME, sample_weight=without)
    assert np.isneginf(density.score_samples(FRAME[FRAME["c"] == "b"])).all()
    assert set(density.sample(50, random_state=0)["c"]) == {"a"}


def test_weights_are_as_rows_that_are_repeated():
    weights = RNG.integers(0, 4, 60)
    weighted = BellmanDiffusionDensity(**QUICK).fit(FRAME, sample_weight=weights)
    repeated = BellmanDiffusionDensity(**QUICK).fit(FRAME.loc[FRAME.index.repeat(weights)])
    # The same encoder; the rows held out differ, and with them the networks.
    assert vars(weighted.encoder_.columns_[0]).keys() == vars(repeated.encoder_.columns_[0]).keys()
    assert weighted.encoder_.columns_[0].mean == repeated.encoder_.columns_[0].mean
    assert weighted.encoder_.columns_[0].scale == repeated.encoder_.columns_[0].scale


@pytest.mark.slow
def test_weights_are_routed_through_a_search():
    search = {"n_steps": [1]}
    with sklearn.config_context(enable_metadata_routing=True):
        density = BellmanDiffusionDensity(**QUICK).set_fit_request(sample_weight=True)
        found = GridSearchCV(density, search, cv=2).fit(FRAME, sample_weight=np.ones(60))
    assert np.isfinite(found.best_score_)
