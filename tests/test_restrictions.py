"""Draws within ranges and lists follow the density restricted to them."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.stats import chisquare

from skbellman import BellmanDiffusionDensity, PaperDensity
from skbellman.algebra import difference, mixture, rescale, reweight
from skbellman.fields import Mixture

N = 6000


def table(n_rows=900, seed=0):
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M", "X"], n_rows, p=[0.5, 0.35, 0.15])
    x = rng.normal(np.where(sex == "F", 0.0, 1.0), 1.0)
    return pd.DataFrame(
        {
            "x": x,
            "y": 0.8 * x + rng.normal(0, 0.6, n_rows),
            "age": rng.integers(18, 80, n_rows),
            "sex": sex,
        }
    )


def fitted(X, **parameters):
    """Return a density whose field is a mixture in closed form: scores are exact."""
    quick = BellmanDiffusionDensity(n_steps=1, width=4, depth=0, n_nodes=2, random_state=0)
    density = quick.set_params(**parameters).fit(X)
    density.field_ = Mixture([density.field_.fields[1]], torch.ones(1))
    return density


@functools.cache
def closed_form():
    return fitted(table())


@functools.cache
def another():
    return fitted(table(seed=1), encoder=closed_form().encoder_)


def masses(density, name, edges, given=None, n_places=60):
    """Return the probability of each interval of a numeric column, by its score."""
    ends = np.asarray(edges, float)
    share = (np.arange(n_places) + 0.5) / n_places
    places = ends[:-1, None] + np.diff(ends)[:, None] * share
    X = pd.DataFrame({name: places.ravel(), **(given or {})})
    log = density.score_samples(X, columns=[name], given=list(given or {}) or None)
    return np.exp(log).reshape(places.shape).mean(1) * np.diff(ends)


def agree(counts, masses, least_p=1e-3):
    shares = np.asarray(masses) / np.sum(masses)
    assert chisquare(counts, shares * np.sum(counts)).pvalue > least_p


@pytest.mark.parametrize("bounds", [(-0.5, 1.5), (2.6, 3.6), (2.9, None)])
def test_a_range_follows_the_density_within_it(bounds):
    density = closed_form()
    drawn = density.sample(N, random_state=1, given={"x": bounds})["x"]
    edges = np.linspace(bounds[0], bounds[1] or 5.0, 11)
    assert drawn.min() >= bounds[0]
    assert drawn.max() <= (bounds[1] or np.inf)
    edges[-1] = max(edges[-1], drawn.max())
    counts, mass = np.histogram(drawn, edges)[0], masses(density, "x", edges)
    # Few are in the last intervals of a tail: together.
    keep = np.append(0, np.flatnonzero(mass[1:] / mass.sum() > 2e-3) + 1)
    agree(np.add.reduceat(counts, keep), np.add.reduceat(mass, keep))


def test_the_rest_follows_its_law_given_what_the_range_let_through():
    density = closed_form()
    edges_x, edges_y = np.linspace(2.6, 3.6, 5), np.linspace(-1, 6, 8)
    drawn = density.sample(N, random_state=3, given={"x": (2.6, 3.6)})
    counts = np.histogram2d(drawn["x"], drawn["y"], [edges_x, edges_y])[0]
    x, y = (
        np.concatenate([a + (b - a) * (np.arange(8) + 0.5) / 8 for a, b in pairwise(edges)])
        for edges in (edges_x, edges_y)
    )
    grid = pd.DataFrame({"x": x.repeat(len(y)), "y": np.tile(y, len(x))})
    mass = np.exp(density.score_samples(grid, columns=["x", "y"]))
    mass = mass.reshape(4, 8, 7, 8).sum((1, 3))
    keep = mass / mass.sum() > 1e-3
    agree(counts[keep], mass[keep])


@pytest.mark.parametrize("make", [closed_form, lambda: mixture([closed_form(), another()])])
def test_lists_and_ranges_of_few_values_have_their_probabilities(make):
    density = make()
    drawn = density.sample(N, random_state=3, given={"age": (18, 21), "sex": ["M", "X"]})
    cells = [(age, sex) for age in range(18, 22) for sex in ("M", "X")]
    X = pd.DataFrame(cells, columns=["age", "sex"])
    mass = np.exp(density.score_samples(X, columns=["age", "sex"]))
    counts = drawn.groupby(["age", "sex"]).size().reindex(cells, fill_value=0)
    assert counts.sum() == N
    agree(counts.to_numpy(), mass)


def test_a_rare_range_beside_a_single_value_and_another_range():
    density = closed_form()
    given = {"x": (2.4, 3.0), "y": (-5.0, 0.9), "sex": "F"}
    drawn = density.sample(N, random_state=4, given=given)
    assert set(drawn["sex"]) == {"F"}
    assert drawn["y"].between(-5, 0.9).all()
    edges = np.linspace(2.4, 3.0, 7)
    step = 0.005
    x = np.arange(2.4 + step, 3.0, 2 * step)
    y = np.arange(-3.0, 0.9, 0.02) + 0.01
    grid = pd.DataFrame({"x": x.repeat(len(y)), "y": np.tile(y, len(x)), "sex": "F"})
    mass = np.exp(density.score_samples(grid, columns=["x", "y"], given=["sex"]))
    mass = mass.reshape(6, -1).sum(1)
    agree(np.histogram(drawn["x"], edges)[0], mass)


def test_listed_numbers_are_drawn_by_their_densities_and_are_there_bit_for_bit():
    density = closed_form()
    drawn = density.sample(N, random_state=5, given={"x": [0.1, 1.7, 0.1]})["x"]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0.1, 1.7]
    log = density.score_samples(pd.DataFrame({"x": values}), columns=["x"])
    agree(counts, np.exp(log))


def test_other_units_turn_a_range_over():
    density = closed_form()
    turned = rescale(density, {"x": (-2.0, 1.0)})
    drawn = turned.sample(300, random_state=0, given={"x": (-6.2, -4.2), "sex": ["F", "M"]})
    assert drawn["x"].between(-6.2, -4.2).all()
    own = density.sample(300, random_state=0, given={"x": (2.6, 3.6), "sex": ["F", "M"]})
    np.testing.assert_allclose(drawn["x"], -2 * own["x"] + 1)
    with pytest.raises(ValueError, match="rescale the result"):
        mixture([turned, turned]).sample(3, given={"x": (-6.2, -4.2)})


@pytest.mark.slow
def test_what_has_no_marginals_is_drawn_by_rejection():
    rest = difference(closed_form(), another(), 0.5, n_samples=300, random_state=0)
    drawn = rest.sample(200, random_state=0, given={"x": (0.0, 1.0), "sex": ["F", "X"]})
    assert drawn["x"].between(0, 1).all()
    assert set(drawn["sex"]) == {"F", "X"}
    with pytest.raises(ValueError, match=r"samples were accepted.*'x' from 3\.5 to 3\.6"):
        rest.sample(200, random_state=0, given={"x": (3.5, 3.6), "y": (-3, -2)})
    X = table()[["x", "y"]].to_numpy()
    paper = PaperDensity(n_steps=10, n_dynamics_steps=50, random_state=0).fit(X)
    assert (paper.sample(20, random_state=0, given={0: (0, None)})[:, 0] >= 0).all()


def test_balanced_levels_stay_so_within_a_range():
    balanced = reweight(closed_form(), "sex", {"F": 0.5, "X": 0.5})
    drawn = balanced.sample(400, random_state=0, given={"age": (18, 30), "sex": ["X"]})
    assert set(drawn["sex"]) == {"X"}
    assert drawn["age"].between(18, 30).all()


def test_frames_of_any_library_dates_and_arrays():
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 365, 300), unit="D")
    values = rng.normal(size=300).astype(np.float32)
    df = pl.DataFrame({"day": days, "v": values, "c": rng.choice(["a", "b"], 300)})
    df = df.with_columns(pl.col("c").cast(pl.Categorical), pl.col("day").cast(pl.Date))
    density = fitted(df)
    given = {"day": ("2020-03-01", "2020-03-04"), "c": ["a"], "v": (-0.5, 1.0)}
    drawn = density.sample(50, random_state=0, given=given)
    assert drawn.schema == df.schema
    assert drawn["day"].is_between(pl.date(2020, 3, 1), pl.date(2020, 3, 4)).all()
    assert set(drawn["c"]) == {"a"}
    X = np.column_stack([values, rng.integers(0, 9, 300)]).astype(float)
    density = fitted(X)
    drawn = density.sample(50, random_state=0, given={0: (2.0, 2.5), 1: [3, 4]})
    assert drawn.shape == (50, 2)
    assert ((drawn[:, 0] >= 2.0) & (drawn[:, 0] <= 2.5)).all()
    assert set(drawn[:, 1]) == {3.0, 4.0}
    whole = density.sample(9, random_state=0, given={0: (2.0, 2.5), 1: 3.0})
    assert set(whole[:, 1]) == {3.0}


def test_atoms_keep_their_probability_within_a_range():
    rng = np.random.default_rng(0)
    gain = np.where(rng.random(900) < 0.5, 0.0, rng.lognormal(size=900))
    density = fitted(pd.DataFrame({"g": gain}))
    mass = masses(density, "g", np.linspace(1e-9, 0.3, 4)).sum()
    zero = np.exp(density.score_samples(pd.DataFrame({"g": [0.0]})))[0]
    drawn = density.sample(N, random_state=0, given={"g": (0, 0.3)})["g"]
    agree([(drawn == 0).sum(), (drawn > 0).sum()], [zero, mass])
    with pytest.raises(ValueError, match=r"'g'.*\[0\.0\], beside \[0\.7\]"):
        density.sample(3, given={"g": [0.0, 0.7]})


def test_gaps_are_nowhere_among_conditions():
    df = table(300)
    df.loc[::2, ["x", "y"]] = np.nan
    density = fitted(df)
    given = {"x": (0, 1), "age": [20, 30]}
    drawn = density.sample(200, random_state=0, given=given, with_missing=True)
    assert drawn["x"].between(0, 1).all()
    assert drawn["y"].notna().all()  # missing only where x is
    pd.testing.assert_series_equal(drawn.dtypes, df.dtypes)


def test_one_seed_gives_one_table():
    density, given = closed_form(), {"x": (2.6, 3.6), "sex": ["F", "M"]}
    once, again = (density.sample(9, random_state=7, given=given) for _ in range(2))
    pd.testing.assert_frame_equal(once, again)


def test_a_tuple_stays_a_level_of_a_category():
    df = pd.DataFrame({"c": [("a", 1), ("b", 2)] * 20, "x": np.arange(40.0)})
    density = fitted(df, categorical_features=["c"])
    drawn = density.sample(3, random_state=0, given={"c": ("a", 1)})
    assert drawn["c"].tolist() == [("a", 1)] * 3
    assert density.sample(3, given={"c": [("b", 2)]})["c"].tolist() == [("b", 2)] * 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"age": (25, 18)}, "low end is above"),
        ({"age": (1, 2, 3)}, "tuple of two"),
        ({"age": []}, "lists no value of column 'age'"),
        ({"age": ("a", 3)}, "'a' in a range or list of column 'age'"),
        ({"x": [0.5, None]}, "None in a range or list of column 'x'"),
        ({"x": (float("nan"), 1)}, "nan in a range"),
        ({"sex": ["Q"]}, "'Q', which was not in"),
        ({"age": [20.5]}, "cannot hold 20.5"),
        ({"age": (500, 501)}, "no draw of the density is within column 'age' from 500"),
        ({"zip": ["a"]}, "'zip'"),
    ],
)
def test_what_is_no_range_or_list_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        closed_form().sample(5, random_state=0, given=given)


def test_cells_of_a_rare_range_have_the_widths_of_a_skewed_column():
    density = fitted(pd.DataFrame({"w": np.random.default_rng(0).lognormal(size=600)}))
    drawn = density.sample(N, random_state=0, given={"w": (8, 40)})["w"]
    edges = np.array([8, 9, 10.5, 13, 17, 40])
    agree(np.histogram(drawn, edges)[0], masses(density, "w", edges))
