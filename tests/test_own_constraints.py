"""Samples of an estimator keep its own constraints; the table has to keep them too."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from test_restrictions import fitted

from skbellman import BellmanDiffusionDensity, BellmanImputer, ShardedDensity, TableEncoder
from skbellman.algebra import compare, mixture
from skbellman.constraints import KnownCombinations, Unique, as_scored, sample_constrained

PLACES = [("Oslo", "NO"), ("Lyon", "FR"), ("Nice", "FR")]


def trips(n_rows=300, seed=0, places=PLACES):
    """Return trips that end after they start, between known places."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=n_rows)
    city, country = np.array(places)[rng.integers(0, len(places), n_rows)].T
    end = start + rng.exponential(size=n_rows)
    return pd.DataFrame({"start": start, "end": end, "city": city, "country": country})


def quick(constraints, **parameters):
    return BellmanDiffusionDensity(
        n_steps=1, width=4, depth=0, n_nodes=2, n_levels=4, random_state=0,
        constraints=constraints, **parameters,
    )  # fmt: skip


OF_TRIPS = ("start <= end", KnownCombinations(["city", "country"]), Unique(["start"]))


@pytest.fixture(scope="module")
def of_trips():
    return quick(OF_TRIPS).fit(trips())


def keeps(drawn, places=PLACES):
    pairs = set(zip(drawn["city"], drawn["country"], strict=True))
    return bool((drawn["start"] <= drawn["end"]).all()) and pairs <= set(places)


def test_every_sample_keeps_the_constraints(of_trips):
    assert keeps(of_trips.sample(200, random_state=0))
    assert not keeps(as_scored(of_trips).sample(200, random_state=0))
    assert keeps(of_trips.sample(50, random_state=0, given={"end": (0.0, 1.0), "country": "FR"}))
    rows = pd.DataFrame({"city": ["Oslo", "Nice"], "end": [0.0, 1.0]})
    drawn = of_trips.sample(5, random_state=0, given=rows)
    assert keeps(drawn)
    assert drawn["country"].tolist() == ["NO"] * 5 + ["FR"] * 5
    both = of_trips.sample(20, random_state=0, constraints=["country == FR"])
    assert keeps(both)
    assert set(both["country"]) == {"FR"}
    again = pickle.loads(pickle.dumps(of_trips))
    pd.testing.assert_frame_equal(again.sample(9, 1), of_trips.sample(9, 1))


def test_scores_are_those_of_the_density_that_is_restricted():
    """Over the rows that keep a constraint, scores less log(acceptance_) integrate to 1."""
    X = np.random.default_rng(0).normal(size=(3000, 2))
    density = fitted(pd.DataFrame(X, columns=["a", "b"]))
    places = np.linspace(-5, 5, 201)
    grid = pd.DataFrame({"a": np.repeat(places, 201), "b": np.tile(places, 201)})
    mass = np.exp(density.score_samples(grid[grid["a"] <= grid["b"]])).sum() * 0.05**2
    constrained = clone(density).set_params(constraints=["a <= b"])
    constrained.fit(pd.DataFrame(np.sort(X), columns=["a", "b"]))
    constrained.field_, constrained.encoder_ = density.field_, density.encoder_
    constrained._find_acceptance(0)
    assert constrained.acceptance_ == pytest.approx(mass, abs=0.05)
    np.testing.assert_array_equal(
        constrained.score_samples(grid[:9]), density.score_samples(grid[:9])
    )


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("end <= 1", r"\d+ of 300 rows of X break the constraint 'end <= 1'; the first is row \d"),
        (Unique(["city"]), r"297 of 300 rows of X break the constraint Unique.*first is row [1-9]"),
        (KnownCombinations(["city"], trips()[:0]), "300 of 300 .*; the first is row 0. Mend or"),
        (lambda X: X["end"] > 1, r"rows of X break the constraint <function"),
        ("end <= finish", "'finish', which is none of them"),
    ],
)
def test_a_table_that_breaks_a_constraint_is_refused(constraint, message):
    density = quick([constraint])
    with pytest.raises(ValueError, match=message):
        density.fit(trips())
    assert not hasattr(density, "field_")


def test_the_acceptance_of_an_earlier_fit_is_forgotten():
    density = quick(["start <= end"]).fit(trips())
    assert 0 < density.acceptance_ <= 1
    assert not hasattr(density.set_params(constraints=[]).fit(trips()), "acceptance_")


def test_one_text_is_no_list_of_constraints():
    with pytest.raises(ValueError, match=r"'constraints' parameter of .* must be an instance of"):
        quick("start <= end").fit(trips())


def test_copies_of_a_row_by_its_weight_are_not_the_same_row_twice():
    X = trips(60)
    density = quick(OF_TRIPS).fit(X, sample_weight=np.arange(60) % 3)
    assert keeps(density.sample(20, random_state=0))


@pytest.mark.slow
def test_combinations_of_added_rows_are_known():
    encoder = quick(()).fit(trips()).encoder_
    density = quick(OF_TRIPS, encoder=encoder)
    density.partial_fit(trips(90, 1, PLACES[:1])).partial_fit(trips(90, 2, PLACES[1:2]))
    drawn = density.sample(150, random_state=0)
    assert keeps(drawn)
    assert set(drawn["city"]) == {"Oslo", "Lyon"}
    assert 0 < density.acceptance_ < 1
    assert keeps(density.consolidated(60, random_state=0).sample(40, random_state=0))


def test_combinations_of_any_shard_are_known():
    encoder = quick(()).fit(trips()).encoder_
    shards = ShardedDensity(quick(OF_TRIPS, encoder=encoder), random_state=0)
    shards.fit([trips(90, 1, PLACES[:1]), trips(90, 2, PLACES[1:])])
    drawn = shards.sample(150, random_state=0)
    assert keeps(drawn)
    assert set(drawn["city"]) == {"Oslo", "Lyon", "Nice"}
    assert drawn["start"].is_unique
    free = as_scored(shards).sample(1000, random_state=1)
    pairs = zip(free["city"], free["country"], strict=True)
    known = np.array([pair in PLACES for pair in pairs])
    share = (known & (free["start"] <= free["end"])).mean()
    assert shards.acceptance_ == pytest.approx(share, abs=0.08)  # four deviations
    with pytest.raises(ValueError, match="with_missing is for one fitted density"):
        sample_constrained(shards, 3, with_missing=True)


def test_arithmetic_is_of_the_densities_that_are_scored(of_trips):
    both = mixture([of_trips, of_trips])
    assert not keeps(both.sample(200, random_state=0))
    assert keeps(sample_constrained(both, 50, of_trips.constraints_, random_state=0).table)
    assert compare(of_trips, as_scored(of_trips)).kl(50, random_state=0).value == 0


def test_an_imputer_says_that_it_keeps_no_constraints():
    with pytest.raises(ValueError, match=r"does not keep constraints.*density.sample\(given=X\)"):
        BellmanImputer(quick(["start <= end"])).fit(trips())


def test_combinations_without_a_table_are_refused(of_trips):
    with pytest.raises(ValueError, match=r"KnownCombinations\(\['city'\]\) has no table"):
        of_trips.sample(9, constraints=[KnownCombinations(["city"])])


def test_a_fit_tells_of_combinations_that_samples_never_repeat():
    """`acceptance_` was 0 without a word, and its logarithm minus infinity."""
    with pytest.warns(UserWarning, match=r"column 'start', whose numbers have a density"):
        density = quick([KnownCombinations(["start", "city"])]).fit(trips(60))
    assert density.acceptance_ == 0
    named = trips(200).assign(key=[f"k{k:04d}" for k in range(200)])
    encoder = TableEncoder(identifiers=["key"])
    with pytest.warns(UserWarning, match=r"column 'key', whose samples are new identifiers"):
        quick([KnownCombinations(["key", "city"])], encoder=encoder).fit(named)
    X = trips(60)
    with pytest.warns(UserWarning, match="no sample of the fit keeps .*: acceptance_ is 0"):
        quick([lambda rows: np.isin(rows["start"], X["start"])]).fit(X)


def test_constraints_that_the_first_rows_did_not_learn_are_refused(of_trips):
    density = clone(of_trips).set_params(constraints=()).fit(trips(60))
    density.set_params(constraints=[KnownCombinations(["city"])])
    with pytest.raises(ValueError, match="differ from those of the first rows"):
        density.partial_fit(trips(60, seed=1))
    assert density.n_samples_seen_ == 60
