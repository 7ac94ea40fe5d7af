"""The conditional distribution of a column for several values of another column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skbellman.inspection.axes import short_text, single_axes
from skbellman.inspection.laws import Law, column_of, law_of, values_in


class ConditionalDisplay:
    """Curves of the distribution of a column, one for each value of another column.

    Parameters
    ----------
    given : object
        Name of the column to condition on.
    values : list
        The conditions.
    laws : list of Law
        Distribution of the column under each condition.

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
    >>> from skbellman.inspection import ConditionalDisplay
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
    >>> display = ConditionalDisplay.from_estimator(density, 0, 1, values=[-1.0, 1.0], X=X)
    >>> len(display.ax_.lines)
    2
    """

    def __init__(self, given: Any, values: list[Any], laws: list[Law]) -> None:
        self.given, self.values, self.laws = given, values, laws

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        column: Any,
        given: Any,
        *,
        values: Sequence[Any] | None = None,
        X: Any = None,
        n_points: int = 200,
        random_state: Any = 0,
        ax: Any = None,
    ) -> ConditionalDisplay:
        """Compute the distributions of a column given values of another, and draw them.

        Parameters
        ----------
        estimator : fitted density
            Also one of the algebra.
        column : name, or position for an array
            The column to draw.
        given : name, or position for an array
            The column to condition on.
        values : sequence, optional
            The conditions. By default up to 8 levels of a category, or five quantiles of numbers.
        X : DataFrame or array-like of shape (n_samples, n_features), optional
            Rows that set ranges and quantiles. By default 500 samples.
        n_points : int, default=200
            Points of each curve.
        random_state : int, RandomState instance or None, default=0
            Seeds the samples if X is not given.
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : ConditionalDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            For an unknown column, or values that the column cannot hold.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity
        >>> from skbellman.inspection import ConditionalDisplay
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
        >>> ConditionalDisplay.from_estimator(density, 0, 1, X=X).ax_.get_ylabel()
        'density given 1'
        """
        rows = estimator.sample(500, random_state=random_state) if X is None else X
        asked = column_of(estimator, column)
        if values is None:
            values = _usual_values(rows, column_of(estimator, given))
        low, high = 0.0, 1.0
        if not asked.kind.is_categorical:
            numbers = values_in(rows, asked)
            low, high = float(numbers.min()), float(numbers.max())
        laws = [law_of(estimator, column, low, high, {given: value}, n_points) for value in values]
        return cls(given, list(values), laws).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ConditionalDisplay:
        """Draw the distributions, each in its own colour.

        Parameters
        ----------
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : ConditionalDisplay
            Itself.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman.inspection import ConditionalDisplay
        >>> from skbellman.inspection.laws import Law
        >>> law = Law("x", places=np.array([0.0, 1.0]), density=np.array([1.0, 1.0]))
        >>> ConditionalDisplay("c", ["a"], [law]).plot().ax_.get_ylabel()
        'density given c'
        """
        self.ax_ = single_axes(ax, "ConditionalDisplay.plot")
        self.figure_ = self.ax_.figure
        first = self.laws[0]
        labels = [f"{self.given} = {short_text(value)}" for value in self.values]
        for k, (law, label) in enumerate(zip(self.laws, labels, strict=True)):
            colour = f"C{k % 10}"
            if not law.is_of_points:
                self.ax_.plot(law.places, law.density, color=colour, label=label)
                continue
            width = law.bar_width() / len(self.laws)
            at = law.points + width * (k - (len(self.laws) - 1) / 2)
            self.ax_.bar(at, law.probabilities, width, color=colour, label=label)
        first.name_axis(self.ax_)
        self.ax_.set(ylabel=_height(first, self.given), ylim=(0, None))
        self.ax_.legend()
        return self


def _usual_values(rows: Any, column: Any) -> list[Any]:
    """Return levels of a category, or quantiles of numbers, as a user would write them."""
    values = values_in(rows, column)
    if column.kind.is_categorical:
        return list(column.column.only_levels[:8])
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], method="nearest")
    return list(column.kind.drawn(np.unique(quantiles)))


def _height(law: Law, given: Any) -> str:
    return f"{'probability' if law.is_of_points else 'density'} given {given}"
