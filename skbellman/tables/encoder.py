"""A table and the matrix that a density is fitted to."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from skbellman.state import renewed
from skbellman.tables.collinearity import dependent_columns
from skbellman.tables.columns.base import Codes, Column, Coordinates, LogMeasure, Values
from skbellman.tables.containers import Container, container_of
from skbellman.tables.declared import declared_categories
from skbellman.tables.gaps import Gaps, evenly
from skbellman.tables.kinds import Cells, is_missing
from skbellman.tables.layout import Layout, Piece
from skbellman.tables.learning import ColumnLearner
from skbellman.tables.measures import TableMeasure
from skbellman.tables.parts import parts_of
from skbellman.tables.reading import TableReader
from skbellman.tables.straightening import straightened
from skbellman.validation import validate_table


class TableEncoder(BaseEstimator):
    """How the columns of a table are read: which are categories, on a grid, or have atoms.

    It maps a frame or array of n rows to a matrix of shape (n, n_dims), and back. Coordinates of
    numbers come first, then those of categories. Missing values are NaN among the coordinates.
    Densities of two tables can be compared or added up if they have one encoder.

    Parameters
    ----------
    categorical_features : "from_dtype", None, or array-like of int, str or bool, \
            default="from_dtype"
        Which columns are categories. "from_dtype" takes strings, booleans and categorical
        dtypes of a frame.
    max_categories : int, default=100
        A column with more categories is an error.
    handle_unknown : {"zero_density", "error"}, default="zero_density"
        What a category, or a value of a constant column, that was not in the table does to
        a score: log-density -inf, or an error that names it.
    dequantize : bool, default=True
        Whether numeric columns on a grid (integers, prices) are recognised. They are fitted
        spread uniformly over a step, or value by value where there are up to 24, and sampled on
        the grid; an integer's score is a log-probability per unit.
    atom_share : float, default=0.05
        Of a numeric column that a value must hold to be an atom, with a probability in place of
        a density (the zeros of a capital gain); it must also be there three times as often as the
        values next to it. 1 for no atoms, and no values on a coarse grid that are modelled one by
        one.

    Attributes
    ----------
    fitted_ : list of FittedColumn
        What is known of each column of the table.
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
        "atom_share": [Interval(Real, 0, 1, closed="right")],
    }

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

    def fit(self, X: Any, y: Any = None) -> TableEncoder:
        """Learn each column's map; warn of columns that are linear functions of others.

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
            As `BellmanDiffusionDensity.fit` does, for what no density can be fitted to.

        Examples
        --------
        >>> from skbellman import TableEncoder
        >>> TableEncoder().fit([[0.1, 1.0], [0.4, 2.0], [0.2, 2.0]]).is_categorical_
        array([False, False])
        """
        with renewed(self) as draft:
            X = validate_table(draft, X, reset=True)
            draft._learn(X)
        return self

    def _learn(self, X: Any) -> None:
        self.container_: Container = container_of(X)(X)
        learner = ColumnLearner(
            self.container_, self.max_categories, self.dequantize, self.atom_share
        )
        fitted, values, missing = [], [], []
        for j, declared in enumerate(declared_categories(self.categorical_features, self.names)):
            column, found = learner.learn(X, j, None if declared is None else bool(declared))
            fitted.append(column)
            # The table is never there as a whole in double precision.
            values.append(evenly(found))
            missing.append(is_missing(found))
        kinds = [column.kind for column in fitted]
        self.reader_ = TableReader(self.container_, kinds)
        self.is_categorical_ = np.array([kind.is_categorical for kind in kinds])
        self.gaps = Gaps.among(missing)
        columns = straightened([f.column for f in fitted], values)
        self.fitted_ = [
            replace(f, column=column) for f, column in zip(fitted, columns, strict=True)
        ]
        self._warn_of(dependent_columns(columns, values))
        self.layout_ = Layout(columns)
        if not self.layout_.n_dims:
            raise ValueError("Every column of X is constant: there is no density to fit.")

    def fitted_to(self, X: Any) -> TableEncoder:
        """Return a copy fitted to a table, or itself if it is fitted: then X has to suit it.

        Raises
        ------
        ValueError
            If X has other columns than the table that it is fitted to, or other categories.
        """
        if not hasattr(self, "layout_"):
            self._validate_params()
            return copy.deepcopy(self).fit(X)
        if (names := container_of(X).names_of(X)) != self.names:
            raise ValueError(
                f"The columns of X are {names}, those of the encoder {self.names}: fit the encoder "
                "to a table with the columns of X."
            )
        for _, part in parts_of(X, 2**16):
            self.check_known(self.read(part), " Fit the encoder to a table that holds it.")
        return self

    def set_params(self, **params: Any) -> TableEncoder:
        """Set parameters; a fitted encoder is no longer fitted, if there are any.

        Parameters
        ----------
        **params : dict
            By name.

        Returns
        -------
        self : TableEncoder
            The encoder.

        Raises
        ------
        ValueError
            For a name that is no parameter.

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
        """Return a copy: what it is fitted to is part of what is asked for."""
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
        """The sets of columns that were missing together in a row, (n_patterns, n_features)."""
        return self.gaps.patterns

    @property
    def measure(self) -> TableMeasure:
        """What scores of each column are densities with respect to: see `same_measure`."""
        return tuple(column.measure for column in self.fitted_)

    def corners(self) -> list[np.ndarray]:
        """Return the points of each category that has coordinates, (K, its n_dims) each."""
        return self.layout_.corners()

    def floors(self, sigma_min: float) -> np.ndarray:
        """Return the lowest noise level of each coordinate, (n_dims,)."""
        return self.layout_.floors(sigma_min)

    def read(self, X: Any, columns: Sequence[Any] | None = None) -> list[Values]:
        """Return the numbers, or levels, of each column of the fitted table, checked.

        Of ``columns`` alone where they are given, by name, which X then may hold alone; the others
        are missing.
        """
        found = zip(self.reader_.kinds, self.reader_.read(X, columns), strict=True)
        values = [kind.read(cells) for kind, cells in found]
        if self.handle_unknown == "error":
            self.check_known(values, ' Remove the row, or set handle_unknown="zero_density".')
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

    def check_holdable(self, values: list[Values]) -> None:
        """Refuse numbers that no draw of the fitted columns could hold."""
        for column, found in zip(self.fitted_, values, strict=True):
            column.check_holdable(found)

    def check_known(self, values: list[Values], remedy: str = "") -> None:
        """Refuse values that were not there in fit in columns that take no others."""
        for column, found in zip(self.fitted_, values, strict=True):
            column.check_known(found, remedy)

    def check_near(self, matrix: Coordinates, farthest: float = 1e15) -> None:
        """Refuse coordinates, (n, n_dims), so far out that fields there are no numbers.

        They are in float32.
        """
        far = (np.abs(matrix) > farthest).any(axis=0)
        if far.any():
            raise ValueError(
                f"Column {self.names[self.layout_.column_of[far.argmax()]]!r} holds a value so far "
                "from those of fit that nothing can be drawn beside it: repair it, or leave it out."
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
        """Return coordinates and log-measures of rows that were read, n_times spread over their grid.

        Shapes (n_times, n, n_dims) and (n_times, n).
        """  # noqa: E501 - one sentence
        places = (rng.random((len(self.pieces_), len(values[0]))) for _ in range(n_times))
        draws = list(self.layout_.encode_at(values, places))
        return np.stack([z for z, _ in draws]), np.stack([log for _, log in draws])

    def veil_atoms(
        self,
        values: list[Values],
        matrix: Coordinates,
        rng: np.random.Generator,
        whole: np.ndarray | bool = True,
    ) -> None:
        """Make coordinates, (n_times, n, n_dims), into what a density with atoms is learned from.

        Where an atom holds, the number is unseen in a row that is scored, and any where one is
        drawn: there it is filled with noise, independent of all else. Then it is hidden in half of
        all rows but those of the first time that are to stay whole, (n,), whether or not an atom
        holds in them: rows that are chosen by their atoms would teach another share of them.
        """
        for k, beside in self.layout_.numbers_beside_atoms(values):
            matrix[:, beside, k] = rng.standard_normal((len(matrix), beside.sum()))
            hidden = rng.random(matrix.shape[:2]) < 0.5
            hidden[0] &= ~np.broadcast_to(whole, hidden[0].shape)
            matrix[hidden, k] = np.nan

    def encode_cells(
        self, values: list[Values], n_places: int
    ) -> Iterator[tuple[Coordinates, LogMeasure]]:
        """Iterate over coordinates, (n, n_dims), and log-measures, (n,), at places of each cell.

        The places are spread evenly over the cell of the grid, its centre the first of them, and
        the same for every row. Without a grid there is one.
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
        """Return numbers, or codes of categories, of the columns of rows with these coordinates.

        ``given`` holds the values of each column, missing where they are to be decoded.
        """
        decoded = self.layout_.decode(matrix)
        if given is None:
            return decoded
        pairs = zip(given, decoded, self.codes(given), strict=True)
        return [np.where(is_missing(v), drawn, kept) for v, drawn, kept in pairs]

    def codes(self, values: list[Values]) -> list[Codes]:
        """Return the columns that were read with codes in place of categories, -1 if missing."""
        return [column.codes(v) for column, v in zip(self.columns_, values, strict=True)]

    def restore(
        self,
        decoded: list[Codes],
        given: list[Cells] | None = None,
        gaps: np.ndarray | None = None,
    ) -> Any:
        """Return the table of numbers and codes, like the fitted one.

        Where cells are given, they are in the table as they are, and not what was decoded. Where
        gaps, (n, n_features), are, it has none.
        """
        columns = []
        for j, (column, codes) in enumerate(zip(self.fitted_, decoded, strict=True)):
            cells = column.restored(self.container_, codes, None if given is None else given[j])
            if gaps is not None and gaps[:, j].any():
                cells = self.container_.with_gaps(cells, gaps[:, j])
            columns.append(cells)
        return self.container_.table(columns)

    def draw_gaps(
        self, n_rows: int, given: list[Cells] | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Return gaps, (n_rows, n_features), as often as in the fitted table, but where given."""
        return self.gaps.draw(n_rows, given, rng)

    def has_grid(self) -> bool:
        """Say whether any column lies on a grid."""
        return self.layout_.is_on_grid

    def has_atoms(self) -> bool:
        """Say whether any column has atoms."""
        return any(len(column.atoms) for column in self.columns_)

    def _warn_of(self, dependent: list[int]) -> None:
        """Warn of columns that are linear functions of others."""
        if dependent:
            warnings.warn(
                f"Columns {[self.names[j] for j in dependent]} are linear functions of other "
                "columns, so the table has no density; noise of sigma_min gives it one, and "
                "scores depend on sigma_min. Drop the redundant columns to avoid this.",
                UserWarning,
                stacklevel=4,
            )
