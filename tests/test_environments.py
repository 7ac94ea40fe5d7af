"""Environments of every form are acted in, or refused by what is wrong with them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from known_returns import estimator

gymnasium = pytest.importorskip("gymnasium")
spaces, vector = gymnasium.spaces, gymnasium.vector
MODES = ["NEXT_STEP", "SAME_STEP"]


class Corridor:
    """Steps to the right along a line, paid 1 at its end, which action 0 leaves unpaid.

    It has what is needed to act in it, and nothing else.
    """

    observation_space = spaces.Discrete(4)
    action_space = spaces.Discrete(2)
    masks = ([1, 1], [1, 1], [1, 1], [1, 1])

    def reset(self, *, seed=None, options=None):
        self.place = 0
        return self.seen(), self.info()

    def step(self, action):
        self.place += 1
        paid, ended = float(action and self.place == 3), not action or self.place == 3
        return self.seen(), paid, ended, False, self.info()

    def seen(self):
        return self.place

    def info(self):
        return {"action_mask": np.array(self.masks[self.place])}


class Known(Corridor, gymnasium.Env):
    """The same, of gymnasium."""


def agent(**parameters):
    return estimator(policy="greedy", **{"n_random_steps": 60, "gamma": 0.9} | parameters)


def learned(environment, n_steps=250, **parameters):
    return agent(**parameters).fit(environment, n_steps=n_steps)


class Same(gymnasium.Env):
    """One state, a number; action 1 is paid."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        ended = bool(self.np_random.random() < 0.05)
        return np.zeros(1, dtype=np.float32), float(action), False, ended, {}


RIGHT = [0.81, 0.9, 1.0]


def test_random_actions_have_no_part_in_laws_of_several_steps():
    value = learned(Same(), n_steps=1200, gamma=0.8, multi_step=3, exploration=0.3)
    assert value.predict([[0.0]]) == pytest.approx([5.0], rel=0.01)


def test_an_object_with_spaces_reset_and_step_is_enough():
    value = learned(Corridor())
    assert [value.act(place) for place in range(3)] == [1, 1, 1]
    np.testing.assert_allclose(value.predict([0, 1, 2]), RIGHT, atol=0.06)
    with pytest.raises(ValueError, match=r"lacks \['observation_space', 'action_space'\]"):
        learned(type("Bare", (), {"reset": None, "step": None})())


@pytest.mark.parametrize("mode", MODES)
def test_infos_may_be_a_list(mode):
    class Masked(Known):
        masks = ([0, 1], [1, 1], [1, 1], [0, 0])  # none where it ends

    copies = vector.SyncVectorEnv([Masked] * 2, autoreset_mode=vector.AutoresetMode[mode])
    listed = gymnasium.wrappers.vector.DictInfoToList(
        vector.SyncVectorEnv([Masked] * 2, autoreset_mode=vector.AutoresetMode[mode])
    )
    value, again = learned(copies), learned(listed)
    np.testing.assert_allclose(value.predict([0, 1, 2]), RIGHT, atol=0.06)
    np.testing.assert_array_equal(value.predict([0, 1, 2]), again.predict([0, 1, 2]))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([[1, 1], [1, 1, 1], [1, 1], [1, 1]], "has length 3 in state 1, but there are 2 actions"),
        ([[1, 1], [1, 1], [0, 0], [1, 1]], "forbids all 2 actions in state 2"),
        ([[0, 0], [1, 1], [1, 1], [1, 1]], "forbids all 2 actions in state 0"),
    ],
)
def test_a_mask_that_fits_no_actions_is_refused(masks, message):
    class Masked(Known):
        pass

    Masked.masks = masks
    with pytest.raises(ValueError, match=re.escape(f'info["action_mask"] {message}')):
        learned(Masked())


@pytest.mark.parametrize("mode", MODES)
def test_a_copy_that_gives_no_mask_has_all_actions(mode):
    class Silent(Known):
        def info(self):
            return {}

    copies = vector.SyncVectorEnv([Known, Silent], autoreset_mode=vector.AutoresetMode[mode])
    np.testing.assert_allclose(learned(copies).predict([0, 1, 2]), RIGHT, atol=0.06)


def test_a_mask_of_another_step_is_forgotten():
    from skbellman.returns.replay import Replay, Transition

    replay = Replay(1, 1, np.random.default_rng(0), "cpu")
    state = np.zeros(1)
    replay.add(Transition(state, 0, 0.0, state, True, np.array([True, False])))
    replay.add(Transition(state, 0, 0.0, state, True, None))
    assert replay.sample(1).mask.tolist() == [[True, True]]


class Mission(spaces.Space):
    """A space of sentences, as MiniGrid has it: gymnasium does not know it."""

    def sample(self, mask=None, probability=None):
        return "go"

    def contains(self, x):
        return isinstance(x, str)


class Told(Known):
    """The same, with its place among what is seen."""

    observation_space = spaces.Dict({"mission": Mission(), "place": spaces.Discrete(4)})

    def seen(self):
        return {"mission": "go to the end", "place": self.place}


@pytest.mark.parametrize("space", [Told.observation_space, Mission()])
def test_sentences_are_refused_with_a_remedy(space):
    environment = Told()
    environment.observation_space = space
    with pytest.raises(ValueError, match=r"cannot flatten observations.*FilterObservation"):
        learned(environment)


def test_sentences_may_be_left_out():
    value = learned(gymnasium.wrappers.FilterObservation(Told(), ["place"]))
    places = [{"place": place} for place in range(3)]
    np.testing.assert_allclose(value.predict(places), RIGHT, atol=0.06)
    assert value.n_features_in_ == 1


def test_an_agent_that_learned_nothing_warns():
    with pytest.warns(UserWarning, match=r"Nothing was learned in 60 steps.*n_random_steps=60"):
        learned(Known(), n_steps=60)
    value = learned(Known(), n_steps=61)
    value.partial_fit(Known(), n_steps=5)
    endless = Known()
    endless.masks = [[0, 1]] * 4
    with pytest.warns(UserWarning, match=r"over multi_step=3 steps"):
        learned(gymnasium.wrappers.TimeLimit(endless, 2), 6, n_random_steps=0, multi_step=3)


def test_the_score_of_transitions_of_an_environment():
    value = learned(Known())
    state = np.array([0, 1, 2, 0, 1, 0])
    action = np.array([1, 1, 1, 1, 0, 0])
    reward = np.array([0.0, 0, 1, 0, 0, 0])
    played = {
        "state": state, "action": action, "reward": reward, "next_state": state + 1,
        "terminated": (action == 0) | (state == 2),
    }  # fmt: skip
    assert value.score(played) > -0.05
    assert value.score(played | {"reward": reward + 1}) < -0.5
