"""Control in ten environments: ours, DQN, QR-DQN, IQN, C51 and Rainbow, in one harness.

    pip install stable-baselines3 sb3-contrib tianshou minigrid minatar "gymnasium[box2d]"
    cd examples/benchmarks && python control_suite.py --out runs.jsonl
    python control_suite.py --out runs.jsonl --report

Each run is one line of the file: the scores of the greedy policy at tenths of the steps, and CPU
seconds. Runs that are in the file are not repeated. Preset 0 is a package's own settings. With
preset 1, the default here, peers have the batches, the replay, the exploration, the steps of
learning and of a backup of ours, and a rate of 1e-3. Ours has its defaults. Preset 2 backs up one
step. Nothing is tuned. The report has the interquartile mean of the normalised last score over all
runs, with the 95% interval of a bootstrap that draws seeds within each environment, as rliable does
(arXiv 2108.13264).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from suite_peers import Watch, stable_baselines, tianshou
from suite_tasks import TASKS, Task, mean_return

from skbellman import DistributionalValueEstimator
from skbellman.returns.control import Controller
from skbellman.returns.fit_environment import Agent

N_SCORES = 10


def ours(task: Task, preset: dict[str, Any], seed: int, watch: Watch) -> None:
    """Fit the estimator, watched by a controller that says what the greedy policy is."""

    class Watched(Controller):
        def run(self, environment: Any, space: Any, *rest: Any) -> None:
            self.space = space
            super().run(environment, space, *rest)

        def learn(self) -> torch.Tensor | None:
            loss = super().learn()
            watch(self.n_steps, self.best)
            return loss

        def best(self, seen: list[Any]) -> np.ndarray:
            rows = torch.as_tensor(self.space.features(seen), dtype=torch.float32)
            with torch.no_grad():
                return self.space.choices.taken(self.learner.target.best(rows).numpy())

    Agent.controller = Watched
    agent = DistributionalValueEstimator(policy="greedy", random_state=seed, **preset)
    agent.fit(task.make(), n_steps=task.n_steps)


# Settings of stable-baselines3 that learn as often as ours: its own are for a million steps.
_OFTEN = {
    "learning_rate": 1e-3, "learning_starts": 1000, "train_freq": 1, "batch_size": 64,
    "target_update_interval": 200, "exploration_fraction": 0.2, "exploration_final_eps": 0.05,
}  # fmt: skip
_FEWER = {"policy_kwargs": {"n_quantiles": 51}}
_PRESETS = {
    "ours": ({}, {}, {"multi_step": 1}),
    "DQN": ({}, {**_OFTEN, "n_steps": 3}, _OFTEN),
    "QR-DQN": ({}, {**_OFTEN, "n_steps": 3, **_FEWER}, {**_OFTEN, **_FEWER}),
    "tianshou": (
        {"rate": 1e-3, "explored": 0.2, "updates": 0.1},
        {"rate": 1e-3, "explored": 0.2, "updates": 1.0},
    ),
}
# How a method is trained, and its presets: the first is that of its package.
METHODS: dict[str, tuple[Callable[..., None], tuple[dict[str, Any], ...]]] = {
    "ours": (ours, _PRESETS["ours"]),
    "DQN": (partial(stable_baselines, "DQN"), _PRESETS["DQN"]),
    "QR-DQN": (partial(stable_baselines, "QR-DQN"), _PRESETS["QR-DQN"]),
    **{kind: (partial(tianshou, kind), _PRESETS["tianshou"]) for kind in ("IQN", "C51", "Rainbow")},
}


def run(name: str, method: str, preset: int, seed: int) -> dict[str, Any]:
    """Return one run: its scores, and CPU seconds without those of evaluations."""
    task, (train, presets) = TASKS[name], METHODS[method]
    every, scores, begin, spent = task.n_steps // N_SCORES, [], time.process_time(), 0.0

    def watch(n_steps: int, policy: Any) -> None:
        nonlocal spent
        if n_steps < every * (len(scores) + 1):
            return
        now = time.process_time()
        scores.append(mean_return(task, policy, 10_000 * (seed + 1) + len(scores)))
        spent += time.process_time() - now

    train(task, presets[preset], seed, watch)
    seconds = time.process_time() - begin - spent
    return {
        "environment": name, "method": method, "preset": preset, "seed": seed, "scores": scores,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def interquartile_mean(values: np.ndarray) -> float:
    """Return the mean of the middle half."""
    ordered = np.sort(values.ravel())
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def interval(table: np.ndarray, n_draws: int = 2000) -> tuple[float, float]:
    """Return the 95% interval of the interquartile mean of (n_environments, n_seeds) scores."""
    rng = np.random.default_rng(0)
    n, n_seeds = table.shape
    drawn = rng.integers(n_seeds, size=(n_draws, n, n_seeds))
    means = [interquartile_mean(table[np.arange(n)[:, None], rows]) for rows in drawn]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def steps_to(task: Task, scores: list[float], share: float) -> float:
    """Return the steps until a share of the way from the random to the good score is kept."""
    reached = [task.normalised(score) >= share for score in scores]
    held = [k for k in range(len(reached)) if all(reached[k : k + 2])]
    return task.n_steps // N_SCORES * (held[0] + 1) if held else math.inf


def report(runs: list[dict[str, Any]]) -> None:
    """Print a table of environments, and one of methods."""
    groups = defaultdict(list)
    for found in sorted(runs, key=lambda r: r["seed"]):
        groups[found["preset"], found["method"], found["environment"]].append(found)
    kinds = sorted({kind[:2] for kind in groups})
    print("| environment | method | preset | last score, each seed | steps to .8 | seconds |")
    print("|---|---|---|---|---|---|")
    for name, kind in itertools.product(TASKS, kinds):
        if groups[*kind, name]:
            print(line_of_runs(name, groups[*kind, name]))
    print("\n| method | preset | runs | interquartile mean | interval | over all steps | seconds |")
    print("|---|---|---|---|---|---|---|")
    for kind in kinds:
        print(line_of_method(*kind, {name: groups[*kind, name] for name in TASKS}))


def line_of_runs(name: str, runs: list[dict[str, Any]]) -> str:
    """Return the line of a method in an environment."""
    task, (first, *_) = TASKS[name], runs
    held = [steps_to(task, r["scores"], 0.8) for r in runs]
    steps = ", ".join("never" if math.isinf(n) else f"{n / 1000:g}k" for n in held)
    each = ", ".join(f"{r['scores'][-1]:.3g}" for r in runs)
    seconds = np.mean([r["seconds"] for r in runs])
    return f"| {name} | {first['method']} | {first['preset']} | {each} | {steps} | {seconds:.0f} |"


def line_of_method(preset: int, method: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return the line of a method over all environments that have the same number of runs."""
    n_seeds = max(map(len, runs.values()))
    full = {TASKS[name]: some for name, some in runs.items() if len(some) == n_seeds}
    last = [[task.normalised(r["scores"][-1]) for r in some] for task, some in full.items()]
    mean = [[task.normalised(np.mean(r["scores"])) for r in some] for task, some in full.items()]
    low, high = interval(np.array(last))
    last_mean, mean_mean = (interquartile_mean(np.array(scores)) for scores in (last, mean))
    seconds = sum(r["seconds"] for some in full.values() for r in some) / n_seeds
    return (
        f"| {method} | {preset} | {len(full)} x {n_seeds} | {last_mean:.2f} | "
        f"{low:.2f} to {high:.2f} | {mean_mean:.2f} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--presets", type=int, nargs="+", default=[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("control_suite.jsonl"))
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    runs = [json.loads(line) for line in lines]
    if arguments.report:
        report([r for r in runs if r["environment"] in arguments.environments])
        return
    done = {(r["environment"], r["method"], r["preset"], r["seed"]) for r in runs}
    asked = itertools.product(
        arguments.seeds, arguments.environments, arguments.presets, arguments.methods
    )
    for seed, name, preset, method in asked:
        if (name, method, preset, seed) in done:
            continue
        found = run(name, method, preset, seed)
        with arguments.out.open("a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
