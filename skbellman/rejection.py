"""Rejection sampling of rows: draw, keep what is accepted, and stop where hardly anything is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skbellman.tables.containers import container_of


class TooFewError(ValueError):
    """Hardly any draw was accepted."""


def accepted_rows(
    draw: Callable[[int], Any],
    accepts: Callable[[Any], np.ndarray],
    n_rows: int,
    reason: str,
    most_at_once: int = 4096,
    not_before: int = 4000,
    least_share: float = 1e-3,
) -> tuple[Any, float]:
    """Return rows that are accepted, and the share of the draws that were.

    Parameters
    ----------
    draw : callable
        From a number of rows to a table of so many.
    accepts : callable
        From a table to a mask of its rows.
    n_rows : int
    reason : str
        What the error says after the numbers: why few are accepted, and what to do.
    most_at_once : int, default=4096
        Rows drawn at once.
    not_before : int, default=4000
        Draws before the share is judged.
    least_share : float, default=1e-3
        Acceptance below which an error is raised.

    Returns
    -------
    table : DataFrame or ndarray
    share : float

    Raises
    ------
    TooFewError
        If a smaller share is accepted.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman.rejection import accepted_rows
    >>> rng = np.random.default_rng(0)
    >>> rows, share = accepted_rows(
    ...     lambda n: rng.random((n, 1)), lambda X: X[:, 0] < 0.5, 100, "never"
    ... )
    >>> rows.shape, bool(rows.max() < 0.5)
    ((100, 1), True)
    """
    kept: list[Any] = []
    n_drawn = n_kept = 0
    while n_kept < n_rows:
        if n_drawn >= not_before and n_kept < least_share * n_drawn:
            raise TooFewError(f"{n_kept} of {n_drawn} samples were accepted: {reason}")
        # At first as many as are asked for: all may be accepted.
        rate = max(n_kept, 1) / max(n_drawn, 1)
        n_next = 1.2 * (n_rows - n_kept) / rate + 8 if n_drawn else n_rows
        n_asked = int(min(n_next, most_at_once))
        drawn = draw(n_asked)
        rows = np.flatnonzero(accepts(drawn))
        kept.append(container_of(drawn).taken(drawn, rows))
        n_drawn, n_kept = n_drawn + n_asked, n_kept + len(rows)
    container = container_of(kept[0])
    return container.taken(container.stacked(kept), np.arange(n_rows)), n_kept / n_drawn


def accepted_for_each(
    draw: Callable[[np.ndarray], Any],
    accepts: Callable[[Any], np.ndarray],
    n_rows: int,
    reason: str,
    most_rounds: int = 1000,
) -> tuple[Any, float]:
    """Return an accepted row for each of some conditions, and the share of draws accepted.

    Parameters
    ----------
    draw : callable
        From numbers of conditions to a table with a row for each.
    accepts : callable
        From a table to a mask of its rows.
    n_rows : int
        Number of rows of conditions.
    reason : str
        What the error says after the numbers.
    most_rounds : int, default=1000
        Draws for one condition.

    Returns
    -------
    table : DataFrame or ndarray
    share : float

    Raises
    ------
    ValueError
        If no row is accepted for a condition; the message names it.
    """
    pending, kept, places, n_drawn = np.arange(n_rows), [], [], 0
    for _ in range(most_rounds):
        drawn = draw(pending)
        accepted = accepts(drawn)
        kept.append(container_of(drawn).taken(drawn, np.flatnonzero(accepted)))
        places.append(pending[accepted])
        n_drawn, pending = n_drawn + len(pending), pending[~accepted]
        if not len(pending):
            container = container_of(drawn)
            order = np.argsort(np.concatenate(places))
            return container.taken(container.stacked(kept), order), n_rows / n_drawn
    raise ValueError(
        f"none of {most_rounds} draws for row {pending[0]} of given was accepted: {reason}"
    )
