"""Whether samples tell which rows a model was fitted to: by copies, and by an attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import pairwise_distances_chunked
from sklearn.utils import check_random_state

from skbellman.density import BellmanDiffusionDensity
from skbellman.reports import auc_and_error, naming, validate_alike
from skbellman.tables import TableEncoder
from skbellman.tables.containers import container_of
from skbellman.tables.measures import same_measure


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
    tables = validate_alike(tables, like="train")
    with naming("train"):
        encoder = TableEncoder().fit(tables["train"])
    values = {}
    for name, table in tables.items():
        with naming(name):
            values[name] = encoder.read(table)
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


@dataclass(frozen=True)
class MembershipReport:
    """How well an attack on samples tells the rows of the fit from rows that no fit has seen.

    Attributes
    ----------
    auc : float
        Area under the ROC curve of the attack: 0.5 is a guess, 1 finds every row of the fit.
    interval : tuple of (float, float)
        95% confidence interval of ``auc``, for the rows that were asked for.
    n_rows : tuple of (int, int)
        Rows of the fit, and other rows, that the attack was tried on.
    """

    auc: float
    interval: tuple[float, float]
    n_rows: tuple[int, int]


def membership_report(
    sampled: Any,
    reference: Any,
    train: Any,
    held_out: Any,
    *,
    density: Any = None,
    random_state: Any = None,
) -> MembershipReport:
    r"""Attack samples: tell rows of the fit from others by :math:`\log p(x) - \log p_0(x)`.

    This is the attack DOMIAS. The attacker has the samples and a reference table of the same
    source. They fit the density p to the samples and p0 to the reference table. Where p exceeds p0
    the model was fitted to rows nearby.

    Parameters
    ----------
    sampled : DataFrame or array of shape (n_sampled, n_features)
        Samples of the model. The more there are, the stronger is the attack.
    reference : DataFrame or array of shape (n_reference, n_features)
        Rows of the same source, none of them in ``train`` or ``held_out``.
    train : DataFrame or array of shape (n_train, n_features)
        Rows of the fit, or some of them.
    held_out : DataFrame or array of shape (n_held_out, n_features)
        Rows of the same source that took no part in the fit.
    density : estimator, optional
        Unfitted density of the attacker, with ``fit`` and ``score_samples``; by default
        `BellmanDiffusionDensity`. If it has a parameter ``encoder``, both fits share one.
    random_state : int, RandomState instance or None, default=None
        Seeds the default density. One that is given has its own.

    Returns
    -------
    MembershipReport
        The AUC of the attack. A row that neither density gives any mass is a guess.

    Raises
    ------
    ValueError
        If the tables do not have the same columns, or one has fewer than 20 rows; if the densities
        of samples and reference refer to different measures; as the density raises.

    References
    ----------
    van Breugel, Sun, Qian, van der Schaar. Membership Inference Attacks against Synthetic Data
    through Overfitting Detection. arXiv 2302.12580, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KernelDensity
    >>> from skbellman.privacy import membership_report
    >>> rows = np.random.default_rng(0).normal(size=(600, 20))
    >>> train, held_out, reference = np.split(rows, 3)
    >>> kernel = KernelDensity(bandwidth=0.5)
    >>> report = membership_report(train, reference, train, held_out, density=kernel)
    >>> report.auc > 0.99, report.n_rows
    (True, (200, 200))
    """
    tables = {"sampled": sampled, "reference": reference, "train": train, "held_out": held_out}
    tables = validate_alike(tables, like="train", least=20)
    if density is None:
        density = BellmanDiffusionDensity(
            random_state=check_random_state(random_state).randint(2**31)
        )
    density = _with_one_encoder(clone(density), tables)
    attackers = []
    for name in ("sampled", "reference"):
        with naming(name):
            attackers.append(clone(density).fit(tables[name]))
    if hasattr(attackers[0], "measure_"):
        same_measure(*(attacker.measure_ for attacker in attackers))
    members, others = (_log_ratio(attackers, name, tables[name]) for name in ("train", "held_out"))
    auc, error = auc_and_error(members, others)
    low, high = np.clip([auc - 1.96 * error, auc + 1.96 * error], 0, 1).tolist()
    return MembershipReport(auc, (low, high), (len(members), len(others)))


def _with_one_encoder(density: Any, tables: dict[str, Any]) -> Any:
    """Return a density with an encoder of what the attacker has, if it takes one.

    Tables that the encoder cannot read are refused before any fit.
    """
    if "encoder" in density.get_params(deep=False):
        with naming("sampled and reference"):
            encoder = density._fitted_encoder(_stacked(tables["sampled"], tables["reference"]))
        density.set_params(encoder=encoder, categorical_features="from_dtype")
        for name, table in tables.items():
            with naming(name):
                encoder.read(table)
    return density


def _stacked(sampled: Any, reference: Any) -> Any:
    """Return the rows of two tables in one."""
    try:
        return container_of(reference).stacked([sampled, reference])
    except Exception as error:  # every library has its own
        raise ValueError("columns have other dtypes than in the other: cast them alike.") from error


def _log_ratio(densities: list[Any], name: str, table: Any) -> np.ndarray:
    """Return log p(x) - log p0(x) of each row; 0 where neither has any mass."""
    with naming(name):
        scores = [density.score_samples(table) for density in densities]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(scores[0] - scores[1], nan=0.0, posinf=np.inf, neginf=-np.inf)


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
