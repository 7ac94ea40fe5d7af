"""Numbers of which some values repeat, and have a probability each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from skbellman import BellmanDiffusionDensity
from skbellman.algebra import rescale
from skbellman.inspection.laws import law_of
from skbellman.tables import TableEncoder
from skbellman.tables.columns import (
    CountedColumn,
    LevelsOnALine,
    NumericColumn,
    RankedColumn,
)
from skbellman.tables.columns.choose import Numbers, are_few, column_of_numbers, stands_apart

RNG = np.random.default_rng(0)


def hours(n=20_000):
    """Return working hours: 40 in half of the rows, tens in others, any number in a few."""
    kind = RNG.choice(3, n, p=[0.5, 0.3, 0.2])
    tens = RNG.choice([20.0, 30.0, 50.0, 60.0], n)
    return np.select([kind == 0, kind == 1], [40.0, tens], RNG.integers(1, 90, n).astype(float))


def ages(n):
    """Return ages from 18 on, an evenly falling number of each."""
    return 18 + RNG.triangular(0, 0, 60, n).round()


def ranked(values):
    return RankedColumn(values, Numbers(values, 1e-16).repeated, 1e-16)


@pytest.fixture(scope="module")
def worked():
    values = hours()
    return values, ranked(values)


def test_each_value_has_the_room_of_its_share(worked):
    values, column = worked
    grid = np.arange(values.min() - 20, values.max() + 21)
    within = (np.arange(2000) + 0.5) / 2000
    z, log_slope = column.encode(grid.repeat(2000), np.tile(within, len(grid)))
    mass = np.exp(norm.logpdf(z[:, 0]) + log_slope).reshape(len(grid), -1).mean(1)
    shares = (values[:, None] == grid).mean(0)
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    np.testing.assert_allclose(mass, shares, atol=4e-3)
    assert mass[40 - int(grid[0])] > 0.4  # the smooth shape gives .02
    # Unseen, within and beyond the values that were seen: less usual, but not impossible.
    assert (mass > 0).all()


def test_log_measure_is_the_slope_and_draws_have_the_shares(worked):
    values, column = worked
    x, place = np.arange(1, 90.0), RNG.uniform(0.1, 0.9, 89)
    step = 1e-5
    ends = [column.encode(x, place + side * step)[0] for side in (1, -1)]
    slope = (ends[0] - ends[1])[:, 0] / (2 * step)
    np.testing.assert_allclose(np.log(slope), column.encode(x, place)[1], atol=1e-4)
    drawn = column.decode(RNG.standard_normal((40_000, 1)))
    assert np.isin(drawn, np.arange(120.0)).all()
    for hour in (20, 39, 40, 50):
        assert (drawn == hour).mean() == pytest.approx((values == hour).mean(), abs=0.01)
    seen = np.unique(values)
    np.testing.assert_array_equal(column.decode(column.encode(seen)[0]), seen)


def test_values_far_away_have_finite_scores(worked):
    _, column = worked
    z, log_measure = column.encode(np.array([-1e12, -1e3, 1e3, 1e12]))
    assert np.isfinite(z).all()
    assert np.isfinite(log_measure).all()
    assert (np.diff(column.encode(np.linspace(-300, 400, 99))[0][:, 0]) >= 0).all()


@pytest.mark.parametrize("far", [1e17, -1e300, 1e308])
@pytest.mark.parametrize("scale", [1e-290, 1.0])
def test_scores_fall_far_away_however_far_it_is(far, scale):
    values = np.random.default_rng(0).standard_normal(200) * scale
    values[:60] = 0
    column = TableEncoder().fit(values[:, None]).columns_[0]
    z, log_measure = column.encode(np.array([far]))
    score = log_measure - 0.5 * z[:, 0] ** 2
    assert isinstance(column, RankedColumn)
    assert np.isfinite(score)
    assert score < -1e30


def test_a_closed_end_whose_next_value_is_one_rounding_error_away():
    near = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 6, 30, 67, 69, 89, 91, 247, 291]
    values = 1e6 + np.concatenate(
        [np.array(near) * np.spacing(1e6), [1, 1, 1, 2, 2, 2, 3, 3, 3, 3]]
    )
    encoder = TableEncoder().fit(values[:, None])
    _, log_measure = encoder.spread(encoder.read(values[:, None]), 2, np.random.default_rng(0))
    assert np.isfinite(log_measure).all()


def test_an_end_that_comes_at_once_is_not_passed():
    values = np.append(ages(5000), np.full(40, 90.0))  # 90 stands for all above
    table = pd.DataFrame({"age": values, "x": RNG.normal(size=5040)})
    column = TableEncoder().fit(table).columns_[0]
    drawn = column.decode(RNG.standard_normal((50_000, 1)))
    assert drawn.min() == 18
    assert drawn.max() == 90
    for age in (18, 19, 90):
        assert (drawn == age).mean() == pytest.approx((values == age).mean(), rel=0.15)
    far = column.decode(np.array([[-9.0], [9.0]]))
    assert ((far >= 18) & (far <= 90)).all()
    # What lies beyond is improbable, but not impossible.
    z, log_slope = column.encode(np.array([16.0, 17.0, 18.0, 90.0, 91.0, 92.0]))
    mass = np.exp(norm.logpdf(z[:, 0]) + log_slope)
    assert (mass > 0).all()
    assert mass[:2].max() < 1e-2 * mass[2]
    assert mass[4:].max() < 0.1 * mass[3]


def test_draws_folded_at_an_end_are_on_the_grid():
    values = RNG.integers(0, 1000, 20_000) / 10
    column = NumericColumn(values, True, 1e-16)
    drawn = column.decode(1.5 * RNG.standard_normal((20_000, 1)))
    assert np.isin(drawn, values).all()


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (hours(2000), True),
        (RNG.normal(40, 12, 2000).round(), False),
        (RNG.integers(0, 80, 200).astype(float), False),
        (np.concatenate([RNG.normal(m, 3, 1000) for m in (10, 60)]).round(), False),  # two modes
        (np.append(hours(2000), 1e6), True),  # a long grid, of few values
        (np.append(hours(2000), 1e7), False),  # too long a grid
        (np.append(RNG.integers(0, 300, 2000), 1000.0), False),  # long, and many values
        (np.array([1.0, 2.0]), False),
        (ages(2000), True),
        (-ages(2000), True),
        (RNG.normal(40, 12, 2000).round().clip(max=60), True),  # all above stand at 60
        (RNG.poisson(30, 2000).astype(float), False),
    ],
)
def test_values_stand_apart_from_those_beside_them(values, answer):
    assert stands_apart(values, 1.0) is answer
    assert not stands_apart(values, 0.0)


def test_few_values_are_levels_in_their_order():
    values = np.repeat([2.0, 2.5, 3.0, 4.0], [400, 5, 300, 200])
    assert are_few(values, 0.5)
    assert not are_few(values[::100], 0.5)
    column = LevelsOnALine(values, 0.5)
    np.testing.assert_array_equal(column.levels, [2.0, 2.5, 3.0, 3.5, 4.0])
    points = column.corners[:, 0]
    assert np.diff(points).min() > 7 * 2 * column.floor * 0.999
    z, log_measure = column.encode(np.array([2.0, 2.5, 3.25, 4.0, 4.5, 5.0, np.nan]))
    np.testing.assert_array_equal(column.decode(z)[[0, 1, 3]], [0, 1, 4])
    # What lies beyond the last level has hardly any of its probability.
    peak = 0.5 * np.log(2 * np.pi * column.floor**2) - np.log(0.5)
    assert log_measure[1] == pytest.approx(peak)
    assert log_measure[2] == -np.inf  # off the grid
    np.testing.assert_allclose(np.exp(log_measure[3:6] - peak), [1, 1e-4, 1e-8])


PRICES = np.array([0.99, 1.49, 4.99, 5.0, 19.99, 49.9, 99.0, 250.0, 999.0, 4999.0])


def test_a_few_values_far_apart_have_their_shares():
    shares = np.array([20, 5, 25, 4, 15, 12, 8, 6, 4, 1]) / 100
    values = RNG.choice(PRICES, 3000, p=shares)
    column = ranked(values)
    assert column.smooth.step == pytest.approx(0.01)
    ends = [column.encode(PRICES, place)[0] for place in (0.001, 0.999)]
    mass = np.diff(norm.cdf(np.hstack(ends)))[:, 0] / 0.998
    np.testing.assert_allclose(mass, (values[:, None] == PRICES).mean(0), rtol=0.02)
    drawn = column.decode(RNG.standard_normal((20_000, 1)))
    assert np.isin(drawn, PRICES).mean() > 0.99
    for price, share in zip(PRICES, shares, strict=True):
        assert (drawn == price).mean() == pytest.approx(share, abs=0.02)
    assert np.isfinite(column.encode(np.array([3.0, 1e9]))[1]).all()
    # Not one for each of 500,000 steps.
    assert len(column._rooms.log_mass) <= 2 * len(PRICES) + 2


@pytest.mark.slow
def test_prices_beside_an_atom_are_drawn_as_they_are():
    n = 2000
    paid = np.where(RNG.random(n) < 0.3, RNG.choice(PRICES, n), 0.0)
    table = pd.DataFrame({"price": paid, "x": RNG.normal(size=n)})
    density = BellmanDiffusionDensity(n_steps=100, width=32, random_state=0).fit(table)
    column = density.encoder_.columns_[0]
    assert set(column.repeated) == {0.0, *PRICES}
    drawn = density.sample(2000, random_state=0).price
    assert np.isin(drawn, np.append(0.0, PRICES)).mean() > 0.97
    assert (drawn == 0).mean() == pytest.approx((paid == 0).mean(), abs=0.05)


def test_the_encoder_chooses():
    n = 3000
    table = pd.DataFrame(
        {
            "hours": hours(n),
            "children": RNG.poisson(1.5, n),
            "weight": RNG.normal(70, 10, n),
            "age": RNG.normal(40, 9, n).round(),
        }
    )
    kinds = [RankedColumn, CountedColumn, NumericColumn, NumericColumn]
    assert [type(c) for c in TableEncoder().fit(table).columns_] == kinds
    for plain in (TableEncoder(dequantize=False), TableEncoder(atom_share=1.0)):
        assert not {RankedColumn, CountedColumn} & {type(c) for c in plain.fit(table).columns_}


@pytest.mark.slow
def test_a_number_that_is_a_function_of_a_category():
    n = 3000
    code = RNG.choice(5, n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    numbers = {"a": 3, "b": 1, "c": 7, "d": 4, "e": 9}
    number = np.array(list(numbers.values()))[code]
    table = pd.DataFrame({"name": np.array(list("abcde"))[code], "number": number})
    density = BellmanDiffusionDensity(n_steps=300, width=64, random_state=0).fit(table)
    drawn = density.sample(2000, random_state=0)
    assert drawn.dtypes.to_dict() == table.dtypes.to_dict()
    right = drawn.number.to_numpy() == drawn.name.map(numbers)
    assert right.mean() > 0.97
    pairs = pd.MultiIndex.from_product([list("abcde"), range(1, 10)], names=["name", "number"])
    every = pairs.to_frame(index=False)
    probability = np.exp(density.score_samples(every))
    assert probability.sum() == pytest.approx(1, abs=0.03)
    of_rows = np.exp(density.score_samples(table.drop_duplicates()))
    assert of_rows.sum() > 0.95
    number_alone = np.exp(density.score_samples(every[["number"]][:9], columns=["number"]))
    shares = [(number == k).mean() for k in range(1, 10)]
    np.testing.assert_allclose(number_alone, shares, atol=0.03)


@pytest.mark.slow
def test_numbers_that_were_not_there_score_little():
    quality = RNG.integers(3, 9, 500)
    table = pd.DataFrame({"quality": quality, "half": quality / 2, "x": RNG.normal(size=500)})
    density = BellmanDiffusionDensity(n_steps=50, width=32, random_state=0).fit(table)
    rows = pd.DataFrame({"quality": [8, 9, 10], "half": 4.0, "x": 0.0})
    scores = density.score_samples(rows)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < -3).all()
    # As conditions, those beyond the ends are like the ends; there are none off the grid.
    assert (density.sample(5, given={"quality": 9}, random_state=0).quality == 9).all()
    with pytest.raises(ValueError, match="'quality' holds whole numbers"):
        density.sample(5, given={"quality": 8.5})
    with pytest.raises(ValueError, match=r"'half' holds 3.25, which was not in the fitted table"):
        density.sample(5, given={"half": 3.25})


def part_normal(n=400, atom=1.5, share=0.4):
    """Return a normal column with an atom, a normal column, and which rows are at the atom."""
    rng = np.random.default_rng(0)
    at = rng.random(n) < share
    x, y = rng.normal(size=(2, n))
    return pd.DataFrame({"x": np.where(at, atom, x), "y": y}), at


def quick(table):
    return BellmanDiffusionDensity(n_steps=10, width=8, random_state=0).fit(table)


@pytest.mark.parametrize("sentinel", [1e14, 1e20, 1e300, -1e300])
def test_a_sentinel_far_away_leaves_the_rest_as_it_is(sentinel):
    table, at = part_normal(atom=sentinel, share=0.1)
    column = ranked(table["x"].to_numpy())
    drawn = column.decode(RNG.standard_normal((4000, 1)))
    assert (drawn == sentinel).mean() == pytest.approx(at.mean(), abs=0.02)
    rest = drawn[drawn != sentinel]
    assert rest.std() == pytest.approx(table["x"][~at].std(), rel=0.1)
    assert len(np.unique(rest)) > 0.9 * len(rest)
    log_measure = column.encode(table["x"][~at].to_numpy())[1]
    assert np.isfinite(log_measure).all()


@pytest.mark.parametrize("weights", [np.full(400, 3.0), np.random.default_rng(1).poisson(1, 400)])
def test_weights_make_no_atoms(weights):
    table, _ = part_normal()
    density = BellmanDiffusionDensity(n_steps=5, width=8, random_state=0)
    density.fit(table[["y"]], sample_weight=weights)
    assert type(density.encoder_.columns_[0]) is NumericColumn


def test_new_identifiers_do_not_hide_copies():
    table, _ = part_normal()
    copies = table.sample(400, replace=True, random_state=0)
    named = copies.assign(id=np.arange(400))
    column = TableEncoder(identifiers=["id"]).fit(named).columns_[1]
    assert type(column) is NumericColumn


@pytest.mark.slow
def test_a_number_that_a_user_types_is_that_of_single_precision():
    table, at = part_normal(atom=0.1)
    single = table.astype(np.float32)
    density = quick(single)
    typed = single.astype(str).astype(float)
    np.testing.assert_array_equal(density.score_samples(typed), density.score_samples(single))
    below = density.sample(400, given={"x": (None, 0.1)}, random_state=0)["x"]
    expected = at.mean() / (single["x"] <= np.float32(0.1)).mean()
    assert (below == np.float32(0.1)).mean() == pytest.approx(expected, abs=0.12)


def test_there_is_no_gradient_at_an_atom():
    table, at = part_normal()
    gradient = quick(table).gradient(table)
    np.testing.assert_array_equal(gradient["x"].isna(), at)
    assert gradient["y"].notna().all()


def test_other_units_move_no_value_onto_an_atom():
    t = np.where(np.arange(400) % 3 == 0, 1.7e9, 1.7e9 + 1e3 * RNG.normal(size=400))
    density = quick(pd.DataFrame({"t": t, "y": RNG.normal(size=400)}))
    near = pd.DataFrame({"t": [1.7e9 + 0.5, 1.7e9], "y": 0.0})
    same = rescale(density, {"t": (1.0, 0.0)})
    np.testing.assert_allclose(same.score_samples(near), density.score_samples(near), atol=1e-6)


@pytest.mark.slow
def test_an_atom_of_a_long_grid_is_drawn_as_a_bar():
    w = np.where(np.arange(400) % 5 < 2, 0, RNG.integers(1, 9000, 400))
    law = law_of(quick(pd.DataFrame({"w": w, "y": RNG.normal(size=400)})), "w", 0, 9000)
    assert law.points.tolist() == [0.0]
    assert law.probabilities[0] == pytest.approx(0.4, abs=0.03)
    assert np.trapezoid(law.density, law.places) == pytest.approx(0.6, abs=0.1)


def test_values_are_scored_however_far_they_are_from_a_repeated_one():
    """The middle of the others is 1e80 units of its width away from the repeated value."""
    values = np.array(5 * [2.202543e95] + [1.0, 5.792243e-270, 1.125889e14])
    column = RankedColumn(values, np.array([2.202543e95]), 1e-16)
    asked = np.array([2.202543e95, 1.0, 1e200, 1e300, -1e300])
    with np.errstate(all="raise", under="ignore"):
        z, log_measure = column.encode(asked)
    assert np.isfinite(z).all()
    score = log_measure - 0.5 * z[:, 0] ** 2 - 0.5 * np.log(2 * np.pi)
    assert np.isfinite(score).all()
    assert score[1] > score[2] >= score[3]


@pytest.mark.parametrize("is_first", [None, np.ones(6000, dtype=bool)])
def test_values_that_differ_by_rounding_are_one_value_of_the_grid(is_first):
    """Tenths that are computed in two ways: 3 * 0.1 is not 0.3."""
    rng = np.random.default_rng(0)
    tenths = rng.choice([3, 6, 7, 12, 14, 40, 41, 200], 6000, p=np.arange(1, 9) / 36)
    values = np.where(rng.random(6000) < 0.4, tenths * 0.1, tenths / 10)
    assert len(np.unique(values)) > 8
    column = column_of_numbers(Numbers(values, 1e-16, is_first=is_first))
    assert isinstance(column, RankedColumn)
    drawn = column.decode(np.random.default_rng(1).standard_normal((20_000, 1)))
    for k in np.unique(tenths):
        share = (tenths == k).mean()
        error = np.sqrt(share * (1 - share) / 20_000)
        assert (np.abs(drawn - k / 10) < 1e-9).mean() == pytest.approx(share, abs=4 * error)
        for asked in (k * 0.1, k / 10):
            place = (np.arange(200) + 0.5) / 200
            z, log = column.encode(np.full(200, asked), place)
            np.testing.assert_array_equal(column.decode(z), column.decode(z)[0])
            assert column.decode(z)[0] == pytest.approx(k / 10, abs=1e-9)
            # Uniform over its cell, of a normal coordinate: the density is the share, by unit.
            found = np.exp(log - 0.5 * z[:, 0] ** 2 - 0.5 * np.log(2 * np.pi))
            np.testing.assert_allclose(found, share / 0.1, rtol=0.01)
