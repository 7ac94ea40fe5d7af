"""Seconds of fits, draws and scores, beside an earlier version of the library in the same run.

    git worktree add ../before COMMIT
    python examples/benchmarks/speed.py --before ../before --data ../shared/data --repeats 3

Each measurement is a process of its own with one thread, the two versions in turn. Seconds are
those of the processor; figures are medians over repeats, whose seeds are 0, 1, ... With --peers,
the methods of `peers.py` are timed on the numeric tables in the same run. Without --data the
tables are fetched from OpenML.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from tables import dequantised, load, load_mixed, split

TABLES = ("abalone", "wine_quality_red", "breast_cancer", "adult")
_MOST_ASKED = 400


def rows_of(name: str, seed: int, folder: Path | None) -> tuple[Any, Any]:
    """Return training and test rows: numbers dequantised, as in `density.py`, or a mixed frame."""
    rng = np.random.default_rng(seed)
    if name == "breast_cancer":
        frame = load_breast_cancer(as_frame=True).frame
    elif name == "adult":
        frame = load_mixed(name, folder)
    else:
        first, second, test = split(dequantised(load(name, folder), rng), rng)
        return np.vstack([first, second]), test
    order, n = rng.permutation(len(frame)), int(0.9 * len(frame))
    return (frame.iloc[part].reset_index(drop=True) for part in np.split(order, [n]))


def seconds(task: Any) -> tuple[float, Any]:
    """Return the processor's seconds of a task, and its answer."""
    start = time.process_time()
    answer = task()
    return time.process_time() - start, answer


def measured(name: str, seed: int, folder: Path | None) -> dict[str, float]:
    """Return the figures of the version that is on the path."""
    import torch

    from skbellman import BellmanDiffusionDensity

    torch.set_num_threads(1)
    train, test = rows_of(name, seed, folder)
    asked, n_draws = test[:_MOST_ASKED], min(len(train), 10_000)
    figures = {}
    density = BellmanDiffusionDensity(random_state=seed, device="cpu")
    figures["fit, s"], _ = seconds(lambda: density.fit(train))
    spent, _ = seconds(lambda: density.sample(n_draws, random_state=seed))
    figures["a draw, ms"] = 1e3 * spent / n_draws
    spent, scores = seconds(lambda: density.score_samples(asked))
    figures["a score, ms"] = 1e3 * spent / len(asked)
    figures["held-out log-density"] = float(np.mean(scores))
    if "approximate" in signature(density.score_samples).parameters:
        spent, rough = seconds(lambda: density.score_samples(asked, approximate=True))
        figures["an approximate score, ms"] = 1e3 * spent / len(asked)
        figures["its rmse, nats"] = float(np.sqrt(np.mean((rough - scores) ** 2)))
    return figures


def in_process(path: Path, arguments: list[str]) -> dict[str, float]:
    """Return the figures of the version in a folder."""
    environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def of_peers(name: str, seed: int, folder: Path | None) -> dict[str, float]:
    """Return the seconds of fits of other methods."""
    from peers import PEERS

    train, test = rows_of(name, seed, folder)
    n = int(0.9 * len(train))
    found = {}
    for label, fit in PEERS.items():
        found[f"{label}: fit, s"], score = seconds(lambda fit=fit: fit(train[:n], train[n:]))
        spent, _ = seconds(lambda score=score: score(test))
        found[f"{label}: a score, ms"] = 1e3 * spent / len(test)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="folder with the earlier version")
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--one", action="store_true", help="measure the version on the path once")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.one:
        (name,) = arguments.tables
        print(json.dumps(measured(name, arguments.repeats, arguments.data)))
        return
    here = Path(__file__).resolve().parents[2]
    data = [] if arguments.data is None else ["--data", str(arguments.data.resolve())]
    for name in arguments.tables:
        found: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
        for seed in range(arguments.repeats):
            one = ["--tables", name, "--repeats", str(seed), *data]
            for label, path in (("before", arguments.before.resolve()), ("now", here)):
                found[label].append(in_process(path, one))
                print(name, seed, label, found[label][-1], flush=True)
        medians = pd.DataFrame({k: pd.DataFrame(v).median() for k, v in found.items()})
        medians["ratio"] = medians["before"] / medians["now"]
        print(f"\n{name}\n{medians.round(3).to_string()}\n", flush=True)
        if arguments.peers and name not in ("adult", "breast_cancer"):
            print(pd.Series(of_peers(name, 0, arguments.data)).round(3).to_string(), flush=True)


if __name__ == "__main__":
    main()
