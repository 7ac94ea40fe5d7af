"""What is given comes back as it was, and what is drawn the column can hold, whatever the dtype."""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skbellman import BellmanDiffusionDensity, BellmanImputer

N = 60
IS_GAP = np.isin(np.arange(N), (3, 17, 18, 40))
BERLIN = "Europe/Berlin"
TINY = {
    "n_steps": 2, "width": 8, "depth": 1, "n_levels": 4, "n_nodes": 2, "divergence": "hutchinson",
    "random_state": 0,
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
