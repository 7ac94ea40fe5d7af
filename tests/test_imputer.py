from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from skbellman import BellmanDiffusionDensity, BellmanImputer

TINY = BellmanDiffusionDensity(n_steps=1, width=8, depth=1, n_levels=10)
RNG = np.random.default_rng(0)
N = 300


def table() -> tuple[pd.DataFrame, pd.DataFrame]:
    x = RNG.normal(size=N)
    whole = pd.DataFrame(
        {
            "x": x,
            "y": 0.8 * x + 0.6 * RNG.normal(size=N),
            "n": pd.array(RNG.poisson(4, N), dtype="Int64"),
            "c": np.where(RNG.random(N) < 0.7, "often", "seldom"),
        },
        index=RNG.permutation(N),
    )
    return whole, whole.mask(RNG.random(whole.shape) < 0.2)


WHOLE, GAPS = table()


@pytest.fixture(scope="module")
def fitted():
    return BellmanImputer(BellmanDiffusionDensity(n_steps=60, width=16), random_state=0).fit(GAPS)


def missing_at_random(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return x, y = 0.8 x + noise of 0.6 and c with logit 2 x, whole and with gaps told by x.

    Given x, c says nothing of y.
    """
    rng = np.random.default_rng(1)
    x = rng.normal(size=n)
    plus = rng.random(n) < expit(2 * x)
    whole = pd.DataFrame(
        {"x": x, "y": 0.8 * x + 0.6 * rng.normal(size=n), "c": np.where(plus, "plus", "minus")}
    )
    gaps = whole.copy()
    gaps.loc[rng.random(n) < expit(2 * x), "y"] = np.nan
    gaps.loc[rng.random(n) < expit(-1.5 * x - 1), "c"] = None
    return whole, gaps


@pytest.fixture(scope="module")
def filled_at_random():
    """Return the table with gaps, and 199 draws of it: numbers y, and whether c is "plus"."""
    gaps = missing_at_random(1500)[1]
    density = BellmanDiffusionDensity(n_steps=300, width=64, conditional_fraction=1.0)
    imputer = BellmanImputer(density, random_state=0).fit(gaps)
    asked = gaps[gaps.isna().any(axis=1)][:200]
    tables = imputer.complete(asked, 199)
    y = np.stack([filled.y for filled in tables])
    plus = np.stack([filled.c == "plus" for filled in tables])
    return asked, y, plus


@pytest.mark.slow
def test_numbers_missing_at_random_have_the_exact_conditional_law(filled_at_random):
    asked, y, _ = filled_at_random
    gaps = asked.y.isna()
    y, mean = np.sort(y[:, gaps], axis=0), 0.8 * asked.x[gaps]
    # The observed y lie at lower x: a law that ignores x has their mean.
    assert np.abs(y.mean(0) - mean).mean() < 0.08
    assert np.polyfit(asked.x[gaps], y.mean(0), 1) == pytest.approx([0.8, 0.0], abs=0.06)
    # Between ranks 10 and 190 of 199: 90% of the law. How much of it they cover is known exactly.
    covered = norm(mean, 0.6).cdf(y[189]) - norm(mean, 0.6).cdf(y[9])
    assert 0.88 < covered.mean() < 0.92


@pytest.mark.slow
def test_categories_missing_at_random_have_the_exact_probabilities(filled_at_random):
    asked, _, plus = filled_at_random
    gaps = asked.c.isna()
    share, exact = plus[:, gaps].mean(0), expit(2 * asked.x[gaps])
    assert np.abs(share - exact).mean() < 0.07
    assert share.mean() == pytest.approx(exact.mean(), abs=0.05)


@pytest.mark.slow
# One of the checks makes a table with redundant columns.
@pytest.mark.filterwarnings("ignore:Columns .* are linear functions:UserWarning")
@parametrize_with_checks([BellmanImputer(TINY, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_parameters_are_validated():
    check_param_validation("BellmanImputer", BellmanImputer(TINY))


@pytest.mark.parametrize("statistic", ["draw", "mean", "median"])
def test_gaps_are_filled_and_the_rest_is_as_it_was(fitted, statistic):
    filled = fitted.set_params(statistic=statistic, n_draws=7).transform(GAPS)
    assert not filled.isna().any(axis=None)
    assert filled.index.equals(GAPS.index)
    assert filled.dtypes.equals(GAPS.dtypes)
    for name in GAPS:
        present = GAPS[name].notna()
        assert (filled[name][present] == GAPS[name][present]).all()
    pd.testing.assert_frame_equal(filled, fitted.transform(GAPS))


def test_the_density_learns_nothing_but_conditionals_unless_one_is_given(fitted):
    default = BellmanImputer(random_state=0).fit(GAPS[["x", "y"]][:30])
    assert default.density_.conditional_fraction == 1
    assert fitted.density_.conditional_fraction == BellmanDiffusionDensity().conditional_fraction


def test_means_are_nearer_than_draws_and_draws_keep_the_spread(fitted):
    gaps = GAPS["y"].isna() & GAPS["x"].notna()
    filled = {
        s: fitted.set_params(statistic=s, n_draws=50).transform(GAPS)["y"][gaps]
        for s in ("draw", "mean")
    }
    errors = {s: (y - WHOLE["y"][gaps]).abs().mean() for s, y in filled.items()}
    expected = 0.8 * WHOLE["x"][gaps]
    assert errors["mean"] < errors["draw"]
    assert (filled["mean"] - expected).abs().mean() < 0.25
    assert (filled["draw"] - expected).std() == pytest.approx(0.6, abs=0.2)


def test_completed_tables_differ_where_there_were_gaps(fitted):
    one, two = fitted.complete(GAPS, 2)
    gaps = GAPS["x"].isna()
    assert (one["x"][gaps] != two["x"][gaps]).all()
    assert (one["x"][~gaps] == two["x"][~gaps]).all()
    with pytest.raises(ValueError, match="n_tables"):
        fitted.complete(GAPS, 0)


def test_repeated_rows_fill_each_others_gaps():
    rows = pd.DataFrame(np.repeat(RNG.normal(size=(100, 5)), 2, axis=0), columns=list("abcde"))
    rows["c"] = pd.Series(rows["c"] > 0).map({True: "more", False: "less"})
    gaps = rows.mask(RNG.random(rows.shape) < 0.15)
    known = gaps.isna() & gaps.notna().to_numpy().reshape(100, 2, 5)[:, ::-1].reshape(200, 5)
    right = {}
    for repeated_rows in (True, False):
        imputer = BellmanImputer(TINY, repeated_rows=repeated_rows, random_state=0).fit(gaps)
        filled = imputer.transform(gaps)
        assert not filled.isna().any(axis=None)
        right[repeated_rows] = (filled == rows)[known.drop(columns="c")].stack().mean()
        pd.testing.assert_frame_equal(filled, pickle.loads(pickle.dumps(imputer)).transform(gaps))
    assert right[True] > 0.9
    assert right[False] < 0.1


def test_a_fit_that_is_interrupted_while_rows_are_compared_keeps_the_density(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    imputer = BellmanImputer(TINY, random_state=0)
    with monkeypatch.context() as patch:
        patch.setattr("skbellman.imputer.RepeatedRows", interrupted)
        with pytest.warns(RuntimeWarning, match="interrupted while rows were compared"):
            imputer.fit(GAPS)
    without = BellmanImputer(TINY, random_state=0, repeated_rows=False).fit(GAPS)
    pd.testing.assert_frame_equal(imputer.transform(GAPS), without.transform(GAPS))


def test_it_is_a_step_of_a_pipeline_and_names_its_columns(fitted):
    assert list(fitted.get_feature_names_out()) == list(GAPS.columns)
    numbers = GAPS[["x", "y"]].to_numpy()
    pipeline = make_pipeline(BellmanImputer(TINY, random_state=0), LinearRegression())
    pipeline.set_output(transform="pandas")
    assert pipeline.fit(numbers, WHOLE["x"]).predict(numbers).shape == (N,)


def test_a_new_category_is_refused(fitted):
    with pytest.raises(ValueError, match="'c' holds 'new'"):
        fitted.transform(GAPS.assign(c="new"))
