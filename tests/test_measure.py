"""The score of a table is the density of its draws: ends, cells, levels, and any scale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skbellman import BellmanDiffusionDensity
from skbellman.tables import TableEncoder
from skbellman.tables.collinearity import collinear
from skbellman.tables.columns import NumericColumn, RankedColumn
from skbellman.tables.ends import End
from skbellman.tables.grids import grid_step

EPS = np.finfo(float).eps


def rows(name, n=1000):
    """Return values of a column with ends."""
    rng = np.random.default_rng(0)
    return {
        "uint8, even": lambda: rng.integers(0, 256, n).astype(np.uint8),
        "uint8, cut off": lambda: rng.normal(220, 40, n).clip(0, 255).round().astype(np.uint8),
        "whole percentages": lambda: (100 * rng.beta(2, 0.9, n)).round().astype(int),
        "forty integers": lambda: rng.integers(0, 41, n),
        "even": lambda: rng.random(n),
        "percentages": lambda: 100 * rng.beta(2, 0.9, n),
        "waiting times": lambda: rng.exponential(1, n),
        "positive": lambda: rng.gamma(3, 1, n),
    }[name]()


def fitted(table, n_steps=10, seed=0, **parameters):
    settings = {"n_steps": n_steps, "width": 8, "depth": 1, "random_state": seed, **parameters}
    return BellmanDiffusionDensity(**settings).fit(table)


@pytest.mark.parametrize(("name", "most"), [
    ("uint8, even", 255), ("uint8, cut off", 255), ("whole percentages", 100),
    ("forty integers", 40),
])  # fmt: skip
def test_probabilities_of_all_integers_sum_to_one(name, most):
    values = rows(name)
    density = fitted(pd.DataFrame({"n": values}))
    every = pd.DataFrame({"n": np.arange(most + 1).astype(values.dtype)})
    assert np.exp(density.score_samples(every)).sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "most"), [
    ("even", 0, 1), ("percentages", 0, 100), ("waiting times", 0, 30)
])  # fmt: skip
def test_the_density_between_the_ends_integrates_to_one(name, least, most):
    density = fitted(pd.DataFrame({"x": rows(name)}))
    places = least + (most - least) * (np.arange(1000) + 0.5) / 1000
    mass = np.exp(density.score_samples(pd.DataFrame({"x": places}))).mean() * (most - least)
    assert mass == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_the_mass_of_two_columns_with_ends_and_of_their_conditionals_is_one():
    rng = np.random.default_rng(1)
    x = rng.random(400)
    table = pd.DataFrame({"x": x, "k": (7 * x + rng.random(400)).astype(int)})
    density = fitted(table, n_steps=40)
    places = (np.arange(60) + 0.5) / 60
    cells = pd.MultiIndex.from_product([places, range(8)], names=["x", "k"]).to_frame(index=False)
    joint = np.exp(density.score_samples(cells)) / 60
    assert joint.sum() == pytest.approx(1, abs=4e-3)  # of which the places take most
    few = pd.concat([cells[:8], cells[-8:]])
    given = np.exp(density.score_samples(few, given=["x"])).reshape(2, 8).sum(1)
    np.testing.assert_allclose(given, 1, atol=0.02)
    given = np.exp(density.score_samples(cells, given=["k"])).reshape(60, 8).mean(0)
    np.testing.assert_allclose(given, 1, atol=0.02)
    drawn = density.sample(2000, random_state=0)
    assert density.encoder_.columns_[0].ends.high.at == -x.max()
    assert drawn.x.between(0, x.max()).all()
    assert drawn.k.between(0, 7).all()


def test_a_value_beyond_an_end_is_improbable_but_not_impossible():
    density = fitted(pd.DataFrame({"x": rows("even"), "y": rows("positive")}))
    table = pd.DataFrame({"x": [0.9, 1.001, 1.1, 2.0, 0.9], "y": [2.0, 2.0, 2.0, 2.0, -1.0]})
    inside, *beyond = density.score_samples(table)
    assert np.isfinite(beyond).all()
    assert (np.diff(beyond[:3]) < -2).all()
    assert max(beyond) < inside - 1
    places = 1 + np.geomspace(1e-6, 1e3, 100)
    of_x = np.exp(density.score_samples(pd.DataFrame({"x": places}), columns=["x"]))
    assert np.trapezoid(of_x, places) < 3e-4


def agreeing_table(seed):
    """Return a category, a number, an integer of few values and a number with atoms."""
    rng, n = np.random.default_rng(seed), 400
    c = rng.choice(list("abc"), n, p=[0.5, 0.3, 0.2])
    return pd.DataFrame(
        {
            "c": c,
            "x": rng.normal(size=n) + 1.5 * (c == "a"),
            "k": rng.poisson(1.5 + 2 * (c == "b"), n),
            "z": np.where(rng.random(n) < 0.3, 0.0, rng.exponential(1, n) + 0.1),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_draws_have_the_probabilities_that_are_scored(seed):
    table = agreeing_table(seed)
    density = fitted(table, n_steps=200, width=32, depth=3, seed=seed)
    drawn = density.sample(4000, random_state=1)
    levels = {"c": list("abc"), "k": range(table.k.max() + 1), "z": [0.0]}
    for name, every in levels.items():
        asked = pd.DataFrame({name: list(every)})
        scored = np.exp(density.score_samples(asked, columns=[name]))
        found = np.array([(drawn[name] == level).mean() for level in every])
        error = np.sqrt(scored * (1 - scored) / 4000) + 1 / 4000
        assert (np.abs(found - scored) <= 4 * error).all(), name
        if name != "z":
            assert scored.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("scale", [2.0**-1000, 1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("name", ["forty integers", "percentages", "positive"])
def test_coordinates_do_not_depend_on_the_scale(name, scale):
    values = rows(name).astype(float)
    one, other = (NumericColumn(v, True, EPS) for v in (values, values * scale))
    z, log_measure = one.encode(values)
    z_scaled, log_measure_scaled = other.encode(values * scale)
    np.testing.assert_allclose(z_scaled, z, atol=1e-6)
    np.testing.assert_allclose(log_measure_scaled, log_measure - np.log(scale), atol=1e-6)
    np.testing.assert_allclose(other.decode(z_scaled), one.decode(z) * scale, rtol=1e-9)


@pytest.mark.parametrize("kind", [NumericColumn, RankedColumn])
def test_the_log_measure_is_the_slope_up_to_the_ends(kind):
    values = rows("forty integers").astype(float)
    if kind is RankedColumn:
        column = RankedColumn(values, np.unique(values), EPS)
        ends = column.smooth.ends
    else:
        column = NumericColumn(values, True, EPS)
        ends = column.ends
    assert ends.low.at == -0.5
    assert ends.high.at == -40.5
    x, place = np.repeat([0.0, 40.0], 40), np.tile(np.linspace(0.02, 0.98, 40), 2)
    step = 1e-6
    moved = [column.encode(x, place + side * step)[0] for side in (1, -1)]
    slope = (moved[0] - moved[1])[:, 0] / (2 * step)
    np.testing.assert_allclose(np.log(slope), column.encode(x, place)[1], atol=1e-3)
    assert set(column.decode(np.linspace(-4, 4, 4001)[:, None])) == set(range(41))
    assert set(column.decode(np.array([[-60.0], [60.0]]))) <= set(range(41))


@pytest.mark.parametrize("scale", [1e-310, 1e-305, 1e-299, 1e-30, 1.0, 1e30, 1e299])
def test_a_grid_of_any_step_is_drawn_from(scale):
    values = np.random.default_rng(0).integers(0, 50, 300) * scale
    column = NumericColumn(values, True, EPS)
    drawn = column.decode(np.linspace(-3, 3, 50)[:, None])
    assert np.isfinite(drawn).all()
    assert column.step == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(column.decode(column.encode(values)[0]), values, rtol=1e-6)


@pytest.mark.parametrize("values", [
    [0.0, 1.0, 2147483647.0, 0.0, 1.0, 0.0, 0.0, 2147483647.0, 0.0, 1.0, 2147483647.0, 0.0],
    [3.1e-11, 1.0, 2.0, 2.6e-12, 1.0, 2.0, 3.0, 1.0],
    [1.45e-17, 5.78e44],
    [1.2345e16, 5.04e73],
    [0.0, 2.0**63, 1.0],
    [0.44, -0.61, 65504.0],
    [0.5, 1e7 + 0.5, 3e7 + 0.5],
])  # fmt: skip
def test_values_come_back_from_their_coordinates(values):
    values = np.array(values)
    bounds = (-(2.0**63), 2.0**63) if values.max() < 1e19 else (-np.inf, np.inf)
    column = NumericColumn(values, True, EPS, bounds)
    np.testing.assert_allclose(column.decode(column.encode(values)[0]), values, rtol=1e-6)
    assert np.isfinite(column.decode(np.array([[-9.0], [9.0]]))).all()


def test_tiny_values_beside_integers_are_kept():
    rng, n = np.random.default_rng(0), 500
    tiny = 10.0 ** rng.uniform(-12, -7, n)
    values = np.where(rng.random(n) < 0.4, tiny, rng.integers(0, 5, n))
    assert grid_step(values) == 0.0
    assert grid_step(np.array([1e-9, 1.0, 2.5])) == 0.0
    assert grid_step(np.arange(-1, 1, 0.1)) == pytest.approx(0.1)  # its 0 is -2e-16
    drawn = fitted(pd.DataFrame({"x": values})).sample(2000, random_state=0).x
    are_tiny = (drawn > 1e-14) & (drawn < 1e-5)
    assert are_tiny.mean() == pytest.approx(((values > 0) & (values < 1e-6)).mean(), abs=0.05)


@pytest.mark.slow
def test_columns_of_extreme_scales_are_fitted_to_and_scored():
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(200, 2))
    scales = np.array([1e-290, 1e290])
    plain, extreme = (fitted(pd.DataFrame(x, columns=["a", "b"])) for x in (unit, unit * scales))
    np.testing.assert_allclose(
        extreme.score_samples(pd.DataFrame(unit * scales, columns=["a", "b"])),
        plain.score_samples(pd.DataFrame(unit, columns=["a", "b"])) - np.log(scales).sum(),
        atol=1e-3,
    )
    assert np.isfinite(extreme.sample(50, random_state=0)).all(axis=None)


def test_columns_that_are_linear_functions_are_found_at_any_scale():
    x = np.random.default_rng(0).normal(size=(50, 2))
    assert collinear(np.column_stack([x[:, 0] * 1e-200, x[:, 0] * 1e200, x[:, 1]])) == [0, 1]


def test_a_dtype_ends_where_its_bounds_are():
    values = np.random.default_rng(0).normal(235, 8, 400).round().clip(0, 255).astype(np.uint8)
    column = TableEncoder().fit(pd.DataFrame({"n": values})).columns_[0]
    assert column.ends.high.at == -255.5
    assert set(column.decode(np.linspace(3, 30, 100)[:, None])) <= set(range(200, 256))


def test_a_score_falls_as_the_square_of_the_distance_from_an_end_however_small_its_unit_is():
    end = End(at=0.0, place=5.8e-270, share=0.5)
    with np.errstate(all="raise", under="ignore"):
        _, log_share = end.inside(np.array([1.0, -1e-100, -1e300]))
    assert log_share[0] == 0.0
    assert log_share[1] == pytest.approx(np.log(0.5) - 2 * np.log(1e-100 / 5.8e-270))
    assert log_share[2] - log_share[1] == pytest.approx(-800 * np.log(10))
