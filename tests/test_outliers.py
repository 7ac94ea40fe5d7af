"""Rows that are unlike a table: scikit-learn's contract, gaps, categories, and what is found."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
from skbellman.closeness import Gaussians, Neighbours, StandardColumns

TINY = BellmanDiffusionDensity(n_steps=1, width=8, depth=1)
RNG = np.random.default_rng(0)
N = 300
X = RNG.normal(size=N)
TABLE = pd.DataFrame({"x": X, "y": 0.8 * X + 0.6 * RNG.normal(size=N)})
TABLE["c"] = np.where(X > 0, "high", "low")
TABLE.index = RNG.permutation(N)
ODD = TABLE[:30].assign(y=-TABLE["y"][:30] - 2 * np.sign(TABLE["x"][:30]))


@pytest.fixture(scope="module")
def fitted():
    return BellmanOutlierDetector(TINY, random_state=0).fit(TABLE)


# One of the checks makes a table with redundant columns.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Columns .* are linear functions:UserWarning")
@parametrize_with_checks([BellmanOutlierDetector(TINY, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_checks_that_the_suite_leaves_out():
    check_param_validation("BellmanOutlierDetector", BellmanOutlierDetector(TINY))
    check_dataframe_column_names_consistency("BellmanOutlierDetector", BellmanOutlierDetector(TINY))


def test_an_unfitted_detector_says_so():
    for method in ("score_samples", "decision_function", "predict", "explain", "gradient"):
        with pytest.raises(NotFittedError):
            getattr(BellmanOutlierDetector(), method)(TABLE)


def test_odd_rows_score_lower(fitted):
    scores = fitted.score_samples(pd.concat([TABLE, ODD]))
    assert roc_auc_score(np.repeat([0, 1], [N, len(ODD)]), -scores) > 0.97
    assert (fitted.predict(ODD) == -1).mean() > 0.9
    assert (fitted.predict(TABLE) == -1).mean() < 0.04
    np.testing.assert_array_equal(
        fitted.decision_function(ODD), fitted.score_samples(ODD) - fitted.offset_
    )


def test_contamination_is_the_share_that_is_predicted():
    detector = BellmanOutlierDetector(TINY, contamination=0.07, random_state=0)
    assert (detector.fit_predict(TABLE) == -1).sum() == round(0.07 * N)


def test_the_score_of_a_row_depends_on_that_row_alone(fitted):
    gaps = TABLE[:6].mask(np.eye(6, 3, dtype=bool))
    together = fitted.score_samples(gaps)
    apart = [fitted.score_samples(gaps[k : k + 1]).item() for k in range(6)]
    np.testing.assert_allclose(together, apart, rtol=1e-9)


def test_gaps_are_no_anomalies(fitted):
    usual, odd = TABLE[30:].copy(), ODD.copy()
    usual.loc[:, "c"] = odd.loc[:, "c"] = None
    scores = fitted.score_samples(pd.concat([usual, odd]))
    assert roc_auc_score(np.repeat([0, 1], [len(usual), len(odd)]), -scores) > 0.95
    assert (
        abs(np.median(fitted.score_samples(usual)) - np.median(fitted.score_samples(TABLE))) < 0.1
    )
    assert fitted.score_samples(TABLE[:1].mask(TABLE[:1].notna())).item() == 0
    holes = TABLE.mask(RNG.random(TABLE.shape) < 0.2)
    of_gaps = clone(fitted).fit(holes)
    assert (
        roc_auc_score(np.repeat([0, 1], [N, 30]), -of_gaps.score_samples(pd.concat([TABLE, ODD])))
        > 0.95
    )


def test_an_unknown_category_or_a_row_far_out_is_odd_and_finite(fitted):
    far = TABLE[:2].copy()
    far.iloc[0, 2], far.iloc[1, 0] = "never", 1e200
    scores = fitted.score_samples(far)
    assert np.isfinite(scores).all()
    assert (scores < fitted.offset_).all()


def test_fits_agree_pickles_agree_and_global_state_is_left_alone(fitted):
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = clone(fitted).fit(TABLE)
    copy = pickle.loads(pickle.dumps(fitted))
    for other in (again, copy):
        np.testing.assert_array_equal(other.score_samples(ODD), fitted.score_samples(ODD))
        assert other.offset_ == fitted.offset_
    assert torch.equal(torch.get_rng_state(), state[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def test_the_density_explains(fitted):
    surprise = fitted.explain(ODD)
    assert surprise.index.equals(ODD.index)
    assert (surprise.idxmax(axis=1) == "c").mean() < 0.1
    assert fitted.gradient(ODD).columns.tolist() == ["x", "y", "c"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_neighbors": (0,)}, "n_neighbors must be a whole number of at least 1, got 0"),
        ({"noise": (-1.0,)}, "noise must be finite and at least 0"),
        ({"noise": (), "n_neighbors": (), "n_components": 0}, "There is no view"),
    ],
)
def test_views_that_are_none_are_refused(parameters, message):
    detector = BellmanOutlierDetector(TINY, **parameters)
    with pytest.raises(ValueError, match=message):
        detector.fit(TABLE)
    assert not hasattr(detector, "density_")


def test_distances_leave_the_row_itself_out():
    points = np.array([[0.0, 9.0], [3.0, 9.0], [4.0, 9.0], [4.0, 9.0]])
    neighbours = Neighbours(points)
    one, two = neighbours.distances(points, [1, 2], np.array([True, False]))
    np.testing.assert_allclose(one, [3, 1, 0, 0])
    np.testing.assert_allclose(two, np.sqrt([(9 + 16) / 2, (1 + 1) / 2, 1 / 2, 1 / 2]))
    np.testing.assert_allclose(
        neighbours.distances(points + 1, [9], np.ones(2, dtype=bool))[0][0],
        np.sqrt((2 + 5 + 10) / 3),
    )


def test_columns_have_the_same_say():
    density = BellmanDiffusionDensity(n_steps=1, width=8, depth=1).fit(TABLE)
    columns = StandardColumns(density.encoder_, TABLE)
    points = columns.points(TABLE)
    np.testing.assert_allclose(np.bincount(columns.column_of, points.var(0)), 1)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-12)


def test_gaussians_of_the_columns_that_are_seen():
    points = RNG.normal(size=(200, 2))
    found = Gaussians(points, 1, 0).log_density(points, np.array([True, False]))
    variance = points[:, 0].var() + 1e-3
    expected = -0.5 * (
        (points[:, 0] - points[:, 0].mean()) ** 2 / variance + np.log(2 * np.pi * variance)
    )
    np.testing.assert_allclose(found, expected)


def test_a_mixture_has_no_more_components_than_different_rows():
    """scikit-learn warned of clusters that are not there."""
    X = pd.DataFrame({"c": ["a", "b"] * 60})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = BellmanOutlierDetector(BellmanDiffusionDensity(n_steps=5), random_state=0)
        assert detector.fit(X).predict(pd.DataFrame({"c": ["a", "z"]})).tolist() == [1, -1]
