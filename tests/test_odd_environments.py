"""Environments of odd spaces, rewards and answers: the right laws, or an error that says why."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch
from known_returns import estimator

gymnasium = pytest.importorskip("gymnasium")
S = gymnasium.spaces
EYE = np.eye(4, dtype=np.float32)
RIGHT = [0.81, 0.9, 1.0]


class Walk(gymnasium.Env):
    """Steps along 0, 1, 2 and 3, paid 1 at the end; action 0 ends it unpaid."""

    action_space = S.Discrete(2)

    def __init__(self, space=None, see=int):
        self.observation_space, self.see = S.Discrete(4) if space is None else space, see

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.see(0), self.info()

    def step(self, action):
        on = self.on(action)
        self.place += 1
        ended = not on or self.place == 3
        reward = self.reward(float(on and self.place == 3))
        return self.see(self.place), reward, *self.flags(ended), self.info()

    def on(self, action):
        return bool(action)

    def reward(self, paid):
        return paid

    def flags(self, ended):
        return ended, False

    def info(self):
        return {}


def a_walk(**methods):
    """Return a walk with some methods or spaces replaced."""
    return type("Other", (Walk,), methods)()


def agent(**parameters):
    defaults = {"gamma": 0.9, "n_random_steps": 60, "hidden_layer_sizes": (16,)}
    return estimator(policy="greedy", **{**defaults, **parameters})


SEEN = {
    "labels from -2": (S.Discrete(4, start=-2), lambda place: place - 2),
    "joint labels": (S.MultiDiscrete([2, 2]), lambda p: np.array([p // 2, p % 2])),
    "joint labels from 5": (
        S.MultiDiscrete([2, 2], start=[5, 5]),
        lambda place: 5 + np.array(divmod(place, 2)),
    ),
    "a table of labels": (S.MultiDiscrete([[2, 2]]), lambda p: np.array([divmod(p, 2)])),
    "nested": (
        S.Dict({"a": S.Dict({"b": S.Discrete(4)}), "c": S.Tuple([S.Discrete(2)])}),
        lambda place: {"a": {"b": place}, "c": (1,)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_labels_of_every_form(name):
    space, see = SEEN[name]
    value = agent().fit(Walk(space, see), n_steps=150)
    np.testing.assert_allclose(value.predict([see(p) for p in range(3)], 1), RIGHT, atol=0.02)


NUMBERS = {
    "flags": (S.MultiBinary((2, 2)), lambda p: EYE[p].astype(np.int8).reshape(2, 2)),
    "one number": (S.Box(0, 3, ()), np.float32),
    "beyond its bounds": (S.Box(0, 0.5, (4,)), lambda p: EYE[p]),
    "beside labels": (
        S.Dict({"a": S.Discrete(4), "b": S.Box(0, 1, (2,))}),
        lambda place: {"a": place, "b": np.zeros(2, dtype=np.float32)},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_every_form(name):
    space, see = NUMBERS[name]
    value = agent(exploration_fraction=0.5, multi_step=1).fit(Walk(space, see), n_steps=700)
    np.testing.assert_allclose(value.predict([see(p) for p in range(3)], [1] * 3), RIGHT, atol=0.06)


@pytest.mark.parametrize(
    ("space", "on", "best"),
    [
        (S.Discrete(2, start=3), lambda self, action: action == 4, 4),
        (S.MultiDiscrete([1, 2]), lambda self, action: bool(action[1]), [0, 1]),
        (S.MultiBinary(1), lambda self, action: bool(action[0]), [1]),
        (S.Discrete(1), lambda self, action: True, 0),
    ],
)
def test_actions_of_every_form(space, on, best):
    value = agent().fit(a_walk(action_space=space, on=on), n_steps=150)
    np.testing.assert_array_equal(value.act(0), best)
    np.testing.assert_allclose(value.predict([0, 1, 2], [best] * 3), RIGHT, atol=0.02)


@pytest.mark.parametrize(
    ("name", "reward", "scale"),
    [
        ("tiny", lambda self, paid: 1e-30 * paid, 1e-30),
        ("huge", lambda self, paid: 1e25 * paid, 1e25),
        ("array of one", lambda self, paid: np.array([paid]), 1.0),
    ],
)
def test_rewards_of_every_size(name, reward, scale):
    value = agent().fit(a_walk(reward=reward), n_steps=150)
    np.testing.assert_allclose(value.predict([0, 1, 2], 1) / scale, RIGHT, atol=0.02)


@pytest.mark.slow
def test_rewards_scale_the_laws_of_a_network():
    for scale in (1.0, 2.0**20):
        walk = a_walk(reward=lambda self, paid, scale=scale: scale * paid)
        walk.observation_space, walk.see = S.Box(0, 1, (4,)), lambda place: EYE[place]
        value = agent(exploration_fraction=0.5, multi_step=1).fit(walk, n_steps=500)
        found = value.predict(EYE[:3], [1] * 3) / scale
        np.testing.assert_allclose(found, RIGHT, atol=0.1)


def test_truncated_walks_are_not_ended():
    value = agent().fit(a_walk(flags=lambda self, ended: (False, ended)), n_steps=150)
    np.testing.assert_allclose(value.predict([0, 1, 2], 1), RIGHT, atol=0.02)
    assert not value.ends_


def test_an_environment_may_draw_from_global_generators():
    def drawn():
        return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002

    def on(self, action):
        drawn()
        return bool(action)

    def seed():
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)

    seed()
    agent().fit(a_walk(on=on), n_steps=70)
    found = drawn()
    seed()
    for _ in range(70):
        drawn()
    assert found == drawn()


REFUSED = {
    "reward is nan": ({"reward": lambda self, paid: np.nan}, "gave the reward nan at step 1"),
    "reward is inf": ({"reward": lambda self, paid: np.inf}, "gave the reward inf at step 1"),
    "no reward": ({"reward": lambda self, paid: None}, "gave the reward nan at step 1"),
    "two rewards": ({"reward": lambda self, paid: [0, 1]}, "gave the reward [0, 1], which is not"),
    "complex": ({"reward": lambda self, paid: 1j}, "gave the reward 1j, which is not a number"),
    "unknown label": ({"observation_space": S.Discrete(1)}, "unknown state 1; known: those of"),
    "half a label": ({"see": lambda self, place: place + 0.5}, "unknown state 0.5; known"),
    "another shape": (
        {"observation_space": S.Box(0, 1, (4,)), "see": lambda self, place: EYE[0, :3]},
        "An observation has shape (3,) instead of (4,)",
    ),
    "no observation": (
        {"observation_space": S.Box(0, 1, (4,)), "see": lambda self, place: None},
        "An observation has shape () instead of (4,)",
    ),
    "nan": (
        {"observation_space": S.Box(0, 1, (1,)), "see": lambda self, place: np.full(1, np.nan)},
        "observation [nan] is not finite, or beyond 1e+30",
    ),
    "1e300": (
        {
            "observation_space": S.Box(-np.inf, np.inf, (1,), np.float64),
            "see": lambda self, place: np.full(1, 1e300),
        },
        "is not finite, or beyond 1e+30. Rescale it",
    ),
    "a part is missing": (
        {"observation_space": S.Dict({"a": S.Discrete(4)}), "see": lambda self, place: {"b": 0}},
        "{'b': 0} is no observation of Dict",
    ),
    "a part too few": (
        {"observation_space": S.Tuple([S.Discrete(4)] * 2), "see": lambda self, place: (0,)},
        "(0,) is no observation of Tuple",
    ),
    "nothing to see": ({"observation_space": S.Box(0, 1, (0,))}, "hold no number"),
    "no parts": ({"observation_space": S.Dict({})}, "hold no number. If all states are alike"),
    "a sentence": ({"observation_space": S.Text(4)}, "hold sentences, which are not read"),
    "a sentence in a tuple": (
        {"observation_space": S.Tuple([S.Text(4), S.Discrete(4)])},
        "hold sentences, which are not read",
    ),
    "too many labels": (
        {"observation_space": S.Discrete(10**9)},
        "take 1000000000 numbers, as each label has a flag; at most 10000000",
    ),
    "too many actions": ({"action_space": S.Discrete(10**6)}, "at most 10000 can be learned"),
    "parts of actions": (
        {"action_space": S.Tuple([S.Discrete(2)])},
        "needs actions of Discrete, MultiDiscrete, MultiBinary or Box",
    ),
    "a mask of nan": (
        {"info": lambda self: {"action_mask": [np.nan, 1]}},
        'info["action_mask"] in state 0 holds nan; it must hold 1 for actions',
    ),
    "a mask of logits": (
        {"info": lambda self: {"action_mask": np.array([-np.inf, 0])}},
        'info["action_mask"] in state 0 holds -inf',
    ),
    "the old reset": (
        {"reset": lambda self, *, seed=None, options=None: 0},
        ".reset returned 0, not a tuple of 2, as gymnasium requires",
    ),
    "the old step": (
        {"step": lambda self, action: (0, 0.0, True, {})},
        ".step returned (0, 0.0, True, {}), not a tuple of 5",
    ),
    "a reset without a seed": (
        {"reset": lambda self: (0, {})},
        ".reset must take seed and options, as gymnasium requires",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_from_is_refused(name):
    methods, message = REFUSED[name]
    value = agent()
    with pytest.raises(ValueError, match=re.escape(message)):
        value.fit(without_init(**methods), n_steps=100)
    assert not hasattr(value, "field_")


def without_init(**methods):
    """Return a walk whose space and sight are those of its class."""
    usual = {"observation_space": S.Discrete(4), "see": lambda self, place: place}
    return type("Other", (Walk,), {"__init__": lambda self: None, **usual, **methods})()


def test_masks_of_questions_hold_0_and_1():
    value = agent().fit(Walk(), n_steps=70)
    assert value.act(0, action_mask=[1.0, 0.0]) == 0
    for mask in ([np.nan, 0], [-np.inf, 0], [2, 0], ["a", "b"]):
        with pytest.raises(ValueError, match=r"action_mask holds .*; it must hold 1"):
            value.act(0, action_mask=mask)


def test_an_environment_that_breaks_leaves_the_fit_before():
    value = agent().fit(Walk(), n_steps=70)
    before = value.predict([0, 1, 2], 1)

    def breaks(self, action):
        raise RuntimeError("the motor broke")

    for learn in (value.fit, value.partial_fit):
        with pytest.raises(RuntimeError, match="the motor broke"):
            learn(a_walk(step=breaks), n_steps=70)
    np.testing.assert_array_equal(value.predict([0, 1, 2], 1), before)


def test_numbers_far_from_one_are_warned_of():
    far = Walk(S.Box(-np.inf, np.inf, (2,)), lambda place: np.array([1, 1e4 * place]))
    with pytest.warns(UserWarning, match=r"Number 1 of the observations reaches [23]e\+04"):
        agent().fit(far, n_steps=70)


def test_backups_of_numbers_are_longer_than_those_of_labels():
    numbers = Walk(S.Box(0, 1, (4,)), lambda place: EYE[place])
    for walk, n_backed_up in ((numbers, 3), (Walk(), 1)):
        by_default, asked = (
            agent(**given).fit(walk, n_steps=80) for given in ({}, {"multi_step": n_backed_up})
        )
        states = [walk.see(place) for place in range(3)]
        np.testing.assert_array_equal(by_default.predict(states, 1), asked.predict(states, 1))
    other = agent(multi_step=1).fit(numbers, n_steps=80)
    assert not np.array_equal(
        other.predict(EYE[:3], 1), agent().fit(numbers, n_steps=80).predict(EYE[:3], 1)
    )


def test_episodes_that_are_cut_off_after_two_steps():
    class Loop(Walk):
        def step(self, action):
            self.place = 1 - self.place
            return self.see(self.place), 1.0, False, False, {}

    loop = Loop(S.Box(0, 1, (4,)), lambda place: EYE[place])
    short = gymnasium.wrappers.TimeLimit(loop, 2)  # shorter than the three steps of a backup
    value = agent(gamma=0.5, batch_size=32).fit(short, n_steps=500)
    np.testing.assert_allclose(value.predict(EYE[:2], [0, 1]), 2.0, atol=0.05)
