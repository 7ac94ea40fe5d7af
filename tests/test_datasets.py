"""Datasets of other packages, and given policies with numeric actions."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import skops.io
from gymnasium import spaces
from known_returns import PROBABILITIES, estimator
from scipy import stats

from skbellman.io import TRUSTED
from skbellman.returns.spaces import features_of_space
from skbellman.returns.transitions import read_transitions

PARTS = ("state", "next_state", "action", "reward", "terminated", "truncated")


def arrays(n=7):
    """Return rows of two episodes: one of four steps that ends, one that is cut off after three."""
    observations = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    return {
        "observations": observations,
        "actions": np.arange(n)[:, None] % 3,
        "rewards": np.arange(n, dtype=np.float32)[:, None],
        "terminals": np.arange(n) == 3,
        "timeouts": np.arange(n) == n - 1,
    }


def as_read(X, *names):
    read = read_transitions(X)
    return {name: np.asarray(getattr(read, name)).tolist() for name in names or PARTS}


def test_the_names_of_d4rl_with_next_observations():
    data = arrays()
    following = data["observations"] + 1
    read = as_read(data | {"next_observations": following})
    own = {
        "state": data["observations"], "next_state": following, "action": np.arange(7) % 3,
        "reward": np.arange(7.0), "terminated": data["terminals"], "truncated": data["timeouts"],
    }  # fmt: skip
    assert read == as_read(own)
    without = {name: part for name, part in data.items() if name != "timeouts"}
    again = as_read(without | {"next_observations": following})
    assert again["truncated"] == [False] * 7
    renamed = {"terminals": "terminations", "timeouts": "truncations"}
    gymnasium = {renamed.get(name, name): part for name, part in data.items()}
    assert as_read(gymnasium | {"next_observations": following}) == read


def test_without_next_observations_rows_are_in_order():
    """The last step has no next state; the one before it knows its next action."""
    read = read_transitions(arrays())
    assert read.reward.tolist() == [0, 1, 2, 3, 4, 5]
    assert read.next_state[:, 0].tolist() == [2, 4, 6, 6, 10, 12]
    assert read.next_action.tolist()[:3] + read.next_action.tolist()[4:] == [1, 2, 0, 2, 0]
    assert read.terminated.tolist() == [False, False, False, True, False, False]
    ended = arrays() | {"terminals": np.arange(7) % 4 == 2, "timeouts": np.zeros(7)}
    assert read_transitions(ended).reward.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_replay_buffer_of_d3rlpy():
    """Its episodes lack the last observation, as its own transitions do."""
    data = arrays()
    episodes = [
        SimpleNamespace(
            **{name: data[name][rows] for name in ("observations", "actions", "rewards")},
            terminated=ended,
        )
        for rows, ended in ((slice(0, 4), True), (slice(4, 7), False))
    ]
    assert as_read(SimpleNamespace(episodes=episodes)) == as_read(data)
    with pytest.raises(ValueError, match="no episode"):
        read_transitions(SimpleNamespace(episodes=[]))
    episodes[0].observations = [episodes[0].observations]
    with pytest.raises(ValueError, match="several parts"):
        read_transitions(SimpleNamespace(episodes=episodes))


def test_what_datasets_lack_is_named():
    data = arrays()
    for absent in ("rewards", "terminals"):
        with pytest.raises(ValueError, match=rf"The data lack \['{absent}'\]"):
            read_transitions({name: part for name, part in data.items() if name != absent})
    with pytest.raises(ValueError, match="lack next_observations, and timeouts"):
        read_transitions(data | {"timeouts": None})
    with pytest.raises(ValueError, match=r"different lengths.*'reward': 2"):
        read_transitions(data | {"rewards": [0.0, 1.0]})
    frame = pd.DataFrame({"observations": [0], "actions": [0], "rewards": [0.0]})
    with pytest.raises(ValueError, match=r"lack .*read from a mapping of arrays"):
        read_transitions(frame)
    # A column of a frame is no attribute of a dataset.
    frame = pd.DataFrame({"state": [0], "next_state": [0], "reward": [1.0], "terminated": [True]})
    assert len(read_transitions(frame.assign(episodes=1, iterate_episodes=2))) == 1


SPACE = spaces.Dict(
    {
        "goal": spaces.Box(-1, 1, (2,)),
        "at": spaces.Tuple([spaces.Box(-9, 9, (1, 2)), spaces.Discrete(3, start=5)]),
        "flags": spaces.MultiDiscrete([2, 3], start=[1, 0]),
    }
)


def recorded(space, observations, seed=0):
    """Return a dataset as Minari has it, of one episode, paid the first number of each state."""
    n = len(observations) - 1
    rewards = np.array([spaces.flatten(space, each)[0] for each in observations[:-1]])

    def joined(parts):
        if isinstance(parts[0], dict):
            return {name: joined([part[name] for part in parts]) for name in parts[0]}
        if isinstance(parts[0], tuple):
            return tuple(joined(list(each)) for each in zip(*parts, strict=True))
        return np.stack(parts)

    episode = SimpleNamespace(
        observations=joined(observations),
        actions=np.zeros(n, int), rewards=rewards,
        terminations=np.ones(n, bool), truncations=np.zeros(n, bool),
    )  # fmt: skip
    return SimpleNamespace(observation_space=space, iterate_episodes=lambda: iter([episode]))


def drawn(space, n, seed=0):
    space.seed(seed)
    return [space.sample() for _ in range(n)]


def test_mappings_of_a_minari_dataset_are_flattened_as_gymnasium_does_it():
    observations = drawn(SPACE, 30)
    read = read_transitions(recorded(SPACE, observations))
    flat = np.stack([spaces.flatten(SPACE, each) for each in observations])
    np.testing.assert_allclose(read.state, flat[:-1], rtol=1e-7)
    # Steps that end have no next state, which is set to the state.
    np.testing.assert_array_equal(read.next_state, read.state)


def test_questions_take_observations_as_the_dataset_had_them():
    observations = drawn(SPACE, 300)
    value = estimator(n_steps=300).fit(recorded(SPACE, observations))
    asked = drawn(SPACE, 20, seed=1)
    exact = [spaces.flatten(SPACE, each)[0] for each in asked]
    found = value.predict(asked)
    assert np.abs(found - exact).mean() < 0.2 * np.ptp(exact)
    loaded = pickle.loads(pickle.dumps(value))
    trusted = skops.io.loads(skops.io.dumps(value), trusted=TRUSTED)
    for each in (loaded, trusted):
        np.testing.assert_array_equal(each.predict(asked), found)
    assert value.score(recorded(SPACE, drawn(SPACE, 50, seed=2))) > -1
    for wrong in (asked[0], 3):
        with pytest.raises(ValueError, match="must be a list of observations"):
            value.predict(wrong)
    with pytest.raises(ValueError, match="is no observation of"):
        value.predict([asked[0] | {"flags": np.array([0, 0])}])


def test_labels_of_a_dataset_are_one_label():
    """As in an environment, so that laws are a table."""
    space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
    observations = drawn(space, 60)
    value = estimator().fit(recorded(space, observations))
    assert value.field_.is_table
    assert value.space_.features.width <= 6 == features_of_space(space).width
    exact = [spaces.flatten(space, each)[0] for each in observations[:4]]
    np.testing.assert_allclose(value.predict(observations[:4]), exact, atol=1e-6)


def test_observations_out_of_their_space_are_refused():
    good = drawn(SPACE, 3)
    wrong = [good[0], {**good[1], "flags": np.array([3, 0])}, good[2]]
    dataset = recorded(SPACE, good)
    episode = next(dataset.iterate_episodes())
    episode.observations["flags"] = np.stack([each["flags"] for each in wrong])
    with pytest.raises(ValueError, match=r"are none of Dict.*label 2 is not one of 2"):
        read_transitions(dataset)
    del episode.observations["flags"]
    with pytest.raises(ValueError, match=r"are none of Dict.*'flags'"):
        read_transitions(dataset)
    episode.observations = good[0]["goal"]
    episode.actions = {"a": np.zeros(2)}
    with pytest.raises(ValueError, match="actions of the dataset are mappings"):
        read_transitions(dataset)


GAMMA, GAIN = 0.7, -0.4


def linear_system(n_rows=10_000, seed=0):
    """Return steps of x' = .9 x + .5 a + .3 e, paid x - .1 a + .2 e', under noisy actions."""
    rng = np.random.default_rng(seed)
    state = 1.5 * rng.standard_normal(n_rows)
    action = GAIN * state + 0.7 * rng.standard_normal(n_rows)
    noise = rng.standard_normal((2, n_rows))
    return {
        "observations": state[:, None],
        "actions": action[:, None],
        "rewards": state - 0.1 * action + 0.2 * noise[0],
        "next_observations": (0.9 * state + 0.5 * action + 0.3 * noise[1])[:, None],
        "terminals": np.zeros(n_rows, bool),
    }


def linear_law(state, action):
    """Return the exact law of the return under the policy a = GAIN x, which is Gaussian."""
    drift = 0.9 + 0.5 * GAIN
    slope = (1 - 0.1 * GAIN) / (1 - GAMMA * drift)
    variance = (0.04 + GAMMA**2 * slope**2 * 0.09) / (1 - GAMMA**2)
    mean = state - 0.1 * action + GAMMA * slope * (0.9 * state + 0.5 * action)
    return stats.norm(mean[:, None], np.sqrt(variance))


@pytest.mark.parametrize("columns", ["one", "flat"])
def test_a_given_policy_with_numeric_actions_is_evaluated(columns):
    """Its law is exact: another one acted in the table, with noise."""
    seen = []

    def policy(states):
        seen.append(states.shape)
        return GAIN * (states if columns == "one" else states[:, 0])

    value = estimator(policy=policy, gamma=GAMMA, n_steps=600).fit(linear_system())
    assert seen[0] == (10_000, 1)
    states, actions = np.array([-1.5, 0.0, 1.5]), np.array([0.9, 0.5, -0.9])
    for first in (actions, GAIN * states):
        exact = linear_law(states, first)
        given = None if first is not actions else actions
        found = value.quantile(states[:, None], given, q=PROBABILITIES)
        w1 = np.abs(found - exact.ppf(PROBABILITIES)).mean(1) / exact.std()
        assert w1.max() < 0.15
        gap = value.predict(states[:, None], given) - exact.mean()[:, 0]
        assert np.abs(gap).max() < 0.15 * exact.std().max()
        worst = exact.mean() - exact.std() * stats.norm.pdf(stats.norm.ppf(0.1)) / 0.1
        cvar = value.cvar(states[:, None], given, alpha=0.1)
        np.testing.assert_allclose(cvar, worst[:, 0], atol=0.3 * exact.std().max())
    # The policy that acted has another law: its noise is in it.
    assert value.std(states[:, None]).max() < 1.1 * linear_law(states, actions).std().max()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (lambda s: np.zeros(3), r"shape \(3,\) for 40 states"),
        (lambda s: np.zeros((len(s), 2)), r"shape \(40, 2\) for 40 states.*must give 1 for each"),
        (lambda s: np.full(len(s), np.nan), "policy gives the action nan in state"),
        (lambda s: np.array(["left"] * len(s)), "policy gives <U4 of shape"),
        (np.array([[1.0]]), "policy is a table of probabilities, but actions are numbers"),
    ],
)
def test_policies_that_do_not_fit_numeric_actions_are_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        estimator(policy=policy).fit(linear_system(40))


def test_first_actions_of_a_recorded_policy_must_be_given():
    value = estimator(n_steps=20).fit(linear_system(200) | {"next_actions": np.zeros((200, 1))})
    with pytest.raises(ValueError, match="pass actions"):
        value.predict([[0.0]])
