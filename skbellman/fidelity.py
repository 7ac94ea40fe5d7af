"""How well samples can be told from rows of their source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_random_state
from torch import Tensor

from skbellman.fields.base import Sampler
from skbellman.reports import auc_and_error, naming, validate_alike
from skbellman.table_model import TableModel
from skbellman.tables import TableEncoder

# Samples, and at most so many held-out rows, that a fit compares: it takes about a second.
_MOST_COMPARED = 1000


@dataclass(frozen=True)
class FidelityReport:
    """How well samples can be told from rows of their source: by trees, columns and pairs.

    Attributes
    ----------
    detection : float
        1 - 2 max(AUC - 1/2, 0) of boosted trees that tell samples from rows. 1: they cannot, 0:
        they always can.
    detection_error : float
        Standard error of ``detection`` for the trees that were trained. That other rows would train
        other trees is left out: it may be as large again.
    columns : list of (name, float)
        Score of each column, the worst first. A number has 1 less the Kolmogorov-Smirnov distance
        of its two laws, a category 1 less their total variation distance. 1: the laws are equal.
    pairs : list of (name, name, float)
        The worst pairs of columns, the worst first. The score is 1 less the total variation
        distance of their joint laws, less what equal laws would have by chance. Numbers are in
        tenths of their rows, categories have their nine most frequent levels and the others.
    """

    detection: float
    detection_error: float
    columns: list[tuple[Any, float]]
    pairs: list[tuple[Any, Any, float]]

    def __str__(self) -> str:
        columns = ", ".join(f"{name!r} {score:.2f}" for name, score in self.columns[:3])
        pairs = ", ".join(f"{one!r} and {two!r} {score:.2f}" for one, two, score in self.pairs[:3])
        return (
            f"detection {self.detection:.2f} (standard error {self.detection_error:.2f}); "
            f"worst columns: {columns}; worst pairs: {pairs or 'none'}"
        )

    def complaint(self, least: float = 0.5) -> str:
        """Return what is wrong with the samples; empty if they may have this ``detection``."""
        if self.detection + 2 * self.detection_error >= least:
            return ""
        worst, score = self.columns[0]
        text = (
            f"Samples are easily told from held-out rows: fidelity_.detection is "
            f"{self.detection:.2f} of 1. The worst column is {worst!r}, with a score of {score:.2f}"
        )
        if self.pairs:
            one, other, score = self.pairs[0]
            text += f"; the worst pair is {one!r} and {other!r}, with {score:.2f}"
        return f"{text}."


def fidelity_report(
    sampled: Any, real: Any, *, encoder: TableEncoder | None = None, random_state: Any = None
) -> FidelityReport:
    """Measure how well samples can be told from rows of their source.

    Missing values count: they are a level of a category. A number's score is at most 1 less the
    difference of the shares that are missing. Identifiers are left out.

    Parameters
    ----------
    sampled : DataFrame or array of shape (n_sampled, n_features)
        Samples of `BellmanDiffusionDensity.sample`, or of any other source. Of tables with missing
        values, take those of ``sample(with_missing=True)``.
    real : DataFrame or array of shape (n_real, n_features)
        Rows of the same source that took no part in the fit. Rows of the fit would reward copies.
    encoder : TableEncoder, optional
        Says which columns are categories and identifiers: ``density.encoder_`` of the density that
        was fitted. An unfitted one is fitted to ``real``, as the default is.
    random_state : int, RandomState instance or None, default=None
        Selects equally many rows of both tables for ``detection``, and seeds the trees and their
        three folds.

    Returns
    -------
    FidelityReport
        Scores between 0 and 1, 1 is best.

    Raises
    ------
    ValueError
        If the tables do not have the same columns, or one has fewer than 50 rows: trees learn
        nothing from fewer. Some hundred rows and more find faults that are not gross.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman.fidelity import fidelity_report
    >>> rng = np.random.default_rng(0)
    >>> real = rng.normal(size=(600, 3))
    >>> report = fidelity_report(rng.normal(size=(600, 3)) + [0, 2, 0], real, random_state=0)
    >>> report.columns[0][0], report.detection < 0.4
    (1, True)
    """
    tables = validate_alike({"sampled": sampled, "real": real}, like="real", least=50)
    encoder = TableEncoder() if encoder is None else encoder
    if not hasattr(encoder, "fitted_"):
        with naming("real"):
            encoder = encoder.fitted_to(tables["real"])
    values = {}
    for name, table in tables.items():
        with naming(name):
            values[name] = encoder.read(table)
    rng = check_random_state(random_state)
    return report_of_values(encoder, values["sampled"], values["real"], rng)


def report_of_values(
    encoder: TableEncoder,
    sampled: list[np.ndarray],
    real: list[np.ndarray],
    random_state: np.random.RandomState,
) -> FidelityReport:
    """Return the report of two tables, given as the values of each column.

    A missing number is NaN, a missing level None.
    """
    compared = list(_compared(encoder, sampled, real))
    detection, error = _detection(compared, random_state)
    columns = [(column.name, column.score()) for column in compared]
    return FidelityReport(detection, error, sorted(columns, key=itemgetter(1)), _pairs(compared))


def held_out_report(
    model: TableModel, sampler: Sampler, held_out: Tensor, seed: int, least: int = 100
) -> FidelityReport | None:
    """Return how well samples of a model are told from held-out rows, None if these are too few.

    The held-out rows are coordinates, (n, D). Samples have the missing values of these rows.
    """
    if len(held_out) < least:
        return None
    encoder, matrix = model.encoder, held_out[:_MOST_COMPARED].double().cpu().numpy()
    gaps = np.isnan(matrix)
    patterns = np.resize(gaps, (_MOST_COMPARED, gaps.shape[1]))
    sampled = _with_gaps(encoder, model.draw(_MOST_COMPARED, sampler, seed), patterns)
    real = _with_gaps(encoder, encoder.decode(np.nan_to_num(matrix)), gaps)
    return report_of_values(encoder, sampled, real, np.random.RandomState(seed % 2**32))


def _with_gaps(
    encoder: TableEncoder, values: list[np.ndarray], gaps: np.ndarray
) -> list[np.ndarray]:
    """Return the numbers and codes of each column, missing where coordinates, (n, D), are."""
    found = []
    for j, fitted in enumerate(encoder.fitted_):
        is_category = fitted.kind.is_categorical
        column = values[j].astype(object if is_category else float)
        column[gaps[:, encoder.layout_.column_of == j].all(1)] = None if is_category else np.nan
        found.append(column)
    return found


class _Compared(NamedTuple):
    """A column of both tables, as numbers; a level is its rank by frequency among the real rows.

    Missing values are NaN.
    """

    name: Any
    is_category: bool
    sampled: np.ndarray
    real: np.ndarray

    def score(self) -> float:
        """Return 1 less the distance of the two laws."""
        gaps = [np.isnan(side) for side in (self.sampled, self.real)]
        if self.is_category:
            sampled, real = (
                np.where(gap, -1, side).astype(int) + 1
                for gap, side in zip(gaps, (self.sampled, self.real), strict=True)
            )
            return 1 - _total_variation(sampled, real)
        more_gaps = abs(float(gaps[0].mean() - gaps[1].mean()))
        return 1 - max(more_gaps, _kolmogorov(self.sampled[~gaps[0]], self.real[~gaps[1]]))

    def bins(self, n_bins: int) -> list[np.ndarray]:
        """Return the bin of each row of the two tables, a whole number below 2 n_bins.

        Numbers that repeat often have bins of their own, as missing values have.
        """
        sides = (self.sampled, self.real)
        if self.is_category:
            found = [np.minimum(side, n_bins - 1) for side in sides]
        else:
            known = self.real[~np.isnan(self.real)]
            edges = np.unique(np.quantile(known, np.arange(1, n_bins) / n_bins))
            found = [
                np.searchsorted(edges, side) + np.searchsorted(edges, side, "right")
                for side in sides
            ]
        return [
            np.where(np.isnan(side), 2 * n_bins - 1, bins).astype(int)
            for side, bins in zip(sides, found, strict=True)
        ]


def _compared(
    encoder: TableEncoder, sampled: list[np.ndarray], real: list[np.ndarray]
) -> Iterator[_Compared]:
    """Iterate over the columns of both tables, but for identifiers."""
    for fitted, *sides in zip(encoder.fitted_, sampled, real, strict=True):
        is_category = fitted.kind.is_categorical
        if not fitted.column.is_fresh:
            yield _Compared(fitted.name, is_category, *(_ranks(*sides) if is_category else sides))


def _ranks(sampled: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return levels as ranks by their frequency among real rows, NaN where missing."""
    counts = Counter(level for level in real.tolist() if level is not None)
    only_sampled = set(sampled.tolist()) - {None, *counts}
    levels = [level for level, _ in counts.most_common()] + sorted(only_sampled, key=repr)
    ranks = {level: float(rank) for rank, level in enumerate(levels)}
    of_sampled, of_real = (
        np.array([ranks.get(level, np.nan) for level in side.tolist()]) for side in (sampled, real)
    )
    return of_sampled, of_real


def _detection(
    compared: list[_Compared], rng: np.random.RandomState, most_levels: int = 255
) -> tuple[float, float]:
    """Return how little trees tell the two tables apart, and the standard error."""
    n_each = min(len(compared[0].sampled), len(compared[0].real))
    chosen = [rng.permutation(len(side))[:n_each] for side in compared[0][2:]]
    X = np.column_stack(
        [np.concatenate([column.sampled[chosen[0]], column.real[chosen[1]]]) for column in compared]
    )
    is_sampled = np.arange(2 * n_each) < n_each
    # The trees take no more levels: ranks of frequency are numbers to them then.
    is_category = [
        column.is_category and not (values > most_levels - 1).any()
        for column, values in zip(compared, X.T, strict=True)
    ]
    seed = rng.randint(2**31)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed).split(X, is_sampled)
    found = []
    for seen, asked in folds:
        trees = HistGradientBoostingClassifier(categorical_features=is_category, random_state=seed)
        scores = trees.fit(X[seen], is_sampled[seen]).predict_proba(X[asked])[:, 1]
        found.append(auc_and_error(scores[is_sampled[asked]], scores[~is_sampled[asked]]))
    auc, errors = np.mean(found, axis=0)[0], np.array(found)[:, 1]
    return float(1 - 2 * max(auc - 0.5, 0)), float(2 * np.sqrt(np.square(errors).mean() / 3))


def _pairs(
    compared: list[_Compared], n_bins: int = 10, n_worst: int = 20
) -> list[tuple[Any, Any, float]]:
    """Return the pairs of columns whose joint laws differ most."""
    binned = [(column.name, column.bins(n_bins)) for column in compared]
    scored = (
        (a, b, _pair_score(of_a, of_b, 2 * n_bins))
        for (a, of_a), (b, of_b) in combinations(binned, 2)
    )
    return nsmallest(n_worst, scored, key=itemgetter(2))


def _pair_score(of_a: list[np.ndarray], of_b: list[np.ndarray], n_bins: int) -> float:
    """Return 1 less the distance of joint laws that exceeds what is expected of equal ones."""
    sampled, real = (a * n_bins + b for a, b in zip(of_a, of_b, strict=True))
    n_both, n_rows = len(sampled) * len(real), len(sampled) + len(real)
    # Given their sum, the two counts of a bin are hypergeometric if the laws are equal.
    counts = np.bincount(np.concatenate([sampled, real]))
    by_chance = np.sqrt(counts * (1 - counts / n_rows) / (2 * np.pi * n_both)).sum()
    return float(1 - max(_total_variation(sampled, real) - by_chance, 0))


def _total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the total variation distance of the laws of whole numbers."""
    n_values = max(a.max(), b.max()) + 1
    shares = [np.bincount(side, minlength=n_values) / len(side) for side in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _kolmogorov(a: np.ndarray, b: np.ndarray) -> float:
    """Return the greatest difference of distribution functions; 0 if one has no numbers."""
    if not len(a) or not len(b):
        return 0.0
    places = np.concatenate([a, b])
    shares = [np.searchsorted(np.sort(side), places, "right") / len(side) for side in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())
