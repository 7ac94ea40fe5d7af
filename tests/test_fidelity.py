from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from skbellman import BellmanDiffusionDensity, TableEncoder
from skbellman.fidelity import FidelityReport, fidelity_report
from skbellman.fields import Mixture
from skbellman.fitting import fit_field
from skbellman.reports import auc_and_error


def table(n_rows: int, seed: int) -> pd.DataFrame:
    """Return a number, a category of three levels and a number that is a function of it."""
    rng = np.random.default_rng(seed)
    c = rng.choice(["a", "b", "c"], n_rows, p=[0.5, 0.3, 0.2])
    x, y = rng.normal(size=(2, n_rows))
    return pd.DataFrame({"x": x, "c": c, "y": y + 2 * (c == "a")})


def test_the_error_is_that_of_many_tables():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        found.append(auc_and_error(rng.normal(1, 2, 60), rng.normal(0, 1, 90)))
    aucs, errors = np.array(found).T
    assert aucs.mean() == pytest.approx(norm.cdf(1 / np.sqrt(5)), abs=0.006)
    assert errors.mean() == pytest.approx(aucs.std(ddof=1), rel=0.12)


def test_the_area_counts_half_of_what_is_level():
    rng = np.random.default_rng(1)
    scores, others = rng.integers(0, 5, 40), rng.integers(1, 7, 30)
    auc, _ = auc_and_error(scores, others)
    expected = roc_auc_score(np.arange(70) < 40, np.concatenate([scores, others]))
    assert auc == pytest.approx(expected, abs=1e-12)
    assert auc_and_error(np.full(9, np.inf), np.full(8, -np.inf)) == (1.0, 0.0)


def test_equal_laws_cannot_be_told_apart():
    report = fidelity_report(table(2000, 0), table(1500, 1), random_state=0)
    assert report.detection > 1 - 3 * report.detection_error
    assert 0.005 < report.detection_error < 0.05
    assert report.columns[0][1] > 1 - 1.95 * np.sqrt(1 / 2000 + 1 / 1500)  # one table in 1000
    assert report.pairs[0][2] > 0.97


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_a_column_that_is_off_comes_first(shift):
    sampled = table(2000, 0)
    sampled["x"] += shift
    report = fidelity_report(sampled, table(2000, 1), random_state=0)
    (name, score), *others = report.columns
    assert name == "x"
    assert score == pytest.approx(1 - (2 * norm.cdf(shift / 2) - 1), abs=0.04)
    assert all(score > 0.95 for _, score in others)
    assert "x" in report.pairs[0]
    # No test is better than the ratio of the densities.
    best = 2 - 2 * norm.cdf(shift / np.sqrt(2))
    assert best - 3 * report.detection_error < report.detection < best + 0.1


def test_the_score_of_a_category_is_its_total_variation():
    real = pd.DataFrame({"c": ["a"] * 60 + ["b"] * 30 + [None] * 10, "x": np.arange(100.0)})
    sampled = pd.DataFrame({"c": ["a"] * 40 + ["b"] * 50 + ["new"] * 10, "x": np.arange(100.0)})
    assert fidelity_report(sampled, real).columns == [("c", pytest.approx(0.7)), ("x", 1.0)]


def test_a_lost_dependence_of_perfect_columns_is_seen():
    rng = np.random.default_rng(0)
    c, other = rng.choice(["a", "b"], (2, 2000))
    real = pd.DataFrame({"c": c, "d": c, "e": other})
    sampled = real.assign(d=rng.permutation(c))
    report = fidelity_report(sampled, real, random_state=0)
    assert [score for _, score in report.columns] == [1, 1, 1]
    # Half of the samples are where no row is. The rest is half of what the rows have there.
    assert report.pairs[0][:2] == ("c", "d")
    assert report.pairs[0][2] == pytest.approx(0.5, abs=0.05)
    assert all(score > 0.95 for _, _, score in report.pairs[1:])
    assert report.detection == pytest.approx(0.5, abs=4 * report.detection_error)


def test_values_that_repeat_are_told_from_the_values_beside_them():
    rng = np.random.default_rng(0)
    is_zero = rng.random(4000) < 0.9
    real = np.where(is_zero, 0, rng.normal(size=(2, 4000))).T
    sampled = np.column_stack([real[:, 0], rng.permutation(real[:, 1])])
    ((*names, score),) = fidelity_report(sampled, real, random_state=0).pairs
    assert names == [0, 1]
    assert score == pytest.approx(1 - 2 * 0.9 * 0.1, abs=0.03)


def test_missing_values_are_values():
    rng = np.random.default_rng(0)
    sampled = pd.DataFrame({"x": rng.integers(0, 4, 2000), "c": rng.choice(["a", "b"], 2000)})
    real = sampled.astype({"x": float})
    real["x"] = real["x"].mask(rng.random(2000) < 0.3)
    real["c"] = real["c"].mask(rng.random(2000) < 0.2)
    report = fidelity_report(sampled, real, random_state=0)
    shares = real.notna().mean()
    assert report.columns == [("x", pytest.approx(shares["x"])), ("c", pytest.approx(shares["c"]))]
    # Rows without a gap are all that cannot be told.
    whole = real.notna().all(axis=1).mean()
    assert report.detection == pytest.approx(whole, abs=3 * report.detection_error)
    empty = fidelity_report(sampled.assign(x=np.nan), real, random_state=0)
    assert dict(empty.columns)["x"] == pytest.approx(1 - shares["x"])


def test_columns_of_many_levels_are_compared():
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 300, (2, 6000, 2)).astype(float)
    encoder = TableEncoder(categorical_features=[0], max_categories=400)
    report = fidelity_report(*tables, encoder=encoder, random_state=0)
    assert report.detection > 1 - 4 * report.detection_error
    scores = dict(report.columns)
    assert scores[0] == pytest.approx(1 - np.sqrt(300 / (np.pi * 6000)), abs=0.01)
    assert scores[1] > 0.96


def test_identifiers_have_no_score():
    real, sampled = table(200, 0), table(200, 1)
    for start, frame in enumerate((real, sampled)):
        frame["id"] = [f"{1000 * start + k}" for k in range(200)]
    encoder = TableEncoder(identifiers=["id"]).fit(real)
    report = fidelity_report(sampled, real, encoder=encoder, random_state=0)
    assert {name for name, _ in report.columns} == {"x", "c", "y"}
    assert report.detection > 0.8


def test_containers_and_seeds():
    real, sampled = table(300, 0), table(200, 1)
    before = real.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is not to change
    report = fidelity_report(sampled, real, random_state=3)
    assert fidelity_report(sampled, real, random_state=3) == report
    frames = pl.from_pandas(sampled), pl.from_pandas(real)
    assert fidelity_report(*frames, random_state=3) == report
    arrow = [frame.to_arrow() for frame in frames]
    assert fidelity_report(*arrow, random_state=3) == report
    pd.testing.assert_frame_equal(real, before)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_only_the_worst_pairs_are_kept():
    rng = np.random.default_rng(0)
    real, sampled = rng.normal(size=(2, 300, 9))
    sampled[:, 4] = sampled[:, 5]
    report = fidelity_report(sampled, real, random_state=0)
    assert len(report.pairs) == 20
    assert report.pairs[0][:2] == (4, 5)
    assert [score for *_, score in report.pairs] == sorted(score for *_, score in report.pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fidelity_report(sampled[:, :1], real[:, :1], random_state=0).pairs == []


REAL = table(100, 0)


@pytest.mark.parametrize(("sampled", "match"), [
    (REAL[["x", "y"]], "sampled has the columns .*'x', 'y'.*, real has"),
    (REAL[:49], r"sampled has 49 row\(s\): at least 50"),
    (REAL.assign(x=np.inf), "sampled: Column 'x' holds the infinite value"),
    (REAL.assign(x="a"), "sampled: Column 'x' holds 'a' but was numeric"),
    ({"x": [1]}, "sampled: X is a dict"),
])  # fmt: skip
def test_tables_that_cannot_be_compared_are_refused(sampled, match):
    with pytest.raises((TypeError, ValueError), match=match):
        fidelity_report(sampled, REAL)


# The report of a fit


def ring(n_rows: int) -> np.ndarray:
    """Return rows on a circle: far from what a reference without a network draws."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, n_rows)
    return np.column_stack([np.cos(angle), np.sin(angle)]) + 0.01 * rng.normal(size=(n_rows, 2))


def without_mixture(*args):
    fit = fit_field(*args)
    neural = fit.field.fields[0]
    return replace(fit, field=Mixture([neural], torch.ones(1)))


def test_a_fit_warns_of_poor_samples_and_names_the_worst(monkeypatch):
    density = BellmanDiffusionDensity(n_steps=1, width=8, n_levels=2, random_state=0)
    monkeypatch.setattr("skbellman.density.fit_field", without_mixture)
    with pytest.warns(UserWarning, match="fidelity_.detection is 0.[0-4]. of 1. The worst column"):
        density.fit(ring(2000))
    report = density.fidelity_
    assert report.complaint()
    assert report.pairs[0][:2] == (0, 1)


def test_a_fit_with_good_samples_says_nothing():
    rows = np.random.default_rng(0).normal(size=(2000, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        density = BellmanDiffusionDensity(n_steps=20, width=8, random_state=0).fit(rows)
    assert density.fidelity_.detection > 0.8
    assert not density.fidelity_.complaint()


def test_a_fit_of_few_rows_has_no_report():
    density = BellmanDiffusionDensity(n_steps=2, width=8, random_state=0).fit(ring(500))
    assert density.fidelity_ is None


@pytest.mark.slow
def test_samples_of_a_fit_have_the_gaps_of_the_held_out_rows():
    rng = np.random.default_rng(1)
    rows = table(3000, 0)
    rows.loc[rng.random(3000) < 0.4, "x"] = np.nan
    rows.loc[rng.random(3000) < 0.3, "c"] = None
    density = BellmanDiffusionDensity(n_steps=100, width=32, random_state=0).fit(rows)
    scores = dict(density.fidelity_.columns)
    assert density.fidelity_.detection > 0.7
    assert min(scores.values()) > 0.88


def test_a_report_is_printed_in_a_line():
    report = FidelityReport(0.875, 0.02, [("x", 0.9), ("y", 0.95)], [("x", "y", 0.8)])
    assert str(report) == (
        "detection 0.88 (standard error 0.02); worst columns: 'x' 0.90, 'y' 0.95; "
        "worst pairs: 'x' and 'y' 0.80"
    )
