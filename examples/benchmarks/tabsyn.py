"""Sampled tables by the protocol of TabSyn, TabDiff and TabPC.

    pip install xgboost sdmetrics
    cd examples/benchmarks && python tabsyn.py --data FOLDER --tables shoppers --seeds 5

Nine rows in ten are fitted (the permutation of numpy's seed 1234), and as many are sampled.

C2ST, C2ST-LR
    SDMetrics' detection score of boosted trees and of logistic regression against training rows; 1
    if they cannot tell samples from them. It rewards memorising.
fresh
    The score of boosted trees against held-out rows and as many samples: steps are chosen by it.
Shape, Trend
    SDMetrics' scores of columns and of pairs.
alpha, beta
    Precision and recall of samples at all levels (Alaa et al., arXiv 2102.08921), as synthcity
    computes their "naive" variants: numbers from 0 to 1, one coordinate for each level.
nearer
    Share of samples that are nearer to a training row than to a held-out one; 0.5 is ideal.
utility, real
    AUC on held-out rows of boosted trees fitted to samples, and to training rows.

Without --data the tables are fetched from OpenML. Published figures are those of TabSyn
(arXiv 2310.09656), TabDiff (arXiv 2410.20626) and TabPC (arXiv 2603.23016), in the last's tables.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sdmetrics.reports.single_table import QualityReport
from sdmetrics.single_table import LogisticDetection
from sdmetrics.single_table.detection.sklearn import ScikitLearnClassifierDetectionMetric
from sklearn.datasets import fetch_openml
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from tables import CODED
from xgboost import XGBClassifier

from skbellman import BellmanDiffusionDensity
from skbellman.privacy import copying_report


class Table(NamedTuple):
    """Where a table is found, its categories by position, and what is to be foretold."""

    file: str
    openml: int
    categories: tuple[int, ...] | None
    target: str


TABLES = {
    "adult": Table("adult.csv", 1590, None, "income"),
    "default": Table(
        "credit_default.csv", 46919, CODED["credit_default"], "default.payment.next.month"
    ),
    "shoppers": Table("online_shoppers.csv", 46947, CODED["online_shoppers"], "Revenue"),
}
# C2ST, Shape and Trend, and seconds of training on a GPU.
PUBLISHED = {
    "adult": {
        "TabPC": (0.855, 0.994, 0.986, 272),
        "TabDiff": (0.841, 0.993, 0.985, 11605),
        "TabSyn": (0.794, 0.992, 0.980, 3083),
    },
    "default": {
        "TabPC": (0.262, 0.995, 0.950, 78),
        "TabDiff": (0.591, 0.988, 0.973, 13899),
        "TabSyn": (0.402, 0.987, 0.971, 3439),
    },
    "shoppers": {
        "TabPC": (0.894, 0.991, 0.982, 51),
        "TabDiff": (0.736, 0.985, 0.981, 10321),
        "TabSyn": (0.655, 0.985, 0.977, 2441),
    },
}
COLUMNS = (
    "C2ST", "C2ST-LR", "fresh", "Shape", "Trend", "alpha", "beta", "nearer", "utility", "real",
    "fit s", "sample s",
)  # fmt: skip


class BoostedDetection(ScikitLearnClassifierDetectionMetric):
    """SDMetrics' detection score by boosted trees, as the papers take it."""

    name = "XGBoost Detection"

    @staticmethod
    def _get_classifier() -> XGBClassifier:
        return boosted()


def boosted() -> XGBClassifier:
    return XGBClassifier(eval_metric="logloss", enable_categorical=True, random_state=0, n_jobs=1)


def load(name: str, folder: Path | None) -> pd.DataFrame:
    """Return a table whose categories are strings, gaps among them a category of their own."""
    table = TABLES[name]
    frame = (
        fetch_openml(data_id=table.openml, as_frame=True).frame
        if folder is None
        else pd.read_csv(folder / table.file)
    ).drop(columns="ID", errors="ignore")
    if table.categories is None:
        names = list(frame.columns.difference(frame.select_dtypes("number").columns))
    else:
        names = [frame.columns[k] for k in table.categories]
    return frame.assign(**{c: frame[c].astype(object).fillna("nan").astype(str) for c in names})


def split(name: str, frame: pd.DataFrame, most: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that are fitted, and those that are held out."""
    order = np.random.RandomState(1234).permutation(len(frame))
    n_train = int(0.9 * len(frame))
    train, rest = frame.iloc[order[:n_train]], frame.iloc[order[n_train:]]
    return train.head(most or n_train).reset_index(drop=True), rest.reset_index(drop=True)


def metadata(frame: pd.DataFrame) -> dict[str, dict[str, dict[str, str]]]:
    numbers = frame.select_dtypes("number").columns
    kinds = {c: "numerical" if c in numbers else "categorical" for c in frame}
    return {"columns": {c: {"sdtype": kind} for c, kind in kinds.items()}}


def with_levels(*tables: pd.DataFrame) -> list[pd.DataFrame]:
    """Return tables whose categories have the levels of all of them."""
    together = pd.concat(tables)
    names = together.columns.difference(together.select_dtypes("number").columns)
    known = {c: pd.CategoricalDtype(sorted(together[c].unique())) for c in names}
    return [table.astype(known) for table in tables]


def detection(real: pd.DataFrame, sampled: pd.DataFrame) -> float:
    """Return the detection score by boosted trees of tables that may have other levels."""
    rows = pd.concat(with_levels(real, sampled), ignore_index=True)
    is_real = np.arange(len(rows)) < len(real)
    found = cross_val_predict(boosted(), rows, is_real, cv=3, method="predict_proba")[:, 1]
    return 1 - 2 * max(float(roc_auc_score(is_real, found)) - 0.5, 0.0)


def points(*tables: pd.DataFrame) -> list[np.ndarray]:
    """Return rows as points: numbers from 0 to 1 in the first table, levels one-hot."""
    first = tables[0].select_dtypes("number")
    low, width = first.min(), (first.max() - first.min()).replace(0, 1)
    scaled = [t.assign(**(t[first.columns] - low) / width) for t in with_levels(*tables)]
    return [pd.get_dummies(table, dtype=float).to_numpy(np.float32) for table in scaled]


def precision_and_recall(real: pd.DataFrame, sampled: pd.DataFrame) -> tuple[float, float]:
    """Return alpha-precision and beta-recall: 1 less the mean distance from the diagonal."""
    x, z = points(real, sampled)
    levels = np.linspace(0, 1, 30)
    from_center = np.linalg.norm(z - x.mean(0), axis=1)
    radii = np.quantile(np.linalg.norm(x - x.mean(0), axis=1), levels)
    own = NearestNeighbors(n_neighbors=2).fit(x).kneighbors(x)[0][:, 1]
    (distance, nearest) = NearestNeighbors(n_neighbors=1).fit(z).kneighbors(x)
    closest = np.linalg.norm(z[nearest[:, 0]] - z.mean(0), axis=1)
    covered = (distance[:, 0] <= own) & (closest <= np.quantile(closest, levels)[:, None])
    found = [(from_center <= radii[:, None]).mean(1), covered.mean(1)]
    alpha, beta = (1 - np.abs(levels - share).sum() / levels.sum() for share in found)
    return float(alpha), float(beta)


def utility(rows: pd.DataFrame, rest: pd.DataFrame, target: str) -> float:
    """Return the AUC on the held-out rows of trees that learned from these."""
    seen, asked = with_levels(rows, rest)
    codes = seen[target].cat.codes
    model = boosted().fit(seen.drop(columns=target), codes)
    found = model.predict_proba(asked.drop(columns=target))[:, 1]
    return float(roc_auc_score(asked[target].cat.codes, found))


def judged(
    name: str, train: pd.DataFrame, rest: pd.DataFrame, sampled: pd.DataFrame
) -> dict[str, float]:
    """Return the figures of samples."""
    about, some = metadata(train), sampled.head(len(rest))
    report = QualityReport()
    report.generate(train, sampled, about, verbose=False)
    shape, trend = report.get_properties()["Score"]
    alpha, beta = precision_and_recall(train, sampled)
    return {
        "C2ST": float(BoostedDetection.compute(train, sampled, metadata=about)),
        "C2ST-LR": float(LogisticDetection.compute(train, sampled, metadata=about)),
        "fresh": detection(rest, some),
        "Shape": float(shape),
        "Trend": float(trend),
        "alpha": alpha,
        "beta": beta,
        "nearer": copying_report(some, train, rest, random_state=0).share_nearer,
        "utility": utility(sampled, rest, TABLES[name].target),
        "real": utility(train, rest, TABLES[name].target),
    }


def run(name: str, train: pd.DataFrame, rest: pd.DataFrame, seed: int, settings: dict) -> dict:
    """Return the figures of one seed."""
    start = time.process_time()
    density = BellmanDiffusionDensity(random_state=seed, **settings).fit(train)
    fitted = time.process_time()
    sampled = density.sample(len(train), random_state=seed)
    seconds = {"fit s": fitted - start, "sample s": time.process_time() - fitted}
    return judged(name, train, rest, sampled) | seconds


def show(table: str, method: str, figures: dict[str, float]) -> None:
    """Print a row of the table of results."""
    cells = [f"{figures[c]:.3f}" if c in figures else "" for c in COLUMNS]
    print(" | ".join([f"| {table}", method, *cells]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=None, help="rows that are fitted, at most")
    parser.add_argument("--settings", type=json.loads, default={}, help="parameters, as JSON")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print("| table | method | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in options.tables:
        train, rest = split(name, load(name, options.data), options.most)
        found = []
        for seed in range(options.seeds):
            found.append(run(name, train, rest, seed, options.settings))
            show(name, f"ours, {seed}", found[-1])
        show(name, "ours, mean", pd.DataFrame(found).mean().to_dict())
        show(name, "ours, deviation", pd.DataFrame(found).std().to_dict())
        for peer, figures in PUBLISHED[name].items():
            keys = ("C2ST", "Shape", "Trend", "fit s")
            show(name, f"{peer}, published", dict(zip(keys, figures, strict=True)))


if __name__ == "__main__":
    main()
