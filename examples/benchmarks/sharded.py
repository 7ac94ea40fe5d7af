"""A table in shards against one fit: quality, seconds, and memory of the process that adds up.

    python sharded.py --seeds 5
    python sharded.py --table FOLDER/abalone.csv --seeds 1 --n-steps 100 --rows 10000 100000

Both have the same 80% of the rows, the same defaults and one thread for each fit. As many rows as
are left are drawn and told from these by boosted trees (an AUC of 0.5 is best). Workers are
processes of loky. The memory is that of a fit of eight Parquet files, read by two workers: the peak
of the process that combines, above what it had before. Without a path, the table is fetched from
OpenML.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from density import auc
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from memory import MIB, Peak, mixed_table
from tables import MIXED, codes, load_mixed

from skbellman import BellmanDiffusionDensity, ShardedDensity

FIGURES = ("log-density", "AUC", "CPU s", "wall s, 1 worker", "wall s, 2 workers")


def table_of(name: str) -> pd.DataFrame:
    """Return a table of OpenML by its name, or that of a CSV file."""
    path = Path(name)
    return load_mixed(path.stem, path.parent if path.suffix == ".csv" else None)


def timed(fit: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what was fitted, and the CPU and wall seconds of this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    density = fit()
    return density, time.process_time() - cpu, time.perf_counter() - wall


def wall_of_two(density: ShardedDensity, train: pd.DataFrame) -> float:
    """Return the wall seconds of the same fit by two workers that have started already."""
    with parallel_config(backend="loky", n_jobs=2):
        Parallel()(delayed(start)() for _ in range(2))
        return timed(lambda: density.fit(train))[2]


def start() -> None:
    """Import what a fit needs, in a worker."""
    from skbellman import BellmanDiffusionDensity

    BellmanDiffusionDensity()
    time.sleep(0.5)  # so that the other worker starts too


def quality(density: Any, test: pd.DataFrame, frame: pd.DataFrame, seed: int) -> list[float]:
    """Return the mean log-density of rows of known categories, and the AUC of draws."""
    logs = density.score_samples(test)
    drawn = density.sample(len(test), random_state=seed)
    return [logs[np.isfinite(logs)].mean(), auc(codes(test, frame), codes(drawn, frame))]


def run(frame: pd.DataFrame, seed: int, n_shards: int, settings: dict[str, Any]) -> np.ndarray:
    """Return the figures of one fit and of shards."""
    order = np.random.default_rng(seed).permutation(len(frame))
    n_train = int(0.8 * len(frame))
    train, test = (frame.iloc[rows].reset_index(drop=True) for rows in np.split(order, [n_train]))
    one = BellmanDiffusionDensity(random_state=seed, **settings)
    _, cpu, wall = timed(lambda: one.fit(train))
    rows = [[*quality(one, test, frame, seed), cpu, wall, np.nan]]
    shards = ShardedDensity(
        BellmanDiffusionDensity(**settings), n_shards=n_shards, random_state=seed
    )
    _, cpu, wall = timed(lambda: shards.fit(train))
    figures = quality(shards, test, frame, seed)
    return np.array([*rows, [*figures, cpu, wall, wall_of_two(shards, train)]])


def memory(n_rows: int) -> tuple[float, float]:
    """Return MiB of a table, and of a fresh process that combines fits of its eight parts."""
    with tempfile.TemporaryDirectory() as folder:
        size = in_a_process(write, n_rows, folder)
        return size, in_a_process(peak_of_combining, folder)


def in_a_process(function: Callable[..., float], *arguments: Any) -> float:
    """Return what a function returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def write(n_rows: int, folder: str) -> float:
    """Write eight parts, and a small one; return MiB of the table."""
    table = mixed_table(n_rows)
    for k in range(8):
        table.iloc[k::8].to_parquet(f"{folder}/{k}.parquet")
    mixed_table(300).to_parquet(f"{folder}/small.parquet")
    return table.memory_usage(deep=True).sum() / MIB


def peak_of_combining(folder: str) -> float:
    """Return the peak of a fit by two workers, in MiB above what this process had before."""
    warnings.simplefilter("ignore")
    few = BellmanDiffusionDensity(n_steps=2, width=16, n_nodes=4)
    shards = ShardedDensity(few, random_state=0)
    with parallel_config(backend="loky", n_jobs=2):
        shards.fit([f"{folder}/small.parquet"])  # what loads once is loaded
        with Peak() as peak:
            shards.fit([f"{folder}/{k}.parquet" for k in range(8)])
    get_reusable_executor().shutdown()  # this process would not end otherwise
    return peak.above


def report(results: list[np.ndarray], n_shards: int) -> None:
    """Print means and deviations over seeds."""
    print("\n| fit | " + " | ".join(FIGURES) + " |")
    means, spreads = np.mean(results, axis=0), np.std(results, axis=0)
    for name, *cells in zip(("one", f"{n_shards} shards"), means, spreads, strict=True):
        text = " | ".join(f"{m:.3f} ({s:.3f})" for m, s in zip(*cells, strict=True))
        print(f"| {name} | {text} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", default="adult", help=f"a CSV file, or one of {list(MIXED)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--n-steps", type=int, default=None, help="of each fit; its default if not")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    settings = {} if arguments.n_steps is None else {"n_steps": arguments.n_steps}
    frame, results = table_of(arguments.table), []
    for seed in range(arguments.seeds):
        results.append(run(frame, seed, arguments.shards, settings))
        print(seed, results[-1].round(3).tolist(), flush=True)
    if results:
        report(results, arguments.shards)
    print("\n| rows | table, MiB | combining process, MiB |")
    for n_rows in arguments.rows:
        print("| {:,} | {:.0f} | {:.0f} |".format(n_rows, *memory(n_rows)), flush=True)


if __name__ == "__main__":
    main()
