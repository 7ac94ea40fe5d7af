"""Conditions by range and by list: rows drawn from a density within them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from skbellman.identifiers import NewIdentifiers
from skbellman.questions import check_names, given_cells
from skbellman.rejection import accepted_rows
from skbellman.tables import Cells, TableEncoder
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.kinds import is_gap
from skbellman.tables.places import Places, holds, places_within

# Places of all columns together that are scored before any row is drawn, and where draws from the
# density itself are hardly ever within.
_FEW, _MOST = 256, 1024
_TRIAL, _LEAST_SHARE = 256, 0.05


class OtherUnitsError(ValueError):
    """Values of columns cannot be drawn first: they are in other units than those of the fit."""


@dataclass(frozen=True)
class Between:
    """A closed range of a column of numbers or dates.

    Parameters
    ----------
    fitted : FittedColumn
    low, high : float
        As numbers of the column.
    """

    is_range: ClassVar[bool] = True

    fitted: FittedColumn
    low: float
    high: float

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Return which values, none of them missing, are within."""
        return holds(self.fitted.column, values, self.low, self.high)

    def places(self, most: int, with_cells: bool) -> Places | None:
        """Return at most so many places; None if more are needed."""
        return places_within(self.fitted.column, self.low, self.high, most, with_cells)

    def __str__(self) -> str:
        ends = [
            "any" if np.isinf(end) else self.fitted.kind.shown(end) for end in (self.low, self.high)
        ]
        return f"column {self.fitted.name!r} from {ends[0]} to {ends[1]}"


@dataclass(frozen=True)
class AnyOf:
    """Some values of a column.

    Parameters
    ----------
    fitted : FittedColumn
    cells : Cells
        The values.
    """

    is_range: ClassVar[bool] = False

    fitted: FittedColumn
    cells: Cells

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Return which values, none of them missing, are among them."""
        column, own = self.fitted.column, self.cells.numbers()
        if self.fitted.kind.is_categorical:
            return np.isin(column.codes(values), column.codes(own))
        return np.any([holds(column, values, value, value) for value in own], axis=0)

    def places(self, most: int, with_cells: bool) -> Places:
        """Return the values, however many they are."""
        values, reference = self.cells.numbers(), self.fitted.column.measure
        per_unit = self.fitted.measure.is_per_unit(values)
        if per_unit.any() and not reference.step and not per_unit.all():
            raise ValueError(
                f"given lists values of column {self.fitted.name!r} that have a probability, "
                f"{values[~per_unit].tolist()}, beside {values[per_unit].tolist()}, which have a "
                "density: ask for a range, or for either of them."
            )
        log_mass = np.where(per_unit, np.log(reference.step or 1.0), 0.0)
        return Places(values, log_mass, cells=self.cells)

    def __str__(self) -> str:
        return f"column {self.fitted.name!r} among {self.cells.values.tolist()}"


Restriction = Between | AnyOf


def within(density: Any, given: Any) -> WithinRestrictions | None:
    """Return a density within the ranges and lists among conditions; None if there are none."""
    if not isinstance(given, Mapping) or issparse(given):
        return None
    if not any(type(value) in (list, tuple) for value in given.values()):
        return None
    single, restrictions = divided(density, given)
    return WithinRestrictions(density, single, restrictions) if restrictions else None


def divided(density: Any, given: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[Restriction]]:
    """Return the conditions that are single values, and those that are ranges and lists.

    A tuple stays a single value of a column of categories, whose levels may be tuples.
    """
    fitted, single = fitted_part(density), dict(given)
    check_names(fitted, list(given), "given")
    restrictions: list[Restriction] = []
    for column in fitted.encoder_.fitted_:
        value = given.get(column.name)
        if type(value) in (list, tuple) and column.column.is_fresh:
            raise ValueError(
                f"Column {column.name!r} holds identifiers, which are all equally probable. "
                "Pass a single value, or a table with a row for each."
            )
        if type(value) is list:
            restrictions.append(_any_of(column, value))
        elif type(value) is tuple and not column.kind.is_categorical:
            restrictions.append(_between(column, value))
        else:
            continue
        del single[column.name]
    return single, restrictions


def fitted_part(density: Any) -> Any:
    """Return a density that was fitted, from those that one of the algebra is made of."""
    if hasattr(density, "encoder_"):
        return density
    if not hasattr(density, "_fitted_part"):
        check_is_fitted(density, "encoder_")
    return density._fitted_part()


def _any_of(column: FittedColumn, values: list[Any]) -> AnyOf:
    if not values:
        raise ValueError(f"given lists no value of column {column.name!r}: name at least one.")
    found = [_parsed(column, value) for value in values]
    cells = Cells(
        column.kind,
        np.concatenate([cell.values for cell in found]),
        np.zeros(len(found), dtype=bool),
    )
    numbers = cells.numbers()
    column.check_known(numbers)
    column.check_holdable(numbers)
    codes = column.column.codes(numbers)
    return AnyOf(column, cells.at(np.unique(codes, return_index=True)[1]))


def _between(column: FittedColumn, ends: tuple[Any, ...]) -> Between:
    if len(ends) != 2:
        raise ValueError(
            f"given has {ends!r} for column {column.name!r}: a range is a tuple of two, (low, "
            "high); values to choose from are a list."
        )
    low, high = (
        infinite if end is None else float(_parsed(column, end).numbers()[0])
        for end, infinite in zip(ends, (-np.inf, np.inf), strict=True)
    )
    if low > high:
        raise ValueError(
            f"given has the range {ends!r} for column {column.name!r}, whose low end is above the "
            "high one: exchange them."
        )
    return Between(column, low, high)


def smooth_values(column: FittedColumn, values: Sequence[Any]) -> bool:
    """Return whether some values of a column, None of them missing, have a density on the line."""
    reference, known = column.measure.reference, set(values) - {None}
    if reference.step or reference.levels is not None or not known:
        return False
    if not reference.atoms:
        return True
    numbers = np.concatenate([_parsed(column, value).numbers() for value in known])
    return bool(column.measure.is_per_unit(numbers).any())


def numbers_of(column: FittedColumn, values: Sequence[Any]) -> np.ndarray:
    """Return the numbers, or levels, of values as users write them; missing where None."""
    nothing: Any = None if column.kind.is_categorical else np.nan
    of_value = {None: nothing}
    for value in set(values) - {None}:
        cells = column.kind.parse(value)
        if cells is None:
            raise ValueError(
                f"a table of known combinations has {value!r} in column {column.name!r}, which "
                f"holds {column.kind.held}: convert it."
            )
        of_value[value] = cells.numbers()[0]
    dtype = object if column.kind.is_categorical else np.float64
    return np.fromiter((of_value[value] for value in values), dtype, count=len(values))


def _parsed(column: FittedColumn, value: Any) -> Cells:
    cells = None if is_gap(value) else column.kind.parse(value)
    if cells is None:
        raise ValueError(
            f"given has {value!r} in a range or list of column {column.name!r}, which holds "
            f"{column.kind.held}: give one of them."
        )
    return cells


class WithinRestrictions:
    """A density within ranges and lists of values of some columns.

    Values of listed columns, and of ranges that hold few values, are drawn by their
    probabilities, and the rest of a row given them. Other ranges are kept to by rejection. Where
    nearly all rows would be rejected, the values of ranges too are drawn by their probabilities:
    a range of a density is divided into cells.

    Parameters
    ----------
    density : fitted density
    single : dict
        Values that all rows are to have, by the name of the column.
    restrictions : list of Between or AnyOf
    """

    def __init__(
        self, density: Any, single: dict[Any, Any], restrictions: list[Restriction]
    ) -> None:
        self.density, self.single, self.restrictions = density, single, restrictions

    def sample(self, n_samples: int, rng: np.random.RandomState) -> Any:
        """Return rows, and raise a ValueError where hardly any would be accepted."""
        source = self._source(_FEW, with_cells=False)
        if len(source.placed) < len(self.restrictions):
            accepted = self._are_within(source.draw(_TRIAL, rng))
            if accepted.mean() < _LEAST_SHARE:
                source = self._source(_MOST, with_cells=True)
        reason = (
            f"hardly any row of the density is within {self._shown()}. Widen a range, or leave "
            "one out."
        )
        drawn, _ = accepted_rows(lambda n: source.draw(n, rng), self._are_within, n_samples, reason)
        return NewIdentifiers([self.density], rng)(drawn, self.single)

    def _source(self, most: int, with_cells: bool) -> Source:
        """Return what draws rows: lists at their values, and ranges at so many places in all."""
        placed: list[tuple[Restriction, Places]] = []
        if not getattr(self.density, "_has_marginals", True):
            return Source(self.density, self.single, placed)
        # Lists first: they are placed however many values they have.
        waiting = sorted(self.restrictions, key=lambda restriction: restriction.is_range)
        for n_before, restriction in enumerate(waiting):
            room = most // math.prod(len(places.values) for _, places in placed)
            share = int(room ** (1 / (len(waiting) - n_before)))
            places = restriction.places(share if with_cells else room, with_cells)
            if places is not None:
                placed.append((restriction, places))
        for restriction, places in placed:
            if not len(places.values):
                raise ValueError(f"no draw of the density is within {self._shown([restriction])}.")
        return Source(self.density, self.single, placed)

    def _are_within(self, X: Any) -> np.ndarray:
        """Return which rows of a table that was drawn are within all restrictions."""
        values = self._encoder.read(X)
        within = [r.holds(values[r.fitted.position]) for r in self.restrictions]
        return np.logical_and.reduce(within)

    @property
    def _encoder(self) -> TableEncoder:
        return fitted_part(self.density).encoder_

    def _shown(self, restrictions: Sequence[Restriction] | None = None) -> str:
        return " and ".join(map(str, self.restrictions if restrictions is None else restrictions))


class Source:
    """Rows of a density whose values of some columns are drawn first, from places.

    Parameters
    ----------
    density : fitted density
    single : dict
        Values that all rows are to have.
    placed : list of (Restriction, Places)
    combinations : array of int, shape (n_placed, n_combinations), optional
        The places that rows may have together. By default all combinations.
    """

    def __init__(
        self,
        density: Any,
        single: dict[Any, Any],
        placed: list[tuple[Restriction, Places]],
        combinations: np.ndarray | None = None,
    ) -> None:
        self.density, self.single, self.placed = density, single, placed
        if not placed:
            return
        if combinations is None:
            sizes = [np.arange(len(places.values)) for _, places in placed]
            combinations = np.stack([axis.ravel() for axis in np.meshgrid(*sizes)])
        self._combinations = combinations
        self._shares = self._probabilities()

    def draw(self, n_rows: int, rng: np.random.RandomState) -> Any:
        """Return rows of the density, the placed columns within their restrictions."""
        seed = int(rng.randint(2**31))
        if not self.placed:
            return self.density.sample(n_rows, random_state=seed, given=self.single or None)
        chosen = self._combinations[:, rng.choice(len(self._shares), n_rows, p=self._shares)]
        values = [
            places.draw(restriction.fitted.column, at, rng)
            for (restriction, places), at in zip(self.placed, chosen, strict=True)
        ]
        conditions = self._conditions(values, chosen)
        return self.density.sample(1, random_state=seed, given=conditions)

    def _probabilities(self) -> np.ndarray:
        """Return the probability of each combination of places."""
        pairs = list(zip(self.placed, self._combinations, strict=True))
        table = self._conditions([p.values[at] for (_, p), at in pairs], self._combinations)
        names = [restriction.fitted.name for restriction, _ in self.placed]
        logs = self.density.score_samples(table, columns=names, given=list(self.single) or None)
        logs = logs + sum(places.log_mass[at] for (_, places), at in pairs)
        if np.isneginf(logs).all():
            shown = " and ".join(str(restriction) for restriction, _ in self.placed)
            raise ValueError(f"no row of the density is within {shown}: widen a range.")
        return np.asarray(softmax(logs))

    def _conditions(self, values: list[np.ndarray], places: np.ndarray) -> Any:
        """Return a table of the columns that are placed and of those that are single values."""
        columns = {
            restriction.fitted.position: (own, None if p.cells is None else p.cells.at(at))
            for (restriction, p), own, at in zip(self.placed, values, places, strict=True)
        }
        return table_of(fitted_part(self.density), columns, self.single)


def source_of_combinations(
    density: Any, single: dict[Any, Any], columns: Sequence[Any], rows: Sequence[tuple[Any, ...]]
) -> Source:
    """Return what draws rows whose values of some columns are together in one of some rows.

    Raises
    ------
    ValueError
        If the density knows no probability or density of the values, or they cannot be compared.
    """
    placed: list[tuple[Restriction, Places]] = []
    combinations = []
    of_name = {column.name: column for column in fitted_part(density).encoder_.fitted_}
    for name, values in zip(columns, zip(*rows, strict=True), strict=True):
        column = of_name[name]
        listed = _any_of(column, list(values))
        codes = column.column.codes(
            np.concatenate([_parsed(column, value).numbers() for value in values])
        )
        # Listed values are in the order of their codes.
        combinations.append(np.searchsorted(column.column.codes(listed.cells.numbers()), codes))
        placed.append((listed, listed.places(len(rows), with_cells=False)))
    return Source(density, single, placed, np.stack(combinations))


def table_of(
    density: Any, columns: dict[int, tuple[np.ndarray, Cells | None]], single: Mapping[Any, Any]
) -> Any:
    """Return a table of some columns of a density that was fitted.

    Parameters
    ----------
    density : fitted density
    columns : dict
        Values, and cells if they are to be there bit for bit, by the position of the column.
    single : mapping
        Values of other columns, the same in each row.
    """
    encoder = density.encoder_
    n_rows = len(next(iter(columns.values()))[0])
    cells = given_cells(density, single) if single else []
    held = {j: c.repeat(n_rows) for j, c in enumerate(cells) if not c.missing[0]}
    columns = columns | {j: (c.numbers(), c) for j, c in held.items()}
    return encoder.container_.part(
        {
            j: encoder.fitted_[j].restored(
                encoder.container_, encoder.fitted_[j].column.codes(values), own
            )
            for j, (values, own) in columns.items()
        }
    )
