"""Memory: flat in the rows that are scored, and little beside the table that is fitted."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from skbellman import BellmanDiffusionDensity, fitting
from skbellman.categories import pairwise_evidence, with_categories
from skbellman.fields import GaussianMixtureField
from skbellman.reading import read_rows
from skbellman.table_model import TableModel
from skbellman.tables import TableEncoder
from skbellman.tables.parts import parts_of

ROOT = Path(__file__).parents[1]
QUICK = {"n_steps": 2, "width": 8, "depth": 1, "n_nodes": 2, "random_state": 0}


def mixed(n_rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n_rows),
            "n": rng.integers(0, 1000, n_rows),
            "z": np.where(rng.random(n_rows) < 0.5, 0.0, rng.gamma(2.0, size=n_rows)),
            "c": pd.Categorical.from_codes(rng.integers(0, 3, n_rows), list("abc")),
        }
    )


def peak(work) -> int:
    """Return the bytes of numpy and Python that were held at most above those before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module", autouse=True)
def _few_nodes():
    """Make fits quick: what they are judged by does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        few_nodes = functools.partialmethod(fitting.Rows.integral, n_nodes=3)
        patch.setattr(fitting.Rows, "integral", few_nodes)
        few_batches = functools.partial(fitting.weigh_shapes, n_batches=2)
        patch.setattr(fitting, "weigh_shapes", few_batches)
        yield


@pytest.fixture(scope="module")
def fitted(_few_nodes):
    return BellmanDiffusionDensity(**QUICK).fit(mixed(300))


def test_rows_that_are_scored_take_no_memory_but_that_of_their_scores(fitted, monkeypatch):
    monkeypatch.setattr("skbellman.table_density._SCORE_CHUNK", 200)
    few, many = mixed(400), mixed(2400)
    monkeypatch.setattr(TableModel, "log_density", lambda model, v, *_: np.zeros(len(v[0])))
    fitted.score_samples(few)
    extra = peak(lambda: fitted.score_samples(many)) - peak(lambda: fitted.score_samples(few))
    assert extra < 2000 * 60  # 8 bytes a score, twice while they are joined, and noise


@pytest.mark.slow
@pytest.mark.parametrize("library", ["array", "pandas", "polars"])
def test_scores_in_parts_are_those_of_all_rows_at_once(library, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(23, 3))
    table = pd.DataFrame(rows, columns=list("abc"))
    if library == "array":
        X, names = rows, [0, 1, 2]
    else:
        X, names = (
            (table if library == "pandas" else pytest.importorskip("polars").from_pandas(table)),
            list("abc"),
        )
    density = BellmanDiffusionDensity(**QUICK).fit(X)
    questions = [{}, {"columns": names[:1]}, {"given": names[1:]}]
    whole = [density.score_samples(X, **question) for question in questions]
    monkeypatch.setattr("skbellman.table_density._SCORE_CHUNK", 5)
    for question, expected in zip(questions, whole, strict=True):
        np.testing.assert_allclose(density.score_samples(X, **question), expected, atol=1e-9)


def test_a_message_counts_the_rows_of_the_table_and_not_of_its_part(fitted, monkeypatch):
    monkeypatch.setattr("skbellman.table_density._SCORE_CHUNK", 10)
    table = mixed(40)
    table.loc[37, "x"] = np.inf
    with pytest.raises(ValueError, match="inf in row 37"):
        fitted.score_samples(table)
    table.loc[37, "x"] = 1e140
    log_density = lambda model, v, i, given, _: np.where(given[0] > 1e100, np.nan, 0.0)  # noqa: E731
    monkeypatch.setattr(TableModel, "log_density", log_density)
    with pytest.raises(ValueError, match=r"Row 37 of X has zero density in \['x'\]"):
        fitted.score_samples(table, given=["x"])


@pytest.mark.slow
def test_a_table_that_is_read_in_parts_is_fitted_as_well(monkeypatch):
    table = mixed(300)
    whole = BellmanDiffusionDensity(**QUICK).fit(table)
    monkeypatch.setattr("skbellman.reading._CHUNK", 100)
    parts = BellmanDiffusionDensity(**QUICK).fit(table)
    # Other places on the grid are drawn, and no more than that differs.
    assert parts.score(table) == pytest.approx(whole.score(table), abs=0.05)
    again = BellmanDiffusionDensity(**QUICK).fit(table)
    np.testing.assert_array_equal(again.score_samples(table), parts.score_samples(table))


def rows_of(table):
    """Return the rows of a fit of a table, and the encoder."""
    encoder = TableEncoder().fit(table)
    rng, device = np.random.default_rng(0), torch.device("cpu")
    return read_rows(encoder, table, 0.1, rng, device), encoder


def test_every_row_is_either_fitted_or_held_out_whatever_the_parts(monkeypatch):
    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=503)})
    monkeypatch.setattr("skbellman.reading._CHUNK", 50)
    rows, encoder = rows_of(table)
    assert rows.draws.shape == (1, 453, 1)
    found = torch.cat([rows.draws[0, :, 0], rows.validation[:, 0]]).sort().values
    expected = np.sort(next(encoder.encode_cells(encoder.read(table), 1))[0][:, 0])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again, _ = rows_of(table)
    assert torch.equal(again.draws, rows.draws)


def test_many_rows_are_spread_less_often(monkeypatch):
    monkeypatch.setattr("skbellman.reading._SPREAD_ROWS", 1200)
    assert len(rows_of(mixed(100))[0].draws) == 8
    assert len(rows_of(mixed(500))[0].draws) == 2
    rows, _ = rows_of(mixed(1500))
    assert len(rows.draws) == 1
    assert not rows.has_gaps


def test_a_fit_holds_little_more_than_coordinates_in_single_precision(monkeypatch):
    monkeypatch.setattr("skbellman.reading._CHUNK", 2000)
    monkeypatch.setattr("skbellman.reading._SPREAD_ROWS", 1)
    encoder = TableEncoder().fit(mixed(2000))
    few, many = mixed(10_000), mixed(30_000)

    def read(table):
        rng, device = np.random.default_rng(0), torch.device("cpu")
        return read_rows(encoder, table, 0.1, rng, device)

    extra = peak(lambda: read(many)) - peak(lambda: read(few))
    n_columns = 6  # of 4 bytes, and 8 for each row's place, twice while it is found
    assert extra < 20_000 * (4 * n_columns + 2 * 8) * 1.2


def test_counts_of_categories_do_not_depend_on_the_parts(monkeypatch):
    rng = np.random.default_rng(0)
    points = [torch.eye(3), torch.eye(2)]
    codes = rng.integers(0, 3, 500), rng.integers(0, 2, 500)
    x = torch.cat([torch.randn(500, 1), *(p[c] for p, c in zip(points, codes, strict=True))], 1)
    x[7, 1:4] = torch.nan
    gaussian = GaussianMixtureField.normal(torch.zeros(1), torch.eye(1))
    shares = torch.rand(500, 1, generator=torch.Generator().manual_seed(0))
    found = []
    for size in (2**16, 64):
        monkeypatch.setattr("skbellman.categories._CHUNK", size)
        field = with_categories(gaussian, x, shares, points)
        found.append([field.log_probabilities_0, field.log_probabilities_1])
        found[-1] += list(pairwise_evidence(x, points).buffers())
    for whole, in_parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, in_parts)


def test_parts_are_tables_of_the_same_kind():
    frame = mixed(10)
    for table in (frame, pytest.importorskip("polars").from_pandas(frame), frame.to_numpy()):
        parts = list(parts_of(table, 4))
        assert [len(part) for _, part in parts] == [4, 4, 2]
        assert all(type(part) is type(table) for _, part in parts)
    ((_, whole),) = parts_of(frame, 10)
    assert whole is frame


@pytest.mark.slow
def test_a_million_rows_of_ten_columns_are_fitted_within_two_gibibytes():
    command = [sys.executable, ROOT / "examples/benchmarks/memory.py", "--inside"]
    lines = subprocess.run(
        [*command, "--rows", "1000000"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    _, in_all = lines.split("times that), ")
    assert float(in_all.split()[0]) < 2048
