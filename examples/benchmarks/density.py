"""Held-out log-density, time and quality of samples, against peers in the same run.

    python examples/benchmarks/density.py --data ../shared/data --seeds 5

Without --data the tables are fetched from OpenML. Every method is given the same
dequantised rows in the same units. Ours is fitted with its defaults to the training and
validation rows together and holds out its own share of them; KDE and GMM are refitted to
both once tuned; NSF is fitted to the training rows and stopped on the validation rows.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from distances import w1
from peers import PEERS
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from tables import OPENML, Mixture, dequantised, load, split

from skbellman import BellmanDiffusionDensity

MIXTURE = "mixture_8d"
_W1_SETS = 8


def rows_of(name: str, seed: int, folder: Path | None) -> tuple[list[np.ndarray], float]:
    """Return training, validation and test rows, and the true log-density if it is known."""
    rng = np.random.default_rng(seed)
    if name != MIXTURE:
        return split(dequantised(load(name, folder), rng), rng), np.nan
    mixture = Mixture(seed=0)
    rows = mixture.draw(5500, rng)
    return [rows[:4500], rows[4500:5000], rows[5000:]], mixture.log_density(rows[5000:]).mean()


def auc(real: np.ndarray, drawn: np.ndarray) -> float:
    """Return how well boosted trees tell drawn rows from real ones: 0.5 is not at all."""
    rows = np.vstack([real, drawn])
    label = np.repeat([0, 1], [len(real), len(drawn)])
    model = HistGradientBoostingClassifier(random_state=0)
    guess = cross_val_predict(model, rows, label, cv=5, method="predict_proba")[:, 1]
    return float(roc_auc_score(label, guess))


def mean_w1(test: np.ndarray, rows: np.ndarray) -> float:
    """Return the mean W1 of the test rows to sets of as many rows: a single set decides nothing."""
    n_sets = min(_W1_SETS, len(rows) // len(test))
    return float(np.mean([w1(test, part) for part in np.split(rows[: n_sets * len(test)], n_sets)]))


def run(name: str, seed: int, folder: Path | None) -> dict[str, float]:
    (train, validation, test), truth = rows_of(name, seed, folder)
    both = np.vstack([train, validation])
    figures = {label: fit(train, validation)(test).mean() for label, fit in PEERS.items()}
    start = time.perf_counter()
    density = BellmanDiffusionDensity(random_state=seed).fit(both)
    figures["fit s"] = time.perf_counter() - start
    start = time.perf_counter()
    figures["ours"] = density.score(test)
    figures["score ms/row"] = 1e3 * (time.perf_counter() - start) / len(test)
    start = time.perf_counter()
    drawn = density.sample(10_000, random_state=seed)
    figures["10k draws s"] = time.perf_counter() - start
    figures |= {"W1 ours": mean_w1(test, drawn), "W1 real": mean_w1(test, train)}
    drawn, real = drawn[: len(test)], train[: len(test)]
    figures |= {"AUC ours": auc(test, drawn), "AUC real": auc(test, real)}
    return figures | {"truth": truth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", nargs="+", default=[*OPENML, MIXTURE])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    for name in arguments.tables:
        results = []
        for seed in range(arguments.seeds):
            results.append(run(name, seed, arguments.data))
            print(name, seed, {k: round(float(v), 3) for k, v in results[-1].items()}, flush=True)
        print("\n| table | " + " | ".join(results[0]) + " |")
        means = {k: np.mean([r[k] for r in results]) for k in results[0]}
        spread = {k: np.std([r[k] for r in results]) for k in results[0]}
        print(
            f"| {name} | " + " | ".join(f"{means[k]:.3f} ({spread[k]:.3f})" for k in means) + " |\n"
        )


if __name__ == "__main__":
    main()
