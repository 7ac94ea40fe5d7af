from __future__ import annotations

import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from skbellman import (
    BellmanDiffusionDensity,
    PaperDensity,
    TableEncoder,
    TrainingDivergedError,
)
from skbellman.fields import Mixture
from skbellman.progress import Progress

QUICK = {"n_steps": 20, "width": 16, "random_state": 0}
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=80),
        "n": RNG.integers(0, 6, 80),
        "c": RNG.choice(["a", "b", "c"], 80),
        "same": 1.5,
    }
)


@pytest.fixture(scope="module")
def fitted():
    return BellmanDiffusionDensity(**QUICK).fit(FRAME)


# One of the checks makes a table with redundant columns.
@pytest.mark.filterwarnings("ignore:Columns .* are linear functions:UserWarning")
@parametrize_with_checks([
    BellmanDiffusionDensity(n_steps=2, width=8, depth=1, n_levels=10),
    PaperDensity(objective="sliced", n_steps=2, width=8, depth=1, n_dynamics_steps=2),
])  # fmt: skip
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_checks_that_the_suite_leaves_out():
    estimator = BellmanDiffusionDensity(n_steps=2, width=8)
    check_param_validation("BellmanDiffusionDensity", estimator)
    check_dataframe_column_names_consistency("BellmanDiffusionDensity", estimator)


def test_an_unfitted_estimator_says_so():
    for method in ("score_samples", "score"):
        with pytest.raises(NotFittedError):
            getattr(BellmanDiffusionDensity(), method)(FRAME)
    with pytest.raises(NotFittedError):
        BellmanDiffusionDensity().sample()


def test_two_fits_agree_and_seeds_matter(fitted):
    again = clone(fitted).fit(FRAME)
    np.testing.assert_array_equal(again.score_samples(FRAME), fitted.score_samples(FRAME))
    pd.testing.assert_frame_equal(again.sample(9, 1), fitted.sample(9, 1))
    assert not fitted.sample(9, 1).equals(fitted.sample(9, 2))
    other = clone(fitted).set_params(random_state=1).fit(FRAME)
    assert not np.allclose(other.score_samples(FRAME), fitted.score_samples(FRAME))


def test_a_pickle_gives_the_same_answers(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.score_samples(FRAME), fitted.score_samples(FRAME))
    pd.testing.assert_frame_equal(copy.sample(9, 1), fitted.sample(9, 1))
    assert copy.device_ == fitted.device_


def test_inference_and_fit_leave_no_trace(fitted):
    before = {name: id(value) for name, value in vars(fitted).items()}
    weights = [parameter.clone() for parameter in fitted.field_.parameters()]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fitted.score(FRAME)
    fitted.sample(3, random_state=0)
    assert {name: id(value) for name, value in vars(fitted).items()} == before
    for parameter, weight in zip(fitted.field_.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)
    clone(fitted).fit(FRAME)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_score_is_a_float_and_the_mean(fitted):
    assert type(fitted.score(FRAME)) is float
    assert fitted.score(FRAME) == pytest.approx(fitted.score_samples(FRAME).mean())


@pytest.mark.parametrize(
    "scale", [1.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1e-3, 1e4))]
)
def test_the_density_integrates_to_one_in_the_units_of_the_table(scale):
    x = scale * np.concatenate([RNG.normal(-2, 0.3, 100), RNG.normal(1, 0.5, 200)])[:, None]
    density = BellmanDiffusionDensity(n_steps=150, random_state=0).fit(x)
    points = scale * np.linspace(-8, 8, 801)[:, None]
    mass = np.trapezoid(np.exp(density.score_samples(points)), points[:, 0])
    assert mass == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_the_density_of_two_columns_integrates_to_one():
    modes = np.array([[-2.0, 0.0], [2.0, 1.0]])
    x = modes[RNG.integers(0, 2, 400)] + RNG.normal(0, 0.4, (400, 2))
    density = BellmanDiffusionDensity(n_steps=200, random_state=0).fit(x)
    axis = np.linspace(-5, 5, 41)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    mass = np.exp(density.score_samples(points)).sum() * (axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("n_rows", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_probabilities_of_categories_and_integers_sum_to_one(n_rows):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"c": rng.choice(list("abc"), n_rows, p=[0.6, 0.3, 0.1])})
    frame["n"] = rng.integers(0, 4, n_rows) + (frame["c"] == "a")
    density = BellmanDiffusionDensity(n_steps=300, random_state=0).fit(frame)
    cells = pd.MultiIndex.from_product([list("abc"), range(-3, 9)], names=["c", "n"]).to_frame()
    for field in density.field_.fields:  # the networks, and the mixture in closed form
        density.field_ = Mixture([field], torch.ones(1))
        probability = np.exp(density.score_samples(cells))
        assert probability.sum() == pytest.approx(1, abs=0.03)
        shares = pd.Series(probability).groupby(cells["c"].to_numpy()).sum()
        expected = frame["c"].value_counts(normalize=True).sort_index()
        np.testing.assert_allclose(shares, expected, atol=0.05)
        drawn = density.sample(4000, random_state=0)
        shares = drawn["c"].value_counts(normalize=True).sort_index()
        np.testing.assert_allclose(shares, expected, atol=0.05)


@pytest.mark.slow
def test_a_known_mixture_is_found():
    modes = np.array([[-1.5, 0.0], [1.5, 1.0]])

    def draw(n):
        return modes[RNG.integers(0, 2, n)] + RNG.normal(0, 0.5, (n, 2))

    def log_density(x):
        return np.logaddexp(*[multivariate_normal(m, 0.25).logpdf(x) for m in modes]) - np.log(2)

    test = draw(500)
    density = BellmanDiffusionDensity(n_steps=600, random_state=0).fit(draw(3000))
    assert log_density(test).mean() - density.score(test) < 0.03
    drawn = density.sample(5000, random_state=0)
    assert (drawn[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(draw(5000).T), atol=0.15)
    field = density.field_.fields[0]
    field.learn_scalar()
    assert field.scalar_error < 1.0


@pytest.mark.slow
def test_a_small_table_does_not_overfit():
    x = RNG.normal(size=(280, 13)) @ RNG.normal(size=(13, 13))
    gaussian = multivariate_normal(np.zeros(13), np.cov(x.T))
    density = BellmanDiffusionDensity(random_state=0).fit(x[:142])
    assert density.score(x[142:]) > gaussian.logpdf(x[142:]).mean() - 3


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_samples_look_like_the_table(library):
    frame = FRAME if library == "pandas" else pl.from_pandas(FRAME)
    drawn = BellmanDiffusionDensity(**QUICK).fit(frame).sample(7, random_state=0)
    assert type(drawn) is type(frame)
    assert list(drawn.columns) == list(frame.columns)
    assert list(drawn.dtypes) == list(frame.dtypes)
    assert len(drawn) == 7
    assert set(drawn["c"]) <= set("abc")
    assert set(drawn["same"]) == {1.5}


def test_arrays_give_arrays_of_their_dtype():
    for dtype in (np.float32, np.float64):
        x = RNG.normal(size=(30, 2)).astype(dtype)
        drawn = BellmanDiffusionDensity(**QUICK).fit(x).sample(3)
        assert drawn.shape == (3, 2)
        assert drawn.dtype == dtype


@pytest.mark.slow
def test_the_tools_of_scikit_learn_work():
    x = load_iris().data
    pipeline = make_pipeline(FunctionTransformer(), BellmanDiffusionDensity(**QUICK)).fit(x)
    assert pipeline.score_samples(x).shape == (150,)
    assert np.isfinite(cross_val_score(BellmanDiffusionDensity(**QUICK), x, cv=2)).all()
    search = GridSearchCV(BellmanDiffusionDensity(**QUICK), {"depth": [0, 1]}, cv=2).fit(x)
    assert search.best_estimator_.sample(2).shape == (2, 4)


def test_history_is_kept_and_printed(capsys):
    density = BellmanDiffusionDensity(**QUICK, verbose=1).fit(FRAME)
    assert {len(curve) for curve in density.history_.values()} == {len(density.history_["step"])}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(density.history_["step"])
    last = int(density.history_["step"][-1])
    assert re.match(rf"step {last} of \d+ \(\d+%, \d+:\d\d left\): loss -?\d", lines[-1])


@pytest.mark.slow
def test_progress_covers_both_stages_of_a_table_with_gaps(capsys):
    frame = FRAME.copy()
    frame.loc[::3, "x"] = np.nan
    parameters = {**QUICK, "n_steps": 40, "patience": 99}
    density = BellmanDiffusionDensity(**parameters, verbose=1).fit(frame)
    lines = capsys.readouterr().out.splitlines()
    steps = [int(re.match(r"step (\d+) of 52 ", line)[1]) for line in lines]
    first = [k for k, line in enumerate(lines) if "left): missing values, loss" in line]
    assert first == list(range(len(first)))
    assert steps[len(first) - 1] == 12
    assert steps[len(first) :] == [12 + step for step in density.history_["step"]]
    assert steps[-1] == 52


def test_progress_says_that_more_steps_may_follow(capsys):
    Progress().show(5, 20, "loss 0.3", may_grow=True)
    assert capsys.readouterr().out == "step 5 of 20 or more (25%, 0:00 left): loss 0.3\n"


def test_in_a_terminal_each_line_of_progress_replaces_the_last(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    times = iter([0.0, 30.0, 90.0])
    monkeypatch.setattr("skbellman.progress.time.monotonic", lambda: next(times))
    progress = Progress()
    progress.show(100, 400, "loss 1")
    progress.show(300, 400, "loss 0")
    progress.close()
    progress.close()
    lines = ["step 100 of 400 (25%, 1:30 left): loss 1", "step 300 of 400 (75%, 0:30 left): loss 0"]
    assert capsys.readouterr().out == "".join(f"\r{line}\x1b[K" for line in lines) + "\n"


def test_the_diagram_has_a_line_on_the_fit(fitted):
    step = fitted.history_["step"].index(fitted.n_iter_)
    score = fitted.history_["validation_log_density"][step]
    n_categories = int(fitted.is_categorical_.sum())
    expected = (
        f"Density of {fitted.n_features_in_} columns ({n_categories} categorical), "
        f"{fitted.n_samples_seen_} rows; held-out log-density {score:.3f} nats a row"
    )
    assert f"<p>{expected}</p><style>" in fitted._repr_html_()
    assert "Density of" not in clone(fitted)._repr_mimebundle_()["text/html"]


@pytest.mark.slow
def test_scores_of_many_coordinates_are_exact_where_they_are_asked_to_be():
    X = np.random.default_rng(0).normal(size=(200, 66)) @ np.triu(np.full((66, 66), 0.3))
    density = BellmanDiffusionDensity(n_steps=9, width=8, n_nodes=3, random_state=0).fit(X)
    exact, estimate = (density.score_samples(X[:9], approximate=a) for a in (False, "auto"))
    assert 1e-3 < np.abs(estimate - exact).max() < 2
    with pytest.raises(ValueError, match=r"approximate must be one of .*, got 'exact'"):
        density.score_samples(X, approximate="exact")


def test_beta_draws_too():
    density = BellmanDiffusionDensity(**QUICK, beta=1.0).fit(FRAME)
    assert len(density.sample(20, random_state=0)) == 20


def put(value, column="x"):
    frame = FRAME.astype({"x": object}) if isinstance(value, str) else FRAME.copy()
    frame.loc[3, column] = value
    return frame


@pytest.mark.parametrize(("X", "match"), [
    (FRAME[:0], "0 sample"),
    (FRAME[:1], "1 sample"),
    (pd.DataFrame({"a": [1, 1], "b": ["x", "x"]}), "constant"),
    (put(np.inf), "'x' holds the infinite value inf in row 3"),
    (FRAME.assign(x=np.nan), "'x' holds no value"),
    (FRAME.assign(c=pd.Series([None] * 80, dtype="str")), "'c' holds no value"),
    (put("word"), "'x' mixes values of types float, str"),
    (FRAME.assign(d=pd.to_timedelta(np.arange(80), "h")), "'d' has dtype Duration.*convert"),
    (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), "more than one column named.*'a'"),
    (pd.DataFrame({"id": [f"row {i % 5000}" for i in range(10_000)]}), "'id' has 5000 categories"),
    (np.array([[1.0, np.inf], [1.0, 2.0]]), "infinity"),
    (FRAME.assign(d=[[1, 2]] * 80), "'d' holds .1, 2., a list"),
])  # fmt: skip
def test_a_table_without_a_density_is_refused(X, match):
    density = BellmanDiffusionDensity(**QUICK)
    with pytest.raises(ValueError, match=match):
        density.fit(X)
    assert not hasattr(density, "field_")


def test_a_lazy_frame_is_refused():
    with pytest.raises(TypeError, match="collect"):
        BellmanDiffusionDensity(**QUICK).fit(pl.from_pandas(FRAME).lazy())


@pytest.mark.parametrize("row", [FRAME.iloc[0], FRAME.iloc[0].to_dict()], ids=["series", "dict"])
def test_a_row_that_is_no_table_is_refused(fitted, row):
    with pytest.raises(TypeError, match=f"{type(row).__name__}, not a table"):
        fitted.score_samples(row)


@pytest.mark.parametrize(("change", "match"), [
    (lambda f: f[["n", "x", "c", "same"]], "feature names"),
    (lambda f: f.drop(columns="n"), "feature names"),
    (lambda f: f.rename(columns={"n": "m"}), "feature names"),
    (lambda f: f[:0], "0 sample"),
    (lambda f: f.assign(x=np.inf), "'x' holds the infinite"),
    (lambda f: f.assign(x="word"), "'x' holds 'word' but was numeric in fit"),
])  # fmt: skip
def test_a_wrong_table_is_not_scored(fitted, change, match):
    with pytest.raises(ValueError, match=match):
        fitted.score_samples(change(FRAME))


def test_unknown_values_have_no_density(fitted):
    for column, value in (("c", "z"), ("same", 2.0)):
        scores = fitted.score_samples(
            put(value, column) if column == "same" else FRAME.assign(c="z")
        )
        assert scores[3] == -np.inf
    strict = clone(fitted).set_params(encoder=TableEncoder(handle_unknown="error")).fit(FRAME)
    with pytest.raises(ValueError, match="'c' holds 'z'"):
        strict.score_samples(FRAME.assign(c="z"))


def test_a_row_far_out_has_a_very_low_density_and_no_nan(fitted):
    scores = fitted.score_samples(FRAME.assign(x=1e300))
    assert (scores < -100).all()


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, "3", True])
def test_n_samples_is_a_positive_whole_number(fitted, n_samples):
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1"):
        fitted.sample(n_samples)


def test_more_columns_than_rows():
    x = RNG.normal(size=(8, 20))
    density = BellmanDiffusionDensity(**QUICK).fit(x)
    assert np.isfinite(density.score_samples(x)).all()


def test_collinear_columns_warn_and_fit():
    frame = FRAME.assign(twice=2 * FRAME["x"] + 1)
    density = BellmanDiffusionDensity(**QUICK)
    with pytest.warns(UserWarning, match=r"\['x', 'twice'\] are linear functions"):
        density.fit(frame)
    assert np.isfinite(density.score_samples(frame)).all()


def test_a_diverging_fit_raises_and_leaves_a_usable_estimator():
    density = BellmanDiffusionDensity(**QUICK, learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match="learning_rate"):
        density.fit(FRAME)
    assert np.isfinite(density.score_samples(FRAME)).all()
    assert all(torch.isfinite(p).all() for p in density.field_.parameters())


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="device='nonsense'"):
        BellmanDiffusionDensity(device="nonsense").fit(FRAME)


@pytest.mark.parametrize("name", ["parkinsons", "mushroom"])
def test_real_tables_fit_with_defaults(tables, name):
    frame = pd.read_csv(tables / f"{name}.csv").dropna(axis=1)[:300]
    frame = frame.loc[:, frame.nunique() <= (100 if name == "mushroom" else 300)]
    frame = frame.drop(columns="name", errors="ignore")
    density = BellmanDiffusionDensity(n_steps=50, random_state=0)
    if name == "parkinsons":
        with pytest.warns(UserWarning, match="jitter_ddp"):
            density.fit(frame)
    else:
        density.fit(frame)
    assert np.isfinite(density.score_samples(frame)).all()
    assert list(density.sample(5).dtypes) == list(frame.dtypes)


@pytest.mark.slow
def test_fits_of_several_rounds_report_all_of_them(monkeypatch):
    from sklearn.callback import ProgressBar

    from skbellman import density, training

    pytest.importorskip("rich")  # which the progress bar draws with

    monkeypatch.setattr(training, "_still_rises", lambda record, plan: True)
    monkeypatch.setattr(density, "_MAX_STEPS", 500)
    model = BellmanDiffusionDensity(width=16, patience=100, random_state=0)
    model.set_callbacks(ProgressBar()).fit(FRAME[["x"]].iloc[:20])
    steps = model.history_["step"]
    assert len(steps) == 20
    assert (np.diff(steps) > 0).all()
    assert steps[-1] == pytest.approx(3 * steps[9], abs=2)


def test_a_fit_that_is_refused_leaves_nothing_fitted():
    density = BellmanDiffusionDensity(n_steps=1)
    with pytest.raises(ValueError, match="holds no value"):
        density.fit(np.array([[1.0, np.nan], [2.0, np.nan]]))
    with pytest.raises(NotFittedError):
        density.sample(2)
    with pytest.raises(NotFittedError):
        density.score_samples([[1.0, 2.0]])
