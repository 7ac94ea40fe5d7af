"""What a step of learning costs: ours beside plain C51 with the same network and batches.

    cd examples/benchmarks && python learning_step.py

CPU milliseconds of a step on one thread, with the draw of its batch and the rate lowered: medians
over blocks of steps that alternate in one process, and the median ratio of neighbouring blocks, C51
being 1. In an environment a batch is 64 transitions from a replay of random steps, and laws have 51
atoms; from a table of numbers (CartPole under a noisy policy) it is 256 rows, and they have 101.
"C51" is the peer of control.py and laws.py, where the network in training chooses the best next
action and the slower one values it: two passes, as in double DQN. "C51, one pass" has the slower
one choose, as the paper has it (arXiv 1707.06887).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from control import PRESETS, SIZE, TASKS, ControlledPeer, ours
from processes import cart_pole
from return_peers import Categorical, Peer, PeerLearner
from torch import Tensor

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.control import Controller, ControlSettings, Exploration
from skbellman.returns.environment_space import environment_space
from skbellman.returns.episodes import as_vector
from skbellman.returns.evaluation import encode, space_of
from skbellman.returns.frames import REACH, FramedReturnField, framed, new_frames
from skbellman.returns.learners import FramedLearner
from skbellman.returns.learning import random_rows
from skbellman.returns.policies import policy_of
from skbellman.returns.replay import Replay
from skbellman.returns.transitions import read_transitions

Step = Callable[[], object]


class OnePass(ControlledPeer):
    """C51 whose slower network chooses and values the best next action in one pass."""

    def next_law(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.policy is not None:
            return super().next_law(batch)
        shares = self.target(batch.next_state).softmax(-1)
        best = (shares @ self.target.atoms).argmax(-1)
        chosen = shares[torch.arange(len(best)), best]
        return self.target.atoms.expand_as(chosen), chosen


def in_environment(name: str, n_filled: int = 3000) -> dict[str, Step]:
    """Return what takes a step of learning in an environment, from a replay of random steps."""
    task, preset, space = TASKS[name], PRESETS[name, "ours"], environment_space(as_vector(name))
    peer = Categorical(space.n_inputs, space.n_actions, SIZE, task.support)
    rates = task.gamma**preset.multi_step, preset.rate, preset.target_rate
    settings = ControlSettings(
        n_steps=n_filled, n_random_steps=n_filled, batch_size=64, multi_step=preset.multi_step,
        gamma=task.gamma, exploration=Exploration(1.0, 1), target_return=None,
    )  # fmt: skip

    def filled(learner: object) -> Step:
        rng = np.random.default_rng(0)
        replay = Replay(50_000, space.n_inputs, rng, torch.device("cpu"))
        controller = Controller(learner, replay, settings, rng)
        controller.run(as_vector(name), space, 0, lambda line: None)
        controller.settings = replace(settings, n_random_steps=0, n_steps=20_000)
        return controller.learn

    return {
        "ours": filled(ours(task, preset, space)),
        "C51": filled(ControlledPeer(peer, *rates)),
        "C51, one pass": filled(OnePass(peer, *rates)),
    }


def from_table(greedy: bool, n_rows: int = 20_000, size: int = 101) -> dict[str, Step]:
    """Return what takes a step of learning from a table, of its policy or of the best one."""
    process = cart_pole(np.random.default_rng(0), n_rows, n_states=1)
    policy = policy_of("greedy" if greedy else process.policy)
    table = policy.told_by(read_transitions(process.transitions))
    space = space_of(table)
    steps = encode(table, space, policy, torch.device("cpu"))
    sizes, gamma, rates = (space.n_inputs, space.n_actions), process.gamma, (1e-3, 0.1)
    frames = new_frames(steps, space.n_actions, gamma, torch.Generator().manual_seed(0))
    field = FramedReturnField(*sizes, (128, 128), GaussianBasis(-REACH, REACH, size), frames)
    peer: Peer = Categorical(*sizes, size, process.support)
    plain = replace(steps, reward=steps.reward.float())
    learners: dict[str, tuple[FramedLearner | PeerLearner, Batch]] = {
        "ours": (FramedLearner(field, gamma, *rates), framed(steps, field.frame, gamma)),
        "C51": (PeerLearner(peer, gamma, *rates), plain),
        "C51, one pass": (OnePass(peer, gamma, *rates), plain),
    }
    return {name: _of_rows(*pair) for name, pair in learners.items()}


def _of_rows(learner: FramedLearner | PeerLearner, rows: Batch) -> Step:
    draw = random_rows(rows, 256, torch.Generator().manual_seed(0))

    def step() -> None:
        learner.anneal(0.5)
        learner.step(draw())

    return step


def milliseconds(steps: dict[str, Step], n_blocks: int, n_steps: int) -> np.ndarray:
    """Return CPU milliseconds a step, (n_blocks, len(steps)), after a block that is not counted."""
    taken = [[_block(step, n_steps) for step in steps.values()] for _ in range(n_blocks + 1)]
    return 1000 / n_steps * np.array(taken[1:])


def _block(step: Step, n_steps: int) -> float:
    begin = time.process_time()
    for _ in range(n_steps):
        step()
    return time.process_time() - begin


SETTINGS: dict[str, Callable[[], dict[str, Step]]] = {
    "CartPole-v1": lambda: in_environment("CartPole-v1"),
    "Acrobot-v1": lambda: in_environment("Acrobot-v1"),
    "table, its policy": lambda: from_table(greedy=False),
    "table, best policy": lambda: from_table(greedy=True),
}


def ratios(setting: str, n_blocks: int = 20, n_steps: int = 50) -> dict[str, tuple[float, float]]:
    """Return milliseconds a step, and the ratio to C51's, of each method in a setting."""
    torch.manual_seed(0)
    steps = SETTINGS[setting]()
    taken = milliseconds(steps, n_blocks, n_steps)
    beside = taken / taken[:, [list(steps).index("C51")]]
    pairs = zip(np.median(taken, 0).tolist(), np.median(beside, 0).tolist(), strict=True)
    return dict(zip(steps, pairs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "nothing was learned")
    print("| learning in | method | ms a step | beside C51 |\n|---|---|---|---|")
    for setting in arguments.settings:
        for method, (ms, ratio) in ratios(setting, arguments.blocks, arguments.steps).items():
            print(f"| {setting} | {method} | {ms:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
