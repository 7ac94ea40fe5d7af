"""Constraints on drawn rows: inequalities between columns, known combinations, uniqueness.

Rows that break a constraint are drawn again, so that the others follow the density restricted to
those that keep it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils import check_random_state

from skbellman.comparisons import comparison_of, ranges_of
from skbellman.identifiers import NewIdentifiers, encoders_of
from skbellman.notices import warn
from skbellman.questions import counted, with_gaps
from skbellman.rejection import TooFewError, accepted_for_each, accepted_rows
from skbellman.restrictions import (
    OtherUnitsError,
    numbers_of,
    smooth_values,
    source_of_combinations,
)
from skbellman.rules import Mask, OfTable, Rule
from skbellman.state import altered
from skbellman.tables import Cells, TableEncoder, is_missing
from skbellman.tables.containers import container_of
from skbellman.tables.fitted import FittedColumn

# Below this share of accepted draws, values are drawn within their ranges, after so many draws.
_LEAST_SHARE, _TRIAL = 0.05, 256
# Combinations that are scored to draw them first.
_MOST_COMBINATIONS = 2000


class Constrained(NamedTuple):
    """Rows that keep constraints.

    Parameters
    ----------
    table : DataFrame or ndarray
    acceptance : float
        Share of the draws that kept them.
    """

    table: Any
    acceptance: float


class KnownCombinations(Rule):
    """Rows whose values of some columns are together in a row of a table.

    It is for columns whose values have probabilities: categories, and numbers on a grid or of few
    values. A sample of any other number hardly ever repeats a value of the table, and an
    identifier never does.

    Parameters
    ----------
    columns : sequence of names, or of positions for an array
        The columns that are looked at together.
    X : DataFrame or array-like of shape (n_samples, n_features), optional
        The table. As a constraint of an estimator, by default the table of `fit`.

    Examples
    --------
    >>> import pandas as pd
    >>> from skbellman.constraints import KnownCombinations
    >>> df = pd.DataFrame({"city": ["Oslo", "Lyon"], "country": ["NO", "FR"]})
    >>> KnownCombinations(["city", "country"], df)(df.assign(country="FR"))
    array([False,  True])
    """

    def __init__(self, columns: Sequence[Any], X: Any = None) -> None:
        self.columns = _names(columns)
        self._known = None if X is None else set(_keys(X, self.columns))

    def __call__(self, X: Any) -> np.ndarray:
        """Return which rows are so."""
        known = self._table()
        return np.array([key in known for key in _keys(X, self.columns)], dtype=bool)

    def _table(self) -> set[tuple[Any, ...]]:
        """Return the combinations."""
        if self._known is None:
            raise ValueError(f"{self} has no table to take combinations from: give it X.")
        return self._known

    def begun(self, encoder: TableEncoder) -> Mask:
        """Return a mask that compares values as the fitted table holds them.

        0.1 + 0.2 and 0.3 are one value of a grid, and a date is one in any dtype.
        """
        columns = [fitted for fitted in encoder.fitted_ if fitted.name in self.columns]
        if len(columns) < len(set(self.columns)):
            return self  # refuses unknown names
        at = [self.columns.index(fitted.name) for fitted in columns]
        held = zip(columns, at, strict=True)
        parsed = [numbers_of(fitted, [key[k] for key in self._table()]) for fitted, k in held]
        known = set(_rows_of(columns, parsed))

        def are_known(X: Any) -> np.ndarray:
            values = encoder.read(X, self.columns)
            rows = _rows_of(columns, [values[fitted.position] for fitted in columns])
            return np.array([row in known for row in rows], dtype=bool)

        return are_known

    def combinations(self) -> tuple[Sequence[Any], list[tuple[Any, ...]]]:
        """Return the columns, and the combinations without missing values."""
        return self.columns, [key for key in self._known or () if None not in key]

    def learned(self, X: Any) -> KnownCombinations:
        """Return the combinations of a table, unless these have a table of their own."""
        return self if self._known is not None else KnownCombinations(self.columns, X)

    def joined(self, others: Iterable[Any]) -> KnownCombinations:
        """Return the combinations that are in this table or, for the same columns, in others."""
        both = KnownCombinations(self.columns)
        same = [other for other in others if getattr(other, "columns", None) == self.columns]
        known = [c._known or () for c in [self, *same] if type(c) is KnownCombinations]
        both._known = set().union(*known)
        return both

    def doubt(self, encoder: TableEncoder) -> str:
        """Return which columns have values that samples hardly ever repeat."""
        for column in encoder.fitted_:
            if column.name not in self.columns:
                continue
            if column.column.is_fresh:
                return (
                    f"{self} names column {column.name!r}, whose samples are new identifiers: none "
                    "is in the table. Leave the column out."
                )
            at = self.columns.index(column.name)
            if smooth_values(column, [key[at] for key in self.combinations()[1]]):
                return (
                    f"{self} names column {column.name!r}, whose numbers have a density: samples "
                    "hardly ever repeat one of the table, except at point masses. Round the "
                    "column, name it in categorical_features, or leave it out."
                )
        return ""

    def __repr__(self) -> str:
        return f"KnownCombinations({self.columns})"


@dataclass(frozen=True)
class Unique(Rule):
    """No two drawn rows have the same values of some columns.

    Parameters
    ----------
    columns : sequence of names, or of positions for an array
        The columns that are looked at together. Missing values count as equal.

    Examples
    --------
    >>> import pandas as pd
    >>> from skbellman.constraints import Unique
    >>> Unique(["name", "birthday"])
    Unique(columns=['name', 'birthday'])
    >>> Unique(["name"])(pd.DataFrame({"name": ["Ada", "Eve", "Ada"]}))
    array([ True,  True, False])
    """

    is_last: ClassVar[bool] = True

    columns: Sequence[Any]

    def __post_init__(self) -> None:
        _names(self.columns)

    def __call__(self, X: Any) -> np.ndarray:
        """Return which rows of a table are unlike all rows before them."""
        return self._watch()(X)

    def begun(self, encoder: TableEncoder) -> Mask:
        """Return a mask of the rows that are new in a call of `sample`."""
        return self._watch()

    def _watch(self) -> Mask:
        """Return a mask of the rows that are new, which remembers those that it has seen."""
        seen: set[tuple[Any, ...]] = set()

        def is_new(X: Any) -> np.ndarray:
            mask = np.ones(len(X), dtype=bool)
            for row, key in enumerate(_keys(X, list(self.columns))):
                mask[row] = key not in seen
                seen.add(key)
            return mask

        return is_new


def sample_constrained(
    density: Any,
    n_samples: Any = 1,
    constraints: Iterable[Any] = (),
    random_state: Any = None,
    **settings: Any,
) -> Constrained:
    """Draw rows that keep constraints, and say how many of the draws did.

    Parameters
    ----------
    density : fitted density
        Any with ``sample``, of the algebra too.
    n_samples : int or array-like of int, default=1
        At least 1. With a table of conditions, so many rows for each of its rows, or a number of
        each row.
    constraints : iterable of str, callable, KnownCombinations or Unique
        Text compares a column with another or with a value: ``"start <= end"``, ``"age >= 18"``;
        it holds where either is missing. A callable takes a table and returns a mask of its rows.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws.
    **settings : dict
        Arguments of ``density.sample``, such as ``given``.

    Returns
    -------
    constrained : Constrained
        With ``table`` and ``acceptance``.

    Raises
    ------
    ValueError
        If a constraint names an unknown column, or compares what cannot be compared; if fewer than
        one draw of a thousand keeps them.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.constraints import sample_constrained
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
    >>> table, acceptance = sample_constrained(density, 20, ["a <= b"], random_state=0)
    >>> bool((table["a"] <= table["b"]).all()), 0.2 < acceptance < 0.8
    (True, True)
    """
    n_samples, given = counted(n_samples, settings.get("given"))
    rng = check_random_state(random_state)
    own, density = own_constraints(density), as_scored(density)
    encoder, constraints = encoders_of(density)[0], _listed(constraints)
    rules = rules_of([*own, *constraints], encoder)
    # Gaps come last: rows with gaps keep more constraints, and would be too frequent.
    with_missing = settings.pop("with_missing", False)
    has_gaps = with_missing is not None and with_missing is not False
    if has_gaps and hasattr(density, "_parts_drawn_from"):
        raise ValueError(
            "with_missing is for one fitted density, whose gaps are known, and not for a "
            "combination of several: leave it out, and remove values of the samples afterwards."
        )
    found, placed = _found(_Draws(density, rules, rng, settings), n_samples, given)
    # Those of the estimator were in doubt when it was fitted.
    doubtful = "" if placed else doubts(constraints, encoder, found.acceptance)
    if doubtful:
        warn(doubtful)
    return found._replace(table=with_gaps(density, found.table, given, with_missing, rng))


def _found(draws: _Draws, n_samples: int, given: Any) -> tuple[Constrained, bool]:
    """Return rows that keep constraints, and whether values were drawn within them first.

    They are found by rejection, unless few keep the constraints.
    """
    if nw.dependencies.is_into_dataframe(given):
        return draws.kept_for_each(given, n_samples), False
    if given is not None and not hasattr(given, "keys"):
        return draws.kept_for_each(np.asarray(given), n_samples), False
    within = _within_ranges(given or {}, draws.rules)
    known = _known_apart_from(given or {}, draws.rules)
    if within is None and known is None:
        return draws.kept(given, n_samples), False
    try:
        found = draws.kept(given, n_samples, not_before=_TRIAL, least_share=_LEAST_SHARE)
        return found, False
    except TooFewError:
        try:
            if known is not None:
                return draws.kept_combinations(known, given, n_samples), True
            return draws.kept(within, n_samples), True
        except OtherUnitsError:
            return draws.kept(given, n_samples), False


class _Draws:
    """Draws of a density, of which those that keep constraints are taken.

    Parameters
    ----------
    density : fitted density
        Without constraints of its own.
    rules : list of Rule
    rng : RandomState
    settings : dict
        Arguments of ``density.sample``.
    """

    def __init__(
        self, density: Any, rules: list[Rule], rng: np.random.RandomState, settings: dict[str, Any]
    ) -> None:
        self.density, self.rules, self.rng, self.settings = density, rules, rng, settings
        # Before rows are looked at: a constraint may be on identifiers.
        self._renamed = NewIdentifiers([density], rng)
        self._reason = (
            f"hardly any row keeps the constraints {rules}. Loosen one, or ask for part of it by "
            "given, with ranges and lists."
        )

    def kept(self, given: Any, n_samples: int, **limits: Any) -> Constrained:
        """Return rows that all have the same conditions."""
        keeps = self._keeps()
        return Constrained(
            *accepted_rows(lambda n: self._draw(n, given), keeps, n_samples, self._reason, **limits)
        )

    def kept_combinations(self, known: Rule, given: Any, n_samples: int) -> Constrained:
        """Return rows whose combinations are drawn first, by their probabilities."""
        columns, rows = known.combinations()
        source = source_of_combinations(
            self.density, dict(given or {}), columns, sorted(rows, key=repr)
        )

        def draw(n_rows: int) -> Any:
            return self._renamed(source.draw(n_rows, self.rng), given)

        return Constrained(*accepted_rows(draw, self._keeps(), n_samples, self._reason))

    def kept_for_each(self, given: Any, n_samples: int) -> Constrained:
        """Return rows for each row of a table of conditions."""
        container, rows = container_of(given), np.arange(len(given)).repeat(n_samples)
        keeps = self._keeps()

        def draw(at: np.ndarray) -> Any:
            return self._draw(1, container.taken(given, rows[at]))

        return Constrained(*accepted_for_each(draw, keeps, len(rows), self._reason))

    def _keeps(self) -> Mask:
        return _all_of(self.rules, encoders_of(self.density)[0])

    def _draw(self, n_rows: int, given: Any) -> Any:
        seed = int(self.rng.randint(2**31))
        settings = {**self.settings, "given": given}
        drawn = self.density.sample(n_rows, random_state=seed, **settings)
        return self._renamed(drawn, given)


def _within_ranges(given: Mapping[Any, Any], rules: list[Rule]) -> dict[Any, Any] | None:
    """Return conditions with what comparisons say of other columns; None if they say nothing."""
    ranges = ranges_of(rules)
    return {**ranges, **given} if ranges.keys() - given.keys() else None


def _known_apart_from(given: Mapping[Any, Any], rules: list[Rule]) -> Rule | None:
    """Return combinations of columns without conditions, if they can be drawn first."""
    if any(type(value) in (list, tuple) for value in given.values()):
        return None
    for rule in rules:
        columns, rows = rule.combinations()
        if rows and not given.keys() & set(columns):
            return rule if len(rows) <= _MOST_COMBINATIONS else None
    return None


def learned(constraints: Sequence[Any], encoder: TableEncoder, X: Any) -> list[Any]:
    """Return the constraints of an estimator, as they are kept by samples of its fit.

    Combinations are those of the fitted table, unless they have a table of their own. Text and
    functions stay as they are.

    Raises
    ------
    ValueError
        If rows of the fitted table break a constraint.
    """
    rules = rules_of(constraints, encoder)
    found = [rule.learned(X) for rule in rules]
    for rule in found:
        broken = np.flatnonzero(~_all_of([rule], encoder)(X))
        if len(broken):
            raise ValueError(
                f"{len(broken)} of {len(X)} rows of X break the constraint {rule!r}; the "
                f"first is row {broken[0]}. Mend or drop these rows, or leave the constraint out "
                "here and pass it to sample."
            )
    triples = zip(constraints, rules, found, strict=True)
    return [given if new is rule else new for given, rule, new in triples]


def own_constraints(*densities: Any) -> list[Any]:
    """Return the constraints that samples of fitted densities keep, those of the first.

    Combinations are those that any of them knows.
    """
    first, *others = (list(getattr(density, "constraints_", ())) for density in densities)
    known = [constraint for constraints in others for constraint in constraints]
    return [c.joined(known) if isinstance(c, Rule) else c for c in first]


def as_scored(density: Any) -> Any:
    """Return a density whose samples follow its scores: without constraints."""
    if not own_constraints(density):
        return density
    is_of_parts = hasattr(density, "_as_scored")
    return density._as_scored() if is_of_parts else altered(density, constraints_=[])


def acceptance(density: Any, seed: int, n_samples: int = 1000) -> float:
    """Return the share of samples of a fitted density that keep its own constraints."""
    keeps = _all_of(rules_of(own_constraints(density), density.encoder_), density.encoder_)
    return float(keeps(as_scored(density).sample(n_samples, seed)).mean())


def doubts(constraints: Sequence[Any], encoder: TableEncoder, share: float) -> str:
    """Return why a fit keeps its constraints hardly ever, empty if it does.

    ``share`` is that of its samples that do.
    """
    found = [rule.doubt(encoder) for rule in rules_of(constraints, encoder)]
    if not any(found) and not share:
        found = [
            f"no sample of the fit keeps the constraints {list(constraints)}: acceptance_ is 0, "
            "and sample will find few rows or none. Loosen one, or leave it out here and pass "
            "it to sample."
        ]
    return " ".join(filter(None, found))


def warned_of_few(found: Constrained, least: float = 0.1) -> Any:
    """Return the rows, and warn where most draws broke the constraints."""
    if found.acceptance < least:
        warn(
            f"{found.acceptance:.1%} of the draws kept the constraints: ask for part of them by "
            "given, with ranges and lists, to be faster."
        )
    return found.table


def rules_of(constraints: Iterable[Any], encoder: TableEncoder) -> list[Rule]:
    """Return what constraints in any form say of rows: text, functions and rules."""
    return [comparison_of(c, encoder) if type(c) is str else _rule(c) for c in constraints]


def _rule(constraint: Any) -> Rule:
    if isinstance(constraint, Rule):
        return constraint
    if not callable(constraint) or type(constraint) is type:
        raise ValueError(
            f"{constraint!r} is no constraint: give text, a callable, KnownCombinations or Unique."
        )
    return OfTable(constraint)


def _listed(constraints: Any) -> list[Any]:
    """Return constraints as a list; refuse one that is not in a list."""
    if type(constraints) is str or not hasattr(constraints, "__iter__"):
        raise ValueError(
            f"constraints must be a list, got {constraints!r}: write [{constraints!r}], or [] for "
            "none."
        )
    return list(constraints)


def _all_of(rules: list[Rule], encoder: TableEncoder) -> Mask:
    """Return a mask of the rows that keep all constraints."""
    masks = [rule.begun(encoder) for rule in rules if not rule.is_last]
    last = [rule.begun(encoder) for rule in rules if rule.is_last]

    def keeps(X: Any) -> np.ndarray:
        kept = np.ones(len(X), dtype=bool)
        for mask in masks:
            kept &= mask(X)
        for mask in last:
            rows = np.flatnonzero(kept)
            kept[rows] = mask(container_of(X).taken(X, rows))
        return kept

    return keeps


def _names(columns: Any) -> list[Any]:
    """Return names of columns as a list; text is one name, and not the names of its letters."""
    if type(columns) is str or not hasattr(columns, "__iter__"):
        raise ValueError(f"columns must be a list of names, got {columns!r}: write [{columns!r}].")
    return list(columns)


def _keys(X: Any, columns: list[Any]) -> list[tuple[Any, ...]]:
    """Return the values of some columns of each row, None where they are missing."""
    container = container_of(X)
    names = container.names_of(X)
    if unknown := [name for name in columns if name not in names]:
        raise ValueError(f"a constraint names {unknown}, which are no columns: these are {names}.")
    found = []
    for name in columns:
        cells = container.cells(X, names.index(name), False)
        pairs = zip(_plain(cells), cells.missing.tolist(), strict=True)
        found.append([None if gap else value for value, gap in pairs])
    return list(zip(*found, strict=True))


def _plain(cells: Cells) -> list[Any]:
    """Return values as objects of Python, moments of any unit as times."""
    if cells.values.dtype.kind != "M":
        return list(cells.values.tolist())
    times = cells.values.astype("datetime64[us]")
    zone = None if cells.kind.zone is None else UTC
    # Neither nanoseconds nor years beyond 9999 are times of Python.
    return [
        time.replace(tzinfo=zone) if own == rounded and type(time) is datetime else own
        for own, rounded, time in zip(cells.values, times, times.tolist(), strict=True)
    ]


def _rows_of(columns: Sequence[FittedColumn], values: Sequence[np.ndarray]) -> list[Any]:
    """Return a key of each row, from the numbers or levels of its columns; None if missing."""
    keys = []
    for fitted, found in zip(columns, values, strict=True):
        gaps = is_missing(found)
        if not fitted.kind.is_categorical:
            found = fitted.measure.reference.snapped(found)
        pairs = zip(found.tolist(), gaps.tolist(), strict=True)
        keys.append([None if gap else value for value, gap in pairs])
    return list(zip(*keys, strict=True))
