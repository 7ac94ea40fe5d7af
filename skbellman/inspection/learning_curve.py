"""The learning curve of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from skbellman.inspection.axes import single_axes

# Default metrics, in order of preference, and their labels.
_NAMES = {
    "validation_log_density": "held-out log-density (nats a row)",
    "return": "return of an episode",
    "loss": "loss",
}


class LearningCurveDisplay:
    """A metric of the training by step, and the step whose state was kept.

    Parameters
    ----------
    steps : array of shape (n_evaluations,)
        Optimiser steps.
    values : array of shape (n_evaluations,)
        The metric at each step.
    name : str
        Name of the metric.
    kept : int, optional
        The step whose state was kept.

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
    >>> from skbellman.inspection import LearningCurveDisplay
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> density = BellmanDiffusionDensity(n_steps=5, n_nodes=4, random_state=0).fit(X)
    >>> LearningCurveDisplay.from_estimator(density).name
    'validation_log_density'
    """

    def __init__(self, steps: Any, values: Any, name: str, kept: int | None = None) -> None:
        self.steps, self.values = np.asarray(steps), np.asarray(values, dtype=float)
        self.name, self.kept = name, kept

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, metric: str = "auto", ax: Any = None
    ) -> LearningCurveDisplay:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            With ``history_``.
        metric : str, default="auto"
            A name in ``history_``. "auto" is the held-out log-density of a density, the returns of
            an agent, or else the loss.
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : LearningCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the history has no such metric.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity
        >>> from skbellman.inspection import LearningCurveDisplay
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> density = BellmanDiffusionDensity(n_steps=1, n_nodes=4, random_state=0).fit(X)
        >>> LearningCurveDisplay.from_estimator(density, metric="loss").ax_.get_ylabel()
        'loss'
        """
        history = getattr(estimator, "history_", None)
        if not history:
            raise ValueError(f"{type(estimator).__name__} has no history_: fit it first.")
        if metric == "auto":
            metric = next(name for name in _NAMES if history.get(name))
        values = history.get(metric)
        if metric == "step" or values is None or len(values) != len(history["step"]):
            raise ValueError(f"metric={metric!r} is none of history_: {sorted(history)}.")
        return cls.from_predictions(
            history["step"], values, metric, getattr(estimator, "n_iter_", None), ax=ax
        )

    @classmethod
    def from_predictions(
        cls, steps: Any, values: Any, name: str, kept: int | None = None, *, ax: Any = None
    ) -> LearningCurveDisplay:
        """Draw recorded values.

        Parameters
        ----------
        steps, values : array-like of shape (n_evaluations,)
            Steps, and values of the metric.
        name : str
            Name of the metric.
        kept : int, optional
            The step whose state was kept.
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : LearningCurveDisplay
            The display, drawn.

        Examples
        --------
        >>> from skbellman.inspection import LearningCurveDisplay
        >>> LearningCurveDisplay.from_predictions([1, 2], [0.5, 0.3], "loss").values
        array([0.5, 0.3])
        """
        return cls(steps, values, name, kept).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> LearningCurveDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : Axes, optional
            By default that of a new figure.

        Returns
        -------
        display : LearningCurveDisplay
            Itself.

        Examples
        --------
        >>> from skbellman.inspection import LearningCurveDisplay
        >>> LearningCurveDisplay([1, 2], [0.5, 0.3], "loss").plot().ax_.get_xlabel()
        'step'
        """
        self.ax_ = single_axes(ax, "LearningCurveDisplay.plot")
        self.figure_ = self.ax_.figure
        self.ax_.plot(self.steps, self.values, marker="o", markersize=3)
        if self.kept is not None:
            self.ax_.axvline(self.kept, color="0.5", linestyle="--", label="state kept")
            self.ax_.legend()
        self.ax_.set(xlabel="step", ylabel=_NAMES.get(self.name, self.name.replace("_", " ")))
        return self
