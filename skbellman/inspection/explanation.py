"""How surprising each cell of some rows is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skbellman.inspection.axes import short_text, single_axes
from skbellman.tables.containers import container_of

# More rows than these have no text in their cells: it would overlap.
_MOST_WRITTEN = 40


class ExplanationDisplay:
    """A heat map of the surprise of each cell, with the values of the cells.

    Red cells are more surprising than usual given the rest of their row, blue cells less. The most
    surprising cell of each row has a frame. Missing cells are grey.

    Parameters
    ----------
    surprise : array of shape (n_rows, n_columns)
        In nats above usual rows. NaN where a cell is missing.
    names : sequence
        Names of the columns.
    rows : sequence
        Labels of the rows.
    texts : sequence of sequence of str
        What is written into the cells of each row.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.inspection import ExplanationDisplay
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
    >>> display = ExplanationDisplay.from_estimator(density, [[0.1, 9.0]], random_state=0)
    >>> display.surprise.argmax()
    np.int64(1)
    """

    def __init__(
        self,
        surprise: Any,
        names: Sequence[Any],
        rows: Sequence[Any],
        texts: Sequence[Sequence[str]],
    ) -> None:
        self.surprise = np.asarray(surprise, dtype=float)
        self.names, self.rows, self.texts = list(names), list(rows), texts

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, ax: Any = None, **settings: Any
    ) -> ExplanationDisplay:
        """Compute the surprise of each cell of some rows, and draw it.

        Parameters
        ----------
        estimator : fitted BellmanDiffusionDensity or BellmanOutlierDetector
            Any estimator with ``explain``.
        X : DataFrame or array-like of shape (n_samples, n_features)
            The rows, with the columns of the fitted table. Up to 40 rows have text in their cells.
        ax : Axes, optional
            By default that of a new figure.
        **settings : dict
            Further arguments of ``explain``: a density takes ``reference`` and ``random_state``.

        Returns
        -------
        display : ExplanationDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As ``explain`` does.

        Examples
        --------
        >>> import pandas as pd
        >>> from skbellman import BellmanDiffusionDensity
        >>> from skbellman.inspection import ExplanationDisplay
        >>> df = pd.DataFrame({"a": range(40), "b": ["x", "y"] * 20})
        >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(df)
        >>> ExplanationDisplay.from_estimator(density, df[:2], reference=df).texts
        [['0', 'x'], ['1', 'y']]
        """
        return cls.from_predictions(estimator.explain(X, **settings), X, ax=ax)

    @classmethod
    def from_predictions(
        cls, surprise: Any, X: Any = None, *, ax: Any = None
    ) -> ExplanationDisplay:
        """Draw surprises that ``explain`` returned.

        Parameters
        ----------
        surprise : DataFrame or array-like of shape (n_samples, n_features)
            What ``explain`` returned.
        X : DataFrame or array-like of shape (n_samples, n_features), optional
            The rows, whose values are written into the cells. By default the surprises are.
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : ExplanationDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If X and the surprises differ in shape.

        Examples
        --------
        >>> from skbellman.inspection import ExplanationDisplay
        >>> ExplanationDisplay.from_predictions([[0.25, 9.0]]).texts
        [['0.25', '9']]
        """
        surprise = _as_table(surprise)
        table = surprise if X is None else _as_table(X)
        if np.shape(table) != np.shape(surprise):
            raise ValueError(
                f"X has shape {np.shape(table)}, but surprise has {np.shape(surprise)}: "
                "pass the rows that were explained."
            )
        texts = [
            ["missing" if cell is None else short_text(cell) for cell in row]
            for row in _cells(table).tolist()
        ]
        rows = getattr(table, "index", range(len(texts)))
        names = container_of(table).names_of(table)
        return cls(_cells(surprise).astype(float), names, rows, texts).plot(ax=ax)

    def plot(self, *, ax: Any = None, vmax: float = 10.0) -> ExplanationDisplay:
        """Draw the heat map.

        Parameters
        ----------
        ax : Axes, optional
            By default that of a new figure.
        vmax : float, default=10.0
            Surprise, in nats, from which on all cells have the same red.

        Returns
        -------
        display : ExplanationDisplay
            Itself.

        Examples
        --------
        >>> from skbellman.inspection import ExplanationDisplay
        >>> ExplanationDisplay([[1.0]], ["x"], [7], [["0.5"]]).plot().ax_.texts[0].get_text()
        '0.5'
        """
        n_rows, n_columns = self.surprise.shape
        size = (2.0 + 1.1 * n_columns, 1.2 + 0.35 * min(n_rows, _MOST_WRITTEN))
        self.ax_ = single_axes(ax, "ExplanationDisplay.plot", size)
        self.figure_ = self.ax_.figure
        self.ax_.set_facecolor("0.85")
        self._frame_largest()
        image = self.ax_.imshow(
            self.surprise.clip(-vmax, vmax), cmap="RdBu_r", vmin=-vmax, vmax=vmax, aspect="auto"
        )
        self.ax_.set_xticks(range(n_columns), [str(name) for name in self.names])
        self.figure_.colorbar(
            image, ax=self.ax_, extend="both", label="surprise (nats above usual)"
        )
        if n_rows <= _MOST_WRITTEN:
            self.ax_.set_yticks(range(n_rows), [str(row) for row in self.rows])
            self._write_cells(0.6 * vmax)
        return self

    def _frame_largest(self) -> None:
        """Draw a frame around the most surprising cell of each row that has any."""
        from matplotlib.patches import Rectangle

        for i, row in enumerate(self.surprise):
            if not np.isnan(row).all():
                corner = (np.nanargmax(row) - 0.5, i - 0.5)
                self.ax_.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=2, zorder=3))

    def _write_cells(self, dark: float) -> None:
        """Write the text of each cell, white where its colour is dark."""
        for (i, j), surprise in np.ndenumerate(self.surprise):
            colour = "white" if abs(surprise) > dark else "black"
            text = self.texts[i][j]
            self.ax_.text(j, i, text, ha="center", va="center", color=colour, fontsize="small")


def _as_table(X: Any) -> Any:
    return X if hasattr(X, "columns") else np.asarray(X)


def _cells(X: Any) -> np.ndarray:
    """Return the cells of a table as objects, None where they are missing."""
    container = container_of(X)
    columns = range(len(container.names_of(X)))
    return np.column_stack([container.cells(X, j, as_categories=True).values for j in columns])
