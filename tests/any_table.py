"""Tables of any kind that a user may have, as strategies of hypothesis: one kind a column."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**16)
EXPONENTS = st.just(0) | st.integers(-6, 6) | st.integers(-300, 300)
GAP_SHARES = st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.5, 0.9])
ZONE = "Europe/Berlin"
DAYS = {"s": 86_400, "ms": 86_400_000, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}


class Colour(enum.Enum):
    """Levels that have no order."""

    RED = 1
    GREEN = 2
    BLUE = 3


@dataclass(frozen=True)
class Kind:
    """A kind of column.

    Attributes
    ----------
    values : function from a number of rows to a strategy of so many values
    column : function from values, None where there is a gap, to a column of a library
    gaps : bool
        Whether the dtype has a value for a gap.
    """

    values: Callable[[int], st.SearchStrategy[list[Any]]]
    column: Callable[[list[Any]], Any]
    gaps: bool = True


@dataclass(frozen=True, repr=False)
class Table:
    """A table, the kinds of its columns, and whether a fit is to take them all."""

    X: Any
    kinds: tuple[str, ...]
    readable: bool = True

    def __repr__(self) -> str:
        X, more = self.X, ""
        if isinstance(X, np.ndarray | list):
            shown = f"{getattr(X, 'dtype', list)}, {np.asarray(X).tolist()}"
        elif isinstance(X, pd.DataFrame):
            more = f", index={X.index.tolist()}" if not isinstance(X.index, pd.RangeIndex) else ""
            columns = [X.iloc[:, j] for j in range(X.shape[1])]
            shown = ", ".join(f"{c.name!r}: ({c.dtype}) {c.tolist()}" for c in columns)
        else:
            shown = ", ".join(f"{c.name!r}: ({c.dtype}) {c.to_physical().to_list()}" for c in X)
        return f"Table({type(X).__module__.split('.')[0]}, {self.kinds}, {shown}{more})"


# Values


@st.composite
def ties(draw, elements: st.SearchStrategy[Any], n: int) -> list[Any]:
    """Return n values of few, drawn one by one."""
    few = draw(st.lists(elements, min_size=1, max_size=6))
    rng = np.random.default_rng(draw(SEEDS))
    return [*few, *(few[k] for k in rng.integers(len(few), size=n))][:n]


def _shapes(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    some = rng.random(n) < 0.5
    return {
        "even": rng.random(n),
        "normal": rng.normal(3, 2, n),
        "skewed": rng.lognormal(0, 1, n),
        "heavy": rng.standard_cauchy(n),
        "clusters": np.where(some, rng.normal(0, 0.1, n), rng.normal(5, 0.1, n)),
        "mostly zero": np.where(some, 0.0, rng.random(n)),
        "clipped": np.minimum(rng.normal(0, 1, n), 1.0),
        "in steps": np.round(rng.normal(0, 1, n), 1),
        "percent": rng.integers(0, 101, n).astype(float),
        "counts": rng.poisson(2.0, n).astype(float),
        "one by one": np.arange(float(n)),
        "one far out": np.append(rng.normal(size=n - 1), 1e6),
        "tiny beside integers": np.where(some, 10.0 ** rng.uniform(-12, -7, n), rng.poisson(2, n)),
        "one constant": np.full(n, 0.1),
    }


SHAPES = tuple(_shapes(np.random.default_rng(0), 2))


@st.composite
def scaled(draw, n: int, largest: float, least: float) -> list[float]:
    """Return n numbers of one shape at any scale, maybe far from zero."""
    shape = draw(st.sampled_from(SHAPES))
    values = _shapes(np.random.default_rng(draw(SEEDS)), n)[shape]
    values = values + draw(st.sampled_from([0.0, 0.0, 100.0, -3.0, 1e6]))
    values = values * 10.0 ** draw(EXPONENTS)
    if draw(st.integers(0, 9)) == 0:
        values = values / np.abs(values).max().clip(1e-300) * largest
    values = np.where(np.abs(values) < least, 0.0, values)
    return values.clip(-largest, largest).tolist()


def floats(width: int, dtype: Any = None) -> Callable[[int], st.SearchStrategy[list[float]]]:
    """Return numbers that a float of so many bits can hold."""
    info = np.finfo(dtype or f"float{width}")
    one_by_one = st.floats(allow_nan=False, allow_infinity=False, width=width)
    return lambda n: scaled(n, float(info.max), float(info.tiny)) | ties(one_by_one, n)


@st.composite
def whole(draw, n: int, low: int, high: int) -> list[int]:
    """Return n whole numbers: few, many, or at one of the ends of what the dtype holds."""
    rng = np.random.default_rng(draw(SEEDS))
    counts = [int(k) for k in rng.poisson(draw(st.sampled_from([0.3, 2, 30])), n)]
    width = high - low
    far = [low + int(u * width) for u in rng.random(n)]
    big = min(2**53 + 1, high - 200)
    sentinel = draw(st.sampled_from([low, high, 0]))
    shapes = {
        "counts": counts,
        "small, of either sign": [max(k - 3, low) for k in counts],
        "one by one": list(range(n)),
        "in fives": [5 * k for k in counts],
        "identifiers": [big + k for k in range(n)],
        "near the top": [high - k for k in counts],
        "near the bottom": [low + k for k in counts],
        "everywhere": far,
        "a sentinel": [
            sentinel if u < 0.3 else k for u, k in zip(rng.random(n), counts, strict=True)
        ],
        "large counts": [min(k * max(width // 10**4, 1), high) for k in counts],
    }
    found = shapes[draw(st.sampled_from(sorted(shapes)))]
    return [min(max(k, low), high) for k in found]


def integers(bits: int, signed: bool) -> Callable[[int], st.SearchStrategy[list[int]]]:
    """Return whole numbers that an integer of so many bits can hold."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return lambda n: whole(n, low, high) | ties(st.integers(low, high), n)


@st.composite
def ticks(draw, n: int, unit: str, zoned: bool = False) -> list[int]:
    """Return n moments in units since 1970: on days, seconds or any, near or anywhere."""
    rng = np.random.default_rng(draw(SEEDS))
    day = DAYS[unit]
    years = (1700, 2200) if unit == "ns" else (1, 9999)
    low, high = ((date(y, 1, 2) - date(1970, 1, 1)).days for y in years)
    near = 18_000 + rng.integers(0, 900, n)
    last = (date(9999, 12, 31) - date(1970, 1, 1)).days - zoned if unit != "ns" else 100_000
    days = {
        "near": near,
        "anywhere": rng.integers(low, high, n),
        "few": 18_000 + rng.poisson(0.5, n),
        "a sentinel": np.where(rng.random(n) < 0.3, last, near),
        "one day": np.full(n, 18_000),
    }
    found = [int(k) * day for k in days[draw(st.sampled_from(sorted(days)))]]
    parts = {"days": day, "hours": day // 24, "seconds": day // 86_400, "any": 1}
    step = parts[draw(st.sampled_from(sorted(parts)))]
    return [k + int(u * (day // step)) * step for k, u in zip(found, rng.random(n), strict=True)]


def moments(unit: str, zoned: bool = False) -> Callable[[int], st.SearchStrategy[list[int]]]:
    return lambda n: ticks(n, unit, zoned)


def days(n: int) -> st.SearchStrategy[list[int]]:
    return ticks(n, "s").map(lambda found: [k // DAYS["s"] for k in found])


@st.composite
def prices(draw, n: int) -> list[Decimal]:
    """Return n decimals of two places, small or of more digits than a float holds."""
    scale = draw(st.sampled_from([1, 1, 10**18]))
    cents = draw(integers(16, signed=True)(n))
    return [Decimal(k * scale + (scale > 1)).scaleb(-2) for k in cents]


def a_few(*levels: Any) -> Callable[[int], st.SearchStrategy[list[Any]]]:
    return lambda n: ties(st.sampled_from(levels), n)


def words(n: int) -> st.SearchStrategy[list[str]]:
    text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=4)
    return ties(st.sampled_from(["a", "b", "c", "", " ", "nan", "None", "köln", "🂡"]) | text, n)


def just(first: Any, *others: Any) -> Callable[[int], st.SearchStrategy[list[Any]]]:
    return lambda n: st.just([first, *n * (others or [first])][:n])


flags = a_few(True, False)

# Columns of pandas


def of_pandas(dtype: Any) -> Callable[[list[Any]], pd.Series]:
    return lambda values: pd.Series(values, dtype=dtype)


def objects(values: list[Any]) -> pd.Series:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return pd.Series(column, dtype=object)


def with_nan(values: list[Any]) -> pd.Series:
    return objects([np.nan if v is None else v for v in values])


def of_arrow(
    dtype: pa.DataType, read_as: pa.DataType | None = None
) -> Callable[[list[Any]], pd.Series]:
    def column(values: list[Any]) -> pd.Series:
        array = pa.array(values, type=read_as or dtype).cast(dtype)
        return pd.Series(pd.arrays.ArrowExtensionArray(array))

    return column


def of_moments(unit: str, zone: str | None = None) -> Callable[[list[Any]], pd.Series]:
    def column(values: list[Any]) -> pd.Series:
        found = np.array(
            [np.iinfo(np.int64).min if v is None else v for v in values], dtype=np.int64
        )
        series = pd.Series(found.view(f"datetime64[{unit}]"))
        return series if zone is None else series.dt.tz_localize("UTC").dt.tz_convert(zone)

    return column


def categories(values: list[Any]) -> pd.Series:
    """Return a category dtype of the values, and of a level that no row holds."""
    levels = list(dict.fromkeys(v for v in values if v is not None))
    return pd.Series(pd.Categorical(values, categories=[*levels, "unused"]))


def ordered(values: list[Any]) -> pd.Series:
    levels = sorted({v for v in values if v is not None}, reverse=True)
    return pd.Series(pd.Categorical(values, categories=levels, ordered=True))


def cut(values: list[Any]) -> pd.Series:
    return pd.cut(pd.Series(values, dtype=float), [-1.0, 0.0, 1.0, 2.0, 1e9])


def interval(values: list[Any]) -> pd.Series:
    return pd.Series(pd.arrays.IntervalArray.from_tuples([(-1, v) for v in values]))


def to_date(k: int) -> date:
    return date(1970, 1, 1) + timedelta(days=k)


def dated(values: list[Any]) -> pd.Series:
    return objects([None if v is None else to_date(v) for v in values])


def timed(values: list[Any]) -> pd.Series:
    epoch = datetime(1970, 1, 1)
    return objects([None if v is None else epoch + timedelta(microseconds=v) for v in values])


def timed_in_utc(values: list[Any]) -> pd.Series:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return objects([None if v is None else epoch + timedelta(microseconds=v) for v in values])


_ARROW_FLOATS = {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}
_ARROW_WHOLE = {
    f"{kind}{bits}": getattr(pa, f"{kind}{bits}")()
    for kind in ("int", "uint")
    for bits in (8, 16, 32, 64)
}
_ARROW_LEVELS = pa.dictionary(pa.int32(), pa.string())
counts = integers(8, signed=False)
PANDAS = {
    **{f"float{b}": Kind(floats(b), of_pandas(f"float{b}")) for b in (16, 32, 64)},
    **{f"Float{b}": Kind(floats(b), of_pandas(f"Float{b}")) for b in (32, 64)},
    **{f"float{b}[pyarrow]": Kind(floats(b), of_arrow(t)) for b, t in _ARROW_FLOATS.items()},
    **{
        name: Kind(integers(t.bit_width, name[0] == "i"), of_pandas(name), gaps=False)
        for name, t in _ARROW_WHOLE.items()
    },
    **{f"Int{b}": Kind(integers(b, True), of_pandas(f"Int{b}")) for b in (8, 32, 64)},
    **{f"UInt{b}": Kind(integers(b, False), of_pandas(f"UInt{b}")) for b in (8, 64)},
    **{
        f"{name}[pyarrow]": Kind(integers(t.bit_width, name[0] == "i"), of_arrow(t))
        for name, t in _ARROW_WHOLE.items()
    },
    "bool": Kind(flags, of_pandas(bool), gaps=False),
    "boolean": Kind(flags, of_pandas("boolean")),
    "bool[pyarrow]": Kind(flags, of_arrow(pa.bool_())),
    "str": Kind(words, of_pandas("str")),
    "object of str": Kind(words, objects),
    "object of str with NaN": Kind(words, with_nan),
    "string": Kind(words, of_pandas("string")),
    "string[pyarrow]": Kind(words, of_arrow(pa.string())),
    "category": Kind(words, categories),
    "category, ordered": Kind(words, ordered),
    "category of int": Kind(a_few(3, 1, 2), categories),
    "category of int and str": Kind(a_few(1, "a", 2, "b"), categories),
    "category of Enum": Kind(a_few(*Colour), categories),
    "category of bool": Kind(flags, categories),
    "category of intervals": Kind(counts, cut),
    "category of dates": Kind(a_few(*map(to_date, (0, 9, 90))), categories),
    "dictionary[pyarrow]": Kind(words, of_arrow(_ARROW_LEVELS, pa.string())),
    **{f"datetime64[{u}]": Kind(moments(u), of_moments(u)) for u in DAYS},
    **{
        f"datetime64[{u}, {ZONE}]": Kind(moments(u, zoned=True), of_moments(u, ZONE))
        for u in ("ns", "us")
    },
    **{
        f"timestamp[{u}][pyarrow]": Kind(moments(u), of_arrow(pa.timestamp(u), pa.int64()))
        for u in DAYS
    },
    f"timestamp[us, {ZONE}][pyarrow]": Kind(
        moments("us", True), of_arrow(pa.timestamp("us", ZONE), pa.int64())
    ),
    "date32[pyarrow]": Kind(days, of_arrow(pa.date32(), pa.int32())),
    "object of date": Kind(days, dated),
    "object of datetime": Kind(moments("us"), timed),
    "object of datetime in UTC": Kind(moments("us", True), timed_in_utc),
    "object of Decimal": Kind(prices, objects),
    "decimal128[pyarrow]": Kind(prices, of_arrow(pa.decimal128(38, 2))),
    "object of int": Kind(integers(32, True), objects),
    "object of long int": Kind(integers(64, True), objects),
    "object of float": Kind(floats(32), objects),
    "object of float with NaN": Kind(floats(64), with_nan),
    "object of bool": Kind(flags, objects),
    "object of Enum": Kind(a_few(*Colour), objects),
    "object of tuples": Kind(a_few((1, 2), (0, 1), (3,)), objects),
    "object of UUID": Kind(a_few(UUID(int=1), UUID(int=2), UUID(int=3)), objects),
    "object of bytes": Kind(a_few(b"", b"a", b"\xff"), objects),
}  # fmt: skip
# To be refused by name.
PANDAS_REFUSED = {
    "infinite": Kind(just(np.inf, 0.5), of_pandas(float), gaps=False),
    "empty": Kind(just(np.nan), of_pandas(float), gaps=False),
    "empty object": Kind(just(None), objects),
    "timedelta64[ns]": Kind(counts, of_pandas("timedelta64[ns]")),
    "duration[pyarrow]": Kind(counts, of_arrow(pa.duration("s"), pa.int64())),
    "time64[pyarrow]": Kind(counts, of_arrow(pa.time64("us"), pa.int64())),
    "list[pyarrow]": Kind(just([1]), of_arrow(pa.list_(pa.int64()))),
    "Sparse[int]": Kind(counts, of_pandas(pd.SparseDtype(int)), gaps=False),
    "Sparse[float]": Kind(floats(64), of_pandas(pd.SparseDtype(float))),
    "Period": Kind(moments("s"), lambda v: of_moments("s")(v).dt.to_period("D")),
    "Interval": Kind(counts, interval, gaps=False),
    "complex": Kind(a_few(1j, 0j, 2.0 + 0j), of_pandas(complex), gaps=False),
    "object of complex": Kind(a_few(1j, 0j, 2.0 + 0j), objects),
    "object of lists": Kind(just([1], [2]), objects),
    "object of several": Kind(just(1, "a"), objects, gaps=False),
    "object of timedelta": Kind(a_few(timedelta(1), timedelta(2)), objects),
}  # fmt: skip

# Columns of polars


def of_polars(dtype: Any) -> Callable[[list[Any]], pl.Series]:
    return lambda values: pl.Series(values, dtype=dtype, strict=False)


def of_polars_moments(unit: str, zone: str | None = None) -> Callable[[list[Any]], pl.Series]:
    def column(values: list[Any]) -> pl.Series:
        series = pl.Series(values, dtype=pl.Int64).cast(pl.Datetime(unit))
        return (
            series
            if zone is None
            else series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        )

    return column


WORDS = ("low", "mid", "high")
POLARS = {
    **{f"Float{b}": Kind(floats(b), of_polars(t)) for b, t in ((32, pl.Float32), (64, pl.Float64))},
    **{
        str(t): Kind(integers(bits, signed), of_polars(t))
        for t, bits, signed in (
            (pl.Int8, 8, True), (pl.Int16, 16, True), (pl.Int32, 32, True), (pl.Int64, 64, True),
            (pl.Int128, 127, True), (pl.UInt8, 8, False), (pl.UInt32, 32, False),
            (pl.UInt64, 64, False),
        )
    },
    "NaN and null": Kind(floats(64), lambda v: pl.Series([*v[:-1], np.nan], dtype=pl.Float64)),
    "Boolean": Kind(flags, of_polars(pl.Boolean)),
    "String": Kind(words, of_polars(pl.String)),
    "Categorical": Kind(words, of_polars(pl.Categorical)),
    "Enum": Kind(a_few("low", "high"), of_polars(pl.Enum(WORDS))),
    "Date": Kind(days, lambda v: pl.Series(v, dtype=pl.Int32).cast(pl.Date)),
    **{f"Datetime({u})": Kind(moments(u), of_polars_moments(u)) for u in ("ms", "us", "ns")},
    f"Datetime(us, {ZONE})": Kind(moments("us", True), of_polars_moments("us", ZONE)),
    "Decimal": Kind(prices, of_polars(pl.Decimal(38, 2))),
    "Object": Kind(a_few(UUID(int=1), UUID(int=2)), of_polars(pl.Object)),
}  # fmt: skip
POLARS_REFUSED = {
    "infinite": Kind(just(np.inf, 0.5), of_polars(pl.Float64), gaps=False),
    "Null": Kind(just(None), of_polars(pl.Null)),
    "Duration": Kind(counts, of_polars(pl.Duration("us"))),
    "Time": Kind(counts, lambda v: pl.Series(v, dtype=pl.Int64).cast(pl.Time)),
    "List": Kind(just([1], [2]), of_polars(pl.List(pl.Int64))),
    "Struct": Kind(just({"a": 1}), of_polars(pl.Struct({"a": pl.Int64}))),
}  # fmt: skip

# Tables

_ODD_WORDS = ["", " ", "a b", "x", "0", "nan", "größe", "列", "a'b", '"', "index", "level_0"]
_NAMES = {
    "words": st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=5),
    "odd words": st.sampled_from(_ODD_WORDS),
    "integers": st.integers(-3, 9),
    "pairs": st.tuples(st.sampled_from("ab"), st.integers(0, 9)),
}  # fmt: skip


@st.composite
def kinds_of(draw, kinds: dict[str, Kind], refused: dict[str, Kind]) -> list[str]:
    """Return kinds of one to four columns; one table in eight holds one that is refused."""
    found = draw(st.lists(st.sampled_from([*kinds]), min_size=1, max_size=4))
    if draw(st.sampled_from([*7 * [False], True])):
        found.insert(draw(st.integers(0, len(found))), draw(st.sampled_from([*refused])))
    return found


@st.composite
def column_of(draw, kind: Kind, n: int) -> Any:
    values = draw(kind.values(n))
    share = draw(GAP_SHARES) if kind.gaps else 0.0
    gaps = np.random.default_rng(draw(SEEDS)).random(n) < share
    return kind.column([None if gap else v for gap, v in zip(gaps, values, strict=True)])


@st.composite
def indices(draw, n: int) -> pd.Index:
    return {
        "range": pd.RangeIndex(n),
        "backwards": pd.Index(range(n, 0, -1), name="x"),
        "all one": pd.Index(["same"] * n),
        "pairs": pd.MultiIndex.from_product([[0, 1], range((n + 1) // 2)], names=["a", None])[:n],
        "times": pd.date_range("2020-01-01", periods=n, freq="h"),
    }[draw(st.sampled_from(["range", "range", "backwards", "all one", "pairs", "times"]))]


@st.composite
def pandas_tables(draw, n: int) -> Table:
    kinds = draw(kinds_of(PANDAS, PANDAS_REFUSED))
    columns = [draw(column_of((PANDAS | PANDAS_REFUSED)[kind], n)) for kind in kinds]
    how = draw(st.sampled_from([*_NAMES]))
    names = draw(st.lists(_NAMES[how], min_size=len(kinds), max_size=len(kinds), unique=True))
    frame = pd.concat(columns, axis=1)
    frame.columns = pd.Index(names) if draw(st.booleans()) else pd.Index(names, tupleize_cols=False)
    frame.index = draw(indices(n))
    return Table(frame, tuple(kinds), PANDAS.keys() >= {*kinds})


@st.composite
def polars_tables(draw, n: int) -> Table:
    kinds = draw(kinds_of(POLARS, POLARS_REFUSED))
    strategy = _NAMES[draw(st.sampled_from(["words", "odd words"]))]
    names = draw(st.lists(strategy, min_size=len(kinds), max_size=len(kinds), unique=True))
    columns = [draw(column_of((POLARS | POLARS_REFUSED)[kind], n)) for kind in kinds]
    frame = pl.DataFrame([c.alias(name) for c, name in zip(columns, names, strict=True)])
    return Table(frame, tuple(kinds), POLARS.keys() >= {*kinds})


def _read_only(X: np.ndarray) -> np.ndarray:
    X.flags.writeable = False
    return X


ARRAYS = {
    "as it is": lambda X: X,
    "of columns": np.asfortranarray,
    "of every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "read only": _read_only,
    "of objects": lambda X: X.astype(object),
    "a list": lambda X: X.tolist(),
}


@st.composite
def array_tables(draw, n: int) -> Table:
    pool = ["float64", "float64", "float32", "float16", "int64", "uint64", "int8", "uint8", "bool"]
    dtype = draw(st.sampled_from(pool))
    kind = PANDAS[dtype]
    columns = [draw(kind.values(n)) for _ in range(draw(st.integers(1, 4)))]
    X = np.array(columns, dtype=dtype).T.copy()
    if X.dtype.kind == "f":
        X[np.random.default_rng(draw(SEEDS)).random(X.shape) < draw(GAP_SHARES)] = np.nan
    form = draw(st.sampled_from([*ARRAYS]))
    return Table(ARRAYS[form](X), (f"{dtype}, {form}",) * len(columns))


@st.composite
def tables(draw, max_rows: int = 60) -> Table:
    """Return a table of pandas, polars or numpy."""
    n = draw(st.sampled_from([2, 3, 5, 12, 30, 60, 120]).filter(lambda n: n <= max_rows))
    make = draw(st.sampled_from([pandas_tables, pandas_tables, polars_tables, array_tables]))
    return draw(make(n))
