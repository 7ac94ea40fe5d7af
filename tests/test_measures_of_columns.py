"""Two tables have comparable scores where their columns have one reference measure."""

from __future__ import annotations

import datetime
import pickle

import numpy as np
import pandas as pd
import pytest

from skbellman.tables import TableEncoder, same_measure
from skbellman.tables.measures import AtomsBeside, Grid, Lebesgue, Levels

N = 400


def table(seed=0, **columns):
    """Return a table of a smooth number, a grid, a category and a number with an atom."""
    rng = np.random.default_rng(seed)
    own = {
        "x": rng.normal(size=N),
        "price": rng.integers(20, 2000, N) * 0.05,
        "c": rng.permutation(np.arange(N) % 3).astype(str),
        "gain": np.where(rng.random(N) < 0.4, 0.0, rng.exponential(size=N)),
        "k": rng.permutation(np.arange(N) % 4),
    }
    return pd.DataFrame({**own, **columns})


def measure(frame, **parameters):
    return TableEncoder(**parameters).fit(frame).measure


def test_other_rows_of_one_law_have_one_measure():
    a, b = measure(table(0)), measure(table(1))
    assert a == b
    same_measure(a, b)
    assert pickle.loads(pickle.dumps(a)) == a
    assert [type(column.reference) for column in a] == [Lebesgue, Grid, Levels, AtomsBeside, Grid]
    assert [column.name for column in a] == ["x", "price", "c", "gain", "k"]


def rng():
    return np.random.default_rng(2)


@pytest.mark.parametrize(
    ("other", "how"),
    [
        (
            {"gain": rng().exponential(size=N)},
            r"'gain' has atoms at 0.0 beside a density on the line in one table and a density on",
        ),
        (
            {"gain": np.where(rng().random(N) < 0.4, 1.5, rng().exponential(size=N))},
            r"'gain' has atoms at 0.0 beside .* in one table and atoms at 1.5 beside",
        ),
        (
            {"price": rng().integers(20, 2000, N) * 0.1},
            r"'price' has a grid of step 0.05 through .* and a grid of step 0.1",
        ),
        (
            {"price": rng().integers(20, 2000, N) * 0.05 + 0.02},
            r"'price' has a grid of step 0.05 through .* and a grid of step 0.05",
        ),
        ({"price": rng().normal(size=N)}, r"'price' has a grid .* and a density on the line"),
        (
            {"c": rng().permutation(np.arange(N) % 4).astype(str)},
            r"'c' has the levels '0', '1', '2' in one table and the levels '0', '1', '2', '3'",
        ),
        ({"k": 1}, r"'k' has a grid of step 1 through 0 in one table and the levels 1.0"),
        (
            {"x": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng().random(N), unit="D")},
            r"'x' has numbers in one table and dates without a time zone in the other",
        ),
    ],
)
def test_the_first_column_that_differs_is_named_with_the_remedy(other, how):
    a, b = measure(table()), measure(table(**other))
    assert a != b
    with pytest.raises(ValueError, match=how):
        same_measure(a, b)
    with pytest.raises(ValueError, match=r"one encoder: BellmanDiffusionDensity\(encoder=\.\.\.\)"):
        same_measure(b, a)


def test_other_names_and_another_order_are_other_columns():
    a = measure(table())
    renamed = measure(table().rename(columns={"price": "cost"}))
    with pytest.raises(ValueError, match=r"'price' of one table has the place of 'cost'"):
        same_measure(a, renamed)
    turned = measure(table()[["x", "c", "price", "gain", "k"]])
    with pytest.raises(ValueError, match=r"'price' of one table has the place of 'c'"):
        same_measure(a, turned)
    fewer = measure(table()[["x", "price", "c"]])
    for pair in ((a, fewer), (fewer, a)):
        with pytest.raises(ValueError, match="'gain' is in one table and not in the other"):
            same_measure(*pair)


def test_a_grid_is_its_points():
    assert Grid(0.0, 0.05) == Grid(1234.55, 0.05) == Grid(-7.35, 0.1 / 2)
    assert Grid(0.0, 1 / 60) == Grid(7 / 60, 0.5 / 30)
    assert Grid(0.0, 0.05) != Grid(0.01, 0.05)
    assert Grid(0.0, 0.05) != Grid(0.0, 0.1)
    assert Grid(0.0, 1.0) != Levels((0.0, 1.0))


def test_few_values_of_a_grid_have_the_measure_of_many():
    """A number that is counted in one table and tallied in another scores per unit in both."""
    many = np.where(rng().random(N) < 0.5, 40, rng().integers(1, 90, N))
    few = rng().permutation(np.arange(N) % 5)
    assert measure(table(k=many), atom_share=0.9) == measure(table(k=few), atom_share=0.9)


def test_numbers_that_are_counted_from_elsewhere_are_other_numbers():
    first, second = 2**60, 2**61
    a, b = (measure(table(k=start + np.arange(N) ** 2)) for start in (first, second))
    with pytest.raises(ValueError, match=r"'k' has numbers from 1\d+ on in one table and"):
        same_measure(a, b)


def test_dates_are_of_one_unit_whatever_the_dtype():
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng().integers(0, 900, N), unit="D")
    kinds = (days.astype("datetime64[s]"), days.astype("datetime64[ns]"), days.date)
    a, *others = (measure(table(x=values)) for values in kinds)
    assert isinstance(kinds[2][0], datetime.date)
    assert all(other == a for other in others)
