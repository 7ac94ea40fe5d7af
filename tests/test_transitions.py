"""Tables of transitions are read as they are: by name, without a changed label or a lost row."""

from __future__ import annotations

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from known_returns import estimator
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from skbellman import MixtureOfReturns
from skbellman.returns.transitions import read_transitions


def one_step(n_rows=400, seed=0):
    """Return steps that end at once and pay 10 x - y, of two numbers each from -1 and 1."""
    x, y = np.random.default_rng(seed).choice([-1.0, 1.0], size=(2, n_rows))
    return pd.DataFrame(
        {
            "state_x": x, "state_y": y, "reward": 10 * x - y, "next_state_x": x, "next_state_y": y,
            "terminated": True, "time": np.arange(n_rows),
        }
    )  # fmt: skip


def numbers(**parameters):
    return estimator(n_steps=150, hidden_layer_sizes=(32,), learning_rate=5e-3, **parameters)


@pytest.fixture(scope="module")
def named():
    return numbers().fit(one_step())


STATE = pd.DataFrame({"state_x": [1.0], "state_y": [-1.0]})  # its return is 11
QUESTIONS = {
    "predict": lambda value, states: value.predict(states),
    "sample": lambda value, states: value.sample(states, random_state=0, n_samples=3),
    "score_samples": lambda value, states: value.score_samples(states, returns=[11.0]),
    "quantile": lambda value, states: value.quantile(states, q=0.3),
    "cdf": lambda value, states: value.cdf(states, returns=10.0),
    "cvar": lambda value, states: value.cvar(states),
    "law": lambda value, states: value.law(states).scalar(value_of([[11.0]]), 1.0).numpy(),
}


def value_of(numbers):
    import torch

    return torch.tensor(numbers)


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_match_columns_by_name(named, question):
    ask = QUESTIONS[question]
    expected = ask(named, STATE)
    turned = STATE[["state_y", "state_x"]]
    np.testing.assert_array_equal(ask(named, turned), expected)
    np.testing.assert_array_equal(ask(named, pl.from_pandas(turned)), expected)
    both = MixtureOfReturns([named, named], [0.5, 0.5])
    if question != "law":
        np.testing.assert_allclose(ask(both, turned), ask(both, STATE))


def test_the_right_value_comes_from_columns_in_another_order(named):
    assert named.predict(STATE[["state_y", "state_x"]])[0] == pytest.approx(11, abs=1.5)
    assert named.predict({"state_y": [1.0], "state_x": [-1.0]})[0] == pytest.approx(-11, abs=1.5)
    whole_rows = one_step(3)[["time", "state_y", "reward", "state_x"]]
    np.testing.assert_array_equal(
        named.predict(whole_rows), named.predict(whole_rows[["state_x", "state_y"]])
    )


def test_the_order_of_columns_in_fit_does_not_matter():
    table = one_step()
    turned = table[["next_state_y", "terminated", "state_x", "next_state_x", "reward", "state_y"]]
    value, again = numbers().fit(table), numbers().fit(turned)
    assert again.feature_names_in_.tolist() == ["state_x", "state_y"]
    np.testing.assert_array_equal(value.predict(STATE), again.predict(STATE))
    again.partial_fit(table[["state_y", "state_x", *table.columns[2:]]], n_steps=150)
    assert again.predict(STATE)[0] == pytest.approx(11, abs=1.5)


def test_the_names_and_number_of_features(named):
    assert named.feature_names_in_.tolist() == ["state_x", "state_y"]
    assert named.n_features_in_ == 2
    labelled = estimator(n_steps=5).fit({"state": [0], "next_state": [0], **ENDED})
    assert labelled.n_features_in_ == 1
    assert not hasattr(labelled, "feature_names_in_")
    assert not hasattr(estimator(), "n_features_in_")


ENDED = {"reward": [1.0], "terminated": [True]}


def test_a_refused_refit_leaves_the_names():
    value = numbers().fit(one_step(50))
    wrong = one_step(50).rename(columns=lambda c: c.replace("_x", "_z"))
    for change in ({"reward": np.nan}, {"next_state_z": "a"}):
        with pytest.raises(ValueError, match=next(iter(change))):
            value.fit(wrong.assign(**change))
    assert value.feature_names_in_.tolist() == ["state_x", "state_y"]


@pytest.mark.parametrize(
    ("columns", "named_in_message"),
    [
        ({"state_x": "state_z"}, ["state_x", "state_z"]),
        ({"state_x": "x", "state_y": "y"}, ["state_x", "state_y"]),
    ],
)
def test_other_columns_are_refused_by_their_names(named, columns, named_in_message):
    wrong = STATE.rename(columns=columns)
    for name in named_in_message:
        with pytest.raises(ValueError, match=f"'{name}'"):
            named.predict(wrong)
    with pytest.raises(ValueError, match=r"unseen in fit: \['state_w'\]"):
        named.predict(STATE.assign(state_w=1.0))


def test_next_states_have_the_columns_of_states():
    with pytest.raises(ValueError, match=r"end in \['x', 'y'\], those of next_state in \['x'\]"):
        numbers().fit(one_step(9).drop(columns="next_state_y"))


def test_an_array_after_a_frame_goes_by_position_with_a_warning(named):
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = named.predict(STATE.to_numpy())
    np.testing.assert_array_equal(found, named.predict(STATE))
    arrays = {"state": one_step().to_numpy()[:, :2].astype(float), "terminated": [True] * 400}
    value = numbers().fit(arrays | {"next_state": arrays["state"], "reward": one_step().reward})
    assert not hasattr(value, "feature_names_in_")
    with pytest.warns(UserWarning, match="has feature names, but"):
        assert value.predict(STATE)[0] == pytest.approx(11, abs=1.5)
    # One column has no order.
    single = estimator(n_steps=5).fit(pd.DataFrame({"state": [0], "next_state": [0], **ENDED}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single.predict([0])


def test_one_state_may_be_a_row_of_a_frame():
    table = one_step().assign(action=np.arange(400) % 2)
    value = numbers(policy="greedy").fit(table.assign(reward=table.reward * (table.action - 0.5)))
    row = STATE[["state_y", "state_x"]].iloc[0]
    for one in (row, row.to_dict(), STATE):
        assert value.act(one) == 1
        assert value.act(one, risk=("cvar", 0.5)) == 1
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert value.act([-1.0, 1.0]) == 0
    assert value.act(pd.concat([STATE, -STATE])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="Expected one state, got 2 rows"):
        value.law(pd.concat([STATE, STATE]), 1)


def test_actions_of_several_columns_are_matched_by_name():
    x, y = np.random.default_rng(0).choice([-1.0, 1.0], size=(2, 400))
    table = pd.DataFrame(
        {"state": 0.0, "action_x": x, "action_y": y, "reward": 10 * x - y, "next_state": 0.0,
         "next_action_y": y, "next_action_x": x, "terminated": True}
    )  # fmt: skip
    value = numbers().fit(table)
    actions = pd.DataFrame({"action_y": [-1.0, 1.0], "action_x": [1.0, -1.0]})
    np.testing.assert_allclose(value.predict([0, 0], actions), [11, -11], atol=1.5)
    with pytest.raises(ValueError, match=r"Missing: \['action_x'\]"):
        value.predict([0, 0], actions.drop(columns="action_x"))
    with pytest.raises(ValueError, match=r"those of next_action in \['x'\]"):
        numbers().fit(table.drop(columns="next_action_y"))


def test_a_mapping_may_hold_frames_and_columns():
    table = one_step(20)
    states, following = table[["state_x", "state_y"]], table[["next_state_y", "next_state_x"]]
    rest = {"reward": table.reward, "terminated": table.terminated}
    read = read_transitions({"state": states, "next_state": following, **rest})
    np.testing.assert_array_equal(read.state, states)
    assert read.state_names == ("state_x", "state_y")
    read = read_transitions(dict(table.iloc[:, ::-1]))
    assert read.state_names == ("state_y", "state_x")
    np.testing.assert_array_equal(read.state, states[["state_y", "state_x"]])


def test_two_columns_of_one_name_are_refused():
    table = pd.concat([one_step(9), one_step(9)[["state_x"]]], axis=1)
    with pytest.raises(ValueError, match="Two columns have the same name"):
        numbers().fit(table)


def walk(n_episodes=60):
    """Return episodes of a -> b -> end: action 1 pays 4 in b, action 0 nothing, taken in turn."""
    action = np.arange(2 * n_episodes) // 2 % 2
    return pd.DataFrame(
        {
            "state": ["a", "b"] * n_episodes,
            "action": action,
            "reward": np.where(np.arange(len(action)) % 2, 4.0 * action, 0.0),
            "next_state": ["b", None] * n_episodes,
            "terminated": [False, True] * n_episodes,
        }
    )


def gaps(dtype):
    table = walk()
    following = table.action.shift(-1).where(~table.terminated)
    return table.assign(next_action=following.astype(dtype))


@pytest.mark.parametrize("dtype", ["float64", "Int64", "object", "Float64", "int64[pyarrow]"])
@pytest.mark.parametrize("convert", [pd.DataFrame, pl.from_pandas, dict])
def test_a_gap_at_the_end_leaves_next_actions_labels(dtype, convert):
    table = gaps(dtype)
    if dtype == "object":
        table["next_action"] = table.next_action.where(~table.terminated, None)
    value = estimator(gamma=0.5, n_steps=60).fit(convert(table))
    assert value.actions_.tolist() == [0, 1]
    assert value.actions_.dtype == np.int64
    np.testing.assert_allclose(value.predict(["a", "a"], [0, 1]), [0, 2], atol=0.1)


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize("labels", [(0, 1), ("no", "yes"), (False, True)])
def test_the_last_row_of_an_episode_may_have_no_action(missing, labels):
    """a -(either action)-> b, where the return ends by a reward of 1 + the action's."""
    table = pd.DataFrame(
        {
            "state": ["a", "b"] * 40,
            "action": [labels[0], missing, labels[1], missing] * 20,
            "reward": [0.0, 1.0, 3.0, 1.0] * 20,
            "next_state": ["b", None] * 40,
            "terminated": [False, True] * 40,
        }
    )
    for policy in ("table", "greedy"):
        value = estimator(gamma=0.5, n_steps=60, policy=policy).fit(table)
        assert value.actions_.tolist() == list(labels)
        assert type(value.act("a")) is type(labels[1])
        np.testing.assert_allclose(value.predict(["a", "a"], labels), [0.5, 3.5], atol=0.15)
        np.testing.assert_allclose(value.predict(["b", "b"], labels), [1, 1], atol=0.1)


def test_a_step_without_action_where_an_episode_was_cut_off_is_none():
    table = walk().assign(action=lambda t: t.action.astype("Int64"))
    cut = table.assign(action=table.action.where(~table.terminated), next_state="b")
    cut = cut.assign(truncated=table.terminated, terminated=False, state="b", reward=1.0)
    value = estimator(gamma=0.5, n_steps=60, policy="greedy").fit(cut)
    assert value.actions_.tolist() == [0, 1]
    np.testing.assert_allclose(value.predict(["b"]), [2], atol=0.05)


@pytest.mark.parametrize("column", ["action", "next_action"])
def test_a_gap_elsewhere_names_its_column(column):
    table = gaps("float64")
    table[column] = table[column].astype(float)
    table.loc[4, column] = np.nan
    with pytest.raises(ValueError, match=rf"^{column} is nan in row 4"):
        estimator().fit(table)
    many = one_step(9).assign(next_state_y=[1.0] * 3 + [np.nan] + [1.0] * 5, terminated=False)
    with pytest.raises(ValueError, match="next_state_y is nan in row 3"):
        estimator().fit(many)
    with pytest.raises(ValueError, match=r"terminated is None in row 1"):
        estimator().fit(walk().assign(terminated=pd.array([True, pd.NA] * 60, dtype="boolean")))


def test_labels_beyond_the_floats_survive_gaps():
    far = 2**60 + 1
    table = {
        "state": [far, far + 1], "next_state": [far + 1, None], "reward": [0.0, 4.0],
        "terminated": [False, True],
    }  # fmt: skip
    nullable = pd.DataFrame(table | {"next_state": pd.array(table["next_state"], dtype="Int64")})
    for given in (table, nullable, pl.DataFrame(table)):
        value = estimator(gamma=0.5, n_steps=60).fit(given)
        assert value.predict([far, far + 1]) == pytest.approx([2, 4], abs=0.1)
    with pytest.raises(ValueError, match=r"next_state does not, or .* beyond 2\^53"):
        estimator().fit(nullable.astype({"next_state": float}))
    huge = {"state": np.array([2**63, 1], np.uint64), "next_state": np.array([-1, 1])}
    with pytest.raises(ValueError, match="of int64, beyond the uint64 of state"):
        estimator().fit(table | huge)


def test_strings_keep_a_zero_at_their_end():
    table = {"state": ["b", "b\0"], "next_state": ["b\0", "b"], "reward": [0, 1]}
    for convert in (pd.DataFrame, pl.DataFrame, dict):
        read = read_transitions(convert(table | {"terminated": [False, True]}))
        assert read.state.tolist() == ["b", "b\0"]
        assert read.next_state.tolist() == ["b\0", "b\0"]


def test_lists_keep_their_labels():
    table = {"state": ["a", None], "next_state": ["a", "a"], "reward": [1, 1], "terminated": [1, 1]}
    with pytest.raises(ValueError, match="state is None in row 1"):
        estimator().fit(table)
    with pytest.raises(ValueError, match="state is None in row 1"):
        estimator().fit(table | {"state": ["a", np.nan]})
    with pytest.raises(ValueError, match="must have one type, but state has int, str"):
        estimator().fit(table | {"state": [1, "a"]})
    with pytest.raises(ValueError, match="must have one type, but state has int, str"):
        estimator().fit(
            table | {"state": [1, 2], "next_state": ["1", "2"], "terminated": [False, True]}
        )
    read = read_transitions(table | {"state": np.ma.array([3, 4], mask=[False, False])})
    assert read.state.tolist() == [3, 4]
    with pytest.raises(ValueError, match="state is None in row 1"):
        read_transitions(table | {"state": np.ma.array([3, 4], mask=[False, True])})


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("state", pd.to_datetime(["2020-01-01", "2020-01-02"]), "state has dtype datetime64"),
        ("reward", np.array([1j, 2.0]), "reward has dtype complex128"),
        ("reward", np.array([1, 2], dtype="m8[s]"), "reward has dtype timedelta64"),
        ("reward", [1.0, None], "reward is nan in row 1"),
        ("reward", [1.0, -2e300], "reward is -2e+300 in row 1, too large"),
        ("terminated", True, "terminated is a single value"),
        ("state", [[0.0], [0.0, 1.0]], "state cannot be read as an array"),
    ],
)
def test_columns_of_no_use_are_refused_by_name(column, values, message):
    table = {"state": [0, 1], "next_state": [0, 1], "reward": [1.0, 1.0], "terminated": [1, 1]}
    with pytest.raises(ValueError, match=re.escape(message)):
        estimator().fit(table | {column: values})


def test_several_columns_must_be_numbers():
    with pytest.raises(ValueError, match="state_y holds '1'"):
        estimator().fit(one_step(9).assign(state_y="1"))


def test_numbers_of_any_scale_are_told_apart():
    for unit in (1e-300, 1e-200, 1e200, 1e300):
        table = one_step()
        for name in ("state_x", "next_state_x", "state_y", "next_state_y"):
            table[name] *= unit
        value = numbers().fit(table)
        assert value.predict(STATE * unit)[0] == pytest.approx(11, abs=1.5)
        with pytest.raises(ValueError, match=r"not finite|too far from those of fit"):
            value.predict(STATE * unit * 1e60 if unit < 1 else STATE * np.inf)


def test_one_action_need_not_be_named():
    table = walk().assign(action="go")
    value = estimator(gamma=0.5, n_steps=60).fit(table)
    assert value.predict(["a"])[0] == pytest.approx(1.0, abs=0.1)
    assert value.law("a").n_columns == 1
    assert value.act("a") == "go"
    assert value.score(table) == value.score(table.drop(columns="action"))


def test_rows_in_disorder_are_reported():
    """Twelve states in a row, each left by either action: 1 pays."""
    n = 400
    state = np.arange(12 * n) % 12
    action = np.random.default_rng(0).integers(2, size=12 * n)
    table = pd.DataFrame(
        {"state": state, "action": action, "reward": 1.0 * action, "next_state": (state + 1) % 12,
         "terminated": state == 11}
    )  # fmt: skip
    mixed = table.sample(frac=1, random_state=0)
    with pytest.warns(UserWarning, match=r"of 4800 rows could be used.*Sort the rows by episode"):
        estimator(n_steps=5).fit(mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator(n_steps=5).fit(table)
        estimator(n_steps=5).fit(mixed.assign(next_action=1))
        estimator(n_steps=5, policy=np.full((12, 2), 0.5)).fit(mixed)
        estimator(n_steps=5, policy="greedy").fit(mixed)
        # Every action is the same: so is the next one.
        value = estimator(n_steps=60, gamma=0.5).fit(mixed[mixed.action == 1])
    assert value.predict([10])[0] == pytest.approx(1.5, abs=0.1)


def test_a_policy_in_a_frame_is_matched_by_its_labels():
    zeros = np.zeros(400, dtype=int)
    table = {
        "state": np.repeat(["a", "b"], 200), "action": np.tile(["left", "right"], 200),
        "reward": np.tile([0.0, 4.0], 200), "next_state": np.repeat(["a", "b"], 200),
        "terminated": zeros == 0,
    }  # fmt: skip
    policy = pd.DataFrame({"right": [0.0, 1.0], "left": [1.0, 0.0]}, index=["b", "a"])
    value = estimator(n_steps=60, policy=policy).fit(table)
    np.testing.assert_allclose(value.predict(["a", "b"]), [4, 0], atol=0.1)
    with pytest.raises(ValueError, match=r"columns of policy.*'middle'"):
        estimator(policy=policy.rename(columns={"left": "middle"})).fit(table)


def episode(observations, actions, terminated):
    n = len(actions)
    return SimpleNamespace(
        observations=np.array(observations), actions=np.array(actions), rewards=np.ones(n),
        terminations=np.arange(n) == (n - 1 if terminated else n), truncations=np.zeros(n, bool),
    )  # fmt: skip


def test_episodes_of_minari_are_not_joined():
    first, second = episode([0, 1, 0], [0, 0], False), episode([0, 1, 2], [1, 1], True)
    read = read_transitions(SimpleNamespace(iterate_episodes=lambda: iter([first, second])))
    # The last step of the first episode is not followed by the second, though that begins there.
    assert read.truncated.tolist() == [False, True, False, False]


def loop(n=600, seed=0, gamma=0.9):
    """Return steps of one state whose rewards are standard normal: N(0, 1 / (1 - gamma^2))."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"state": 0, "reward": rng.standard_normal(n), "next_state": 0, "terminated": False}
    )


def test_the_score_of_held_out_transitions_prefers_the_right_law():
    """Laws that are wider, narrower or elsewhere are worse; by the plain mean, wider is better."""
    from scipy import stats

    from skbellman.returns.agreement import Backups, bellman_error
    from skbellman.returns.laws import TabulatedLaws

    edges, rewards = np.linspace(-25, 25, 801), loop(4000).reward.to_numpy()
    zeros, deviation = np.zeros(len(rewards), dtype=int), 1 / np.sqrt(1 - 0.81)

    def error(shift, scale, places):
        density = stats.norm(shift, scale * deviation).pdf((edges[1:] + edges[:-1]) / 2)
        laws = TabulatedLaws(edges, density[None])
        backups = Backups(laws, laws, zeros, zeros, rewards, np.full(len(rewards), 0.9))
        return bellman_error(backups, places)

    right = error(0, 1, zeros)
    assert abs(right) < 3e-4
    for shift, scale in ((0, 2), (0, 0.5), (5, 1), (-5, 1)):
        assert error(shift, scale, zeros) > right + 1e-3
    alone = np.arange(len(rewards))
    assert error(0, 2, alone) < error(0, 1, alone)


def test_the_score_works_in_searches_over_frames():
    table = walk(40).assign(other=1.0)
    value = estimator(gamma=0.5, n_steps=60)
    scores = cross_val_score(value, table, cv=KFold(4))
    assert np.isfinite(scores).all()
    assert (scores > -0.2).all()
    assert (cross_val_score(value, pl.from_pandas(table), cv=KFold(4)) == scores).all()
    fitted = clone(value).fit(table)
    assert fitted.score(table) > fitted.score(table.assign(reward=table.reward + 5)) + 1
    search = GridSearchCV(value, {"n_basis": [31, 61]}, cv=KFold(4), error_score="raise").fit(table)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.n_features_in_ == 1
    turned = one_step(60).iloc[:, ::-1]
    two = numbers().fit(one_step())
    assert two.score(turned) == pytest.approx(two.score(one_step(60)), abs=1e-12)
    assert two.score(turned) > two.score(turned.assign(reward=0.0)) + 1


def test_the_score_of_greedy_and_given_policies():
    table = walk(40)
    policy = pd.DataFrame({0: [0.5, 0.5], 1: [0.5, 0.5]}, index=["a", "b"])
    for chosen in ("greedy", policy, lambda states: np.full((len(states), 2), 0.5)):
        value = estimator(gamma=0.5, n_steps=60, policy=chosen).fit(table)
        assert -0.2 < value.score(table) < 0.2


def test_the_score_leaves_out_labels_that_fit_had_not():
    value = estimator(gamma=0.5, n_steps=30).fit(walk(20))
    table = walk(20)
    table.loc[39, "state"] = "c"
    with pytest.warns(UserWarning, match="1 of 39 steps are left out of the score"):
        # The row before is left out too: its next state is not where the next row begins.
        assert np.isfinite(value.score(table))
    with pytest.raises(ValueError, match="do not occur in the rows of fit"):
        value.score(table.assign(state="d", next_state="d", terminated=True))
    with pytest.raises(TypeError, match="transitions are a frame"):
        value.score(["a", "b"])
    with pytest.raises(ValueError, match=r"lack the column 'action', which fit had"):
        value.score(walk(20).drop(columns="action"))
    with pytest.raises(ValueError, match="put the actions into the transitions"):
        value.score(table, [0] * 40)
