"""Where returns are: exact moments of small processes, supports, and laws that keep them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from skbellman import DistributionalValueEstimator, MixtureOfReturns
from skbellman.returns import GaussianBasis, TabulatedLaws
from skbellman.returns.basis import cubic_weights, linear_weights
from skbellman.returns.bellman import push_forward
from skbellman.returns.combined import mixture_of
from skbellman.returns.moments import bounds, moments
from skbellman.returns.simplex import law_of_mean
from skbellman.returns.tabular import Table, evaluated, with_few_rewards


def on_the_spot(n_rows, reward=1.0, ended=(), **parts):
    """Return transitions of one state that leads to itself until a row ends."""
    zeros = np.zeros(n_rows, dtype=int)
    terminated = np.isin(np.arange(n_rows), ended)
    reward = np.broadcast_to(np.asarray(reward, dtype=float), n_rows)
    return {"state": zeros, "reward": reward, "next_state": zeros, "terminated": terminated} | parts


def geometric(reward, ended, gamma):
    """Return mean and deviation of the return of one state, by its own recursion."""
    share = 1 - np.mean(ended)
    mean = np.mean(reward) / (1 - gamma * share)
    after = reward + gamma * mean * ~ended
    second = (after**2).mean() - mean**2
    return mean, np.sqrt(max(second, 0) / (1 - gamma**2 * share))


def fitted(table, gamma, **parameters):
    return DistributionalValueEstimator(gamma=gamma, random_state=0, **parameters).fit(table)


@pytest.mark.parametrize("n_basis", [51, 101, pytest.param(401, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("table", "gamma", "right"),
    [
        (on_the_spot(200, ended=[199]), 0.99, 66.8896),
        (on_the_spot(200), 0.98, 50.0),
        (on_the_spot(200), 0.99, 100.0),
        (on_the_spot(200), 0.995, 200.0),
        (on_the_spot(200), 0.999, 1000.0),
        (on_the_spot(2000, -1.0, ended=range(0, 2000, 20)), 1.0, -20.0),
        (on_the_spot(50, ended=[49]), 1.0, 50.0),
        (on_the_spot(200, ended=[199]), 1.0, 200.0),
    ],
)
def test_expected_returns_are_exact(table, gamma, right, n_basis):
    value = fitted(table, gamma, n_basis=n_basis)
    assert value.predict([0])[0] == pytest.approx(right, rel=1e-5)
    drawn = value.quantile([0], q=(np.arange(2000) + 0.5) / 2000)[0]
    assert drawn.mean() == pytest.approx(right, rel=2e-3)
    _, deviation = geometric(table["reward"], table["terminated"], gamma)
    assert drawn.std() == pytest.approx(deviation, rel=0.02, abs=1e-6 * abs(right))


@pytest.mark.parametrize("policy", ["greedy", np.array([[0.5, 0.5]])])
def test_two_actions_that_are_alike(policy):
    action = np.arange(400) % 2
    table = on_the_spot(400, ended=[398, 399], action=action)
    value = fitted(table, 0.99, policy=policy)
    assert value.predict([0])[0] == pytest.approx(66.8896, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-300, 1e-4, 1e4, -1e4, -1e-4])
@pytest.mark.parametrize("gamma", [0.9, pytest.param(0.999, marks=pytest.mark.slow), 1.0])
def test_rewards_of_any_scale_and_sign(scale, gamma):
    rng = np.random.default_rng(0)
    reward = scale * (1 + rng.standard_normal(3000))
    table = on_the_spot(3000, reward, ended=range(0, 3000, 30))
    mean, deviation = geometric(reward, table["terminated"], gamma)
    value = fitted(table, gamma)
    assert value.predict([0])[0] == pytest.approx(mean, rel=1e-5)
    drawn = value.quantile([0], q=(np.arange(2000) + 0.5) / 2000)[0]
    assert drawn.std() == pytest.approx(deviation, rel=0.01)


def test_states_of_different_scales_have_laws_of_their_own():
    """A state whose returns are a thousandth as wide, and far from the others."""
    rng = np.random.default_rng(0)
    state = rng.integers(2, size=4000)
    reward = np.where(
        state == 0, 100.0 + rng.standard_normal(4000), 0.001 * rng.standard_normal(4000)
    )
    table = {"state": state, "reward": reward, "next_state": state, "terminated": state >= 0}
    value = fitted(table, 0.9)
    for z in (0, 1):
        own = reward[state == z]
        q = value.quantile([z], q=(np.arange(1000) + 0.5) / 1000)[0]
        assert q.mean() == pytest.approx(own.mean(), abs=1e-3 * own.std())
        assert q.std() == pytest.approx(own.std(), rel=0.01)


def test_worst_tenth_of_costs_until_the_end():
    table = on_the_spot(20_000, -1.0, ended=range(0, 20_000, 20))
    value = fitted(table, 1.0)
    n_steps = stats.geom(0.05)
    wait = n_steps.ppf((np.arange(100_000) + 0.5) / 100_000)
    exact = -np.sort(wait)[-10_000:].mean()
    assert value.cvar([0])[0] == pytest.approx(exact, abs=0.08 * wait.std())
    levels = (np.arange(500) + 0.5) / 500
    gap = value.quantile([0], q=levels)[0] + n_steps.ppf(1 - levels)
    assert np.abs(gap).mean() < 0.03 * wait.std()


def test_moments_equal_those_of_simulated_returns():
    rng = np.random.default_rng(0)
    chance = rng.dirichlet(np.ones(4), size=3)
    table = walk_table(chance, np.array([1.0, -2.0, 0.5]), rng)
    steps = evaluated(table, 0.8, str)
    found, (low, high) = moments(steps), bounds(steps, 0.8)
    state, total, discount = np.zeros(40_000, dtype=int), np.zeros(40_000), 1.0
    alive = np.ones(40_000, dtype=bool)
    for _ in range(60):
        total += discount * alive * np.array([1.0, -2.0, 0.5, 0.0])[state]
        after = (rng.random((40_000, 1)) > np.vstack([chance, [0, 0, 0, 1]])[state].cumsum(1)).sum(
            1
        )
        state, discount = after.clip(0, 3), discount * 0.8
        alive &= state < 3
    centred = total - total.mean()
    assert found.mean[0] == pytest.approx(total.mean(), abs=0.02)
    assert found.variance[0] == pytest.approx((centred**2).mean(), rel=0.03)
    assert found.fourth[0] == pytest.approx((centred**4).mean(), rel=0.08)
    assert low[0] <= total.min()
    assert total.max() <= high[0]


def walk_table(chance, reward, rng):
    """Return a table of three states whose steps have exactly given chances; state 3 ends."""
    state, after = np.divmod(np.arange(12), 4)
    return Table(
        state=state,
        action=np.zeros(12, dtype=int),
        next_state=np.minimum(after, 2),
        reward=reward[state],
        follows=after < 3,
        count=chance.ravel(),
        policy=np.ones((12, 1)),
        mask=np.ones((12, 1), dtype=bool),
        n_states=3,
    )


def test_a_loop_that_pays_for_ever_is_refused_and_one_that_pays_nothing_is_not():
    table = {
        "state": ["a", "b", "c"],
        "reward": [1.0, 2.0, 5.0],
        "next_state": ["b", "b", "c"],
        "terminated": [False, False, True],
    }
    with pytest.raises(ValueError, match=r"return of state 'a' is infinite.*Use gamma below 1"):
        fitted(table, 1.0)
    value = fitted(table | {"reward": [1.0, 0.0, 5.0]}, 1.0)
    np.testing.assert_allclose(value.predict(["a", "b", "c"]), [1.0, 0.0, 5.0], atol=1e-9)


def test_many_rewards_are_binned_without_a_change_of_mean():
    rng = np.random.default_rng(0)
    table = on_the_spot(60_000, rng.standard_normal(60_000), ended=range(0, 60_000, 4))
    counts = Table(
        state=table["state"], action=table["state"], next_state=table["state"],
        reward=table["reward"], follows=~table["terminated"], count=np.ones(60_000),
        policy=np.ones((60_000, 1)), mask=np.ones((60_000, 1), dtype=bool), n_states=1,
    )  # fmt: skip
    steps = evaluated(counts, 0.9, str)
    few = with_few_rewards(steps, GaussianBasis(-8.0, 8.0, 101))
    assert len(few.pair) < 3000
    exact, found = moments(steps), moments(few)
    np.testing.assert_allclose(found.mean, exact.mean, atol=1e-12)
    np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-3)


@pytest.mark.parametrize(("weights", "n_kept"), [(linear_weights, 2), (cubic_weights, 4)])
def test_interpolated_atoms_keep_their_moments(weights, n_kept):
    place = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 18 + 1
    node, share = weights(place, 21)
    for power in range(n_kept):
        torch.testing.assert_close((share * node.double() ** power).sum(-1), place**power)
    ends = torch.tensor([-3.0, 25.0], dtype=torch.float64)
    node, share = weights(ends, 21)
    torch.testing.assert_close((share * node).sum(-1), torch.tensor([0.0, 20.0]).double())


def test_push_forward_is_linear_and_has_a_discount_for_each_row():
    basis = GaussianBasis(-6.0, 6.0, 101)
    normal = torch.exp(-0.5 * basis.centres**2)
    weights = (normal / normal.sum()).expand(3, -1)
    reward, discount = (
        torch.tensor([0.5, -1.0, 2.0]).double(),
        torch.tensor([0.9, 0.3, 0.0]).double(),
    )
    pushed = push_forward(basis, reward, discount, weights)
    mean = pushed @ basis.centres
    torch.testing.assert_close(mean, reward)
    torch.testing.assert_close(pushed @ basis.centres**2 - mean**2, discount**2, atol=1e-6, rtol=0)


def test_a_law_of_the_mean_is_a_law_and_has_the_mean():
    generator = torch.Generator().manual_seed(0)
    place = torch.linspace(0, 1, 51)
    law = torch.exp(-0.5 * ((place - 0.8) / 0.05).square())
    noise = 0.003 * torch.randn(500, 51, generator=generator)
    noisy = law / law.sum() + noise - noise.mean(-1, keepdim=True)
    found = law_of_mean(noisy)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(500))
    gap = (found - noisy) @ place
    assert gap.abs().max() < 1e-3
    assert gap.mean().abs() < 1e-4


def test_laws_in_frames_of_their_own():
    edges = np.linspace(-5, 5, 1001)
    middle = (edges[1:] + edges[:-1]) / 2
    centre, scale = np.array([100.0, -3.0]), np.array([10.0, 0.01])
    laws = TabulatedLaws(edges, np.stack([stats.norm.pdf(middle)] * 2), centre, scale)
    exact = stats.norm(centre, scale)
    np.testing.assert_allclose(laws.mean(), centre)
    np.testing.assert_allclose(laws.deviation(), scale, rtol=1e-3)
    np.testing.assert_allclose(laws.density(centre), exact.pdf(centre), rtol=1e-3)
    q = np.array([[0.1, 0.5, 0.9]] * 2)
    points = exact.ppf(q.T).T
    np.testing.assert_allclose(laws.quantile(q), points, atol=0.01 * scale[:, None].max())
    np.testing.assert_allclose(laws.cdf(points), q, atol=1e-3)
    moved = laws.moved_to(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    np.testing.assert_allclose(moved.mean(), [1.0, 2.0])
    np.testing.assert_allclose(moved.deviation(), [3.0, 4.0])
    both = mixture_of([laws, moved], np.array([0.3, 0.7]))
    np.testing.assert_allclose(both.mean(), 0.3 * centre + 0.7 * moved.mean(), atol=0.05)


def test_a_mixture_of_policies_has_the_mean_of_the_means():
    low, high = (fitted(on_the_spot(200, r, ended=[199]), 0.99) for r in (1.0, -2.0))
    both = MixtureOfReturns([low, high], [0.25, 0.75])
    expected = 0.25 * low.predict([0]) + 0.75 * high.predict([0])
    np.testing.assert_allclose(both.predict([0]), expected)
