"""Columns with atoms: values that hold a share of a column, with a probability of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from skbellman import BellmanDiffusionDensity
from skbellman.tables import TableEncoder
from skbellman.tables.columns import AtomColumn, NumericColumn
from skbellman.tables.columns.choose import find_atoms

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
    ("values", "atoms"),
    [
        (np.append(np.zeros(45), RNG.random(55)), [0.0]),
        (np.concatenate([np.zeros(30), np.full(20, 5.0), RNG.random(50)]), [0.0, 5.0]),
        (RNG.normal(size=200), []),
        (RNG.poisson(3, 500).astype(float), []),  # often, but no more than the values beside
        (np.append(RNG.integers(20, 60, 300), np.full(200, 40)).astype(float), [40.0]),
        (np.repeat([0.0, 1.0], [10, 90]), [0.0, 1.0]),
        (np.repeat([0.0, 1.0, 2.0], [90, 2, 8]), [0.0, 1.0, 2.0]),  # one value would be left
        (np.append(np.zeros(4), RNG.random(96)), []),  # a share of 4%
    ],
)
def test_atoms_are_the_values_that_stand_out(values, atoms):
    np.testing.assert_array_equal(find_atoms(values, 0.05), atoms)
    assert not len(find_atoms(values, 1.0))


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
    gain = TABLE[["gain"]]
    columns = [TableEncoder(atom_share=s).fit(gain).columns_[0] for s in (0.05, 0.2, 1.0)]
    assert [type(c) for c in columns] == [AtomColumn, AtomColumn, NumericColumn]
    assert [c.atoms.tolist() for c in columns[:2]] == [[0.0, 7.0], [0.0]]


def test_coordinates_round_trip_and_hide_the_number_where_an_atom_holds():
    encoder = TableEncoder().fit(TABLE)
    values = encoder.read(TABLE)
    (matrix, log_measure), *_ = encoder.encode_cells(values, 1)
    atom = TABLE.gain.isin([0.0, 7.0]).to_numpy()
    np.testing.assert_array_equal(np.isnan(matrix[:, 0]), atom)
    assert not np.isnan(matrix[:, 1:]).any()
    assert np.isfinite(log_measure).all()
    decoded = encoder.restore(encoder.decode(np.nan_to_num(matrix)))
    pd.testing.assert_frame_equal(decoded, TABLE)
    draws, _ = encoder.spread(values, 4, RNG)
    np.testing.assert_array_equal(np.isnan(draws[:, :, 0]), np.tile(atom, (4, 1)))
    encoder.veil_atoms(values, draws, RNG)
    assert np.isfinite(draws[0]).all()
    hidden = np.isnan(draws[1:, :, 0])
    for rows in (atom, ~atom):  # as often in rows with an atom as in others
        assert hidden[:, rows].mean() == pytest.approx(0.5, abs=0.05)
    assert np.nanstd(draws[:, atom, 0]) == pytest.approx(1, abs=0.1)


def test_atoms_have_a_probability_and_the_rest_a_density(density):
    asked = {"columns": ["gain"]}
    x = np.linspace(-3, 9, 600)
    on = np.exp(density.score_samples(pd.DataFrame({"gain": [0.0, 7.0]}), **asked))
    off = np.exp(density.score_samples(pd.DataFrame({"gain": x}), **asked))
    assert on.sum() + off.sum() * (x[1] - x[0]) == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(on, [0.6, 0.1], atol=0.06)
    np.testing.assert_allclose(off, 0.3 * norm(3, 1).pdf(x), atol=0.04)


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
