"""DistributionalValueEstimator: exact return laws of small processes, and its contracts."""

from __future__ import annotations

import pickle
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from known_returns import chain, chain_laws, distances, estimator, numbered
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skbellman import MixtureOfReturns
from skbellman.fields import GaussianMixtureField
from skbellman.returns.spaces import features_of_space
from skbellman.returns.transitions import read_transitions

gymnasium = pytest.importorskip("gymnasium")


def coin(reward_of, n_rows=2000, seed=0):
    """Return transitions of one state, with actions whose rewards are drawn by a function."""
    rng = np.random.default_rng(seed)
    action = rng.integers(2, size=n_rows)
    return {
        "state": np.zeros(n_rows, dtype=int),
        "action": action,
        "reward": reward_of(action, rng),
        "next_state": np.zeros(n_rows, dtype=int),
        "terminated": np.ones(n_rows, dtype=bool),
    }


@pytest.mark.parametrize(
    ("scale", "shift"),
    [
        (1.0, 0.0),
        pytest.param(1e-3, 0.0, marks=pytest.mark.slow),
        pytest.param(1e3, 0.0, marks=pytest.mark.slow),
        pytest.param(1.0, 20.0, marks=pytest.mark.slow),
        pytest.param(1.0, -20.0, marks=pytest.mark.slow),
    ],
)
def test_chain_of_gaussian_rewards(scale, shift):
    # Shifted rewards spread the states' returns over 40 deviations of each.
    far = {"n_basis": 151} if shift else {}
    value = estimator(**far).fit(chain(scale=scale, shift=shift))
    laws = chain_laws(0.8, scale, shift)
    assert distances(value, laws).max() < (0.2 if shift else 0.12)
    np.testing.assert_allclose(value.predict([0, 1, 2]), laws.mean()[:, 0], atol=0.15 * scale)


def test_states_of_numbers_and_the_sample_agree_with_the_labels_law():
    table = chain().assign(state_0=lambda t: t.state / 2.0, state_1=lambda t: t.state**2.0)
    table = table.assign(next_state_0=table.next_state / 2.0, next_state_1=table.next_state**2.0)
    value = estimator().fit(table.drop(columns=["state", "next_state"]))
    states = pd.DataFrame({"state_0": [0.0, 0.5, 1.0], "state_1": [0.0, 1.0, 4.0]})
    laws = chain_laws(0.8)
    drawn = value.sample(states, n_samples=2000, random_state=0)
    assert drawn.shape == (3, 2000)
    for row, mean, sd in zip(drawn, laws.mean(), laws.std(), strict=True):
        exact = stats.norm(mean, sd).ppf((np.arange(2000) + 0.5) / 2000)
        assert stats.wasserstein_distance(row, exact) < 0.15 * sd[0]
    log_density = value.score_samples(states, returns=laws.mean()[:, 0])
    np.testing.assert_allclose(log_density, laws.logpdf(laws.mean())[:, 0], atol=0.25)
    np.testing.assert_allclose(value.cdf(states, returns=0.5), laws.cdf(0.5)[:, 0], atol=0.06)


@pytest.mark.slow
def test_branching_process_has_a_law_of_two_modes():
    rng = np.random.default_rng(0)
    n = 3000
    state = rng.integers(3, size=n)
    following = np.where(state == 0, 1 + (rng.random(n) < 0.3), state)
    reward = np.select([state == 1, state == 2], [-2.0, 3.0], 0.0) + 0.4 * rng.standard_normal(n)
    table = {
        "state": state, "reward": reward, "next_state": following, "terminated": state > 0
    }  # fmt: skip
    value = estimator(gamma=0.9).fit(table)
    sd = 0.4 * np.sqrt(1 + 0.81)
    for point in (-1.8, 0.5, 2.7):
        exact = 0.7 * stats.norm(-1.8, sd).cdf(point) + 0.3 * stats.norm(2.7, sd).cdf(point)
        assert value.cdf([0], returns=point)[0] == pytest.approx(exact, abs=0.06)
    middle, mode = value.score_samples([0, 0], returns=[0.5, -1.8])
    assert mode - middle > 1.0


@pytest.mark.slow
def test_sparse_and_deterministic_returns():
    """One step in ten of an endless walk on the spot is paid, and ends it."""
    rng = np.random.default_rng(0)
    paid = rng.random(4000) < 0.1
    zeros = np.zeros(4000, dtype=int)
    value = estimator(gamma=0.9, n_steps=1000).fit(
        {"state": zeros, "reward": paid * 1.0, "next_state": zeros, "terminated": paid}
    )
    wait = np.arange(200)
    law = 0.1 * 0.9**wait
    assert value.predict([0])[0] == pytest.approx((law * 0.9**wait).sum(), abs=0.04)
    expected = law[wait >= 7].sum()
    assert value.cdf([0], returns=0.9**6.5)[0] == pytest.approx(expected, abs=0.06)


def test_truncation_is_not_termination():
    zeros = np.zeros(600, dtype=int)
    table = {"state": zeros, "reward": np.ones(600), "next_state": zeros}
    flags = np.arange(600) % 3 == 2
    cut = estimator(gamma=0.5).fit(table | {"terminated": zeros, "truncated": flags})
    ended = estimator(gamma=0.5).fit(table | {"terminated": flags})
    assert cut.predict([0])[0] == pytest.approx(2.0, abs=0.03)
    assert ended.predict([0])[0] == pytest.approx(1 / (1 - 0.5 * 2 / 3), abs=0.03)


@pytest.mark.slow
def test_policies_given_as_table_array_and_function_agree():
    """The next action is 1 in 3 of 4 cases; it pays 2, action 0 nothing."""
    rng = np.random.default_rng(0)
    action, following = rng.integers(2, size=4000), (rng.random(4000) < 0.75).astype(int)
    zeros = np.zeros(4000, dtype=int)
    ended = rng.random(4000) < 0.5
    table = {
        "state": zeros, "action": action, "reward": 2.0 * action, "next_state": zeros,
        "terminated": ended,
    }  # fmt: skip
    exact = 2 * np.arange(2) + 0.25 * 1.5 / (1 - 0.25)
    share = np.array([[0.25, 0.75]])
    policies = {
        "table": "table", "array": share, "function": lambda s: np.repeat(share, len(s), 0)
    }  # fmt: skip
    for name, policy in policies.items():
        seen = table | ({"next_action": following} if name == "table" else {})
        value = estimator(gamma=0.5, policy=policy).fit(seen)
        np.testing.assert_allclose(value.predict([0, 0], [0, 1]), exact, atol=0.08)
        if name == "table":
            with pytest.raises(ValueError, match="pass actions"):
                value.predict([0])
        else:
            assert value.predict([0])[0] == pytest.approx(
                0.25 * exact[0] + 0.75 * exact[1], abs=0.1
            )


def test_next_actions_are_read_from_rows_in_order():
    """Two actions in turn, of which the second pays and ends the episode."""
    n = 300
    table = pd.DataFrame(
        {
            "state": ["a", "b"] * n,
            "action": ["go", "end"] * n,
            "reward": [0.0, 4.0] * n,
            "next_state": ["b", "b"] * n,
            "terminated": [False, True] * n,
        }
    )
    for frame in (table, pl.from_pandas(table)):
        value = estimator(gamma=0.5, n_steps=400).fit(frame)
        assert value.predict(["a"], ["go"])[0] == pytest.approx(2.0, abs=0.05)


@pytest.mark.slow
def test_actions_that_are_numbers():
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, size=3000)
    zeros = np.zeros(3000)
    value = estimator(n_steps=2000).fit(
        {"state": zeros[:, None], "action": action, "reward": 3 * action,
         "next_state": zeros[:, None], "terminated": zeros + 1}
    )  # fmt: skip
    found = value.predict(np.zeros((2, 1)), np.array([-0.5, 0.5]))
    np.testing.assert_allclose(found, [-1.5, 1.5], atol=0.3)


def test_risk_decides_between_safe_and_daring():
    def reward_of(action, rng):
        daring = np.where(rng.random(len(action)) < 0.8, 2.0, -3.0)
        return np.where(action == 1, daring, 0.5 + 0.1 * rng.standard_normal(len(action)))

    value = estimator().fit(coin(reward_of))
    assert value.act(0) == 1
    assert value.act(0, risk=("cvar", 0.1)) == 0
    np.testing.assert_allclose(value.cvar([0, 0], [0, 1], alpha=0.1), [0.32, -3.0], atol=0.25)


@pytest.mark.slow
def test_mixture_of_policies_is_the_mixture_of_laws():
    low = estimator().fit(coin(lambda a, rng: a + 0.1 * rng.standard_normal(len(a))))
    high = estimator().fit(coin(lambda a, rng: 5 + a + 0.5 * rng.standard_normal(len(a))))
    both = MixtureOfReturns([low, high], [0.25, 0.75])
    for point in (0.0, 1.0, 5.5):
        parts = [v.cdf([0], [0], returns=point)[0] for v in (low, high)]
        assert both.cdf([0], [0], returns=point)[0] == pytest.approx(
            0.25 * parts[0] + 0.75 * parts[1], abs=0.01
        )
    mean = 0.25 * low.predict([0], [1]) + 0.75 * high.predict([0], [1])
    np.testing.assert_allclose(both.predict([0], [1]), mean, atol=0.01)
    assert both.sample([0], [1], n_samples=3).shape == (1, 3)
    with pytest.raises(ValueError, match="weights must be 2 numbers"):
        MixtureOfReturns([low, high], [1.0])


@pytest.mark.slow
def test_partial_fit_follows_new_transitions_beyond_the_old_support():
    value = estimator().fit(numbered(chain()))
    before = value.support_
    value.partial_fit(numbered(chain(shift=5.0, seed=1)))
    assert value.support_[1] > before[1] + 5
    assert distances(value, chain_laws(0.8, shift=5.0), (0.0, 1.0, 2.0)).max() < 0.25


def test_contracts(recwarn):
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    value = estimator(n_steps=60).fit(chain(200))
    again = clone(value).fit(chain(200))
    loaded = pickle.loads(pickle.dumps(value))
    attributes = dict(vars(value))
    expected = value.quantile([0, 1], q=0.3)
    np.testing.assert_array_equal(expected, again.quantile([0, 1], q=0.3))
    np.testing.assert_array_equal(expected, loaded.quantile([0, 1], q=0.3))
    drawn = value.sample([0], n_samples=4, random_state=3)
    np.testing.assert_array_equal(drawn, loaded.sample([0], n_samples=4, random_state=3))
    assert vars(value) == attributes
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert set(value.history_) == {"step", "loss", "support"}


@pytest.mark.parametrize("method", ["predict", "cvar", "sample", "act", "law"])
def test_unfitted(method):
    with pytest.raises(NotFittedError):
        getattr(estimator(), method)([0])


BAD_TABLES = [
    ({"next_state": None}, r"lack \['next_state'\]"),
    ({"reward": [1.0]}, "different lengths"),
    ({"reward": [1.0, np.nan]}, "reward is nan in row 1"),
    ({"reward": [1.0, -1e301]}, r"reward is -1e\+301 in row 1, too large"),
    ({"reward": ["a", "b"]}, "rewards must be numbers"),
    ({"terminated": [0.5, 1.0]}, "terminated must hold booleans"),
    ({"terminated": ["no", "yes"]}, "terminated must hold booleans"),
    ({"state": [0.0, np.inf]}, "not finite"),
    ({"next_state": [0.5, 1.0]}, "state holds whole numbers, but next_state does not"),
    ({"next_state": [[0, 1], [1, 1]]}, "must be the same"),
    ({"state": [0.0, np.nan], "next_state": [0.5, 1.0]}, "state is nan in row 1"),
    ({"next_state": [None, 1]}, "next_state is None in row 0"),
    ({"state": np.array([0, "a"], dtype=object)}, "must have one type, but state has int, str"),
    ({"action": np.array([0, "a"], dtype=object)}, "must have one type, but action has int, str"),
]


@pytest.mark.parametrize(("change", "message"), BAD_TABLES)
def test_bad_tables(change, message):
    table = {"state": [0, 1], "reward": [1.0, 2.0], "next_state": [1, 1], "terminated": [0, 1]}
    with pytest.raises(ValueError, match=message):
        estimator().fit(table | change)


def test_bad_questions_and_parameters():
    table = coin(lambda a, rng: a * 1.0, n_rows=50)
    endless = table | {"terminated": np.zeros(50, dtype=bool)}
    value = estimator(n_steps=5).fit(table)
    with pytest.raises(ValueError, match="gamma=1 needs episodes that end"):
        estimator(gamma=1.0).fit(endless)
    with pytest.raises(ValueError, match="unknown action 7"):
        value.predict([0], [7])
    with pytest.raises(ValueError, match="unknown state 3"):
        value.predict([3], [0])
    with pytest.raises(ValueError, match="actions has 3 rows"):
        value.predict([0], [0, 1, 0])
    with pytest.raises(ValueError, match="alpha must be"):
        value.cvar([0], [0], alpha=0)
    with pytest.raises(ValueError, match="q must be a number from 0 to 1"):
        value.quantile([0], [0], q=1.5)
    with pytest.raises(ValueError, match="returns must be finite"):
        value.score_samples([0], [0], returns=[np.inf])
    for wrong in ([[0.5], [0.5]], np.nan):
        with pytest.raises(ValueError, match="returns must be a number or a list"):
            value.cdf([0], [0], returns=wrong)
    with pytest.raises(ValueError, match=r"states must be a sequence of them, got 0"):
        value.predict(0)
    with pytest.raises(ValueError, match=r"policy gives shape \(3,\)"):
        estimator(policy=lambda states: np.zeros(3)).fit(table)
    with pytest.raises(ValueError, match="risk must be"):
        value.act(0, risk="median")
    with pytest.raises(ValueError, match="next actions are unknown"):
        estimator().fit({k: np.arange(2) for k in endless} | {"terminated": [False, False]})
    with pytest.raises(ValueError, match="not probabilities"):
        estimator(policy=np.array([[0.5, 0.6]])).fit(table)
    with pytest.raises(TypeError, match="frame or a mapping"):
        estimator().fit([[0, 1]])
    with pytest.warns(UserWarning, match=r"\[9\] occur only as next states"):
        estimator(n_steps=5).fit(
            {"state": [0, 0], "reward": [1.0, 1.0], "next_state": [9, 0], "terminated": [0, 1]}
        )


class Recorded:
    """A dataset as Minari has it."""

    def __init__(self, *episodes):
        self.episodes = episodes

    def iterate_episodes(self):
        return iter(self.episodes)


def episode(observations):
    n_steps = 2
    ended = np.arange(n_steps) == n_steps - 1
    return SimpleNamespace(
        observations=observations, actions=np.zeros(n_steps, int), rewards=np.ones(n_steps),
        terminations=ended, truncations=np.zeros(n_steps, bool),
    )  # fmt: skip


def test_a_minari_dataset():
    read = read_transitions(Recorded(episode(np.array([0, 1, 2])), episode(np.array([1, 2, 0]))))
    assert read.state.tolist() == [0, 1, 1, 2]
    # No next state is looked at where the return ends.
    assert read.next_state.tolist() == [1, 1, 2, 2]
    assert read.terminated.tolist() == [False, True, False, True]
    for parts in ({"x": np.zeros((3, 2))}, (np.zeros(3), np.zeros(3))):
        with pytest.raises(ValueError, match=r"gymnasium\.spaces\.flatten"):
            read_transitions(Recorded(episode(parts)))
    with pytest.raises(ValueError, match="has no episode"):
        read_transitions(Recorded())


def test_bad_environments():
    value = estimator(n_steps=5, policy="greedy").fit(coin(lambda a, rng: a * 1.0, n_rows=50))
    with pytest.raises(ValueError, match="other states or actions than those of fit"):
        value.partial_fit("CartPole-v1")
    agent = estimator(policy="greedy", n_random_steps=5).fit("CartPole-v1", n_steps=10)
    with pytest.raises(ValueError, match="not finite"):
        agent.act([0.0, np.nan, 0.0, 0.0])
    with pytest.raises(ValueError, match="An observation has shape"):
        agent.act([0.0, 0.0])


class Corridor(gymnasium.Env):
    """Steps to the right along a line, paid 1 at its end, which action 0 leaves unpaid."""

    observation_space = gymnasium.spaces.Discrete(4)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.place, {}

    def step(self, action):
        self.place += 1
        return (
            self.place,
            float(action and self.place == 3),
            not action or self.place == 3,
            False,
            {},
        )


def control(**parameters):
    rates = {"learning_rate": 5e-4, "target_rate": 0.05}
    return estimator(policy="greedy", n_random_steps=100, **rates, **parameters)


def test_control_learns_a_corridor_and_is_repeatable():
    value, again = (control(gamma=0.9, n_steps=700).fit(Corridor()) for _ in range(2))
    assert [value.act(place) for place in range(3)] == [1, 1, 1]
    np.testing.assert_allclose(value.predict([0, 1, 2]), [0.81, 0.9, 1.0], atol=0.06)
    np.testing.assert_array_equal(
        value.quantile([0, 1], [0, 1], q=0.5), again.quantile([0, 1], [0, 1], q=0.5)
    )
    assert value.history_["return"] == again.history_["return"]


class Signposted(Corridor):
    """The same, with observations that are mappings."""

    observation_space = gymnasium.spaces.Dict(
        {"place": gymnasium.spaces.Discrete(4), "way": gymnasium.spaces.Box(0, 1, (2,))}
    )

    def observation(self, place):
        return {"place": place, "way": np.array([place / 3, 0.5], dtype=np.float32)}

    def reset(self, *, seed=None, options=None):
        place, info = super().reset(seed=seed)
        return self.observation(place), info

    def step(self, action):
        place, *rest = super().step(action)
        return self.observation(place), *rest


class Numbered(Signposted):
    """The same, with tuples."""

    observation_space = gymnasium.spaces.Tuple(
        (gymnasium.spaces.Discrete(4), gymnasium.spaces.MultiDiscrete([2, 2]))
    )

    def observation(self, place):
        return place, np.array([place // 2, place % 2])


@pytest.mark.parametrize(("kind", "mode"), [(Signposted, "NEXT_STEP"), (Numbered, "SAME_STEP")])
def test_observations_may_be_mappings_or_tuples(kind, mode):
    copies = gymnasium.vector.SyncVectorEnv(
        [kind, kind], autoreset_mode=gymnasium.vector.AutoresetMode[mode]
    )
    value = control(gamma=0.9).fit(copies, n_steps=700)
    places = [kind().observation(place) for place in range(3)]
    assert [value.act(place) for place in places] == [1, 1, 1]
    np.testing.assert_allclose(value.predict(places), [0.81, 0.9, 1.0], atol=0.06)
    with pytest.raises(ValueError, match="is no observation of"):
        value.act(7)
    for wrong in (7, {"place": [0]}, None):
        with pytest.raises(ValueError, match="states must be a list of observations, got"):
            value.predict(wrong)


def test_labels_that_are_out_of_range_are_refused():
    spaces = gymnasium.spaces
    pair = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3)))
    beside_numbers = spaces.Dict(
        {"place": spaces.Discrete(3), "speed": spaces.Box(-1.0, 1.0, (2,)), "pair": pair}
    )
    for space, wrong in (
        (spaces.MultiDiscrete([2, 3]), [3, 0]),
        (spaces.MultiDiscrete([2, 3]), [-1, 0]),
        (spaces.MultiDiscrete([40, 40]), [41, 0]),
        (pair, (-1, 0)),
        (pair, (1, 0, 0)),
        (spaces.Dict({"place": spaces.Discrete(3)}), {"place": 0, "pair": 0}),
        (beside_numbers, {"place": -1, "speed": [0.0, 0.0], "pair": (0, 0)}),
        (beside_numbers, {"place": 0, "speed": [0.0, 0.0], "pair": (0, -1)}),
    ):
        with pytest.raises(ValueError, match="is no observation of"):
            features_of_space(space)([wrong])
    np.testing.assert_array_equal(features_of_space(pair)([(1, 0)])[0], np.eye(6)[3])
    known = {"place": 2, "speed": [2.0, 0.5], "pair": (1, 2)}  # a number out of bounds is no label
    flat = features_of_space(beside_numbers)([known])[0]
    np.testing.assert_array_equal(sorted(flat), [-1] * 5 + [0.5, 1, 1, 1, 2])


@pytest.mark.parametrize("reward", [np.nan, -np.inf, 1e39])
def test_a_reward_that_is_no_number_is_refused(reward):
    paid = gymnasium.wrappers.TransformReward(Corridor(), lambda r: reward if r else r)
    with pytest.raises(ValueError, match=re.escape(f"gave the reward {reward} at step ")):
        control(gamma=0.9).fit(paid, n_steps=200)


@pytest.mark.parametrize("state", [0.5, "a", None, {"place": 1}, [1, 4], 4])
def test_a_state_that_is_no_label_is_refused(state):
    value = control(gamma=0.9).fit(Corridor(), n_steps=110)
    assert value.act(1.0) == value.act(np.int64(1))
    with pytest.raises(ValueError, match="unknown state"):
        value.act(state)


class Treadmill(Corridor):
    """Pays -1 at each step and never ends."""

    def step(self, action):
        self.place = (self.place + 1) % 4
        return self.place, -1.0, False, False, {}


@pytest.mark.slow
def test_support_keeps_room_for_what_is_better_until_a_return_ends():
    environment = gymnasium.wrappers.TimeLimit(Treadmill(), 20)
    value = control(gamma=0.8).fit(environment, n_steps=1500)
    np.testing.assert_allclose(value.predict([0, 1], [0, 1]), -5, atol=0.3)
    assert value.history_["support"][-1][1] > -1


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_steps_of_vector_environments_are_those_of_the_environment(mode):
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    from skbellman.returns.environment_space import environment_space
    from skbellman.returns.episodes import run_episodes

    environment = SyncVectorEnv([Corridor, Corridor], autoreset_mode=AutoresetMode[mode])
    space = environment_space(environment)
    steps = run_episodes(environment, space, lambda s, _: np.ones(len(s), int), seed=0)
    for copy in (0, 1) * 5:
        step = next(s for s in steps if s.copy == copy)
        place, after = step.state.argmax(), step.next_state.argmax()
        assert after == place + 1  # never the step that only resets
        assert step.terminated == (after == 3)
        assert step.reward == float(step.terminated)


def test_transitions_over_several_steps():
    from skbellman.returns.episodes import Step
    from skbellman.returns.replay import MultiStep

    def step(k, terminated=False, truncated=False):
        at, after = np.array([k]), np.array([k + 1])
        return Step(0, at, k % 2, 10.0**k, after, terminated, truncated, None)

    pending = MultiStep(3, gamma=0.5)
    first = [t for k in range(4) for t in pending.push(step(k))]
    assert [(int(t.state[0]), t.reward, int(t.next_state[0]), t.follows) for t in first] == [
        (0, 1 + 5 + 25, 3, True),
        (1, 10 + 50 + 250, 4, True),
    ]
    last = list(pending.push(step(4, terminated=True)))
    assert [(t.reward, t.follows) for t in last] == [
        (100 + 500 + 2500, False),
        (1000 + 5000, False),
        (10_000, False),
    ]
    assert list(pending.push(step(0, truncated=True))) == []
    assert list(pending.push(step(1))) == []  # what was cut off is forgotten
    explored = [False, True, False, False, False]
    pending = MultiStep(3, gamma=0.5)
    flagged = [t.on_policy for k in range(5) for t in pending.push(step(k), explored[k])]
    assert flagged == [False, True, True]  # the first action of a return may be random
    pending = MultiStep(3, gamma=0.5, shorter=True)
    assert list(pending.push(step(0))) == []
    last = list(pending.push(step(1, truncated=True)))
    assert [(t.reward, int(t.next_state[0]), t.follows, t.discount) for t in last] == [
        (1 + 5, 2, True, 0.25),
        (10, 2, True, 0.5),
    ]


class Gate(gymnasium.Env):
    """Two places, that episodes begin in at random. Action 1 pays: who began at 1 has it."""

    observation_space = gymnasium.spaces.Discrete(3)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.first = int(self.np_random.integers(2))
        return self.place, {"action_mask": self._mask()}

    def step(self, action):
        assert self._mask()[action]
        reward = 1.0 if action else -1.0
        self.place += 1
        return self.place, reward, self.place == 2, False, {"action_mask": self._mask()}

    def _mask(self):
        return np.array([1, self.first], dtype=np.int8)


@pytest.mark.parametrize("mode", [pytest.param("NEXT_STEP", marks=pytest.mark.slow), "SAME_STEP"])
def test_actions_that_there_are_not_are_neither_taken_nor_counted(mode):
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    environment = SyncVectorEnv([Gate, Gate], autoreset_mode=AutoresetMode[mode])
    value = control(gamma=0.9).fit(environment, n_steps=600)
    # Were action 1 counted, that of place 0 would be worth -.1.
    np.testing.assert_allclose(value.predict([0, 1, 1], [0, 0, 1]), [-1.9, -1, 1], atol=0.15)
    assert value.act(1, action_mask=[0, 1]) == 1
    assert value.act(1, action_mask=[True, False]) == 0
    with pytest.raises(ValueError, match="action_mask must hold 2 flags"):
        value.act(1, action_mask=[0, 0])


@pytest.mark.slow
def test_control_of_copies():
    from gymnasium.vector import SyncVectorEnv

    value = control(gamma=0.9, n_steps=700).fit(SyncVectorEnv([Corridor] * 3))
    np.testing.assert_allclose(value.predict([0, 2], [1, 1]), [0.81, 1.0], atol=0.08)


@pytest.mark.slow
def test_paper_form_learns_the_laws_of_the_chain():
    value = estimator(gamma=0.8, form="networks", n_steps=2000).fit(chain())
    with pytest.raises(ValueError, match='partial_fit needs form="basis"'):
        value.partial_fit(chain())
    assert distances(value, chain_laws(0.8)).max() < 0.1
    law = value.law(0)
    x = torch.linspace(*value.support_, 400)[:, None]
    laws = chain_laws(0.8)
    exact = GaussianMixtureField.normal(
        torch.tensor(laws.mean()[0]), torch.tensor([[laws.var()[0, 0] + value.level_**2]])
    )
    for found, known in (
        (law.scalar(x, 0.0), exact.scalar(x.double(), 0.0)),
        (law.gradient(x, 0.0), exact.gradient(x.double(), 0.0)),
    ):
        assert (found - known).square().mean() < 0.03 * known.square().mean()


def test_verbose_says_how_far_it_is(capsys):
    control(verbose=1).fit(Corridor(), n_steps=250)
    *_, line = capsys.readouterr().out.splitlines()
    number = r"-?\d+(?:\.\d+)?"
    found = re.fullmatch(
        rf"step ({number}) of 250 \(\d+%, \d+:\d\d left\): loss {number}, return ({number}), "
        rf"support {number} to {number}",
        line,
    )
    assert found, line
    # A report is of the last twenty episodes, of at most three steps, and paid at most 1.
    assert 190 <= int(found[1]) <= 250
    assert 0 < float(found[2]) <= 1


@pytest.mark.slow
def test_target_return_stops_the_fit():
    with pytest.warns(UserWarning, match="Nothing was learned"):  # 20 episodes are fewer steps
        value = control(target_return=-1.0).fit(Corridor(), n_steps=500)
    assert len(value.history_["step"]) == 20


def test_environments_that_cannot_be_controlled():
    with pytest.raises(ValueError, match='Set policy="greedy"'):
        estimator().fit("CartPole-v1")
    with pytest.raises(ValueError, match='form must be "basis"'):
        control(form="networks").fit("CartPole-v1")
    with pytest.warns(UserWarning, match="Nothing was learned in 10 steps"):
        value = control().fit("CartPole-v1", n_steps=10)
    with pytest.raises(ValueError, match="shape"):
        value.act([0.0, 1.0])


def test_divergence_keeps_the_last_good_state():
    from skbellman import TrainingDivergedError

    value = estimator(learning_rate=1e30, n_steps=50)
    with pytest.raises(TrainingDivergedError, match="Lower learning_rate"):
        value.fit(numbered(chain(100)))
    assert np.isfinite(value.predict([0.0, 1.0, 2.0])).all()


def test_laws_in_a_table_that_are_not_finite_are_reported(monkeypatch):
    from skbellman import TrainingDivergedError
    from skbellman.returns import sweeps

    step = sweeps.TableLearner.step
    monkeypatch.setattr(sweeps.TableLearner, "step", lambda *args: step(*args) * torch.nan)
    value = control(gamma=0.9)
    with pytest.raises(TrainingDivergedError, match="Training diverged"):
        value.fit(Corridor(), n_steps=250)
    assert np.isfinite(value.predict([0, 1, 2])).all()


def test_interrupt_keeps_what_was_learned(monkeypatch):
    from skbellman.returns import learning

    step, calls = learning.Learner.step, []

    def interrupted(self, batch):
        calls.append(1)
        if len(calls) > 30:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(learning.Learner, "step", interrupted)
    value = estimator()
    with pytest.warns(RuntimeWarning, match="interrupted"):
        value.fit(numbered(chain(100)))
    assert np.isfinite(value.predict([0.0])).all()
