"""Episodes in the copies of a vector environment of gymnasium, step by step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from skbellman.returns.encoding import DecisionSpace, flags_of
from skbellman.returns.spaces import observed


class Step(NamedTuple):
    """A step of one copy of an environment.

    The mask holds which actions are available in the next state; None if all are.
    """

    copy: int
    state: np.ndarray
    action: Any
    reward: float
    next_state: np.ndarray
    terminated: bool
    truncated: bool
    next_mask: np.ndarray | None


def run_episodes(
    environment: Any,
    space: DecisionSpace,
    act: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    seed: int,
) -> Iterator[Step]:
    """Yield the steps of the copies in a vector environment, endlessly.

    The next state is the one reached, also at the end of an episode. Steps in which a copy only
    resets itself are left out. Actions are chosen for states and masks, of shape (n, n_actions).
    They are positions of labels, or numbers from -1 to 1.
    """
    from gymnasium.vector.utils import iterate

    same_step, n_copies = _resets_at_once(environment), environment.num_envs
    n_actions, features, choices = space.n_actions, space.features, space.choices

    def read(observations: Any, infos: Any, goes_on: np.ndarray) -> tuple[Any, ...]:
        seen = list(iterate(environment.observation_space, observations))
        copies = _by_copies(infos, n_copies)
        has_masks = space.actions is not None
        masks = _masks(copies, n_actions, seen, goes_on) if has_masks else None
        return features(seen), masks, copies

    observations, infos = environment.reset(seed=seed)
    states, masks, _ = read(observations, infos, np.ones(n_copies, dtype=bool))
    resetting = np.zeros(n_copies, dtype=bool)
    while True:
        actions = act(states, masks)
        observations, rewards, terminated, truncated, infos = environment.step(
            choices.taken(actions)
        )
        after, masks, copies = read(observations, infos, ~terminated | same_step)
        ended = terminated | truncated
        for k in np.flatnonzero(~resetting):
            reached, mask = after[k], None if masks is None else masks[k]
            if ended[k] and same_step:
                last, said = copies[k]["final_obs"], copies[k].get("final_info", {})
                reached, mask = features([last])[0], said.get("action_mask")
                mask = (
                    None
                    if mask is None or masks is None
                    else _mask(mask, n_actions, last, not terminated[k])
                )
            yield Step(
                int(k), states[k], actions[k], float(rewards[k]), reached,
                bool(terminated[k]), bool(truncated[k]), mask,
            )  # fmt: skip
        states, resetting = after, ended & (not same_step)


def _by_copies(infos: Any, n_copies: int) -> list[Any]:
    """Return the infos of the copies of a vector environment as a list, a form of some wrappers."""
    if not isinstance(infos, Mapping):
        return list(infos)
    copies: list[dict[str, Any]] = [{} for _ in range(n_copies)]
    for name, values in infos.items():
        if name.startswith("_"):
            continue
        each = _by_copies(values, n_copies)
        for k in np.flatnonzero(infos.get(f"_{name}", np.ones(n_copies, dtype=bool))):
            copies[k][name] = each[k]
    return copies


def _masks(
    copies: list[Any], n_actions: int, states: list[Any], goes_on: np.ndarray
) -> np.ndarray | None:
    """Return which actions are available in each copy, (n_copies, n_actions); None if all are."""
    given = [copy.get("action_mask") for copy in copies]
    if all(mask is None for mask in given):
        return None
    parts = zip(given, states, goes_on, strict=True)
    return np.stack([_mask(mask, n_actions, state, needed) for mask, state, needed in parts])


def _mask(mask: Any, n_actions: int, state: Any, needed: bool) -> np.ndarray:
    """Return which actions are available in a state, at least one if an action is needed."""
    if mask is None:
        return np.ones(n_actions, dtype=bool)
    flags = flags_of(mask, f'info["action_mask"] in state {state}')
    if flags.shape != (n_actions,):
        raise ValueError(
            f'info["action_mask"] has length {flags.size} in state {state}, but there are '
            f"{n_actions} actions."
        )
    if needed and not flags.any():
        raise ValueError(
            f'info["action_mask"] forbids all {n_actions} actions in state {state}, although the '
            "episode has not ended."
        )
    return flags


@contextmanager
def opened(environment: Any) -> Iterator[Any]:
    """Yield a vector environment, see `as_vector`, and close it if it was made by its name."""
    vector = as_vector(environment)
    try:
        yield vector
    finally:
        if _is_name(environment):
            vector.close()


def is_environment(candidate: Any) -> bool:
    """Return whether something is an environment, or the name of one."""
    acts = hasattr(candidate, "reset") and hasattr(candidate, "step")
    return acts or _is_name(candidate)


def _is_name(candidate: Any) -> bool:
    """Return whether something is the name of an environment for ``gymnasium.make``."""
    return isinstance(candidate, str)


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
    made: Any = gymnasium.make(environment) if _is_name(environment) else environment
    absent = [n for n in ("observation_space", "action_space") if not hasattr(made, n)]
    if absent:
        raise ValueError(f"The environment {made!r} lacks {absent}, which gymnasium requires.")
    checked: Any = CheckedEnvironment(made)
    return SyncVectorEnv([lambda: checked], autoreset_mode=AutoresetMode.SAME_STEP)


class CheckedEnvironment:
    """An environment, or an object with spaces, reset and step, whose answers are checked.

    Parameters
    ----------
    environment : object

    Raises
    ------
    ValueError
        If it has the interface of older packages.
    """

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        self.metadata = getattr(environment, "metadata", {})
        self.render_mode = getattr(environment, "render_mode", None)
        self.spec = getattr(environment, "spec", None)
        self.unwrapped = getattr(environment, "unwrapped", environment)
        self._observed = observed(self.observation_space)
        if not takes(environment.reset, "seed", "options"):
            raise ValueError(
                f"{environment!r}.reset must take seed and options, as gymnasium requires: "
                "def reset(self, *, seed=None, options=None)."
            )

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        """Return an observation and infos."""
        observation, info = self._of_length(2, self.environment.reset(**how), "reset")
        self._observed.check(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return an observation, a reward, terminated, truncated, and infos."""
        outcome = self._of_length(5, self.environment.step(action), "step")
        observation, reward, terminated, truncated, info = outcome
        self._observed.check(observation)
        return observation, self._number(reward), bool(terminated), bool(truncated), info

    def close(self) -> None:
        """Close the environment, if it can be."""
        getattr(self.environment, "close", lambda: None)()

    def _of_length(self, n: int, answer: Any, method: str) -> Any:
        if not (isinstance(answer, tuple) and len(answer) == n):
            raise ValueError(
                f"{self.environment!r}.{method} returned {answer!r}, not a tuple of {n}, as "
                "gymnasium requires: (observation, info) of reset, (observation, reward, "
                "terminated, truncated, info) of step."
            )
        return answer

    def _number(self, reward: Any) -> float:
        try:
            return float(np.asarray(reward, dtype=np.float64).item())
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.environment!r} gave the reward {reward!r}, which is not a number."
            ) from error


def takes(method: Callable[..., Any], *names: str) -> bool:
    """Return whether a method takes keyword arguments, as far as it tells."""
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return True
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return any_name or all(name in parameters for name in names)


def _resets_at_once(environment: Any) -> bool:
    from gymnasium.vector import AutoresetMode

    mode = environment.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if mode == AutoresetMode.DISABLED:
        raise ValueError("The vector environment does not reset itself. Set its autoreset_mode.")
    return bool(mode == AutoresetMode.SAME_STEP)
