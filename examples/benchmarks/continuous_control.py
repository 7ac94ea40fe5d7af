"""Continuous actions: ours, and SAC, TD3 and TQC by their packages.

    pip install stable-baselines3 sb3-contrib
    cd examples/benchmarks && python continuous_control.py --seeds 0 1 2 --steps 10000

A line for each run: steps until the mean return of ten episodes is --goal, the mean return of 20
episodes at the end, seconds without evaluations, and the returns of all evaluations. All have the
same network, batches, discount, replay and steps. Peers have a rate of 1e-3, as the RL Zoo has for
Pendulum, and else their own defaults; TD3 has the noise of its paper. Evaluations take the policy
without noise, in episodes that training does not see. "ours, cvar" climbs the worst tenth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch

from skbellman import DistributionalValueEstimator

HIDDEN, BATCH, GAMMA, RATE = [128, 128], 128, 0.99, 1e-3
Act = Callable[[np.ndarray], np.ndarray]
RISKS: dict[str, Any] = {"ours": "mean", "ours, cvar": ("cvar", 0.1)}


@dataclass
class Evaluation:
    """Evaluates a policy every so many steps, and keeps the time of it apart."""

    name: str
    every: int
    seed: int
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def after(self, step: int, act: Act) -> None:
        """Evaluate the policy if it is time."""
        if step % self.every == 0:
            begin = time.perf_counter()
            self.scores.append(mean_return(self.name, act, 10, 10_000 * (self.seed + 1)))
            self.seconds += time.perf_counter() - begin


def mean_return(name: str, act: Act, n_episodes: int, seed: int) -> float:
    """Return the mean return of some episodes."""
    environment = gymnasium.make_vec(name, n_episodes)
    observations, _ = environment.reset(seed=seed)
    returns, alive = np.zeros(n_episodes), np.ones(n_episodes, dtype=bool)
    while alive.any():
        observations, rewards, ended, cut, _ = environment.step(act(observations))
        returns += rewards * alive
        alive &= ~(ended | cut)
    environment.close()
    return float(returns.mean())


def ours(name: str, n_steps: int, evaluation: Evaluation, seed: int) -> Act:
    """Return the policy that the estimator learns."""
    from skbellman.returns.control import ActorController
    from skbellman.returns.fit_environment import ActorAgent

    class Evaluated(ActorController):
        def run(self, environment: Any, space: Any, *rest: Any) -> None:
            self.space = space
            super().run(environment, space, *rest)

        def learn(self) -> torch.Tensor | None:
            loss = super().learn()
            evaluation.after(self.n_steps, self.policy)
            return loss

        def policy(self, observations: np.ndarray) -> np.ndarray:
            states = torch.as_tensor(self.space.features(observations), dtype=torch.float32)
            with torch.no_grad():
                return self.space.choices.taken(self.learner.actor.actions(states).numpy())

    ActorAgent.controller = Evaluated
    agent = DistributionalValueEstimator(
        policy="greedy", risk=RISKS[name], gamma=GAMMA, hidden_layer_sizes=HIDDEN, device="cpu",
        batch_size=BATCH, exploration=0.1, exploration_fraction=0.0, random_state=seed,
    )  # fmt: skip
    return agent.fit(evaluation.name, n_steps=n_steps).act


def peer(name: str, n_steps: int, evaluation: Evaluation, seed: int) -> Act:
    """Return the policy that a peer learns."""
    from sb3_contrib import TQC
    from stable_baselines3 import SAC, TD3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    class Every(BaseCallback):
        def _on_step(self) -> bool:
            evaluation.after(self.num_timesteps, act)
            return True

    width = gymnasium.make(evaluation.name).action_space.shape
    noise = {"action_noise": NormalActionNoise(np.zeros(width), 0.1 * np.ones(width))}
    model = {"SAC": SAC, "TD3": TD3, "TQC": TQC}[name](
        "MlpPolicy", evaluation.name, RATE, batch_size=BATCH, buffer_size=50_000, gamma=GAMMA,
        seed=seed, device="cpu", policy_kwargs={"net_arch": HIDDEN},
        **(noise if name == "TD3" else {}),
    )  # fmt: skip

    def act(observations: np.ndarray) -> np.ndarray:
        return model.predict(observations, deterministic=True)[0]

    model.learn(n_steps, Every())
    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Pendulum-v1", help="also Hopper-v5, HalfCheetah-v5")
    parser.add_argument("--methods", nargs="+", default=["ours", "SAC", "TD3", "TQC"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--goal", type=float, default=-200.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| method | seed | steps to the goal | last | seconds | evaluations |")
    for name in arguments.methods:
        for seed in arguments.seeds:
            evaluation = Evaluation(arguments.env, arguments.every, seed)
            begin = time.perf_counter()
            act = (ours if name in RISKS else peer)(name, arguments.steps, evaluation, seed)
            seconds = time.perf_counter() - begin - evaluation.seconds
            last = mean_return(arguments.env, act, 20, 77_000 + seed)
            reached = np.array(evaluation.scores) >= arguments.goal
            first = arguments.every * (reached.argmax() + 1) if reached.any() else np.inf
            curve = " ".join(f"{score:.0f}" for score in evaluation.scores)
            print(
                f"| {name} | {seed} | {first:g} | {last:.1f} | {seconds:.0f} | {curve} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
