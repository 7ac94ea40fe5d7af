"""Anomalies of ADBench's tables: the detector beside scikit-learn's and PyOD's.

    cd examples/benchmarks && python anomalies.py --data FOLDER --seeds 5

The folder has the tables of ADBench as CSV files with a column is_anomaly, in it or in its folder
adbench. Two settings: "normal", half of the normal rows as training, all others tested; "all", all
rows as training and tested. Peers get columns in deviations of the training rows, as in ADBench;
ours gets the table. Nothing is tuned. Results are appended to --out, and what is there is not run
again. PyOD's detectors take part where pyod is installed.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from skbellman import BellmanOutlierDetector

OURS = "BellmanOutlierDetector"
Score = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def neighbours(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Return the distance to the fifth nearest row; rows of the fit are not their own."""
    found = NearestNeighbors(n_neighbors=5).fit(train)
    return found.kneighbors(None if test is train else test)[0][:, -1]


def forest(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def local_factor(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    n_neighbors = min(20, len(train) - 1)
    if test is train:
        return -LocalOutlierFactor(n_neighbors).fit(train).negative_outlier_factor_
    return -LocalOutlierFactor(n_neighbors, novelty=True).fit(train).score_samples(test)


def gaussians(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    n_components = min(5, len(train) // 10)
    found = GaussianMixture(n_components, reg_covar=1e-3, random_state=seed).fit(train)
    return -found.score_samples(test)


PEERS: dict[str, Score] = {
    "nearest neighbours": neighbours,
    "isolation forest": forest,
    "LOF": local_factor,
    "Gaussian mixture": gaussians,
}


def pyod_peers() -> dict[str, Score]:
    """Return PyOD's detectors with their defaults, none without pyod."""
    try:
        from pyod.models.cblof import CBLOF
        from pyod.models.copod import COPOD
        from pyod.models.ecod import ECOD
        from pyod.models.knn import KNN
        from pyod.models.mcd import MCD
        from pyod.models.pca import PCA
    except ImportError:
        return {}

    def scored(make: Callable[[int], Any]) -> Score:
        def score(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
            found = make(seed).fit(train)
            return found.decision_scores_ if test is train else found.decision_function(test)

        return score

    return {
        "PyOD ECOD": scored(lambda seed: ECOD()),
        "PyOD COPOD": scored(lambda seed: COPOD()),
        "PyOD KNN": scored(lambda seed: KNN()),
        "PyOD MCD": scored(lambda seed: MCD(random_state=seed)),
        "PyOD PCA": scored(lambda seed: PCA(random_state=seed)),
        "PyOD CBLOF": scored(lambda seed: CBLOF(random_state=seed)),
    }


class PyODAdapter:
    """BellmanOutlierDetector with the words of PyOD's benchmark: high scores are anomalies.

    Parameters
    ----------
    **parameters : dict
        Of `BellmanOutlierDetector`.
    """

    def __init__(self, **parameters: Any) -> None:
        self.detector = BellmanOutlierDetector(**parameters)

    def fit(self, X: Any, y: Any = None) -> PyODAdapter:
        self.detector.fit(X)
        self.decision_scores_ = self.decision_function(X)
        self.threshold_ = -self.detector.offset_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        return -self.detector.score_samples(X)

    def predict(self, X: Any) -> np.ndarray:
        return (self.detector.predict(X) < 0).astype(int)


def tables(folder: Path) -> dict[str, Path]:
    """Return the files of the tables by name, the smallest first."""
    files = [*(folder / "adbench").glob("*.csv"), *folder.glob("anomaly_*.csv")]
    files = files or list(folder.glob("*.csv"))
    return {
        f.stem.removeprefix("anomaly_"): f for f in sorted(files, key=lambda f: f.stat().st_size)
    }


def divided(
    path: Path, setting: str, seed: int, most_rows: int
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Return the training rows, the test rows, and which of these are anomalies."""
    rng, table = np.random.default_rng(seed), pd.read_csv(path)
    if len(table) > most_rows:
        table = table.iloc[rng.permutation(len(table))[:most_rows]].reset_index(drop=True)
    odd = table.pop("is_anomaly").to_numpy() > 0
    table = table.loc[:, table.nunique() > 1]
    if setting == "all":
        return table, table, odd
    normal = rng.permutation(np.flatnonzero(~odd))
    train = normal[: len(normal) // 2]
    test = np.concatenate([normal[len(normal) // 2 :], np.flatnonzero(odd)])
    # Columns that are constant in training: no density of ours, and no deviations.
    table = table.loc[:, table.iloc[train].nunique() > 1]
    return table.iloc[train], table.iloc[test], odd[test]


def run(
    path: Path, setting: str, seed: int, most_rows: int, methods: dict[str, Score]
) -> dict[str, list[float]]:
    """Return AUROC, average precision and seconds by method."""
    train, test, odd = divided(path, setting, seed, most_rows)
    scaler = StandardScaler().fit(train)
    rows = scaler.transform(train)
    others = rows if setting == "all" else scaler.transform(test)
    found = {}
    for name, score in methods.items():
        begin = time.perf_counter()
        if name == OURS:
            scores = PyODAdapter(random_state=seed)
            scores = scores.fit(train).decision_function(test)
        else:
            scores = score(rows, others, seed)
        seconds = time.perf_counter() - begin
        quality = [roc_auc_score(odd, scores), average_precision_score(odd, scores)]
        found[name] = [*map(float, quality), seconds]
    return found


def summary(lines: list[dict[str, Any]]) -> None:
    """Print the means, and by table."""
    frame = pd.DataFrame(
        [
            {
                "setting": r["setting"],
                "table": r["table"],
                "method": m,
                "auroc": v[0],
                "ap": v[1],
                "s": v[2],
            }
            for r in lines
            for m, v in r["found"].items()
        ]
    )
    frame = frame.groupby(["setting", "table", "method"]).mean().reset_index()
    for setting, part in frame.groupby("setting"):
        auroc, ap, seconds = (
            part.pivot(index="table", columns="method", values=v) for v in ("auroc", "ap", "s")
        )
        ranks = pd.DataFrame(rankdata(-auroc, axis=1), index=auroc.index, columns=auroc.columns)
        whole = pd.DataFrame(
            {
                "AUROC": auroc.mean(),
                "mean rank": ranks.mean(),
                "AP": ap.mean(),
                "seconds": seconds.mean(),
            }
        )
        print(f"\n{setting}: {len(auroc)} tables")
        print(whole.sort_values("mean rank").round(3).to_string())
        print(auroc.round(3).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--most-rows", type=int, default=50_000)
    parser.add_argument("--tables", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("anomalies.jsonl"))
    parser.add_argument(
        "--show", action="store_true", help="print what is in --out, and run nothing"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    methods: dict[str, Score] = {OURS: neighbours, **PEERS, **pyod_peers()}
    lines = (
        [json.loads(r) for r in options.out.read_text().splitlines()]
        if options.out.exists()
        else []
    )
    done = {(r["table"], r["setting"], r["seed"]) for r in lines}
    files = {} if options.show else tables(options.data)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name, path in files.items():
            for setting in ("normal", "all"):
                if (name, setting, seed) in done or (options.tables and name not in options.tables):
                    continue
                found = run(path, setting, seed, options.most_rows, methods)
                lines.append({"table": name, "setting": setting, "seed": seed, "found": found})
                with options.out.open("a") as out:
                    out.write(json.dumps(lines[-1]) + "\n")
                print(
                    name, setting, seed, {m: round(v[0], 3) for m, v in found.items()}, flush=True
                )
    summary(lines)


if __name__ == "__main__":
    main()
