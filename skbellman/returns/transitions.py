"""Tables of transitions: what can be read as one, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.returns.encoding import LARGEST_REWARD, is_missing

_SCALARS = ("action", "reward", "terminated", "truncated", "next_action")
_NEEDED = ("reward", "terminated")


@dataclass(frozen=True)
class Transitions:
    """Steps of a Markov decision process, row by row.

    Attributes
    ----------
    state, next_state : array of shape (n,) or (n, d)
        Where a step is terminal, the next state is never looked at, and holds the state.
    reward : array of float, shape (n,)
    terminated : array of bool, shape (n,)
        Whether the return ends with the reward.
    truncated : array of bool, shape (n,)
        Whether the episode was cut off after the step, though its return goes on.
    action, next_action : array of shape (n,) or (n, d), or None
    """

    state: np.ndarray
    next_state: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    action: np.ndarray | None
    next_action: np.ndarray | None

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, rows: np.ndarray) -> Transitions:
        """Return some of the rows."""
        return replace(
            self, **{k: part[rows] for k, part in vars(self).items() if part is not None}
        )


def read_transitions(X: Any) -> Transitions:
    """Read a frame, a mapping of arrays, or a Minari dataset.

    Raises
    ------
    TypeError
        If X is none of these.
    ValueError
        If a part lacks, lengths differ, or rewards are not finite; the message names the part.
    """
    if hasattr(X, "iterate_episodes"):
        parts = _parts_of_episodes(X)
    elif nw.dependencies.is_into_dataframe(X):
        parts = _parts_of_frame(nw.from_native(X, eager_only=True))
    elif isinstance(X, Mapping):
        parts = {name: np.asarray(part) for name, part in X.items() if part is not None}
    else:
        raise TypeError(
            "transitions are a frame or a mapping of arrays with state, action, reward, "
            f"next_state and terminated, or a Minari dataset; got {type(X).__name__}."
        )
    return _checked(parts)


def joined_columns(states: Any, name: str = "state") -> np.ndarray:
    """Return the states of a frame or array: (n,) for one column, (n, d) for more."""
    if not nw.dependencies.is_into_dataframe(states):
        values = np.asarray(states)
        if not values.ndim:
            raise ValueError(f"states must be a sequence of them, got {states!r}: write [state].")
        return values
    frame = nw.from_native(states, eager_only=True)
    columns = _columns(frame, name) or list(frame.columns)
    return _joined(frame, columns)


def _columns(frame: Any, name: str) -> list[str]:
    """Return the columns of a part: its own, or those that begin with its name and _."""
    if name in frame.columns:
        return [name]
    return [column for column in frame.columns if str(column).startswith(f"{name}_")]


def _joined(frame: Any, columns: list[str]) -> np.ndarray:
    if len(columns) == 1:
        return frame[columns[0]].to_numpy()
    return np.column_stack([frame[column].to_numpy() for column in columns])


def _parts_of_frame(frame: Any) -> dict[str, np.ndarray]:
    parts = {}
    for name in ("state", "next_state", *_SCALARS):
        if columns := _columns(frame, name):
            parts[name] = _joined(frame, columns)
    suffixes = [
        [str(c).removeprefix(name) for c in _columns(frame, name)]
        for name in ("state", "next_state")
    ]
    if all(suffixes) and suffixes[0] != suffixes[1]:
        raise ValueError(
            f"the columns of state end in {suffixes[0]}, those of next_state in {suffixes[1]}: "
            "they must be the same, in the same order."
        )
    return parts


def _parts_of_episodes(dataset: Any) -> dict[str, np.ndarray]:
    """Join the episodes of a Minari dataset, whose observations are one more than its actions."""
    found: dict[str, list[np.ndarray]] = {
        name: [] for name in ("state", "next_state", "action", "reward", "terminated", "truncated")
    }
    for episode in dataset.iterate_episodes():
        if isinstance(episode.observations, Mapping | tuple):
            raise ValueError(
                "observations of the dataset are mappings or tuples: pass a mapping of arrays "
                "whose state and next_state are flat, by gymnasium.spaces.flatten, say."
            )
        observations = np.asarray(episode.observations)
        found["state"].append(observations[:-1])
        found["next_state"].append(observations[1:])
        found["action"].append(np.asarray(episode.actions))
        found["reward"].append(np.asarray(episode.rewards))
        found["terminated"].append(np.asarray(episode.terminations))
        found["truncated"].append(np.asarray(episode.truncations))
    if not found["state"]:
        raise ValueError("the dataset holds no episode.")
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _checked(parts: dict[str, np.ndarray]) -> Transitions:
    absent = [name for name in ("state", "next_state", *_NEEDED) if name not in parts]
    if absent:
        raise ValueError(
            f"the transitions lack {absent}: they need state, reward, next_state and terminated "
            f"(and action, if there is a choice), but hold {sorted(parts)}."
        )
    lengths = {name: len(part) for name, part in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the parts of the transitions have different lengths: {lengths}.")
    if not len(parts["reward"]):
        raise ValueError("the transitions hold no row.")
    if parts["state"].shape != parts["next_state"].shape:
        raise ValueError(
            f"state has shape {parts['state'].shape}, next_state {parts['next_state'].shape}: "
            "they must be the same."
        )
    reward = _finite_rewards(parts["reward"])
    terminated = _flags(parts["terminated"], "terminated")
    truncated = parts.get("truncated")
    next_state = _following(parts["state"], parts["next_state"], terminated)
    _check_known(parts["state"], "state")
    _check_known(next_state, "next_state")
    return Transitions(
        state=parts["state"],
        next_state=next_state,
        reward=reward,
        terminated=terminated,
        truncated=np.zeros_like(terminated)
        if truncated is None
        else _flags(truncated, "truncated"),
        action=parts.get("action"),
        next_action=parts.get("next_action"),
    )


def _following(state: np.ndarray, next_state: np.ndarray, terminated: np.ndarray) -> np.ndarray:
    """Return the next states, with the states where there is none: it may be missing there."""
    following = np.where(along(terminated, state), state, next_state)
    if state.dtype.kind in "iu" and following.dtype.kind == "f":
        if not np.array_equal(following, np.rint(following)):
            raise ValueError("state holds whole numbers, but next_state does not.")
        return following.astype(state.dtype)  # a missing value makes floats of whole numbers
    return following


def _check_known(states: np.ndarray, name: str) -> None:
    unknown = is_missing(states)
    if unknown.any():
        row = int(unknown.argmax())
        raise ValueError(f"{name} is {states[row]} in row {row}: drop or repair the row.")


def along(flags: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return one flag a row in a shape that goes with values, (n,) or (n, d)."""
    return flags.reshape(-1, *[1] * (values.ndim - 1))


def _finite_rewards(rewards: np.ndarray) -> np.ndarray:
    try:
        values = rewards.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"rewards must be numbers: {error}.") from error
    if values.ndim != 1:
        raise ValueError(f"reward must have one number a row, got shape {values.shape}.")
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise ValueError(f"reward is {values[row]} in row {row}: drop or repair the row.")
    if np.abs(values).max() > LARGEST_REWARD:
        row = int(np.abs(values).argmax())
        raise ValueError(
            f"reward is {values[row]} in row {row}, too large for the floats of laws: divide all "
            "rewards by a constant."
        )
    return values


def _flags(values: np.ndarray, name: str) -> np.ndarray:
    flags = values == 1
    if values.ndim != 1 or not (flags | (values == 0)).all():
        raise ValueError(f"{name} must hold booleans, or 0 and 1, one a row.")
    return flags
