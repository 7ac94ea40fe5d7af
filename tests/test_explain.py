"""Which cell of a row is odd, and which way a row would be likelier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from skbellman import BellmanDiffusionDensity
from skbellman.fields import GaussianMixtureField, Mixture

RNG = np.random.default_rng(0)
N = 300
X = RNG.normal(size=N)
NUMBERS = pd.DataFrame({"x": X, "y": 0.8 * X + 0.6 * RNG.normal(size=N)})
TABLE = NUMBERS.assign(c=np.where(X > 0, "high", "low"), n=RNG.integers(0, 3, N))
TABLE.index = RNG.permutation(N)
MEAN, COVARIANCE = torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])


def fitted(table):
    return BellmanDiffusionDensity(n_steps=40, width=16, random_state=0).fit(table)


@pytest.fixture(scope="module")
def normal():
    """Return a density whose field is one Gaussian, in closed form."""
    density = fitted(NUMBERS)
    density.field_ = GaussianMixtureField.normal(MEAN, COVARIANCE)
    return density


@pytest.fixture(scope="module")
def density():
    return fitted(TABLE)


def test_the_surprise_of_a_cell_is_that_of_its_conditional_law(normal):
    rows = NUMBERS[:20]
    z, _ = next(normal.encoder_.encode_cells(normal.encoder_.read(rows), 1))
    slope = normal.encoder_.layout_.slopes(normal.encoder_.read(rows))[0]
    own = 1 + 0.01**2  # the variance of a column at the floor
    mean, variance = 0.8 / own * z[:, ::-1], own - 0.8**2 / own
    expected = 0.5 * (np.log(2 * np.pi * variance) + (z - mean) ** 2 / variance) - np.log(slope)
    found = normal.explain(rows, reference=rows)
    np.testing.assert_allclose(found, expected - expected.mean(0), atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_gradient_is_that_of_the_score(normal, parts):
    rows, step = NUMBERS[:20], 1e-4
    if parts == 2:
        other = GaussianMixtureField.normal(MEAN + 1, 0.5 * COVARIANCE)
        normal.field_ = Mixture([normal.field_, other], torch.tensor([0.3, 0.7]))
    found = normal.gradient(rows, noise=0.3)
    for name in rows:
        up, down = (
            normal.score_samples(rows.assign(**{name: rows[name] + side * step}), noise=0.3)
            for side in (1, -1)
        )
        np.testing.assert_allclose(found[name], (up - down) / (2 * step), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_cell_that_does_not_go_with_the_rest_is_found(density):
    odd = TABLE[:3].copy()
    odd.iloc[0, 2] = "low" if odd.iloc[0, 2] == "high" else "high"
    odd.iloc[1, 1] = 9.0
    odd.iloc[2, 2] = "never"
    surprise = density.explain(odd, random_state=0)
    assert surprise.idxmax(axis=1).tolist() == ["c", "y", "c"]
    assert surprise.index.equals(odd.index)
    assert np.isposinf(surprise.iloc[2, 2])
    assert np.isfinite(surprise.iloc[2, :2]).all()


def test_what_is_missing_has_no_surprise_and_what_is_no_number_no_gradient(density):
    gaps = TABLE[:4].astype({"n": "Int64"})
    gaps.iloc[0, :2] = np.nan
    gaps.iloc[1, 3] = pd.NA
    surprise, gradient = density.explain(gaps, random_state=0), density.gradient(gaps)
    np.testing.assert_array_equal(surprise.isna(), gaps.isna())
    assert gradient[["c", "n"]].isna().all(axis=None)
    np.testing.assert_array_equal(gradient[["x", "y"]].isna(), gaps[["x", "y"]].isna())


@pytest.mark.slow
def test_a_row_beyond_all_rows_has_finite_surprises_elsewhere(density):
    far = TABLE[:1].assign(x=1e12)
    surprise = density.explain(far, random_state=0)
    assert not surprise.isna().any(axis=None)
    assert surprise.idxmax(axis=1).item() == "x"


def with_odd_cells(rows, table, rng):
    """Return rows with one odd cell each, and its column.

    A number is ten times as large; a category is one that less than half a percent of the rows
    have.
    """
    odd, columns = rows.astype(dict.fromkeys(rows.select_dtypes("number"), float)), []
    for place in range(len(rows)):
        cells = {name: odd_cell(rows.iloc[place][name], table[name], rng) for name in rows}
        name = rng.choice([name for name, cell in cells.items() if cell is not None])
        odd.iloc[place, odd.columns.get_loc(name)] = cells[name]
        columns.append(name)
    return odd, columns


def odd_cell(cell, column, rng):
    if pd.isna(cell) or cell == 0:
        return None
    if pd.api.types.is_numeric_dtype(column):
        return 10.0 * cell
    shares = column.value_counts(normalize=True)
    rare = [level for level in shares.index[shares < 0.005] if level != cell]
    return rng.choice(rare) if rare else None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["abalone", "adult", "online_shoppers"])
def test_a_corrupted_cell_of_a_real_row_is_found_first(tables, name):
    if not (tables / f"{name}.csv").exists():
        pytest.skip(f"needs {name}.csv")
    table = pd.read_csv(tables / f"{name}.csv").sample(3000, random_state=0)
    codes = ["OperatingSystems", "Browser", "Region", "TrafficType", "Weekend", "Revenue"]
    found = {c: str for c in codes if c in table}
    table = table.astype(found).astype(dict.fromkeys(found, "category"))
    density = BellmanDiffusionDensity(n_steps=400, random_state=0).fit(table[:2800])
    odd, columns = with_odd_cells(table[2800:2830], table, np.random.default_rng(0))
    surprise = density.explain(odd, reference=table[2740:2800])
    assert (surprise.idxmax(axis=1) == columns).mean() >= 0.9
