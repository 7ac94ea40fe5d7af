"""Gaps of a table filled: errors of means and coverage of draws, against scikit-learn's imputers.

    cd examples/benchmarks && python imputation.py --data FOLDER --seeds 5

A fifth of the cells of Red Wine is hidden at random, in columns brought to [0, 1]. Errors are mean
absolute errors over the hidden cells; "covered" is the share of them within the 90% interval of 20
draws: between quantiles at ranks of k / 21, which cover 90% if the draws have the right law
(numpy's usual ones, at ranks of k / 19, cover 81% then). MissForest is IterativeImputer with 100
trees of a random forest (Stekhoven and Buehlmann 2012). With --distinct, repeated rows (240 of Red
Wine's 1599, which trees remember) are dropped first. Nothing is tuned.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from tables import load

from skbellman import BellmanImputer

# Of the means and medians, and of the intervals.
N_DRAWS, N_COVERING = 100, 20


def ours(gaps: np.ndarray, seed: int) -> np.ndarray:
    """Return draws, (N_DRAWS, n, D)."""
    return np.stack(BellmanImputer(random_state=seed).fit(gaps).complete(gaps, N_DRAWS))


def miss_forest(seed: int) -> IterativeImputer:
    forest = RandomForestRegressor(100, n_jobs=2, random_state=seed)
    return IterativeImputer(forest, max_iter=5, random_state=seed)


PEERS: dict[str, Callable[[int], object]] = {
    "mean of the column": lambda seed: SimpleImputer(),
    "nearest neighbours": lambda seed: KNNImputer(),
    "IterativeImputer": lambda seed: IterativeImputer(max_iter=20, random_state=seed),
    "MissForest": miss_forest,
}


def run(values: np.ndarray, seed: int) -> dict[str, list[float]]:
    """Return error, coverage and seconds by method."""
    hidden = np.random.default_rng(seed).random(values.shape) < 0.2
    gaps = np.where(hidden, np.nan, values)
    begin = time.perf_counter()
    draws, truth = ours(gaps, seed)[:, hidden], values[hidden]
    seconds = time.perf_counter() - begin
    low, high = np.quantile(draws[:N_COVERING], [0.05, 0.95], axis=0, method="weibull")
    inside = ((low <= truth) & (truth <= high)).mean()
    found = {
        f"BellmanImputer, {name}": [np.abs(centre - truth).mean(), inside, seconds]
        for name, centre in (
            (f"mean of {N_COVERING}", draws[:N_COVERING].mean(0)),
            (f"mean of {N_DRAWS}", draws.mean(0)),
            (f"median of {N_DRAWS}", np.median(draws, axis=0)),
        )
    }
    for name, make in PEERS.items():
        begin = time.perf_counter()
        filled = make(seed).fit_transform(gaps)  # type: ignore[attr-defined]
        seconds = time.perf_counter() - begin
        found[name] = [np.abs(filled - values)[hidden].mean(), np.nan, seconds]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--distinct", action="store_true", help="without repeated rows")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    table = load("wine_quality_red", arguments.data)
    values = (table.drop_duplicates() if arguments.distinct else table).to_numpy(float)
    values = (values - values.min(0)) / np.ptp(values, axis=0)
    results = [run(values, seed) for seed in range(arguments.seeds)]
    print("| method | mean absolute error | covered by 90% | seconds |")
    for name in results[0]:
        figures = np.array([result[name] for result in results])
        pairs = zip(figures.mean(0), figures.std(0), strict=True)
        print(f"| {name} | " + " | ".join(f"{m:.4f} ({s:.4f})" for m, s in pairs) + " |")


if __name__ == "__main__":
    main()
