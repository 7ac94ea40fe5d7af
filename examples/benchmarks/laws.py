"""Laws of returns from tables of transitions, against exact ones: ours, C51, quantile regression.

    cd examples/benchmarks && python laws.py --seeds 0 1 2 3 4

W1 distance to the exact law in its deviations, the mean over the states and then over the seeds, with the
deviation over the seeds, and the seconds of a fit. `DistributionalValueEstimator` with its defaults; C51 and
quantile regression with as many atoms, the same network, batches, steps, rate and target. C51 is
told the support.
"""  # noqa: E501 - one sentence

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
import torch
from processes import PROBABILITIES, PROCESSES, Process
from return_peers import Categorical, Quantile, fit_peer, quantiles

from skbellman import DistributionalValueEstimator
from skbellman.returns.evaluation import encode, policy_probabilities
from skbellman.returns.transitions import read_transitions

SIZE = 101


def distance(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the mean W1 distance over the states, in deviations of each law."""
    return float((np.abs(found - exact).mean(1) / exact.std(1)).mean())


def fit_ours(process: Process, seed: int) -> tuple[DistributionalValueEstimator, float]:
    policy = "table" if process.policy is None else process.policy
    begin = time.perf_counter()
    value = DistributionalValueEstimator(
        policy=policy, gamma=process.gamma, n_basis=SIZE, random_state=seed
    ).fit(process.transitions)
    return value, time.perf_counter() - begin


def fit_peers(
    process: Process, value: DistributionalValueEstimator, seed: int
) -> dict[str, tuple[np.ndarray, float]]:
    """Return the quantiles and the seconds of each peer."""
    space = value.space_
    table = encode(read_transitions(process.transitions), space, value.policy, torch.device("cpu"))
    states = torch.tensor(space.inputs(process.states, None), dtype=torch.float32)
    policy = np.ones((len(states), 1))
    if process.policy is not None:
        policy = policy_probabilities(process.policy, process.states, space)
    found = {}
    torch.manual_seed(seed)
    sizes = (space.n_inputs, space.n_actions, SIZE)
    peers = {
        "C51, support given": Categorical(*sizes, process.support),
        "QR, kappa 0": Quantile(*sizes, 0.0),
        "QR, kappa 1": Quantile(*sizes, 1.0),
    }
    n_steps = int(np.clip(100 / (1 - process.gamma), 4000, 10_000))
    for name, peer in peers.items():
        begin = time.perf_counter()
        fit_peer(peer, table, process.gamma, n_steps, 1e-3)
        seconds = time.perf_counter() - begin
        shares = torch.tensor(policy, dtype=torch.float32)
        found[name] = quantiles(peer, states, shares, PROBABILITIES), seconds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES))
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    print("| process | method | W1 / sd | seconds |")
    for name in arguments.processes:
        results = defaultdict(list)
        for seed in arguments.seeds:
            process = PROCESSES[name](np.random.default_rng(seed))
            value, seconds = fit_ours(process, seed)
            found = {"ours": (value.quantile(process.states, q=PROBABILITIES), seconds)}
            if not arguments.no_peers:
                found |= fit_peers(process, value, seed)
            for method, (quantile, taken) in found.items():
                results[method].append((distance(quantile, process.quantiles), taken))
        for method, figures in results.items():
            w1, taken = np.array(figures).T
            print(
                f"| {name} | {method} | {w1.mean():.3f} +- {w1.std():.3f} | {taken.mean():.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
