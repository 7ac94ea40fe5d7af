"""Actions that are numbers, or labels of several parts, against processes whose laws are known."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from known_returns import estimator
from sklearn.base import clone

from skbellman.returns.actor_learner import ActorLearner, CautiousLaws
from skbellman.returns.actors import Actor, ActorCriticField
from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.choices import choices_of
from skbellman.returns.fields import BasisReturnField
from skbellman.returns.perceptron import Pass, perceptron
from skbellman.returns.risk import WorstShare, mean, statistic_of, worst_of_atoms
from skbellman.returns.spaces import features_of_space
from skbellman.returns.support import Support
from skbellman.settings import Seeded

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces
LOW, HIGH = -2.0, 6.0  # of actions, u from -1 to 1
HERE = np.zeros((1, 1))


def middle(u):
    return 1 - 0.75 * abs(u - 0.5)


def spread(u):
    return 0.1 + 1.5 * np.maximum(u + 0.2, 0.0)


class Bandit(gymnasium.Env):
    """One action, paid middle - spread or middle + spread by a coin.

    The mean is best at u = .5; that of the worst half, middle - spread, at u = -.2.
    """

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(np.float32(LOW), np.float32(HIGH), (1,))
    ends = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        u = (float(action[0]) - LOW) / (HIGH - LOW) * 2 - 1
        coin = 1 if self.np_random.random() < 0.5 else -1
        return np.zeros(1, dtype=np.float32), middle(u) + coin * spread(u), self.ends, False, {}


def agent(**parameters):
    return estimator(
        **{
            "policy": "greedy", "n_basis": 41, "hidden_layer_sizes": (32, 32), "batch_size": 64,
            "n_random_steps": 200, "n_steps": 900, "learning_rate": "auto", "exploration": 0.3,
        }
        | parameters
    )  # fmt: skip


def learned(risk, n_steps=600, n_rows=128):
    """Return an actor and its critics, who have learned of the bandit from random actions."""
    rng = np.random.default_rng(0)
    with Seeded(0):
        support = Support(1.0, 41)
        basis = support.first(torch.zeros(1))
        critics = [BasisReturnField(2, 1, (32, 32), basis) for _ in range(2)]
        field = ActorCriticField(Actor(1, (32, 32), 1), critics)
    rates = ActorLearner.usual_rate, 0.05
    learner = ActorLearner(field, support, statistic_of(risk), 1.0, *rates)
    state, ends = torch.zeros(n_rows, 1), torch.zeros(n_rows, dtype=torch.bool)
    for step in range(n_steps):
        u = rng.uniform(-1, 1, n_rows // 2).repeat(2)
        coin = np.tile([-1, 1], n_rows // 2)
        reward = torch.tensor(middle(u) + coin * spread(u), dtype=torch.float32)
        learner.support.see(reward)
        learner.support.cover(reward)
        learner.anneal(step / n_steps)
        action = torch.tensor(u, dtype=torch.float32).unsqueeze(-1)
        learner.step(Batch(state, state, action, reward, ends))
    return learner.target.requires_grad_(False)


@pytest.fixture(scope="module")
def by_mean():
    return learned("mean")


@pytest.fixture(scope="module")
def few():
    return agent(n_steps=230).fit(Bandit())


def test_the_actor_finds_the_action_of_the_largest_mean(by_mean):
    assert float(by_mean.actions(torch.zeros(1, 1))) == pytest.approx(0.5, abs=0.15)


def test_another_risk_has_another_best_action():
    careful = learned(("cvar", 0.5))
    assert float(careful.actions(torch.zeros(1, 1))) == pytest.approx(-0.2, abs=0.15)


def test_laws_are_those_of_the_rewards(by_mean):
    u = np.array([-0.8, -0.5, 0.2, 0.5, 0.8])
    inputs = torch.tensor(np.stack([0 * u, u], -1), dtype=torch.float32)
    laws = by_mean.tabulated(inputs, torch.ones(len(u), 1), with_noise=False)
    np.testing.assert_allclose(laws.mean(), middle(u), atol=0.15)
    np.testing.assert_allclose(laws.cvar(0.5), middle(u) - spread(u), atol=0.25)
    quantiles = laws.quantile(np.tile([0.25, 0.75], (len(u), 1)))
    np.testing.assert_allclose(quantiles[:, 0], middle(u) - spread(u), atol=0.3)
    np.testing.assert_allclose(quantiles[:, 1], middle(u) + spread(u), atol=0.3)


def test_an_actor_acts_by_its_own_risk_alone():
    careful = agent(risk=("cvar", 0.5), n_steps=210).fit(Bandit())
    assert careful.act(HERE[0], risk=("cvar", 0.5)) == careful.act(HERE[0])
    with pytest.raises(ValueError, match=r"actor learned for risk=\('cvar', 0.5\).*fit again"):
        careful.act(HERE[0], risk="mean")


def test_what_is_truncated_goes_on():
    class Endless(Bandit):
        ends = False

        def step(self, action):
            seen, _, *rest = super().step(action)
            return seen, 1.0, *rest

    value = agent(gamma=0.5, n_steps=600).fit(gymnasium.wrappers.TimeLimit(Endless(), 10))
    assert value.predict(HERE)[0] == pytest.approx(2.0, abs=0.1)


def random_state():
    return np.random.get_state()[1]  # noqa: NPY002 - the global one is to stay as it is


def test_an_actor_is_like_other_estimators(few):
    states = np.linspace(-1, 1, 7)[:, None]
    before = torch.get_rng_state(), random_state().copy()
    again = clone(few).fit(Bandit())
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], random_state())
    acted = few.act(states)
    assert acted.shape == (7, 1)
    assert acted.dtype == np.float32
    np.testing.assert_allclose(acted, [few.act(state) for state in states], rtol=1e-5)
    np.testing.assert_array_equal(again.act(states), acted)
    loaded = pickle.loads(pickle.dumps(few))
    np.testing.assert_array_equal(loaded.act(states), acted)
    np.testing.assert_array_equal(loaded.predict(states), few.predict(states))
    # The policy's own action is taken where none is given.
    np.testing.assert_allclose(few.predict(states), few.predict(states, acted), atol=1e-4)
    assert few.sample(states, n_samples=3, random_state=0).shape == (7, 3)
    loaded.partial_fit(Bandit(), n_steps=5)
    assert not np.array_equal(loaded.act(states), acted)


def test_actions_never_leave_their_bounds():
    low, high = np.float32([0.1, -0.3, 5.0]), np.float32([0.3, 0.7, 5.0])
    numbers = choices_of(spaces.Box(low, high))[1]
    assert numbers.taken(np.full((1, 3), -1.0))[0].tolist() == low.tolist()
    assert numbers.taken(np.full((1, 3), 1.0))[0].tolist() == high.tolist()
    drawn = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    taken = numbers.taken(drawn)
    assert ((taken >= low) & (taken <= high)).all()
    np.testing.assert_allclose(numbers(taken)[:, :2], drawn[:, :2], atol=1e-5)
    with pytest.raises(ValueError, match=r"of row 1 is not within Box"):
        numbers(np.array([low, high + 1]))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "no finite bounds.*TransformAction"),
        (spaces.Box(-3.4e38, 3.4e38, (2,)), "no finite bounds"),
        (spaces.Box(-1, 1, (0,)), "hold no number, so there is nothing to choose"),
        (spaces.Box(0, 255, (2,), np.uint8), "whole numbers.*MultiDiscrete"),
        (spaces.MultiDiscrete([11, 10, 10]), "has 1100 joint actions.*at most 1000"),
        (spaces.MultiBinary(70), "at most 1000"),
        (spaces.Tuple([spaces.Discrete(2)]), "Discrete, MultiDiscrete, MultiBinary or Box"),
    ],
)
def test_actions_that_cannot_be_chosen_are_refused(space, message):
    environment = Bandit()
    environment.action_space = space
    with pytest.raises(ValueError, match=message):
        agent().fit(environment)


def test_what_is_asked_of_an_actor_has_to_fit(few):
    with pytest.raises(ValueError, match="action_mask needs actions that are labels"):
        few.act(HERE[0], action_mask=[1])
    with pytest.raises(ValueError, match="is not within"):
        few.predict(HERE, [[7.0]])
    wider = Bandit()
    wider.action_space = spaces.Box(-9, 9, (1,))
    with pytest.raises(ValueError, match="other states or actions"):
        few.partial_fit(wider)


@pytest.mark.parametrize("risk", ["mean", ("cvar", 0.5)])
def test_no_state_has_no_action(few, risk):
    assert few.act(np.zeros((0, 1))).shape == (0, 1)
    choice = {
        "state": np.arange(8.0).reshape(4, 2), "action": [*"abab"], "reward": [1.0, 2.0] * 2,
        "next_state": np.arange(8.0).reshape(4, 2), "terminated": [True] * 4,
    }  # fmt: skip
    value = estimator(n_steps=2).fit(choice)
    assert value.act(np.zeros((0, 2)), risk=risk).shape == (0,)
    with pytest.raises(ValueError, match="states have 3 numbers"):
        value.act(np.zeros((0, 3)), risk=risk)


def test_no_state_of_labels_has_no_action():
    space = spaces.MultiDiscrete([2, 3])
    features = features_of_space(space)
    assert features(np.zeros((0, 2), dtype=int)).shape == (0, 6)
    labels, _ = choices_of(space)
    assert labels.taken(labels.codes(np.zeros((0, 2), dtype=int))).shape == (0, 2)


class Parts(gymnasium.Env):
    """Seen by a label and numbers; acted in by a matrix of float64, and by one number."""

    observation_space = spaces.Dict({"here": spaces.Discrete(2), "at": spaces.Box(-1, 1, (2,))})

    def __init__(self, shape=(2, 1)):
        self.action_space = spaces.Box(-1.0, 3.0, shape, np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {"action_mask": [1]}  # of no meaning here

    def step(self, action):
        assert np.shape(action) == self.action_space.shape
        assert np.asarray(action) in self.action_space
        return self.observation_space.sample(), float(np.sum(action)), False, False, {}


@pytest.mark.parametrize("shape", [(2, 1), ()])
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_actions_and_observations_of_any_shape(shape, mode):
    copies = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.wrappers.TimeLimit(Parts(shape), 5)] * 2,
        autoreset_mode=gymnasium.vector.AutoresetMode[mode],
    )
    value = agent(n_random_steps=20, n_steps=40).fit(copies)
    Parts.observation_space.seed(0)
    states = [Parts.observation_space.sample() for _ in range(3)]
    acted = value.act(states)
    assert acted.shape == (3, *shape)
    assert acted.dtype == np.float64
    assert value.act(states[0]).shape == shape
    assert value.act([]).shape == (0, *shape)
    assert value.predict([]).shape == (0,)
    np.testing.assert_allclose(value.predict(states, acted), value.predict(states), atol=1e-4)


class Steps(gymnasium.Env):
    """Three steps, of which one is paid if the action is the one that is wanted."""

    observation_space = spaces.Discrete(4)

    def __init__(self, action_space, wanted):
        self.action_space, self.wanted = action_space, wanted

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return 0, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.place += 1
        paid = self.place == 3 and np.array_equal(action, self.wanted)
        return self.place, float(paid), self.place == 3, False, {}


@pytest.mark.parametrize(
    ("space", "wanted"),
    [
        (spaces.Discrete(3, start=-1), 1),
        (spaces.MultiDiscrete([2, 3], start=[0, 5]), [1, 6]),
        (spaces.MultiBinary(2), [1, 0]),
        (spaces.MultiBinary((2, 1)), [[1], [0]]),
    ],
)
def test_actions_are_those_of_the_space(space, wanted):
    value = estimator(policy="greedy", gamma=0.9, n_random_steps=60).fit(
        Steps(space, wanted), n_steps=200
    )
    np.testing.assert_allclose(value.predict([0, 1, 2]), [0.81, 0.9, 1.0], atol=0.06)
    assert np.array_equal(value.act(2), wanted)
    assert space.contains(np.asarray(value.act(2)) if np.ndim(wanted) else value.act(2))
    np.testing.assert_array_equal(value.act([2, 2]), [wanted, wanted])
    assert value.predict([2], [wanted])[0] == pytest.approx(1.0, abs=0.06)
    with pytest.raises(ValueError, match="unknown action"):
        value.predict([2], [np.asarray(wanted) + 7])


def test_a_risk_to_act_by_is_that_of_the_laws():
    rng = np.random.default_rng(0)
    state, action = rng.integers(3, size=600), rng.integers(2, size=600)
    reward = 1.5 * action + (1 + 2 * action) * rng.standard_normal(600)
    table = {"state": state, "action": action, "reward": reward, "next_state": state,
             "terminated": np.ones(600, bool)}  # fmt: skip
    numbers = table | {"state": state.astype(float), "next_state": state.astype(float)}
    for few in (table, numbers):
        value = estimator(policy="greedy", n_steps=300, n_basis=101).fit(few)
        states = few["state"][:1].repeat(2)
        for share in (0.1, 0.5):
            found = value.field_.worst(value._questions()._inputs(states[:1], None), share)[0]
            exact = value.cvar(states, [0, 1], alpha=share)
            np.testing.assert_allclose(found, exact, atol=0.15)
            assert value.act(states[0], risk=("cvar", share)) == exact.argmax() == 0
        assert value.act(states, risk="mean").tolist() == [1, 1]
        assert value.act(states, action_mask=[[1, 0], [0, 1]]).tolist() == [0, 1]


def test_a_risk_of_the_fit_is_for_actors():
    with pytest.raises(ValueError, match=r"risk=\('cvar', 0.1\) in fit needs a Box.*act"):
        agent(risk=("cvar", 0.1)).fit(Steps(spaces.Discrete(2), 1), n_steps=10)


def laws(n=5, size=31, seed=0):
    basis = GaussianBasis(-2.0, 3.0, size)
    weights = np.random.default_rng(seed).dirichlet(np.full(size, 0.3), n)
    return basis, torch.tensor(weights)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.92, 1.0])
def test_the_worst_share_is_exact_in_the_weights(share):
    basis, weights = laws()
    centres = basis.centres.numpy()
    left = np.full(len(weights), share)
    total = np.zeros(len(weights))
    for k in range(basis.size):  # the worst atoms first
        part = np.minimum(weights[:, k].numpy(), left)
        total, left = total + part * centres[k], left - part
    np.testing.assert_allclose(worst_of_atoms(basis, weights, share), total / share, atol=1e-9)
    values, _ = WorstShare(share)(basis, basis.coordinates(weights))
    np.testing.assert_allclose(values, total / share, atol=1e-9)


@pytest.mark.parametrize("risk", ["mean", ("cvar", 0.2), ("cvar", 1.0)])
def test_slopes_are_those_of_the_values(risk):
    basis, weights = laws()
    coordinates = basis.coordinates(weights)
    statistic = statistic_of(risk)
    values, slopes = statistic(basis, coordinates)
    step = 1e-6 * torch.randn(coordinates.shape, generator=torch.Generator().manual_seed(0))
    moved, _ = statistic(basis, coordinates + step)
    np.testing.assert_allclose(moved - values, (slopes * step).sum(-1), rtol=1e-3, atol=1e-10)


def test_gradients_of_the_actor_are_those_of_autograd():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        actor = Actor(3, (8, 8), 2)
        critic = BasisReturnField(5, 1, (8, 8), GaussianBasis(-1.0, 1.0, 15))
        states = torch.randn(6, 3)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.grad = torch.zeros_like(parameter)
        actions, back = actor.actions_and_back(states)
        slopes = critic.slopes_by_inputs(torch.cat([states, actions], -1), mean)
        back(slopes[:, 3:])
    by_hand = [parameter.grad.clone() for parameter in actor.parameters()]
    actor.zero_grad()
    chosen = actor(states)
    critic.means(torch.cat([states, chosen], -1)).sum().backward()
    for own, parameter in zip(by_hand, actor.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, atol=1e-6, rtol=1e-4)


def test_laws_go_from_the_lower_of_two_to_their_mixture():
    with Seeded(0):
        basis = GaussianBasis(-1.0, 1.0, 15)
        critics = [BasisReturnField(3, 1, (8,), basis) for _ in range(2)]
        field = ActorCriticField(Actor(2, (8,), 1), critics)
        states = torch.randn(50, 2)
    batch = Batch(states, states, states[:, :1], states[:, 0], states[:, 0] > 9)
    after = CautiousLaws(mean)
    with torch.no_grad():
        twins = field.twins(field.with_own_actions(states))
        means = basis.means(twins)
        assert (means[0] < means[1]).any()
        assert (means[0] > means[1]).any()
        lower = basis.means(after(field, field, batch))
        torch.testing.assert_close(lower, means.amin(0))
        after.caution = 0.25
        blended = basis.means(after(field, field, batch))
        torch.testing.assert_close(blended, 0.25 * lower + 0.75 * means.mean(0))


def test_slopes_by_inputs_without_hidden_layers():
    network = perceptron(3, (), 2)
    slopes = torch.ones(4, 2)
    found = Pass(network, torch.zeros(4, 3)).slopes_by_inputs(slopes)
    torch.testing.assert_close(found, slopes @ network[0].weight.detach())


@pytest.mark.slow
def test_pendulum_is_swung_up():
    value = agent(
        gamma=0.99, n_basis=101, hidden_layer_sizes=(128, 128), batch_size=128,
        n_random_steps=1000, exploration=0.1, exploration_fraction=0.0,
    ).fit("Pendulum-v1", n_steps=10_000)  # fmt: skip
    assert np.mean(value.history_["return"][-10:]) > -250
