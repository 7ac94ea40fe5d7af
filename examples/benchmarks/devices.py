"""Seconds of fits, draws and scores on a GPU and on the CPU of the same machine.

    cd examples/benchmarks && python devices.py --data FOLDER --tables abalone adult

Draws are as many as the table has rows, twice: first with the device's first use of each
operation, then alone. Scores are of the first 2000 rows. Without --data the tables are fetched
from OpenML.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tables import MIXED, load_mixed

from skbellman import BellmanDiffusionDensity, DistributionalValueEstimator

N_SCORED = 2000


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds, and what was made: arrays and frames, so the device is done with them."""
    begin = time.perf_counter()
    made = do()
    return time.perf_counter() - begin, made


def table_row(frame: pd.DataFrame, device: str, n_steps: int | str) -> list[float]:
    """Return seconds of a fit, of as many draws, once more, ms a scored row, their mean."""
    density = BellmanDiffusionDensity(device=device, n_steps=n_steps, random_state=0)
    fit, _ = timed(lambda: density.fit(frame))
    first, _ = timed(lambda: density.sample(len(frame), random_state=0))
    again, _ = timed(lambda: density.sample(len(frame), random_state=1))
    rows = frame.head(N_SCORED)
    score, logs = timed(lambda: density.score_samples(rows))
    return [fit, first, again, 1000 * score / len(rows), logs.mean()]


def agent_seconds(device: str, n_steps: int) -> float:
    agent = DistributionalValueEstimator(policy="greedy", device=device, random_state=0)
    return timed(lambda: agent.fit("CartPole-v1", n_steps=n_steps))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--tables", nargs="*", default=["abalone", "adult"], choices=MIXED)
    parser.add_argument("--devices", nargs="+", default=["cuda", "cpu"])
    parser.add_argument("--steps", type=int, default=None, help="of a fit; the default's if left")
    parser.add_argument("--cart-pole", type=int, default=3000, help="steps in CartPole; 0: none")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if "cuda" in arguments.devices:
        torch.zeros(1, device="cuda")  # starting the device is no part of a fit
    print("| table | device | fit, s | draws, s | again, s | score, ms a row | mean log-density |")
    n_steps = arguments.steps or "auto"
    for name in arguments.tables:
        frame = load_mixed(name, arguments.data)
        for device in arguments.devices:
            cells = " | ".join(f"{figure:.3g}" for figure in table_row(frame, device, n_steps))
            print(f"| {name} | {device} | {cells} |", flush=True)
    for device in arguments.devices if arguments.cart_pole else []:
        seconds = agent_seconds(device, arguments.cart_pole)
        print(f"| CartPole-v1, {arguments.cart_pole} steps | {device} | {seconds:.3g} |")


if __name__ == "__main__":
    main()
