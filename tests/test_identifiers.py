"""Columns that name rows: no part in the density, and new names in draws."""

from __future__ import annotations

import re
import uuid
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_restrictions import fitted

from skbellman import BellmanDiffusionDensity, BellmanImputer, TableEncoder
from skbellman.constraints import Unique
from skbellman.tables.columns import IdentifierColumn

N = 240
RNG = np.random.default_rng(0)
ENCODER = TableEncoder(identifiers=["id"])


def frame(**columns):
    x = np.random.default_rng(0).normal(size=N)
    codes = [f"K{k:04d}" for k in np.random.default_rng(1).permutation(9999)[:N]]
    return pd.DataFrame(
        {"id": codes, "x": x, "y": x + np.random.default_rng(2).normal(size=N), **columns}
    )


def new_of(texts, n=200, seed=0):
    column = IdentifierColumn(np.array(texts, dtype=object))
    return column.fresh(n, np.random.default_rng(seed)).tolist()


def test_new_text_has_the_form_of_the_old_and_none_of_its_values():
    old = [f"AB-{k:05d}" for k in RNG.permutation(99_999)[:N]]
    new = new_of(old)
    assert all(re.fullmatch(r"AB-\d{5}", text) for text in new)
    assert len(set(new)) == 200
    assert not set(new) & set(old)
    generator = np.random.default_rng(0)
    uuids = [str(uuid.UUID(bytes=generator.bytes(16), version=4)) for _ in range(N)]
    assert all(uuid.UUID(text).version == 4 for text in new_of(uuids))


def test_lengths_are_as_frequent_as_they_were():
    old = [f"{k}" for k in range(10, 80)] + [f"{k}" for k in range(1000, 1210)]
    share = np.mean([len(text) == 4 for text in new_of(old, 2000) if "-" not in text])
    assert share > 0.7
    first = [text[0] for text in new_of([f"{k}" for k in range(100_000, 100_900)])]
    assert set(first) == {"1"}


def test_a_form_without_other_text_is_made_longer():
    old = [f"{k:03d}" for k in range(1000)]
    new = new_of(old, 50)
    assert len(set(new)) == 50
    assert not set(new) & set(old)


def test_identifiers_are_recognised_with_a_warning_and_drawn_anew():
    df = frame()
    with pytest.warns(UserWarning, match="'id' holds text that is another in nearly every row"):
        density = BellmanDiffusionDensity(n_steps=1, width=4, depth=0, random_state=0).fit(df)
    drawn = density.sample(300, random_state=0)
    assert drawn.dtypes.equals(df.dtypes)
    assert drawn["id"].is_unique
    assert not set(drawn["id"]) & set(df["id"])
    assert set(density.sample(300, random_state=1)["id"]) != set(drawn["id"])
    pd.testing.assert_frame_equal(density.sample(300, random_state=0), drawn)
    assert density.is_categorical_.tolist() == [False, False, False]


@pytest.mark.parametrize("columns", [{}, {"n": RNG.integers(0, 300, N)}])
def test_a_name_scores_nothing(columns):
    df = frame(**columns)
    density = fitted(df, encoder=ENCODER)
    scores = density.score_samples(df)
    np.testing.assert_allclose(scores, density.score_samples(df, columns=[*df.columns[1:]]))
    np.testing.assert_array_equal(density.score_samples(df.assign(id="new")), scores)
    np.testing.assert_allclose(density.score_samples(df, columns=["id"]), 0.0, atol=1e-12)
    np.testing.assert_allclose(density.score_samples(df, given=["id"]), scores)
    np.testing.assert_array_equal(density.score_samples(df.assign(id=None)), scores)


def test_names_that_are_given_stay_and_others_are_new():
    df = frame()
    density = fitted(df, encoder=ENCODER)
    assert set(density.sample(5, random_state=0, given={"id": "K1", "x": (0, 1)})["id"]) == {"K1"}
    gapped = df.assign(id=df["id"].where(df.index % 2 == 0, None), x=np.nan)
    drawn = density.sample(random_state=0, given=gapped)
    assert drawn["id"][::2].tolist() == df["id"][::2].tolist()
    assert not set(drawn["id"][1::2]) & set(df["id"])
    drawn = density.sample(300, random_state=0, given={"x": (0, 1)}, with_missing=True)
    assert drawn["id"].is_unique
    assert density.sample(50, random_state=0, constraints=[Unique(["id"])])["id"].is_unique
    with pytest.raises(ValueError, match="'id' names rows"):
        density.sample(3, given={"id": ["K1", "K2"]})


def test_whole_numbers_that_are_declared_go_on_from_the_largest():
    df = pl.DataFrame({"id": RNG.permutation(500)[:N] + 7, "x": RNG.normal(size=N)})
    density = fitted(df, encoder=ENCODER)
    drawn = density.sample(20, random_state=0)
    assert drawn.schema == df.schema
    assert drawn["id"].to_list() == list(range(int(df["id"].max()) + 1, int(df["id"].max()) + 21))
    small = pl.DataFrame({"id": np.arange(100, dtype=np.int8), "x": RNG.normal(size=100)})
    with pytest.raises(ValueError, match="'id' names rows, but its dtype holds -128 to 127"):
        fitted(small, encoder=ENCODER).sample(50, random_state=0)


def test_an_encoder_of_the_last_release_is_loaded():
    encoder = TableEncoder(identifiers=["id"]).fit(frame())
    state = encoder._pickled_state()
    del state["identifiers"]
    loaded = TableEncoder.__new__(TableEncoder)
    loaded.__setstate__(state)
    assert loaded.identifiers is None
    assert loaded.measure == encoder.measure


def test_an_imputer_keeps_names():
    df = frame()
    df.loc[::3, "x"] = np.nan
    quick = BellmanDiffusionDensity(n_steps=1, width=4, depth=0, n_nodes=2, encoder=ENCODER)
    filled = BellmanImputer(quick, random_state=0).fit_transform(df)
    assert filled["id"].tolist() == df["id"].tolist()
    assert not filled.isna().any(axis=None)


def test_text_that_names_no_rows_is_refused_as_before():
    rng = np.random.default_rng(0)
    words = [f"w{k}" for k in rng.integers(0, 130, N)]
    dates = [f"2020-01-{k % 28 + 1:02d} 10:{k % 60:02d}:{k % 59:02d}" for k in range(N)]
    numbers = [f"{value:.6f}" for value in rng.normal(size=N)]
    for texts in (words, dates, numbers):
        with pytest.raises(ValueError, match=r"Column 'id' has \d+ categories"):
            TableEncoder().fit(frame(id=texts))
    with pytest.raises(ValueError, match="'x' is among identifiers, but does not hold text"):
        TableEncoder(identifiers=["id", "x"]).fit(frame())
    with pytest.raises(ValueError, match="identifiers names 'zip'"):
        TableEncoder(identifiers=["zip"]).fit(frame())
    with pytest.raises(ValueError, match="categories, more than"):
        TableEncoder(identifiers=None).fit(frame())
    with pytest.warns(UserWarning, match="'other' holds text that is another"):
        TableEncoder(identifiers=["id"]).fit(frame(other=frame()["id"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableEncoder(identifiers=["id"]).fit(frame(id=words))
