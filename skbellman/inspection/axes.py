"""Axes to draw into: matplotlib is loaded when something is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support


def single_axes(ax: Any, caller: str, size: tuple[float, float] | None = None) -> Any:
    """Return the axes that are given, or those of a new figure of a size in inches."""
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def many_axes(ax: Any, n_rows: int, n_columns: int, caller: str) -> np.ndarray:
    """Return axes, (n_rows, n_columns): those that are given, or those of a new figure."""
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    if ax is None:
        size = (3.2 * n_columns, 2.6 * n_rows)
        ax = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)[1]
    found = np.array(ax, dtype=object)
    if found.size != n_rows * n_columns:
        raise ValueError(f"ax holds {found.size} axes, but {n_rows * n_columns} are drawn into.")
    return found.reshape(n_rows, n_columns)


def ticks_of_levels(axis: Any, levels: list[Any], most: int = 20) -> None:
    """Write levels at 0, 1, ... on an axis, not more than so many."""
    step = -(-len(levels) // most)
    places = range(0, len(levels), step)
    axis.set_ticks(list(places), [str(levels[k]) for k in places])
    if max(map(len, map(str, levels)), default=0) * len(levels) > 40:
        axis.set_tick_params(rotation=90, labelsize=7)


def ticks_of_dates(axis: Any) -> None:
    """Write dates on an axis of days since 1970, which matplotlib counts too."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=5)
    axis.set_major_locator(locator)
    axis.set_major_formatter(ConciseDateFormatter(locator))


def short_text(value: Any) -> str:
    """Return a value as text, numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
