"""What is given comes back as it was, and what is drawn the column can hold, whatever the dtype."""

from __future__ import annotations

import enum
import pickle
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from skbellman import BellmanDiffusionDensity, BellmanImputer, TableEncoder

N = 60
IS_GAP = np.isin(np.arange(N), (3, 17, 18, 40))
BERLIN = "Europe/Berlin"
TINY = {
    "n_steps": 2, "width": 8, "depth": 1, "n_levels": 4, "n_nodes": 2, "random_state": 0,
}  # fmt: skip
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Orders:
    """0 to N - 1 in another random order each time."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def up_from(self, least: int = 0) -> list[int]:
        return [least + int(k) for k in self.rng.permutation(N)]

    def down_from(self, most: int) -> list[int]:
        return [most - int(k) for k in self.rng.permutation(N)]

    def words(self) -> list[str]:
        return ["xyz"[k % 3] for k in self.up_from()]

    def moments(self, unit: str) -> np.ndarray:
        """Return times that differ in the last digit of the unit."""
        step = np.timedelta64({"s": 86_401, "ms": 3_600_001}.get(unit, 1_000_001), unit)
        return np.datetime64("2020-01-01T00:00:01", unit) + np.array(self.up_from()) * step


def gapped(values) -> list:
    return [None if gap else value for value, gap in zip(values, IS_GAP, strict=True)]


def numpy_columns() -> dict[str, pd.Series]:
    orders = Orders()
    columns = {name: np.array(orders.down_from(np.iinfo(name).max), name) for name in WHOLE}
    columns["int64 least"] = np.array(orders.up_from(-(2**63)))
    columns["int64 identifiers"] = np.array(orders.up_from(2**53 + 1))
    columns["int64 sentinel"] = np.array([2**63 - 1 if k < 9 else k for k in orders.up_from()])
    columns["int64 same"] = np.full(N, 2**53 + 1)
    for name in ("float16", "float32"):
        columns[name] = (float(np.finfo(name).max) * orders.rng.uniform(-1, 1, N)).astype(name)
    columns["float64"] = np.where(IS_GAP, np.nan, orders.rng.normal(size=N))
    columns["bool"] = orders.rng.random(N) < 0.5
    columns["year 9999"] = np.datetime64("9999-12-31", "us") - np.array(
        orders.up_from()
    ) * np.timedelta64(1, "D")
    columns["same date"] = np.full(N, np.datetime64("2020-01-01T00:00:00.000000001"))
    frame = {name: pd.Series(values) for name, values in columns.items()}
    for unit in ("s", "ms", "us", "ns"):
        frame[f"datetime64[{unit}]"] = pd.Series(orders.moments(unit)).mask(IS_GAP)
        there = pd.Series(orders.moments(unit)).dt.tz_localize("UTC").dt.tz_convert(BERLIN)
        frame[f"datetime64[{unit}] there"] = there.mask(IS_GAP)
    return frame


def nullable_columns() -> dict[str, pd.Series]:
    orders = Orders()
    columns = {
        name: pd.array(gapped(orders.down_from(int(np.iinfo(name.lower()).max))), dtype=name)
        for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    }
    for name in ("Float32", "Float64"):
        columns[name] = pd.array(gapped(orders.rng.normal(size=N)), dtype=name)
    columns["boolean"] = pd.array(gapped(orders.rng.random(N) < 0.5), dtype="boolean")
    for name in ("string", "str", "category"):
        columns[name] = pd.array(gapped(orders.words()), dtype=name)
    columns["mixed category"] = pd.Categorical(gapped([(1, "a")[k % 2] for k in orders.up_from()]))
    columns["cut"] = pd.cut(np.array(orders.up_from()), 3)
    return {name: pd.Series(values) for name, values in columns.items()}


def object_columns() -> dict[str, pd.Series]:
    orders, start = Orders(), datetime(2020, 1, 1)
    columns = {
        "int": orders.up_from(),
        "large int": orders.up_from(10**25),
        "NumPy int": [np.int64(k) for k in orders.up_from()],
        "float": [k / 7 for k in orders.up_from()],
        "int beside float": [k / 2 if k % 2 else k for k in orders.up_from()],
        "Decimal": [Decimal(k).scaleb(-2) for k in orders.up_from()],
        "large Decimal": [Decimal(f"{k}.25") for k in orders.up_from(10**30)],
        "fine Decimal": [Decimal(k + 1) / 7 for k in orders.up_from()],
        "date": [date(2020, 1, 1) + timedelta(k) for k in orders.up_from()],
        "datetime": [start + timedelta(seconds=k) for k in orders.up_from()],
        "datetime there": [
            (start + timedelta(hours=k)).replace(tzinfo=ZoneInfo(BERLIN)) for k in orders.up_from()
        ],
        "Timestamp": [pd.Timestamp(start) + pd.Timedelta(k, "ns") for k in orders.up_from()],
        "Timestamp there": [
            pd.Timestamp(start, tz=BERLIN) + pd.Timedelta(k, "ns") for k in orders.up_from()
        ],
        "str": orders.words(),
        "bool": [k > 20 for k in orders.up_from()],
        "Enum": [Colour(k % 2 + 1) for k in orders.up_from()],
        "tuple": [(k % 2, "a") for k in orders.up_from()],
    }
    return {name: pd.Series(gapped(values), dtype=object) for name, values in columns.items()}


def arrow_columns() -> dict[str, pd.Series]:
    orders = Orders()
    columns = {
        pa.int8(): orders.down_from(127),
        pa.int64(): orders.up_from(2**53 + 1),
        pa.uint64(): orders.down_from(2**64 - 1),
        pa.float16(): [np.float16(k) for k in orders.rng.normal(size=N)],
        pa.float32(): orders.rng.normal(size=N),
        pa.float64(): orders.rng.normal(size=N),
        pa.decimal128(10, 2): [Decimal(k).scaleb(-2) for k in orders.up_from()],
        pa.decimal128(38, 2): [Decimal(f"{k}.25") for k in orders.up_from(10**30)],
        pa.date32(): [date(9999, 12, 31) - timedelta(k) for k in orders.up_from()],
        pa.string(): orders.words(),
        pa.large_string(): orders.words(),
        pa.dictionary(pa.int32(), pa.string()): orders.words(),
        pa.bool_(): [k > 20 for k in orders.up_from()],
    }
    arrays = [pa.array(gapped(values), dtype) for dtype, values in columns.items()]
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", BERLIN):
            counts = pa.array(gapped(orders.moments(unit).astype(int).tolist()))
            arrays.append(counts.cast(pa.timestamp(unit, zone)))
    return {str(a.type): pd.Series(pd.array(a, pd.ArrowDtype(a.type))) for a in arrays}


def polars_columns() -> dict[str, pl.Series]:
    orders = Orders()
    columns = {
        dtype: orders.down_from(most)
        for dtype, most in {
            pl.Int8: 2**7 - 1, pl.Int16: 2**15 - 1, pl.Int32: 2**31 - 1, pl.Int64: 2**63 - 1,
            pl.Int128: 2**127 - 1, pl.UInt8: 2**8 - 1, pl.UInt16: 2**16 - 1,
            pl.UInt32: 2**32 - 1, pl.UInt64: 2**64 - 1,
        }.items()
    }  # fmt: skip
    columns |= {dtype: orders.rng.normal(size=N) for dtype in (pl.Float32, pl.Float64)}
    columns |= {
        pl.Decimal(10, 2): [Decimal(k).scaleb(-2) for k in orders.up_from()],
        pl.Decimal(38, 2): [Decimal(f"{k}.25") for k in orders.up_from(10**30)],
        pl.Date: [date(9999, 12, 31) - timedelta(k) for k in orders.up_from()],
        pl.String: orders.words(),
        pl.Categorical: orders.words(),
        pl.Enum(["z", "x", "y"]): orders.words(),
        pl.Boolean: [k > 20 for k in orders.up_from()],
    }
    series = {
        str(dtype): pl.Series(str(dtype), gapped(values), dtype=dtype)
        for dtype, values in columns.items()
    }
    for unit in ("ms", "us", "ns"):
        for zone in (None, "UTC", BERLIN):
            counts = pl.Series(f"{unit} {zone}", gapped(orders.moments(unit).astype(int).tolist()))
            series[counts.name] = counts.cast(pl.Datetime(unit, zone))
    return series


LIBRARIES = {
    "numpy": lambda: pd.DataFrame(numpy_columns()),
    "nullable": lambda: pd.DataFrame(nullable_columns()),
    "object": lambda: pd.DataFrame(object_columns()),
    "arrow": lambda: pd.DataFrame(arrow_columns()),
    "polars": lambda: pl.DataFrame(polars_columns()),
}


@cache
def frame_of(library):
    return LIBRARIES[library]()


@cache
def fitted_to(library):
    return BellmanImputer(BellmanDiffusionDensity(**TINY), n_draws=3, random_state=0).fit(
        frame_of(library)
    )


@cache
def tables_of(library):
    """Return tables whose row i, if it is one of the first N, holds what row i of the fit does."""
    frame, imputer = frame_of(library), fitted_to(library)
    density = imputer.density_
    tables = {"sample(given=)": density.sample(1, random_state=0, given=frame)}
    for statistic in ("draw", "mean", "median"):
        tables[statistic] = imputer.set_params(statistic=statistic).transform(frame)
    mapping = {name: as_written(frame[name]) for name in frame.columns}
    tables["sample(given=mapping)"] = density.sample(1, random_state=0, given=mapping)
    tables["sample"] = density.sample(N, random_state=0)
    tables["with_missing"] = density.sample(N, random_state=1, with_missing=True)
    return tables


def has_nanoseconds(column) -> bool:
    """Say whether the datetimes of Python, which polars gives, lack what the column holds."""
    return isinstance(column.dtype, pl.Datetime) and column.dtype.time_unit == "ns"


def as_written(column):
    """Return the first cell as a user writes it."""
    if not has_nanoseconds(column):
        return column[0]
    return f"{column.to_numpy()[0]}{'' if column.dtype.time_zone is None else '+00:00'}"


def cells(column) -> list[str]:
    """Return the cells so that they are equal if every bit and type of them is."""
    if has_nanoseconds(column):
        column = column.to_physical()
    return [f"{type(value).__name__} {value!r}" for value in column.to_list()]


COLUMNS = [(library, name) for library in LIBRARIES for name in frame_of(library).columns]


@pytest.mark.parametrize(("library", "name"), COLUMNS)
def test_what_is_given_comes_back_as_it_was(library, name):
    column = frame_of(library)[name]
    gap = np.asarray(column.is_null() if library == "polars" else column.isna())
    before = cells(column)
    for how, table in tables_of(library).items():
        if how in ("sample", "with_missing"):
            continue
        assert table[name].dtype == column.dtype, how
        after = cells(table[name])
        assert all(after[row] == before[row] for row in range(len(after)) if not gap[row]), how


@pytest.mark.parametrize(("library", "name"), COLUMNS)
def test_what_is_drawn_is_of_the_dtype_and_finite(library, name):
    column = frame_of(library)[name]
    held = column.drop_nulls() if library == "polars" else column.dropna()
    types = {type(value) for value in held.to_list()}
    for how, table in tables_of(library).items():
        drawn = table[name]
        assert drawn.dtype == column.dtype, how
        present = drawn.drop_nulls() if library == "polars" else drawn.dropna()
        assert len(present) == len(drawn) or how == "with_missing"
        assert {type(value) for value in present.to_list()} <= types, how
        if issubclass(next(iter(types)), int | float | np.number | Decimal):
            assert all(np.isfinite(float(value)) for value in present.to_list()), how
    lacking = tables_of(library)["with_missing"][name]
    n_gaps = lacking.null_count() if library == "polars" else int(lacking.isna().sum())
    assert (n_gaps > 0) == (len(held) < N)
    if library == "object":
        assert {value for value in lacking if pd.isna(value)} == {None}


@pytest.mark.parametrize("dtype", [*WHOLE, "float16", "float32", "float64", "longdouble", "bool"])
def test_arrays_keep_their_dtype_and_cells(dtype):
    rng = np.random.default_rng(0)
    if dtype in WHOLE:
        orders, most = Orders(), int(np.iinfo(dtype).max)
        X = np.column_stack([np.array(orders.down_from(most), dtype) for _ in "ab"])
    elif dtype == "bool":
        X = rng.random((N, 2)) < 0.5
    else:
        least = np.finfo("float64" if dtype == "longdouble" else dtype)
        scale = 1.0 if dtype in ("float64", "longdouble") else float(least.max)
        X = (scale * rng.uniform(-1, 1, (N, 2))).astype(dtype)
    density = BellmanDiffusionDensity(**TINY).fit(X)
    drawn = density.sample(N, random_state=0)
    assert drawn.dtype == X.dtype
    assert np.isfinite(drawn).all()
    kept = density.sample(1, random_state=0, given=X)
    assert kept.dtype == X.dtype
    np.testing.assert_array_equal(kept, X)
    assert density.sample(1, given={0: X[0, 0]})[0, 0] == X[0, 0]
    assert np.isfinite(density.score_samples(X)).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_the_largest_whole_number_is_drawn_scored_and_a_condition(dtype):
    sentinel = np.iinfo(dtype).max
    counted = np.array(Orders().up_from())
    frame = pd.DataFrame({"x": counted.astype(dtype), "y": np.array(Orders().words())})
    frame.loc[counted % 4 == 0, "x"] = sentinel
    density = BellmanDiffusionDensity(**TINY).fit(frame)
    drawn = density.sample(300, random_state=0)["x"]
    assert 0.1 < (drawn == sentinel).mean() < 0.5
    assert np.isfinite(density.score_samples(frame)).all()
    assert (density.sample(3, given={"x": sentinel})["x"] == sentinel).all()
    with pytest.raises(ValueError, match=f"cannot hold {2**64}: fit the column with a wider dtype"):
        density.sample(given={"x": 2**64})


def test_whole_numbers_that_doubles_cannot_tell_apart_are_not_one():
    """All of them round to the same double: counted from one of their own they do not."""
    frame = pd.DataFrame({"x": Orders().up_from(2**60), "y": Orders().rng.normal(size=N)})
    density = BellmanDiffusionDensity(**TINY).fit(frame)
    assert density.sample(50, random_state=0)["x"].nunique() > 10
    np.testing.assert_allclose(
        density.score_samples(frame),
        BellmanDiffusionDensity(**TINY)
        .fit(frame.assign(x=frame.x - 2**60 - N // 2))
        .score_samples(frame.assign(x=frame.x - 2**60 - N // 2)),
        atol=0.05,
    )


@pytest.mark.parametrize(
    ("fitted", "asked"),
    [
        (np.arange(12), np.array([1.0, np.nan, 3.0])),
        (np.arange(12) / 8, np.array([1, 2, 3])),
        (pd.array(gapped(range(N))[:12], "Int64"), np.array([1.0, np.nan, 2.0**53])),
        (pd.array(gapped(range(N))[:12], "Int64"), [Decimal(1), None, 2**60 + 1]),
        ([Decimal(k) / 4 for k in range(12)], np.array([1.0, np.nan, 2.25])),
        (pd.date_range("2020-01-01", periods=12, freq="W"), [date(2020, 1, 3), None, None]),
        (pd.array(["a", "b"] * 6, "string"), ["a", None, "b"]),
    ],
)
def test_a_table_of_other_dtypes_is_taken_if_the_column_can_hold_it(fitted, asked):
    frame = pd.DataFrame({"x": fitted, "y": np.arange(12.0) ** 2})
    imputer = BellmanImputer(BellmanDiffusionDensity(**TINY), random_state=0).fit(frame)
    X = pd.DataFrame({"x": asked, "y": 1.0})
    filled = imputer.transform(X)["x"]
    assert filled.dtype == frame["x"].dtype
    assert not filled.isna().any()
    for value, kept in zip(asked, filled, strict=True):
        same = pd.Timestamp(value) if isinstance(value, date) else value
        assert pd.isna(value) or kept == same


@pytest.mark.parametrize(
    ("fitted", "asked", "match"),
    [
        (np.arange(12), 1.5, "'x' holds whole numbers, so it cannot hold 1.5"),
        (np.arange(12.0) / 7, 2**53 + 1, f"float64 numbers, so it cannot hold {2**53 + 1}"),
        (np.arange(12, dtype="float32") / 7, 1e300, "dtype of column 'x' holds .*1e.300"),
        (pd.array(range(12), "UInt8"), -1, "dtype of column 'x' holds 0 to 255, .* hold -1"),
        (
            pd.Series([Decimal(k) for k in range(12)]).astype(pd.ArrowDtype(pa.decimal128(10, 2))),
            Decimal("1.005"),
            r"'x' holds numbers with 2 decimals, so it cannot hold 1\.005",
        ),
        (
            pd.date_range("2020-01-01T00:00:01.5", periods=12).as_unit("us"),
            pd.Timestamp("2020-01-01T00:00:01.000000001"),
            "'x' holds whole milliseconds, so it cannot hold",
        ),
        (
            pd.date_range("2020-01-01T00:00:01", periods=12).as_unit("ns"),
            np.datetime64("9999-01-01", "us"),
            "dtype of column 'x' holds .*9999",
        ),
    ],
)
def test_what_the_column_cannot_hold_is_refused_and_not_changed(fitted, asked, match):
    frame = pd.DataFrame({"x": fitted, "y": np.arange(12.0) ** 2})
    imputer = BellmanImputer(BellmanDiffusionDensity(**TINY), random_state=0).fit(frame)
    with pytest.raises(ValueError, match=match):
        imputer.density_.sample(given={"x": asked})
    with pytest.raises(ValueError, match=match):
        imputer.transform(pd.DataFrame({"x": [asked], "y": 1.0}))


@pytest.mark.parametrize("far", [1e30, 1e200])
def test_a_condition_too_far_out_is_refused(far):
    frame = pd.DataFrame(Orders().rng.normal(size=(N, 2)), columns=["x", "y"])
    imputer = BellmanImputer(BellmanDiffusionDensity(**TINY), random_state=0).fit(frame)
    with pytest.raises(ValueError, match="Column 'x' holds"):
        imputer.density_.sample(given={"x": far})
    with pytest.raises(ValueError, match="Column 'x' holds a value so far from those of fit"):
        imputer.transform(pd.DataFrame({"x": [far], "y": [np.nan]}))


def test_a_constant_date_and_number_are_conditions():
    frame = pd.DataFrame({"x": Orders().rng.normal(size=N), "day": pd.Timestamp("2020-01-01")})
    frame["id"] = 2**53 + 1
    density = BellmanDiffusionDensity(**TINY).fit(frame)
    for given in ({"day": "2020-01-01", "id": 2**53 + 1}, frame[["day", "id"]][:1]):
        drawn = density.sample(1, random_state=0, given=given)
        assert drawn["day"][0] == frame["day"][0]
        assert drawn["id"][0] == 2**53 + 1
    with pytest.raises(
        ValueError, match=r"'day' holds 2020-01-02T.*not in the fitted table.*2020-01-01T"
    ):
        density.sample(given={"day": "2020-01-02"})
    with pytest.raises(
        ValueError, match=f"'id' holds {2**53 + 2}, which was not in the fitted table"
    ):
        density.sample(given={"id": 2**53 + 2})
    with pytest.raises(ValueError, match="'day' holds 'x' but held dates without a time zone"):
        density.score_samples(frame.assign(day="x"))


def test_objects_are_read_as_the_numbers_and_dates_that_they_are():
    frame = frame_of("object")
    density = fitted_to("object").density_
    levels = [name for name, chosen in zip(frame, density.is_categorical_, strict=True) if chosen]
    assert levels == ["str", "bool", "Enum", "tuple"]
    asked = {"int": 1000, "Decimal": Decimal("7.77"), "date": "2023-05-01", "float": 0.123}
    drawn = density.sample(2, random_state=0, given=asked)
    assert drawn["int"].tolist() == [1000, 1000]
    assert repr(drawn["Decimal"][0]) == "Decimal('7.77')"
    assert drawn["date"].tolist() == [date(2023, 5, 1)] * 2
    new = frame.assign(int=pd.Series([1000] * N, dtype=object))
    assert np.isfinite(density.score_samples(new, columns=["int"])).all()
    drawn = density.sample(50, random_state=0)
    assert {value.as_tuple().exponent for value in drawn["Decimal"]} == {-2}
    assert {value.tzinfo for value in drawn["datetime there"]} == {ZoneInfo(BERLIN)}


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([1, "a"], "'x' mixes values of types int, str"),
        ([True, 2], "'x' mixes values of types bool, int"),
        ([date(2020, 1, 1), 1.0], "'x' mixes values of types date, float"),
        ([datetime(2020, 1, 1), datetime(2020, 1, 2, tzinfo=UTC)], "with and without a time zone"),
        ([timedelta(1), timedelta(2)], "'x' holds .*, a timedelta, which is not a number"),
        ([time(1), time(2)], "'x' holds .*, a time, which is not a number"),
        ([1j, 2j], "'x' holds 1j, a complex, which is not a number"),
        ([[1], [2]], r"'x' holds \[1\], a list"),
        ([Decimal("Infinity"), Decimal(1)], "'x' holds the infinite value inf in row 0"),
        ([10**400, 1], "'x' holds the infinite value inf in row 0"),
    ],
)
def test_objects_that_are_no_column_are_refused(values, match):
    frame = pd.DataFrame({"x": pd.Series(values * 6, dtype=object), "y": np.arange(12.0) ** 2})
    with pytest.raises(ValueError, match=match):
        BellmanDiffusionDensity(**TINY).fit(frame)


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        ([str(k / 4) for k in range(15)], r"'x' holds text that looks like numbers.*astype\(float"),
        ([*map(str, range(30)), "n/a"], "looks like numbers"),
        ([f"€{k:,}.50" for k in range(980, 1010)], r"looks like amounts \('€1,000.50', ...\)"),
        ([f"{k},5 %" for k in range(30)], "looks like amounts"),
        ([f"{k:,}" for k in range(999, 1030)], "looks like amounts"),
        ([f"2020-01-{k:02}" for k in range(1, 20)], r"looks like dates.*pd\.to_datetime"),
        ([f"{k}/12/2020 10:30" for k in range(1, 20)], "looks like dates"),
        ([f"{k}-Dec-2020" for k in range(1, 20)], "looks like dates"),
        ([f"March {k}, 2020" for k in range(1, 20)], "looks like dates"),
        ([f"{k}:05" for k in range(20)], r"looks like times.*pd\.to_timedelta"),
        ([f"{k:02}:59:07" for k in range(20)], "looks like times"),
    ],
)
def test_text_that_looks_like_numbers_or_dates_is_named(texts, match):
    frame = pd.DataFrame({"x": texts * 2, "y": np.arange(2.0 * len(texts)) ** 2})
    with pytest.warns(UserWarning, match=match) as warned:
        TableEncoder().fit(frame)
    assert len(warned) == 1
    TableEncoder().fit(frame.astype({"x": "category"}))
    TableEncoder(categorical_features=["x"]).fit(frame)
    with pytest.raises(ValueError, match=f"'x' has .* categories, more than .*{match[4:]}"):
        TableEncoder(max_categories=14).fit(frame)


def test_text_of_few_levels_is_categories():
    frame = pd.DataFrame({"x": [str(k % 12) for k in range(N)], "y": Orders().rng.normal(size=N)})
    assert set(BellmanDiffusionDensity(**TINY).fit(frame).sample(9)["x"]) <= set(frame["x"])


def test_declared_categories_may_be_values_of_any_type():
    hours = pd.to_timedelta(np.arange(N) % 3, "h")
    frame = pd.DataFrame({"x": Orders().rng.normal(size=N), "h": hours})
    frame["mixed"] = pd.Series([1, "a"] * (N // 2) + [1] * (N % 2), dtype=object)
    density = BellmanDiffusionDensity(categorical_features=["h", "mixed"], **TINY).fit(frame)
    drawn = density.sample(30, 0)
    assert set(drawn["h"]) <= set(hours)
    assert set(drawn["mixed"]) == {1, "a"}


def test_all_columns_of_wrong_dtypes_are_named_at_once():
    hours = pd.to_timedelta(np.arange(N), "h")
    frame = pd.DataFrame({"x": np.arange(N) ** 2.0, "p": hours, "q": hours})
    with pytest.raises(ValueError, match=r"(?s)Column 'p' has dtype Dur.*\nColumn 'q' has dtype"):
        BellmanDiffusionDensity(**TINY).fit(frame)


UNREADABLE = {
    "sparse": (
        pd.Series(np.arange(N)).astype(pd.SparseDtype(float)),
        r"Sparse\[.*sparse\.to_dense",
    ),
    "period": (pd.Series(pd.period_range("2020", periods=N)), r"period\[D\].*dt\.to_timestamp"),
    "interval": (pd.Series(pd.interval_range(0, N)), r"interval\[int64.*array\.mid"),
    "complex": (pd.Series(np.arange(N) * 1j), "complex128.*its real and its imaginary part"),
    "duration": (pd.Series(pd.to_timedelta(np.arange(N), "h")), "Duration.*of hours"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_dtypes_that_are_no_number_date_or_category_are_refused_by_their_name(name):
    column, match = UNREADABLE[name]
    frame = pd.DataFrame(Orders().rng.normal(size=(N, 2)), columns=["x", "y"])
    density = BellmanDiffusionDensity(**TINY).fit(frame)
    other = frame.assign(x=column)
    match = f"Column 'x' has dtype {match}"
    for ask in (
        lambda: BellmanDiffusionDensity(**TINY).fit(other),
        lambda: density.score_samples(other),
        lambda: density.sample(given=other),
        lambda: density.sample(given=other[["x"]]),
    ):
        with pytest.raises(ValueError, match=match):
            ask()


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix, sparse.dok_matrix])
def test_sparse_matrices_are_refused(make):
    X = make(Orders().rng.normal(size=(N, 2)))
    density = BellmanDiffusionDensity(**TINY)
    for ask in (density.fit, density.fit(X.toarray()).score_samples):
        with pytest.raises(TypeError, match=r"Sparse data.*toarray"):
            ask(X)
    with pytest.raises(TypeError, match=r"Sparse data.*toarray"):
        density.sample(given=X)


def test_arrays_of_dates_and_complex_numbers_are_refused():
    dates = np.array(Orders().up_from(), dtype="datetime64[D]").reshape(-1, 2)
    with pytest.raises(TypeError, match=r"array of datetime64\[D\].*put it in a frame"):
        BellmanDiffusionDensity(**TINY).fit(dates)
    with pytest.raises(ValueError, match="Complex data not supported"):
        BellmanDiffusionDensity(**TINY).fit(np.full((N, 2), 1j))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_what_a_mask_hides_is_missing(dtype):
    orders = Orders()
    X = np.column_stack([orders.up_from(), orders.up_from()]).astype(dtype)
    X[IS_GAP, 1] = 99
    masked = np.ma.masked_array(X, mask=np.column_stack([np.zeros(N, dtype=bool), IS_GAP]))
    plain = np.where(masked.mask, np.nan, X)
    density = BellmanDiffusionDensity(**TINY).fit(masked)
    assert density.encoder_.gaps_.tolist() == [[False, False], [False, True]]
    same = BellmanDiffusionDensity(**TINY).fit(plain)
    np.testing.assert_array_equal(density.score_samples(masked), same.score_samples(plain))
    np.testing.assert_array_equal(
        density.sample(given=masked, random_state=0), same.sample(given=plain, random_state=0)
    )
    filled = BellmanImputer(density, random_state=0).fit(masked).transform(masked)
    np.testing.assert_array_equal(filled[~IS_GAP], X[~IS_GAP])
    assert np.isfinite(filled).all()


def test_a_mask_beside_whole_numbers_that_no_float_holds_is_refused():
    X = np.ma.masked_array(2**53 + 1 + np.arange(20).reshape(-1, 2), mask=[[True, False]] * 10)
    with pytest.raises(ValueError, match=f"int64 that holds {2**53 + 2}.*Int64"):
        BellmanDiffusionDensity(**TINY).fit(X)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_arrays_and_frames_are_asked_of_each_other_by_position(make):
    X = Orders().rng.normal(size=(N, 2))
    frame = make({"a": X[:, 0], "b": X[:, 1]})
    by_array, by_frame = (BellmanDiffusionDensity(**TINY).fit(table) for table in (X, frame))
    fitted = BellmanImputer(BellmanDiffusionDensity(**TINY), random_state=0).fit(X)
    score = by_array.score_samples(X)
    with pytest.warns(UserWarning, match="X has feature names, but .* without feature names"):
        np.testing.assert_array_equal(by_array.score_samples(frame), score)
    with pytest.warns(UserWarning, match="does not have valid feature names, but .* with"):
        np.testing.assert_array_equal(by_frame.score_samples(X), score)
    with pytest.warns(UserWarning, match="X has feature names"):
        found = by_array.score_samples(frame, columns=[1], given=[0])
    np.testing.assert_array_equal(found, by_frame.score_samples(frame, columns=["b"], given=["a"]))
    with pytest.warns(UserWarning, match="X has feature names"):
        np.testing.assert_array_equal(by_array.sample(given=frame), X)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(by_frame.sample(given=X).to_numpy(), X)
    with pytest.warns(UserWarning, match="X has feature names"):
        np.testing.assert_array_equal(fitted.transform(frame), X)
    with pytest.raises(ValueError, match=r"given names \['c'\]"):
        by_frame.sample(given=make({"c": [1.0]}))


def test_columns_of_numbered_names_are_matched_by_name():
    X = pd.DataFrame(Orders().rng.normal(size=(N, 2)))
    density = BellmanDiffusionDensity(**TINY).fit(X)
    np.testing.assert_array_equal(density.score_samples(X[[1, 0]]), density.score_samples(X))
    with pytest.raises(ValueError, match=r"X lacks the columns \[1\]"):
        density.score_samples(X.rename(columns={1: 5}))


@pytest.mark.parametrize("library", ["object", "polars"])
def test_a_fitted_density_of_any_dtype_is_pickled(library):
    density = fitted_to(library).density_
    again = pickle.loads(pickle.dumps(density))
    before, after = (d.sample(5, random_state=0) for d in (density, again))
    for name in before.columns:
        assert cells(before[name]) == cells(after[name])


@pytest.mark.parametrize("dtype", ["M8[us]", "timestamp[us][pyarrow]"])
def test_sampled_dates_are_of_the_years_1_to_9999(dtype):
    """Far from its origin a double is off by some microseconds, into the year before or after."""
    for days in np.random.default_rng(0).integers(3_000_000, size=(20, 12)).astype("m8[D]"):
        X = pd.DataFrame({"a": np.datetime64("0028-05-20T10:48:29.321278") + days})
        kind = TableEncoder().fit(X.astype(dtype)).fitted_[0].kind
        drawn = kind.drawn(np.array([-np.inf, np.inf])).astype(str)
        assert drawn[0] >= "0001-01-01T00:00:00.000000"
        assert drawn[1] <= "9999-12-31T23:59:59.999999"
        assert drawn[0][:4] == "0001"
        assert drawn[1][:4] == "9999"
