"""What a fit tells while it runs: lines of progress, and scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skbellman.progress import Progress
from skbellman.training import Record


@contextmanager
def reports_of(
    estimator: Any, n_evaluations: int | None, X: Any, y: Any
) -> Iterator[Callable[[Record], bool]]:
    """Yield a function that reports an evaluation, and says if a callback ends the training.

    Parameters
    ----------
    estimator : estimator with callbacks
        Lines are printed if its ``verbose`` is not 0.
    n_evaluations : int or None
        None if it is unknown.
    X, y : table, object
        Arguments of `fit`, for callbacks.
    """
    callbacks = estimator._init_callback_context(max_subtasks=n_evaluations)
    callbacks.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    progress = Progress() if estimator.verbose else None

    def report(record: Record) -> bool:
        if progress is not None:
            n_done = record.n_before + record.n_steps
            n_all = record.n_before + record.n_planned + record.n_after
            # The number of rounds is known only at the end.
            progress.show(n_done, n_all, line_of(record), may_grow=n_evaluations is None)
        task = callbacks.subcontext(task_name="evaluation")
        task.call_on_fit_task_begin(estimator=estimator)
        return bool(task.call_on_fit_task_end(estimator=estimator))

    try:
        yield report
    finally:
        if progress is not None:
            progress.close()
        callbacks.call_on_fit_task_end(estimator=estimator, X=X, y=y)


def line_of(record: Record) -> str:
    """Return the last evaluation as text."""
    figures, stage = record.scores[-1], "missing values, " if record.n_after else ""
    return (
        f"{stage}loss {record.loss[-1]:.4f}, held-out loss {figures['validation_loss']:.4f}, "
        f"log-density {figures['score']:.3f}"
    )
