"""Files of skops: every fitted estimator is saved and loaded, with trusted types alone."""

from __future__ import annotations

import copyreg
import functools
import importlib
import pickle
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from stored_state import state_of, stored
from test_restrictions import table

from skbellman import (
    BellmanDiffusionDensity,
    BellmanImputer,
    BellmanOutlierDetector,
    DistributionalValueEstimator,
    MixtureOfReturns,
    PaperDensity,
    ShardedDensity,
    TableEncoder,
)
from skbellman.algebra import difference, mixture, rescale, reweight
from skbellman.constraints import KnownCombinations, Unique
from skbellman.io import TRUSTED
from skbellman.packing import FORMAT, PackableMixin, Packer, Unpacker

skops = pytest.importorskip("skops.io")
gymnasium = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of an agent that learned little

QUICK = {"n_steps": 2, "width": 4, "depth": 1, "n_nodes": 2, "random_state": 0}


def mixed(n_rows=200):
    """Return a table with columns of all kinds, and with gaps."""
    rng = np.random.default_rng(0)
    df = table(n_rows)
    df["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 60, n_rows), unit="D")
    later = pd.to_timedelta(rng.integers(0, 900, n_rows), unit="h")
    df["utc"] = (pd.Timestamp("2021-01-01") + later).tz_localize("UTC").tz_convert("Europe/Berlin")
    df["gain"] = np.where(rng.random(n_rows) < 0.5, 0.0, rng.lognormal(size=n_rows))
    df["halves"] = rng.poisson(1.5, n_rows) / 2
    df["hours"] = np.where(rng.random(n_rows) < 0.5, 40, rng.integers(1, 90, n_rows))
    df["level"] = pd.Categorical(rng.choice([*"abc"], n_rows), list("cbad"), ordered=True)
    df["flag"] = rng.random(n_rows) < 0.3
    df["one"] = 7
    df["id"] = [f"K{k:04d}" for k in range(n_rows)]
    df["large"] = pd.array(2**60 + rng.integers(0, 99, n_rows), dtype="Int64")
    df.loc[::5, ["y", "sex"]] = None
    return df


def objects(n_rows=50):
    """Return a table of decimals, dates, large integers, point masses and numbered rows."""
    rng = np.random.default_rng(0)
    prices = [Decimal(int(k)) / 10 for k in rng.integers(0, 999, n_rows)]
    days = [date(2020, 1, 1 + int(k)) for k in rng.integers(0, 30, n_rows)]
    gain = np.where(rng.random(n_rows) < 0.5, 0.0, rng.normal(size=n_rows))
    df = pd.DataFrame({"price": prices, "day": days, "gain": gain, "x": rng.normal(size=n_rows)})
    whole = {"large": 2**62 + rng.integers(0, 9, n_rows), "number": np.arange(n_rows)}
    return df.assign(**whole)


def bills(n_rows=300):
    """Return bills, half of which are paid in full."""
    rng = np.random.default_rng(0)
    bill = rng.lognormal(7, 1, n_rows)
    paid = np.where(rng.random(n_rows) < 0.5, bill, 0.3 * bill)
    return pd.DataFrame({"bill": bill, "paid": paid})


def walk(n_rows=200):
    """Return transitions of a walk of one number."""
    state = np.random.default_rng(0).normal(size=n_rows + 1)
    return pd.DataFrame(
        {
            "state": state[:-1],
            "reward": state[:-1] ** 2,
            "next_state": state[1:],
            "terminated": np.arange(n_rows) % 9 == 8,
        }
    )


def steps(n_rows=200):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "state": rng.choice([*"abcd"], n_rows),
            "reward": rng.normal(size=n_rows),
            "next_state": rng.choice([*"abcd"], n_rows),
            "terminated": rng.random(n_rows) < 0.2,
        }
    )


def density_of(X, **parameters):
    return BellmanDiffusionDensity(**{**QUICK, **parameters}).fit(X)


class Slope(gymnasium.Env):
    """One action of two numbers, paid their sum."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(4, dtype=np.float32), float(np.sum(action)), True, False, {}


class Screen(Slope):
    """An image beside a label."""

    observation_space = gymnasium.spaces.Dict(
        {
            "image": gymnasium.spaces.Box(0, 255, (6, 6), np.uint8),
            "way": gymnasium.spaces.Discrete(3),
        }
    )
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.seen(), {}

    def step(self, action):
        return self.seen(), float(action), True, False, {}

    @staticmethod
    def seen():
        return {"image": np.eye(6, dtype=np.uint8), "way": 1}


class Switches(Slope):
    """One action of two labels."""

    action_space = gymnasium.spaces.MultiDiscrete([2, 3])


def agent_of(environment, **parameters):
    value = DistributionalValueEstimator(
        gamma=0.9, policy="greedy", hidden_layer_sizes=(8,), random_state=0, **parameters
    )
    return value.fit(environment, n_steps=300)


def unlike_units():
    """Return a density of columns with all kinds of measures, the numbers of it in other units."""
    rng = np.random.default_rng(0)
    df = table(80)[["x", "age", "sex"]].assign(
        gain=np.where(rng.random(80) < 0.5, 0.0, rng.lognormal(size=80)),
        children=rng.poisson(1.5, 80),
        id=[f"K{k:04d}" for k in range(80)],
    )
    density = density_of(df, encoder=TableEncoder(identifiers=["id"]))
    return rescale(density, {"x": (2, 1), "age": (12, 0), "gain": (0.1, 0), "children": (2, 0)})


def answers(estimator):
    """Return what a fitted estimator says, as arrays."""
    if isinstance(estimator, BellmanOutlierDetector):
        return [estimator.score_samples(table(30))]
    if hasattr(estimator, "act") and getattr(estimator, "policy", None) == "greedy":
        picture = estimator.space_.features.picture
        states = np.zeros((2, 4)) if picture is None else [Screen.seen()] * 2
        return [estimator.predict(states), estimator.act(states)]
    if hasattr(estimator, "predict"):
        if hasattr(getattr(estimator, "field_", None), "frames"):
            return [estimator.predict(walk()["state"][:9])]
        frame = pd.DataFrame({"state": [*"abcd"]})
        states = (
            frame["state"].tolist()
            if getattr(estimator, "policy", None) != "greedy"
            else np.zeros((2, 4))
        )
        return [estimator.predict(states)]
    if hasattr(estimator, "transform"):
        return [estimator.transform(mixed(30)).to_numpy(object).astype(str)]
    if hasattr(estimator, "sample"):
        drawn = estimator.sample(5, random_state=0)
        score = [estimator.score_samples(drawn)]
        return [*score, np.asarray(drawn).astype(str)]
    return [np.array([str(column) for column in estimator.measure])]


def lambdas():
    ids = TableEncoder(identifiers=["id"])
    return {
        "density": lambda: density_of(mixed(), encoder=ids, dropout=0.1),
        "polars": lambda: density_of(
            pl.from_pandas(table(80)).with_columns(pl.col("sex").cast(pl.Categorical))
        ),
        "array": lambda: density_of(table(80)[["x", "age"]].to_numpy()),
        "reported": lambda: density_of(table(1000)),
        "mixture": lambda: density_of(table(80)).partial_fit(table(60, seed=1)),
        "paper": lambda: PaperDensity(n_steps=2, n_dynamics_steps=9, random_state=0).fit(
            table(80)[["x", "y"]]
        ),
        "sharded": lambda: ShardedDensity(
            BellmanDiffusionDensity(**QUICK), n_shards=2, random_state=0
        ).fit(table(80)),
        "imputer": lambda: BellmanImputer(
            BellmanDiffusionDensity(**QUICK, encoder=ids), random_state=0
        ).fit(mixed()),
        "encoder": lambda: TableEncoder(identifiers=["id"]).fit(mixed()),
        "labels": lambda: DistributionalValueEstimator(gamma=0.9, random_state=0).fit(steps()),
        "two policies": lambda: MixtureOfReturns([fitted_estimator("labels")] * 2, [1, 2]),
        "agent": lambda: DistributionalValueEstimator(
            gamma=0.9, policy="greedy", random_state=0
        ).fit("CartPole-v1", n_steps=300),
        "detector": lambda: BellmanOutlierDetector(
            BellmanDiffusionDensity(**QUICK), random_state=0
        ).fit(table(80)),
        "rescaled": unlike_units,
        "sum": lambda: mixture([fitted_estimator("small")] * 2),
        "difference": lambda: difference(
            fitted_estimator("small"), fitted_estimator("small"), 0.1, 50, random_state=0
        ),
        "reweighted": lambda: reweight(fitted_estimator("small"), "sex", {"F": 0.5, "M": 0.5}),
        "objects": lambda: density_of(objects(), encoder=TableEncoder(identifiers=["number"])),
        "framed": lambda: DistributionalValueEstimator(
            gamma=0.9, hidden_layer_sizes=(8,), n_steps=2, random_state=0
        ).fit(walk()),
        "constrained": lambda: density_of(
            table(80), constraints=["age >= 0", KnownCombinations(["sex"]), Unique(["x", "y"])]
        ),
        "bills": lambda: density_of(bills()),
        "small": lambda: density_of(table(80)),
        "actor": lambda: agent_of(Slope(), n_random_steps=50),
        "joint labels": lambda: agent_of(Switches()),
        "images": lambda: agent_of(Screen(), n_random_steps=298, replay_size=300),
        "direct": lambda: DistributionalValueEstimator(
            gamma=0.9, form="networks", n_steps=2, random_state=0
        ).fit(steps()),
    }


@functools.cache
def fitted_estimator(name):
    return lambdas()[name]()


SLOW = {
    "actor",
    "bills",
    "detector",
    "objects",
    "polars",
    "reported",
    "rescaled",
    "mixture",
    "sharded",
    "imputer",
    "two policies",
    "agent",
    "paper",
    "joint labels",
    "direct",
    "difference",
    "reweighted",
    "sum",
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in lambdas()
    ]
)
def estimator(request):
    return fitted_estimator(request.param)


def test_every_estimator_is_loaded_as_it_was_saved(estimator):
    data = skops.dumps(estimator)
    assert set(skops.get_untrusted_types(data=data)) <= set(TRUSTED)
    loaded = skops.loads(data, trusted=TRUSTED)
    for was, found in zip(answers(estimator), answers(loaded), strict=True):
        assert_array_equal(was, found)
    if hasattr(estimator, "get_params"):
        assert loaded.get_params().keys() == estimator.get_params().keys()
    if hasattr(estimator, "sample") and not hasattr(estimator, "predict"):
        drawn, again = (d.sample(3, random_state=0) for d in (estimator, loaded))
        assert type(drawn) is type(again)
        if isinstance(drawn, pd.DataFrame):
            pd.testing.assert_frame_equal(drawn, again)


def test_the_state_is_that_of_the_format(estimator):
    """A file of this format has these classes and attributes; see stored_state.py."""
    of_format, classes = stored()
    advice = "raise FORMAT in skbellman/packing.py, then run python tests/stored_state.py"
    assert of_format == FORMAT, advice
    for name, found in state_of(estimator).items():
        assert name in classes, f"{name} is new in the state: {advice}"
        always, sometimes = (set(classes[name][word]) for word in ("always", "sometimes"))
        for attributes in found:
            assert always <= attributes <= always | sometimes, f"{name} has changed: {advice}"


def test_trusted_types_are_those_that_there_are():
    for name in TRUSTED:
        module, _, kind = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), kind), type), name
        assert module.startswith(
            ("skbellman", "torch", "gymnasium", "numpy", "decimal", "datetime")
        ), name
    assert sorted(TRUSTED) == TRUSTED


def test_without_trust_nothing_is_loaded():
    with pytest.raises(Exception, match="Untrusted types"):
        skops.loads(skops.dumps(fitted_estimator("encoder")))


def test_a_loaded_density_can_be_fitted_on_and_pickled():
    density = skops.loads(skops.dumps(fitted_estimator("array")), trusted=TRUSTED)
    density.partial_fit(table(60, seed=2)[["x", "age"]].to_numpy())
    again = pickle.loads(pickle.dumps(density))
    X = table(5)[["x", "age"]].to_numpy()
    assert_array_equal(again.score_samples(X), density.score_samples(X))


def test_objects_are_saved_and_dtypes_that_cannot_be_are_named():
    df = objects().drop(columns="number")
    density = density_of(df)
    loaded = skops.loads(skops.dumps(density), trusted=TRUSTED)
    drawn, again = (d.sample(3, random_state=0) for d in (density, loaded))
    pd.testing.assert_frame_equal(drawn, again)
    dtype, prices = pd.ArrowDtype(pa.decimal128(5, 2)), df["price"].tolist()
    with pytest.raises(TypeError, match="Column 'price' has dtype decimal128"):
        skops.dumps(density_of(df.assign(price=pd.array(prices, dtype=dtype))))


def test_another_format_is_refused():
    state = fitted_estimator("encoder").__getstate__()
    assert state["skbellman_format"] == FORMAT
    with pytest.raises(ValueError, match=r"another version \(format 99\)"):
        TableEncoder().__setstate__({**state, "skbellman_format": 99})


def reduced_without_a_format(estimator, protocol):
    return copyreg.__newobj__, (type(estimator),), estimator._pickled_state()


def test_pickles_of_older_versions_say_what_to_do(monkeypatch):
    monkeypatch.setattr(PackableMixin, "__reduce_ex__", reduced_without_a_format)
    advice = "saved by an older version of skbellman.* Load it with the version that saved it"
    for estimator in (fitted_estimator("array"), fitted_estimator("labels")):
        with pytest.raises(ValueError, match=advice):
            pickle.loads(pickle.dumps(estimator))
    for gone in ("tables.tallied", "tables.columns.tallied"):
        with pytest.raises(ValueError, match=advice):
            pickle.loads(f"cskbellman.{gone}\nTalliedColumn\n.".encode())
    with pytest.raises(ValueError, match=advice):
        pickle.loads(b"cskbellman.fields.latent\nCorners\n.")
    assert not hasattr(importlib.import_module("skbellman.tables.tallied"), "AnotherColumn")


def test_the_format_of_a_pickle_is_checked_before_its_classes_are_looked_for(monkeypatch):
    saved = pickle.dumps(fitted_estimator("array"))
    monkeypatch.setattr("skbellman.packing.FORMAT", FORMAT + 1)
    monkeypatch.delattr("skbellman.tables.columns.numeric.NumericColumn")
    with pytest.raises(ValueError, match=rf"another version \(format {FORMAT}\)"):
        pickle.loads(saved)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_file_of_a_gpu_is_loaded_where_there_is_none(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state = fitted_estimator("array").__getstate__()
    state["state"] |= {"device_": torch.device("cuda:0"), "device": device}
    loaded = BellmanDiffusionDensity.__new__(BellmanDiffusionDensity)
    loaded.__setstate__(state)
    assert loaded.device_ == torch.device("cpu")
    assert loaded.sample(2, random_state=0).shape == (2, 2)


def test_types_of_others_are_not_made():
    state = fitted_estimator("encoder").__getstate__()
    state["state"]["container_"].kind = dict
    with pytest.raises(ValueError, match="no part of a fitted estimator"):
        TableEncoder().__setstate__(state)


@pytest.mark.parametrize(
    "dtype",
    [
        "datetime64[us]",
        "datetime64[ns]",
        "datetime64[ms, Europe/Oslo]",
        "timestamp[us][pyarrow]",
        "timestamp[ns, tz=Europe/Oslo][pyarrow]",
    ],
)
def test_frames_that_hold_times_are_packed(dtype):
    """A detector keeps rows: `dumps` of one with a date failed."""
    times = pd.Series(pd.to_datetime(["2020-07-01 01:02:03.004", None, "1960-01-01 00:00:00.000"]))
    times = times.dt.tz_localize("UTC") if ", " in dtype else times
    times = times.astype(dtype)
    frame = pd.DataFrame({"time": times, "c": times.astype("category"), "x": [0.5, 1.5, 2.5]})
    again = Unpacker().unpacked(skops.loads(skops.dumps(Packer().packed(frame)), TRUSTED))
    pd.testing.assert_frame_equal(again, frame)


def test_a_detector_of_dates_is_dumped():
    rng = np.random.default_rng(0)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 50, 60), unit="D")
    X = pd.DataFrame({"x": rng.normal(size=60), "day": day})
    quick = BellmanDiffusionDensity(n_steps=1, width=4, depth=0, n_nodes=2, random_state=0)
    detector = BellmanOutlierDetector(quick, random_state=0).fit(X)
    again = skops.loads(skops.dumps(detector), trusted=TRUSTED)
    np.testing.assert_array_equal(again.score_samples(X[:9]), detector.score_samples(X[:9]))
