"""What every kind of column keeps to: one contract, checked on an example of each kind."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.stats import norm

from skbellman.tables import is_missing
from skbellman.tables.columns import (
    AtomColumn,
    CategoricalColumn,
    Column,
    CountedColumn,
    IdentifierColumn,
    LevelsOnALine,
    NumericColumn,
    RankedColumn,
)
from skbellman.tables.columns.base import NumberOfLevels
from skbellman.tables.columns.choose import Numbers, column_of_numbers
from skbellman.tables.measures import AtomsBeside, Grid, Lebesgue, Levels, Names

RNG = np.random.default_rng(0)
EPS = float(np.finfo(float).eps)
N = 600

SMOOTH = RNG.normal(3, 2, N)
POSITIVE = RNG.lognormal(0, 1, N)
HEAVY = RNG.standard_t(2, N)
PRICES = RNG.integers(1, 400, N) * 0.05
HOURS = np.where(RNG.random(N) < 0.5, 40.0, RNG.integers(1, 90, N).astype(float))
HALVES = RNG.poisson(1.5, N) / 2
WORDS = RNG.choice(np.array(["a", "b", "c", "d"], dtype=object), N)
ATOM = np.where(RNG.random(N) < 0.4, 0.0, POSITIVE)
ATOM_ON_GRID = np.where(RNG.random(N) < 0.4, 0.0, PRICES)
CODES = np.array([f"AB-{k:05d}" for k in RNG.permutation(99_999)[:N]], dtype=object)
FEW = RNG.choice([1 / 3, 2 / 7, 0.1234567, 8.1], N)


def numbers(values, share=0.05):
    return NumericColumn(values, share < 1, EPS)


def ranked(values):
    return RankedColumn(values, Numbers(values, EPS).repeated, EPS)


# An example of each kind, and the values that it was fitted to.
EXAMPLES: dict[str, tuple[Column, np.ndarray]] = {
    "smooth": (numbers(SMOOTH), SMOOTH),
    "positive": (numbers(POSITIVE), POSITIVE),
    "straight": (numbers(POSITIVE).straight(POSITIVE), POSITIVE),
    # So heavy that draws would pass the bounds of the dtype, which are no ends of the rows.
    "bounded": (NumericColumn(HEAVY, True, EPS, (-200.0, 200.0)), HEAVY),
    "on a grid": (numbers(PRICES), PRICES),
    "ranked": (ranked(HOURS), HOURS),
    "ranked, with a density": (ranked(ATOM), ATOM),
    "ranked, on a long grid": (ranked(ATOM_ON_GRID), ATOM_ON_GRID),
    "counted": (CountedColumn(HALVES, 0.5), HALVES),
    "levels on a line": (LevelsOnALine(HALVES, 0.5), HALVES),
    "category": (CategoricalColumn(np.array(list("abcd"), dtype=object)), WORDS),
    "constant": (CategoricalColumn(np.array([7.0])), np.full(N, 7.0)),
    "atoms": (AtomColumn(np.unique(FEW)), FEW),
    "identifier": (IdentifierColumn(CODES), CODES),
    "identifier of numbers": (IdentifierColumn(np.arange(5.0, N + 5)), np.arange(5.0, N + 5)),
}
MEASURES = {
    "smooth": Lebesgue(),
    "positive": Lebesgue(),
    "straight": Lebesgue(),
    "bounded": Lebesgue(),
    "on a grid": Grid(0.0, 0.05),
    "ranked": Grid(0.0, 1.0),
    "ranked, with a density": AtomsBeside((0.0,), Lebesgue()),
    "ranked, on a long grid": Grid(0.0, 0.05),
    "counted": Grid(5.0, 0.5),
    "levels on a line": Grid(0.0, 0.5),
    "category": Levels(("a", "b", "c", "d")),
    "constant": Levels((7.0,)),
    "identifier": Names(),
    "identifier of numbers": Names(),
    "atoms": Levels(tuple(sorted({1 / 3, 2 / 7, 0.1234567, 8.1}))),
}


@pytest.fixture(params=list(EXAMPLES))
def name(request):
    return request.param


@pytest.fixture
def column(name):
    return EXAMPLES[name][0]


@pytest.fixture
def values(name):
    return EXAMPLES[name][1]


def stranger(column, values):
    """Return a value that was not there in fit, and lies on no grid."""
    return np.array(["z"], dtype=object) if values.dtype == object else np.array([0.7310581])


def with_gaps(values):
    """Return values of which every third is missing, and which are."""
    missing = np.arange(len(values)) % 3 == 0
    return np.where(missing, None if values.dtype == object else np.nan, values), missing


def drawn(column, n=400):
    """Return draws: codes of coordinates far and wide."""
    return column.decode(3 * np.random.default_rng(1).standard_normal((n, column.n_dims)))


def test_every_kind_has_an_example():
    def kinds(kind):
        return {kind}.union(*map(kinds, kind.__subclasses__()))

    shown = {type(part) for c, _ in EXAMPLES.values() for part in (c, *c.parts)}
    of_library = {kind for kind in kinds(Column) if kind.__module__.startswith("skbellman.")}
    assert of_library - {Column, NumberOfLevels} == shown


def test_coordinates_are_those_of_the_values(column, values):
    coordinates, log_measure = column.encode(values)
    assert coordinates.shape == (len(values), column.n_dims)
    assert log_measure.shape == (len(values),)
    assert np.isfinite(log_measure).all()
    codes = column.decode(np.nan_to_num(coordinates))
    if column.holds_numbers:
        np.testing.assert_allclose(codes, column.codes(values), rtol=1e-6, atol=1e-9)
    else:
        np.testing.assert_array_equal(codes, column.codes(values))
    if column.is_fresh:
        return  # no code tells a name
    back = column.values_of(column.codes(values))
    np.testing.assert_array_equal(back, values)


def test_the_log_measure_of_a_number_is_the_log_jacobian(column, values):
    for part, v in zip(column.parts, column.divide(values), strict=True):
        if not part.holds_numbers:
            continue
        inner = v[(v >= np.quantile(v, 0.1)) & (v <= np.quantile(v, 0.9))]
        # Within the cell of a value, where it stands for one; else from value to value.
        cell = np.full(len(inner), part.has_cells)
        if part.has_cells and not part.measure.step:
            cell &= np.isin(inner, part.drawn_exactly)
        place, unit = RNG.uniform(0.2, 0.8, len(inner)), part.measure.step or 1.0
        u = np.where(cell, 1e-6, 0.0)
        dx = np.where(cell, 0.0, 1e-7 * v.std())
        ends = [part.encode(inner + s * dx, place + s * u)[0][:, 0] for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * np.where(cell, u * unit, dx))
        found = part.encode(inner, place)[1]
        np.testing.assert_allclose(np.median(np.abs(np.log(slope) - found)), 0.0, atol=1e-4)
        # But where the slope changes between the two.
        assert (np.abs(np.log(slope) - found) < 1e-3).mean() > 0.95


def test_the_log_measure_of_a_level_makes_its_peak_a_probability(column, values):
    for part, v in zip(column.parts, column.divide(values), strict=True):
        if part.corners is None:
            continue
        # The density at the corner of a level that is sure, blurred by the noise of the floor.
        log_density = -0.5 * part.n_dims * np.log(2 * np.pi * part.floor**2)
        mass = part.measure.step or 1.0
        _, log_measure = part.encode(v)
        np.testing.assert_allclose(np.exp(log_density + log_measure) * mass, 1.0)
        coordinates = part.encode(v)[0][:, None] - part.corners
        assert (np.linalg.norm(coordinates, axis=-1).min(1) == 0).all()


def test_missing_values_stay_missing(column, values):
    gapped, missing = with_gaps(values)
    coordinates, log_measure = column.encode(gapped)
    assert np.isnan(coordinates[missing]).all()
    assert (log_measure[missing] == 0).all()
    whole = column.encode(values)
    np.testing.assert_array_equal(coordinates[~missing], whole[0][~missing])
    np.testing.assert_array_equal(log_measure[~missing], whole[1][~missing])
    for v in column.divide(gapped):
        assert is_missing(v)[missing].all()
    nodes = column.nodes(gapped, 3)
    assert np.isnan(nodes.z[:, missing]).all()
    assert (nodes.rest[missing] == 0).all()


def test_draws_are_values_that_the_column_can_take(column, values):
    codes = drawn(column)
    if column.is_fresh:
        assert not codes.any()
        return
    if not column.holds_numbers:
        assert np.isin(codes, np.arange(len(column.only_levels))).all()
    found = column.values_of(codes)
    assert column.takes(found).all()
    assert np.isfinite(column.encode(found)[1]).all()
    if column.only_levels is not None:
        assert np.isin(found, column.only_levels).all()
    if column.drawn_exactly is not None:
        assert np.isin(column.drawn_exactly, values).any()
    for part in column.parts:
        if part.holds_numbers:
            line = getattr(part, "smooth", part)
            low, high = line.drawn_within
            of_part = part.decode(3 * RNG.standard_normal((400, 1)))
            assert ((of_part >= low) & (of_part <= high)).all()
            n_steps = (of_part - line.low) / line.step if line.step else np.zeros(1)
            np.testing.assert_allclose(n_steps, np.rint(n_steps), atol=1e-6)


def test_levels_are_in_the_order_of_their_codes(column, values):
    if column.holds_numbers:
        np.testing.assert_array_equal(column.codes(values), values)
        return
    if column.is_fresh:
        assert not column.codes(values).any()
        return
    levels = column.only_levels
    np.testing.assert_array_equal(column.codes(levels), np.arange(len(levels)))
    np.testing.assert_array_equal(column.values_of(np.arange(len(levels))), levels)
    assert column.codes(stranger(column, values)).tolist() == [-1]
    assert column.corners.shape == (len(levels), column.n_dims)


def test_what_was_not_there_is_impossible_unless_the_column_takes_any_number(column, values):
    other = stranger(column, values)
    assert not np.isin(other, values).any()
    assert column.takes(other).tolist() == [column.only_levels is None]
    assert np.isfinite(column.encode(other)[1]).tolist() == [column.only_levels is None]
    assert not np.isnan(column.encode(other)[1]).any()


def test_divided_values_are_joined_again(column, values):
    divided = column.divide(values)
    assert len(divided) == len(column.parts)
    assert sum(part.n_dims for part in column.parts) == column.n_dims
    pairs = zip(column.parts, divided, strict=True)
    joined = column.join([part.codes(v) for part, v in pairs])
    np.testing.assert_array_equal(joined, column.codes(values))
    # In coordinates numbers come before categories, and each row is seen by a category or a number.
    assert [part.holds_numbers for part in column.parts] == sorted(
        (part.holds_numbers for part in column.parts), reverse=True
    )
    assert not np.all([is_missing(v) for v in divided], axis=0).any()


def test_values_are_spread_within_their_cells(column, values):
    moved = (column.encode(values, 0.9)[0] != column.encode(values)[0]).any(1)
    assert moved.any() == column.has_cells
    if column.has_cells:
        back = column.decode(column.encode(values, 0.9)[0])
        np.testing.assert_allclose(back, values, rtol=1e-9)


def test_one_node_is_the_value_and_its_log_measure(column, values):
    nodes = column.nodes(values, 1)
    coordinates, log_measure = column.encode(values)
    np.testing.assert_allclose(nodes.z[0], coordinates, atol=1e-9)
    np.testing.assert_allclose(nodes.log_measure[0].sum(-1) + nodes.rest, log_measure, atol=1e-9)
    z, log_measure, rest = column.nodes(values, 3)
    assert z.shape == log_measure.shape == (3, len(values), column.n_dims)
    assert rest.shape == (len(values),)


def test_a_number_is_asked_all_over_its_step_and_a_level_all_over_its_peak(column, values):
    for part, v in zip(column.parts, column.divide(values), strict=True):
        nodes = part.nodes(v, 8)
        seen = ~is_missing(v)
        z, log_measure = nodes.z[:, seen], nodes.log_measure[:, seen]
        if part.holds_numbers and part.has_cells:
            ends = [part.encode(v[seen], end)[0] for end in (0.0, 1.0)]
            assert ((z >= ends[0]) & (z <= ends[1])).all()
            # The integral over the cell, of a normal density of the coordinates.
            mass = (norm.pdf(z) * np.exp(log_measure)).sum(0)[:, 0] * (part.measure.step or 1.0)
            room = (norm.cdf(ends[1]) - norm.cdf(ends[0]))[:, 0]
            # But where the slope changes within a cell.
            has_room = room > 1e-9
            assert (np.abs(mass[has_room] / room[has_room] - 1) < 0.02).mean() > 0.99
        if part.corners is not None:
            off = (z - part.encode(v[seen])[0]) / part.floor
            density = np.exp(-0.5 * off**2 + log_measure)
            np.testing.assert_allclose(density.sum(0), 1.0)


def test_a_column_survives_pickling(column, values):
    again = pickle.loads(pickle.dumps(column))
    for one, other in zip(again.encode(values), column.encode(values), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(drawn(again), drawn(column))
    assert again.measure == column.measure


def test_the_measure_says_what_scores_are_densities_of(name, column):
    assert column.measure == MEASURES[name]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.full(50, 3.0), CategoricalColumn),
        (RNG.choice([0.0, 1.0], 50), AtomColumn),
        (FEW, AtomColumn),
        (HALVES, CountedColumn),
        (HOURS, RankedColumn),
        (ATOM, RankedColumn),
        (ATOM_ON_GRID, RankedColumn),
        (SMOOTH, NumericColumn),
        (PRICES, NumericColumn),
    ],
)
def test_the_first_kind_that_suits_values_is_chosen(values, kind):
    assert type(column_of_numbers(Numbers(values, EPS))) is kind
    of_numbers = column_of_numbers(Numbers(values, EPS, atom_share=1.0))
    assert type(of_numbers) is (kind if kind is CategoricalColumn else NumericColumn)
