"""Laws of returns made of fitted ones, against exact laws of small processes."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import skops.io
from known_returns import PROBABILITIES, chain, chain_laws, estimator, numbered
from scipy import stats
from sklearn.base import clone

from skbellman import (
    DistributionalValueEstimator,
    ImprovedReturns,
    MixtureOfReturns,
    RescaledReturns,
    SumOfReturns,
)
from skbellman.io import TRUSTED
from skbellman.returns.combined import in_units, mixture_of, sum_of
from skbellman.returns.laws import TabulatedLaws

GAMMA = 0.8


def loop(n_rows=4000, mean=1.0, seed=0):
    """Return steps of one state for ever, with Gaussian rewards: the return is Gaussian."""
    reward = mean + np.random.default_rng(seed).standard_normal(n_rows)
    return pd.DataFrame({"state": 0, "reward": reward, "next_state": 0, "terminated": False})


def loop_law(table, gamma=GAMMA):
    """Return the exact law of the process that the rows describe, but for its shape."""
    reward = table.reward
    return stats.norm(reward.mean() / (1 - gamma), reward.std(ddof=0) / np.sqrt(1 - gamma**2))


def coin(p, high=1.0):
    """Return steps of one state that end at once, with the reward 0 or a high one."""
    rewards = np.repeat([0.0, high], [round(100 * (1 - p)), round(100 * p)])
    return pd.DataFrame({"state": "s", "reward": rewards, "next_state": "s", "terminated": True})


def choices():
    """Return steps after three actions: safe, daring, bad.

    They lead to a second state, where a coin of 0 or 1 ends the return.
    """
    second = pd.DataFrame({"state": 1, "action": ["safe"] * 2 + ["daring"] * 2 + ["bad"] * 2})
    second = second.assign(reward=[0.0, 1.0] * 3, next_state=1, terminated=True)
    rewards = {"safe": [2.0], "daring": [6.0, 6.0, 6.0, -6.0], "bad": [-7.0]}
    first = pd.DataFrame(
        [(0, action, reward) for action, each in rewards.items() for reward in each],
        columns=["state", "action", "reward"],
    ).assign(next_state=1, terminated=False)
    return pd.concat([first, second], ignore_index=True)


@pytest.fixture(scope="module")
def ended():
    return estimator(gamma=GAMMA).fit(chain())


@pytest.fixture(scope="module")
def endless():
    return estimator(gamma=GAMMA).fit(loop())


@pytest.fixture(scope="module")
def coins():
    return [estimator().fit(coin(p, high)) for p, high in ((0.5, 1.0), (0.25, 2.0))]


@pytest.fixture(scope="module")
def choice():
    return estimator(policy="greedy", gamma=0.5, n_basis=101).fit(choices())


def w1(laws, exact, *states):
    """Return W1 to the quantiles of the exact law, in its deviations."""
    found = laws.quantile(*states, q=PROBABILITIES)[0]
    return np.abs(found - exact.ppf(PROBABILITIES)).mean() / exact.std()


def test_a_mixture_of_policies_is_exact_however_far_apart_they_are(ended):
    """At -3 and 1e6: cells between both would be 400 wide, four hundred deviations of a part."""
    far = RescaledReturns(estimator(gamma=GAMMA).fit(loop(mean=2e5)), scale=1.0)
    near = estimator(gamma=GAMMA).fit(loop(mean=-0.6))
    both = MixtureOfReturns([near, far], [30, 70])
    for q, part in ((0.3 * PROBABILITIES, near), (0.3 + 0.7 * PROBABILITIES, far)):
        found = both.quantile([0], q=q)
        np.testing.assert_allclose(found, part.quantile([0], q=PROBABILITIES), rtol=1e-9, atol=1e-3)
    exact = loop_law(loop(mean=-0.6))
    density = both.score_samples([0], returns=[exact.mean()])
    assert density[0] == pytest.approx(np.log(0.3) + exact.logpdf(exact.mean()), abs=0.03)
    mean = 0.3 * near.predict([0]) + 0.7 * far.predict([0])
    np.testing.assert_allclose(both.predict([0]), mean, rtol=1e-12)
    spread = np.sqrt(0.3 * 0.7) * (far.predict([0]) - near.predict([0]))
    np.testing.assert_allclose(both.std([0]), spread, rtol=1e-6)
    assert both.cvar([0], alpha=0.3)[0] == pytest.approx(near.predict([0])[0], abs=1e-2)


def test_a_policy_chosen_anew_at_every_step_is_no_mixture_of_laws():
    """Of two policies that earn 1 or -1 for ever: 5 or -5, or anything between."""
    table = pd.DataFrame(
        {"state": 0, "action": [0, 1], "reward": [1.0, -1.0], "next_state": 0, "terminated": False}
    )
    good, bad, anew = (
        estimator(gamma=GAMMA, policy=np.array([[1 - share, share]])).fit(table)
        for share in (0.0, 1.0, 0.5)
    )
    once = MixtureOfReturns([good, bad], [1, 1])
    np.testing.assert_allclose(once.predict([0]), anew.predict([0]), atol=1e-6)
    assert once.std([0])[0] == pytest.approx(5.0, rel=1e-3)
    assert anew.std([0])[0] == pytest.approx(1 / np.sqrt(1 - GAMMA**2), rel=1e-3)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (-2.0, 0.5), (1e-3, -7.0)])
def test_other_units_of_the_reward(endless, scale, shift):
    found = RescaledReturns(endless, scale=scale, shift=shift)
    refit = loop().assign(reward=lambda t: scale * t.reward + shift)
    exact = loop_law(refit)
    assert found.predict([0])[0] == pytest.approx(exact.mean(), rel=1e-9)
    assert found.std([0])[0] == pytest.approx(exact.std(), rel=1e-6)
    assert w1(found, exact, [0]) < 0.02
    worst = exact.mean() - exact.std() * stats.norm.pdf(stats.norm.ppf(0.1)) / 0.1
    assert found.cvar([0], alpha=0.1)[0] == pytest.approx(worst, abs=0.03 * exact.std())
    assert found.cdf([0], returns=exact.ppf(0.2))[0] == pytest.approx(0.2, abs=0.01)
    log_density = found.score_samples([0], returns=[exact.ppf(0.2)])[0]
    assert log_density == pytest.approx(exact.logpdf(exact.ppf(0.2)), abs=0.05)


def test_a_shift_adds_what_the_fitted_discount_says():
    value = estimator(gamma=0.5).fit(loop(mean=1.0)).set_params(gamma=0.9)
    assert RescaledReturns(value, shift=1.0).predict([0]) == pytest.approx([4.0], rel=0.01)


def test_a_shift_of_rewards_is_refused_where_returns_end(ended, endless, choice):
    states = [0, 1, 2]
    doubled = RescaledReturns(ended, scale=2.0)
    np.testing.assert_allclose(doubled.predict(states), 2 * ended.predict(states))
    np.testing.assert_allclose(doubled.std(states), 2 * ended.std(states))
    shifted = RescaledReturns(ended, shift=1.0)
    for question in (shifted.predict, shifted.std, shifted.sample):
        with pytest.raises(ValueError, match="depends on the length of the episode"):
            question(states)
    for combined, refusal in (
        (MixtureOfReturns([ended, endless], [1, 1]), "length of the episode"),
        (ImprovedReturns(choice), "length of the episode"),
        (SumOfReturns([endless, endless]), "RescaledReturns for each part"),
        (MixtureOfReturns([endless, estimator(gamma=0.5).fit(loop())], [1, 1]), "discounts"),
    ):
        with pytest.raises(ValueError, match=refusal):
            RescaledReturns(combined, shift=1.0).predict([0])
    same = MixtureOfReturns([endless, endless], [1, 1])
    again = RescaledReturns(RescaledReturns(same, shift=1.0, scale=2.0), shift=-1.0, scale=0.5)
    np.testing.assert_allclose(again.predict([0]), endless.predict([0]) - 2.5)


def test_ends_are_remembered():
    table = loop(200)
    value = estimator(n_steps=5).fit(table)
    assert not value.ends_
    value.partial_fit(table.assign(terminated=True))
    assert value.ends_
    assert value.partial_fit(table).ends_
    assert not value.fit(table).ends_
    network = estimator(n_steps=2, gamma=0.0).fit(numbered(table))
    assert not network.ends_


def test_a_sum_of_independent_returns_is_a_convolution(ended):
    """Of Gaussian returns: Gaussian. The weights are units."""
    parts = [ended, RescaledReturns(ended, scale=-0.5), ended]
    both = SumOfReturns(parts)
    asked = [[0, 1], [2, 2], [1, 0]]
    laws = chain_laws(GAMMA)
    means, variances = laws.mean()[:, 0], laws.var()[:, 0]
    for row, (a, b, c) in enumerate(zip(*asked, strict=True)):
        exact = stats.norm(
            means[a] - 0.5 * means[b] + means[c],
            np.sqrt(variances[a] + 0.25 * variances[b] + variances[c]),
        )
        states = [[part[row]] for part in asked]
        assert both.predict(states)[0] == pytest.approx(exact.mean(), abs=0.15)
        assert both.std(states)[0] == pytest.approx(exact.std(), rel=0.03)
        assert w1(both, exact, states) < 0.06
    found = sum(part.predict(states) for part, states in zip(parts, asked, strict=True))
    np.testing.assert_allclose(both.predict(asked), found, rtol=1e-12)
    drawn = both.sample(asked, n_samples=4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(1), both.predict(asked), atol=0.1)


def test_a_sum_of_atoms_has_the_products_of_their_probabilities(coins):
    both = SumOfReturns([*coins, coins[0]])
    found = both.cdf([["s"]] * 3, returns=[-0.5, 0.5, 1.5, 2.5, 3.5])[0]
    exact = np.cumsum([0.0, 0.1875, 0.375, 0.25, 0.125])  # P(2 coins = 0, 1, 2) = 1/4, 1/2, 1/4
    np.testing.assert_allclose(found, exact, atol=0.005)
    np.testing.assert_allclose(both.cvar([["s"]] * 3, alpha=0.1875), 0, atol=0.03)


def test_tabulated_sums_keep_moments_and_atoms_at_any_scale():
    """A narrow law beside a wide one, and many parts."""
    edges = np.linspace(0, 1, 201)
    skew = TabulatedLaws(edges, stats.beta(2, 5).pdf((edges[1:] + edges[:-1]) / 2)[None])
    narrow = in_units(skew, -1e-7, 1e3)
    both = sum_of([skew, narrow])
    np.testing.assert_allclose(both.mean(), skew.mean() + narrow.mean(), rtol=1e-12)
    np.testing.assert_allclose(both.deviation(), skew.deviation(), rtol=1e-9)
    q = np.array([[0.01, 0.3, 0.9]])
    np.testing.assert_allclose(both.quantile(q) - narrow.mean(), skew.quantile(q), atol=2e-3)
    many = sum_of([skew] * 50)
    z, skewness = stats.norm.ppf(q[0]), stats.beta(2, 5).stats("s") / np.sqrt(50)
    exact = z + skewness * (z**2 - 1) / 6  # Cornish and Fisher's expansion
    found = (many.quantile(q)[0] - 50 * skew.mean()) / (np.sqrt(50) * skew.deviation())
    np.testing.assert_allclose(found, exact, atol=0.01)
    np.testing.assert_allclose(sum_of([skew]).quantile(q), skew.quantile(q), atol=1e-3)


def test_tabulated_mixtures_and_units_are_exact():
    edges = np.linspace(-1, 1, 41)
    density = np.random.default_rng(0).random((2, 40))
    laws = TabulatedLaws(edges, density, np.array([0.0, 5.0]), np.array([1.0, 2.0]))
    turned = in_units(laws, -2.0, 1.0)
    x = np.array([[0.31, -0.62], [4.02, 6.13]])
    np.testing.assert_allclose(turned.cdf(1 - 2 * x), 1 - laws.cdf(x), atol=1e-12)
    both = mixture_of([laws, turned, in_units(turned, 1.0, 40.0)], np.array([0.2, 0.5, 0.3]))
    exact = 0.2 * laws.cdf(x) + 0.5 * turned.cdf(x)
    np.testing.assert_allclose(both.cdf(x), exact, atol=1e-12)
    at = x[:, 0]
    exact = 0.2 * laws.density(at) + 0.5 * turned.density(at)
    np.testing.assert_allclose(both.density(at), exact, rtol=1e-9)
    np.testing.assert_allclose(
        both.cdf(both.quantile(np.array([[0.25], [0.75]]))), [[0.25], [0.75]]
    )
    centred = [each.mean() for each in (laws, turned)]
    mean = 0.2 * centred[0] + 0.8 * centred[1] + 0.3 * 40
    np.testing.assert_allclose(both.mean(), mean, rtol=1e-9)


def test_a_mixture_has_no_density_beyond_equal_ends_of_its_parts():
    laws = TabulatedLaws(np.linspace(0, 1, 5), np.ones((1, 4)))
    both = mixture_of([laws, laws], np.array([0.5, 0.5]))
    with np.errstate(all="raise"):
        found = [both.density(np.array([x])).item() for x in (-9.0, 0.0, 0.5, 1.0, 9.0)]
    np.testing.assert_allclose(found, [0, 1, 1, 0, 0])


def test_the_first_action_may_be_best_for_another_risk(choice):
    """The second reward is a coin, worth half: safe gives 2 or 2.5, daring 6, 6.5, -6 or -5.5."""
    careful = ImprovedReturns(choice, risk=("cvar", 0.25))
    assert choice.act(0) == "daring"
    assert careful.act(0) == "safe"
    assert careful.act([0, 0]).tolist() == ["safe", "safe"]
    assert careful.act(0, action_mask=[True, True, False]) == "daring"  # "bad" is the other
    np.testing.assert_allclose(choice.predict([0]), 3.25, atol=1e-6)
    np.testing.assert_allclose(careful.predict([0]), 2.25, atol=1e-6)
    np.testing.assert_allclose(careful.std([0]), 0.25, atol=1e-6)
    np.testing.assert_allclose(careful.cvar([0], alpha=0.25), 2.0, atol=0.15)
    np.testing.assert_allclose(careful.predict([0], ["bad"]), -6.75, atol=1e-6)
    np.testing.assert_allclose(ImprovedReturns(choice).quantile([0], q=0.9), 6.5, atol=0.3)


def test_a_policy_of_a_table_is_improved_by_one_step():
    """It takes each action as often; from the second step on it goes on to do so."""
    table = choices()
    uniform = estimator(policy=lambda s: np.full((len(s), 3), 1 / 3), gamma=0.5).fit(table)
    better = ImprovedReturns(uniform)
    np.testing.assert_allclose(uniform.predict([0]), (2 + 3 - 7) / 3 + 0.25, atol=1e-5)
    np.testing.assert_allclose(better.predict([0]), 3.25, atol=1e-5)
    again = estimator(policy=better.act, gamma=0.5).fit(table)
    np.testing.assert_allclose(again.predict([0, 1]), [3.25, 0.5], atol=1e-5)


def test_what_cannot_be_improved_is_refused(choice, endless):
    with pytest.raises(TypeError, match="Improve the parts"):
        ImprovedReturns(MixtureOfReturns([choice], [1]))
    with pytest.raises(ValueError, match="risk must be"):
        ImprovedReturns(choice, risk=0.1)
    with pytest.raises(ValueError, match="needs a choice of actions"):
        ImprovedReturns(endless).predict([0])


COMBINED = {
    "mixture": lambda value: (MixtureOfReturns([value, value], [1, 3]), [0, 1]),
    "sum": lambda value: (SumOfReturns([value, value]), [[0, 1], [1, 1]]),
    "units": lambda value: (RescaledReturns(value, scale=2.0), [0, 1]),
    "improved": lambda value: (ImprovedReturns(value, ("cvar", 0.2)), [0, 1]),
}


@pytest.mark.parametrize("kind", COMBINED)
def test_contracts(choice, kind):
    combined, states = COMBINED[kind](choice)
    before = combined.quantile(states, q=[0.1, 0.5])
    assert before.shape == (2, 2)
    assert combined.predict(states).shape == combined.std(states).shape == (2,)
    assert combined.interval(states).shape == (2, 2)
    assert combined.score_samples(states, returns=combined.predict(states)).shape == (2,)
    loaded = pickle.loads(pickle.dumps(combined))
    trusted = skops.io.loads(skops.io.dumps(combined), trusted=TRUSTED)
    for again in (loaded, trusted):
        np.testing.assert_array_equal(again.quantile(states, q=[0.1, 0.5]), before)
    draws = (each.sample(states, n_samples=3, random_state=1) for each in (combined, loaded))
    np.testing.assert_array_equal(*draws)
    assert set(clone(combined, safe=False).get_params(deep=False)) == set(
        combined.get_params(deep=False)
    )
    mixed = MixtureOfReturns([combined, RescaledReturns(combined, scale=-1.0)], [1, 1])
    np.testing.assert_allclose(mixed.predict(states), 0, atol=1e-9)


@pytest.mark.parametrize("weights", [[1.0], [np.inf, 1.0], [np.nan, 1.0], [0.0, 0.0], [-1.0, 2.0]])
def test_weights_are_checked(choice, weights):
    with pytest.raises(ValueError, match="weights must be 2 numbers"):
        MixtureOfReturns([choice, choice], weights)
    with pytest.raises(ValueError, match="weights must be 2 numbers"):
        MixtureOfReturns([choice, choice], [1, 1]).set_params(weights=weights).predict([0])


def test_bad_units_and_sums_are_refused(choice):
    for wrong in ({"scale": 0.0}, {"scale": np.nan}, {"shift": np.inf}):
        with pytest.raises(ValueError, match="scale must be finite and not 0"):
            RescaledReturns(choice, **wrong)
    both = SumOfReturns([choice, choice])
    for wrong in ([0, 1, 1], np.array([0, 1]), [[0]]):
        with pytest.raises(ValueError, match="states must be a list of 2"):
            both.predict(wrong)
    with pytest.raises(ValueError, match="actions must be a list of 2"):
        both.predict([[0], [0]], ["safe"])
    for question in (both.predict, both.std):
        with pytest.raises(ValueError, match=r"different numbers of states: \[2, 1\]"):
            question([[0, 0], [0]])
    np.testing.assert_allclose(both.predict([[0], [0]], [["bad"], None]), -3.5, atol=1e-5)


def test_what_is_no_law_is_named(choice):
    for wrong in (None, "x", 3, DistributionalValueEstimator):
        for make in (lambda e: RescaledReturns(e), lambda e: ImprovedReturns(e)):
            with pytest.raises(TypeError, match="estimator must be a fitted Distributional"):
                make(wrong)
        for make in (SumOfReturns, lambda e: MixtureOfReturns(e, [1, 1])):
            with pytest.raises(TypeError, match=r"estimators\[1\] must be a fitted Distributional"):
                make([choice, wrong])
            with pytest.raises(TypeError, match="estimators must be a list with at least one"):
                make(wrong)
    with pytest.raises(TypeError, match="at least one"):
        SumOfReturns([])


def test_values_that_are_no_numbers_are_named(choice):
    for wrong in ("2", [1.0, 2.0], 1j, object()):
        for name in ("scale", "shift"):
            with pytest.raises(ValueError, match=f"{name} must be a number, got"):
                RescaledReturns(choice, **{name: wrong})
        with pytest.raises(ValueError, match="alpha must be a number"):
            choice.cvar([0], alpha=wrong)
        with pytest.raises(ValueError, match="alpha must be a number"):
            ImprovedReturns(choice, risk=("cvar", wrong))
        with pytest.raises(ValueError, match="coverage must be a number"):
            choice.interval([0], coverage=wrong)
    for wrong in ("ab", ["a", "b"], {0: 1}, [1j, 2]):
        with pytest.raises(ValueError, match="weights must be a number or a list"):
            MixtureOfReturns([choice, choice], wrong)
        with pytest.raises(ValueError, match="q must be a number or a list"):
            choice.quantile([0], q=wrong)
        with pytest.raises(ValueError, match="returns must be a number or a list"):
            choice.cdf([0], returns=wrong)
    with pytest.raises(ValueError, match="returns must be a number or a list"):
        choice.score_samples([0, 0], returns=["a", "b"])
    large = RescaledReturns(choice, scale=1e308)
    for question in (large.predict, large.std, large.sample):
        with pytest.raises(ValueError, match=r"scale=1e\+308 and shift=0.0 make returns too large"):
            question([0])


def test_no_states_have_no_answers(choice):
    for law in (choice, RescaledReturns(choice, -1.0), MixtureOfReturns([choice, choice], [1, 1])):
        assert law.predict([]).shape == law.std([]).shape == law.cvar([]).shape == (0,)
        assert law.quantile([], q=[0.1, 0.2]).shape == law.interval([]).shape == (0, 2)
        assert law.cdf([], returns=[1.0, 2.0]).shape == law.sample([], n_samples=2).shape == (0, 2)


def test_answers_by_row(ended):
    laws, states = chain_laws(GAMMA), [0, 1, 2]
    np.testing.assert_allclose(ended.std(states), laws.std()[:, 0], rtol=0.03)
    exact = np.column_stack([laws.ppf(0.1), laws.ppf(0.9)])
    np.testing.assert_allclose(ended.interval(states, coverage=0.8), exact, atol=0.15)
    own = laws.ppf([0.2, 0.7])
    np.testing.assert_allclose(ended.cdf(states, returns=own), [[0.2, 0.7]] * 3, atol=0.04)
    with pytest.raises(ValueError, match="a row for each of the 3 states; got 2 rows"):
        ended.cdf(states, returns=[[0.0], [1.0]])
    for wrong in (1.1, -0.1, np.nan):
        with pytest.raises(ValueError, match="coverage must be"):
            ended.interval(states, coverage=wrong)
