"""Interrupts, refusals, threads and what a process has set: state and results stay right."""

from __future__ import annotations

import copy
import functools
import itertools
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skbellman import (
    BellmanDiffusionDensity,
    BellmanImputer,
    DistributionalValueEstimator,
    PaperDensity,
    TrainingDivergedError,
    fitting,
)
from skbellman.batches import Batches

QUICK = {"n_steps": 2, "width": 8, "depth": 1, "n_levels": 5, "n_nodes": 4, "random_state": 0}
N = 32
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "n": RNG.integers(0, 40, N),
        "z": np.where(RNG.random(N) < 0.3, 0.0, RNG.gamma(2.0, size=N)),
        "c": RNG.choice(["a", "b", "c"], N),
    }
)
OTHER = pd.DataFrame({"u": RNG.normal(size=20), "d": RNG.choice(["p", "q"], 20)})
RETURNS = {"gamma": 0.9, "n_steps": 30, "random_state": 0}
CHAIN = {
    "state": np.arange(40.0) % 4,
    "next_state": np.arange(1.0, 41.0) % 4,
    "reward": np.ones(40),
    "terminated": np.arange(40) % 4 == 3,
}


def density(**changes):
    return BellmanDiffusionDensity(**(QUICK | changes))


def value(**changes):
    return DistributionalValueEstimator(
        **({"gamma": 0.9, "n_steps": 30, "random_state": 0} | changes)
    )


def interrupted(*_, **__):
    raise KeyboardInterrupt


def interrupt_at_call(function, count):
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return counted


@pytest.fixture(autouse=True)
def _few_nodes(monkeypatch):
    """Make fits quick: what they are judged by does not matter here."""
    few_nodes = functools.partialmethod(fitting.Rows.integral, n_nodes=3)
    monkeypatch.setattr(fitting.Rows, "integral", few_nodes)
    few_batches = functools.partial(fitting.weigh_shapes, n_batches=2)
    monkeypatch.setattr(fitting, "weigh_shapes", few_batches)


@functools.cache
def _fitted_before():
    return density().fit(OTHER)


def fitted_before():
    """Return a density that was fitted to another table."""
    return copy.deepcopy(_fitted_before())


@functools.cache
def _fitted_imputer():
    return BellmanImputer(density(), random_state=0).fit(OTHER)


def fitted_imputer():
    return copy.deepcopy(_fitted_imputer())


@functools.cache
def fitted_whole():
    return density().fit(FRAME)


def attributes(estimator):
    return {name: id(held) for name, held in vars(estimator).items()}


# Stages before the gradient network has learned anything, and those after.
BEFORE = [
    "skbellman.table_density.validate_table",
    "skbellman.reading.parts_of",
    "skbellman.tables.encoder.TableEncoder._learn",
    "skbellman.fitting.fit_reference",
    "skbellman.training.FlatOptimiser",
]
AFTER = [
    "skbellman.fitting.without_missing",
    "skbellman.fitting.fit_mixture",
    "skbellman.fitting.stacking_weights",
]


@pytest.mark.parametrize("stage", BEFORE)
def test_an_interrupt_before_anything_is_learned_leaves_the_estimator_as_it_was(stage, monkeypatch):
    fresh, fitted = density(), fitted_before()
    before, answers = attributes(fitted), fitted.score_samples(OTHER)
    with monkeypatch.context() as patch:
        patch.setattr(stage, interrupted)
        for estimator in (fresh, fitted):
            with pytest.raises(KeyboardInterrupt):
                estimator.fit(FRAME)
    assert set(vars(fresh)) == set(vars(density()))
    with pytest.raises(NotFittedError):
        fresh.score_samples(FRAME)
    assert attributes(fitted) == before
    assert list(fitted.feature_names_in_) == list(OTHER)
    np.testing.assert_array_equal(fitted.score_samples(OTHER), answers)


@pytest.mark.parametrize(("stage", "refit"), list(zip(AFTER, [False, True, False], strict=True)))
def test_an_interrupt_after_the_gradient_network_loses_nothing_of_it(stage, refit, monkeypatch):
    whole = fitted_whole()
    estimator = fitted_before() if refit else density()
    with monkeypatch.context() as patch:
        patch.setattr(stage, interrupted)
        with pytest.warns(RuntimeWarning, match="fit was interrupted in .* is kept"):
            estimator.fit(FRAME)
    assert estimator.history_ == whole.history_
    own, expected = (e.field_.fields[0].gradient_network.state_dict() for e in (estimator, whole))
    assert all(torch.equal(own[name], expected[name]) for name in expected)
    assert list(estimator.feature_names_in_) == list(FRAME)
    assert np.isfinite(estimator.score_samples(FRAME)).all()
    assert len(estimator.sample(5, random_state=0, given={"c": "a"})) == 5


def test_steps_since_the_last_evaluation_are_kept(monkeypatch):
    monkeypatch.setattr(Batches, "loss", interrupt_at_call(Batches.loss, 150))
    estimator = density(n_steps=2000)
    bent = FRAME.assign(x=np.abs(FRAME["n"] - 20) / 5 + 0.3 * FRAME["x"])  # there is much to learn
    with pytest.warns(RuntimeWarning, match="interrupted in the training of the network"):
        estimator.fit(bent)
    assert estimator.stopped_ == "interrupted"
    assert 140 < estimator.history_["step"][-1] < 151  # of evaluations at 200, 400, ...
    assert estimator.n_iter_ == estimator.history_["step"][-1]
    assert np.isfinite(estimator.score_samples(FRAME)).all()


def test_an_interrupt_between_rounds_keeps_the_rounds_before(monkeypatch):
    from skbellman import training

    second = interrupt_at_call(training.FlatOptimiser, 2)
    monkeypatch.setattr(training, "FlatOptimiser", second)
    scores = itertools.count()
    record = training.train_in_rounds(
        torch.nn.Linear(1, 1),
        lambda m: m(torch.ones(5, 1)).square().mean(),
        training.Plan(20, 0.01, max_steps=1000, least_rise=-np.inf),
        lambda m: {"score": float(next(scores))},
    )
    assert record.ended == "interrupted"
    assert record.step[-1] == 20


@pytest.mark.parametrize("objective", ["pairwise", "sliced"])
def test_an_interrupt_of_the_papers_objectives_keeps_what_was_learned(objective, monkeypatch):
    from skbellman import paper

    interrupt = interrupt_at_call(paper.matching_loss, 12)
    monkeypatch.setattr(paper, "matching_loss", interrupt)
    estimator = PaperDensity(objective=objective, n_steps=30, n_dynamics_steps=100, random_state=0)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        estimator.fit(FRAME[["x"]])
    assert estimator.history_["step"]
    assert estimator.sample(3, random_state=0).shape == (3, 1)


@pytest.mark.parametrize("X", [
    FRAME[:1],
    FRAME.assign(c=[[1]] * N),
    np.full((5, 3), np.nan),
    pd.DataFrame({"a": [1, 1], "b": ["x", "x"]}),
    FRAME.assign(x=np.inf),
], ids=["one row", "lists", "no value", "constants", "infinite"])  # fmt: skip
@pytest.mark.parametrize("of", [fitted_before, fitted_imputer])
def test_a_refused_refit_leaves_the_old_fit(of, X):
    fitted = of()
    before = attributes(fitted)
    with pytest.raises(ValueError, match=r"row|sample|column|constant|infin|holds"):
        fitted.fit(X)
    assert attributes(fitted) == before
    assert list(fitted.feature_names_in_) == list(OTHER)
    assert fitted.n_features_in_ == 2


def test_names_of_the_old_fit_go_with_it():
    refitted = fitted_before().fit(FRAME[["x", "z"]].to_numpy())
    assert not hasattr(refitted, "feature_names_in_")
    assert np.isfinite(refitted.score_samples(FRAME[["x", "z"]].to_numpy())).all()


def test_a_refit_that_diverges_has_all_attributes_of_the_new_table():
    fitted = fitted_before().set_params(learning_rate=1e30)
    with pytest.raises(TrainingDivergedError):
        fitted.fit(FRAME)
    assert list(fitted.feature_names_in_) == list(FRAME)
    assert np.isfinite(fitted.score_samples(FRAME)).all()


def test_another_thread_asks_the_old_fit_while_a_new_one_is_under_way(monkeypatch):
    from skbellman import fitting

    fitted = fitted_before()
    answers, found, fit_mixture = fitted.score_samples(OTHER), [], fitting.fit_mixture

    def ask(*args):
        thread = threading.Thread(target=lambda: found.append(fitted.score_samples(OTHER)))
        thread.start()
        thread.join()
        return fit_mixture(*args)

    monkeypatch.setattr(fitting, "fit_mixture", ask)
    fitted.fit(FRAME)
    np.testing.assert_array_equal(found[0], answers)


GAPS = FRAME.mask(np.random.default_rng(1).random(FRAME.shape) < 0.1)


def test_an_interrupt_while_conditionals_of_gaps_are_learned_leaves_the_estimator(monkeypatch):
    estimator = density().set_params(n_steps=100)
    monkeypatch.setattr(Batches, "loss", interrupt_at_call(Batches.loss, 10))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(GAPS)
    assert not hasattr(estimator, "field_")


def test_a_fit_of_gaps_that_diverges_keeps_the_best_state():
    estimator = density().set_params(learning_rate=1e30)
    with pytest.raises(TrainingDivergedError):
        estimator.fit(GAPS)
    assert np.isfinite(estimator.score_samples(GAPS)).all()


@pytest.mark.parametrize("stage", [
    "skbellman.imputer.validate_table",
    "skbellman.training.FlatOptimiser",
])  # fmt: skip
def test_an_imputer_that_is_interrupted_before_it_learned_is_as_it_was(stage, monkeypatch):
    fresh, fitted = BellmanImputer(density(), random_state=0), fitted_imputer()
    before, filled = attributes(fitted), fitted.transform(OTHER)
    with monkeypatch.context() as patch:
        patch.setattr(stage, interrupted)
        for imputer in (fresh, fitted):
            with pytest.raises(KeyboardInterrupt):
                imputer.fit(GAPS)
    assert set(vars(fresh)) == set(vars(BellmanImputer()))
    assert attributes(fitted) == before
    pd.testing.assert_frame_equal(fitted.transform(OTHER), filled)


@pytest.mark.parametrize(
    "stage", ["skbellman.fitting.fit_mixture", "skbellman.imputer.RepeatedRows"]
)
def test_an_imputer_that_is_interrupted_after_that_is_usable(stage, monkeypatch):
    imputer = fitted_imputer()
    with monkeypatch.context() as patch:
        patch.setattr(stage, interrupted)
        with pytest.warns(RuntimeWarning, match="interrupted .* is kept"):
            imputer.fit(GAPS)
    assert not imputer.transform(GAPS).isna().any(axis=None)
    assert list(imputer.feature_names_in_) == list(GAPS)


@pytest.mark.parametrize(
    "stage", ["value.read_transitions", "returns.fit_table.encode", "returns.from_table.new_frames"]
)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError("refused")])
def test_laws_of_returns_are_as_they_were_after_a_refit_that_was_stopped(stage, stop, monkeypatch):
    fitted = value().fit(CHAIN)
    before, answers = attributes(fitted), fitted.predict([0.0, 1.0])

    def stopped(*_, **__):
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(f"skbellman.{stage}", stopped)
        for estimator, fit in ((fitted, fitted.fit), (fitted, fitted.partial_fit)):
            with pytest.raises((KeyboardInterrupt, ValueError)):
                fit(CHAIN | {"state": CHAIN["state"] + 10})
            assert attributes(estimator) == before
    np.testing.assert_array_equal(fitted.predict([0.0, 1.0]), answers)


def of_density():
    fitted = density(dropout=0.2).fit(FRAME)
    drawn = fitted.sample(5, random_state=1)
    given = fitted.sample(3, random_state=1, given={"c": "b"})
    scores = [fitted.score_samples(FRAME[:9], given=["c"]), fitted.score_samples(FRAME[:9])]
    return [*scores, drawn[["x", "n", "z"]], given["x"]]


def of_paper():
    fitted = PaperDensity(n_steps=10, n_dynamics_steps=100, random_state=0).fit(FRAME[["x", "z"]])
    return [fitted.score_samples(FRAME[["x", "z"]]), fitted.sample(5, random_state=0)]


def of_imputer():
    imputer = BellmanImputer(density(dropout=0.1), random_state=0).fit(GAPS)
    return [imputer.transform(GAPS)[["x", "n", "z"]]]


def of_value(table=CHAIN, **changes):
    fitted = value(**changes).fit(table)
    parameters = [parameter.numpy() for parameter in fitted.field_.parameters()]
    return [*parameters, fitted.predict([0.0])] if table is CHAIN and not changes else parameters


def of_value_in_networks():
    return of_value(form="networks", hidden_layer_sizes=[8])


def of_value_of_numbers():
    table = CHAIN | {k: CHAIN[k] + 0.5 for k in ("state", "next_state")}
    return of_value(table, hidden_layer_sizes=[16])


RESULTS = [
    of_density,
    of_paper,
    pytest.param(of_imputer, marks=pytest.mark.slow),
    of_value,
    of_value_in_networks,
    of_value_of_numbers,
]


@functools.cache
def expected_of(results):
    return results()


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-6, atol=1e-6)


# Of the paper's form after a few steps.
MISPLACED = pytest.mark.filterwarnings("ignore:expected returns are")


@MISPLACED
@pytest.mark.parametrize("results", RESULTS)
def test_threads_with_one_seed_agree_and_leave_the_global_state_alone(results):
    expected = expected_of(results)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with ThreadPoolExecutor(2) as pool:
        parts = [pool.submit(results) for _ in range(2)]
        for part in parts:
            for one, other in zip(part.result(), expected, strict=True):
                np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert not any(entry[2] is ConvergenceWarning for entry in warnings.filters)


class default_dtype:  # noqa: N801
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *_):
        torch.set_default_dtype(torch.float32)


class default_device:  # noqa: N801
    def __enter__(self):
        torch.set_default_device("meta")

    def __exit__(self, *_):
        torch.set_default_device(None)


SETTINGS = {
    "float64": default_dtype,
    "meta": default_device,
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "errstate": lambda: np.errstate(all="raise"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@contextmanager
def all_at_once():
    with ExitStack() as stack:
        for setting in SETTINGS.values():
            stack.enter_context(setting())
        yield


SETTINGS_AND_ALL = [
    *(pytest.param(setting, id=name, marks=pytest.mark.slow) for name, setting in SETTINGS.items()),
    pytest.param(all_at_once, id="all"),
]


@MISPLACED
@pytest.mark.parametrize("setting", SETTINGS_AND_ALL)
@pytest.mark.parametrize("results", RESULTS)
def test_what_the_process_has_set_changes_nothing(results, setting):
    expected = expected_of(results)
    with setting():
        found = results()
    assert_same(found, expected)


@pytest.mark.parametrize("setting", SETTINGS_AND_ALL)
def test_what_was_fitted_under_a_setting_works_without_it(setting):
    expected = fitted_whole()
    with setting():
        found = density().fit(FRAME)
    np.testing.assert_allclose(found.score_samples(FRAME), expected.score_samples(FRAME), atol=1e-6)
    assert all(p.dtype == torch.float32 for p in found.field_.parameters())
    assert not any(p.is_inference() for p in found.field_.parameters())


def test_settings_are_as_they_were_after_an_answer():
    fitted = fitted_whole()
    with torch.inference_mode(), np.errstate(all="raise"), default_dtype(), default_device():
        fitted.score_samples(FRAME[:3])
        assert torch.is_inference_mode_enabled()
        assert np.geterr()["under"] == "raise"
        assert torch.zeros(1).dtype == torch.float64
        assert torch.zeros(1).device.type == "meta"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit was interrupted:RuntimeWarning")
# One that comes while a generator is closed is ignored by Python, and the fit goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_the_old_fit_or_a_new_one():
    calls, moments = count_calls(lambda: density().fit(FRAME)), np.random.default_rng(0)
    for moment in moments.integers(0, calls, 60):
        estimator = fitted_before()
        before = attributes(estimator)
        try:
            interrupt_call(moment, lambda fit=estimator.fit: fit(FRAME))
        except KeyboardInterrupt:
            assert attributes(estimator) == before
            assert np.isfinite(estimator.score_samples(OTHER)).all()
        else:
            assert list(estimator.feature_names_in_) == list(FRAME)
            assert np.isfinite(estimator.score_samples(FRAME[:5])).all()
            assert len(estimator.sample(2, random_state=0)) == 2


def count_calls(work):
    """Return how many functions of the package are called."""
    calls = []
    _traced(work, lambda: calls.append(1))
    return len(calls)


def interrupt_call(moment, work):
    """Interrupt one of the calls of the package's functions."""
    calls = []

    def interrupt():
        calls.append(1)
        if len(calls) == moment + 1:
            raise KeyboardInterrupt

    _traced(work, interrupt)


def _traced(work, hook):
    def trace(frame, event, _):
        if event == "call" and "skbellman" in frame.f_code.co_filename:
            hook()

    sys.setprofile(trace)
    try:
        work()
    finally:
        sys.setprofile(None)
