"""Arrays and data frames as lists of columns, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.tables.kinds import Categories, Cells, Kind, as_objects, is_gap, kind_of_dtype
from skbellman.tables.series import cells_of, series_like


class Container(ABC):
    """The kind of the user's table: its names, dtypes and class.

    Parameters
    ----------
    X : array or frame

    Attributes
    ----------
    names : list
        Names of the columns.
    has_names : bool
        Whether columns have names besides their positions.
    """

    has_names = True

    def __init__(self, X: Any) -> None:
        self.names = self.names_of(X)

    @staticmethod
    @abstractmethod
    def names_of(X: Any) -> list[Any]:
        """Return the names of the columns of X, their positions if they have none."""

    @staticmethod
    @abstractmethod
    def cells(X: Any, j: int, as_categories: bool) -> Cells:
        """Return the cells of column j of X; as categories of any dtype if asked."""

    @staticmethod
    @abstractmethod
    def rows(X: Any, rows: slice | np.ndarray) -> Any:
        """Return some rows of X, by a slice or by their numbers."""

    @staticmethod
    @abstractmethod
    def taken(X: Any, rows: np.ndarray) -> Any:
        """Return some rows of X by their numbers, with a fresh index."""

    @staticmethod
    @abstractmethod
    def stacked(tables: Sequence[Any]) -> Any:
        """Return the rows of tables of the same columns in one table, with a fresh index."""

    @staticmethod
    @abstractmethod
    def with_values(X: Any, name: Any, position: int | None, values: np.ndarray) -> Any:
        """Return X with other values in a column, which is added where it has no position."""

    @staticmethod
    @abstractmethod
    def with_column(X: Any, position: int, column: Any) -> Any:
        """Return X with another column, made by `column` or `with_gaps`, at a position."""

    @staticmethod
    @abstractmethod
    def of_numbers(X: Any, columns: dict[Any, np.ndarray]) -> Any:
        """Return a table of the library of X with these columns of numbers."""

    @abstractmethod
    def palette(self, X: Any, j: int, rows: np.ndarray) -> Any:
        """Return the given rows of column j, as they are."""

    @abstractmethod
    def painted(self, palette: Any, codes: np.ndarray) -> Any:
        """Return a column of the palette's rows with these codes."""

    @abstractmethod
    def column(self, j: int, kind: Kind, cells: np.ndarray) -> Any:
        """Return column j with these cells of a kind, none of them missing."""

    @abstractmethod
    def with_gaps(self, column: Any, gaps: np.ndarray) -> Any:
        """Return a column made by `column` or `painted`, with missing cells at the gaps."""

    @abstractmethod
    def holds_gaps(self, j: int) -> bool:
        """Return whether the dtype of column j has missing values."""

    def table(self, columns: list[Any]) -> Any:
        """Return a table like the one fitted, of such columns."""
        return self.part(dict(enumerate(columns)))

    @abstractmethod
    def part(self, columns: dict[int, Any]) -> Any:
        """Return a table of some such columns, by position; an array has NaN in the others."""


class ArrayContainer(Container):
    """A two-dimensional array."""

    has_names = False

    def __init__(self, X: np.ndarray) -> None:
        super().__init__(X)
        self.dtype = X.dtype

    @staticmethod
    def names_of(X: np.ndarray) -> list[Any]:
        return list(range(X.shape[1]))

    @staticmethod
    def cells(X: np.ndarray, j: int, as_categories: bool) -> Cells:
        values, missing = X[:, j], np.isnan(X[:, j])
        if not as_categories:
            return Cells(kind_of_dtype(X.dtype), values, missing)
        levels = as_objects([None if is_gap(value) else value for value in values.tolist()])
        return Cells(Categories(), levels, missing)

    @staticmethod
    def rows(X: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        return X[rows]

    @staticmethod
    def taken(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return X[rows]

    @staticmethod
    def stacked(tables: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(tables)

    @staticmethod
    def with_values(
        X: np.ndarray, name: Any, position: int | None, values: np.ndarray
    ) -> np.ndarray:
        """Levels are converted to what the array can hold; numbers may widen its dtype."""
        values = values.astype(X.dtype) if values.dtype == object else values
        changed = X.astype(np.result_type(X, values))
        changed[:, position] = values
        return changed

    @staticmethod
    def with_column(X: np.ndarray, position: int, column: np.ndarray) -> np.ndarray:
        changed = X.copy()
        changed[:, position] = column
        return changed

    @staticmethod
    def of_numbers(X: np.ndarray, columns: dict[Any, np.ndarray]) -> np.ndarray:
        return np.column_stack(list(columns.values()))

    def palette(self, X: np.ndarray, j: int, rows: np.ndarray) -> np.ndarray:
        return X[rows, j]

    def painted(self, palette: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return palette[codes]

    def column(self, j: int, kind: Kind, cells: np.ndarray) -> np.ndarray:
        return cells

    def with_gaps(self, column: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        return np.where(gaps, self.dtype.type(np.nan), column)

    def holds_gaps(self, j: int) -> bool:
        return self.dtype.kind == "f"

    def part(self, columns: dict[int, np.ndarray]) -> np.ndarray:
        if len(columns) == len(self.names):
            return np.column_stack([columns[j] for j in range(len(columns))])
        n_rows = len(next(iter(columns.values())))
        return np.column_stack(
            [columns.get(j, np.full(n_rows, np.nan)) for j in range(len(self.names))]
        )


class FrameContainer(Container):
    """A data frame of pandas, polars or another library that narwhals knows."""

    def __init__(self, X: Any) -> None:
        super().__init__(X)
        self.template = nw.from_native(X, eager_only=True).head(0).to_native()

    @staticmethod
    def names_of(X: Any) -> list[Any]:
        return list(nw.from_native(X, eager_only=True).columns)

    @staticmethod
    def cells(X: Any, j: int, as_categories: bool) -> Cells:
        return cells_of(nw.from_native(X, eager_only=True)[:, j], as_categories)

    @staticmethod
    def rows(X: Any, rows: slice | np.ndarray) -> Any:
        return nw.from_native(X)[rows].to_native()

    @staticmethod
    def taken(X: Any, rows: np.ndarray) -> Any:
        return nw.maybe_reset_index(nw.from_native(X)[rows.tolist()]).to_native()

    @staticmethod
    def stacked(tables: Sequence[Any]) -> Any:
        frames = [nw.from_native(table) for table in tables]
        return nw.maybe_reset_index(nw.concat(frames)).to_native()

    @staticmethod
    def with_values(X: Any, name: Any, position: int | None, values: np.ndarray) -> Any:
        frame = nw.from_native(X, eager_only=True)
        label = name if position is None else frame.columns[position]
        # Frames without an index simply get the new column at the end.
        column = nw.new_series(label, values.tolist(), backend=frame.implementation)
        return frame.with_columns(column).to_native()

    @staticmethod
    def with_column(X: Any, position: int, column: Any) -> Any:
        frame = nw.from_native(X, eager_only=True)
        named = nw.from_native(column, series_only=True).alias(frame.columns[position])
        return frame.with_columns(named).to_native()

    @staticmethod
    def of_numbers(X: Any, columns: dict[Any, np.ndarray]) -> Any:
        return nw.from_dict(columns, backend=nw.from_native(X).implementation).to_native()

    def palette(self, X: Any, j: int, rows: np.ndarray) -> Any:
        return nw.from_native(X, eager_only=True)[:, j][rows.tolist()].to_native()

    def painted(self, palette: Any, codes: np.ndarray) -> Any:
        return nw.from_native(palette, series_only=True)[codes.tolist()].to_native()

    def column(self, j: int, kind: Kind, cells: np.ndarray) -> Any:
        empty = nw.from_native(self.template, eager_only=True)[:, j]
        return series_like(empty, kind, cells)

    def with_gaps(self, column: Any, gaps: np.ndarray) -> Any:
        series = nw.from_native(column, series_only=True)
        if series.implementation.is_pandas_like():
            return column.mask(gaps, None) if column.dtype == object else column.mask(gaps)
        held = nw.new_series("", ~gaps, backend=series.implementation)
        kept = series.to_frame().select(nw.when(held).then(nw.col(series.name)))
        return kept[:, 0].to_native()

    def holds_gaps(self, j: int) -> bool:
        if not nw.from_native(self.template).implementation.is_pandas_like():
            return True
        dtype = self.template.dtypes.iloc[j]
        return not (isinstance(dtype, np.dtype) and dtype.kind in "iub")

    def part(self, columns: dict[int, Any]) -> Any:
        template = nw.from_native(self.template, eager_only=True)[:, sorted(columns)]
        series = [nw.from_native(columns[j], series_only=True) for j in sorted(columns)]
        if template.implementation.is_pandas_like():
            frame = template.implementation.to_native_namespace().concat(
                [column.to_native().reset_index(drop=True) for column in series], axis=1
            )
            frame.columns = template.to_native().columns
            return frame
        return nw.from_dict(dict(zip(template.columns, series, strict=True))).to_native()


def container_of(X: Any) -> type[ArrayContainer] | type[FrameContainer]:
    """Return the class of a validated table."""
    return ArrayContainer if isinstance(X, np.ndarray) else FrameContainer


def like_table(X: Any, names: list[Any], numbers: np.ndarray) -> Any:
    """Return numbers of each cell of a table: an array, or a frame with the index of X."""
    table = container_of(X).of_numbers(X, dict(zip(names, numbers.T, strict=True)))
    if hasattr(X, "index") and hasattr(table, "index"):  # pandas
        table.index = X.index
    return table
