"""Columns of many rows: what is read of some of them is what all of them say."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_memory import mixed, peak

from skbellman.tables import TableEncoder
from skbellman.tables.columns import NumericColumn, RankedColumn
from skbellman.tables.columns.choose import Numbers, column_of_numbers
from skbellman.tables.containers import container_of
from skbellman.tables.distinct import are_first
from skbellman.tables.gaps import Gaps, some_rows
from skbellman.tables.grids import grid_step, tally
from skbellman.tables.levels import levels_of
from skbellman.tables.quantiles import even_places, quantiles

EPS = float(np.finfo(float).eps)


def test_rows_that_stand_for_a_table_are_of_every_kind():
    """Every second row would be those of before, where rows of before and after take turns."""
    rows = some_rows(3000, most=1000)
    assert len(rows) == 1000
    assert (np.diff(rows) > 0).all()
    shares = np.bincount(rows % 3) / len(rows)
    np.testing.assert_allclose(shares, 1 / 3, atol=4 * np.sqrt(2 / 9 / 1000))
    np.testing.assert_array_equal(some_rows(5, most=5), np.arange(5))


def test_columns_that_are_equal_in_every_second_row_are_not_functions_of_each_other(monkeypatch):
    x, y = np.random.default_rng(0).normal(size=(2, 2000))
    monkeypatch.setattr("skbellman.tables.encoder.some_rows", lambda n: some_rows(n, n // 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableEncoder().fit(np.column_stack([x, np.where(np.arange(2000) % 2, y, x)]))


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy", "ended", "prices", "ranked"])
def test_a_column_of_many_values_has_the_coordinates_of_all_of_them(kind, monkeypatch):
    rng = np.random.default_rng(0)
    n = 20_000
    values = {
        "normal": rng.normal(3, 2, n),
        "skewed": rng.lognormal(size=n),
        "heavy": rng.standard_t(3, n),
        "ended": rng.random(n),
        "prices": np.rint(1e4 * rng.gamma(2.0, 50.0, n)) / 100,
        "ranked": np.where(rng.random(n) < 0.3, 0.0, rng.lognormal(size=n)),
    }[kind]
    whole = column_of_numbers(Numbers(values, EPS))
    monkeypatch.setattr("skbellman.tables.quantiles._MOST", 4000)
    some = column_of_numbers(Numbers(values, EPS))
    assert type(some) is type(whole)
    asked = np.quantile(values, np.linspace(0.001, 0.999, 200), method="nearest")
    (z, log), (z_whole, log_whole) = some.encode(asked), whole.encode(asked)
    assert np.abs(z - z_whole).max() < 0.06
    assert np.abs(log - log_whole).max() < (0.1 if kind == "ranked" else 0.03)


def test_places_of_equal_values_are_even(monkeypatch):
    found, place = even_places(np.array([1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0]))
    np.testing.assert_array_equal(found, [1, 1, 1, 1, 2, 3, 3])
    np.testing.assert_allclose(place, [1 / 8, 3 / 8, 5 / 8, 7 / 8, 1 / 2, 1 / 4, 3 / 4])
    monkeypatch.setattr("skbellman.tables.quantiles._MOST", 5)
    np.testing.assert_array_equal(quantiles(np.arange(101.0)), [0, 25, 50, 75, 100])
    assert not len(quantiles(np.empty(0)))


def test_a_grid_that_few_values_lie_on_is_not_that_of_all():
    values = np.arange(5000.0)
    assert grid_step(values) == 1.0
    values[3] += 1 / 7
    assert grid_step(values) == 0.0
    np.testing.assert_array_equal(tally(np.repeat([1.0, 3.0], 100_000), 0.5)[[0, -1]], 100_000)


def test_a_missing_cell_is_no_copy_of_a_zero():
    X = pd.DataFrame({"a": [0.0, np.nan, -0.0, 1.0, 0.0], "b": [1, 1, 1, 0, 1]})
    first = are_first(container_of(X)(X), X)
    np.testing.assert_array_equal(first, [True, True, False, True, False])
    other = X.assign(a=pd.to_datetime(X["a"], unit="D"), b=pd.Categorical(X["b"]))
    np.testing.assert_array_equal(are_first(container_of(other)(other), other), first)


@pytest.mark.parametrize("n_columns", [3, 64, 130])
def test_gaps_are_counted_whatever_the_number_of_columns(n_columns):
    rng = np.random.default_rng(0)
    patterns = rng.random((4, n_columns)) < 0.5
    of_row = rng.integers(0, 4, 1000)
    found = Gaps.among(list(patterns[of_row].T))
    expected, counts = np.unique(patterns[of_row], axis=0, return_counts=True)
    np.testing.assert_array_equal(found.patterns, expected)
    np.testing.assert_allclose(found.shares, counts / 1000)


@pytest.mark.parametrize("library", [pd, pl])
def test_levels_are_read_as_they_are_with_one_object_each(library, monkeypatch):
    monkeypatch.setattr("skbellman.tables.series._CHUNK", 7)
    X = library.DataFrame({"c": ["north", None, "south"] * 20, "b": [True, False, None] * 20})
    container = container_of(X)(X)
    cells = container.cells(X, 0, False)
    assert cells.values.tolist() == ["north", None, "south"] * 20
    assert cells.missing.tolist() == [False, True, False] * 20
    assert len({id(value) for value in cells.values.tolist()}) == 3
    flags = container.cells(X, 1, False)
    assert all(type(v) is bool for v in levels_of(flags.values[~flags.missing])[0])


@pytest.mark.slow
def test_an_encoder_of_many_rows_takes_little_beside_them(monkeypatch):
    """Three times the bytes of ten columns in single precision, as columns are read in turn."""
    few, many = mixed(140_000), mixed(280_000)
    extra = peak(lambda: TableEncoder().fit(many)) - peak(lambda: TableEncoder().fit(few))
    assert extra < 140_000 * 10 * 4 * 3


def test_ranks_of_many_values_keep_their_probabilities():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(300_000) < 0.25, 7.0, rng.normal(size=300_000))
    column = column_of_numbers(Numbers(values, EPS))
    assert isinstance(column, RankedColumn)
    z = rng.normal(size=200_000)
    share = (column.decode(z[:, None]) == 7.0).mean()
    assert share == pytest.approx((values == 7.0).mean(), abs=4 * np.sqrt(0.19 / 200_000))
    assert isinstance(column.smooth, NumericColumn)
    # The rest is normal, so its log-density at 0 is that of 0.75 N(0, 1).
    z, log = column.encode(np.array([0.0, 2.0]))
    found = log - 0.5 * z[:, 0] ** 2 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(found, np.log(0.75) - np.array([0.919, 2.919]), atol=0.03)
