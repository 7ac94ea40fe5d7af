"""Datasets of other packages as columns of transitions: Minari, D4RL, d3rlpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skbellman.returns.columns import is_frame
from skbellman.returns.spaces import ObservationReader

# Parts of a table by the names that D4RL, d3rlpy and gymnasium give them.
_NAMES = {
    "observations": "state",
    "next_observations": "next_state",
    "actions": "action",
    "next_actions": "next_action",
    "rewards": "reward",
    "terminals": "terminated",
    "terminations": "terminated",
    "timeouts": "truncated",
    "truncations": "truncated",
}
_REQUIRED = ("observations", "rewards", "terminals")


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset.

    Attributes
    ----------
    by_name : mapping of arrays
        By the names of the parts of a table.
    reader : ObservationReader or None
        How observations became rows, if they are mappings or tuples.
    """

    by_name: Mapping[Any, Any]
    reader: ObservationReader | None = None


def columns_of_dataset(X: Any) -> Columns | None:
    """Return the columns of a dataset, None if X is none.

    Raises
    ------
    ValueError
        If observations or actions cannot be read, or a part is missing.
    """
    if is_frame(X):
        return None
    if hasattr(X, "iterate_episodes"):
        return _of_minari(X)
    if hasattr(X, "episodes"):
        return Columns(_of_rows(_of_d3rlpy(X)))
    named = isinstance(X, Mapping) and "observations" in X and "state" not in X
    return Columns(_of_rows(X)) if named else None


def has_names_of_datasets(columns: list[Any]) -> bool:
    """Return whether columns have names that are read from mappings only."""
    return any(name in _NAMES for name in columns)


def _of_minari(dataset: Any) -> Columns:
    """Join the episodes of a Minari dataset, whose observations are one more than its actions."""
    found: dict[str, list[np.ndarray]] = {
        name: [] for name in ("state", "next_state", "action", "reward", "terminated", "truncated")
    }
    reader: ObservationReader | None = None
    for episode in dataset.iterate_episodes():
        observations = episode.observations
        if _has_parts(observations):
            reader = reader or _reader_of(dataset)
            observations = reader.of_batch(observations)
        if _has_parts(episode.actions):
            raise ValueError(
                "actions of the dataset are mappings or tuples. Flatten them, e.g. with "
                "gymnasium.spaces.flatten, and pass a mapping of arrays."
            )
        observations = np.asarray(observations)
        found["state"].append(observations[:-1])
        found["next_state"].append(observations[1:])
        found["action"].append(np.asarray(episode.actions))
        found["reward"].append(np.asarray(episode.rewards))
        found["terminated"].append(np.asarray(episode.terminations))
        found["truncated"].append(_cut_at_the_end(episode))
    return Columns(_joined(found), reader)


def _has_parts(values: Any) -> bool:
    return isinstance(values, Mapping | tuple)


def _reader_of(dataset: Any) -> ObservationReader:
    space = getattr(dataset, "observation_space", None)
    if space is None:
        raise ValueError(
            "observations of the dataset are mappings or tuples, and it has no observation_space. "
            "Flatten them, e.g. with gymnasium.spaces.flatten, and pass a mapping of arrays."
        )
    return ObservationReader(space)


def _cut_at_the_end(episode: Any) -> np.ndarray:
    """Return the truncations.

    The last step counts as truncated, because another episode may follow.
    """
    cut = np.array(episode.truncations, dtype=bool)
    cut[-1:] |= ~np.asarray(episode.terminations, dtype=bool)[-1:]
    return cut


def _of_d3rlpy(buffer: Any) -> dict[str, np.ndarray]:
    """Join the episodes of a replay buffer, which have no last observation."""
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for episode in buffer.episodes:
        if _has_parts(episode.observations) or isinstance(episode.observations, list):
            raise ValueError(
                "observations of the buffer have several parts. Join them to one array each."
            )
        last = np.arange(len(episode.rewards)) == len(episode.rewards) - 1
        parts = episode.observations, episode.actions, episode.rewards
        ends = last & bool(episode.terminated), last & (not episode.terminated)
        for name, part in zip(names, (*parts, *ends), strict=True):
            found[name].append(np.asarray(part))
    return _joined(found)


def _joined(found: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    if not all(found.values()):
        raise ValueError("The dataset has no episode.")
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _of_rows(X: Mapping[Any, Any]) -> dict[str, Any]:
    """Return columns by the names of a table, of rows in order.

    Raises
    ------
    ValueError
        If a part is missing.
    """
    parts = {_NAMES[name]: part for name, part in X.items() if name in _NAMES and part is not None}
    absent = [name for name in _REQUIRED if _NAMES[name] not in parts]
    if absent:
        raise ValueError(f"The data lack {absent}. They have {list(X)}.")
    for name in ("action", "next_action", "reward", "terminated", "truncated"):
        if name in parts:
            parts[name] = _flat(np.asarray(parts[name]))
    return parts if "next_state" in parts else _with_next_rows(parts)


def _flat(values: np.ndarray) -> np.ndarray:
    """Return values of shape (n, 1) as (n,)."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _with_next_rows(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the columns with the states and actions of the next rows.

    Steps at which an episode was cut off have no next state, and are left out.
    """
    if "truncated" not in parts:
        raise ValueError(
            "The data lack next_observations, and timeouts, which say where episodes were cut off. "
            "Give one of both, so that no episode is joined to the next."
        )
    lengths = {name: len(part) for name, part in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The parts of the data have different lengths: {lengths}.")
    parts = {name: np.asarray(part) for name, part in parts.items()}
    for name in ("state", "action"):
        if name in parts:
            parts.setdefault(f"next_{name}", np.roll(parts[name], -1, axis=0))
    cut = (parts["truncated"] == 1) | (np.arange(len(parts["reward"])) == len(parts["reward"]) - 1)
    kept = ~cut | (parts["terminated"] == 1)
    return {name: part[kept] for name, part in parts.items()}
