"""Control: acting in a gymnasium environment, and learning from what was seen."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from skbellman.returns.batch import Batch
from skbellman.returns.encoding import MAX_LABELS, DecisionSpace, LabelEncoder
from skbellman.returns.learning import Curves, GreedyLearner, kept_if_interrupted

# Episodes between reports, over which returns are averaged.
_REPORT_EVERY = 20
# Of a reward: replays are of float32.
_LARGEST_REWARD = 1e30
# Bounds farther apart are taken as none: environments write the largest float for "any".
_WIDE = 1e4


class BoxFeatures:
    """Observations flattened by gymnasium, those between finite bounds brought to -1 to 1.

    Attributes
    ----------
    of_parts : bool
        Whether an observation is a mapping or tuple of several, and no array.
    """

    one_label = False

    def __init__(self, space: Any) -> None:
        from gymnasium.spaces import Box, flatten_space

        try:
            flat = flatten_space(space)
        except NotImplementedError as error:  # MiniGrid's missions
            raise ValueError(
                f"gymnasium cannot flatten observations of {space}: leave out the parts that are "
                "neither numbers nor labels, by gymnasium.wrappers.FilterObservation, say."
            ) from error
        if not isinstance(flat, Box):
            raise ValueError(
                f"observations of {space} have no fixed length: wrap the environment so that they "
                "do."
            )
        bounds = np.stack([flat.low, flat.high]).astype(np.float64).reshape(2, -1)
        bounded = np.abs(bounds).max(0) < _WIDE
        low, high = np.where(bounded, bounds, [[-1.0], [1.0]])
        self.space, self.width = space, len(low)
        self.one_hot, self.of_parts = _holds_labels(space), space.shape is None
        self.n_values = _n_values(space)
        self.middle, self.scale = (low + high) / 2, np.maximum((high - low) / 2, 1e-12)

    def __call__(self, states: Any) -> np.ndarray:
        """Return (n, width) for a sequence of n observations."""
        rows = [self._flat(observation) for observation in states]
        flat = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
        if flat.shape[1] != self.width:
            raise ValueError(
                f"observations have {flat.shape[1]} numbers, but the environment's {self.width}."
            )
        if not np.isfinite(flat).all():
            row = int((~np.isfinite(flat).all(1)).argmax())
            raise ValueError(f"an observation is not finite: {rows[row]}.")
        return (flat - self.middle) / self.scale

    def _flat(self, observation: Any) -> np.ndarray:
        from gymnasium.spaces import flatten

        member = _as_member(self.space, observation)
        try:
            flat = np.asarray(flatten(self.space, member))
            # A label that is negative or too large may have set the flag of another.
            known = _knows_labels(self.space, member)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise self._refusal(observation) from error
        if not known:
            raise self._refusal(observation)
        return flat

    def _refusal(self, observation: Any) -> ValueError:
        return ValueError(f"{observation!r} is no observation of {self.space}.")


class JointLabelFeatures(BoxFeatures):
    """Observations of labels alone, as the flags of one label for all of them together."""

    one_label = True

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.sizes = _label_sizes(space)
        self.width = math.prod(self.sizes)

    def __call__(self, states: Any) -> np.ndarray:
        """Return (n, width) for a sequence of n observations."""
        flags = np.asarray([self._flat(observation) for observation in states])
        parts = np.split(flags.reshape(len(flags), -1), np.cumsum(self.sizes)[:-1], axis=1)
        labels = np.ravel_multi_index([part.argmax(1) for part in parts], self.sizes)
        return np.eye(self.width)[labels]


def features_of_space(space: Any) -> BoxFeatures:
    """Return how observations are read: few labels as one, others flattened."""
    if _holds_labels(space) and math.prod(_label_sizes(space)) <= MAX_LABELS:
        return JointLabelFeatures(space)
    return BoxFeatures(space)


def _holds_labels(space: Any) -> bool:
    """Return whether observations are labels, or mappings or tuples of nothing else."""
    from gymnasium.spaces import Discrete, MultiDiscrete

    parts = _parts(space)
    return all(map(_holds_labels, parts)) if parts else isinstance(space, Discrete | MultiDiscrete)


def _knows_labels(space: Any, observation: Any) -> bool:
    """Return whether every label of an observation is one of the space's."""
    if _holds_labels(space):
        return bool(space.contains(observation))
    parts = _parts(space)
    values = _values(space, observation) if parts else []
    return all(_knows_labels(part, value) for part, value in zip(parts, values, strict=True))


def _label_sizes(space: Any) -> list[int]:
    """Return how many values each label has."""
    from gymnasium.spaces import Discrete

    if parts := _parts(space):
        return [size for part in parts for size in _label_sizes(part)]
    return [int(space.n)] if isinstance(space, Discrete) else [int(n) for n in space.nvec.flat]


def _n_values(space: Any) -> int:
    """Return how many numbers or labels an observation is of."""
    if parts := _parts(space):
        return sum(map(_n_values, parts))
    return 1 if space.shape is None else math.prod(space.shape)


def _parts(space: Any) -> list[Any]:
    """Return the spaces that a mapping or tuple is of."""
    from gymnasium.spaces import Dict, Tuple

    if isinstance(space, Dict):
        return list(space.values())
    return list(space) if isinstance(space, Tuple) else []


def _values(space: Any, observation: Any) -> list[Any]:
    """Return what a mapping or tuple holds, in the order of the space's parts."""
    from gymnasium.spaces import Dict

    return [observation[k] for k in space] if isinstance(space, Dict) else list(observation)


def _as_member(space: Any, observation: Any) -> Any:
    from gymnasium.spaces import Discrete

    if isinstance(space, Discrete):
        label = _whole(observation)
        if label is None or not space.contains(label):
            raise ValueError(f"unknown state {observation!r}: known are those of {space}.")
        return label
    if space.shape is not None and np.shape(observation) != space.shape:
        raise ValueError(f"an observation has shape {np.shape(observation)}, not {space.shape}.")
    return observation


def _whole(value: Any) -> Any:
    """Return a whole number as an integer, None if it is none."""
    try:
        number = np.int64(value)
    except (TypeError, ValueError):
        return None
    return number if np.array_equal(number, value) else None


@dataclass(frozen=True)
class Exploration:
    """Random actions: a share that falls linearly from 1 to ``last`` over ``n_steps``."""

    last: float
    n_steps: int

    def __call__(self, step: int) -> float:
        """Return the share of random actions at a step."""
        return max(1.0 - (1.0 - self.last) * step / max(self.n_steps, 1), self.last)


class Step(NamedTuple):
    """A step of one copy of an environment.

    The mask says which actions there are in the next state; None where all are.
    """

    copy: int
    state: np.ndarray
    action: int
    reward: float
    next_state: np.ndarray
    terminated: bool
    truncated: bool
    next_mask: np.ndarray | None


class Transition(NamedTuple):
    """What is learned from: one step, or several whose rewards are summed."""

    state: np.ndarray
    action: int
    reward: float
    next_state: np.ndarray
    follows: bool
    next_mask: np.ndarray | None = None


class Replay:
    """The last transitions, drawn from uniformly.

    Parameters
    ----------
    capacity, n_inputs : int
    rng : numpy Generator
    device : torch.device
    """

    def __init__(
        self, capacity: int, n_inputs: int, rng: np.random.Generator, device: torch.device
    ) -> None:
        self.capacity, self.rng, self.device = capacity, rng, device
        self.n_seen = 0
        self._states = np.zeros((2, capacity, n_inputs), dtype=np.float32)
        self._actions = np.zeros(capacity, dtype=np.int64)
        self._rewards = np.zeros(capacity, dtype=np.float32)
        self._follows = np.zeros(capacity, dtype=bool)
        self._masks: np.ndarray | None = None

    def __len__(self) -> int:
        return min(self.n_seen, self.capacity)

    def add(self, transition: Transition) -> None:
        """Keep a transition, in place of the oldest where there is no room."""
        at = self.n_seen % self.capacity
        self._states[:, at] = transition.state, transition.next_state
        self._actions[at] = transition.action
        self._rewards[at] = transition.reward
        self._follows[at] = transition.follows
        if self._masks is None and transition.next_mask is not None:
            self._masks = np.ones((self.capacity, len(transition.next_mask)), dtype=bool)
        if self._masks is not None:
            self._masks[at] = True if transition.next_mask is None else transition.next_mask
        self.n_seen += 1

    def everything(self) -> Batch:
        """Return all transitions."""
        return self._batch(np.arange(len(self)))

    def sample(self, batch_size: int) -> Batch:
        """Return transitions drawn with replacement; the next actions are the best."""
        return self._batch(self.rng.integers(len(self), size=batch_size))

    def _batch(self, rows: np.ndarray) -> Batch:
        parts = (self._states[0], self._states[1], self._actions, self._rewards, self._follows)
        batch = Batch(*(torch.as_tensor(part[rows], device=self.device) for part in parts))
        if self._masks is None:
            return batch
        return replace(batch, mask=torch.as_tensor(self._masks[rows], device=self.device))


class MultiStep:
    """Turn steps into transitions over n of them, as they come.

    Parameters
    ----------
    n : int
    gamma : float
    """

    def __init__(self, n: int, gamma: float) -> None:
        self.n, self.gamma = n, gamma
        self._steps: deque[Step] = deque()

    def push(self, step: Step) -> Iterator[Transition]:
        """Take a step; yield the transitions that it completes.

        Those are of exactly n steps, or end the return. An episode that is cut off leaves its
        last n - 1 steps without one.
        """
        self._steps.append(step)
        if step.terminated:
            while self._steps:
                yield self._first()
        elif len(self._steps) == self.n:
            yield self._first()
        if step.truncated:
            self._steps.clear()

    def _first(self) -> Transition:
        total = sum(self.gamma**k * step.reward for k, step in enumerate(self._steps))
        last, first = self._steps[-1], self._steps.popleft()
        return Transition(
            first.state, first.action, total, last.next_state, not last.terminated, last.next_mask
        )


@dataclass(frozen=True)
class ControlSettings:
    """How much is done in an environment, see `DistributionalValueEstimator`."""

    n_steps: int
    n_random_steps: int
    batch_size: int
    multi_step: int
    gamma: float
    exploration: Exploration
    target_return: float | None


def run_episodes(
    environment: Any,
    features: Callable[[Any], np.ndarray],
    act: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    seed: int,
) -> Iterator[Step]:
    """Yield the steps of the copies in a vector environment, without end.

    The next state is the one reached, also where an episode ends. The steps in which a copy only
    resets itself are left out. Actions are chosen for states and masks, of shape (n, n_actions).
    """
    from gymnasium.vector.utils import iterate

    same_step, n_copies = _resets_at_once(environment), environment.num_envs
    n_actions = int(environment.single_action_space.n)

    def read(observations: Any, infos: Any, goes_on: np.ndarray) -> tuple[Any, ...]:
        seen = list(iterate(environment.observation_space, observations))
        copies = _by_copies(infos, n_copies)
        return features(seen), _masks(copies, n_actions, seen, goes_on), copies

    observations, infos = environment.reset(seed=seed)
    states, masks, _ = read(observations, infos, np.ones(n_copies, dtype=bool))
    resetting = np.zeros(n_copies, dtype=bool)
    while True:
        actions = act(states, masks)
        observations, rewards, terminated, truncated, infos = environment.step(actions)
        after, masks, copies = read(observations, infos, ~terminated | same_step)
        ended = terminated | truncated
        for k in np.flatnonzero(~resetting):
            reached, mask = after[k], None if masks is None else masks[k]
            if ended[k] and same_step:
                last, said = copies[k]["final_obs"], copies[k].get("final_info", {})
                reached, mask = features([last])[0], said.get("action_mask")
                mask = None if mask is None else _mask(mask, n_actions, last, not terminated[k])
            yield Step(
                int(k), states[k], int(actions[k]), float(rewards[k]), reached,
                bool(terminated[k]), bool(truncated[k]), mask,
            )  # fmt: skip
        states, resetting = after, ended & (not same_step)


def _by_copies(infos: Any, n_copies: int) -> list[Any]:
    """Return what a vector environment says of each copy, in a list as some wrappers have it."""
    if not isinstance(infos, Mapping):
        return list(infos)
    copies: list[dict[str, Any]] = [{} for _ in range(n_copies)]
    for name, values in infos.items():
        if name.startswith("_"):
            continue
        each = _by_copies(values, n_copies) if isinstance(values, Mapping) else values
        for k in np.flatnonzero(infos.get(f"_{name}", np.ones(n_copies, dtype=bool))):
            copies[k][name] = each[k]
    return copies


def _masks(
    copies: list[Any], n_actions: int, states: list[Any], goes_on: np.ndarray
) -> np.ndarray | None:
    """Return which actions there are in each copy, (n_copies, n_actions); None where all are."""
    given = [copy.get("action_mask") for copy in copies]
    if all(mask is None for mask in given):
        return None
    parts = zip(given, states, goes_on, strict=True)
    return np.stack([_mask(mask, n_actions, state, needed) for mask, state, needed in parts])


def _mask(mask: Any, n_actions: int, state: Any, needed: bool) -> np.ndarray:
    """Return which actions there are in a state, at least one where an action is needed."""
    flags = np.asarray(np.ones(n_actions) if mask is None else mask).astype(bool)
    if flags.shape != (n_actions,):
        raise ValueError(
            f'info["action_mask"] has length {flags.size} in state {state}, but there are '
            f"{n_actions} actions."
        )
    if needed and not flags.any():
        raise ValueError(
            f'info["action_mask"] leaves none of {n_actions} actions in state {state}, where no '
            "episode has ended."
        )
    return flags


class PlainEnvironment:
    """An object with spaces, reset and step, with what else environments of gymnasium have.

    Parameters
    ----------
    environment : object
    """

    metadata: ClassVar[dict[str, Any]] = {}
    render_mode = spec = None

    def __init__(self, environment: Any) -> None:
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        self.reset, self.step = environment.reset, environment.step
        self.unwrapped = environment

    def close(self) -> None:
        """Do nothing: who made the environment closes it."""


def as_vector(environment: Any) -> Any:
    """Return a vector environment for the name of one, a single one, or one of its kind.

    Raises
    ------
    ValueError
        If an object has no spaces of observations and actions.
    """
    import gymnasium
    from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

    if isinstance(environment, VectorEnv):
        return environment
    made: Any = gymnasium.make(environment) if isinstance(environment, str) else environment
    absent = [n for n in ("observation_space", "action_space") if not hasattr(made, n)]
    if absent:
        raise ValueError(f"the environment {made!r} lacks {absent}, which gymnasium's have.")
    if not isinstance(made, gymnasium.Env):
        made = PlainEnvironment(made)
    return SyncVectorEnv([lambda: made], autoreset_mode=AutoresetMode.SAME_STEP)


def _resets_at_once(environment: Any) -> bool:
    from gymnasium.vector import AutoresetMode

    mode = environment.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if mode == AutoresetMode.DISABLED:
        raise ValueError("the vector environment does not reset itself: set its autoreset_mode.")
    return bool(mode == AutoresetMode.SAME_STEP)


class Controller:
    """Acts in an environment and learns a step for each step that it takes.

    Parameters
    ----------
    learner : GreedyLearner
    replay : Replay
    settings : ControlSettings
    rng : numpy Generator
        Of exploration.
    """

    def __init__(
        self,
        learner: GreedyLearner,
        replay: Replay,
        settings: ControlSettings,
        rng: np.random.Generator,
    ) -> None:
        self.learner, self.replay, self.settings, self.rng = learner, replay, settings, rng
        self.curves = Curves()
        self.n_steps = 0

    def run(
        self,
        environment: Any,
        features: Callable[[Any], np.ndarray],
        seed: int,
        report: Callable[[str], None],
    ) -> None:
        """Take the steps of the settings; fewer if the target is reached or a key interrupts.

        Warns if not one of them was a step of learning.
        """
        n_copies, settings = environment.num_envs, self.settings
        pending = [MultiStep(settings.multi_step, settings.gamma) for _ in range(n_copies)]
        episode_returns = np.zeros(n_copies)
        steps = islice(run_episodes(environment, features, self._act, seed), settings.n_steps)
        with kept_if_interrupted():
            for step in steps:
                self._remember(pending[step.copy], step)
                self.n_steps += 1
                episode_returns[step.copy] += step.reward
                loss = self.learn()
                if not (step.terminated or step.truncated):
                    continue
                self.curves.episode_return.append(float(episode_returns[step.copy]))
                self.curves.note(self.n_steps, loss, self.learner)
                episode_returns[step.copy] = 0.0
                if self.curves.diverged or self._is_good_enough():
                    break
                if len(self.curves.step) % _REPORT_EVERY == 0:
                    report(self.curves.line(settings.n_steps, _REPORT_EVERY))
        if not self.learner.n_steps:
            warnings.warn(
                f"nothing was learned in {self.n_steps} steps: learning begins after "
                f"n_random_steps={settings.n_random_steps} and once a backup over "
                f"multi_step={settings.multi_step} steps is seen. Raise n_steps or lower "
                "n_random_steps.",
                UserWarning,
                stacklevel=6,
            )

    def _is_good_enough(self) -> bool:
        target, last = self.settings.target_return, self.curves.episode_return[-_REPORT_EVERY:]
        return target is not None and len(last) == _REPORT_EVERY and sum(last) >= target * len(last)

    def _act(self, states: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
        share = self.settings.exploration(self.n_steps)
        if self.n_steps < self.settings.n_random_steps:
            share = 1.0
        explored = self.rng.random(len(states)) < share
        draws = self.rng.random((len(states), self.learner.field.n_actions))
        random = (draws if masks is None else draws * masks).argmax(1)
        if explored.all():
            return random
        inputs = torch.as_tensor(states, dtype=torch.float32, device=self.replay.device)
        mask = None if masks is None else torch.as_tensor(masks, device=self.replay.device)
        with torch.no_grad():
            return np.where(explored, random, self.learner.actor.best(inputs, mask).cpu().numpy())

    def _remember(self, pending: MultiStep, step: Step) -> None:
        if not abs(step.reward) <= _LARGEST_REWARD:
            raise ValueError(
                f"the environment gave the reward {step.reward} at step {self.n_steps + 1}: "
                f"they must be finite, and at most {_LARGEST_REWARD:.3g}; wrap it so that they are."
            )
        learner = self.learner
        learner.support.see(torch.tensor([step.reward]))
        for transition in pending.push(step):
            self.replay.add(transition)
            if not transition.follows:
                learner.cover(torch.tensor([transition.reward]))

    def learn(self) -> torch.Tensor | None:
        """Take one step of learning, once there is something to learn from."""
        if self.n_steps <= self.settings.n_random_steps or not len(self.replay):
            return None
        self.learner.anneal(self.n_steps / self.settings.n_steps)
        return self.learner.step(self.replay.sample(self.settings.batch_size))


def environment_space(environment: Any) -> DecisionSpace:
    """Return how the states and actions of a vector environment become numbers.

    Raises
    ------
    ValueError
        If its actions are not labels, or its observations have no fixed length.
    """
    from gymnasium.spaces import Discrete

    actions = environment.single_action_space
    if not isinstance(actions, Discrete):
        raise ValueError(
            f'policy="greedy" needs a Discrete action space, but the environment has {actions}: '
            "discretise it, or evaluate a policy from a table of its transitions."
        )
    if actions.start != 0:
        raise ValueError(f"actions must be numbered from 0, but the environment has {actions}.")
    labels = LabelEncoder("action", np.arange(actions.n))
    return DecisionSpace(features_of_space(environment.single_observation_space), labels)
