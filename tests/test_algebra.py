"""Each operation on densities against its closed form."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from exact import ExactDensity, first, rows, second
from joblib import parallel_config
from numpydoc.validate import validate
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KernelDensity

import skbellman.algebra
from skbellman import BellmanDiffusionDensity, ShardedDensity
from skbellman.algebra import (
    Estimate,
    compare,
    difference,
    mixture,
    rescale,
    reweight,
)
from skbellman.algebra.base import Density
from skbellman.fields import GaussianMixtureField, Mixture
from skbellman.tables import TableEncoder, same_measure
from skbellman.tables.measures import AtomsBeside, ColumnMeasure, Levels

EXACT = {"rtol": 0, "atol": 1e-12}


def assert_within(estimate, expected, n_errors=4.0):
    assert estimate.standard_error > 0
    assert abs(estimate.value - expected) <= n_errors * estimate.standard_error


def assert_frequency(hits, probability):
    error = np.sqrt(probability * (1 - probability) / len(hits))
    assert abs(np.mean(hits) - probability) <= 4 * error


def normal(mean, deviation=1.0):
    """Return a density whose number x alone differs from another's: x ~ N(mean, deviation^2)."""
    covariance = np.diag([deviation**2, 1.0])
    shares = {"a": 0.5, "b": 0.5}
    means, covariances = {c: [mean, 0.0] for c in "ab"}, dict.fromkeys("ab", covariance)
    return ExactDensity(shares, means, covariances)


# Mixtures.


@pytest.mark.parametrize("columns", [None, ["x"], ["c"], ["y", "c"]])
def test_mixture_scores_the_weighted_sum_of_densities(columns):
    X, (p, q) = rows(), (first(), second())
    expected = np.log(
        0.75 * np.exp(p.score_samples(X, columns=columns))
        + 0.25 * np.exp(q.score_samples(X, columns=columns))
    )
    mixed = mixture([p, q], weights=[3, 1])
    np.testing.assert_allclose(mixed.score_samples(X, columns=columns), expected, **EXACT)


@pytest.mark.parametrize("given", [["c"], ["x"], ["y", "c"]])
def test_conditional_of_a_mixture_is_joint_less_marginal(given):
    X, mixed = rows(), mixture([first(), second()], weights=[3, 1])
    expected = mixed.score_samples(X) - mixed.score_samples(X, columns=given)
    np.testing.assert_allclose(mixed.score_samples(X, given=given), expected, **EXACT)


def test_mixture_integrates_out_what_a_row_lacks():
    X = rows()
    X.loc[0, "x"], X.loc[1, "c"] = np.nan, None
    mixed = mixture([first(), second()])
    scores = mixed.score_samples(X)
    np.testing.assert_allclose(scores[0], mixed.score_samples(X, columns=["y", "c"])[0], **EXACT)
    np.testing.assert_allclose(scores[1], mixed.score_samples(X, columns=["x", "y"])[1], **EXACT)


def test_conditional_asks_no_part_that_lacks_the_condition():
    a_alone = reweight(first(), "c", {"a": 1.0})
    mixed, X = mixture([a_alone, second()], weights=[1, 1]), rows().assign(c="b")
    np.testing.assert_allclose(
        mixed.score_samples(X, given=["c"]), second().score_samples(X, given=["c"]), **EXACT
    )
    with pytest.raises(ValueError, match=r"row 0 has zero density in \['c'\]"):
        mixture([a_alone, a_alone]).score_samples(X, given=["c"])


def test_mixture_draws_each_part_by_its_weight():
    mixed = mixture([normal(-50.0), normal(50.0)], weights=[3, 1])
    drawn = mixed.sample(800, random_state=0)
    from_second = drawn["x"].to_numpy() > 0
    assert_frequency(from_second, 0.25)
    assert drawn.index.equals(pd.RangeIndex(800))
    assert 0.1 < from_second[:400].mean() < 0.4  # shuffled, not one part after another
    pd.testing.assert_frame_equal(drawn, mixed.sample(800, random_state=0))


@pytest.mark.parametrize("as_table", [False, True])
def test_conditional_draws_take_the_part_by_what_is_given(as_table):
    mixed = mixture([first(), second()], weights=[1, 1])
    given = {"x": 2.0}
    if as_table:
        drawn = mixed.sample(800, random_state=0, given=pd.DataFrame({"x": [2.0], "c": [None]}))
    else:
        drawn = mixed.sample(800, random_state=0, given=given)
    both = pd.DataFrame({"x": [2.0], "c": ["b"]})
    probability = np.exp(mixed.score_samples(both, columns=["c"], given=["x"]))[0]
    assert_frequency(drawn["c"] == "b", probability)
    assert (drawn["x"] == 2.0).all()
    # The prior of the parts would give another share: the test can tell.
    parts = [np.exp(p.score_samples(both, columns=["c"], given=["x"]))[0] for p in mixed.densities]
    assert abs(np.mean(parts) - probability) > 0.09


def test_each_condition_goes_by_what_it_holds():
    mixed = mixture([normal(-50.0), normal(50.0)], weights=[3, 1])
    given = pd.DataFrame({"x": [-49.0, 49.0, np.nan], "c": ["a", None, "b"]})
    drawn = mixed.sample(400, random_state=0, given=given)
    assert len(drawn) == 1200
    assert (drawn["x"][:400] == -49.0).all()
    assert (drawn["x"][400:800] == 49.0).all()
    assert_frequency(drawn["x"][800:] > 0, 0.25)
    assert (drawn["c"][:400] == "a").all()
    assert (drawn["c"][800:] == "b").all()
    assert_frequency(drawn["c"][400:800] == "a", 0.5)


def test_results_nest():
    p, q = first(), second()
    nested = mixture([mixture([p, q], [1, 1]), q], [2, 1])
    flat = mixture([p, q], [1, 2])
    X = rows()
    np.testing.assert_allclose(nested.score_samples(X), flat.score_samples(X), **EXACT)
    assert nested.score(X) == pytest.approx(flat.score_samples(X).mean())
    assert list(nested.feature_names_in_) == ["x", "y", "c"]
    assert (nested.n_features_in_, nested.measure_) == (3, p.measure_)


@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 1.0]]]
)
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be 2 positive, finite numbers"):
        mixture([first(), second()], weights)
    with pytest.raises(ValueError, match="at least one density"):
        mixture([])


# Measures.


@pytest.mark.parametrize("combine", [lambda p, q: mixture([p, q]), compare])
def test_different_measures_are_refused_by_column_and_remedy(combine):
    q = second()
    q.measure_ = (
        *q.measure_[:1],
        ColumnMeasure("y", AtomsBeside((0.0,)), "numbers"),
        q.measure_[2],
    )
    with pytest.raises(
        ValueError, match=r"Column 'y' has a density on the line .*atoms at 0.0.*encoder="
    ):
        combine(first(), q)
    with pytest.raises(ValueError, match="Column 'y'"):
        difference(first(), q, 0.1)


def test_different_columns_are_refused():
    q = second()
    q.measure_ = (
        *q.measure_[:2],
        ColumnMeasure("d", Levels(("a", "b")), "categories", "categories"),
    )
    with pytest.raises(ValueError, match="Column 'c' of one table has the place of 'd'"):
        same_measure(first().measure_, q.measure_)


def test_a_grid_in_another_unit_is_that_of_the_values_in_it():
    n = np.random.default_rng(0).poisson(40, 300) / 4 + 0.05
    own, scaled = (TableEncoder().fit(pd.DataFrame({"n": v})).measure for v in (n, n * 2.54 - 1))
    assert own[0].rescaled(2.54, -1) == scaled[0]


# Prior shift.


def test_reweight_changes_the_category_and_nothing_else():
    p, X = first(), rows()
    shifted = reweight(p, "c", {"a": 0.1, "b": 0.9})
    new = X["c"].map({"a": np.log(0.1), "b": np.log(0.9)}).to_numpy()
    old = p.score_samples(X, columns=["c"])
    np.testing.assert_allclose(shifted.score_samples(X), p.score_samples(X) - old + new, **EXACT)
    np.testing.assert_allclose(shifted.score_samples(X, columns=["c"]), new, **EXACT)
    same = {"given": ["c"]}
    np.testing.assert_allclose(
        shifted.score_samples(X, **same), p.score_samples(X, **same), **EXACT
    )


def test_reweighted_marginals_and_posteriors_follow():
    p, X = first(), rows()
    shifted = reweight(p, "c", {"a": 0.1, "b": 0.9})
    given = [p.score_samples(X.assign(c=c), columns=["x"], given=["c"]) for c in "ab"]
    marginal = np.log(0.1 * np.exp(given[0]) + 0.9 * np.exp(given[1]))
    np.testing.assert_allclose(shifted.score_samples(X[["x"]], columns=["x"]), marginal, **EXACT)
    joint = shifted.score_samples(X, columns=["x", "c"])
    np.testing.assert_allclose(
        shifted.score_samples(X, columns=["c"], given=["x"]), joint - marginal, **EXACT
    )


def test_reweighted_row_without_its_category():
    shifted, X = reweight(first(), "c", {"a": 0.1, "b": 0.9}), rows()
    marginal = shifted.score_samples(X, columns=["x", "y"])
    X.loc[2, "c"] = None
    np.testing.assert_allclose(shifted.score_samples(X)[2], marginal[2], **EXACT)


def test_reweighted_draws_have_the_new_shares():
    shifted = reweight(first(), "c", {"a": 0.1, "b": 0.9})
    drawn = shifted.sample(600, random_state=0)
    assert_frequency(drawn["c"] == "a", 0.1)
    b = drawn["x"][drawn["c"] == "b"]
    assert abs(b.mean() - 3.0) < 4 * np.sqrt(0.5 / len(b))
    given = shifted.sample(300, random_state=0, given={"x": 1.5})
    posterior = shifted.score_samples(
        pd.DataFrame({"x": [1.5], "c": ["a"]}), columns=["c"], given=["x"]
    )
    assert_frequency(given["c"] == "a", np.exp(posterior[0]))
    assert set(shifted.sample(20, random_state=0, given={"c": "a"})["c"]) == {"a"}


def test_level_without_probability_has_no_density():
    X = rows()
    scores = reweight(first(), "c", {"a": 1}).score_samples(X)
    assert (np.isneginf(scores) == (X["c"] == "b")).all()


@pytest.mark.parametrize(
    ("column", "probabilities", "message"),
    [
        ("c", {"a": 0.5, "z": 0.5}, r"\['z'\], which are not levels of column 'c'"),
        ("c", {"a": 0.5, "b": 0.6}, "column 'c' .*sum must be 1"),
        ("c", {"a": 1.5, "b": -0.5}, "column 'c' must not be negative"),
        ("c", {"a": np.nan, "b": 1.0}, "column 'c' must not be negative"),
        ("x", {1.0: 1.0}, "Column 'x' holds numbers, not categories"),
        ("k", {"a": 1.0}, "'k' is not a column of the density"),
    ],
)
def test_reweight_refuses_by_name(column, probabilities, message):
    with pytest.raises(ValueError, match=message):
        reweight(first(), column, probabilities)


# Units.


def test_rescale_is_the_density_of_the_mapped_rows():
    p, X = first(), rows()
    scaled = rescale(p, {"x": (-2.5, 1.0), "y": (0.1, 0.0)})
    moved = X.assign(x=-2.5 * X["x"] + 1.0, y=0.1 * X["y"])
    log_jacobian = np.log(2.5) + np.log(0.1)
    expected = p.score_samples(X) - log_jacobian
    np.testing.assert_allclose(scaled.score_samples(moved), expected, **EXACT)
    np.testing.assert_allclose(
        scaled.score_samples(moved, columns=["x"], given=["y"]),
        p.score_samples(X, columns=["x"], given=["y"]) - np.log(2.5),
        **EXACT,
    )
    gap = moved.assign(x=np.nan)
    np.testing.assert_allclose(
        scaled.score_samples(gap), p.score_samples(X.assign(x=np.nan)) - np.log(0.1), **EXACT
    )


def test_rescale_and_back_is_the_density_itself():
    p, X = first(), rows()
    back = rescale(rescale(p, {"x": (4.0, 1.0)}), {"x": (0.25, -0.25)})
    np.testing.assert_allclose(back.score_samples(X), p.score_samples(X), **EXACT)
    assert back.measure_ == p.measure_
    drawn = rescale(p, {"x": (4.0, 1.0)}).sample(5, random_state=0)
    plain = p.sample(5, random_state=0)
    np.testing.assert_allclose(drawn["x"], 4.0 * plain["x"] + 1.0)
    np.testing.assert_array_equal(drawn["y"], plain["y"])


def test_conditions_are_read_and_kept_in_the_new_unit():
    scaled = rescale(first(), {"x": (0.1, 0.3)})
    values = np.random.default_rng(0).random(50)
    assert (0.1 * ((values - 0.3) / 0.1) + 0.3 != values).any()  # rounding would show
    drawn = scaled.sample(2, random_state=0, given=pd.DataFrame({"x": values}))
    np.testing.assert_array_equal(drawn["x"], values.repeat(2))
    for value in values[:10]:
        assert scaled.sample(1, random_state=0, given={"x": value})["x"][0] == value
    value = 0.7
    for given in ({"x": value}, pd.DataFrame({"x": [value]})):
        drawn = scaled.sample(400, random_state=0, given=given)
        row = pd.DataFrame({"x": [(value - 0.3) / 0.1], "c": ["b"]})
        assert_frequency(
            drawn["c"] == "b", np.exp(first().score_samples(row, columns=["c"], given=["x"]))[0]
        )


def test_mixture_asks_for_the_row_of_a_condition_in_its_own_unit():
    parts = [rescale(normal(mean), {"x": (2.0, 100.0)}) for mean in (0.0, 5.0)]
    mixed, given = mixture(parts, [1, 3]), pd.DataFrame({"x": [104.0], "c": ["a"]})
    shares = [0.25 * norm.pdf(2.0), 0.75 * norm.pdf(2.0, 5.0)]
    moved = [rescale(p, {"y": (1.0, 10.0 * k)}) for k, p in enumerate(parts)]
    drawn = mixture(moved, [1, 3]).sample(400, random_state=0, given={"x": 104.0})
    assert_frequency(drawn["y"] > 5.0, shares[1] / sum(shares))
    assert np.isfinite(mixed.score_samples(given, columns=["c"], given=["x"])).all()


def test_an_atom_keeps_its_probability():
    p, X = first(), rows()
    p.measure_ = (ColumnMeasure("x", AtomsBeside((0.3,)), "numbers"), *p.measure_[1:])
    X.loc[0, "x"] = 0.3
    scaled = rescale(p, {"x": (1 / 3, 0.1)})
    moved = X.assign(x=X["x"] / 3 + 0.1)
    difference_ = p.score_samples(X) - scaled.score_samples(moved)
    np.testing.assert_allclose(difference_[0], 0.0, **EXACT)
    np.testing.assert_allclose(difference_[1:], np.log(1 / 3), **EXACT)
    assert scaled.measure_[0].reference.atoms == (0.2,)


@pytest.mark.slow
def test_values_of_a_grid_keep_their_probabilities():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"n": rng.binomial(30, 0.5, 200), "x": rng.normal(size=200)})
    p = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(frame)
    scaled = rescale(p, {"n": (0.05, 0.0)})
    grid = pd.DataFrame({"n": np.arange(4, 28)})
    moved = grid * 0.05
    before = np.exp(p.score_samples(grid, columns=["n"])) * 1.0
    after = np.exp(scaled.score_samples(moved, columns=["n"])) * 0.05
    np.testing.assert_allclose(after, before)
    assert before.sum() == pytest.approx(1.0, abs=0.05)
    assert scaled.measure_[0].reference.step == 0.05
    drawn = scaled.sample(5, random_state=0, given={"n": 0.75})
    assert (drawn["n"] == 0.75).all()
    # Whole numbers of the old unit would refuse it.
    drawn = mixture([scaled, scaled]).sample(2, random_state=0, given={"n": 0.75})
    assert (drawn["n"] == 0.75).all()
    doubled = rescale(p, {"n": (2, 1)}).sample(20, random_state=0)["n"]
    assert doubled.dtype == np.int64
    assert (doubled % 2 == 1).all()


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"c": (2.0, 0.0)}, "Column 'c' holds categories, which have no unit"),
        ({"x": (0.0, 1.0)}, "column 'x' is .*other than 0"),
        ({"x": (np.inf, 1.0)}, "column 'x' is .*other than 0"),
        ({"k": (2.0, 1.0)}, "'k' is not a column"),
    ],
)
def test_rescale_refuses_by_name(units, message):
    with pytest.raises(ValueError, match=message):
        rescale(first(), units)


# Differences.

CELLS = np.linspace(-12.0, 12.0, 4801)


def integral(values):
    return float(np.trapezoid(values, CELLS))


def test_difference_has_the_constant_of_its_integral():
    p, q, weight = normal(0.0), normal(1.0, 1.5), 2.0
    rest = difference(p, q, weight, n_samples=1500, random_state=0)
    law = (1 + weight) * norm.pdf(CELLS) - weight * norm.pdf(CELLS, 1.0, 1.5)
    constant = np.log(integral(np.maximum(law, 0)))
    assert constant > 0.05  # some of the difference is negative: the constant is not 0
    assert_within(Estimate(rest.log_normaliser_, rest.log_normaliser_error_), constant)
    X = rows(50).assign(y=0.0, c="a")
    signed = 3.0 * norm.pdf(X["x"]) - 2.0 * norm.pdf(X["x"], 1.0, 1.5)
    found = rest.score_samples(X) + rest.log_normaliser_ - np.log(0.5 * norm.pdf(0.0))
    assert (signed < 0).any()
    np.testing.assert_array_equal(np.isneginf(found), signed <= 0)
    np.testing.assert_allclose(np.exp(found), np.maximum(signed, 0), **EXACT)
    np.testing.assert_allclose(rest.log_ratio(X), p.score_samples(X) - q.score_samples(X))


def test_difference_draws_where_it_is_positive():
    p, q, weight = normal(0.0), normal(1.0, 1.5), 2.0
    rest = difference(p, q, weight, n_samples=200, random_state=0)
    law = np.maximum(3.0 * norm.pdf(CELLS) - 2.0 * norm.pdf(CELLS, 1.0, 1.5), 0)
    probability = integral(np.where(CELLS < -0.5, law, 0.0)) / integral(law)
    drawn = rest.sample(500, random_state=0)
    assert len(drawn) == 500
    assert np.isfinite(rest.score_samples(drawn)).all()
    assert_frequency(drawn["x"] < -0.5, probability)
    given = rest.sample(250, random_state=0, given=pd.DataFrame({"c": ["a", "b"]}))
    assert given["c"].tolist() == ["a"] * 250 + ["b"] * 250
    assert_frequency(given["x"] < -0.5, probability)
    assert np.isfinite(rest.score_samples(given)).all()


def test_small_difference_is_exact():
    p = normal(0.0)
    rest = difference(p, p, 0.5, n_samples=20, random_state=0)
    X = rows()
    np.testing.assert_allclose(rest.score_samples(X), p.score_samples(X), **EXACT)


def test_difference_refuses():
    p, q = normal(0.0), normal(5.0)
    with pytest.raises(ValueError, match=r"lower the weight, raise n_samples"):
        difference(q, mixture([q, normal(5.0, 1.02)]), 1e9, n_samples=200, random_state=0)
    with pytest.raises(ValueError, match="weight must be a finite number above 0"):
        difference(p, q, -1.0)
    rest = difference(p, q, 1.0, n_samples=20, random_state=0)
    with pytest.raises(ValueError, match="no marginals in closed form"):
        rest.score_samples(rows(), columns=["x"])
    with pytest.raises(ValueError, match="Column 'c' has missing values"):
        rest.score_samples(rows().assign(c=None))
    with pytest.raises(ValueError, match="samples were accepted"):
        compare(p, p).sample_excess(1, random_state=0)


# Comparisons.


def test_distances_are_the_integrals():
    a, b = normal(0.0), normal(1.0, 1.5)
    p, q = norm.pdf(CELLS), norm.pdf(CELLS, 1.0, 1.5)
    middle = (p + q) / 2
    comparison = compare(a, b)
    assert_within(comparison.total_variation(800, 0), integral(np.abs(p - q)) / 2)
    assert_within(comparison.kl(800, 0), integral(p * np.log(p / q)))
    shannon = (integral(p * np.log(p / middle)) + integral(q * np.log(q / middle))) / 2
    assert_within(comparison.jensen_shannon(800, 0), shannon)
    # Narrow enough to tell the distances from one another.
    assert comparison.total_variation(800, 0).standard_error < 0.02


def test_distances_of_densities_apart():
    comparison = compare(reweight(first(), "c", {"a": 1}), reweight(first(), "c", {"b": 1}))
    assert comparison.total_variation(20, 0).value == 1.0
    assert comparison.kl(20, 0).value == np.inf
    assert comparison.jensen_shannon(20, 0).value == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="at least 2"):
        comparison.kl(1)


def test_gradient_of_the_log_ratio():
    a, b, X = normal(0.0), normal(1.0, 1.5), rows()
    X.loc[2, "x"] = np.nan
    gradient = compare(a, b).gradient(X)
    assert list(gradient.columns) == ["x", "y"]
    expected = -X["x"] + (X["x"] - 1.0) / 1.5**2
    np.testing.assert_allclose(gradient["x"], expected, atol=1e-6)
    np.testing.assert_allclose(gradient["y"], 0.0, atol=1e-6)
    wide = compare(a, b).gradient(X, step={"x": 0.5})
    np.testing.assert_allclose(wide["x"], expected, atol=1e-6)  # a parabola has exact differences
    np.testing.assert_allclose(
        compare(a, b).log_ratio(X, columns=["x"]),
        a.score_samples(X, columns=["x"]) - b.score_samples(X, columns=["x"]),
    )


def test_excess_rows_come_from_where_the_first_is_higher():
    a, b = normal(0.0), normal(1.0, 1.5)
    drawn = compare(a, b).sample_excess(300, random_state=0)
    p, q = norm.pdf(CELLS), norm.pdf(CELLS, 1.0, 1.5)
    excess = np.maximum(p - q, 0)
    assert (compare(a, b).log_ratio(drawn) > 0).all()
    probability = integral(np.where(CELLS < -0.5, excess, 0)) / integral(excess)
    assert_frequency(drawn["x"] < -0.5, probability)


# With fitted densities.


def table(n_rows=120, seed=0):
    rng = np.random.default_rng(seed)
    c = rng.choice(["u", "v"], size=n_rows)
    return pd.DataFrame({"x": rng.normal(size=n_rows) + (c == "v"), "c": c})


@pytest.fixture(scope="module")
def estimator():
    encoder = TableEncoder().fit(table(300, seed=9))
    return BellmanDiffusionDensity(
        n_steps=1, width=8, depth=1, n_nodes=4, n_levels=5, encoder=encoder
    )


@pytest.fixture(scope="module")
def sharded(estimator):
    return ShardedDensity(estimator, n_shards=3, random_state=0).fit(table())


def test_mixture_of_exact_fields_is_one_field_of_both():
    X = np.random.default_rng(0).normal(size=(60, 2))
    p = BellmanDiffusionDensity(n_steps=2, width=8, n_nodes=32, random_state=0).fit(X)
    q = clone(p).set_params(encoder=p.encoder_).fit(X)
    gaussians = [
        GaussianMixtureField.normal(torch.tensor(mean), torch.tensor(covariance))
        for mean, covariance in (
            ([0.5, 0.0], [[0.4, 0.1], [0.1, 0.3]]),
            ([-0.8, 0.3], [[0.2, 0.0], [0.0, 0.9]]),
        )
    ]
    p.field_, q.field_ = (Mixture([g], torch.ones(1)) for g in gaussians)
    mixed = mixture([p, q], weights=[0.3, 0.7])
    one = pickle.loads(pickle.dumps(p))
    one.field_ = Mixture(gaussians, torch.tensor([0.3, 0.7]))
    for asked in ({}, {"columns": [1]}, {"given": [0]}):
        found, expected = mixed.score_samples(X, **asked), one.score_samples(X, **asked)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    drawn = mixed.sample(300, random_state=0, given=np.array([[X[0, 0], np.nan]]))
    assert drawn.shape == (300, 2)
    assert (drawn[:, 0] == X[0, 0]).all()
    assert (mixed.sample(3, random_state=0, given={0: 0.1})[:, 0] == 0.1).all()


def test_operations_on_fitted_densities(estimator):
    X = table()
    p, q = clone(estimator).fit(X[:60]), clone(estimator).fit(X[60:])
    shifted = reweight(p, "c", {"u": 0.9, "v": 0.1})
    new = X["c"].map({"u": np.log(0.9), "v": np.log(0.1)})
    np.testing.assert_allclose(
        shifted.score_samples(X), p.score_samples(X, given=["c"]) + new, atol=1e-9
    )
    assert_frequency(shifted.sample(200, random_state=0)["c"] == "u", 0.9)
    both = mixture([rescale(p, {"x": (2.0, 0.0)}), rescale(q, {"x": (2.0, 0.0)})])
    both = pickle.loads(pickle.dumps(both))
    drawn = both.sample(6, random_state=0, given=pl.DataFrame({"c": ["u", None, "v"]}))
    assert isinstance(drawn, pd.DataFrame)
    assert drawn["c"].tolist()[:2] == ["u", "u"]
    assert np.isfinite(both.score_samples(pl.from_pandas(drawn))).all()
    gradient = compare(p, q).gradient(pl.from_pandas(X[:3]))
    assert isinstance(gradient, pl.DataFrame)
    assert gradient.columns == ["x"]


def test_forgotten_shard_was_never_there(estimator, sharded):
    X, scores = table(seed=5), {}
    dropped = pickle.loads(pickle.dumps(sharded)).forget(1)
    parts = {key: table()[sharded.row_keys_ == key] for key in (0, 2)}
    never = ShardedDensity(estimator, random_state=0).fit(parts)
    assert dropped.keys_ == never.keys_ == [0, 2]
    for name, density in (("dropped", dropped), ("never", never), ("with", sharded)):
        scores[name] = density.score_samples(X)
    np.testing.assert_array_equal(scores["dropped"], scores["never"])  # bit for bit
    assert (scores["with"] != scores["never"]).any()
    pd.testing.assert_frame_equal(dropped.sample(20, 0), never.sample(20, 0))
    np.testing.assert_array_equal(
        dropped.score_samples(X, given=["c"]), never.score_samples(X, given=["c"])
    )


def test_shards_are_weighted_by_their_rows(estimator, sharded):
    X = table(seed=5)
    assert np.bincount(sharded.row_keys_).tolist() == sharded.n_rows_.tolist() == [40, 40, 40]
    more = pickle.loads(pickle.dumps(sharded)).add(table(60, seed=6))
    assert more.keys_ == [0, 1, 2, 3]
    np.testing.assert_allclose(more.weights_, np.array([40, 40, 40, 60]) / 180)
    expected = mixture([sharded, more.parts_[3]], [120, 60]).score_samples(X)
    np.testing.assert_allclose(more.score_samples(X), expected, **EXACT)
    again = more.forget(3)
    np.testing.assert_array_equal(again.score_samples(X), sharded.score_samples(X))
    assert {part.encoder_.names[0] for part in more.parts_} == {"x"}
    assert sharded.encoder_ is not None
    same_measure(sharded.measure_, more.measure_)


@pytest.mark.slow
def test_seed_of_a_shard_is_its_own(estimator):
    rows_ = table(40)
    density = ShardedDensity(estimator, random_state=0).fit({"a": rows_, "b": rows_})
    other = ShardedDensity(estimator, random_state=0).fit({"b": rows_, "a": rows_})
    scores = [part.score_samples(rows_) for part in density.parts_]
    assert (scores[0] != scores[1]).any()
    np.testing.assert_array_equal(other.parts_[0].score_samples(rows_), scores[1])
    reseeded = ShardedDensity(estimator, random_state=1).fit({"a": rows_})
    assert (reseeded.parts_[0].score_samples(rows_) != scores[0]).any()


def one_table():
    return table(40)


@pytest.mark.slow
def test_parts_of_any_kind_are_read_alike(estimator, tmp_path):
    table(40).to_parquet(tmp_path / "part.parquet")
    lazy = pl.from_pandas(table(40)).lazy()
    kinds = [table(40), str(tmp_path / "part.parquet"), one_table, lazy]
    fits = [ShardedDensity(estimator, random_state=0).fit([kind]) for kind in kinds]
    fits.append(ShardedDensity(estimator, random_state=0).fit(part for part in [table(40)]))
    for density in fits:
        assert density.keys_ == [0]
        np.testing.assert_array_equal(
            density.score_samples(table(5)), fits[0].score_samples(table(5))
        )
    assert not hasattr(fits[0], "row_keys_")


def test_parts_are_scored_one_after_another(sharded, tmp_path):
    table(5).to_parquet(tmp_path / "part.parquet")
    scores = sharded.score_samples([tmp_path / "part.parquet", table(4, seed=1)], given=["c"])
    expected = [sharded.score_samples(t, given=["c"]) for t in (table(5), table(4, seed=1))]
    np.testing.assert_array_equal(scores, np.concatenate(expected))
    with pytest.raises(ValueError, match="no part to score"):
        sharded.score_samples(iter(()))


def test_encoder_is_decided_once_by_the_first_part(estimator):
    free = clone(estimator).set_params(encoder=None)
    density = ShardedDensity(free, random_state=0).fit([table(40), table(40, seed=1)])
    assert density.parts_[0].measure_ == density.parts_[1].measure_ == density.measure_
    assert free.encoder is None
    with pytest.raises(ValueError, match="Column 'c' holds 'z', which was not in the fitted table"):
        density.add(table(40).assign(c="z"))
    assert density.keys_ == [0, 1]


@pytest.mark.slow
def test_shards_know_scikit_learn(estimator, sharded):
    copy = clone(sharded)
    assert copy.get_params()["estimator__n_steps"] == 1
    with pytest.raises(Exception, match="not fitted"):
        copy.score_samples(table())
    with pytest.raises(ValueError, match="n_shards"):
        ShardedDensity(n_shards=0).fit(table())
    refit = clone(sharded).fit(table())
    np.testing.assert_array_equal(refit.score_samples(table()), sharded.score_samples(table()))
    assert list(refit.feature_names_in_) == ["x", "c"]
    few = ShardedDensity(estimator, random_state=0).fit(table(5))
    assert few.n_rows_.tolist() == [3, 2]


def test_refit_forgets_the_division_of_the_rows(estimator):
    density = ShardedDensity(estimator, n_shards=2, random_state=0).fit(table(20))
    assert density.row_keys_.shape == (20,)
    assert not hasattr(density.fit([table(20)]), "row_keys_")


def test_encoder_that_does_not_fit_is_refused(estimator):
    with pytest.raises(ValueError, match=r"columns of X are \['z', 'c'\], those of the encoder"):
        clone(estimator).fit(table(20).rename(columns={"x": "z"}))


def test_shards_are_refused_by_name(sharded):
    with pytest.raises(ValueError, match=r"no shard 7: the shards are \[0, 1, 2\]"):
        sharded.forget(7)
    with pytest.raises(ValueError, match="there is a shard 1 already"):
        sharded.add(table(), key=1)
    alone = pickle.loads(pickle.dumps(sharded)).forget(0).forget(1)
    with pytest.raises(ValueError, match="2 is the last shard"):
        alone.forget(2)
    with pytest.raises(ValueError, match="no part to fit"):
        clone(sharded).fit([table() for _ in ()] or iter(()))


@pytest.mark.slow
def test_backends_agree(sharded):
    with parallel_config(backend="threading", n_jobs=2):
        density = clone(sharded).fit(table())
        scores = density.score_samples(table())
        drawn = density.sample(10, random_state=0)
    np.testing.assert_array_equal(scores, sharded.score_samples(table()))
    pd.testing.assert_frame_equal(drawn, sharded.sample(10, random_state=0))


@pytest.mark.parametrize("name", [n for n in skbellman.algebra.__all__ if n != "Density"])
def test_docstring_is_complete(name):
    optional = {"ES01", "SA01", "RT02"}
    errors = validate(f"skbellman.algebra.{name}")["errors"]
    assert not [error for error in errors if error[0] not in optional]


def test_algebra_has_the_words_of_a_density():
    for name in ("MixtureDensity", "RescaledDensity", "DifferenceDensity", "ShardedDensity"):
        assert issubclass(getattr(skbellman.algebra, name), Density)


@pytest.fixture(scope="module")
def page():
    return (Path(__file__).parent.parent / "doc" / "arithmetic.md").read_text()


@pytest.mark.slow
def test_page_runs(page):
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict = {}
    for block in blocks:
        # Few steps, nodes and levels: what is tested is that the page runs.
        quick = block.replace("n_steps=20", "n_steps=1, n_nodes=2, n_levels=5")
        exec(quick.replace("(100, random", "(20, random").replace("=100", "=20"), names)
    assert len(blocks) == 8
    assert names["sharded"].keys_ == [0, 1]


def test_sentences_of_the_page_are_short(page):
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    sentences = re.split(r"(?<=[.:;!?])\s+", prose)
    assert max(len(sentence.split()) for sentence in sentences) < 30


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: mixture([p, BellmanDiffusionDensity()]), NotFittedError, "is not fitted yet"),
        (lambda p: compare(p, BellmanDiffusionDensity()), NotFittedError, "is not fitted yet"),
        (lambda p: mixture([KernelDensity().fit([[0.0]])]), TypeError, r"Kernel.* has no measure_"),
        (lambda p: difference(p, "q", 0.1), TypeError, "'q' is no density"),
        (lambda p: mixture(p), TypeError, r"a single one: write \["),
        (lambda p: mixture([p, p], "ab"), ValueError, "weights must be 2 positive"),
        (lambda p: difference(p, p, "a"), ValueError, "weight must be a finite number above 0"),
        (lambda p: rescale(p, [("x", (1, 0))]), TypeError, "give a mapping of columns"),
        (lambda p: rescale(p, {"x": 2.0}), ValueError, r"column 'x' is 2.0: give \(scale, shift\)"),
        (lambda p: rescale(p, {"x": ("a", 0)}), ValueError, r"give \(scale, shift\)"),
        (lambda p: rescale(p, {"x": (2, 0)}).sample(given={"x": "a"}), ValueError, "not 'a'"),
        (lambda p: reweight(p, "c", [0.5, 0.5]), TypeError, "give a mapping of levels"),
        (lambda p: reweight(p, "c", {"a": "x"}), ValueError, "their sum must be 1"),
    ],
)
def test_what_cannot_be_combined_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make(first())


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (0.1, "step is 0.1: give a mapping of numeric columns"),
        ({"z": 0.1}, r"give a mapping of numeric columns, \['x', 'y'\]"),
        ({"x": 0.0}, "step of column 'x' is 0.0: give a number above 0"),
        ({"x": 0.5, "y": -1}, "step of column 'y' is -1"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(step, message):
    """A step of 0 gave NaN, and one of an unknown column nothing."""
    with pytest.raises(ValueError, match=message):
        compare(first(), second()).gradient(rows(), step=step)


def test_a_step_beside_a_grid_is_refused():
    """Half a step of whole numbers gave NaN."""
    X = np.random.default_rng(0).integers(0, 9, (90, 1)).astype(float)
    p = BellmanDiffusionDensity(n_steps=1, n_nodes=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"is 0\.5: give a number above 0, a multiple of 1"):
        compare(p, p).gradient(X, step={0: 0.5})
    assert (compare(p, p).gradient(X[1:8], step={0: 2}) == 0).all()
