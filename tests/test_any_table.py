"""The contract of the table model and the estimators, on tables of any kind: `any_table`."""

from __future__ import annotations

import copy
import math
import os
import pickle
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from any_table import Table, tables
from hypothesis import HealthCheck, given, settings

from skbellman import BellmanDiffusionDensity, BellmanImputer
from skbellman.tables import TableEncoder, is_missing
from skbellman.validation import validate_table

TINY = {
    "n_steps": 2, "width": 8, "depth": 1, "batch_size": 32, "n_levels": 4, "n_nodes": 2,
    "random_state": 0,
}  # fmt: skip
# What a readable table may be refused for, and what may be said of it.
REFUSALS = re.compile(
    "all are missing|is constant|so large that sums|Feature names are only supported"
)
WARNINGS = re.compile("are linear functions of other columns|holds text that")
OTHER_CONTAINER = re.compile("feature names")


def profile(n_examples: int) -> settings:
    """Return so many examples, or as many as SKBELLMAN_FUZZ_EXAMPLES says, always the same ones."""
    asked = os.environ.get("SKBELLMAN_FUZZ_EXAMPLES")
    return settings(
        max_examples=int(asked or n_examples),
        derandomize=asked is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# What is asked of every table


@contextmanager
def nothing_else_happens(X: Any, allowed: re.Pattern[str] = WARNINGS) -> Iterator[None]:
    """Demand that the table and the global random states stay, and no unexpected warning."""
    before, states = copy.deepcopy(X), random_states()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    assert same_table(X, before)
    for state, now in zip(states, random_states(), strict=True):
        np.testing.assert_array_equal(state, now)
    for warning in said:
        assert allowed.search(str(warning.message)), warning


def random_states() -> list[np.ndarray]:
    return [np.random.get_state()[1].copy(), torch.get_rng_state().numpy()]  # noqa: NPY002


def fitted(table: Table, fit: Any) -> Any:
    """Return what fit returns, None if it refuses the table as it should."""
    try:
        found = fit(table.X)
    except (ValueError, TypeError) as refusal:
        message = str(refusal)
        assert not table.readable or REFUSALS.search(message), message
        assert names_a_column(message, table.X) or REFUSALS.search(message), message
        return None
    assert table.readable, "a column that has no numbers, dates or categories was read"
    return found


def names_a_column(message: str, X: Any) -> bool:
    names = column_names(X)
    message = re.sub(r"np\.int64\((-?\d+)\)", r"\1", message)
    return any(repr(name) in message for name in names)


# Tables, compared


def column_names(X: Any) -> list[Any]:
    if isinstance(X, pd.DataFrame):
        return X.columns.tolist()
    return X.columns if isinstance(X, pl.DataFrame) else list(range(np.shape(X)[1]))


def dtype_of(X: Any, j: int) -> Any:
    """Return the dtype of a column, with its levels if it has any."""
    if isinstance(X, pd.DataFrame):
        return X.dtypes.iloc[j]
    return X.dtypes[j] if isinstance(X, pl.DataFrame) else array_of(X).dtype


def cells(X: Any, j: int) -> list[Any]:
    """Return the cells of a column, a gap as None."""
    if isinstance(X, pd.DataFrame):
        column = X.iloc[:, j]
        return [None if gap else v for v, gap in zip(column, column.isna(), strict=True)]
    if isinstance(X, pl.DataFrame):
        column = X.to_series(j)
        if column.dtype.is_temporal():
            column = column.to_physical()
        return [None if v is None or v != v else v for v in column.to_list()]
    return [None if v is None or v != v else v for v in array_of(X)[:, j]]


def same(one: Any, other: Any) -> bool:
    """Return whether two cells are one value of one type, the sign of a zero too."""
    if one is None or other is None:
        return one is other
    if isinstance(one, np.ndarray | list):
        return list(one) == list(other)
    if isinstance(one, float | np.floating) and np.signbit(one) != np.signbit(other):
        return False
    return type_of(one) == type_of(other) and bool(one == other)


def type_of(cell: Any) -> Any:
    """Return the type of a cell: numpy has several of one dtype."""
    return cell.dtype if isinstance(cell, np.generic) else type(cell)


def same_table(one: Any, other: Any) -> bool:
    names = column_names(one)
    return names == column_names(other) and all(
        all(map(same, cells(one, j), cells(other, j))) for j in range(len(names))
    )


def array_of(X: Any) -> Any:
    """Return what the estimators make of a table that is no frame."""
    return X if hasattr(X, "columns") else validate_table(BellmanDiffusionDensity(), X, reset=True)


def check_is_like(drawn: Any, X: Any) -> None:
    """Demand the same class, columns, order, dtypes and levels, and no gap."""
    assert type(drawn) is type(array_of(X))
    assert column_names(drawn) == column_names(X)
    assert not isinstance(X, pd.DataFrame) or drawn.columns.equals(X.columns)
    for j in range(len(column_names(X))):
        dtype, held = dtype_of(X, j), cells(drawn, j)
        assert dtype_of(drawn, j) == dtype, f"drawn {dtype_of(drawn, j)} for {dtype}"
        assert not any(v is None for v in held), f"column of {dtype} has gaps"
        finite = [np.isfinite(v) for v in held if isinstance(v, float | np.floating)]
        assert all(finite), f"column of {dtype} is not finite: {held}"


def check_kept(drawn: Any, X: Any, n_times: int = 1) -> None:
    """Demand that each cell of X, n_times over, is in what was drawn, gaps aside."""
    for j, name in enumerate(column_names(X)):
        held = [v for v in cells(X, j) for _ in range(n_times)]
        now = cells(drawn, j)
        changed = [
            (v, w) for v, w in zip(held, now, strict=True) if v is not None and not same(v, w)
        ]
        assert not changed, f"column {name!r} of {dtype_of(X, j)} changes {changed[0]}"


def check_near(decoded: Any, X: Any) -> None:
    """Demand that the numbers of X come back from their own coordinates.

    At an end of the column, the root of so many rows may share one coordinate.
    """
    for j, name in enumerate(column_names(X)):
        pairs = zip(cells(X, j), cells(decoded, j), strict=True)
        pairs = [(float(v), float(w)) for v, w in pairs if isinstance(v, Real | Decimal)]
        at_ends = math.isqrt(len(pairs)) + 1
        held, now = np.array(sorted(pairs)).reshape(-1, 2).T
        changed = np.abs(now / 2 - held / 2) > 1e-6 * np.abs(held).max(initial=0.0)
        changed[:at_ends] = changed[-at_ends:] = False
        shown = f"{held[changed]} as {now[changed]}"
        assert not changed.any(), f"column {name!r} of {dtype_of(X, j)} decodes {shown}"


def permuted(X: Any, order: np.ndarray) -> Any:
    if isinstance(X, pd.DataFrame):
        return X.iloc[order]
    return X[order.tolist()] if isinstance(X, pl.DataFrame | np.ndarray) else [X[k] for k in order]


def head(X: Any, n: int) -> Any:
    return permuted(X, np.arange(min(n, len(X))))


# The table model by itself


def check_table_model(table: Table) -> None:
    X = array_of(table.X)
    table = Table(X, table.kinds, table.readable)
    with nothing_else_happens(X):
        encoder = fitted(table, TableEncoder().fit)
        if encoder is None:
            return
        values = encoder.read(X)
        check_coordinates(encoder, values)
        check_round_trip(encoder, X, values)
        check_draws(encoder, X, values)


def check_coordinates(encoder: TableEncoder, values: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    matrix, log_measure = encoder.spread(values, 2, rng)
    assert np.isfinite(log_measure).all()
    gaps = np.column_stack([is_missing(v) for v in values])
    labelled = encoder.layout_.labelled(matrix, values)
    present = labelled[np.broadcast_to(~gaps.any(1), matrix.shape[:2])]
    for _, block in parts_of(encoder, present):
        assert (np.abs(block) < 1e6).all(), "coordinates are not of unit scale"


def parts_of(encoder: TableEncoder, matrix: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    ends = np.cumsum([piece.part.n_dims for piece in encoder.pieces_])[:-1]
    blocks = np.split(matrix, ends, axis=-1)
    return [(piece.part, block) for piece, block in zip(encoder.pieces_, blocks, strict=True)]


def check_round_trip(encoder: TableEncoder, X: Any, values: list[np.ndarray]) -> None:
    """Demand that rows that are given whole come back, and that gaps alone are filled."""
    matrix, _ = next(encoder.encode_cells(values, 3))
    filled = encoder.restore(encoder.decode(np.nan_to_num(matrix)), encoder.read_given(X))
    check_is_like(filled, X)
    check_kept(filled, X)
    check_near(encoder.restore(encoder.decode(np.nan_to_num(matrix))), X)


def check_draws(encoder: TableEncoder, X: Any, values: list[np.ndarray]) -> None:
    """Demand that whatever is drawn can be held, and asked about again."""
    rng = np.random.default_rng(1)
    n_dims = len(encoder.blocks_)
    matrix = np.concatenate([rng.standard_normal((8, n_dims)), rng.uniform(-5, 5, (8, n_dims))])
    drawn = encoder.restore(encoder.decode(matrix))
    check_is_like(drawn, X)
    again = encoder.read(drawn)
    encoder.check_holdable(again)
    encoder.check_known(again)
    _, log_measure = next(encoder.encode_cells(again, 1))
    assert not np.isnan(log_measure).any()
    assert np.isfinite(log_measure[:8]).all(), "a draw has density 0"


@given(tables())
@profile(150)
def test_any_table_is_read_and_put_together_again(table):
    check_table_model(table)


SOME = np.array([31, np.nan, -43, np.nan, -16, -10, np.nan, np.nan, np.nan, -52, np.nan, -8])
DAYS_FROM_YEAR_28_TO_9706 = [
    "5036-04-07T21:21:59.704013", "6066-02-23T05:27:06.416081", "9706-06-28T14:57:23.369300",
    "7294-07-05T02:00:58.925685", "6322-06-13T19:59:00.454357", "5436-03-02T18:53:25.293767",
    "5599-01-22T05:44:41.519874", "9349-11-09T21:02:08.237542", "2773-12-02T01:24:20.278207",
    "8157-11-27T08:04:00.514031", "6708-06-05T03:36:24.145939", "0028-05-20T10:48:29.321278",
]  # fmt: skip
FOUND = {
    "constant where others are there": pd.DataFrame(
        {"a": SOME, "b": 8 * [32767] + [32765] + 3 * [32767]}
    ),
    "nanoseconds over six centuries": pd.DataFrame(
        {"a": np.array([1589833456532364279, 8639999568597598261, 8640083365517372809], "M8[ns]")}
    ),
    "microseconds over eight millennia": pd.DataFrame(
        {"a": np.linspace(-5e16, 24e16, 30).astype("int64").astype("M8[us]")}
    ),
    "the first day of dates": pd.DataFrame(
        {"a": np.array(DAYS_FROM_YEAR_28_TO_9706, "M8[us]")}
    ).astype("timestamp[us][pyarrow]"),
    "the last day of dates": pd.DataFrame(
        {"a": np.array(["9999-12-31T18:00", "2020-01-01", "2021-03-04T05:06"], "M8[s]")}
    ),
    "the largest doubles": pd.DataFrame({"a": [-1e308, 1.5e308, 1.7e308, 1e306, 1.7e308]}),
    "whole numbers at the upper bound": pd.DataFrame(
        {"a": np.array([2**64 - 1, 2**64 - 3, 2**63 + 5], np.uint64)}
    ),
    "fewer places than Gaussians": pd.DataFrame(
        {"a": 10 * [0.0, 1.0, 2.0, 1.5, 1.12588865e13, 3.0]}
    ),
    "a grid beside the bounds": pd.DataFrame(
        {"a": 1e7 * np.random.default_rng(0).integers(100, 200, 60)}
    ),
    "years that end in a zone": pd.DataFrame(
        {"a": np.array([1591954828962029, 253402210000000001, 1593954828962021], "M8[us]")}
    ).apply(lambda a: a.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")),
    "huge beside tiny": pd.DataFrame(
        {"a": 3 * [0.0, -9.9e305, 6.3e-290, 0.16, -6.2e31, -0.0, 0.16, 6.3e-290]}
    ),
    "repeated beyond the squares of doubles": pd.DataFrame(
        {"a": 5 * [2.202543e95] + [1.0, 5.792243e-270, 1.125889e14]}
    ),
    "a rounding error beside 0": pd.DataFrame({"a": 7 * [-1.36098855e-38] + 3 * [0.0] + 2 * [1.0]}),
    "squares that are 0": pd.DataFrame({"a": SOME, "b": 1e-182 * np.arange(12.0) ** 2}),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_mended(name):
    check_table_model(Table(FOUND[name], (name,)))


def test_linear_functions_are_found_at_any_scale_and_beside_constants():
    x = np.random.default_rng(0).normal(size=(30, 3))
    table = pd.DataFrame(x * [1.0, 1e-200, 1e140], columns=list("abc"))
    table["d"] = 2e-200 * x[:, 0]
    table["e"] = np.where(np.arange(30) < 29, 1.0, 2.0)
    table.loc[29, "a"] = np.nan
    with pytest.warns(UserWarning, match=r"Columns \['a', 'd'\] are linear functions"):
        TableEncoder().fit(table)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], r"more than one column named \['a'\]"),
        ([np.nan, 1.0], r"at \[0\] have no names"),
    ],
)
def test_names_that_are_none_are_refused_in_fit(names, message):
    X = pd.DataFrame(np.eye(5)[:, :2], columns=names)
    with pytest.raises(ValueError, match=message):
        BellmanDiffusionDensity(**TINY).fit(X)


@pytest.mark.slow
@given(tables())
@profile(2000)
def test_many_tables_are_read_and_put_together_again(table):
    check_table_model(table)


# The estimators


def check_density(table: Table) -> None:
    X = table.X
    with nothing_else_happens(X):
        density = fitted(table, BellmanDiffusionDensity(**TINY).fit)
        if density is None:
            return
        scores = density.score_samples(X)
        assert np.isfinite(scores).all()
        order = np.random.default_rng(0).permutation(len(X))
        again = pickled(density, X)
        np.testing.assert_allclose(again.score_samples(permuted(X, order)), scores[order])
        drawn = density.sample(5, random_state=1)
        check_is_like(drawn, X)
        assert same_table(drawn, again.sample(5, random_state=1))
        assert not np.isnan(density.score_samples(drawn)).any()
        check_given(density, X)
    check_other_container(density, X, scores)


def check_given(density: BellmanDiffusionDensity, X: Any) -> None:
    """Demand that what is given as a table, or cell by cell, is drawn as it is."""
    given = head(X, 4)
    check_kept(density.sample(2, random_state=2, given=given), given, 2)
    if isinstance(X, pd.DataFrame):
        first = {name: X[name].iloc[0] for name in X.columns}
        check_kept(density.sample(2, random_state=2, given=first), head(X, 1), 2)


def pickled(density: BellmanDiffusionDensity, X: Any) -> BellmanDiffusionDensity:
    """Return a copy by way of a pickle, which polars has none of for its column of objects."""
    if isinstance(X, pl.DataFrame) and pl.Object in X.dtypes:
        return density
    return pickle.loads(pickle.dumps(density))


def check_other_container(density: BellmanDiffusionDensity, X: Any, scores: np.ndarray) -> None:
    """Demand a warning or an error of another container, or else the same scores."""
    for other in other_containers(X):
        with nothing_else_happens(other, OTHER_CONTAINER):
            try:
                found = density.score_samples(other)
            except (ValueError, TypeError) as refusal:
                message = str(refusal)
                assert names_a_column(message, X) or OTHER_CONTAINER.search(message), message
                continue
            np.testing.assert_allclose(found, scores)


def other_containers(X: Any) -> list[Any]:
    if isinstance(X, pl.DataFrame):
        return [X.to_numpy()] if all(t.is_float() for t in X.dtypes) else []
    if isinstance(X, pd.DataFrame):
        if not all(isinstance(t, np.dtype) and t.kind == "f" for t in X.dtypes):
            return []
        names = all(isinstance(name, str) for name in X.columns)
        return [X.to_numpy(), *([pl.from_pandas(X)] if names else [])]
    return [pd.DataFrame(np.asarray(X)).rename(columns="x{}".format)]


def check_imputer(table: Table) -> None:
    X = table.X
    density = BellmanDiffusionDensity(**TINY, conditional_fraction=1.0)
    with nothing_else_happens(X):
        filled = fitted(table, BellmanImputer(density, random_state=0).fit_transform)
        if filled is not None:
            check_is_like(filled, X)
            check_kept(filled, X)
            assert not isinstance(X, pd.DataFrame) or filled.index.equals(X.index)


@given(tables(max_rows=30))
@profile(20)
def test_any_table_has_a_density(table):
    check_density(table)


@given(tables(max_rows=30))
@profile(8)
def test_any_table_is_imputed(table):
    check_imputer(table)


@pytest.mark.slow
@given(tables())
@profile(50)
def test_many_tables_have_a_density(table):
    check_density(table)


@pytest.mark.slow
@given(tables())
@profile(40)
def test_many_tables_are_imputed(table):
    check_imputer(table)
