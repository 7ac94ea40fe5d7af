"""Peers of control_suite.py: stable-baselines3, sb3-contrib and tianshou, by their own loops.

All get the observations as this library encodes them: flags of labels, bounded numbers from -1 to
1, images. For images they also have its small convolutions before their own layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from suite_tasks import Policy, Task
from torch import Tensor, nn

from skbellman.returns.convolution import ImageEncoder
from skbellman.returns.encoding import DecisionSpace
from skbellman.returns.environment_space import environment_space

# Called with the number of steps and the greedy policy.
Watch = Callable[[int, Policy], None]


class Encoded(gymnasium.ObservationWrapper):
    """An environment whose observations are rows of numbers."""

    def __init__(self, environment: gymnasium.Env, space: DecisionSpace) -> None:
        super().__init__(environment)
        self.features = space.features
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (space.n_inputs,))

    def observation(self, observation: Any) -> np.ndarray:
        return self.features([observation])[0].astype(np.float32)


def encoded(task: Task) -> tuple[Encoded, DecisionSpace]:
    """Return the environment for a peer, and how it encodes observations."""
    space = environment_space(SyncVectorEnv([task.make]))
    return Encoded(task.make(), space), space


def by_rows(space: DecisionSpace, best: Callable[[np.ndarray], np.ndarray]) -> Policy:
    """Return a policy of observations, given one of rows."""
    return lambda seen: best(space.features(seen).astype(np.float32))


def stable_baselines(kind: str, task: Task, preset: dict[str, Any], seed: int, watch: Watch):
    """Train DQN of stable-baselines3, or QR-DQN of sb3-contrib."""
    from sb3_contrib import QRDQN
    from stable_baselines3 import DQN
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Convolutions(BaseFeaturesExtractor):
        def __init__(self, box: gymnasium.spaces.Box) -> None:
            encoder = ImageEncoder(space.features.picture, space.n_inputs)
            super().__init__(box, encoder.n_features)
            self.encoder = encoder

        def forward(self, rows: Tensor) -> Tensor:
            return self.encoder(rows)

    environment, space = encoded(task)
    layers = {} if space.features.picture is None else {"features_extractor_class": Convolutions}
    settings = {"buffer_size": 50_000} | preset
    settings["policy_kwargs"] = settings.get("policy_kwargs", {}) | layers
    model = {"DQN": DQN, "QR-DQN": QRDQN}[kind](
        "MlpPolicy", environment, seed=seed, device="cpu", **settings
    )

    def best(rows: np.ndarray) -> np.ndarray:
        return model.predict(rows, deterministic=True)[0]

    def after(*_: Any) -> bool:
        watch(model.num_timesteps, by_rows(space, best))
        return True

    model.learn(task.n_steps, after)


def tianshou(kind: str, task: Task, preset: dict[str, Any], seed: int, watch: Watch):
    """Train IQN, C51 or Rainbow of tianshou, by its trainer.

    Where its classes have no default, settings are those of its examples for CartPole.
    """
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Collector, PrioritizedReplayBuffer, ReplayBuffer
    from tianshou.trainer import OffPolicyTrainerParams

    rate, explored, updates = (preset[name] for name in ("rate", "explored", "updates"))
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - tianshou draws from it
    environment, space = encoded(task)
    environment.reset(seed=seed)
    policy, algorithm = _TIANSHOU[kind](task, space, AdamOptimizerFactory(lr=rate), 320)
    memory = (
        PrioritizedReplayBuffer(50_000, 0.6, 0.4) if kind == "Rainbow" else ReplayBuffer(50_000)
    )
    collector = Collector(algorithm, environment, memory, exploration_noise=True)
    collector.reset()
    policy.set_eps_training(1.0)
    collector.collect(n_step=1000)

    def best(rows: np.ndarray) -> np.ndarray:
        from tianshou.data import Batch

        policy.eval()
        with torch.no_grad():
            return np.asarray(policy(Batch(obs=rows, info={})).act)

    def before(epoch: int, n_taken: int) -> None:
        n = n_taken + 1000
        watch(n, by_rows(space, best))
        policy.train()
        policy.set_eps_training(max(0.05, 1 - 0.95 * n / (explored * task.n_steps)))

    algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector, max_epochs=1, epoch_num_steps=task.n_steps - 1000,
            collection_step_num_env_steps=10, batch_size=64,
            update_step_num_gradient_steps_per_sample=updates, training_fn=before,
            verbose=False, show_progress=False,
        )
    )  # fmt: skip
    watch(task.n_steps, by_rows(space, best))


class _Layers(nn.Module):
    """Convolutions if there is an image, then hidden layers, in the form of tianshou."""

    def __init__(self, space: DecisionSpace, hidden: int = 128) -> None:
        super().__init__()
        n, picture = space.n_inputs, space.features.picture
        encoder = None if picture is None else ImageEncoder(picture, n)
        width = n if encoder is None else encoder.n_features
        layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.layers = nn.Sequential(*([] if encoder is None else [encoder]), *layers)
        self.output_dim = hidden

    def get_output_dim(self) -> int:
        return self.output_dim

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        return self.layers(torch.as_tensor(obs, dtype=torch.float32)), state


class _Categorical(nn.Module):
    """Probabilities of atoms for each action, dueling and noisy for Rainbow."""

    def __init__(self, space: DecisionSpace, n_atoms: int, noisy: bool) -> None:
        from tianshou.utils.net.discrete import NoisyLinear

        super().__init__()
        self.body, self.n_actions, self.n_atoms = _Layers(space), space.n_actions, n_atoms
        linear = (lambda n, m: NoisyLinear(n, m, 0.1)) if noisy else nn.Linear
        self.advantage = linear(self.body.output_dim, self.n_actions * n_atoms)
        self.value = linear(self.body.output_dim, n_atoms) if noisy else None

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        features, _ = self.body(obs)
        logits = self.advantage(features).view(-1, self.n_actions, self.n_atoms)
        if self.value is not None:
            logits = logits - logits.mean(1, keepdim=True) + self.value(features).unsqueeze(1)
        return logits.softmax(-1), state


def _categorical(task: Task, space: DecisionSpace, optimiser: Any, every: int, noisy: bool = False):
    from tianshou.algorithm.modelfree.c51 import C51, C51Policy
    from tianshou.algorithm.modelfree.rainbow import RainbowDQN

    policy = C51Policy(
        _Categorical(space, 51, noisy), gymnasium.spaces.Discrete(space.n_actions),
        v_min=task.support[0], v_max=task.support[1],
    )  # fmt: skip
    algorithm = (RainbowDQN if noisy else C51)(
        policy=policy, optim=optimiser, gamma=0.99, n_step_return_horizon=3,
        target_update_freq=every,
    )  # fmt: skip
    return policy, algorithm


def _rainbow(*parts: Any):
    return _categorical(*parts, noisy=True)


def _implicit(task: Task, space: DecisionSpace, optimiser: Any, every: int):
    from tianshou.algorithm.modelfree.iqn import IQN, IQNPolicy
    from tianshou.utils.net.discrete import ImplicitQuantileNetwork

    model = ImplicitQuantileNetwork(preprocess_net=_Layers(space), action_shape=[space.n_actions])
    policy = IQNPolicy(model=model, action_space=gymnasium.spaces.Discrete(space.n_actions))
    algorithm = IQN(
        policy=policy, optim=optimiser, gamma=0.99, n_step_return_horizon=3,
        target_update_freq=every,
    )  # fmt: skip
    return policy, algorithm


_TIANSHOU = {"IQN": _implicit, "C51": _categorical, "Rainbow": _rainbow}
