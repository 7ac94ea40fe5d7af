"""A number of samples for each condition, and columns that are missing in every sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_restrictions import another, closed_form, fitted, table

from skbellman.algebra import difference, mixture, rescale, reweight

CONDITIONS = pd.DataFrame({"sex": ["F", "M", "X"], "x": [0.0, 1.0, 2.0]})
COUNTS = [3, 0, 2]


@pytest.mark.parametrize(
    "density",
    [
        closed_form,
        lambda: mixture([closed_form(), another()]),
        lambda: difference(closed_form(), another(), 0.1, 200, random_state=0),
        lambda: rescale(closed_form(), {"x": (2.0, 0.0)}),
        lambda: reweight(closed_form(), "sex", {"F": 0.5, "M": 0.25, "X": 0.25}),
    ],
)
def test_each_condition_has_its_number_of_samples(density):
    drawn = density().sample(COUNTS, random_state=0, given=CONDITIONS)
    assert drawn["x"].tolist() == [0.0] * 3 + [2.0] * 2
    assert drawn["sex"].tolist() == ["F"] * 3 + ["X"] * 2


def test_counts_work_with_constraints_arrays_and_gaps():
    given = CONDITIONS[["x"]]
    drawn = closed_form().sample(np.array([2, 1, 3]), 0, given=given, constraints=["y >= x"])
    assert drawn["x"].tolist() == [0.0] * 2 + [1.0] + [2.0] * 3
    assert (drawn["y"] >= drawn["x"]).all()
    density = fitted(table()[["x", "y"]].to_numpy())
    rows = [[0.5, np.nan], [np.nan, 1.5]]
    drawn = density.sample([1, 2], random_state=0, given=rows)
    assert drawn[0, 0] == 0.5
    assert drawn[1:, 1].tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("counts", "given", "message"),
    [
        ([1, 2], None, "pass a table as given"),
        ([1, 2], {"sex": "F"}, "pass a table as given"),
        ([1, 2], CONDITIONS, r"shape \(2,\), but given has 3 rows"),
        ([1, -1, 2], CONDITIONS, "at least 0, and not only 0"),
        ([0, 0, 0], CONDITIONS, "at least 0, and not only 0"),
        ([1.0, 1.0, 1.0], CONDITIONS, "whole numbers of at least 0"),
        (0, CONDITIONS, "n_samples must be a whole number of at least 1"),
    ],
)
def test_counts_that_are_none_are_refused(counts, given, message):
    with pytest.raises(ValueError, match=message):
        closed_form().sample(counts, given=given)


@pytest.mark.parametrize("given", [None, {"x": 1.0}, {"x": (0.0, 1.0)}, CONDITIONS[["x"]]])
def test_columns_are_missing_in_every_sample(given):
    drawn = closed_form().sample(20, 0, given=given, with_missing=["y", "sex"])
    assert drawn[["y", "sex"]].isna().all(axis=None)
    assert drawn[["x", "age"]].notna().all(axis=None)
    assert drawn.dtypes.equals(table().dtypes)


def test_missing_columns_of_other_containers():
    X = table()[["x", "y"]].to_numpy()
    drawn = fitted(X).sample(5, 0, with_missing=[1])
    assert np.isnan(drawn).tolist() == [[False, True]] * 5
    drawn = fitted(pl.from_pandas(table())).sample(5, 0, with_missing=["age"])
    assert drawn["age"].null_count() == 5
    assert drawn["age"].dtype == pl.Int64


@pytest.mark.parametrize(
    ("asked", "given", "message"),
    [
        (["x"], {"x": 1.0}, "column 'x' is in with_missing, but given"),
        (["x"], {"x": (0.0, 1.0)}, "column 'x' is in with_missing, but given"),
        (["age"], None, "column 'age' .* dtype holds no missing value: convert it .* Int64"),
        (["z"], None, r"with_missing names \['z'\]"),
        ("x", None, r"write with_missing=\['x'\]"),
    ],
)
def test_columns_that_cannot_be_missing_are_refused(asked, given, message):
    with pytest.raises(ValueError, match=message):
        closed_form().sample(9, 0, given=given, with_missing=asked)


def test_gaps_are_those_of_rows_with_what_is_given():
    """A second answer is missing where the first is: beside a first one, half of them were."""
    rng = np.random.default_rng(0)
    df = pd.DataFrame(rng.normal(size=(400, 3)), columns=["first", "second", "x"])
    df.loc[::2, ["first", "second"]] = np.nan
    df.loc[::10, "x"] = np.nan
    density = fitted(df)
    assert (
        not density.sample(200, 0, given={"first": 0.5}, with_missing=True)["second"].isna().any()
    )
    rows = pd.DataFrame({"first": [0.5, np.nan]})
    drawn = density.sample(2000, 0, given=rows, with_missing=True)
    assert drawn["second"].notna()[:2000].all()
    assert (drawn["second"].isna() == drawn["first"].isna())[2000:].all()
    assert abs(drawn["first"].isna()[2000:].mean() - 0.5) < 0.045  # four deviations
    ruled = {"constraints": ["second <= 9"], "with_missing": True}
    assert density.sample(99, 0, given={"first": 0.5}, **ruled)["second"].notna().all()
    never = df.assign(x=df["x"].where(df["first"].isna()))
    drawn = fitted(never).sample(1000, 0, given={"first": 0.5, "x": 0.0}, with_missing=True)
    assert abs(drawn["second"].isna().mean() - 0.5) < 0.065
