"""The laws of returns of some states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skbellman.inspection.axes import single_axes
from skbellman.tables.parts import rows_of
from skbellman.validation import check_count


class ReturnLawDisplay:
    """Densities of the return, a curve for each state, with the mean as a dashed line.

    Parameters
    ----------
    returns : array of shape (n_points,)
        Returns at which densities are given.
    densities : array of shape (n_states, n_points)
        Densities per unit of the return.
    means : array of shape (n_states,)
        Expected returns.
    labels : list of str
        Labels of the states.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure of the axes.

    Examples
    --------
    >>> from skbellman import DistributionalValueEstimator
    >>> from skbellman.inspection import ReturnLawDisplay
    >>> chain = {"state": [0, 1], "next_state": [1, 1], "reward": [1.0, 2.0],
    ...          "terminated": [False, True]}
    >>> value = DistributionalValueEstimator(gamma=0.5, n_steps=300, random_state=0).fit(chain)
    >>> len(ReturnLawDisplay.from_estimator(value, [0, 1]).ax_.lines)
    4
    """

    def __init__(self, returns: Any, densities: Any, means: Any, labels: list[str]) -> None:
        self.returns, self.densities = np.asarray(returns), np.asarray(densities)
        self.means, self.labels = np.asarray(means), labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        states: Any,
        actions: Any = None,
        *,
        labels: Sequence[str] | None = None,
        n_points: int = 200,
        ax: Any = None,
    ) -> ReturnLawDisplay:
        """Compute the laws of the returns of some states, and draw them.

        Parameters
        ----------
        estimator : fitted DistributionalValueEstimator or MixtureOfReturns
            The estimator whose laws are drawn.
        states : DataFrame or array-like of shape (n_states,) or (n_states, n_features)
            As for ``predict``.
        actions : DataFrame or array-like of shape (n_states,) or (n_states, n_numbers), optional
            As for ``predict``.
        labels : sequence of str, optional
            Labels of the states in the legend. By default their numbers.
        n_points : int, default=200
            Points of each curve.
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : ReturnLawDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As ``predict`` does. Also if the numbers of labels and states differ.

        Examples
        --------
        >>> from skbellman import DistributionalValueEstimator
        >>> from skbellman.inspection import ReturnLawDisplay
        >>> steps = {"state": [0, 0], "next_state": [0, 0], "reward": [1.0, 2.0],
        ...          "terminated": [True, True]}
        >>> value = DistributionalValueEstimator(n_steps=100, random_state=0).fit(steps)
        >>> ReturnLawDisplay.from_estimator(value, [0], labels=["start"]).labels
        ['start']
        """
        check_count("n_points", n_points, 2)
        means = estimator.predict(states, actions)
        labels = [f"state {k}" for k in range(len(means))] if labels is None else list(labels)
        if len(labels) != len(means):
            raise ValueError(f"There are {len(labels)} labels for {len(means)} states.")
        ends = estimator.quantile(states, actions, q=[0.001, 0.999])
        low, high = float(ends.min()), float(ends.max())
        margin = 0.1 * (high - low) or 1.0
        returns = np.linspace(low - margin, high + margin, n_points)
        repeated = _repeated(states, len(means), n_points)
        acted = None if actions is None else _repeated(actions, len(means), n_points)
        logs = estimator.score_samples(repeated, acted, returns=np.tile(returns, len(means)))
        densities = np.exp(logs).reshape(len(means), n_points)
        return cls(returns, densities, means, labels).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ReturnLawDisplay:
        """Draw the laws, one colour each.

        Parameters
        ----------
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : ReturnLawDisplay
            Itself.

        Examples
        --------
        >>> from skbellman.inspection import ReturnLawDisplay
        >>> ReturnLawDisplay([0.0, 1.0], [[1.0, 1.0]], [0.5], ["start"]).plot().ax_.get_xlabel()
        'return'
        """
        self.ax_ = single_axes(ax, "ReturnLawDisplay.plot")
        self.figure_ = self.ax_.figure
        for k, (density, label) in enumerate(zip(self.densities, self.labels, strict=True)):
            self.ax_.plot(self.returns, density, color=f"C{k % 10}", label=label)
        for k, mean in enumerate(self.means):
            self.ax_.axvline(mean, color=f"C{k % 10}", linestyle="--", linewidth=1)
        self.ax_.set(xlabel="return", ylabel="density", ylim=(0, None))
        self.ax_.legend()
        return self


def _repeated(rows: Any, n_rows: int, n_times: int) -> Any:
    """Return states or actions, each n_times; a single one for all stays so."""
    at = np.arange(n_rows).repeat(n_times)
    if hasattr(rows, "columns"):
        return rows_of(rows, at)
    array = np.asarray(rows)
    return array[at] if len(array) == n_rows else array
