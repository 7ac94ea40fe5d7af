"""What reports on tables share: tables of the same columns, and how well scores tell rows apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from skbellman.tables.containers import container_of
from skbellman.validation import validate_table


def validate_alike(tables: dict[str, Any], like: str, least: int = 2) -> dict[str, Any]:
    """Return tables as arrays or frames; refuse other columns than those of ``like``, and few rows.

    Errors name the table.
    """
    checked = {}
    for name, table in tables.items():
        with naming(name):
            checked[name] = validate_table(BaseEstimator(), table, reset=True)
    names = {name: container_of(table).names_of(table) for name, table in checked.items()}
    for name, table in checked.items():
        if names[name] != names[like]:
            raise ValueError(f"{name} has the columns {names[name]}, {like} has {names[like]}.")
        if len(table) < least:
            raise ValueError(f"{name} has {len(table)} row(s): at least {least} are needed.")
    return checked


@contextmanager
def naming(table: str) -> Iterator[None]:
    """Put the name of a table in front of the messages of errors that it causes."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.args = (f"{table}: {error}",)
        raise


def auc_and_error(scores: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve of scores against others, and its standard error.

    The error is that of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988).
    """
    beaten, beating = _shares_below(scores, others), _shares_below(others, scores)
    variances = [shares.var(ddof=1) / len(shares) for shares in (beaten, beating)]
    return float(beaten.mean()), float(np.sqrt(sum(variances)))


def _shares_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the share of the others that is below each score, counting half of those level."""
    ranked = np.sort(others)
    below, up_to = (np.searchsorted(ranked, scores, side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(ranked))
