"""QR-DQN of sb3-contrib on the environments of control.py, by its own loop.

    pip install sb3-contrib
    cd examples/benchmarks && python sb3_control.py --environments CartPole-v1 --seeds 0 1 2

Network, replay, batches, start of learning, steps of learning and evaluations are those of
control.py; the target is copied every 200 steps, observations are as they come, and the loss is
Huber's, as the library has it. ``--rates`` and ``--explored`` are tried one after the other.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass

import numpy as np
import torch
from control import SIZE, TASKS, Task, evaluator, print_line
from sb3_contrib import QRDQN
from stable_baselines3.common.callbacks import BaseCallback


class AsTheyCome:
    """Observations as the library takes them, where control.py makes numbers of them."""

    features = staticmethod(np.asarray)


@dataclass
class Greedy:
    """The greedy policy of a model, as the evaluator of control.py asks for it."""

    model: QRDQN

    @property
    def target(self) -> Greedy:
        return self

    def best(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model.quantile_net_target(inputs).mean(1).argmax(-1)


class Evaluation(BaseCallback):
    def __init__(self, task: Task, evaluate) -> None:
        super().__init__()
        self.task, self.evaluate, self.scores = task, evaluate, []

    def _on_step(self) -> bool:
        if self.num_timesteps % self.task.every == 0:
            self.scores.append(self.evaluate())
        return True


def run(task: Task, rate: float, explored: float, seed: int) -> tuple[list[float], float]:
    """Return the scores of the evaluations, and the seconds of a step, acting included."""
    model = QRDQN(
        "MlpPolicy", task.name, rate, buffer_size=50_000, learning_starts=1000, batch_size=64,
        gamma=task.gamma, train_freq=task.learn_every, gradient_steps=1,
        target_update_interval=200, exploration_fraction=explored,
        exploration_final_eps=0.05, seed=seed, device="cpu",
        policy_kwargs={"n_quantiles": SIZE, "net_arch": [128, 128]},
    )  # fmt: skip
    callback = Evaluation(task, evaluator(task, Greedy(model), AsTheyCome(), seed))
    begin = time.perf_counter()
    model.learn(task.n_steps, callback)
    return callback.scores, (time.perf_counter() - begin) / task.n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", nargs="+", default=["FrozenLake-v1", "CartPole-v1"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4])
    parser.add_argument("--explored", type=float, nargs="+", default=[0.2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    presets = itertools.product(arguments.environments, arguments.rates, arguments.explored)
    for name, rate, explored in presets:
        runs = [run(TASKS[name], rate, explored, seed) for seed in arguments.seeds]
        chosen = f"{rate:g}, copied, 1, {explored:g}"
        print_line(TASKS[name], "QR-DQN of sb3-contrib", runs, chosen)


if __name__ == "__main__":
    main()
