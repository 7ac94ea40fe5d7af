"""Control in gymnasium environments: ours, C51, quantile regression, and expected values alone.

    cd examples/benchmarks && python control.py --environments CartPole-v1 --seeds 0 1 2

Steps until the greedy policy holds a score over three evaluations in a row, the median over the
seeds with all of them, the mean score of all evaluations, and milliseconds a step. Where states are
labels ours has a table of laws, as the estimator does, with nothing to tune; "ours by a network" is
it with the others' network. All others have the same network, replay and batches, a rate that falls
to 0 along a cosine, and a first rate, a rate of the target, steps of a return and a share of the
steps over which random actions become rare of their own, chosen by --tune on other seeds. C51 is
told the support; "steady C51" is it with our optimiser, acting by the slower network as ours does.
The policy that is evaluated is that of the slower network, of every method. FrozenLake's policies
are evaluated exactly, others by ten episodes that training does not see.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import gymnasium
import numpy as np
import torch
from return_peers import Categorical, Expected, Peer, PeerLearner, Quantile

from skbellman.returns.control import Controller, ControlSettings, Exploration
from skbellman.returns.counted import CountedReplay
from skbellman.returns.encoding import DecisionSpace
from skbellman.returns.environment_space import environment_space
from skbellman.returns.episodes import as_vector
from skbellman.returns.fields import BasisReturnField, TabularReturnField
from skbellman.returns.learners import GreedyLearner, greedy_kind
from skbellman.returns.optimiser import BlockwiseAdam
from skbellman.returns.replay import Replay
from skbellman.returns.support import Support
from skbellman.returns.sweeps import GreedyTableLearner

SIZE = 51
HELD = 3
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Task:
    """An environment, the score to hold, and the support that a user of C51 picks by hand.

    ``learn_every`` are the steps in the environment for each step of learning.
    """

    name: str
    goal: float
    support: tuple[float, float]
    n_steps: int
    every: int
    learn_every: int = 1
    gamma: float = 0.99


TASKS = {
    task.name: task
    for task in (
        Task("FrozenLake-v1", 0.70, (0.0, 1.0), 15_000, 500),
        Task("CartPole-v1", 475.0, (0.0, 100.0), 20_000, 1000),
        Task("Acrobot-v1", -100.0, (-100.0, 0.0), 50_000, 2000),
        # By chance one episode in 500 reaches its goal. The best policy for gamma .99 has .863.
        Task("FrozenLake8x8-v1", 0.85, (0.0, 1.0), 150_000, 5000, learn_every=4, gamma=0.995),
    )
}


@dataclass(frozen=True)
class Preset:
    """What is tuned for each method.

    ``explored`` is the share of the steps over which random actions become rare.
    """

    rate: float = 5e-4
    target_rate: float = 0.005
    multi_step: int = 1
    explored: float = 0.2


class _Indifferent:
    """The support of a peer, which it does not look for."""

    def see(self, rewards: torch.Tensor) -> None:
        pass

    def cover(self, returns: torch.Tensor) -> None:
        pass


class ControlledPeer(PeerLearner):
    """A peer where the controller expects a learner."""

    support = _Indifferent()
    n_steps = 1  # not counted: the controller warns where there is none

    def keep_if_finite(self, loss: torch.Tensor) -> bool:
        return bool(torch.isfinite(loss))


class SteadyPeer(ControlledPeer):
    """A peer with our optimiser, that chooses actions by the slower network as ours does."""

    def __init__(self, peer: Peer, discount: float, rate: float, target_rate: float) -> None:
        super().__init__(peer, discount, rate, target_rate)
        self.optimiser = _Blockwise(peer.parameters(), rate)

    def anneal(self, share_of_steps: float) -> None:
        self.optimiser.anneal(share_of_steps)

    @property
    def actor(self) -> Peer:
        return self.target


class _Blockwise(BlockwiseAdam):
    """Our optimiser, with the word of torch's that a peer says before each step."""

    def zero_grad(self) -> None:
        self.gradient.zero_()


class Evaluated(Controller):
    """A controller whose greedy policy is evaluated every so many steps."""

    def __init__(self, *parts, task: Task, evaluate: Callable[[], float]) -> None:
        super().__init__(*parts)
        self.task, self.evaluate = task, evaluate
        self.scores: list[float] = []
        self.seconds = 0.0
        self.loss: torch.Tensor | None = None

    def learn(self) -> torch.Tensor | None:
        if self.n_steps % self.task.learn_every == 0:
            begin = time.perf_counter()
            self.loss = super().learn()
            self.seconds += time.perf_counter() - begin
        if self.n_steps % self.task.every == 0:
            self.scores.append(self.evaluate())
        return self.loss

    def seconds_a_step(self) -> float:
        """Return the mean time of a step of learning."""
        return self.seconds / (self.n_steps // self.task.learn_every)


def ours(task: Task, preset: Preset, space: DecisionSpace) -> GreedyLearner | GreedyTableLearner:
    """Return what the estimator has: laws in a table where states are labels."""
    if not space.is_tabular:
        return ours_by_network(task, preset, space)
    support = Support(task.gamma, SIZE)
    field = TabularReturnField(space.n_inputs, space.n_actions, support.first(torch.zeros(1)))
    return GreedyTableLearner(field, support, task.gamma**preset.multi_step)


def ours_by_network(task: Task, preset: Preset, space: DecisionSpace) -> GreedyLearner:
    support = Support(task.gamma, SIZE)
    basis = support.first(torch.zeros(1))
    field = BasisReturnField(space.n_inputs, space.n_actions, (128, 128), basis)
    discount = task.gamma**preset.multi_step
    kind = greedy_kind(space.features.one_hot)
    return kind(field, support, discount, preset.rate, preset.target_rate)


def _peer(make: Callable[[Task, DecisionSpace], Peer], kind: type = ControlledPeer):
    def learner(task: Task, preset: Preset, space: DecisionSpace) -> ControlledPeer:
        discount = task.gamma**preset.multi_step
        return kind(make(task, space), discount, preset.rate, preset.target_rate)

    return learner


def _categorical(task: Task, space: DecisionSpace) -> Peer:
    return Categorical(space.n_inputs, space.n_actions, SIZE, task.support)


METHODS = {
    "ours": ours,
    "ours by a network": ours_by_network,
    "C51": _peer(_categorical),
    "steady C51": _peer(_categorical, SteadyPeer),
    "QR": _peer(lambda task, s: Quantile(s.n_inputs, s.n_actions, SIZE)),
    "DQN": _peer(lambda task, s: Expected(s.n_inputs, s.n_actions)),
}
# The best of --tune.
PRESETS = {
    ("FrozenLake-v1", "ours by a network"): Preset(1e-3, 0.02, 1),
    ("FrozenLake-v1", "C51"): Preset(1e-3, 0.02, 1),
    ("FrozenLake-v1", "steady C51"): Preset(2e-3, 0.02, 1),
    ("FrozenLake-v1", "QR"): Preset(1e-3, 0.02, 1),
    ("FrozenLake-v1", "DQN"): Preset(2e-3, 0.02, 1),
    ("CartPole-v1", "ours"): Preset(2e-3, 0.02, 3, 0.05),
    ("CartPole-v1", "C51"): Preset(2e-3, 0.02, 3, 0.05),
    ("CartPole-v1", "steady C51"): Preset(2e-3, 0.02, 3),
    ("CartPole-v1", "QR"): Preset(2e-3, 0.02, 3),
    ("CartPole-v1", "DQN"): Preset(2e-3, 0.02, 3),
    ("Acrobot-v1", "ours"): Preset(1e-3, 0.02, 3),
    ("Acrobot-v1", "C51"): Preset(2.5e-4, 0.02, 3),
    ("FrozenLake8x8-v1", "ours"): Preset(explored=0.5),
    ("FrozenLake8x8-v1", "ours by a network"): Preset(2.5e-4, 0.02, 1, 0.5),
    ("FrozenLake8x8-v1", "C51"): Preset(1e-3, 0.02, 1, 0.5),
}


def run(task: Task, method: str, preset: Preset, seed: int) -> tuple[list[float], float]:
    """Return the scores of the evaluations, and the seconds of a step of learning."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    environment = as_vector(task.name)
    space = environment_space(environment)
    learner = METHODS[method](task, preset, space)
    settings = ControlSettings(
        n_steps=task.n_steps,
        n_random_steps=1000,
        batch_size=64,
        multi_step=preset.multi_step,
        gamma=task.gamma,
        exploration=Exploration(0.05, round(preset.explored * task.n_steps)),
        target_return=None,
    )
    memory = CountedReplay if isinstance(learner, GreedyTableLearner) else Replay
    controller = Evaluated(
        learner, memory(50_000, space.n_inputs, rng, _CPU), settings, rng,
        task=task, evaluate=evaluator(task, learner, space, seed),
    )  # fmt: skip
    controller.run(environment, space, int(rng.integers(2**31)), lambda line: None)
    return controller.scores, controller.seconds_a_step()


def evaluator(task: Task, learner, space: DecisionSpace, seed: int) -> Callable[[], float]:
    """Return what says how good the greedy policy is now."""
    model = getattr(gymnasium.make(task.name).unwrapped, "P", None)
    seeds = itertools.count(10_000 * (seed + 1))

    def best(observations: np.ndarray) -> np.ndarray:
        inputs = torch.as_tensor(space.features(observations), dtype=torch.float32)
        with torch.no_grad():
            return learner.target.best(inputs).numpy()

    if model is not None:
        return lambda: success(model, best(np.arange(len(model))))
    return lambda: mean_return(task.name, best, next(seeds))


def success(model: dict, actions: np.ndarray) -> float:
    """Return the chance to reach the goal of a frozen lake in as many steps as there are."""
    n_states, n_steps = len(model), 100 if len(model) == 16 else 200
    chance = np.zeros(n_states)
    for _ in range(n_steps):
        chance = np.array(
            [
                sum(p * (r + (not ended) * chance[z]) for p, z, r, ended in model[s][actions[s]])
                for s in range(n_states)
            ]
        )
    return float(chance[0])


def mean_return(name: str, best: Callable[[np.ndarray], np.ndarray], seed: int) -> float:
    """Return the mean return of ten episodes."""
    environment = gymnasium.make_vec(name, 10)
    observations, _ = environment.reset(seed=seed)
    returns, alive = np.zeros(10), np.ones(10, dtype=bool)
    while alive.any():
        observations, rewards, ended, cut, _ = environment.step(best(observations))
        returns += rewards * alive
        alive &= ~(ended | cut)
    environment.close()
    return float(returns.mean())


def steps_to_hold(scores: list[float], task: Task) -> float:
    """Return the steps until the first of three evaluations in a row that reach the goal."""
    reached = np.array(scores) >= task.goal
    for k in range(len(reached) - HELD + 1):
        if reached[k : k + HELD].all():
            return task.every * (k + 1)
    return math.inf


def report(task: Task, method: str, preset: Preset, seeds: list[int]) -> None:
    runs = [run(task, method, preset, seed) for seed in seeds]
    chosen = ", ".join(f"{value:g}" for value in astuple(preset))
    print_line(task, method, runs, chosen)


def print_line(task: Task, method: str, runs: list[tuple[list[float], float]], chosen: str) -> None:
    """Print a line of the table: scores and seconds a step of each run."""
    steps = [steps_to_hold(scores, task) / 1000 for scores, _ in runs]
    area = [float(np.mean(scores)) for scores, _ in runs]
    each = " ".join(f"{s:.3g}" for s in steps)
    print(
        f"| {task.name} | {method} | {np.median(steps):.4g}k ({each}) | "
        f"{np.mean(area):.4g} +- {np.std(area):.2g} | "
        f"{np.mean([scores[-1] for scores, _ in runs]):.4g} | "
        f"{1000 * np.mean([s for _, s in runs]):.2f} | {chosen} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", nargs="+", default=["FrozenLake-v1", "CartPole-v1"])
    parser.add_argument("--methods", nargs="+", default=["ours", "C51"], choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--tune", action="store_true", help="every preset, on seeds from 100")
    parser.add_argument("--tune-seeds", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", default=[6e-5, 2.5e-4, 1e-3])
    parser.add_argument("--target-rates", type=float, nargs="+", default=[0.005, 0.02])
    parser.add_argument("--multi-steps", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--explored", type=float, nargs="+", default=[0.05, 0.2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = [
        Preset(*p)
        for p in itertools.product(
            arguments.rates, arguments.target_rates, arguments.multi_steps, arguments.explored
        )
    ]
    columns = "environment | method | steps to hold | mean score | last | ms | rate"
    print(f"| {columns}, target, steps of a return, explored |")
    for name, method in itertools.product(arguments.environments, arguments.methods):
        task = TASKS[name]
        task = replace(task, n_steps=arguments.steps or task.n_steps)
        if arguments.tune:
            for preset in grid:
                report(task, method, preset, list(range(100, 100 + arguments.tune_seeds)))
        else:
            report(task, method, PRESETS.get((name, method), Preset()), arguments.seeds)


if __name__ == "__main__":
    main()
