from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

import skbellman.privacy
from skbellman import BellmanDiffusionDensity, PaperDensity
from skbellman.privacy import copying_report, membership_report

RNG = np.random.default_rng(0)


def table(n_rows: int) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "x": RNG.lognormal(size=n_rows),
            "n": RNG.integers(0, 1000, n_rows),
            "c": RNG.choice(["a", "b"], n_rows),
        }
    )
    return frame.assign(x=frame["x"].mask(RNG.random(n_rows) < 0.1))


TRAIN, HELD_OUT = table(800), table(300)


def test_fresh_rows_are_as_near_to_one_as_to_the_other():
    report = copying_report(table(600), TRAIN, HELD_OUT, random_state=0)
    assert abs(report.share_nearer - 0.5) < 0.08
    assert report.standard_error == pytest.approx(0.02, abs=0.002)
    assert max(report.copies, report.copies_held_out) < 0.03  # where x is missing


def test_copies_and_near_copies_are_found():
    copies = copying_report(TRAIN[:200], TRAIN[:300], HELD_OUT, random_state=0)
    assert copies.copies == 1.0
    assert copies.share_nearer > 0.97
    near = TRAIN[:200].assign(x=TRAIN["x"][:200] * 1.001)
    report = copying_report(near, TRAIN[:300], HELD_OUT, random_state=0)
    assert report.copies < 0.2
    assert report.share_nearer > 0.95


def test_duplicates_of_the_table_are_told_beside_copies():
    held_out = pd.concat([HELD_OUT[:150], TRAIN[:150]])
    report = copying_report(table(50), TRAIN, held_out, random_state=0)
    assert report.copies_held_out == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("drawn", "match"), [
    (TRAIN[["x", "n"]], "drawn has the columns"),
    (TRAIN[:1], "drawn: Found a table with 1 sample"),
])  # fmt: skip
def test_tables_that_cannot_be_compared_are_refused(drawn, match):
    with pytest.raises(ValueError, match=match):
        copying_report(drawn, TRAIN, HELD_OUT)


def test_rows_that_can_be_compared_with_none_are_near_to_neither():
    empty = TRAIN[:2].assign(x=np.nan, n=np.nan, c=None)
    report = copying_report(empty, TRAIN, HELD_OUT, random_state=0)
    assert report.share_nearer == 0.5


# Attack


def test_the_attack_is_the_ratio_of_two_densities():
    # Samples and members are around 1, others around 0: the ratio is exp(x - 1 / 2).
    rng, attacker = np.random.default_rng(0), GaussianMixture()
    reports = [
        membership_report(
            *(rng.normal(mean, 1, (500, 1)) for mean in (1, 0, 1, 0)), density=attacker
        )
        for _ in range(30)
    ]
    true = norm.cdf(1 / np.sqrt(2))
    assert np.mean([report.auc for report in reports]) == pytest.approx(true, abs=0.006)
    assert sum(report.interval[0] < true < report.interval[1] for report in reports) >= 26
    widths = [np.ptp(report.interval) for report in reports]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.0151, rel=0.03)  # DeLong's, binormal
    assert reports[0].n_rows == (500, 500)


def test_samples_that_are_rows_of_the_fit_give_them_away():
    rng = np.random.default_rng(0)
    train, held_out, reference = rng.normal(size=(3, 200, 20))
    kernel = KernelDensity(bandwidth=0.5)
    report = membership_report(train, reference, train, held_out, density=kernel)
    assert report.auc > 0.99
    assert report.interval[1] <= 1
    fresh = rng.normal(size=(200, 20))
    report = membership_report(fresh, reference, train, held_out, density=kernel)
    assert report.interval[0] < 0.5 < report.interval[1]


class TrueDensity(BaseEstimator):
    """What learns nothing of the rows."""

    def fit(self, X):
        self.fitted_ = True
        return self

    def score_samples(self, X):
        return norm.logpdf(X).sum(1)


def test_who_knows_the_density_guesses():
    tables = np.random.default_rng(0).normal(size=(4, 50, 2))
    report = membership_report(*tables, density=TrueDensity())
    assert (report.auc, report.interval) == (0.5, (0.5, 0.5))


class UniformDensity(BaseEstimator):
    """What gives rows beyond those of the fit no mass."""

    def fit(self, X):
        self.largest_ = X.max()
        return self

    def score_samples(self, X):
        return np.where(X[:, 0] <= self.largest_, -np.log(self.largest_), -np.inf)


@pytest.mark.parametrize(("held_out", "auc"), [(0.5, 0.0), (9.0, 0.5), (1.5, 1.0)])
def test_a_row_without_mass_in_either_density_is_a_guess(held_out, auc):
    places = np.linspace(0, 1, 20)[:, None]
    rows = [np.full((20, 1), place) for place in (5.0, held_out)]
    report = membership_report(places, 2 * places, *rows, density=UniformDensity())
    assert report.auc == auc


@pytest.mark.slow
def test_the_attacker_has_one_encoder_for_both_tables():
    tables = [table(40) for _ in range(4)]
    tables[0].loc[:5, "c"] = "only sampled"
    tables[1].loc[:5, "c"] = "only in the reference table"
    density = BellmanDiffusionDensity(n_steps=2, n_nodes=4, random_state=0)
    report = membership_report(*tables, density=density)
    assert not hasattr(density, "field_")
    assert density.encoder is None
    assert report.interval[0] < 0.5 < report.interval[1]
    assert membership_report(*map(pl.from_pandas, tables), density=density) == report


def test_the_default_density_has_the_seed(monkeypatch):
    random = functools.partial(GaussianMixture, 5, init_params="random", max_iter=500)
    monkeypatch.setattr(skbellman.privacy, "BellmanDiffusionDensity", random)
    tables = np.random.default_rng(0).normal(size=(4, 90, 2))
    aucs = [membership_report(*tables, random_state=seed).auc for seed in (0, 0, 1)]
    assert aucs[0] == aucs[1] != aucs[2]


@pytest.mark.parametrize(("name", "rows", "match"), [
    ("reference", TRAIN[["x", "n"]], "reference has the columns"),
    ("held_out", TRAIN[:19], r"held_out has 19 row\(s\): at least 20"),
    ("train", TRAIN[:60].assign(x=np.inf), "train: Column 'x' holds the infinite value"),
    ("sampled", TRAIN[:60].assign(x="a"), "sampled and reference: Column 'x' mixes"),
])  # fmt: skip
def test_tables_that_cannot_be_attacked_are_refused(name, rows, match):
    names = ("sampled", "reference", "train", "held_out")
    tables = dict.fromkeys(names, TRAIN[:60]) | {name: rows}
    density = BellmanDiffusionDensity(n_steps=2, n_nodes=4, random_state=0)
    with pytest.raises(ValueError, match=match):
        membership_report(**tables, density=density)


def test_densities_of_different_measures_are_refused():
    rows = TRAIN[["n"]][:60]
    finer = rows + RNG.random((60, 1))
    density = PaperDensity(n_steps=2, random_state=0)
    with pytest.raises(ValueError, match="Column 'n' has"):
        membership_report(finer, rows, rows, rows, density=density)


def test_frames_that_cannot_be_put_together_are_refused():
    rows = pl.from_pandas(TRAIN[:60])
    density = BellmanDiffusionDensity(n_steps=2, random_state=0)
    with pytest.raises(ValueError, match="sampled and reference: columns have other dtypes"):
        membership_report(rows.cast({"n": pl.String}), rows, rows, rows, density=density)
