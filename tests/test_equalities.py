"""Columns that equal another column in some rows: samples repeat this exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skbellman import BellmanDiffusionDensity, BellmanImputer, TableEncoder


def bills(n=600, share=0.3, seed=0):
    """Return bills, and payments of which some pay the whole bill, as whole and real numbers."""
    rng = np.random.default_rng(seed)
    bill = rng.lognormal(7, 1, n)
    paid = np.where(rng.random(n) < share, bill, bill * rng.random(n))
    return pd.DataFrame({"bill": bill, "paid": paid, "age": rng.normal(40, 10, n)})


@pytest.fixture(scope="module")
def density():
    return BellmanDiffusionDensity(n_steps=60, random_state=0).fit(bills())


def equalities(frame, **parameters):
    """Return the names of each column and of those that it equals."""
    encoder = TableEncoder(**parameters).fit(frame)
    names = encoder.names
    return {
        names[each.column]: [names[k] for k in each.sources] for each in encoder.layout_.equalities
    }


def test_columns_that_are_equal_in_some_rows_are_found():
    assert equalities(bills()) == {"paid": ["bill"]}
    assert equalities(bills().round(0).astype(int)) == {"paid": ["bill"]}
    assert equalities(bills(), atom_share=1.0) == {}
    assert equalities(bills(), equal_columns=False) == {}
    assert equalities(bills(), dequantize=False) == {}


def test_dates_are_compared_with_dates():
    frame = bills(share=0.5)
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.pop("bill").round(), unit="D")
    rng = np.random.default_rng(1)
    late = pd.to_timedelta(rng.integers(1, 900, len(frame)) * rng.integers(0, 2, len(frame)), "D")
    dates = pd.DataFrame({"ordered": start, "shipped": start + late, **frame})
    assert equalities(dates) == {"shipped": ["ordered"]}


def test_close_values_of_a_grid_and_frequent_values_are_not_equalities():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 300, 3000)
    assert equalities(pd.DataFrame({"low": low, "high": low + rng.integers(-3, 4, 3000)})) == {}
    zeros = np.where(rng.random((3000, 2)) < 0.5, 0.0, rng.normal(size=(3000, 2)))
    assert equalities(pd.DataFrame(zeros)) == {}


def test_a_column_that_repeats_is_named_once():
    frame = bills()
    frame["due"] = frame["paid"]
    with pytest.warns(UserWarning, match="linear functions"):
        assert equalities(frame) == {"paid": ["bill"], "due": ["paid"]}


def test_samples_are_equal_as_often_as_rows(density):
    drawn = density.sample(2000, random_state=0)
    assert (drawn["bill"] == drawn["paid"]).mean() == pytest.approx(0.3, abs=0.05)
    assert not (drawn["bill"] == drawn["age"]).any()


def test_given_cells_are_kept_and_their_equals_follow(density):
    for name, other in (("bill", "paid"), ("paid", "bill")):
        drawn = density.sample(1000, given={name: 1234.5}, random_state=0)
        assert (drawn[name] == 1234.5).all()
        assert 0.1 < (drawn[other] == 1234.5).mean() < 0.6
    both = density.sample(50, given={"bill": 1000.0, "paid": 400.0}, random_state=0)
    assert (both["bill"] == 1000).all()
    assert (both["paid"] == 400).all()


def test_labels_have_no_part_in_scores(density):
    frame = bills(20, seed=1)
    joint = density.score_samples(frame)
    parts = density.score_samples(frame, columns=["paid"], given=["bill", "age"])
    parts = parts + density.score_samples(frame, columns=["bill", "age"])
    np.testing.assert_allclose(joint, parts, atol=0.6)
    # The density integrates to 1 over payments, as without labels.
    grid = np.linspace(-2000, 6000, 801)
    rows = pd.DataFrame({"paid": grid, "bill": 1000.0, "age": 40.0})
    logs = density.score_samples(rows, columns=["paid"], given=["bill", "age"])
    assert np.exp(logs).sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=0.03)


def test_rows_with_gaps_have_labels_where_they_can_be_known():
    frame = bills(share=1.0)
    frame.loc[::2, "paid"] = 1.0 + frame.index[::2]
    encoder = TableEncoder().fit(frame)
    (equality,) = encoder.layout_.equalities
    gaps = frame.head(6).astype(float)
    gaps.loc[2, "bill"] = np.nan
    gaps.loc[3, "paid"] = np.nan
    labels = equality.labels(encoder.read(gaps)).tolist()
    assert labels == [-1, 0, None, None, -1, 0]


@pytest.mark.slow
def test_imputed_payments_equal_bills_as_often():
    frame = bills(share=0.8)
    holed = frame.copy()
    holed.loc[::5, "paid"] = np.nan
    imputer = BellmanImputer(BellmanDiffusionDensity(n_steps=60, random_state=0), random_state=0)
    filled = imputer.fit(holed).transform(holed)[::5]
    assert (filled["paid"] == filled["bill"]).mean() > 0.6
