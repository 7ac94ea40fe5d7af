"""Parallel calls of a function, wherever joblib runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from joblib import parallel_config
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits


def call_each(
    function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], n_jobs: int | None
) -> list[Any]:
    """Return the results of a function for each of the arguments, in their order.

    Parameters
    ----------
    function : callable
    arguments : iterable of tuples
    n_jobs : int or None
        Parallel calls, as joblib counts them. joblib's ``parallel_config(backend=...)`` sets where.

    Returns
    -------
    results : list

    Examples
    --------
    >>> from skbellman.algebra.workers import call_each
    >>> call_each(pow, [(2, 3), (3, 2)], n_jobs=None)
    [8, 9]
    """
    return Parallel(n_jobs=n_jobs)(delayed(_alone)(function, *each) for each in arguments)


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with one thread of torch, and with nothing in parallel inside.

    Other calls use the other cores. With one thread, sums also have the same order everywhere.
    Inside a worker of dask, joblib would use the whole cluster again.
    """
    # Limit OpenMP alone: its limit belongs to the calling thread, so other threads and torch's
    # default stay. torch sets the number of a new thread when it is first used there, which would
    # undo the limit.
    torch.get_num_threads()
    with parallel_config(backend="sequential"), threadpool_limits(1, user_api="openmp"):
        return function(*arguments)
