from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pytest
from scipy.special import logsumexp
from sklearn.base import clone

from skbellman import BellmanDiffusionDensity
from skbellman.tables import TableEncoder, is_missing
from skbellman.tables.columns import CategoricalColumn, NumericColumn
from skbellman.tables.grids import grid_step
from skbellman.tables.shaping import inverse_yeo_johnson, yeo_johnson

RNG = np.random.default_rng(0)
SHAPES = {
    "normal": RNG.normal(3, 2, 500),
    "skewed": RNG.lognormal(0, 1, 500),
    "heavy": RNG.standard_cauchy(500),
    "outlier": np.append(RNG.normal(size=499), 1e6),
    "mostly zero": np.append(np.zeros(450), RNG.random(50)),
    "huge": 1e12 + RNG.normal(size=500),
}


def make_column(values, dequantize=False):
    return NumericColumn(values, dequantize, np.finfo(float).eps)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_numeric_column_round_trips_at_unit_scale(shape):
    values = SHAPES[shape]
    column = make_column(values)
    z, log_slope = column.encode(values)
    assert abs(z.mean()) < 1e-6
    assert z.std() == pytest.approx(1)
    assert np.isfinite(log_slope).all()
    np.testing.assert_allclose(column.decode(z), values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "low_end", "high_end"),
    [
        (5 + RNG.random(1000), True, True),
        (RNG.beta(5, 1, 1000), False, True),
        (RNG.exponential(size=1000) - 2, True, False),
        (RNG.beta(3, 3, 1000), False, False),
        (RNG.normal(size=1000), False, False),
        (RNG.standard_t(3, 1000), False, False),
        (RNG.random(30) - 0.5, False, False),  # so few rows do not tell
    ],
)
def test_nothing_is_drawn_beyond_an_end_that_comes_at_once(values, low_end, high_end):
    column, low, high = make_column(values), values.min(), values.max()
    for beyond, comes_at_once in ((low - 0.02, low_end), (high + 0.02, high_end)):
        drawn = column.decode(column.encode(np.array([beyond]))[0])
        assert drawn == pytest.approx(beyond) or comes_at_once or beyond < 0 < low
    far = column.decode(np.array([[-12.0], [12.0]]))
    assert (far[0] >= low) | (not low_end)
    assert (far[1] <= high) | (not high_end)


def test_heavy_tails_are_tamed():
    for shape in ("heavy", "outlier"):
        z, _ = make_column(SHAPES[shape]).encode(SHAPES[shape])
        assert np.abs(z).max() < 15


@pytest.mark.parametrize("values", [
    RNG.random(150) < 0.75,
    RNG.poisson(0.1, 500),
    np.exp(3 * RNG.normal(size=500)).round(),
    np.append(np.zeros(900), np.exp(7 + RNG.normal(size=100)).round()),
])  # fmt: skip
def test_draws_of_a_column_with_ties_stay_near_the_table(values):
    values = values.astype(float)
    column = make_column(values, dequantize=True)
    drawn = column.decode(np.linspace(-5, 5, 11)[:, None])
    assert np.abs(drawn).max() <= 100 * values.max()


@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy"])
def test_the_log_measure_is_the_log_jacobian(shape):
    column, x = make_column(SHAPES[shape]), np.linspace(0.1, 7.3, 50)
    step = 1e-5
    slope = (column.encode(x + step)[0] - column.encode(x - step)[0])[:, 0] / (2 * step)
    np.testing.assert_allclose(np.log(slope), column.encode(x)[1], atol=1e-5)


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0, 2.0])
def test_yeo_johnson_has_its_inverse(power):
    u = np.linspace(-5, 5, 41)
    np.testing.assert_allclose(inverse_yeo_johnson(yeo_johnson(u, power), power), u, atol=1e-12)


@pytest.mark.parametrize(("values", "step"), [
    (RNG.integers(0, 50, 300), 1.0),
    (RNG.integers(0, 50, 300) * 5 + 3, 5.0),
    (np.append(RNG.integers(0, 200, 300) * 0.005, 0.005), 0.005),
    (RNG.integers(0, 20, 300) / 60, 1 / 60),
    (RNG.normal(size=300), 0.0),
    (RNG.normal(size=300).astype(np.float32), 0.0),
    (np.ones(5), 0.0),
])  # fmt: skip
def test_grids_are_found(values, step):
    precision = np.finfo(values.dtype).eps if values.dtype.kind == "f" else np.finfo(float).eps
    assert grid_step(values, precision) == pytest.approx(step, rel=1e-6)


def test_a_column_on_a_grid_is_spread_and_put_back():
    values = RNG.integers(0, 100, 400) * 0.005
    column = make_column(values, dequantize=True)
    spread, _ = column.encode(values, np.random.default_rng(0).random(len(values)))
    assert len(np.unique(spread)) == len(spread)
    np.testing.assert_allclose(column.decode(spread), values, rtol=1e-12)


@pytest.mark.parametrize("n_levels", [1, 2, 5])
def test_a_category_reads_its_probability_off_the_corners(n_levels):
    column = CategoricalColumn(np.array(list("abcde")[:n_levels], dtype=object))
    corners, log_measure = column.encode(column.levels)
    assert corners.shape == (n_levels, n_levels - 1)
    distance = np.linalg.norm(corners[:, None] - corners[None], axis=-1)
    np.testing.assert_allclose(distance, np.sqrt(2) * (1 - np.eye(n_levels)), atol=1e-12)
    probability = np.arange(1, n_levels + 1) / np.arange(1, n_levels + 1).sum()
    log_density = logsumexp(
        -(distance**2) / (2 * column.floor**2)
        - 0.5 * (n_levels - 1) * np.log(2 * np.pi * column.floor**2),
        b=probability,
        axis=1,
    )
    np.testing.assert_allclose(np.exp(log_density + log_measure), probability)
    np.testing.assert_array_equal(column.decode(corners + 0.1), np.arange(n_levels))
    assert column.encode(np.array(["z"], dtype=object))[1][0] == -np.inf


def mixed_frame(library):
    columns = {
        "count": RNG.integers(0, 9, 60),
        "amount": RNG.normal(size=60).astype(np.float32),
        "word": RNG.choice(["x", "y", "z"], 60).tolist(),
        "flag": RNG.random(60) < 0.5,
        "same": ["c"] * 60,
    }
    if library == "polars":
        levels = pl.Enum(["low", "mid", "high"])
        level = pl.Series("level", RNG.choice(["low", "high"], 60).tolist(), dtype=levels)
        return pl.DataFrame(columns).with_columns(level)
    frame = pd.DataFrame(columns, index=np.arange(100, 160))
    frame["level"] = pd.Categorical(
        RNG.choice(["low", "high"], 60), categories=["low", "mid", "high"], ordered=True
    )
    frame["nullable"] = pd.array(RNG.integers(0, 4, 60), dtype="Int64")
    return frame


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_round_trips(library):
    frame = mixed_frame(library)
    encoder = TableEncoder().fit(frame)
    matrix, _ = next(encoder.encode_cells(encoder.read(frame), 9))
    back = encoder.restore(encoder.decode(matrix))
    if library == "polars":
        pl.testing.assert_frame_equal(back, frame)
    else:
        pd.testing.assert_frame_equal(back, frame.reset_index(drop=True))
    expected = [c in ("word", "flag", "same", "level") for c in frame.columns]
    np.testing.assert_array_equal(encoder.is_categorical_, expected)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_draws_do_not_wrap_around_small_integers(make):
    encoder = TableEncoder().fit(make({"a": np.array([-128, 3, 40, 127], dtype=np.int8)}))
    drawn = encoder.restore(encoder.decode(np.array([[-9.0], [9.0]])))["a"]
    assert drawn.to_list() == [-128, 127]


def test_declared_categories():
    frame = pd.DataFrame({"a": [1, 2, 1, 3], "b": [0.5, 0.1, 0.2, 0.7]})
    for chosen in (["a"], [0], [True, False]):
        np.testing.assert_array_equal(
            TableEncoder(chosen).fit(frame).is_categorical_, [True, False]
        )
    with pytest.raises(ValueError, match="'c', which is no column"):
        TableEncoder(["c"]).fit(frame)
    with pytest.raises(ValueError, match="Column 'word' holds categories"):
        TableEncoder(None).fit(frame.assign(word=list("abab")))


def test_columns_are_shaped_unless_that_bends_clusters():
    rng = np.random.default_rng(0)
    skewed = np.exp(rng.normal(size=(600, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]]))
    assert all(column.power < 0.5 for column in TableEncoder().fit(skewed).columns_)
    modes = np.array([[0.0, 0.0], [4.0, 1.0], [9.0, 9.0]])
    clusters = modes[rng.choice(3, 600, p=[0.6, 0.3, 0.1])] + rng.normal(0, 0.3, (600, 2))
    first, second = TableEncoder().fit(clusters).columns_
    assert first.power == second.power == 1
    assert np.isinf([first.tail, second.tail]).all()
    values = clusters[:, 1]  # which has no end
    coordinate = second.encode(values)[0][:, 0]
    np.testing.assert_allclose(coordinate, (values - values.mean()) / values.std(), atol=1e-9)


def days() -> np.ndarray:
    return np.datetime64("2020-01-01", "us") + RNG.integers(0, 900, 60) * np.timedelta64(1, "D")


def times() -> np.ndarray:
    return np.datetime64("2020-01-01T10:11:12", "us") + RNG.integers(0, 10**7, 60) * np.timedelta64(
        1, "s"
    )


DATES = pd.DataFrame(
    {
        "day": days().astype("datetime64[ns]"),
        "second": times(),
        "there": pd.Series(times()).dt.tz_localize("Europe/Berlin"),
        "gap": pd.Series(days()).mask(RNG.random(60) < 0.3),
    }
)


@pytest.mark.parametrize("frame", [DATES, pl.from_pandas(DATES)], ids=["pandas", "polars"])
def test_dates_round_trip_to_the_unit_of_their_clock(frame):
    encoder = TableEncoder().fit(frame)
    values = encoder.read(frame)
    back = encoder.restore([np.nan_to_num(v) for v in values])
    if isinstance(frame, pd.DataFrame):
        whole = frame.dropna()
        pd.testing.assert_frame_equal(back.loc[whole.index], whole)
    else:
        kept = pl.all_horizontal(pl.all().is_not_null())
        polars.testing.assert_frame_equal(
            back.filter(frame.select(kept).to_series()), frame.filter(kept)
        )
    matrix, _ = next(encoder.encode_cells(values, 1))
    drawn = encoder.restore(encoder.decode(np.nan_to_num(matrix) + 0.01))
    seconds = pd.Series(drawn["second"].to_numpy())
    assert (seconds == seconds.dt.floor("s")).all()
    days = pd.Series(drawn["day"].to_numpy())
    assert (days == days.dt.floor("D")).all()


def numbers_given(encoder, row):
    return [cells.numbers() for cells in encoder.read_given(row)]


def restored(encoder, row):
    """Return a row of a table that holds what is given, and any numbers beside it."""
    given = encoder.read_given(row)
    return encoder.restore([np.zeros(1)] * len(given), given)


def test_a_date_is_given_as_users_have_it():
    encoder = TableEncoder().fit(DATES)
    first = DATES["second"][0]
    for value in (first, first.to_pydatetime(), first.to_datetime64(), first.isoformat()):
        assert restored(encoder, {"second": value})["second"][0] == first
    zoned = DATES["there"][0]
    for value in (zoned, zoned.tz_convert("UTC"), zoned.tz_localize(None), str(zoned)):
        assert restored(encoder, {"there": value})["there"][0] == zoned
    with pytest.raises(ValueError, match="'second' holds dates without a time zone, not Timestamp"):
        encoder.read_given({"second": zoned})
    with pytest.raises(ValueError, match="'day' holds dates without a time zone, not 'tomorrow'"):
        encoder.read_given({"day": "tomorrow"})


@pytest.mark.parametrize("frame", [DATES, pl.from_pandas(DATES)], ids=["pandas", "polars"])
def test_a_date_that_is_not_clear_is_refused(frame):
    """Clocks went back at 3 on 25 October 2020, and on at 2 on 29 March."""
    encoder = TableEncoder().fit(frame)
    for value in ("2020-10-25T02:30", "2020-03-29T02:30"):
        with pytest.raises(ValueError, match=f"'there' holds dates with a time .*, not '{value}'"):
            encoder.read_given({"there": value})
        encoder.read_given({"there": f"{value}+01:00"})
    with pytest.raises(ValueError, match=r"'day' holds dates without .*, not .*20000-01-01"):
        encoder.read_given({"day": np.datetime64("20000-01-01")})


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA, pd.NaT, np.datetime64("NaT")])
def test_what_is_missing_in_a_condition_is_no_condition(gap):
    frame = DATES.assign(number=RNG.normal(size=60), level=list("abc") * 20)
    encoder = TableEncoder().fit(frame)
    for name in frame:
        assert all(is_missing(cells.numbers()).all() for cells in encoder.read_given({name: gap}))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 300), ("uint8", -1), ("Int16", 40_000), ("uint64", -1), ("int64", 2.0**64)],
)
def test_a_condition_that_the_dtype_cannot_hold_is_refused(dtype, value):
    encoder = TableEncoder().fit(pd.DataFrame({"a": pd.array(range(60), dtype=dtype)}))
    with pytest.raises(ValueError, match=r"dtype of column 'a' holds .*cannot hold"):
        encoder.read_given({"a": value})


def test_a_date_between_units_of_the_clock_is_refused():
    encoder = TableEncoder().fit(DATES)
    first = DATES["day"][0]
    encoder.check_holdable(numbers_given(encoder, {"day": first, "second": DATES["second"][1]}))
    noon = first + pd.Timedelta(hours=12)
    with pytest.raises(
        ValueError, match=f"'day' holds whole days, so it cannot hold {noon:%Y-%m-%d}T12"
    ):
        encoder.check_holdable(numbers_given(encoder, {"day": noon}))


def test_draws_stay_within_the_dtype():
    order = np.random.default_rng(0).permuted(np.tile(np.arange(60), (3, 1)), axis=1)
    frame = pd.DataFrame({"small": order[0].astype(np.uint8)})
    frame["large"] = order[1].astype(np.uint64) * np.uint64(2**58)
    frame["old"] = np.array(["1600-01-01"], dtype="datetime64[s]") + order[2] * 10**6
    encoder = TableEncoder().fit(frame)
    pd.testing.assert_frame_equal(encoder.restore(encoder.read(frame)), frame)
    drawn = encoder.restore([np.array([-1e30, 1e30])] * 3)
    assert drawn["small"].tolist() == [0, 255]
    assert drawn["large"].tolist() == [0, 2**64 - 1]
    assert drawn["old"].dt.year.tolist() == [1, 9999]


def test_dates_are_not_read_as_numbers_nor_numbers_as_dates():
    encoder = TableEncoder().fit(DATES)
    with pytest.raises(ValueError, match="'day' holds numbers, but held dates without a time zone"):
        encoder.read(DATES.assign(day=1.5))
    assert np.isnan(encoder.read(DATES.assign(day=np.nan))[0]).all()
    numbers = TableEncoder().fit(pd.DataFrame({"day": RNG.normal(size=60)}))
    with pytest.raises(ValueError, match="'day' holds dates without a time zone, but held numbers"):
        numbers.read(DATES[["day"]])


def test_a_fitted_encoder_is_used_as_it_is_and_survives_a_clone():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60), "c": rng.choice(["a", "b"], 60)})
    encoder = TableEncoder(atom_share=0.5).fit(frame)
    density = BellmanDiffusionDensity(encoder=encoder, n_steps=2, width=8, random_state=0)
    copied = clone(density)
    assert copied.encoder.measure == encoder.measure
    assert density.fit(frame[:40]).encoder_ is encoder
    assert density.measure_ == copied.fit(frame[40:]).measure_
    with pytest.raises(ValueError, match=r"columns of X are \['c', 'x'\]"):
        density.fit(frame[["c", "x"]])
    with pytest.raises(
        ValueError, match=r"'c' holds 'z'.*Fit the encoder to a table that holds it"
    ):
        density.fit(frame.assign(c="z"))
    with pytest.raises(ValueError, match="Set categorical_features in the encoder"):
        clone(density).set_params(categorical_features=["c"]).fit(frame)


def test_an_unfitted_encoder_has_parameters_to_search():
    frame = pd.DataFrame({"k": np.arange(40), "x": np.random.default_rng(0).normal(size=40)})
    density = BellmanDiffusionDensity(encoder=TableEncoder(), n_steps=2, width=8, random_state=0)
    plain = clone(density).set_params(encoder__dequantize=False).fit(frame)
    assert density.fit(frame).encoder_.has_cells()
    assert not plain.encoder_.has_cells()
    assert not hasattr(density.encoder, "layout_")
    fitted = TableEncoder().fit(frame)
    assert not hasattr(fitted.set_params(atom_share=1.0), "layout_")


def test_values_far_below_the_width_of_a_column_are_at_its_end():
    values = np.array([0.0, 112588864784356.0, 2.225073858507e-311])
    frame = pd.DataFrame({"x": values, "y": [1.0, 2.0, 4.0]})
    density = BellmanDiffusionDensity(n_steps=2, width=8, n_nodes=4, random_state=0).fit(frame)
    assert np.isfinite(density.score_samples(frame)).all()
    assert (density.sample(50, random_state=0)["x"] >= 0).all()
