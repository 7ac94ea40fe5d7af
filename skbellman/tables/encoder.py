"""A table and the matrix that a density is fitted to."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from numbers import Integral, Real
from operator import is_
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from skbellman.notices import warn
from skbellman.packing import PackableMixin
from skbellman.state import renewed
from skbellman.tables.collinearity import dependent_columns
from skbellman.tables.columns.base import Codes, Column, Coordinates, LogMeasure, Values
from skbellman.tables.containers import Container, container_of
from skbellman.tables.declared import declared_columns
from skbellman.tables.distinct import are_first
from skbellman.tables.equalities import equalities_among, made_equal
from skbellman.tables.fitted import FittedColumn
from skbellman.tables.gaps import Gaps, some_rows
from skbellman.tables.kinds import Cells, is_missing
from skbellman.tables.layout import Layout, Piece
from skbellman.tables.learning import ColumnLearner
from skbellman.tables.measures import TableMeasure
from skbellman.tables.parts import parts_of
from skbellman.tables.reading import TableReader
from skbellman.tables.straightening import straightened
from skbellman.validation import validate_table


class TableEncoder(PackableMixin, BaseEstimator):
    """How the columns of a table are read: categories, grids and point masses.

    It maps a frame or array of n rows to a matrix of shape (n, n_dims), and back. Coordinates of
    numbers come first, then those of categories. Missing values are NaN among the coordinates.
    Densities of two tables can be compared or added if they share an encoder.

    Parameters
    ----------
    categorical_features : "from_dtype", None, or array-like of int, str or bool, \
            default="from_dtype"
        Which columns are categories. "from_dtype" takes strings, booleans and categorical
        dtypes of a frame.
    max_categories : int, default=100
        A column with more categories raises an error.
    handle_unknown : {"zero_density", "error"}, default="zero_density"
        What happens to the score of a category that was not in the fitted table, or of another
        value of a constant column: log-density -inf, or an error that names it.
    dequantize : bool, default=True
        Whether numeric columns on a grid (integers, prices) are recognised. They are spread
        uniformly over a step for fitting, or modelled value by value if they have at most 24
        values. Samples lie on the grid. The score of an integer is a log-probability per unit.
    atom_share : float or "auto", default="auto"
        Least share of a numeric column that makes a value a point mass (atom). Examples are the
        zeros of a capital gain, and payments of whole thousands. A point mass scores a
        probability in place of a density. "auto" takes values of at least three different rows, or
        of 5%. A column whose counts predict rows no better than a smooth density has no point
        masses. 1 turns off point masses and modelling value by value.
    identifiers : "auto", None, or array-like of int, str or bool, default="auto"
        Which columns are identifiers of rows: text, or whole numbers. They have no part in the
        density, and samples have new identifiers of the same form. "auto" selects, with a warning,
        columns of text with more than ``max_categories`` values, nearly all of which occur once. A
        list adds columns. None turns identifiers off.
    equal_columns : bool, default=True
        Whether samples repeat the value of another column as often as rows do: payments of the
        whole bill. This needs 3% of the rows. Scores do not need it, and are a little more precise
        without.

    Attributes
    ----------
    fitted_ : list of FittedColumn
        The fitted columns of the table.
    layout_ : Layout
        Which coordinate belongs to which column.
    gaps : Gaps
        Which columns were missing together.
    is_categorical_ : array of bool, shape (n_features,)
        Which columns are categories.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman import BellmanDiffusionDensity, TableEncoder
    >>> X = np.random.default_rng(0).normal(size=(90, 2))
    >>> encoder = TableEncoder(dequantize=False).fit(X)
    >>> first = BellmanDiffusionDensity(encoder=encoder, n_steps=5, random_state=0).fit(X[:50])
    >>> second = BellmanDiffusionDensity(encoder=encoder, n_steps=5, random_state=0).fit(X[50:])
    >>> first.measure_ == second.measure_
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "max_categories": [Interval(Integral, 2, None, closed="left")],
        "handle_unknown": [StrOptions({"zero_density", "error"})],
        "dequantize": ["boolean"],
        "atom_share": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="right")],
        "identifiers": ["array-like", StrOptions({"auto"}), None],
        "equal_columns": ["boolean"],
    }

    def __init__(
        self,
        categorical_features: Any = "from_dtype",
        max_categories: int = 100,
        handle_unknown: str = "zero_density",
        dequantize: bool = True,
        atom_share: float | str = "auto",
        identifiers: Any = "auto",
        equal_columns: bool = True,
    ) -> None:
        self.categorical_features = categorical_features
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.dequantize = dequantize
        self.atom_share = atom_share
        self.identifiers = identifiers
        self.equal_columns = equal_columns

    def fit(self, X: Any, y: Any = None) -> TableEncoder:
        """Fit the map of each column; warn of columns that are linear functions of others.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            At least two rows.
        y : None
            Ignored.

        Returns
        -------
        self : TableEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            As `BellmanDiffusionDensity.fit` raises, for tables that no density can be fitted to.

        Examples
        --------
        >>> from skbellman import TableEncoder
        >>> TableEncoder().fit([[0.1, 1.0], [0.4, 2.0], [0.2, 2.0]]).is_categorical_
        array([False, False])
        """
        return self._fit(X)

    def _fit(self, X: Any, origin: np.ndarray | None = None) -> TableEncoder:
        with renewed(self) as draft:
            X = validate_table(draft, X, reset=True)
            draft._learn(X, origin)
        return self

    def _learn(self, X: Any, origin: np.ndarray | None) -> None:
        self.container_: Container = container_of(X)(X)
        named = declared_columns(self.identifiers, self.names, "identifiers")
        # Beside those that are declared, others may be found.
        is_name = [False if self.identifiers is None else (bool(n) or None) for n in named]
        is_category = [
            None if declared is None else bool(declared)
            for declared in declared_columns(self.categorical_features, self.names)
        ]
        learner = ColumnLearner(
            self.container_,
            self.max_categories,
            self.dequantize,
            self.atom_share,
            _first_rows(self, X, origin, is_name, is_category),
        )
        fitted, values, missing = _learned(learner, X, is_category, is_name)
        kinds = [column.kind for column in fitted]
        self.reader_ = TableReader(self.container_, kinds)
        self.is_categorical_ = np.array(
            [f.kind.is_categorical and not f.column.is_fresh for f in fitted]
        )
        self.gaps = Gaps.among(missing)
        columns = straightened([f.column for f in fitted], values)
        self.fitted_ = [
            replace(f, column=column) for f, column in zip(fitted, columns, strict=True)
        ]
        self._warn_of(dependent_columns(columns, values))
        looks_for_equal = self.equal_columns and self.dequantize and self.atom_share != 1
        equalities = equalities_among(self.fitted_, values) if looks_for_equal else []
        self.layout_ = Layout(columns, equalities)
        if not self.layout_.n_dims:
            raise ValueError(
                "Every column of X is constant or an identifier: there is no density to fit."
            )

    def fitted_to(self, X: Any, origin: np.ndarray | None = None) -> TableEncoder:
        """Return a copy fitted to X. If it is fitted, check that X matches, and return itself.

        If X has other gaps, or identifiers that are new to it, return a copy with the gaps of X,
        whose own identifiers are none of those in X. Rows of one ``origin``, (n,), are copies of
        one row.

        Raises
        ------
        ValueError
            If X has other columns than the fitted table, or other categories.
        """
        if not hasattr(self, "layout_"):
            self._validate_params()
            return copy.deepcopy(self)._fit(X, origin)
        if (names := container_of(X).names_of(X)) != self.names:
            raise ValueError(
                f"The columns of X are {names}, those of the encoder are {self.names}. Fit it "
                "to a table with the columns of X."
            )
        gaps, beyond = _read_again(self, X)
        _warn_of_beyond(self.fitted_, beyond)
        return _avoiding_identifiers(self, X).with_gaps(gaps)

    def with_gaps(self, gaps: Gaps) -> TableEncoder:
        """Return the encoder, or a copy of it, that draws these gaps."""
        if self.gaps.are_those_of(gaps):
            return self
        other = copy.copy(self)
        other.gaps = gaps
        return other

    def set_params(self, **params: Any) -> TableEncoder:
        """Set parameters. If there are any, the encoder is no longer fitted.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        self : TableEncoder
            The encoder.

        Raises
        ------
        ValueError
            If a name is not a parameter.

        Examples
        --------
        >>> from skbellman import TableEncoder
        >>> TableEncoder().set_params(max_categories=20).max_categories
        20
        """
        if params:
            for name in [name for name in vars(self) if name not in self.get_params(deep=False)]:
                delattr(self, name)
        super().set_params(**params)
        return self

    def __sklearn_clone__(self) -> TableEncoder:
        """Return a copy, still fitted: a fitted encoder is a parameter of a density."""
        return copy.deepcopy(self)

    @property
    def names(self) -> list[Any]:
        """Names of the table's columns; positions for an array."""
        return self.container_.names

    @property
    def columns_(self) -> list[Column]:
        """The map of each column of the table."""
        return self.layout_.columns

    @property
    def pieces_(self) -> list[Piece]:
        """The parts of the columns in the order of their coordinates."""
        return self.layout_.pieces

    @property
    def blocks_(self) -> np.ndarray:
        """The piece that each coordinate belongs to, counting those that have any, (n_dims,)."""
        return self.layout_.blocks

    @property
    def gaps_(self) -> np.ndarray:
        """Sets of columns that were missing together in a row, (n_patterns, n_features)."""
        return self.gaps.patterns

    @property
    def measure(self) -> TableMeasure:
        """The reference measure of the scores of each column: see `same_measure`."""
        return tuple(column.measure for column in self.fitted_)

    def corners(self) -> list[np.ndarray]:
        """Return the points of each category that has coordinates, (K, its n_dims) each."""
        return self.layout_.corners()

    def floors(self, sigma_min: float) -> np.ndarray:
        """Return the lowest noise level of each coordinate, (n_dims,)."""
        return self.layout_.floors(sigma_min)

    def read(self, X: Any, columns: Sequence[Any] | None = None) -> list[Values]:
        """Return the numbers, or levels, of each column of the fitted table, checked.

        With ``columns``, by name, only these are read, and X needs no others; all others are
        missing.
        """
        found = zip(self.reader_.kinds, self.reader_.read(X, columns), strict=True)
        values = [kind.read(cells) for kind, cells in found]
        if self.handle_unknown == "error":
            self.check_known(values, ' Remove the row, or set handle_unknown="zero_density".')
        return values

    def read_given(self, X: Any) -> list[Cells]:
        """Return the cells of each column in the dtype of the fitted table; refuse all others.

        X is a table with some of the columns, or a mapping of their names to the values of one row.
        All other cells are missing.
        """
        return self.reader_.read_given(X)

    def goes_by_position(self, X: Any) -> bool:
        """Say whether columns of X are matched by position, and not by name."""
        return self.reader_.goes_by_position(X)

    def check_holdable(self, values: list[Values]) -> None:
        """Refuse numbers that the fitted columns cannot hold."""
        for column, found in zip(self.fitted_, values, strict=True):
            column.check_holdable(found)

    def check_known(self, values: list[Values], remedy: str = "") -> None:
        """Refuse new values in columns that take only the fitted ones."""
        for column, found in zip(self.fitted_, values, strict=True):
            column.check_known(found, remedy)

    def check_near(self, matrix: Coordinates, farthest: float = 1e15) -> None:
        """Refuse coordinates, (n, n_dims), so far out that the fields are not finite in float32.

        They are in float32.
        """
        far = (np.abs(matrix) > farthest).any(axis=0)
        if far.any():
            raise ValueError(
                f"Column {self.names[self.layout_.column_of[far.argmax()]]!r} holds a value so far "
                "from those of fit that no sample can be conditioned on it: correct it, or leave "
                "it out."
            )

    def coordinates_of(self, columns: Sequence[Any]) -> np.ndarray:
        """Return which coordinates belong to the columns of these names, (n_dims,)."""
        return self.layout_.coordinates_of(
            [j for j, name in enumerate(self.names) if name in columns]
        )

    def on_numbers(self, of_columns: np.ndarray) -> np.ndarray:
        """Return what is known of each column for its coordinate of a number, 0 for others."""
        layout = self.layout_
        is_number = np.arange(layout.n_dims) < layout.n_numbers
        return np.where(is_number, of_columns[layout.column_of], 0.0)

    def spread(
        self, values: list[Values], n_times: int, rng: np.random.Generator
    ) -> tuple[Coordinates, LogMeasure]:
        """Return coordinates and log-measures of rows, spread n_times over their grid.

        Shapes (n_times, n, n_dims) and (n_times, n).
        """
        places = (rng.random((len(self.pieces_), len(values[0]))) for _ in range(n_times))
        draws = list(self.layout_.encode_at(values, places))
        return np.stack([z for z, _ in draws]), np.stack([log for _, log in draws])

    def encode_cells(
        self, values: list[Values], n_places: int
    ) -> Iterator[tuple[Coordinates, LogMeasure]]:
        """Iterate over coordinates, (n, n_dims), and log-measures, (n,), at places of each cell.

        The places are spread evenly over the cell of the grid, the centre first. They are the same
        for every row. Without a grid there is one place.
        """
        return self.layout_.encode(values, n_places)

    def encode_nodes(
        self, values: list[Values], held: np.ndarray | None = None
    ) -> tuple[Coordinates, np.ndarray, LogMeasure]:
        """Return places to evaluate a density at, (m, n_dims), their rows and log-measures, (m,).

        The sum over the places of a row is the row's density (`skbellman.tables.cells`).
        Coordinates that are ``held``, (n_dims,), stay at the centre of their cell.
        """
        return self.layout_.nodes(values, held)

    def decode(self, matrix: Coordinates, given: list[Values] | None = None) -> list[Codes]:
        """Return numbers, or codes of categories, of rows with these coordinates.

        ``given`` holds the values of each column, missing where they shall be decoded.
        """
        decoded, labels = self.layout_.decode(matrix)
        known = [np.zeros(len(matrix), dtype=bool) for _ in decoded]
        if given is not None:
            known = [~is_missing(v) for v in given]
            pairs = zip(known, self.codes(given), decoded, strict=True)
            decoded = [np.where(held, kept, drawn) for held, kept, drawn in pairs]
        layout = self.layout_
        return made_equal(layout.equalities, layout.columns, decoded, labels, known)

    def codes(self, values: list[Values]) -> list[Codes]:
        """Return the columns that were read with codes in place of categories, -1 if missing."""
        return [column.codes(v) for column, v in zip(self.columns_, values, strict=True)]

    def restore(
        self,
        decoded: list[Codes],
        given: list[Cells] | None = None,
        gaps: np.ndarray | None = None,
        seed: int = 0,
    ) -> Any:
        """Return the table of numbers and codes, like the fitted one.

        Given cells are put into the table unchanged. At the gaps, (n, n_features), cells are
        missing. The seed is that of new identifiers.
        """
        columns = []
        for j, (column, codes) in enumerate(zip(self.fitted_, decoded, strict=True)):
            kept = None if given is None else given[j]
            cells = column.restored(self.container_, codes, kept, seed)
            if gaps is not None and gaps[:, j].any():
                cells = self.container_.with_gaps(cells, gaps[:, j])
            columns.append(cells)
        return self.container_.table(columns)

    def draw_gaps(
        self, n_rows: int, given: list[Cells] | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Return gaps, (n_rows, n_features), as frequent as in the fit, except where given."""
        return self.gaps.draw(n_rows, given, rng)

    def has_cells(self) -> bool:
        """Say whether values of any column stand for cells of its coordinate."""
        return self.layout_.has_cells

    def _warn_of(self, dependent: list[int]) -> None:
        """Warn of columns that are linear functions of others."""
        if dependent:
            warn(
                f"Columns {[self.names[j] for j in dependent]} are linear functions of other "
                "columns, so the table has no density; noise of sigma_min gives it one, and "
                "scores depend on sigma_min. Drop the redundant columns to avoid this."
            )


def _learned(
    learner: ColumnLearner, X: Any, is_category: list[bool | None], is_name: list[bool | None]
) -> tuple[list[FittedColumn], list[np.ndarray], list[np.ndarray]]:
    """Return the columns of a table, values of some rows, and which values are missing.

    All columns that are refused are named at once.
    """
    fitted, values, missing, refused = [], [], [], []
    rows = some_rows(len(X))
    for j, pair in enumerate(zip(is_category, is_name, strict=True)):
        try:
            column, found = learner.learn(X, j, *pair)
        except ValueError as error:
            refused.append(str(error))
            continue
        fitted.append(column)
        # The whole table is never in memory in double precision.
        values.append(found[rows])
        missing.append(is_missing(found))
    if refused:
        raise ValueError("\n".join(refused))
    return fitted, values, missing


def _read_again(encoder: TableEncoder, X: Any) -> tuple[Gaps, dict[Any, np.ndarray]]:
    """Return the gaps of other rows than those of the fit, and each column's values out of bounds.

    Raises
    ------
    ValueError
        If the rows have other categories.
    """
    gaps, n_rows, beyond = [], [], {name: np.empty(0) for name in encoder.names}
    for _, part in parts_of(X, 2**16):
        values = encoder.read(part)
        encoder.check_known(values, " Fit the encoder to a table that holds it.")
        gaps.append(Gaps.among([is_missing(v) for v in values]))
        n_rows.append(len(part))
        for column, found in zip(encoder.fitted_, values, strict=True):
            beyond[column.name] = np.append(beyond[column.name], column.beyond(found))
    return Gaps.joined(gaps, n_rows), beyond


def _warn_of_beyond(fitted: Sequence[FittedColumn], beyond: dict[Any, np.ndarray]) -> None:
    """Warn of values that the columns cannot have, as bounds are those of other rows."""
    for column in fitted:
        values = beyond[column.name]
        if len(values):
            shown = column.kind.shown(float(values[np.abs(values).argmax()]))
            warn(
                f"Column {column.name!r} has {len(values)} values beyond the bounds of the "
                f"rows that the encoder was fitted to, such as {shown}: they count as the "
                "bound, and samples never have them. Fit the encoder to rows that have them."
            )


def _first_rows(
    encoder: TableEncoder,
    X: Any,
    origin: np.ndarray | None,
    is_name: list[bool | None],
    is_category: list[bool | None],
) -> np.ndarray | None:
    """Return whether each row differs from all before it; None if no column asks for that."""
    if encoder.atom_share != "auto" or not encoder.dequantize:
        return None
    names, categories = (
        [j for j, declared in enumerate(flags) if declared] for flags in (is_name, is_category)
    )
    # Numbers are compared sooner than categories, which may be values of any type.
    for of_any_type in ([], categories):
        with suppress(ValueError, TypeError):  # a column that is refused is so beside all others
            return are_first(encoder.container_, X, origin, names, of_any_type)
    return None


def _avoiding_identifiers(encoder: TableEncoder, X: Any) -> TableEncoder:
    """Return the encoder, or a copy whose new identifiers are none of those in X."""
    names = [column.name for column in encoder.fitted_ if column.column.is_fresh]
    cells = encoder.reader_.read(X, names)
    fitted = [column.avoiding(c) for column, c in zip(encoder.fitted_, cells, strict=True)]
    if all(map(is_, fitted, encoder.fitted_)):
        return encoder
    other = copy.copy(encoder)
    other.fitted_, other.layout_ = fitted, Layout([column.column for column in fitted])
    return other
