"""Columns that name rows: no part in the density, and new names in draws."""

from __future__ import annotations

import re
import uuid
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from test_restrictions import fitted

from skbellman import BellmanDiffusionDensity, BellmanImputer, ShardedDensity, TableEncoder
from skbellman.algebra import difference, mixture, rescale, reweight
from skbellman.constraints import Unique, sample_constrained
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
    with pytest.warns(UserWarning, match="'id' holds text that differs in nearly every row"):
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
    with pytest.raises(ValueError, match="'id' holds identifiers"):
        density.sample(3, given={"id": ["K1", "K2"]})


def test_whole_numbers_that_are_declared_go_on_from_the_largest():
    df = pl.DataFrame({"id": RNG.permutation(500)[:N] + 7, "x": RNG.normal(size=N)})
    density = fitted(df, encoder=ENCODER)
    drawn = density.sample(20, random_state=0)
    assert drawn.schema == df.schema
    assert drawn["id"].to_list() == list(range(int(df["id"].max()) + 1, int(df["id"].max()) + 21))
    small = pl.DataFrame({"id": np.arange(100, dtype=np.int8), "x": RNG.normal(size=100)})
    with pytest.raises(ValueError, match="'id' holds identifiers, but its dtype holds -128 to 127"):
        fitted(small, encoder=ENCODER).sample(50, random_state=0)


@pytest.fixture(scope="module")
def numbered():
    """Return a density of a table whose rows are numbered."""
    return numbered_density(pd.DataFrame)


def numbered_density(library, start=1, n_rows=N, dtype=np.int64):
    return fitted(numbered_rows(library, start, n_rows, dtype), encoder=ENCODER)


def numbered_rows(library=pd.DataFrame, start=1, n_rows=N, dtype=np.int64):
    rng = np.random.default_rng(start % 97)
    ids = np.arange(start, start + n_rows, dtype=dtype)
    return library({"id": ids, "x": rng.normal(size=n_rows), "c": rng.choice([*"ab"], n_rows)})


def like(density, X):
    return clone(density).set_params(encoder=density.encoder_).fit(X)


def are_new(drawn, *tables):
    """Say whether no identifier is there twice, or in a table."""
    ids = list(drawn["id"])
    return len(set(ids)) == len(ids) and not set(ids) & {k for t in tables for k in t["id"]}


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_rows_that_keep_constraints_have_identifiers_of_their_own(library):
    density, table = numbered_density(library), numbered_rows(library)
    drawn = density.sample(100, random_state=0, constraints=["x > 0"])
    assert type(drawn) is library
    assert drawn["id"].dtype == table["id"].dtype
    assert are_new(drawn, table)
    assert (np.asarray(drawn["x"]) > 0).all()
    of_numbers = sample_constrained(density, 20, [lambda X: np.asarray(X["id"]) % 2 == 0])
    assert all(k % 2 == 0 for k in of_numbers.table["id"])
    drawn = density.sample(40, random_state=0, constraints=["x > 0", Unique(["id"])])
    assert are_new(drawn, table)
    given = library({"x": [0.1, 0.2, 0.3]})
    filled = density.sample(20, random_state=0, given=given, constraints=["c == a"])
    assert are_new(filled, table)
    within = density.sample(60, random_state=0, given={"c": ["a", "b"], "x": (0, 1)})
    assert are_new(within, table)


def test_text_of_rows_that_keep_constraints_is_new():
    df = frame()
    drawn = fitted(df, encoder=ENCODER).sample(300, random_state=0, constraints=["x > 0"])
    assert are_new(drawn, df)


def test_an_array_of_numbered_rows_has_new_numbers():
    X = numbered_rows()[["id", "x"]].to_numpy()
    density = fitted(X, encoder=TableEncoder(identifiers=[0]))
    drawn = density.sample(90, random_state=0, constraints=[lambda X: X[:, 1] > 0])
    assert len(set(drawn[:, 0])) == 90
    assert drawn[:, 0].min() > N


def test_gaps_of_identifiers_stay():
    df = numbered_rows(pl.DataFrame).with_columns(pl.when(pl.col("id") % 2 == 0).then(pl.col("id")))
    density = fitted(df, encoder=ENCODER)
    drawn = density.sample(60, random_state=0, with_missing=True, constraints=["x > 0"])["id"]
    assert 15 < drawn.null_count() < 45
    assert drawn.drop_nulls().is_unique().all()
    assert drawn.dtype == df["id"].dtype


def test_parts_of_a_mixture_have_no_identifier_in_common(numbered):
    one, two = numbered_rows(), numbered_rows(start=2000)
    both = mixture([numbered, like(numbered, two)])
    assert are_new(both.sample(300, random_state=0), one, two)
    given = pd.DataFrame({"id": [9000, None, None], "c": ["a", "b", "a"]}).astype({"id": "Int64"})
    drawn = both.sample(2, random_state=0, given=given)
    assert drawn["id"][:2].tolist() == [9000, 9000]
    assert are_new(drawn[2:], one, two, given[:1])
    assert set(both.sample(9, random_state=0, given={"id": 7})["id"]) == {7}
    assert are_new(both.sample(60, random_state=0, given={"x": (0, 2), "c": ["a"]}), one, two)
    nested = mixture([both, reweight(numbered, "c", {"a": 0.5, "b": 0.5})])
    assert are_new(nested.sample(90, random_state=0), one, two)
    found = sample_constrained(nested, 50, ["x > 0"], random_state=0)
    assert are_new(found.table, one, two)
    with pytest.raises(ValueError, match="'id' holds identifiers, which have no unit"):
        rescale(numbered, {"id": (2, 0)})
    rest = difference(numbered, like(numbered, two), 0.5, n_samples=50, random_state=0)
    assert are_new(rest.sample(60, random_state=0), one, two)
    assert are_new(rest.sample(60, random_state=0, given={"c": "a"}), one, two)


@pytest.mark.slow
def test_shards_have_no_identifier_in_common(numbered):
    df, more = numbered_rows(), numbered_rows(start=2000, n_rows=20)
    sharded = ShardedDensity(clone(numbered), n_shards=4, random_state=0).fit(df)
    assert are_new(sharded.sample(100, random_state=0), df)
    parts = ShardedDensity(clone(numbered), random_state=0).fit([df[:60], df[60:]])
    assert are_new(parts.sample(100, random_state=0), df)
    assert are_new(parts.add(more).sample(100, random_state=0), df, more)


@pytest.mark.parametrize("as_text", [False, True])
def test_rows_that_are_added_are_known(as_text):
    """Half of all texts of two digits are in the second table."""
    first, second = numbered_rows(start=10, n_rows=40), numbered_rows(start=50, n_rows=40)
    if as_text:
        first, second = (df.assign(id=df["id"].astype(str)) for df in (first, second))
    density = fitted(first, encoder=ENCODER).partial_fit(second)
    assert are_new(density.sample(60, random_state=0), first, second)
    again = clone(density).set_params(encoder=density.encoder_).fit(first)
    assert again.encoder_ is density.encoder_


@pytest.mark.parametrize(
    ("dtype", "start"),
    [(np.int64, 2**60 - N), (np.uint64, 2**64 - 2 * N), (np.int64, 2**63 - 1 - 2 * N)],
)
def test_large_numbers_are_whole_numbers_and_no_floats(dtype, start):
    drawn = numbered_density(pd.DataFrame, start, dtype=dtype).sample(200, random_state=0)
    assert drawn["id"].dtype == dtype
    assert drawn["id"].tolist() == list(range(start + N, start + N + 200))
    with pytest.raises(ValueError, match="no 300 new whole numbers"):
        numbered_density(pl.DataFrame, 2**63 - 1 - 2 * N).sample(300)


def test_floats_that_name_rows_are_told_apart():
    with pytest.raises(ValueError, match="new whole numbers: use a wider dtype"):
        numbered_density(pd.DataFrame, 2**53 - N - 2, dtype=np.float64).sample(9)
    df = numbered_rows().assign(id=lambda X: X["id"].astype(float).replace(5.0, np.inf))
    with pytest.raises(ValueError, match="'id' holds the infinite value"):
        fitted(df, encoder=ENCODER)


def test_new_identifiers_are_none_of_those_given(numbered):
    given = pd.DataFrame({"id": [N + 1, None, None], "c": "a"}).astype({"id": "Int64"})
    assert numbered.sample(random_state=0, given=given)["id"].tolist() == [N + 1, N + 2, N + 3]


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
    with pytest.raises(ValueError, match="'x' is in identifiers, but does not hold only text"):
        TableEncoder(identifiers=["id", "x"]).fit(frame())
    with pytest.raises(ValueError, match="identifiers names 'zip'"):
        TableEncoder(identifiers=["zip"]).fit(frame())
    with pytest.raises(ValueError, match="categories, more than"):
        TableEncoder(identifiers=None).fit(frame())
    with pytest.warns(UserWarning, match="'other' holds text that differs"):
        TableEncoder(identifiers=["id"]).fit(frame(other=frame()["id"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableEncoder(identifiers=["id"]).fit(frame(id=words))


def test_text_of_which_every_form_is_used_is_made_longer_at_once():
    texts = np.array([f"{k:04d}" for k in range(10_000)], dtype=object)
    fresh = IdentifierColumn(texts).fresh(5000, np.random.default_rng(0))
    assert len(set(fresh.tolist())) == 5000
    assert not set(fresh.tolist()) & set(texts.tolist())


def test_a_warning_names_the_line_of_the_caller():
    frame = pd.DataFrame({"x": np.arange(150.0) ** 2, "id": [f"K{k}" for k in range(150)]})
    quick = BellmanDiffusionDensity(n_steps=1, width=4, depth=0, n_nodes=2, random_state=0)
    for fit in (quick.fit, TableEncoder().fit, ShardedDensity(quick, n_shards=1).fit):
        with pytest.warns(UserWarning, match="Column 'id'") as warned:
            fit(frame)
        assert warned[0].filename == __file__


def test_amounts_and_phone_numbers_that_are_all_distinct():
    """Amounts are numbers that were read as text; numbers of telephones are names."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=150), "phone": [f"+49 170 {k}" for k in range(150)]})
    with pytest.warns(UserWarning, match="Column 'phone' holds text that differs in nearly every"):
        encoder = TableEncoder().fit(frame)
    assert encoder.columns_[1].is_fresh
    dates = frame["x"].rank().map(lambda k: f"20{int(k) % 99 + 1:02}-{int(k) % 12 + 1:02}-01")
    frame = frame.assign(phone=[f"${k:,}.00" for k in range(950, 1100)], day=dates)
    with pytest.raises(ValueError, match=r"'phone' has 150 .* amounts(.|\n)*'day' has .* dates"):
        TableEncoder().fit(frame)


def test_objects_that_are_identifiers_are_to_be_text_first():
    """The remedy alone led to another refusal."""
    keys = [uuid.UUID(int=k) for k in range(150)]
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=150), "key": keys})
    with pytest.raises(ValueError, match=r"TableEncoder\(identifiers=\), as text, if it is"):
        TableEncoder().fit(frame)
    encoder = TableEncoder(identifiers=["key"]).fit(frame.astype({"key": str}))
    assert encoder.columns_[1].is_fresh
