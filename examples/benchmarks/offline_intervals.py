"""How often 90% intervals for a policy's value hold it: a bootstrap of episodes.

    cd examples/benchmarks && python offline_intervals.py --sets 20

The value is the mean return from given starts, by the linear equations that frames solve
(`skbellman.returns.frames`, with random features). A bootstrap solves them again for episodes drawn
with replacement. To first order, that moves the value by a sum over episodes, so that one solution
is enough: a step moves it by its Bellman error times its influence, as if it were left out
(the infinitesimal jackknife, with the leverage of each step).

"average" is the bootstrap of the mean return of the episodes in the data, whatever policy took
them. Widths are in deviations of the return.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from offline import Case
from offline_tasks import N_STARTS, TASKS, Task
from torch import Tensor
from torch.nn.functional import one_hot

from skbellman.returns.evaluation import encode, space_of
from skbellman.returns.frames import new_frames
from skbellman.returns.policies import policy_of
from skbellman.returns.transitions import read_transitions


def by_action(shares: Tensor, features: Tensor) -> Tensor:
    return (shares.double().unsqueeze(-1) * features.double().unsqueeze(1)).flatten(1)


def value_and_influences(case: Case, ridge: float) -> tuple[float, np.ndarray]:
    """Return the value from the starts, and by how much each step moves it, (n_steps,)."""
    task, rng = case.task, case.rng()
    table = read_transitions(case.table)
    policy = policy_of(task.probabilities or (lambda states: task.target(states, rng)))
    space = space_of(table)
    steps = encode(table, space, policy, torch.device("cpu"))
    generator = torch.Generator().manual_seed(case.seed)
    frames = new_frames(steps, space.n_actions, task.gamma, generator)
    inputs = torch.tensor(space.inputs(task.starts, case.first), dtype=torch.float32)
    shares = task.probabilities(task.starts) if task.probabilities else np.ones((N_STARTS, 1))
    now = by_action(one_hot(steps.action, space.n_actions), frames.features(steps.state))
    after = by_action(steps.policy, frames.features(steps.next_state))
    change = now - task.gamma * steps.follows.double().unsqueeze(-1) * after
    at_start = by_action(torch.tensor(shares), frames.features(inputs)).mean(0)
    matrix = now.T @ change
    matrix.diagonal().add_(ridge * float(now.square().sum()) / now.shape[1])
    inverse = torch.linalg.inv(matrix)
    reward = steps.reward.double()
    solution = inverse @ (now.T @ reward)
    error = reward - change @ solution
    leverage = ((change @ inverse) * now).sum(1).clamp(max=0.9)
    influence = (now @ (inverse.T @ at_start)) * error / (1 - leverage)
    return float(at_start @ solution), influence.numpy()


def interval(value: float, by_episode: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the 90% interval of a bootstrap of episodes, which move the value by so much."""
    n = len(by_episode)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=2000)
    spread = (counts - 1) @ by_episode * np.sqrt(n / max(n - 1, 1))
    return value + np.quantile(spread, [0.05, 0.95])


def intervals(task: Task, behaviour: str, seed: int, ridge: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    data = task.data(task.behaviours[behaviour], 10_000, rng)
    value, influences = value_and_influences(Case(task, data, (0.0, 0.0), seed), ridge)
    first = np.cumsum([0, *(len(e["rewards"]) for e in data)])[:-1]
    found = {"frames": interval(value, np.add.reduceat(influences, first), rng)}
    returns = np.array([task.discounted(e["rewards"]) for e in data[:-1]])
    found["average"] = interval(returns.mean(), (returns - returns.mean()) / len(returns), rng)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=40)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["CartPole", "Pendulum"])
    parser.add_argument("--ridge", type=float, default=1e-6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | data of | interval | holds the value | width | bias | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.tasks:
        task = TASKS[name]()
        played = task.returns(16, np.random.default_rng(12345))
        for behaviour in task.behaviours:
            begin = time.process_time()
            found = [
                intervals(task, behaviour, seed, arguments.ridge) for seed in range(arguments.sets)
            ]
            seconds = (time.process_time() - begin) / arguments.sets
            for method in found[0]:
                low, high = np.array([each[method] for each in found]).T
                held = np.mean((low <= played.mean()) & (played.mean() <= high))
                width = (high - low).mean() / played.std()
                bias = ((low + high).mean() / 2 - played.mean()) / played.std()
                print(
                    f"| {name} | {behaviour} | {method} | {held:.2f} | {width:.2f} | {bias:.2f} | "
                    f"{seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
