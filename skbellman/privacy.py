"""Whether samples copy the rows that a model was fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.utils import check_random_state

from skbellman.tables import TableEncoder


@dataclass(frozen=True)
class CopyingReport:
    """How close samples are to the training rows, compared with rows that no fit has seen.

    Attributes
    ----------
    share_nearer : float
        Share of the samples that are nearer to a training row than to any held-out row, with
        equally many of each. 0.5 is ideal, 1 is copying.
    standard_error : float
        Standard error of ``share_nearer``, from the number of samples alone.
    copies : float
        Share of the samples that equal a training row in every column.
    copies_held_out : float
        The same share of the held-out rows: the level that duplicates in the table cause.
    """

    share_nearer: float
    standard_error: float
    copies: float
    copies_held_out: float


def copying_report(
    drawn: Any, train: Any, held_out: Any, *, random_state: Any = None
) -> CopyingReport:
    """Measure how close samples are to the rows that the model was fitted to.

    Distances are Euclidean, in the coordinates of the density: numbers are transformed and in
    standard deviations, categories are sqrt(2) apart. Values that are missing in either row are
    left out.

    Parameters
    ----------
    drawn : DataFrame or array of shape (n_drawn, n_features)
        Samples of `BellmanDiffusionDensity.sample`, or of any other source.
    train : DataFrame or array of shape (n_train, n_features)
        The rows of the fit.
    held_out : DataFrame or array of shape (n_held_out, n_features)
        Rows of the same source that took no part in the fit.
    random_state : int, RandomState instance or None, default=None
        Selects equally many rows of train and held_out, as many as the smaller has. Otherwise the
        larger table would be nearer by its size alone.

    Returns
    -------
    CopyingReport
        Shares between 0 and 1.

    Raises
    ------
    ValueError
        If the three tables do not have the same columns, or one has fewer than two rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman.privacy import copying_report
    >>> rows = np.random.default_rng(0).normal(size=(400, 2))
    >>> report = copying_report(rows[:100], train=rows[:200], held_out=rows[200:], random_state=0)
    >>> report.share_nearer, report.copies, report.copies_held_out
    (1.0, 1.0, 0.0)
    """
    tables = {"drawn": drawn, "train": train, "held_out": held_out}
    for name, table in tables.items():
        _check_columns(name, table, train)
    encoder = TableEncoder().fit(train)
    values = {name: encoder.read(table) for name, table in tables.items()}
    rows, fitted, fresh = (next(encoder.encode_cells(v, 1))[0] for v in values.values())
    n_each, rng = min(len(fitted), len(fresh)), check_random_state(random_state)
    to_fitted, to_fresh = (
        _nearest(rows, other[rng.permutation(len(other))[:n_each]]) for other in (fitted, fresh)
    )
    share = float(((to_fitted < to_fresh) + 0.5 * (to_fitted == to_fresh)).mean())
    known = set(_keys(encoder.codes(values["train"])))
    copies, copies_held_out = (
        float(np.mean([key in known for key in _keys(encoder.codes(values[name]))]))
        for name in ("drawn", "held_out")
    )
    error = float(np.sqrt(share * (1 - share) / len(rows)))
    return CopyingReport(share, error, copies, copies_held_out)


def _check_columns(name: str, table: Any, train: Any) -> None:
    found, expected = (
        list(t.columns) if hasattr(t, "columns") else t.shape[1] for t in (table, train)
    )
    if found != expected:
        raise ValueError(f"{name} has the columns {found}, train has {expected}.")
    if len(table) < 2:
        raise ValueError(f"{name} has {len(table)} row(s): at least 2 are needed.")


def _nearest(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distance of each row to the nearest of the others, over what both hold."""

    def nearest(distances: np.ndarray, start: int) -> np.ndarray:
        return np.nan_to_num(distances, nan=np.inf).min(axis=1)  # nan: nothing held by both

    chunks = pairwise_distances_chunked(rows, others, reduce_func=nearest, metric="nan_euclidean")
    return np.concatenate(list(chunks))


def _keys(codes: list[np.ndarray]) -> list[bytes]:
    """Return a key of each row that is equal where all its values are; missing equals missing."""
    matrix = np.column_stack(codes).astype(float)
    matrix = np.where(np.isnan(matrix), np.nan, matrix) + 0.0  # one NaN, and no -0.0
    return [row.tobytes() for row in np.ascontiguousarray(matrix)]
