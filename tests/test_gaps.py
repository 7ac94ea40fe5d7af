"""Tables with missing values, densities of some columns, draws given others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.stats import norm

from skbellman import BellmanDiffusionDensity, PaperDensity, TableEncoder

QUICK = {"n_steps": 60, "width": 16, "random_state": 0}
RNG = np.random.default_rng(0)
N = 400


def whole() -> pd.DataFrame:
    """Return y normal given x, a count, and a category that tells the sign of x."""
    x = RNG.normal(size=N)
    return pd.DataFrame(
        {
            "x": x,
            "y": 0.8 * x + 0.6 * RNG.normal(size=N),
            "n": RNG.poisson(3, N),
            "c": np.where(x > 0, "plus", RNG.choice(["minus", "rare"], N, p=[0.9, 0.1])),
        }
    )


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.astype({"n": "Int64"})
    return frame.mask(RNG.random(frame.shape) < 0.15)


WHOLE = whole()
GAPS = with_gaps(WHOLE)


@pytest.fixture(scope="module")
def fitted():
    return BellmanDiffusionDensity(**QUICK).fit(GAPS)


def test_what_is_missing_is_integrated_out(fitted):
    scores = fitted.score_samples(GAPS)
    assert np.isfinite(scores).all()
    rows = GAPS[["x", "y"]].notna().all(axis=1)
    hidden = GAPS.assign(n=pd.array([None] * N, dtype="Int64"), c=None)
    np.testing.assert_allclose(
        fitted.score_samples(hidden[rows]),
        fitted.score_samples(GAPS[rows], columns=["x", "y"]),
        atol=1e-6,
    )
    nothing = hidden.assign(x=np.nan, y=np.nan)
    np.testing.assert_allclose(fitted.score_samples(nothing[:3]), 0.0, atol=1e-6)


def test_marginals_and_conditionals_of_a_gaussian_are_found(fitted):
    rows = WHOLE[:100]
    marginal = fitted.score_samples(rows[["y"]], columns=["y"])
    assert np.median(np.abs(marginal - norm(0, 1).logpdf(rows.y))) < 0.15
    conditional = fitted.score_samples(rows, columns=["y"], given=["x"])
    assert np.median(np.abs(conditional - norm(0.8 * rows.x, 0.6).logpdf(rows.y))) < 0.2


@pytest.mark.slow
def test_joint_less_marginal_is_conditional(fitted):
    rows = WHOLE.astype({"n": "Int64"})[:40]
    for given in (["x"], ["c", "n"], ["y", "n", "x"]):
        difference = fitted.score_samples(rows) - fitted.score_samples(rows, columns=given)
        found = fitted.score_samples(rows, given=given)
        assert np.median(np.abs(found - difference)) < 0.1


def test_the_probabilities_of_a_category_given_the_rest_sum_to_one(fitted):
    rows = pd.concat([WHOLE[:20].assign(c=level) for level in ("plus", "minus", "rare")])
    found = np.exp(fitted.score_samples(rows, columns=["c"], given=["x"])).reshape(3, 20)
    np.testing.assert_allclose(found.sum(0), 1.0, atol=0.05)
    assert (found[0][WHOLE.x[:20] > 0.3] > 0.6).all()


def test_draws_hold_what_is_given(fitted):
    drawn = fitted.sample(500, random_state=0, given={"x": 1.25, "c": "plus"})
    assert drawn.dtypes.equals(GAPS.dtypes)
    assert set(drawn["x"]) == {1.25}
    assert set(drawn["c"]) == {"plus"}
    assert drawn["y"].mean() == pytest.approx(1.0, abs=0.25)
    assert drawn["y"].std() == pytest.approx(0.6, abs=0.2)
    again = fitted.sample(500, random_state=0, given={"c": "plus", "x": 1.25})
    pd.testing.assert_frame_equal(drawn, again)


def test_gaps_of_a_table_are_filled(fitted):
    filled = fitted.sample(2, random_state=0, given=GAPS[:60])
    assert len(filled) == 120
    assert not filled.isna().any(axis=None)
    kept = GAPS[:60].loc[np.repeat(np.arange(60), 2)].reset_index(drop=True)
    for name in GAPS:
        present = kept[name].notna()
        assert (filled[name][present] == kept[name][present]).all()
    one = fitted.sample(random_state=0, given=GAPS[["c", "y"]][:5])
    assert list(one.columns) == list(GAPS.columns)


def test_a_given_category_shifts_the_numbers(fitted):
    means = [
        fitted.sample(300, random_state=0, given={"c": c})["x"].mean() for c in ("plus", "minus")
    ]
    assert means[0] > 0.35
    assert means[1] < -0.35


def test_draws_lack_what_the_table_lacked_if_asked():
    frame = WHOLE.assign(n=WHOLE.n.astype("Int64"), d=pd.Timestamp("2026-01-01"))
    frame.loc[RNG.random(N) < 0.3, ["x", "n", "c"]] = None  # together
    density = BellmanDiffusionDensity(**QUICK).fit(frame)
    drawn = density.sample(2000, random_state=0, with_missing=True)
    assert list(drawn.dtypes) == list(frame.dtypes)
    assert drawn.x.isna().mean() == pytest.approx(frame.x.isna().mean(), abs=0.04)
    assert (drawn.x.isna() == drawn.n.isna()).all()
    assert (drawn.x.isna() == drawn.c.isna()).all()
    assert drawn[["y", "d"]].notna().all(axis=None)
    whole = density.sample(2000, random_state=0)
    seen = drawn.x.notna()
    pd.testing.assert_frame_equal(drawn[seen], whole[seen])
    held = density.sample(200, random_state=0, given={"c": "rare"}, with_missing=True)
    assert (held.c == "rare").all()
    assert held.x.notna().all()  # missing only where c is


@pytest.mark.slow
def test_arrays_and_polars_have_gaps_too():
    array = GAPS[["x", "y"]].to_numpy(float)
    density = BellmanDiffusionDensity(**QUICK).fit(array)
    assert np.isfinite(density.score_samples(array)).all()
    assert density.score_samples(array, columns=[1], given=[0]).shape == (N,)
    filled = density.sample(given=array, random_state=0)
    np.testing.assert_array_equal(filled[~np.isnan(array)], array[~np.isnan(array)])
    assert np.isfinite(filled).all()
    lacking = np.isnan(density.sample(500, random_state=0, with_missing=True))
    np.testing.assert_allclose(lacking.mean(0), np.isnan(array).mean(0), atol=0.08)
    assert set(density.sample(3, given={0: 2.0}, random_state=0)[:, 0]) == {2.0}
    frame = pl.from_pandas(GAPS)
    density = BellmanDiffusionDensity(**QUICK).fit(frame)
    filled = density.sample(given=frame[:20], random_state=0)
    assert filled.schema == frame.schema
    assert sum(filled.null_count().row(0)) == 0
    lacking = density.sample(500, random_state=0, with_missing=True)
    assert lacking.schema == frame.schema
    assert all(0 < n < 200 for n in lacking.null_count().row(0))


@pytest.mark.parametrize(("ask", "match"), [
    (lambda d: d.sample(given={"z": 1}), r"given names \['z'\]"),
    (lambda d: d.sample(given={"c": "new"}), "'c' holds 'new'.*held 'minus', 'plus', 'rare'"),
    (lambda d: d.sample(given={"n": 1.5}), "'n' holds whole numbers"),
    (lambda d: d.sample(given={"x": "word"}), "'x' holds numbers, not 'word'"),
    (lambda d: d.sample(given={"x": np.inf}), "'x' holds numbers, not inf"),
    (lambda d: d.sample(given=GAPS[:0]), "holds no row"),
    (lambda d: d.score_samples(WHOLE, columns=["z"]), r"columns names \['z'\]"),
    (lambda d: d.score_samples(WHOLE, columns=[]), "no column is left to score"),
    (lambda d: d.score_samples(WHOLE, columns=["x"], given=["x"]), r"\['x'\] are both"),
    (lambda d: d.score_samples(WHOLE[["x"]], columns=["x"], given=["y"]), r"X lacks.*\['y'\]"),
    (lambda d: d.score_samples(WHOLE.assign(c="new"), given=["c"]), "'c' holds 'new'"),
    (lambda d: d.score_samples(WHOLE, given="x"), "given is a single name"),
    (lambda d: d.score_samples(WHOLE, given={"x": 1.0}), "given takes names"),
    (lambda d: d.score_samples(WHOLE[:0], columns=["x"]), "holds no row"),
])  # fmt: skip
def test_what_cannot_be_asked_is_refused(fitted, ask, match):
    with pytest.raises(ValueError, match=match):
        ask(fitted)


def test_a_condition_without_density_is_refused(fitted, monkeypatch):
    nothing = torch.tensor([0.0, -torch.inf]).double()
    for field in fitted.field_.fields:
        monkeypatch.setattr(type(field), "log_masses", lambda *_: (nothing, nothing))
    with pytest.raises(ValueError, match=r"Row 1 of X has zero density in \['x'\]"):
        fitted.score_samples(WHOLE[:2], given=["x"])


def test_the_papers_objectives_take_whole_rows():
    numbers = GAPS[["x", "y"]]
    density = PaperDensity(n_steps=2, random_state=0)
    with pytest.raises(ValueError, match=r"whole rows only, but columns \['x', 'y'\]"):
        density.fit(numbers)
    density.fit(WHOLE[["x", "y"]])
    for ask in (
        lambda: density.score_samples(numbers),
        lambda: density.score_samples(WHOLE[["x"]], columns=["x"]),
        lambda: density.sample(given={"x": 0.0}),
    ):
        with pytest.raises(ValueError, match="learns the density of whole rows"):
            ask()


@pytest.mark.slow
def test_values_missing_at_random_leave_the_law_as_it_is():
    """Rows without gaps have x of mean -0.7; all rows have mean 0."""
    rng, n = np.random.default_rng(0), 3000
    x, z = rng.normal(size=(2, n))
    table = pd.DataFrame({"x": x, "y": 0.8 * x + 0.6 * z, "c": np.where(z > 0, "up", "down")})
    table.loc[rng.random(n) < 1 / (1 + np.exp(-3 * x)), ["y", "c"]] = None
    density = BellmanDiffusionDensity(n_steps=250, width=64, random_state=0).fit(table)
    drawn = density.sample(20_000, random_state=0)
    assert drawn.x.mean() == pytest.approx(0, abs=0.15)
    assert drawn.x.std() == pytest.approx(1, abs=0.06)
    assert drawn.y.mean() == pytest.approx(0, abs=0.15)
    assert drawn.y.std() == pytest.approx(1, abs=0.08)
    assert np.corrcoef(drawn.x, drawn.y)[0, 1] == pytest.approx(0.8, abs=0.04)
    places = pd.DataFrame({"y": np.linspace(-2, 2, 9)})
    scores = density.score_samples(places, columns=["y"])
    np.testing.assert_allclose(scores, norm.logpdf(places.y), atol=0.15)


def half_missing(frame):
    return frame.assign(y=frame["y"].where(np.arange(len(frame)) % 2 == 0))


def added(encoder):
    return BellmanDiffusionDensity(**QUICK).fit(WHOLE[:100]).partial_fit(half_missing(WHOLE[100:]))


def with_an_encoder_of_other_rows(encoder):
    return BellmanDiffusionDensity(**QUICK, encoder=encoder).fit(half_missing(WHOLE))


def consolidated(encoder):
    return with_an_encoder_of_other_rows(encoder).consolidated(200, random_state=0)


def of_other_rows_with_gaps(encoder):
    gaps = TableEncoder().fit(half_missing(WHOLE))
    return BellmanDiffusionDensity(**QUICK, encoder=gaps).fit(WHOLE)


@pytest.mark.parametrize(
    ("fit", "share"),
    [
        pytest.param(added, 0.375, marks=pytest.mark.slow),
        pytest.param(with_an_encoder_of_other_rows, 0.5, marks=pytest.mark.slow),
        pytest.param(consolidated, 0.5, marks=pytest.mark.slow),
        (of_other_rows_with_gaps, 0.0),
    ],
)
def test_sampled_gaps_are_as_frequent_as_in_all_fitted_rows(fit, share):
    """The encoder may have been fitted to other rows, which lack other values."""
    encoder = TableEncoder().fit(WHOLE)
    drawn = fit(encoder).sample(1000, random_state=0, with_missing=True)
    error = np.sqrt(share * (1 - share) / 1000)
    assert drawn["y"].isna().mean() == pytest.approx(share, abs=4 * error)
    assert drawn.drop(columns="y").notna().all(axis=None)
    assert not encoder.gaps_.any()
