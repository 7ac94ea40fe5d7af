"""Pairs of columns of real and sampled rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skbellman.inspection.axes import many_axes, ticks_of_dates, ticks_of_levels
from skbellman.questions import listed_names
from skbellman.tables.containers import container_of
from skbellman.tables.kinds import is_missing
from skbellman.tables.levels import levels_of


class PairsDisplay:
    """Histograms of columns, and scatter plots of pairs, of real and sampled rows.

    Parameters
    ----------
    real, drawn : list of array
        Values of each column: positions of levels for a category, NaN if missing.
    names : list
        Names of the columns.
    levels : list of (list or None)
        Levels of categories, None for numbers.
    dates : sequence of int, default=()
        Positions of the columns that hold dates, as days since 1970.

    Attributes
    ----------
    ax_ : ndarray of Axes, shape (n_columns, n_columns)
        The axes.
    figure_ : matplotlib Figure
        The figure of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman.inspection import PairsDisplay
    >>> rng = np.random.default_rng(0)
    >>> display = PairsDisplay.from_predictions(rng.normal(size=(50, 3)), rng.normal(size=(50, 3)))
    >>> display.ax_.shape
    (3, 3)
    """

    def __init__(
        self,
        real: list[np.ndarray],
        drawn: list[np.ndarray],
        names: list[Any],
        levels: list[list[Any] | None],
        dates: Sequence[int] = (),
    ) -> None:
        self.real, self.drawn, self.names = real, drawn, names
        self.levels, self.dates = levels, dates

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        columns: Sequence[Any] | None = None,
        random_state: Any = 0,
        ax: Any = None,
    ) -> PairsDisplay:
        """Sample as many rows as a table has, and draw both.

        Parameters
        ----------
        estimator : fitted density
            Also one of the algebra.
        X : DataFrame or array-like of shape (n_samples, n_features)
            Real rows.
        columns : sequence of names, or of positions for an array, optional
            By default the first four.
        random_state : int, RandomState instance or None, default=0
            Seeds the samples.
        ax : array of Axes, optional
            As many as the square of the number of columns.

        Returns
        -------
        display : PairsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            For an unknown column, or another number of axes.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity
        >>> from skbellman.inspection import PairsDisplay
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
        >>> PairsDisplay.from_estimator(density, X).ax_.shape
        (2, 2)
        """
        drawn = estimator.sample(len(X), random_state=check_random_state(random_state))
        return cls.from_predictions(X, drawn, columns=columns, ax=ax)

    @classmethod
    def from_predictions(
        cls, X: Any, drawn: Any, *, columns: Sequence[Any] | None = None, ax: Any = None
    ) -> PairsDisplay:
        """Draw real and sampled rows.

        Parameters
        ----------
        X, drawn : DataFrame or array-like of shape (n_samples, n_features)
            Tables of the same columns.
        columns : sequence of names, or of positions for an array, optional
            By default the first four.
        ax : array of Axes, optional
            As many as the square of the number of columns.

        Returns
        -------
        display : PairsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            For an unknown column, or another number of axes.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman.inspection import PairsDisplay
        >>> X = np.random.default_rng(0).normal(size=(50, 2))
        >>> PairsDisplay.from_predictions(X, X[::-1], columns=[1]).ax_.shape
        (1, 1)
        """
        known = container_of(X).names_of(X)
        asked = listed_names(columns, "columns")
        names = known[:4] if asked is None else asked
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"columns names {unknown}, which X does not have: it has {known}.")
        pairs = [_values(X, drawn, name) for name in names]
        real, new, levels, are_dates = (list(part) for part in zip(*pairs, strict=True))
        return cls(real, new, names, levels, np.flatnonzero(are_dates).tolist()).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> PairsDisplay:
        """Draw the pairs.

        Parameters
        ----------
        ax : array of Axes, optional
            As many as the square of the number of columns; by default those of a new figure.

        Returns
        -------
        display : PairsDisplay
            Itself.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman.inspection import PairsDisplay
        >>> real, drawn = np.array([0.0, 1.0]), np.array([0.5, 1.5])
        >>> PairsDisplay([real], [drawn], ["x"], [None]).plot().ax_.shape
        (1, 1)
        """
        n = len(self.names)
        self.ax_ = many_axes(ax, n, n, "PairsDisplay.plot")
        self.figure_ = self.ax_[0, 0].figure
        for i, axes in enumerate(self.ax_):
            for j, axis in enumerate(axes):
                self._marginal(axis, j) if i == j else self._pair(axis, i, j)
                axis.set(
                    xlabel=str(self.names[j]) if i == n - 1 else "",
                    ylabel=str(self.names[i]) if j == 0 else "",
                )
        self.ax_[0, 0].legend(fontsize="small")
        return self

    def _marginal(self, axis: Any, j: int) -> None:
        levels = self.levels[j]
        both = np.concatenate([self.real[j], self.drawn[j]])
        if levels is None:
            edges = np.histogram_bin_edges(both[~np.isnan(both)], 30)
        else:
            edges = np.arange(len(levels) + 1) - 0.5
        for values, label, colour in self._kinds(j):
            counts = np.histogram(values, edges)[0]
            heights = counts / max(counts.sum(), 1) / (1 if levels else np.diff(edges))
            axis.stairs(heights, edges, color=colour, label=label)
        self._write_levels(axis.xaxis, j)

    def _pair(self, axis: Any, i: int, j: int) -> None:
        rng = np.random.default_rng([i, j, 7919])  # a seed of no rows
        for (across, _, colour), (up, _, _) in zip(self._kinds(j), self._kinds(i), strict=True):
            # Levels are jittered, so that rows of one level do not hide each other.
            x, y = (
                v if self.levels[k] is None else v + rng.uniform(-0.3, 0.3, len(v))
                for v, k in ((across, j), (up, i))
            )
            axis.scatter(x, y, s=3, alpha=0.4, color=colour, linewidths=0)
        self._write_levels(axis.xaxis, j)
        self._write_levels(axis.yaxis, i)

    def _kinds(self, j: int) -> list[tuple[np.ndarray, str, str]]:
        return [(self.real[j], "real", "0.3"), (self.drawn[j], "drawn", "C1")]

    def _write_levels(self, axis: Any, j: int) -> None:
        levels = self.levels[j]
        if levels is not None:
            ticks_of_levels(axis, levels)
        if j in self.dates:
            ticks_of_dates(axis)


def _values(X: Any, drawn: Any, name: Any) -> tuple[np.ndarray, np.ndarray, list[Any] | None, bool]:
    """Return a column of two tables as numbers, its levels if it has any, and if it is of dates."""
    cells = [
        container_of(table).cells(table, container_of(table).names_of(table).index(name), False)
        for table in (X, drawn)
    ]
    if not any(c.kind.is_categorical for c in cells):
        real, new = (c.numbers() for c in cells)
        return real, new, None, cells[0].kind.held.startswith("dates")
    found = [c.values for c in cells]
    both = np.concatenate(found)
    levels = levels_of(both[~is_missing(both)])[0].tolist()
    places = {level: float(k) for k, level in enumerate(levels)}
    real, new = (np.array([places.get(v, np.nan) for v in values.tolist()]) for values in found)
    return real, new, levels, False
