"""Laws of returns from tables of transitions, against exact ones: ours, C51, quantile regression.

    cd examples/benchmarks && python laws.py --seeds 0 1 2 3 4

Medians over the states, their means over the seeds with the deviation of the first over the seeds:
W1, Cramer's distance (by how much the CRPS of a forecast of the return is above that of the exact
law), the error of CVaR of the worst tenth, all in deviations of the law; the greatest distance of
the distribution of F(return) from a uniform one (PIT), where laws have no atoms; the mean of W1
in the deviation of all states' returns together; the seconds of a fit.
`DistributionalValueEstimator` has its defaults; C51 and quantile regression have as many atoms, the
same network, batches, steps, rate and target. C51 is told the support. "The table itself" is the
exact law of the process that the rows say, where it is known.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from processes import PROBABILITIES, PROCESSES, Process
from return_peers import Categorical, HuberQuantile, Peer, Quantile, fit_peer, quantiles

from skbellman import DistributionalValueEstimator
from skbellman.returns.evaluation import encode
from skbellman.returns.fit_table import steps_from_table
from skbellman.returns.policies import policy_of
from skbellman.returns.transitions import read_transitions

SIZE = 101


def distances(found: np.ndarray, exact: np.ndarray) -> tuple[float, ...]:
    """Return W1, Cramer's distance and the error of CVaR in deviations, that of PIT, and pooled W1.

    Pooled: the mean of W1 over the states in the deviation of all their returns together. Others:
    medians over the states, not means: the deviation is nearly 0 where the end is certain.
    """
    sd, n_worst = exact.std(1), exact.shape[1] // 10
    w1 = np.abs(found - exact).mean(1)
    cramer = [_cramer(*pair) for pair in zip(found, exact, strict=True)]
    worst = np.abs(found[:, :n_worst].mean(1) - exact[:, :n_worst].mean(1))
    pit = [_pit_error(*pair) for pair in zip(found, exact, strict=True)]
    errors = w1 / sd, np.array(cramer) / sd, worst / sd, np.array(pit)
    medians = (float(np.nanmedian(error)) for error in errors)
    return *medians, float(w1.mean() / exact.std())


def _cramer(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the integral of the squared difference of the distribution functions."""
    x = np.sort(np.concatenate([found, exact]))
    gap = _share_below(found, x[:-1]) - _share_below(exact, x[:-1])
    return float((gap**2 * np.diff(x)).sum())


def _pit_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the greatest distance of the law of F(return) from the uniform one; nan for atoms."""
    if np.unique(exact, return_counts=True)[1].max() > 0.05 * len(exact):
        return np.nan
    return float(np.abs(_share_below(found, exact) - PROBABILITIES).max())


def _share_below(law: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.searchsorted(law, x, side="right") / len(law)


def fit_ours(process: Process, seed: int) -> tuple[DistributionalValueEstimator, float]:
    policy = "table" if process.policy is None else process.policy
    begin = time.perf_counter()
    value = DistributionalValueEstimator(
        policy=policy, gamma=process.gamma, n_basis=SIZE, random_state=seed
    ).fit(process.transitions)
    return value, time.perf_counter() - begin


PEERS: dict[str, Callable[[tuple[int, int, int], tuple[float, float]], Peer]] = {
    "C51, support given": lambda sizes, support: Categorical(*sizes, support),
    "QR": lambda sizes, support: Quantile(*sizes),
    "QR, kappa 1": lambda sizes, support: HuberQuantile(*sizes),
}


def fit_and_ask(
    name: str, process: Process, value: DistributionalValueEstimator, seed: int
) -> tuple[np.ndarray, float]:
    """Return the quantiles and the seconds of a peer."""
    space = value.space_
    steps, acted = read_transitions(process.transitions), policy_of(value.policy)
    table = encode(steps, space, acted, torch.device("cpu"))
    table = replace(table, reward=table.reward.float())
    policy = np.ones((len(process.states), 1))
    if process.policy is not None:
        policy = acted.probabilities(process.states, space)
    torch.manual_seed(seed)
    peer = PEERS[name]((space.n_inputs, space.n_actions, SIZE), process.support)
    begin = time.perf_counter()
    n_steps = steps_from_table(space.features.one_hot)
    fit_peer(peer, table, process.gamma, n_steps, 1e-3)
    seconds = time.perf_counter() - begin
    states, shares = (
        torch.tensor(part, dtype=torch.float32)
        for part in (space.inputs(process.states, process.actions), policy)
    )
    return quantiles(peer, states, shares, PROBABILITIES), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES))
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), default=["C51, support given", "QR"]
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "All-NaN")
    print("| process | law | W1 / sd | Cramer / sd | CVaR .1 / sd | PIT | W1, pooled | seconds |")
    for name in arguments.processes:
        results = defaultdict(list)
        for seed in arguments.seeds:
            process = PROCESSES[name](np.random.default_rng(seed))
            for method, (found, taken) in learned(process, arguments.peers, seed).items():
                results[method].append((*distances(found, process.quantiles), taken))
        for method, figures in results.items():
            print(f"| {name} | {method} | {line(np.array(figures))} |", flush=True)


def learned(process: Process, peers: list[str], seed: int) -> dict[str, tuple[np.ndarray, float]]:
    """Return quantiles and seconds of each method, and those of the table itself."""
    value, seconds = fit_ours(process, seed)
    asked = value.quantile(process.states, process.actions, q=PROBABILITIES)
    found = {"ours": (asked, seconds)}
    found |= {peer: fit_and_ask(peer, process, value, seed) for peer in peers}
    if process.of_table is not None:
        found["the table itself"] = process.of_table, np.nan
    return found


def line(figures: np.ndarray) -> str:
    """Return the means over the seeds as cells of a table."""
    w1, cramer, cvar, pit, pooled, seconds = figures.mean(0)
    spread = figures[:, 0].std()
    cells = f"{w1:.3f} ({spread:.3f}) | {cramer:.4f} | {cvar:.3f} | {pit:.3f} | {pooled:.3f}"
    return f"{cells} | {seconds:.0f}".replace("nan", "-")


if __name__ == "__main__":
    main()
