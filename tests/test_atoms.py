"""Columns with atoms: values that hold a share of a column, with a probability of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from skbellman import BellmanDiffusionDensity
from skbellman.tables import TableEncoder
from skbellman.tables.columns import NumericColumn, RankedColumn
from skbellman.tables.columns.choose import Numbers, column_of_numbers

RNG = np.random.default_rng(0)
N = 2000


def gains() -> pd.DataFrame:
    """Return a gain that is 0 in 60% of the rows, more often in group a, and 7 in 10%."""
    group = RNG.choice(["a", "b"], N)
    u = RNG.random(N)
    zero = u < np.where(group == "a", 0.8, 0.4)
    gain = np.select([zero, u > 0.9], [0.0, 7.0], 3 + RNG.normal(size=N))
    return pd.DataFrame({"gain": gain, "group": group})


TABLE = gains()
ZERO = TABLE.gain == 0
ZERO_BY_GROUP = ZERO.groupby(TABLE.group).mean()  # about 0.8 and 0.4
GROUP_OF_ZERO = TABLE.group[ZERO].value_counts(normalize=True).sort_index()  # 2/3 and 1/3


@pytest.fixture(scope="module")
def density():
    return BellmanDiffusionDensity(n_steps=300, width=32, random_state=0).fit(TABLE)


@pytest.mark.parametrize(
    ("values", "repeated"),
    [
        (np.append(np.zeros(45), RNG.random(55)), [0.0]),
        (np.concatenate([np.zeros(30), np.full(20, 5.0), RNG.random(50)]), [0.0, 5.0]),
        (np.append(np.zeros(3), RNG.random(97)), [0.0]),
        (np.append(np.zeros(2), RNG.random(98)), []),
        (RNG.normal(size=200), []),
    ],
)
def test_values_of_three_rows_repeat(values, repeated):
    np.testing.assert_array_equal(Numbers(values, 1e-16).repeated, repeated)
    assert not len(Numbers(values, 1e-16, atom_share=1.0).repeated)
    assert type(column_of_numbers(Numbers(values, 1e-16))) is (
        RankedColumn if repeated else NumericColumn
    )


def test_copies_of_rows_do_not_make_atoms():
    table = pd.DataFrame(RNG.normal(size=(200, 2)), columns=["x", "y"])
    table.loc[:60, "y"] = 0.0
    for copied in (
        table.sample(400, replace=True, random_state=0),
        table.loc[table.index.repeat(4)],
        table.loc[table.index.repeat(4)].to_numpy(),
    ):
        x, y = TableEncoder().fit(copied).columns_
        assert type(x) is NumericColumn
        assert y.repeated.tolist() == [0.0]


@pytest.mark.parametrize("few", [[1 / 3, 2 / 7, 0.1234567, 8.1], [-1e6, -5.0, -0.01, 33.0]])
def test_a_few_values_on_no_grid_are_all_atoms(few):
    shares = [0.4, 0.3, 0.2, 0.1]
    table = pd.DataFrame({"x": RNG.choice(few, 1000, p=shares), "y": RNG.normal(size=1000)})
    density = BellmanDiffusionDensity(n_steps=60, width=16, random_state=0).fit(table)
    assert np.isin(density.sample(300, random_state=0).x, few).all()
    probability = np.exp(density.score_samples(pd.DataFrame({"x": few}), columns=["x"]))
    np.testing.assert_allclose(probability, shares, atol=0.06)
    of_numbers = TableEncoder(dequantize=False).fit(table).columns_[0]
    assert type(of_numbers) is NumericColumn  # no look at single values


def test_the_share_is_adjustable_and_tells_numbers_from_atoms():
    rows = pd.DataFrame({"gain": np.append(TABLE.gain, [2.5, 2.5])})
    columns = [TableEncoder(atom_share=s).fit(rows).columns_[0] for s in ("auto", 0.2, 1.0)]
    assert [type(c) for c in columns] == [RankedColumn, RankedColumn, NumericColumn]
    assert [c.repeated.tolist() for c in columns[:2]] == [[0.0, 7.0], [0.0]]


def test_coordinates_round_trip_and_have_the_room_of_each_atom():
    encoder = TableEncoder().fit(TABLE)
    values = encoder.read(TABLE)
    draws, log_measure = encoder.spread(values, 4, RNG)
    assert np.isfinite(log_measure).all()
    for matrix in draws:
        pd.testing.assert_frame_equal(encoder.restore(encoder.decode(matrix)), TABLE)
    z = draws[0, :, 0]
    assert abs(z.mean()) < 0.05
    assert z.std() == pytest.approx(1, abs=0.05)
    assert np.ptp(norm.cdf(z[ZERO])) == pytest.approx(ZERO.mean(), abs=0.01)


def test_atoms_have_a_probability_and_the_rest_a_density(density):
    asked = {"columns": ["gain"]}
    x = np.linspace(-3, 9, 600)
    on = np.exp(density.score_samples(pd.DataFrame({"gain": [0.0, 7.0]}), **asked))
    off = np.exp(density.score_samples(pd.DataFrame({"gain": x}), **asked))
    assert on.sum() + off.sum() * (x[1] - x[0]) == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(on, [0.6, 0.1], atol=0.06)
    np.testing.assert_allclose(off, 0.3 * norm(3, 1).pdf(x), atol=0.04)


@pytest.mark.slow
def test_atoms_depend_on_other_columns(density):
    frame = pd.DataFrame({"gain": [0.0, 0.0], "group": ["a", "b"]})
    conditional = np.exp(density.score_samples(frame, columns=["gain"], given=["group"]))
    np.testing.assert_allclose(conditional, ZERO_BY_GROUP, atol=0.08)
    backwards = np.exp(density.score_samples(frame, columns=["group"], given=["gain"]))
    np.testing.assert_allclose(backwards, GROUP_OF_ZERO, atol=0.08)


def test_draws_repeat_atoms_and_given_ones_are_kept(density):
    drawn = density.sample(3000, random_state=0)
    shares = [(drawn.gain == value).mean() for value in (0.0, 7.0)]
    np.testing.assert_allclose(shares, [0.6, 0.1], atol=0.05)
    given = density.sample(500, random_state=0, given={"gain": 0.0})
    assert (given.gain == 0).all()
    assert (given.group == "a").mean() == pytest.approx(GROUP_OF_ZERO["a"], abs=0.09)
    rest = density.sample(500, random_state=0, given={"group": "a"}).gain
    assert (rest == 0).mean() == pytest.approx(ZERO_BY_GROUP["a"], abs=0.09)


@pytest.mark.slow
def test_columns_of_atoms_alone_keep_their_dtype_and_refuse_other_values():
    frame = pd.DataFrame({"flag": RNG.integers(2, size=300), "x": RNG.normal(size=300)})
    frame["x"] += 2 * frame.flag
    density = BellmanDiffusionDensity(n_steps=30, width=16, random_state=0).fit(frame)
    drawn = density.sample(200, random_state=0)
    assert drawn.flag.dtype == frame.flag.dtype
    assert set(drawn.flag) == {0, 1}
    assert density.score_samples(frame[:1].assign(flag=2))[0] == -np.inf
    with pytest.raises(
        ValueError, match=r"Column 'flag' holds 2, which was not in the fitted table"
    ):
        density.sample(1, given={"flag": 2})
    asked = pd.DataFrame({"flag": [0, 1]})
    chances = np.exp(density.score_samples(asked, columns=["flag"]))
    assert chances.sum() == pytest.approx(1, abs=0.02)


def test_what_was_never_negative_is_drawn_no_lower():
    for low, least in ((0.0, 0.0), (1.0, 1.0), (3.0, 1.0)):
        column = NumericColumn(np.arange(low, low + 9), True, 1e-16)
        assert column.decode(np.array([[-50.0]]))[0] == least
    assert NumericColumn(0.2 + RNG.random(50), False, 1e-16).decode(np.array([[-50.0]]))[0] > 0
    assert NumericColumn(np.arange(-3.0, 9), True, 1e-16).decode(np.array([[-5.0]]))[0] < -3
