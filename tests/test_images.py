"""Observations with an image: which they are, how they are kept, and that laws learn from them."""

from __future__ import annotations

import copy
import pickle
import re
import tracemalloc

import numpy as np
import pytest
import torch
from known_returns import estimator

from skbellman.returns import replay
from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.convolution import ImageReturnField
from skbellman.returns.environment_space import environment_space
from skbellman.returns.images import ImageFeatures, Picture, has_one_image, picture_of
from skbellman.returns.learners import GreedyLearner
from skbellman.returns.regression import metric
from skbellman.returns.support import Support

gymnasium = pytest.importorskip("gymnasium")
Box, Dict, Discrete, Tuple = (
    getattr(gymnasium.spaces, n) for n in ["Box", "Dict", "Discrete", "Tuple"]
)
BYTES = Box(0, 255, (6, 5, 2), np.uint8)
BASIS = GaussianBasis(-2.0, 2.0, 11)


@pytest.mark.parametrize(
    ("space", "n_channels", "sides"),
    [
        (Box(0, 255, (84, 84, 4), np.uint8), 4, (84, 84)),
        (Box(0, 255, (4, 84, 84), np.uint8), 4, (84, 84)),
        (Box(0, 255, (84, 60), np.uint8), 1, (84, 60)),
        (Box(0, 255, (7, 7, 3), np.uint8), 3, (7, 7)),
        (Box(0, 1, (10, 10, 10), bool), 10, (10, 10)),
        (Box(0, 1, (10, 10, 4), np.float32), 4, (10, 10)),
        (Box(0, 1, (10, 10), bool), 1, (10, 10)),
    ],
)
def test_shape_and_dtype_tell_images(space, n_channels, sides):
    picture = picture_of(space)
    assert (picture.n_channels, picture.sides) == (n_channels, sides)


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 255, (100,), np.uint8),
        Box(0, 255, (4, 4, 3), np.uint8),
        Box(0, 255, (2, 6, 6, 3), np.uint8),
        Box(-1, 1, (10, 10), np.float32),  # a matrix, for all one knows
        Box(-np.inf, np.inf, (10, 10, 3), np.float32),
        Discrete(5),
        Dict({"left": BYTES, "right": BYTES}),
    ],
)
def test_others_stay_numbers(space):
    assert not has_one_image(space)


def test_pixels_are_kept_as_they_are():
    image = BYTES.sample()
    alone = ImageFeatures(BYTES)
    assert alone([image]).dtype == np.uint8
    np.testing.assert_array_equal(alone([image, image])[1], image.ravel())
    beside = ImageFeatures(Dict({"image": BYTES, "way": Discrete(4, start=1)}))
    row = beside([{"way": 3, "image": image}])[0]
    assert row.dtype == np.uint8
    np.testing.assert_array_equal(row, [*image.ravel(), 0, 0, 1, 0])
    speed = ImageFeatures(Tuple([Box(0, 8, (1,), np.float32), BYTES]))
    np.testing.assert_array_equal(speed([([6.0], image)])[0], [*image.ravel(), 0.5])


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros((5, 6, 2)), "shape (5, 6, 2) instead of (6, 5, 2)"),
        (np.full((6, 5, 2), 0.5), "holds 0.5, which is not a whole number to 255"),
        (np.full((6, 5, 2), -1), "holds -1, which"),
        (np.full((6, 5, 2), np.nan), "holds nan, which"),
    ],
)
def test_what_is_no_image_is_refused(observation, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFeatures(BYTES)([observation])
    with pytest.raises(ValueError, match="is no observation of Dict"):
        ImageFeatures(Dict({"image": BYTES}))([{"picture": observation}])
    with pytest.raises(ValueError, match="holds inf, which is not a finite number"):
        ImageFeatures(Box(0, 1, (6, 5, 2)))([np.full((6, 5, 2), np.inf)])


def test_channels_may_come_first_or_last():
    torch.manual_seed(0)
    last = ImageReturnField(Picture((6, 6, 2)), 72, 3, (8,), BASIS)
    first = ImageReturnField(Picture((2, 6, 6)), 72, 3, (8,), BASIS)
    first.load_state_dict(last.state_dict())
    image = torch.rand(4, 6, 6, 2)
    same = image.movedim(3, 1).reshape(4, -1)
    torch.testing.assert_close(first.means(same), last.means(image.reshape(4, -1)))


@torch.no_grad()
def test_the_scale_of_pixels_does_not_matter():
    torch.manual_seed(0)
    flags = ImageReturnField(Picture((6, 6, 2)), 72, 3, (8,), BASIS)
    codes = copy.deepcopy(flags)
    rows = torch.randint(2, (4, 72), dtype=torch.uint8)
    torch.testing.assert_close(codes.means(rows * 7), flags.means(rows))
    brighter = flags.eval().means(rows * 2)  # after learning, the scale is that of fit
    assert float((brighter - flags.means(rows)).abs().max()) > 1e-4


def test_many_rows_are_encoded_in_parts(monkeypatch):
    torch.manual_seed(0)
    field = ImageReturnField(Picture((40, 36)), 40 * 36, 2, (8,), BASIS)
    rows = torch.randint(256, (7, 40 * 36), dtype=torch.uint8)
    at_once = field.means(rows)
    monkeypatch.setattr("skbellman.returns.convolution.ImageEncoder.n_at_once", 3)
    torch.testing.assert_close(field.means(rows), at_once)


@pytest.mark.parametrize("shape", [(6, 6, 2), (2, 40, 37)])
def test_gradients_are_those_of_the_loss(shape):
    torch.manual_seed(0)
    picture, n = Picture(shape), 5
    width = picture.size + 3
    field = ImageReturnField(picture, width, 3, (8,), BASIS).double()
    learner = GreedyLearner(field, Support(0.9, 11), 0.9, 1e-3, 0.1)
    steps = Batch(
        torch.randint(256, (n, width), dtype=torch.uint8),
        torch.randint(256, (n, width), dtype=torch.uint8),
        torch.tensor([0, 1, 2, 1, 1]), torch.randn(n).double(), torch.arange(n) > 1,
    )  # fmt: skip
    regression = learner.objective
    goal = regression.backup(field, learner.target, steps)
    loss = regression.towards(field, goal, steps)
    regression.towards(field, goal, steps)  # gradients replace those before
    found = [parameter.grad.clone() for parameter in field.parameters()]
    gap = field(steps.state)[torch.arange(n), steps.action] - goal
    M = metric(field.basis, learner.cumulative_weight, gap.dtype, gap.device)
    plain = torch.einsum("nk,kl,nl->", gap, M, gap) / n
    torch.testing.assert_close(loss, plain.detach())
    for was, right in zip(found, torch.autograd.grad(plain, list(field.parameters())), strict=True):
        assert float(right.abs().max()) > 0
        torch.testing.assert_close(was, right)


class Lamp(gymnasium.Env):
    """A lit pixel at random, and dim ones. The action that names its half earns 1."""

    observation_space = Box(0, 255, (6, 6), np.uint8)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.image = self.np_random.integers(0, 50, (6, 6)).astype(np.uint8)
        self.at = tuple(self.np_random.integers(6, size=2))
        self.image[self.at] = 255
        return self.seen(), {}

    def step(self, action):
        return self.seen(), float(action == (self.at[1] > 2)), True, False, {}

    def seen(self):
        return self.image


class Sideways(Lamp):
    """The same in another layout."""

    observation_space = Box(0, 255, (6, 6, 1), np.uint8)


class Told(Lamp):
    """The same with a sentence, and a label of no use."""

    observation_space = Dict(
        {"image": Lamp.observation_space, "mission": gymnasium.spaces.Text(20), "way": Discrete(3)}
    )

    def seen(self):
        return {"image": self.image, "mission": "find the lamp", "way": 1}


def agent(**parameters):
    return estimator(policy="greedy", **{"n_random_steps": 100, "replay_size": 2000} | parameters)


def lamps(n, seed=0):
    """Return observations, and the right actions."""
    environment = Lamp()
    seen = [environment.reset(seed=seed)[0]]
    right = [int(environment.at[1] > 2)]
    for _ in range(n - 1):
        seen.append(environment.reset()[0])
        right.append(int(environment.at[1] > 2))
    return seen, np.array(right)


@pytest.mark.filterwarnings("ignore:expected returns are")  # of the few steps of a table
def test_an_agent_reads_images():
    value = agent(hidden_layer_sizes=(32,), batch_size=32).fit(Lamp(), n_steps=600)
    seen, right = lamps(100, seed=1)  # seen in fit: none of them
    assert (value.act(np.stack(seen)) == right).mean() > 0.95
    assert value.act(seen[0]) == right[0]
    assert value.n_features_in_ == 36
    gap = value.predict(seen, right) - value.predict(seen, 1 - right)
    assert gap.mean() > 0.7
    again = pickle.loads(pickle.dumps(value))
    np.testing.assert_array_equal(again.predict(seen, right), value.predict(seen, right))
    value.partial_fit(Lamp(), n_steps=20)
    steps = {"state": np.stack(seen), "action": right, "reward": np.ones(100)}
    steps |= {"next_state": np.stack(seen), "terminated": np.ones(100, dtype=bool)}
    value.partial_fit(steps, n_steps=5)
    assert value.score(steps) > value.score(steps | {"reward": np.zeros(100)})
    with pytest.raises(ValueError, match="other states or actions"):
        value.partial_fit(Sideways(), n_steps=20)


def test_sentences_are_not_read_and_a_warning_says_so():
    with pytest.warns(UserWarning, match=r"not read: \['mission'\].*FilterObservation"):
        value = agent(hidden_layer_sizes=(8,)).fit(Told(), n_steps=110)
    seen = [Told().reset(seed=seed)[0] for seed in range(3)]
    without = [{name: part for name, part in one.items() if name != "mission"} for one in seen]
    np.testing.assert_array_equal(value.predict(seen, 0), value.predict(without, 0))
    assert value.act(seen[0]) in (0, 1)
    assert value.space_.features.dtype == np.uint8


class Frames(gymnasium.Env):
    """Four frames as large as those of Atari."""

    observation_space = Box(0, 255, (84, 84, 4), np.uint8)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((84, 84, 4), dtype=np.uint8), {}

    def step(self, action):
        return np.zeros((84, 84, 4), dtype=np.uint8), 1.0, False, False, {}


def test_frames_are_kept_as_bytes():
    n = 84 * 84 * 4
    assert replay.Replay(50_000, n, None, "cpu", dtype=np.uint8)._states.nbytes == 100_000 * n
    tracemalloc.start()
    agent(n_random_steps=20, batch_size=4, replay_size=1000).fit(Frames(), n_steps=22)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2 * 1000 * n < peak < 2 * 1000 * n + 2e7


def test_a_replay_larger_than_the_machine_is_refused(monkeypatch):
    monkeypatch.setattr(replay, "memory", lambda: 2.0**30)
    with pytest.raises(ValueError, match=r"50000 transitions.*2.63 GiB.*has 1\. Lower replay_size"):
        agent(replay_size=50_000).fit(Frames(), n_steps=22)
    agent(replay_size=50, n_random_steps=3).fit(Frames(), n_steps=4)


def test_an_actor_takes_images_as_numbers():
    class Steered(Lamp):
        action_space = Box(-1, 1, (1,))

    copies = gymnasium.vector.SyncVectorEnv([Steered])
    assert environment_space(copies).features.picture is None
