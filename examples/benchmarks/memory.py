"""How much memory a fit and a score take beside the table, in processes of their own.

python examples/benchmarks/memory.py --rows 100000 1000000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

MIB = 2**20


def mixed_table(n_rows: int) -> pd.DataFrame:
    """Return ten columns: numbers, prices, counts, many zeros, integers, labels and dates."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=n_rows).astype(np.float32)
    seconds = (1e6 * rng.random(n_rows)).astype("int64")
    labels = [np.array(["north", "south", "east", "west"]), np.array(list("abcdef"))]
    return pd.DataFrame(
        {
            "height": size,
            "weight": (0.7 * size + rng.normal(size=n_rows)).astype(np.float32),
            "income": rng.lognormal(size=n_rows),
            "price": np.rint(100 * rng.gamma(2.0, 50.0, n_rows)) / 100,
            "age": rng.integers(18, 90, n_rows).astype(np.int16),
            "visits": rng.poisson(3, n_rows).astype(np.int32),
            "gain": np.where(rng.random(n_rows) < 0.8, 0.0, rng.lognormal(7, 1, n_rows)),
            "region": pd.Categorical.from_codes(rng.integers(0, 4, n_rows), labels[0]),
            "kind": pd.Categorical.from_codes(rng.integers(0, 6, n_rows), labels[1]),
            "date": pd.Timestamp("2020-01-01") + pd.to_timedelta(seconds, "s"),
        }
    )


def resident() -> float:
    """Return the memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


class Peak:
    """The most memory of this process while open, looked at every 2 ms."""

    def __enter__(self) -> Peak:
        self.before = self.most = resident()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.002):
            self.most = max(self.most, resident())

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._watch.join()

    @property
    def above(self) -> float:
        return self.most - self.before


def measure(n_rows: int, n_scored: int) -> None:
    """Print the memory of a fit with few steps, and of scores, beside that of the table."""
    from skbellman import BellmanDiffusionDensity

    density = BellmanDiffusionDensity(n_steps=2, width=16, n_nodes=4, random_state=0)
    density.fit(mixed_table(300)).score_samples(mixed_table(3))  # what loads once is loaded
    empty = resident()
    table = mixed_table(n_rows)
    held, begun = resident() - empty, time.perf_counter()
    with Peak() as fit:
        density.fit(table)
    seconds = time.perf_counter() - begun
    with Peak() as score:
        density.score_samples(table[:n_scored])
    single = n_rows * table.shape[1] * 4 / MIB
    print(
        f"{n_rows:>10} rows: table {held:.0f} MiB, {single:.0f} in float32; fit {fit.above:.0f} "
        f"above it ({fit.above / single:.1f} times that), {fit.most:.0f} in all, {seconds:.0f} s; "
        f"scores of {n_scored} rows {score.above:.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--scored", type=int, default=10_000)
    parser.add_argument("--inside", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    for n_rows in arguments.rows:
        if arguments.inside:
            measure(n_rows, min(arguments.scored, n_rows))
            continue
        command = [sys.executable, __file__, "--inside", "--rows", str(n_rows)]
        subprocess.run([*command, "--scored", str(arguments.scored)], check=True)


if __name__ == "__main__":
    main()
