"""Calls of a function at once, wherever joblib runs them."""

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
    """Return what a function says of each of the arguments, in their order.

    Parameters
    ----------
    function : callable
    arguments : iterable of tuples
    n_jobs : int or None
        Calls at once, as joblib counts them; its ``parallel_config(backend=...)`` says where.

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

    Other calls have the other cores. One thread everywhere also means that sums are taken in the
    same order everywhere. Inside a worker of dask, joblib would go to the whole cluster again.
    """
    # Of OpenMP alone: its limit is the calling thread's own, others and torch's default stay. But
    # torch sets the number of a new thread when it is first used there, which would undo the limit.
    torch.get_num_threads()
    with parallel_config(backend="sequential"), threadpool_limits(1, user_api="openmp"):
        return function(*arguments)
