"""The marginals of a density beside the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skbellman.inspection.axes import many_axes
from skbellman.inspection.laws import Law, column_of, law_of, values_in
from skbellman.questions import listed_names
from skbellman.restrictions import fitted_part
from skbellman.tables.measures import Names


class DensityDisplay:
    """Marginals of a fitted density: curves where it has a density, bars for probabilities.

    A point mass, such as the zeros of a capital gain, is a bar. It has an axis of its own beside
    the curve.

    Parameters
    ----------
    laws : list of Law
        Distribution of each column.
    data : list of array or None
        The values of each column in a table; positions of the levels of a category.

    Attributes
    ----------
    ax_ : matplotlib Axes, or ndarray of Axes
        One for each column.
    mass_axes_ : list of Axes or None
        Axes of the bars of columns that also have a curve.
    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    DensityDisplay.from_estimator : Make one of a fitted density.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman import BellmanDiffusionDensity
    >>> from skbellman.inspection import DensityDisplay
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
    >>> display = DensityDisplay.from_estimator(density, X, columns=[0])
    >>> display.ax_.get_ylabel()
    'density'
    """

    def __init__(self, laws: list[Law], data: list[Any]) -> None:
        self.laws, self.data = laws, data

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        columns: Sequence[Any] | None = None,
        n_points: int = 200,
        random_state: Any = 0,
        ax: Any = None,
    ) -> DensityDisplay:
        """Compute the marginals of a fitted density, and draw them.

        Parameters
        ----------
        estimator : fitted density
            Also one of the algebra, except for those in other units.
        X : DataFrame or array-like of shape (n_samples, n_features), optional
            Rows to draw beside the density. Without them draws of the density set the range.
        columns : sequence of names, or of positions for an array, optional
            By default all but identifiers, at most 12.
        n_points : int, default=200
            Points of each curve.
        random_state : int, RandomState instance or None, default=0
            Seeds the draws where X is not given.
        ax : Axes or array of Axes, optional
            One for each column.

        Returns
        -------
        display : DensityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            For an unknown column, another number of axes, or a rescaled density.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity
        >>> from skbellman.inspection import DensityDisplay
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
        >>> DensityDisplay.from_estimator(density, X).ax_.shape
        (2,)
        """
        fitted_part(estimator)  # refuses what is not fitted
        columns = listed_names(columns, "columns")
        if columns is None:
            columns = [c.name for c in estimator.measure_ if c.reference != Names()][:12]
        rows = estimator.sample(500, random_state=random_state) if X is None else X
        laws, data = [], []
        for name in columns:
            column = column_of(estimator, name)
            values = values_in(rows, column)
            if column.kind.is_categorical:
                values = column.column.codes(values)
            low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
            laws.append(law_of(estimator, name, low, high, n_points=n_points))
            data.append(None if X is None else values)
        return cls(laws, data).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> DensityDisplay:
        """Draw the marginals.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
            One for each column; by default those of a new figure.

        Returns
        -------
        display : DensityDisplay
            Itself.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman.inspection import DensityDisplay
        >>> from skbellman.inspection.laws import Law
        >>> law = Law("x", places=np.array([0.0, 1.0]), density=np.array([1.0, 1.0]))
        >>> DensityDisplay([law], [None]).plot().ax_.get_xlabel()
        'x'
        """
        n_columns = min(len(self.laws), 4)
        n_rows = -(-len(self.laws) // n_columns)
        if ax is not None:
            n_rows, n_columns = 1, len(self.laws)
        axes = many_axes(ax, n_rows, n_columns, "DensityDisplay.plot").ravel()
        for unused in axes[len(self.laws) :]:
            unused.set_axis_off()
        drawn = axes[: len(self.laws)]
        self.mass_axes_ = [
            self._draw(*pair) for pair in zip(drawn, self.laws, self.data, strict=True)
        ]
        drawn[0].legend(fontsize="small")
        self.ax_ = drawn[0] if len(drawn) == 1 else drawn
        self.figure_ = drawn[0].figure
        return self

    def _draw(self, ax: Any, law: Law, data: Any) -> Any:
        """Draw one law, and return the axes of its bars if it has a curve too."""
        law.name_axis(ax)
        if law.is_of_points:
            ax.bar(law.points, law.probabilities, law.bar_width(), alpha=0.6, label="density")
            _draw_shares(ax, law, data)
            ax.set_ylabel("probability")
            return None
        ax.plot(law.places, law.density, label="density")
        ax.set_ylabel("density")
        _draw_histogram(ax, law, data)
        ax.set_ylim(bottom=0)
        if not len(law.points):
            return None
        masses = ax.twinx()
        masses.bar(law.points, law.probabilities, law.bar_width(), color="C1", alpha=0.6)
        _draw_shares(masses, law, data)
        masses.set_ylabel("probability", color="C1")
        return masses


def _draw_shares(ax: Any, law: Law, data: Any) -> None:
    """Draw the share of the rows that holds each point."""
    if data is not None:
        shares = [float(np.isclose(data, point).mean()) for point in law.points]
        ax.plot(law.points, shares, "_", color="k", markersize=8, label="rows")


def _draw_histogram(ax: Any, law: Law, data: Any) -> None:
    """Draw the rows as a histogram per unit; those at points are no part of it."""
    if data is None:
        return
    beside = data[~np.isin(data, law.points)]
    edges = np.histogram_bin_edges(beside, "auto" if len(beside) < 5000 else 60)
    heights = np.histogram(beside, edges)[0] / (len(data) * np.diff(edges))
    ax.stairs(heights, edges, color="0.5", fill=True, alpha=0.35, label="rows")
