"""Parts of a table: what can stand for one, and how it is read where it is needed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.algebra.rows import as_table


def parts_of(X: Any) -> Iterator[tuple[Any, Any]]:
    """Iterate over keys and parts, each in the form that is sent to a worker.

    Examples
    --------
    >>> from skbellman.algebra.parts import parts_of
    >>> list(parts_of({"north": "north.parquet"}))
    [('north', 'north.parquet')]
    """
    if isinstance(X, Mapping):
        pairs: Iterable[tuple[Any, Any]] = X.items()
    elif _is_partitioned(X):
        pairs = enumerate(_partitions(X))
    else:
        pairs = enumerate([X] if is_to_be_read(X) else X)
    return ((key, placed(part)) for key, part in pairs)


def is_rows(X: Any) -> bool:
    """Say whether X is a table, or looks like the rows of one, which other checks may refuse."""
    if is_to_be_read(X):
        return False
    if hasattr(X, "shape") or not isinstance(X, Iterable):  # some sparse matrices are mappings
        return True
    return isinstance(X, Sequence) and not any(map(_is_part, X[:1]))


def is_to_be_read(part: Any) -> bool:
    """Say whether a part still has to be read."""
    is_lazy = any(hasattr(part, word) for word in ("compute", "collect", "result"))
    return is_lazy or callable(part) or isinstance(part, str | PathLike)


def read(part: Any) -> Any:
    """Return the table that a part stands for."""
    return as_table(_read(part))


def _is_part(part: Any) -> bool:
    """Say whether an item is a table, or stands for one, and is not a row."""
    return is_to_be_read(part) or len(getattr(part, "shape", ())) == 2


def _is_of_dask(part: Any) -> bool:
    return hasattr(part, "__dask_graph__")


def _is_partitioned(X: Any) -> bool:
    """Say whether X is a frame or an array of dask."""
    # A delayed object has every attribute, delayed too.
    return _is_of_dask(X) and isinstance(getattr(X, "npartitions", None), int)


def _partitions(X: Any) -> Iterable[Any]:
    """Return the delayed partitions of a frame or an array of dask; no row is divided."""
    whole = X.rechunk({1: -1}) if hasattr(X, "rechunk") else X
    return np.ravel(np.array(whole.to_delayed(), dtype=object)).tolist()


def placed(part: Any) -> Any:
    """Return a part of dask without the rest of its graph; as a future if workers hold it.

    The scheduler of dask knows where a future is, and sends the work there.
    """
    if not _is_of_dask(part):
        return part
    from dask.base import optimize

    (part,) = optimize(part)
    held = sys.modules["distributed"].futures_of(part) if "distributed" in sys.modules else []
    return held[0].client.compute(part) if held else part


def _read(part: Any) -> Any:
    # Calling a delayed object of dask would only delay it again. It is computed in this thread,
    # because dask would use the whole cluster and move rows.
    if _is_of_dask(part):
        return part.compute(scheduler="synchronous")
    for word in ("compute", "collect", "result"):
        if hasattr(part, word):
            return getattr(part, word)()
    if isinstance(part, str | PathLike):
        return _read_parquet(part)
    return part() if callable(part) else part


def _read_parquet(path: Any) -> Any:
    """Return the frame of a Parquet file, by the first library that is installed."""
    libraries = ("pandas", "polars", "pyarrow")
    backends: list[Any] = [name for name in libraries if importlib.util.find_spec(name)]
    if not backends:
        raise ImportError("Parquet files are read by pandas, polars or pyarrow: install one.")
    return nw.read_parquet(path, backend=backends[0]).to_native()
