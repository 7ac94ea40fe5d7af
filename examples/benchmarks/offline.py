"""Offline evaluation: the law of a policy's return from data of other policies.

    cd examples/benchmarks && python offline.py --seeds 0 1

A policy is evaluated from steps that it took itself, or that two other policies took. The law of
its return from the start is compared with that of episodes that it plays, without a limit of steps.
Cells are errors of the mean and of the mean of the worst tenth, and W1, each in deviations of the
return; then the seconds of a fit (CPU).

- ours: `DistributionalValueEstimator` with its defaults, but for ``--n-steps``, which all share.
- C51 and QR (kappa 0): `return_peers.py`, 101 atoms, our network, steps, batches and rates. C51 is
  given the least and largest return that were played.
- FQE and QR-FQE: d3rlpy's fitted Q evaluation, with its mean and its quantile Q function (32), our
  network, steps and batches. The rate is 1e-3, and the target network is updated every 10 steps.
  With d3rlpy's own 1e-4 and 100, so few steps do not reach a horizon of 100 steps.
- average: returns of the episodes in the data, whatever policy took them.

d3rlpy and gymnasium[mujoco] are optional: without them, their rows are left out.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from offline_tasks import N_STARTS, TASKS, Episode, Task
from return_peers import Categorical, Peer, Quantile, fit_peer, quantiles

from skbellman import DistributionalValueEstimator
from skbellman.returns.evaluation import encode
from skbellman.returns.fit_table import steps_from_table
from skbellman.returns.policies import policy_of
from skbellman.returns.transitions import read_transitions

PROBABILITIES = (np.arange(200) + 0.5) / 200
SIZE = 101


@dataclass
class Case:
    """Data, the policy to evaluate, and states from which it starts.

    ``ours`` is fitted when it is first asked for: peers read states as it does.
    """

    task: Task
    episodes: list[Episode]
    support: tuple[float, float]
    seed: int
    n_steps: int = 0

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(1000 + self.seed)

    @cached_property
    def table(self) -> dict[str, np.ndarray]:
        """The steps as D4RL names them."""
        whole = {name: np.concatenate([e[name] for e in self.episodes]) for name in self.names}
        before, after = (
            np.concatenate([e["observations"][rows] for e in self.episodes])
            for rows in (slice(None, -1), slice(1, None))
        )
        cut = [np.arange(len(e["rewards"])) == len(e["rewards"]) - 1 for e in self.episodes]
        timeouts = np.concatenate(cut) & ~whole["terminals"]
        return whole | {
            "observations": before, "next_observations": after, "timeouts": timeouts
        }  # fmt: skip

    names = ("actions", "rewards", "terminals")

    @cached_property
    def first(self) -> np.ndarray | None:
        """The first actions, where actions are numbers."""
        return None if self.task.probabilities else self.task.target(self.task.starts, self.rng())

    @cached_property
    def ours(self) -> DistributionalValueEstimator:
        rng = self.rng()
        policy = self.task.probabilities or (lambda states: self.task.target(states, rng))
        value = DistributionalValueEstimator(
            policy=policy, gamma=self.task.gamma, random_state=self.seed
        )
        return value.fit(self.table, n_steps=self.n_steps)


def ours(case: Case) -> np.ndarray:
    return case.ours.quantile(case.task.starts, case.first, q=PROBABILITIES).ravel()


def peer(make: Callable[..., Peer]) -> Callable[[Case], np.ndarray]:
    """Return a method: quantiles of the start states by a peer in our own loop."""

    def fitted(case: Case) -> np.ndarray:
        space, task = case.ours.space_, case.task
        policy = policy_of(case.ours.policy)
        batch = encode(read_transitions(case.table), space, policy, torch.device("cpu"))
        batch = replace(batch, reward=batch.reward.float())
        torch.manual_seed(case.seed)
        network = make((space.n_inputs, space.n_actions, SIZE), case.support)
        fit_peer(network, batch, task.gamma, case.n_steps, 1e-3)
        shares = (
            task.probabilities(case.task.starts) if task.probabilities else np.ones((N_STARTS, 1))
        )
        inputs = torch.tensor(space.inputs(case.task.starts, case.first), dtype=torch.float32)
        shares = torch.tensor(shares, dtype=torch.float32)
        return quantiles(network, inputs, shares, PROBABILITIES).ravel()

    return fitted


def of_d3rlpy(quantile: bool) -> Callable[[Case], np.ndarray]:
    """Return a method: fitted Q evaluation of d3rlpy, with quantiles or the mean alone."""

    def fitted(case: Case) -> np.ndarray:
        import d3rlpy
        from d3rlpy.models.q_functions import MeanQFunctionFactory, QRQFunctionFactory

        d3rlpy.seed(case.seed)
        factory = QRQFunctionFactory(n_quantiles=32) if quantile else MeanQFunctionFactory()
        config = d3rlpy.ope.FQEConfig(
            learning_rate=1e-3, batch_size=256, gamma=case.task.gamma, target_update_interval=10,
            q_func_factory=factory,
            encoder_factory=d3rlpy.models.VectorEncoderFactory(hidden_units=[128, 128]),
            observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(),
        )  # fmt: skip
        labels = case.task.probabilities is not None
        kind = d3rlpy.ope.DiscreteFQE if labels else d3rlpy.ope.FQE
        dataset, rng = _dataset(case, d3rlpy), case.rng()
        scaler = config.observation_scaler

        def act(observations: torch.Tensor) -> torch.Tensor:
            seen = scaler.reverse_transform(observations).numpy().astype(np.float64)
            taken = torch.as_tensor(case.task.target(seen, rng))
            return taken.long() if labels else taken.float().reshape(len(seen), -1)

        fqe = kind(SimpleNamespace(impl=SimpleNamespace(predict_best_action=act)), config)
        silent = d3rlpy.logging.NoopAdapterFactory()
        fqe.fit(
            dataset, n_steps=case.n_steps, n_steps_per_epoch=case.n_steps, logger_adapter=silent,
            show_progress=False,
        )  # fmt: skip
        network = fqe.impl.modules.q_funcs[0].eval()
        states = scaler.transform(torch.tensor(case.task.starts, dtype=torch.float32))
        return _answers(network, states, case, quantile).ravel()

    return fitted


@torch.no_grad()
def _answers(network: Any, states: torch.Tensor, case: Case, quantile: bool) -> np.ndarray:
    if case.first is not None:
        output = network(states, torch.tensor(case.first.reshape(N_STARTS, -1)).float())
        return (output.quantiles if quantile else output.q_value).numpy()
    output = network(states)
    shares = case.task.probabilities(case.task.starts)
    if not quantile:
        return (shares * output.q_value.numpy()).sum(1)
    # As many quantiles of each action as its probability says.
    counts = np.round(100 * shares).astype(int)
    each = output.quantiles.numpy()
    return np.stack(
        [np.concatenate([np.tile(law, n) for law, n in zip(*of, strict=True)])
         for of in zip(each, counts, strict=True)]
    )  # fmt: skip


def _dataset(case: Case, d3rlpy: Any) -> Any:
    """Return a buffer of the episodes.

    The last row of one that was cut off is no step: it holds the last observation.
    """
    episodes = []
    for run in case.episodes:
        n = len(run["rewards"])
        over = bool(run["terminals"][-1])
        kept = slice(0, n if over else n + 1)
        rows = [run["observations"][kept].astype(np.float32)]
        actions = run["actions"].reshape(n, -1)
        rows.append(actions if over else np.concatenate([actions, actions[-1:]]))
        rewards = run["rewards"].reshape(n, 1).astype(np.float32)
        rows.append(rewards if over else np.concatenate([rewards, rewards[-1:]]))
        if case.task.probabilities is None:
            rows[1] = rows[1].astype(np.float32)
        episodes.append(d3rlpy.dataset.Episode(*rows, over))
    space = d3rlpy.ActionSpace
    kind = space.CONTINUOUS if case.task.probabilities is None else space.DISCRETE
    size = 2 if case.task.probabilities else episodes[0].actions.shape[1]
    return d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(), episodes=episodes, action_space=kind, action_size=size
    )


def average(case: Case) -> np.ndarray:
    """Return the returns of the episodes in the data, but for the last, which was cut off."""
    whole = case.episodes[:-1]
    return np.array([case.task.discounted(e["rewards"]) for e in whole])


METHODS: dict[str, Callable[[Case], np.ndarray]] = {
    "ours": ours,
    "C51, support given": peer(lambda sizes, support: Categorical(*sizes, support)),
    "QR": peer(lambda sizes, support: Quantile(*sizes)),
    "QR-FQE, d3rlpy": of_d3rlpy(quantile=True),
    "FQE, d3rlpy": of_d3rlpy(quantile=False),
    "average": average,
}
ONLY_THE_MEAN = {"FQE, d3rlpy"}


def errors(found: np.ndarray, played: np.ndarray) -> list[float]:
    """Return the errors of the mean and the worst tenth, and W1, in deviations."""
    q = (np.arange(1000) + 0.5) / 1000
    laws = [np.quantile(law, q, method="inverted_cdf") for law in (found, played)]
    mean, worst = (np.abs(law[0] - law[1]) for law in (
        [found.mean(), played.mean()], [law[:100].mean() for law in laws]
    ))  # fmt: skip
    w1 = np.abs(laws[0] - laws[1]).mean()
    return [float(error / played.std()) for error in (mean, worst, w1)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--n-steps", type=int, default=steps_from_table(False))
    parser.add_argument("--played", type=int, default=4, help="episodes from each of 300 starts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| task | data of | method | value | CVaR .1 | W1 | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.tasks:
        try:
            task = TASKS[name]()
        except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
            print(f"{name} is left out: {error}")
            continue
        played = task.returns(arguments.played, np.random.default_rng(12345))
        ends = float(played.min()), float(played.max())
        for behaviour in task.behaviours:
            figures: dict[str, list[list[float]]] = {}
            for seed in arguments.seeds:
                data = task.data(
                    task.behaviours[behaviour], arguments.steps, np.random.default_rng(seed)
                )
                case = Case(task, data, ends, seed, arguments.n_steps)
                for method in arguments.methods:
                    begin = time.process_time()
                    try:
                        found = METHODS[method](case)
                    except ImportError as error:
                        print(f"{method} is left out: {error}")
                        continue
                    taken = time.process_time() - begin
                    figures.setdefault(method, []).append([*errors(found, played), taken])
            for method, each in figures.items():
                print(f"| {name} | {behaviour} | {method} | {line(method, each)} |", flush=True)


def line(method: str, each: list[list[float]]) -> str:
    """Return the means over seeds as cells."""
    value, cvar, w1, seconds = np.mean(each, 0)
    known = (value,) if method in ONLY_THE_MEAN else (value, cvar, w1)
    cells = [f"{error:.3f}" for error in known] + [""] * (3 - len(known))
    return " | ".join([*cells, f"{seconds:.0f}"])


if __name__ == "__main__":
    main()
