"""Rows that keep constraints follow the density restricted to them."""

from __future__ import annotations

import functools
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import norm
from test_restrictions import agree, closed_form, fitted, masses, table

from skbellman.algebra import mixture, rescale
from skbellman.comparisons import comparison_of
from skbellman.constraints import KnownCombinations, Unique, sample_constrained
from skbellman.rejection import accepted_for_each
from skbellman.tables import TableEncoder


def test_an_inequality_leaves_the_law_of_the_half_plane():
    """Of two independent standard normal numbers, the lesser has density 2 phi(x) (1 - Phi(x))."""
    rng = np.random.default_rng(0)
    df = pd.DataFrame(rng.normal(size=(4000, 2)), columns=["a b", "c"])
    density = fitted(df)
    drawn, acceptance = sample_constrained(density, 4000, ["a b <= c"], random_state=0)
    assert (drawn["a b"] <= drawn["c"]).all()
    assert acceptance == pytest.approx(0.5, abs=0.03)
    edges = np.array([-np.inf, -1.5, -1, -0.5, 0, 0.5, np.inf])
    agree(np.histogram(drawn["a b"], edges)[0], -np.diff(norm.sf(edges) ** 2), least_p=1e-4)


def test_text_compares_columns_and_values_of_any_kind():
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 60, 400), unit="D")
    end = start + pd.to_timedelta(rng.integers(-20, 30, 400), unit="D")
    frame = {
        "start": start,
        "end": end,
        "n": rng.integers(0, 40, 400),
        "c": rng.choice([*"abc"], 400),
    }
    texts = ["start <= end", "start >= 2020-01-10", "n < 20", "c != a", "n!=5"]
    for df in (pd.DataFrame(frame), pl.DataFrame(frame)):
        drawn = fitted(df).sample(60, random_state=0, constraints=texts)
        rows = drawn if isinstance(drawn, pd.DataFrame) else drawn.to_pandas()
        assert (rows["start"] <= rows["end"]).all()
        assert (rows["start"] >= "2020-01-10").all()
        assert ((rows["n"] < 20) & (rows["n"] != 5) & (rows["c"] != "a")).all()
        assert len(rows) == 60


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_decimals_are_compared_as_decimals(library):
    """A float is not the decimal that it is written as: 9.99 as a float is above it."""
    rng = np.random.default_rng(0)
    cents = np.where(rng.random(300) < 0.4, 999, rng.integers(0, 2000, 300))
    df = pd.DataFrame({"m": [Decimal(int(k)) / 100 for k in cents], "x": rng.normal(size=300)})
    density = fitted(df if library == "pandas" else pl.from_pandas(df))

    def drawn(text):
        return list(density.sample(60, random_state=0, constraints=[text])["m"])

    price = Decimal("9.99")
    assert set(drawn("m == 9.99")) == {price}
    assert price not in drawn("m != 9.99")
    assert price in drawn("m >= 9.99")
    assert price in drawn("m <= 9.99")
    assert min(drawn("m > 9.985")) == price


def test_float32_is_compared_as_float32():
    x = np.random.default_rng(0).choice(np.float32([0.1, 0.7]), 200)
    df = pd.DataFrame({"x": x, "y": np.random.default_rng(1).normal(size=200)})
    density = fitted(df)
    assert set(density.sample(20, random_state=0, constraints=["x == 0.1"])["x"]) == {x.min()}


def test_only_known_combinations_are_drawn():
    rng = np.random.default_rng(0)
    city = rng.choice(["Oslo", "Lyon", "Nice"], 300)
    df = pd.DataFrame({"city": city, "country": np.where(city == "Oslo", "NO", "FR")})
    df["x"] = rng.normal(size=300)
    density = fitted(df)
    known = KnownCombinations(["city", "country"], df)
    drawn = density.sample(200, random_state=0, constraints=[known])
    assert set(map(tuple, drawn[["city", "country"]].to_numpy())) <= {
        ("Oslo", "NO"), ("Lyon", "FR"), ("Nice", "FR")
    }  # fmt: skip


def test_combinations_that_are_hardly_ever_drawn_are_drawn_first():
    """Places of ten cities in degrees: of two densities no draw would ever be one of them."""
    rng = np.random.default_rng(0)
    places = pd.DataFrame(rng.normal(size=(10, 2)), columns=["east", "north"])
    df = places.iloc[rng.integers(0, 10, 600)].reset_index(drop=True)
    df["income"] = df["east"] + rng.normal(size=600)
    density = fitted(df.assign(east=df["east"] + rng.normal(0, 0.3, 600)))
    known = KnownCombinations(["east", "north"], places)
    drawn, acceptance = sample_constrained(density, 2000, [known, "income > -9"], 0)
    assert acceptance > 0.9
    logs = density.score_samples(places, columns=["east", "north"])
    names = [tuple(row) for row in places.to_numpy()]
    counts = pd.Series(list(map(tuple, drawn[["east", "north"]].to_numpy()))).value_counts()
    agree(counts.reindex(names).fillna(0).to_numpy(), np.exp(logs))


def test_unique_rows_are_unique_also_over_many_draws():
    drawn = closed_form().sample(60, random_state=0, constraints=[Unique(["age"])])
    assert drawn["age"].is_unique
    assert len(drawn) == 60
    with pytest.raises(ValueError, match=r"samples were accepted.*Unique"):
        closed_form().sample(600, random_state=0, constraints=[Unique(["sex"])])


def test_constraints_hold_beside_conditions_and_in_mixtures():
    density = closed_form()
    given = pd.DataFrame({"sex": ["F", "M", "X"], "x": [0.0, 1.0, 2.0]})
    drawn = density.sample(20, random_state=0, given=given, constraints=["y >= x", "age > 40"])
    assert drawn["x"].tolist() == np.repeat([0.0, 1.0, 2.0], 20).tolist()
    assert ((drawn["y"] >= drawn["x"]) & (drawn["age"] > 40)).all()
    both = mixture([density, density])
    found = sample_constrained(
        both, 30, ["y >= x"], random_state=0, given={"age": (20, 40), "sex": "F"}
    )
    assert (found.table["y"] >= found.table["x"]).all()
    assert found.table["age"].between(20, 40).all()


def test_rare_values_are_drawn_within_their_range(recwarn):
    """A part of a thousand of the normal law is beyond 3: rejection alone would draw a million."""
    df = pd.DataFrame(np.random.default_rng(0).normal(size=(4000, 2)), columns=["a", "b"])
    density = fitted(df)
    drawn, acceptance = sample_constrained(density, 1000, ["a > 3", "a < 3.5", "b > 0"], 1)
    assert acceptance > 0.4
    assert drawn["a"].between(3, 3.5, "neither").all()
    assert (drawn["b"] > 0).all()
    edges = np.linspace(3, 3.5, 6)
    agree(np.histogram(drawn["a"], edges)[0], masses(density, "a", edges))
    drawn = density.sample(5, 0, constraints=["a == 0.25"], given={"b": 1.0})
    assert drawn.to_numpy().tolist() == [[0.25, 1.0]] * 5
    assert not recwarn


def half_missing():
    df = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=["a", "b"])
    df.loc[::2, "a"] = np.nan
    return df


def test_a_missing_side_keeps_a_comparison():
    df = half_missing()
    mask = comparison_of("a <= b", fitted(df).encoder_)
    assert (mask(df) == (df["a"].isna() | (df["a"] <= df["b"]))).all()


@pytest.mark.parametrize("given", [None, {"b": (-2.0, None)}, pd.DataFrame({"b": [-1.0, 0.5]})])
def test_gaps_are_as_frequent_under_constraints(given):
    """A row with a gap keeps more constraints: if it were drawn so, gaps would be 2 of 3."""
    n = 1000 if isinstance(given, pd.DataFrame) else 2000
    drawn = fitted(half_missing()).sample(
        n, 0, constraints=["a <= b"], with_missing=True, given=given
    )
    assert abs(drawn["a"].isna().mean() - 0.5) < 0.045  # four deviations
    assert (drawn["a"].isna() | (drawn["a"] <= drawn["b"])).all()


def test_given_cells_stay_under_constraints():
    given = pd.DataFrame({"a": [0.5, None], "b": [1.0, 1.0]})
    settings = {"constraints": ["a <= b"], "with_missing": True}
    drawn = fitted(half_missing()).sample(200, 0, given=given, **settings)
    assert (drawn["a"][:200] == 0.5).all()
    assert 0.35 < drawn["a"][200:].isna().mean() < 0.65
    assert (drawn["b"] == 1.0).all()
    drawn = fitted(half_missing()).sample(200, 0, given={"a": None, "b": (0, 1)}, **settings)
    assert 0.35 < drawn["a"].isna().mean() < 0.65


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [["city"], {"city"}, iter(["city"]), np.array(["city"]), pd.Index(["city"])]
)
def test_columns_that_are_to_be_missing_may_be_constrained(names):
    df = table().rename(columns={"sex": "city"})
    known = KnownCombinations(["city"], df)
    drawn = fitted(df).sample(30, 0, with_missing=names, constraints=[known])
    assert drawn["city"].isna().all()
    assert drawn["x"].notna().all()


def test_few_that_are_kept_are_told():
    with pytest.warns(UserWarning, match=r"\d% of the draws kept the constraints"):
        closed_form().sample(20, random_state=0, constraints=[lambda X: X["x"] > 2.5])
    with pytest.raises(ValueError, match=r"of \d+ samples were accepted: .*'x > y', 'y > x'"):
        closed_form().sample(20, random_state=0, constraints=["x > y", "y > x"])
    X = np.random.default_rng(0).normal(size=(60, 2))
    density = fitted(X)
    drawn = density.sample(20, random_state=0, constraints=[lambda X: X[:, 0] < X[:, 1]])
    assert (drawn[:, 0] < drawn[:, 1]).all()


def test_a_condition_whose_rows_are_all_refused_is_named():
    conditions = np.array([[0.0], [9.0]])
    with pytest.raises(ValueError, match="none of 20 draws for row 1 of given was accepted: why"):
        accepted_for_each(
            lambda at: conditions[at], lambda X: X[:, 0] < 1, 2, "why", most_rounds=20
        )


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("z <= w", "names 'z', which is no column"),
        ("z <= x", "compares column 'x', which holds numbers, with 'z', which is none of them"),
        ("x => 3", "is no comparison.*The signs are <=, >=,"),
        ("x = 3", "is no comparison"),
        ("x <> 3", "is no comparison"),
        ("x <=", "is no comparison"),
        ("x <= zebra", "'zebra', which is none of them"),
        ("sex <= F", "compares categories by their order, which text cannot"),
        ("sex != Q", "Column 'sex' holds 'Q', which was not in the fitted table.*Correct the"),
        ("x <= sex", "compares numbers with categories"),
        ("x", "is no comparison"),
        ("18 <= age <= 30", "is no comparison"),
        (7, "7 is no constraint"),
        (lambda X: X["x"], "returned float64"),
        (lambda X: np.ones(1, dtype=bool), r"shape \(1,\)"),
        (Unique(["zip"]), r"\['zip'\], which are no columns"),
    ],
)
def test_what_is_no_constraint_is_refused(constraint, message):
    with pytest.raises(ValueError, match=message):
        closed_form().sample(9, random_state=0, constraints=[constraint])


@pytest.mark.parametrize("constraints", ["x <= y", None, 7])
def test_constraints_that_are_no_list_are_refused(constraints):
    with pytest.raises(ValueError, match="constraints must be a list, got"):
        closed_form().sample(9, random_state=0, constraints=constraints)


@pytest.mark.parametrize("kind", [Unique, KnownCombinations])
def test_one_name_is_not_the_names_of_its_letters(kind):
    with pytest.raises(ValueError, match=r"columns must be a list of names.* write \['xy'\]"):
        kind("xy")


def test_constraints_that_exclude_each_other_are_named():
    with pytest.raises(ValueError, match=r"no row keeps .* above 3 and below 2"):
        closed_form().sample(9, random_state=0, constraints=["x > 3", "x < 2"])


def test_categories_may_be_text_that_looks_like_numbers():
    df = table().assign(zip=np.where(np.arange(900) % 2, "05", "7"))
    encoder = fitted(df).encoder_
    for text in ("zip != 7", "zip == '05'", "zip == 05"):
        assert (comparison_of(text, encoder)(df) == (df["zip"] == "05")).all()
    assert (comparison_of("x <= (0.5)", encoder)(df) == (df["x"] <= 0.5)).all()


def test_days_are_not_compared_with_times():
    df = pd.DataFrame({"time": pd.date_range("2020-01-01", periods=60, freq="3h")})
    df["day"] = df["time"].dt.date
    with pytest.raises(ValueError, match=r"can't compare .* in 'day <= time': convert one of the"):
        fitted(df).sample(3, 0, constraints=["day <= time"])


def test_a_value_may_stand_on_the_left():
    encoder, df = closed_form().encoder_, table()
    for turned, straight in [
        ("40 <= age", "age >= 40"),
        ("F != sex", "sex != F"),
        ("0.5<x", "x>.5"),
    ]:
        mask = comparison_of(turned, encoder)
        assert (mask(df) == comparison_of(straight, encoder)(df)).all()
        assert mask.bound() == comparison_of(straight, encoder).bound()


def of_gains(n_rows=400):
    rng = np.random.default_rng(0)
    gain = np.where(rng.random(n_rows) < 0.5, 0.0, rng.lognormal(size=n_rows))
    return pd.DataFrame({"gain": gain, "c": rng.choice([*"ab"], n_rows)})


def test_combinations_that_are_left_out_are_told():
    """Beside the zeros of a gain, no sample repeats a gain of the table: only zeros were drawn."""
    df = of_gains()
    known = KnownCombinations(["gain", "c"], df)
    with pytest.warns(UserWarning, match=r"'gain', whose numbers have a density: .*Round the"):
        drawn = fitted(df).sample(50, random_state=0, constraints=[known])
    assert set(drawn["gain"]) == {0.0}
    zeros = KnownCombinations(["gain", "c"], df[df["gain"] == 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(df).sample(50, random_state=0, constraints=[zeros])


def test_constraints_hold_in_other_units():
    """Of two standard normal numbers, 2 a + 1 <= b is kept by Phi(-1 / sqrt(5)) of the rows."""
    df = pd.DataFrame(np.random.default_rng(0).normal(size=(4000, 2)), columns=["a", "b"])
    df["n"] = np.random.default_rng(1).integers(0, 40, 4000)
    rescaled = rescale(fitted(df), {"a": (2.0, 1.0), "n": (10, 0)})
    for density in (rescaled, mixture([rescaled, rescaled])):
        drawn, acceptance = sample_constrained(density, 2000, ["a <= b"], 0)
        assert (drawn["a"] <= drawn["b"]).all()
        assert acceptance == pytest.approx(norm.cdf(-1 / np.sqrt(5)), abs=0.04)
    table, acceptance = sample_constrained(rescaled, 100, ["a > 7", "a < 8"], 0)
    assert table["a"].between(7, 8, "neither").all()
    assert acceptance > 0.5
    known = KnownCombinations(["n"], pd.DataFrame({"n": [30]}))
    assert set(sample_constrained(rescaled, 10, [known], 0).table["n"]) == {30}


def orders(n_rows=300):
    rng = np.random.default_rng(0)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 20, n_rows), unit="D")
    local = day[rng.permutation(n_rows)].tz_localize("Europe/Oslo")
    tenths = rng.integers(0, 30, (3, n_rows))
    return pd.DataFrame(
        {
            "day": day,
            "local": local,
            "price": tenths[0] / 10,
            "decimal": [Decimal(int(k)) / 10 for k in tenths[1]],
            "n": tenths[2],
            "x": rng.normal(size=n_rows),
        }
    )


@functools.cache
def of_orders():
    return fitted(orders())


@pytest.mark.parametrize(
    ("name", "converted"),
    [
        ("day", lambda day: day.astype("datetime64[ns]")),
        ("day", lambda day: day.dt.date),
        ("local", lambda time: time.dt.tz_convert("America/Lima").astype("datetime64[ns, UTC]")),
        ("price", lambda price: (price * 10).round() * 0.1),  # 0.30000000000000004
        ("decimal", lambda decimal: decimal.astype(float)),
        ("n", lambda n: n.astype("Float32")),
    ],
)
def test_known_values_may_be_of_another_dtype(name, converted):
    """Keys of another dtype were other values: hardly any combination was known."""
    df, density = orders(), of_orders()
    known = KnownCombinations([name], pd.DataFrame({name: converted(df[name])[:150]}))
    same = KnownCombinations([name], df[[name]][:150])
    drawn = density.sample(200, random_state=0)
    encoder = density.encoder_
    np.testing.assert_array_equal(known.begun(encoder)(drawn), same.begun(encoder)(drawn))
    assert same.begun(encoder)(drawn).mean() > 0.5
    table, _ = sample_constrained(density, 20, [known], 0)
    assert same.begun(encoder)(table).all()


def test_rare_known_times_with_a_zone_are_drawn_first():
    """Their keys were times in UTC, and were read as local times: an hour off."""
    df = orders()
    days = df[["local", "price", "n"]].iloc[[0, 7]]
    table, _ = sample_constrained(of_orders(), 9, [KnownCombinations([*days], days)], 0)
    assert set(table["local"]) <= set(days["local"])


def test_known_values_of_another_kind_are_named():
    known = KnownCombinations(["n"], pd.DataFrame({"n": ["three"]}))
    with pytest.raises(ValueError, match="known combinations has 'three' in column 'n', which hol"):
        of_orders().sample(3, constraints=[known])


def test_rounding_errors_of_a_grid_do_not_decide():
    """3 * 0.1 is above 0.3: a third of the rows that keep the constraint was refused."""
    tenths = np.random.default_rng(0).integers(0, 6, 300)
    df = pd.DataFrame({"a": tenths * 0.1, "b": tenths / 10, "c": np.float32(tenths) / 10})
    fit = TableEncoder().fit(
        df.apply(lambda column: column.sample(frac=1, random_state=ord(column.name)).to_numpy())
    )
    for text, expected in [
        ("a <= 0.3", tenths <= 3),
        ("a < 0.3", tenths < 3),
        ("a == 0.3", tenths == 3),
        ("0.3 >= a", tenths <= 3),
        ("a == b", True),
        ("c >= 0.3", tenths >= 3),
    ]:
        assert (comparison_of(text, fit)(df) == expected).all(), text
