"""Tables of transitions drawn at random: they are refused by the name of a part, or read whole."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skbellman import DistributionalValueEstimator

PARTS = ("state", "action", "reward", "terminated", "truncated")
QUICK = settings(
    max_examples=25, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(QUICK, max_examples=300)
# Laws are learned in float32: rewards beyond these ends are tried under -m slow alone.
USUAL_SCALES = st.sampled_from([1e-4, 0.1, 1.0, 30.0, 1e4])
SCALES = USUAL_SCALES | st.floats(-300, 300).map(lambda power: 10.0**power)

LABELS = {
    "int64": [0, 1, 2], "int8": [-3, 0, 7], "uint64": [0, 2**63 + 1, 2**63 + 2],
    "far": [2**60, 2**60 + 1, 2**60 + 2], "Int64": [1, 2, 3], "int64[pyarrow]": [1, 2, 3],
    "str": ["a", "b", "c"], "object": ["", "b\0", "é"], "category": ["low", "mid", "top"],
    "bool": [False, True], "boolean": [False, True],
}  # fmt: skip
DTYPES = {"far": "int64"}


@st.composite
def labels(draw, n_rows):
    """Return labels and the dtype of their column."""
    kind = draw(st.sampled_from(sorted(LABELS)))
    values = draw(st.lists(st.sampled_from(LABELS[kind]), min_size=n_rows, max_size=n_rows))
    return values, DTYPES.get(kind, kind)


@st.composite
def numbers(draw, n_rows, scales):
    """Return floats of some scale about some place, and the dtype of their column."""
    scale, place = draw(scales), draw(st.sampled_from([0.0, 1.0, -3.0]))
    units = draw(st.lists(st.floats(-1, 1, width=16), min_size=n_rows, max_size=n_rows))
    dtype = draw(st.sampled_from(["float64", "Float64"] + ["float32"] * (1e-30 < scale < 1e30)))
    return [scale * (place + unit) for unit in units], dtype


@st.composite
def tables(draw, scales=USUAL_SCALES):
    """Return a frame of transitions of one episode after another, and the labels of its actions."""
    n_rows = draw(st.integers(1, 12))
    columns, dtypes = {}, {}

    def add(name, drawn):
        columns[name], dtypes[name] = drawn
        following = [*columns[name][1:], columns[name][-1]]
        columns[f"next_{name}"], dtypes[f"next_{name}"] = following, dtypes[name]

    if draw(st.booleans()):
        add("state", draw(labels(n_rows)))
    else:
        for end in draw(st.sampled_from([["state"], ["state_x"], ["state_b", "state_a"]])):
            add(end, draw(numbers(n_rows, st.just(1.0) | SCALES)))
    flags = st.lists(st.booleans(), min_size=n_rows, max_size=n_rows)
    terminated = np.array(draw(flags))
    truncated = np.array(draw(flags)) & ~terminated
    columns["reward"], dtypes["reward"] = draw(numbers(n_rows, scales))
    actions = None
    if draw(st.booleans()):
        add("action", draw(labels(n_rows)))
        actions = columns["action"]
        if not draw(st.booleans()):
            del columns["next_action"]
    frame = pd.DataFrame({k: pd.Series(v, dtype=dtypes[k]) for k, v in columns.items()})
    frame["terminated"] = terminated if draw(st.booleans()) else terminated.astype(float)
    if draw(st.booleans()):
        frame["truncated"] = truncated
    if draw(st.booleans()):
        frame = with_gaps(frame, terminated)
    return frame, actions


def with_gaps(frame, ended):
    """Return a frame with nothing that follows an end, as a shift of the rows leaves it."""
    frame = frame.copy()
    for name in [c for c in frame.columns if c.startswith("next_")]:
        frame[name] = frame[name].where(~ended)
    return frame


def turned(draw, frame):
    """Return a frame with its columns and the labels of its rows in another order."""
    frame = frame[draw(st.permutations(list(frame.columns)))].assign(time=0)
    return frame.set_axis(draw(st.sampled_from([range(len(frame)), [7] * len(frame)])), axis=0)


def as_polars(frame):
    return pl.DataFrame({c: pl.Series(c, [*map(known, frame[c])], strict=False) for c in frame})


def known(value):
    return None if value is pd.NA or value is None or value != value else value


def as_mapping(frame):
    return {name: frame[name] for name in frame}


def fitted(table, **parameters):
    """Return an estimator that was fitted to a table, None if it was refused for a part of it."""
    value = DistributionalValueEstimator(
        n_steps=3, n_basis=21, hidden_layer_sizes=(8,), random_state=0, **parameters
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return value.fit(table)
        except (ValueError, TypeError) as error:
            if any(part in str(error) for part in (*PARTS, "gamma", "transitions")):
                return None
            raise


def answers(value, frame):
    """Return finite answers about the states of a frame, each after some action."""
    states = frame[[c for c in frame.columns if c.startswith("state")]]
    actions = None if value.actions_ is None else value.actions_[:1].repeat(len(frame))
    found = np.column_stack(
        [
            value.predict(states, actions),
            value.quantile(states, actions, q=[0.0, 0.3, 1.0]),
            value.cvar(states, actions, alpha=0.2),
            value.sample(states, actions, n_samples=2, random_state=0),
        ]
    )
    assert np.isfinite(found).all()
    return found


def holds(draw, scales):
    frame, actions = draw(tables(scales))
    greedy = draw(st.booleans()) and actions is not None
    parameters = {"policy": "greedy" if greedy else "table", "gamma": draw(st.floats(0, 0.99))}
    value = fitted(frame, **parameters)
    other = turned(draw, frame)
    convert = draw(st.sampled_from([lambda table: table, as_polars, as_mapping]))
    again = fitted(convert(other), **parameters)
    assert (value is None) == (again is None)
    if value is None:
        return
    if actions is not None:
        assert value.actions_.tolist() == sorted(set(value.actions_.tolist()))
        assert set(value.actions_.tolist()) <= set(actions)
        assert {*map(type, value.actions_.tolist())} == {*map(type, actions)}
    expected = answers(value, frame)
    largest = frame.reward.abs().max()
    if largest:
        assert (np.abs(expected) <= 2 * largest / (1 - value.gamma)).all()
    if again.space_.state_names == value.space_.state_names:
        np.testing.assert_allclose(answers(again, frame), expected)
    np.testing.assert_allclose(answers(value, other), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert np.isfinite(value.score(other))


@QUICK
@given(st.data())
def test_any_table(data):
    holds(data.draw, USUAL_SCALES)


@pytest.mark.slow
@LONG
@given(st.data())
def test_any_table_of_any_scale(data):
    holds(data.draw, SCALES)
