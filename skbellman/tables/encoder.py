"""A table and the matrix that a density is fitted to."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from skbellman.mixtures import best_mixture
from skbellman.tables.cells import nodes
from skbellman.tables.columns import (
    AtomColumn,
    CategoricalColumn,
    Column,
    NumericColumn,
    find_atoms,
)
from skbellman.tables.containers import Container, container_of
from skbellman.tables.grids import grid_step
from skbellman.tables.kinds import Cells, Kind, is_missing
from skbellman.tables.looks import what_text_looks_like
from skbellman.tables.reading import TableReader, check_finite, too_fine
from skbellman.tables.tallied import (
    CountedColumn,
    TalliedColumn,
    are_few,
    are_scattered,
    is_short,
    stands_apart,
)

# Share of the variance of a column that the others must leave unexplained.
_COLLINEAR = 1e-6
# Of a column, so that a range and a step beyond an end are numbers.
_LARGEST = 1e306
# Deviations from the middle of a column up to which fields, in float32, can be asked.
_FARTHEST = 1e15
# Rows below which columns are always shaped, and rows that are looked at above.
_MIN_STRAIGHTENED = 50
_MIXTURE_ROWS = 2000
# Rows from which it is told, at most, what columns are of one another.
_MOST_ROWS = 100_000
_SHOWN_LEVELS = 8


class Piece(NamedTuple):
    """A part of a column: the position of the column, that of the part in it, and the part."""

    column: int
    position: int
    part: Column


class TableEncoder:
    """Map a frame or array of n rows to a matrix of shape (n, n_dims), and back.

    Coordinates of numbers come first, then those of categories.

    Parameters
    ----------
    categorical_features : "from_dtype", None, or sequence of names, positions or booleans
    max_categories : int
    handle_unknown : {"zero_density", "error"}
    dequantize : bool
    atom_share : float
        Of a numeric column that a value must hold to be an atom; 1 for no atoms, and no values on a
        coarse grid that are modelled one by one.

    Attributes
    ----------
    columns_ : list of Column
        One for each column of the table.
    is_categorical_ : array of bool, shape (n_features,)
    pieces_ : list of Piece
        The parts of the columns in the order of their coordinates.
    blocks_ : array of int, shape (n_dims,)
        The piece that each coordinate belongs to, counting those that have any.
    gaps_ : array of bool, shape (n_patterns, n_features)
        The sets of columns that were missing together in a row.
    gap_shares_ : array of float, shape (n_patterns,)
        The share of the rows that each of them had.

    Missing values are NaN among the coordinates, and have log-measure 0.
    """

    def __init__(
        self,
        categorical_features: Any = "from_dtype",
        max_categories: int = 100,
        handle_unknown: str = "zero_density",
        dequantize: bool = True,
        atom_share: float = 0.05,
    ) -> None:
        self.categorical_features = categorical_features
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.dequantize = dequantize
        self.atom_share = atom_share

    def fit(self, X: Any) -> TableEncoder:
        """Learn each column's map; warn of columns that are linear functions of others."""
        self.container_: Container = container_of(X)(X)
        self.reader_ = TableReader(self.container_)
        self.columns_: list[Column] = []
        self.palettes_: list[Any] = []
        declared = self._declared()
        values = [
            self._fit_column(X, j, None if declared is None else bool(declared[j]))
            for j in range(len(self.names))
        ]
        self.is_categorical_ = np.array([kind.is_categorical for kind in self.reader_.kinds])
        missing = np.column_stack([is_missing(v) for v in values])
        self.gaps_, counts = np.unique(missing, axis=0, return_counts=True)
        self.gap_shares_ = counts / len(missing)
        # Tallied columns have no other shape to choose.
        smooth = [j for j, c in enumerate(self.columns_) if type(c) is NumericColumn]
        self._straighten(smooth, _complete(values, smooth))
        numeric = [j for j, c in enumerate(self.columns_) if c.holds_numbers]
        self._warn_collinear(numeric, _complete(values, numeric))
        pieces = [
            Piece(j, k, part) for j, c in enumerate(self.columns_) for k, part in enumerate(c.parts)
        ]
        self.pieces_ = sorted(pieces, key=lambda piece: not piece.part.holds_numbers)
        widths = [piece.part.n_dims for piece in self.pieces_ if piece.part.n_dims]
        if not widths:
            raise ValueError("Every column of X is constant: there is no density to fit.")
        self.blocks_ = np.repeat(np.arange(len(widths)), widths)
        return self

    @property
    def names(self) -> list[Any]:
        """Names of the table's columns; positions for an array."""
        return self.container_.names

    def corners(self) -> list[np.ndarray]:
        """Return the points of each category that has coordinates, (K, K - 1) each."""
        parts = [piece.part for piece in self.pieces_]
        return [c.corners for c in parts if isinstance(c, CategoricalColumn) and c.n_dims]

    def floors(self, sigma_min: float) -> np.ndarray:
        """Return the lowest noise level of each coordinate, (n_dims,)."""
        floors = [
            np.full(part.n_dims, part.floor if isinstance(part, CategoricalColumn) else sigma_min)
            for _, _, part in self.pieces_
        ]
        return np.concatenate(floors)

    def read(self, X: Any, columns: Sequence[Any] | None = None) -> list[np.ndarray]:
        """Return the numbers, or levels, of each column of the fitted table, checked.

        Of ``columns`` alone where they are given, by name, which X then may hold alone; the others
        are missing.
        """
        found = zip(self.reader_.kinds, self.reader_.read(X, columns), strict=True)
        values = [kind.read(cells) for kind, cells in found]
        if self.handle_unknown == "error":
            for j, column in enumerate(self.columns_):
                remedy = ' Remove the row, or set handle_unknown="zero_density".'
                self._check_levels_known(j, column, values[j], remedy)
        return values

    def read_given(self, X: Any) -> list[Cells]:
        """Return the cells of each column, as the fitted table holds them; others are refused.

        X is a table with some of the columns, or a mapping of their names to the values of one
        row; cells that it does not have are missing.
        """
        return self.reader_.read_given(X)

    def goes_by_position(self, X: Any) -> bool:
        """Say whether columns of X are those of the fitted table by position, and not by name."""
        return self.reader_.goes_by_position(X)

    def check_holdable(self, values: list[np.ndarray]) -> None:
        """Refuse numbers that no draw of the fitted columns could hold."""
        for j, kind in enumerate(self.reader_.kinds):
            if kind.is_categorical:
                continue
            present = values[j][~is_missing(values[j])]
            self._check_unit(j, present)

    def _check_unit(self, j: int, values: np.ndarray) -> None:
        unit = self.reader_.kinds[j].unit[0]
        if not unit:
            return
        # What is left by rounding alone is no fraction of a unit.
        gaps = np.abs(values - np.rint(values / unit) * unit)
        between = values[gaps > 2 * np.spacing(np.abs(values))]
        if len(between):
            kind = self.reader_.kinds[j]
            raise too_fine(self.names[j], kind, kind.shown(between[0]))

    def check_known(self, values: list[np.ndarray]) -> None:
        """Refuse values that were not there in fit in columns that take no others."""
        for j, column in enumerate(self.columns_):
            self._check_levels_known(j, column, values[j])

    def _check_levels_known(
        self, j: int, column: Column, values: np.ndarray, remedy: str = ""
    ) -> None:
        present = values[~is_missing(values)]
        unknown, levels = present[~column.takes(present)].tolist(), column.only_levels
        if unknown and levels is not None:
            show = repr if self.is_categorical_[j] else self.reader_.kinds[j].shown
            shown = ", ".join(map(show, levels[:_SHOWN_LEVELS].tolist()))
            more = ", ..." if len(levels) > _SHOWN_LEVELS else ""
            raise ValueError(
                f"Column {self.names[j]!r} holds {show(unknown[0])}, which was not there in fit, "
                f"among {shown}{more}.{remedy}"
            )

    def check_near(self, matrix: np.ndarray) -> None:
        """Refuse coordinates, (n, n_dims), so far out that fields there are no numbers."""
        far = (np.abs(matrix) > _FARTHEST).any(axis=0)
        if far.any():
            with_any = [self.names[piece.column] for piece in self.pieces_ if piece.part.n_dims]
            raise ValueError(
                f"Column {with_any[self.blocks_[far.argmax()]]!r} holds a value so far from those "
                "of fit that nothing can be drawn beside it: repair it, or leave it out."
            )

    def coordinates_of(self, columns: Sequence[Any]) -> np.ndarray:
        """Return which coordinates belong to the columns of these names, (n_dims,)."""
        with_any = [self.names[piece.column] for piece in self.pieces_ if piece.part.n_dims]
        return np.isin(self.blocks_, [k for k, name in enumerate(with_any) if name in columns])

    def spread(
        self, values: list[np.ndarray], n_times: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates and log-measures of rows that were read, n_times spread over their grid.

        Shapes (n_times, n, n_dims) and (n_times, n).
        """  # noqa: E501 - one sentence
        places = (rng.random((len(self.pieces_), len(values[0]))) for _ in range(n_times))
        draws = list(self._encode_at(values, places))
        return np.stack([z for z, _ in draws]), np.stack([log for _, log in draws])

    def veil_atoms(
        self,
        values: list[np.ndarray],
        matrix: np.ndarray,
        rng: np.random.Generator,
        whole: np.ndarray | bool = True,
    ) -> None:
        """Make coordinates, (n_times, n, n_dims), into what a density with atoms is learned from.

        Where an atom holds, the number is unseen in a row that is scored, and any where one is
        drawn: there it is filled with noise, independent of all else. Then it is hidden in half of
        all rows but those of the first time that are to stay whole, (n,), whether or not an atom
        holds in them: rows that are chosen by their atoms would teach another share of them.
        """
        for k, (j, _, part) in enumerate(self.pieces_):
            column = self.columns_[j]
            if part.holds_numbers and isinstance(column, AtomColumn):
                beside = np.isin(values[j], column.atoms)
                matrix[:, beside, k] = rng.standard_normal((len(matrix), beside.sum()))
                hidden = rng.random(matrix.shape[:2]) < 0.5
                hidden[0] &= ~np.broadcast_to(whole, hidden[0].shape)
                matrix[hidden, k] = np.nan

    def encode_cells(
        self, values: list[np.ndarray], n_places: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Iterate over coordinates, (n, n_dims), and log-measures, (n,), at places of each cell.

        The places are spread evenly over the cell of the grid, its centre the first of them, and
        the same for every row. Without a grid there is one.
        """
        places = even_places(n_places if self.has_grid() else 1, len(self.pieces_))
        return self._encode_at(values, places)

    def encode_nodes(
        self, values: list[np.ndarray], held: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return places to evaluate a density at, (m, n_dims), their rows and log-measures, (m,).

        The sum over the places of a row is the row's density (`skbellman.tables.cells`).
        Coordinates that are ``held``, (n_dims,), stay at the centre of their cell.
        """
        divided = [c.divide(v) for c, v in zip(self.columns_, values, strict=True)]
        return nodes([(part, divided[j][k]) for j, k, part in self.pieces_], held)

    def decode(self, matrix: np.ndarray, given: list[np.ndarray] | None = None) -> list[np.ndarray]:
        """Return numbers, or codes of categories, of the columns of rows with these coordinates.

        ``given`` holds the values of each column, missing where they are to be decoded.
        """
        ends = np.cumsum([piece.part.n_dims for piece in self.pieces_])[:-1]
        parts: list[list[np.ndarray]] = [[] for _ in self.columns_]
        for (j, _, part), block in zip(self.pieces_, np.split(matrix, ends, axis=1), strict=True):
            parts[j].append(part.decode(block))
        decoded = [c.join(found) for c, found in zip(self.columns_, parts, strict=True)]
        if given is None:
            return decoded
        pairs = zip(given, decoded, self.codes(given), strict=True)
        return [np.where(is_missing(v), drawn, kept) for v, drawn, kept in pairs]

    def codes(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """Return the columns that were read with codes in place of categories, -1 if missing."""
        return [
            column.codes(v) if isinstance(column, CategoricalColumn) else v
            for column, v in zip(self.columns_, values, strict=True)
        ]

    def restore(
        self,
        decoded: list[np.ndarray],
        given: list[Cells] | None = None,
        gaps: np.ndarray | None = None,
    ) -> Any:
        """Return the table of numbers and codes, like the fitted one.

        Where cells are given, they are in the table as they are, and not what was decoded. Where
        gaps, (n, n_features), are, it has none.
        """
        columns = []
        for j, numbers in enumerate(decoded):
            column = self._restored(j, numbers, None if given is None else given[j])
            if gaps is not None and gaps[:, j].any():
                column = self.container_.with_gaps(column, gaps[:, j])
            columns.append(column)
        return self.container_.table(columns)

    def _restored(self, j: int, decoded: np.ndarray, given: Cells | None) -> Any:
        kind, palette = self.reader_.kinds[j], self.palettes_[j]
        if kind.is_categorical:
            return self.container_.painted(palette, decoded)
        column = self.columns_[j]
        if isinstance(column, CategoricalColumn):  # a constant
            decoded = column.levels[decoded]
        cells = kind.drawn(decoded)
        if palette is not None:
            cells = palette.exact(decoded, cells)
        if given is not None:
            cells = np.where(given.missing, cells, given.values)
        return self.container_.column(j, cells)

    def draw_gaps(
        self, n_rows: int, given: list[Cells] | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Return gaps, (n_rows, n_features), as often as in the fitted table, but where given."""
        gaps = self.gaps_[rng.choice(len(self.gaps_), size=n_rows, p=self.gap_shares_)]
        return gaps if given is None else gaps & np.column_stack([c.missing for c in given])

    def has_grid(self) -> bool:
        """Say whether any column lies on a grid."""
        return any(_is_on_grid(piece.part) for piece in self.pieces_)

    def has_atoms(self) -> bool:
        """Say whether any column has atoms."""
        return any(isinstance(c, AtomColumn) for c in self.columns_)

    def _encode_at(
        self, values: list[np.ndarray], places: Iterable[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encode columns that were read, those on a grid moved to each place (or row to one)."""
        divided = [c.divide(v) for c, v in zip(self.columns_, values, strict=True)]
        parts = [(part, divided[j][k]) for j, k, part in self.pieces_]
        still = [None if _is_on_grid(part) else _encoded(part, v) for part, v in parts]
        for place in places:
            yield _joined(
                [
                    _encoded(part, part.spread(v, u)) if done is None else done
                    for (part, v), u, done in zip(parts, place, still, strict=True)
                ]
            )

    def _warn_collinear(self, numeric: list[int], values: list[np.ndarray]) -> None:
        if not numeric:
            return
        functions = [numeric[k] for k in collinear(np.column_stack(values))]
        # Levels have probabilities, whatever else they are a function of.
        dependent = [j for j in functions if self.columns_[j].parts[0].holds_numbers]
        if dependent:
            warnings.warn(
                f"Columns {[self.names[j] for j in dependent]} are linear functions of other "
                "columns, so the table has no density; noise of sigma_min gives it one, and "
                "scores depend on sigma_min. Drop the redundant columns to avoid this.",
                UserWarning,
                stacklevel=4,
            )

    def _fit_column(self, X: Any, j: int, declared: bool | None) -> np.ndarray:
        """Learn what column j holds and its map, and return its numbers or levels.

        ``declared`` says whether it is one of categories, None if its dtype says so.
        """
        cells = container_of(X).cells(X, j, bool(declared))
        present = np.flatnonzero(~cells.missing)
        if not len(present):
            raise ValueError(
                f"Column {self.names[j]!r} holds no value, every one is missing: drop it."
            )
        self.reader_.kinds.append(cells.kind)
        if cells.kind.is_categorical:
            if declared is False:
                raise ValueError(
                    f"Column {self.names[j]!r} holds categories but is not among "
                    'categorical_features: add it, or use categorical_features="from_dtype".'
                )
            self._fit_levels(X, j, cells, present)
            return cells.values
        cells.kind.learn(cells.values[present])
        values = cells.numbers()
        check_finite(self.names[j], cells)
        numbers = values[present]
        if (numbers == numbers[0]).all():
            column: Column = CategoricalColumn(numbers[:1])
        else:
            self._check_magnitude(j, numbers)
            column = self._number(numbers, cells.kind.precision, cells.kind.number_bounds)
        self.columns_.append(column)
        self.palettes_.append(_exact_levels(column, cells.kind, numbers, cells.values[present]))
        return values

    def _check_magnitude(self, j: int, numbers: np.ndarray) -> None:
        extreme = numbers[np.abs(numbers).argmax()]
        if abs(extreme) > _LARGEST:
            raise ValueError(
                f"Column {self.names[j]!r} holds {extreme:g}, near which sums and steps are no "
                "numbers: divide the column by a constant, or repair the value."
            )

    def _fit_levels(self, X: Any, j: int, cells: Cells, present: np.ndarray) -> None:
        levels, first = _levels(cells.values[present])
        hint = what_text_looks_like(levels) if cells.kind.is_text else ""
        self._check_levels(j, len(levels), hint)
        if hint:
            warnings.warn(
                f"Column {self.names[j]!r} holds text that {hint}, or declare it, with "
                "astype('category'), if it is an identifier.",
                UserWarning,
                stacklevel=6,
            )
        self.columns_.append(CategoricalColumn(levels))
        self.palettes_.append(self.container_.palette(X, j, present[first]))

    def _number(self, values: np.ndarray, precision: float, bounds: tuple[float, float]) -> Column:
        """Return a column of these values: counted, tallied, with atoms, or else smooth."""
        atoms = find_atoms(values, self.atom_share)
        rest = values[~np.isin(values, atoms)]
        if not len(rest):
            return AtomColumn(atoms, None)
        step = self._step(values, precision)
        if are_few(values, step):
            return CountedColumn(values, step)
        if self._looks_at_values and are_scattered(values, step):
            return AtomColumn(np.unique(values), None)
        if len(atoms) and not (is_short(values, step) and stands_apart(values, step)):
            step = self._step(rest, precision)
            return AtomColumn(atoms, self._line(rest, step, precision, bounds))
        return self._line(values, step, precision, bounds)

    def _line(
        self, values: np.ndarray, step: float, precision: float, bounds: tuple[float, float]
    ) -> NumericColumn:
        """Return a column without atoms: tallied where values stand apart."""
        if stands_apart(values, step):
            return TalliedColumn(values, precision, bounds)
        return NumericColumn(values, self.dequantize, precision, bounds)

    def _step(self, values: np.ndarray, precision: float) -> float:
        """Return the step of the grid, 0 without one or where values are not looked at."""
        return grid_step(values, precision) if self._looks_at_values else 0.0

    @property
    def _looks_at_values(self) -> bool:
        return self.dequantize and self.atom_share < 1

    def _straighten(self, numeric: list[int], values: list[np.ndarray]) -> None:
        """Shape the columns no more where a mixture explains the table better unshaped.

        Each column's shape makes its own distribution normal. Where columns are skewed because
        the table has clusters, that bends the clusters instead.
        """
        if not numeric or len(values[0]) < _MIN_STRAIGHTENED:
            return
        rng = np.random.default_rng(0)
        shaped = [cast("NumericColumn", self.columns_[j]) for j in numeric]
        values = [c.spread(v, rng.random(len(v))) for c, v in zip(shaped, values, strict=True)]
        straight = [c.straight(v) for c, v in zip(shaped, values, strict=True)]
        order = rng.permutation(len(values[0]))[:_MIXTURE_ROWS]
        values = [v[order] for v in values]
        if _mixture_evidence(straight, values) > _mixture_evidence(shaped, values):
            for j, column in zip(numeric, straight, strict=True):
                self.columns_[j] = column

    def _check_levels(self, j: int, n_levels: int, hint: str) -> None:
        if n_levels > self.max_categories:
            remedies = "drop it if it is an identifier, group rare categories, or raise"
            remedies = f"it holds text that {hint}, {remedies}" if hint else remedies
            raise ValueError(
                f"Column {self.names[j]!r} has {n_levels} categories, more than "
                f"max_categories={self.max_categories}: {remedies} max_categories."
            )

    def _declared(self) -> np.ndarray | None:
        """Return which columns categorical_features names, None if dtypes say which they are."""
        chosen = self.categorical_features
        if isinstance(chosen, str) and chosen == "from_dtype":
            return None
        return _mask(chosen, self.names)


def _mixture_evidence(columns: list[NumericColumn], values: list[np.ndarray]) -> float:
    """Return minus half the BIC of the best Gaussian mixture on the columns' coordinates."""
    matrix, log_measure = _joined([c.encode(v) for c, v in zip(columns, values, strict=True)])
    return float(log_measure.sum() - 0.5 * best_mixture(matrix, seed=0).bic(matrix))


def _complete(values: list[np.ndarray], columns: list[int]) -> list[np.ndarray]:
    """Return the columns of the rows in which none of them is missing."""
    if not columns:
        return []
    n_rows = len(values[columns[0]])
    every = -(-n_rows // _MOST_ROWS)  # some of many rows, evenly
    matrix = np.column_stack([values[j][::every] for j in columns])
    return list(matrix[~np.isnan(matrix).any(1)].T)


def _encoded(column: Column, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode a column, its missing values as NaN of log-measure 0."""
    z, log_measure = column.encode(values)
    missing = is_missing(values)
    return np.where(missing[:, None], np.nan, z), np.where(missing, 0.0, log_measure)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates and log-measures of rows from those of their columns."""
    return np.hstack([z for z, _ in parts]), np.sum([log for _, log in parts], axis=0)


def _is_on_grid(column: Column) -> bool:
    return isinstance(column, NumericColumn) and column.step > 0


def even_places(n_places: int, n_columns: int) -> np.ndarray:
    """Return points that fill the unit cube evenly, (n_places, n_columns), the centre first.

    The additive recurrence of the powers of the root of x^(d + 1) = x + 1.
    """
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (n_columns + 1))
    steps = root ** -np.arange(1.0, n_columns + 1)
    return (0.5 + np.arange(n_places)[:, None] * steps) % 1.0


def collinear(matrix: np.ndarray) -> list[int]:
    """Return which columns are linear functions of the others, up to 0.1% of their deviation.

    A constant is none. With no more rows than other columns every column would be one: then none
    is returned.
    """
    varying = np.flatnonzero((matrix != matrix[:1]).any(0))
    if len(varying) < 2 or len(matrix) <= len(varying) + 1:
        return []
    # Squares of huge and of tiny values are no numbers.
    scaled = matrix[:, varying] / np.abs(matrix[:, varying]).max(0)
    offset = scaled - scaled.mean(0)
    correlation = np.corrcoef(offset / np.abs(offset).max(0), rowvar=False)
    inverse = np.linalg.inv(correlation + 1e-9 * np.eye(len(varying)))
    return varying[1 / np.diag(inverse) < _COLLINEAR].tolist()


class ExactLevels(NamedTuple):
    """Levels of a column of numbers, ascending, and the cells that a double cannot tell."""

    numbers: np.ndarray
    cells: np.ndarray

    def exact(self, numbers: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return the cells, those of the levels' numbers as the fitted table holds them."""
        place = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        return np.where(self.numbers[place] == numbers, self.cells[place], cells)


def _exact_levels(
    column: Column, kind: Kind, numbers: np.ndarray, cells: np.ndarray
) -> ExactLevels | None:
    """Return the levels of a column of which some cell is no double, None where there is none."""
    levels = column.atoms if isinstance(column, AtomColumn) else column.only_levels
    if levels is None:
        return None
    found, first = np.unique(numbers, return_index=True)
    first = first[np.isin(found, levels)]
    exact = ExactLevels(numbers[first], cells[first])
    return None if (kind.drawn(exact.numbers) == exact.cells).all() else exact


def _levels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different values, sorted, and the row where each comes first."""
    if values.dtype != object:
        _, rows = np.unique(values, return_index=True)
        return values[rows], rows
    n_rows = len(values)
    first = dict(zip(values[::-1].tolist(), reversed(range(n_rows)), strict=True))
    try:
        ordered = sorted(first)
    except TypeError:  # numbers beside text, or members of an Enum
        ordered = sorted(first, key=lambda level: (type(level).__name__, str(level)))
    rows = np.array([first[level] for level in ordered])
    return values[rows], rows


def _mask(chosen: Sequence[Any] | None, names: list[Any]) -> np.ndarray:
    """Return categorical_features, given as names, positions or booleans, as a mask."""
    features = [] if chosen is None else list(chosen)
    if len(features) == len(names) and all(isinstance(f, bool | np.bool_) for f in features):
        return np.array(features)
    mask = np.zeros(len(names), dtype=bool)
    for feature in features:
        if feature in names:
            mask[names.index(feature)] = True
        elif isinstance(feature, int | np.integer) and -len(names) <= feature < len(names):
            mask[feature] = True
        else:
            raise ValueError(f"categorical_features names {feature!r}, which is no column of X.")
    return mask
