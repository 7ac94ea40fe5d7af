"""Laws of returns from tables of transitions, against exact ones: ours, C51, quantile regression.

    cd examples/benchmarks && python laws.py --seeds 0 1 2 3 4

W1 distance to the exact law in its deviations, the median over the states, its mean over the seeds
with the deviation over the seeds, and the seconds of a fit. `DistributionalValueEstimator` with its
defaults; C51 and quantile regression with as many atoms, the same network, batches, steps, rate and
target. C51 is told the support. Quantile regression compares all pairs of quantiles, which takes
minutes here: ask for it by --peers.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from processes import PROBABILITIES, PROCESSES, Process
from return_peers import Categorical, Peer, Quantile, fit_peer, quantiles

from skbellman import DistributionalValueEstimator
from skbellman.returns.evaluation import encode, policy_probabilities
from skbellman.returns.transitions import read_transitions

SIZE = 101


def distance(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the median W1 distance over the states, in deviations of each law.

    Not the mean: the deviation is nearly 0 in a state whose end is certain.
    """
    return float(np.median(np.abs(found - exact).mean(1) / exact.std(1)))


def fit_ours(process: Process, seed: int) -> tuple[DistributionalValueEstimator, float]:
    policy = "table" if process.policy is None else process.policy
    begin = time.perf_counter()
    value = DistributionalValueEstimator(
        policy=policy, gamma=process.gamma, n_basis=SIZE, random_state=seed
    ).fit(process.transitions)
    return value, time.perf_counter() - begin


PEERS: dict[str, Callable[[tuple[int, int, int], tuple[float, float]], Peer]] = {
    "C51, support given": lambda sizes, support: Categorical(*sizes, support),
    "QR, kappa 0": lambda sizes, support: Quantile(*sizes, 0.0),
    "QR, kappa 1": lambda sizes, support: Quantile(*sizes, 1.0),
}


def fit_and_ask(
    name: str, process: Process, value: DistributionalValueEstimator, seed: int
) -> tuple[np.ndarray, float]:
    """Return the quantiles and the seconds of a peer."""
    space = value.space_
    table = encode(read_transitions(process.transitions), space, value.policy, torch.device("cpu"))
    policy = np.ones((len(process.states), 1))
    if process.policy is not None:
        policy = policy_probabilities(process.policy, process.states, space)
    torch.manual_seed(seed)
    peer = PEERS[name]((space.n_inputs, space.n_actions, SIZE), process.support)
    begin = time.perf_counter()
    fit_peer(peer, table, process.gamma, value.history_["step"][-1], 1e-3)
    seconds = time.perf_counter() - begin
    states, shares = (
        torch.tensor(part, dtype=torch.float32)
        for part in (space.inputs(process.states, None), policy)
    )
    return quantiles(peer, states, shares, PROBABILITIES), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES))
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=["C51, support given"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| process | method | W1 / sd | seconds |")
    for name in arguments.processes:
        results = defaultdict(list)
        for seed in arguments.seeds:
            process = PROCESSES[name](np.random.default_rng(seed))
            value, seconds = fit_ours(process, seed)
            found = {"ours": (value.quantile(process.states, q=PROBABILITIES), seconds)}
            found |= {peer: fit_and_ask(peer, process, value, seed) for peer in arguments.peers}
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
