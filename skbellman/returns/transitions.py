"""Tables of transitions: reading and validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.returns.columns import (
    Names,
    are_whole,
    columns_of,
    ends_of,
    in_order,
    is_gap,
    named_columns,
    order_of,
    plain,
    read_values,
    rows_with_gaps,
    side_by_side,
)
from skbellman.returns.datasets import Columns, columns_of_dataset, has_names_of_datasets
from skbellman.returns.encoding import LARGEST_REWARD
from skbellman.returns.spaces import ObservationReader


@dataclass(frozen=True)
class Transitions:
    """Steps of a Markov decision process, row by row.

    Attributes
    ----------
    state, next_state : array of shape (n,) or (n, d)
        The next state of a terminal step is never used, and equals the state.
    reward : array of float, shape (n,)
    terminated : array of bool, shape (n,)
        Whether the return ends with the reward.
    truncated : array of bool, shape (n,)
        Whether the episode was cut off after the step, though its return goes on.
    action, next_action : array of shape (n,) or (n, d), or None
        An arbitrary action if none was given.
    has_action, has_next_action : array of bool, shape (n,)
        Whether an action was given; only the last step of an episode may lack one.
    state_names, action_names : tuple or None
        The columns of states and actions, if they have names.
    reader : ObservationReader or None
        How states became rows, if they were mappings or tuples.
    """

    state: np.ndarray
    next_state: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    action: np.ndarray | None
    next_action: np.ndarray | None
    has_action: np.ndarray
    has_next_action: np.ndarray
    state_names: Names = None
    action_names: Names = None
    reader: ObservationReader | None = None

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, rows: np.ndarray) -> Transitions:
        """Return some of the rows."""
        parts = vars(self).items()
        return replace(self, **{k: v[rows] for k, v in parts if isinstance(v, np.ndarray)})

    def in_order_of(self, state_names: Names, action_names: Names) -> Transitions:
        """Return the rows with the columns of states and actions in the order of fit."""
        changed: dict[str, Any] = {
            name: in_order(values, found, known, part)
            for part, found, known in (
                ("state", self.state_names, state_names),
                ("action", self.action_names, action_names),
            )
            for name in (part, f"next_{part}")
            if (values := getattr(self, name)) is not None
        }
        return replace(self, **changed, state_names=state_names, action_names=action_names)


@dataclass(frozen=True)
class Part:
    """A part of a table, with one or several columns.

    Attributes
    ----------
    name : str
    values : array of shape (n,) or (n, ...)
        Missing values are None or NaN.
    columns : list
        The source of the values, for error messages.
    names : tuple or None
        Names of the columns, if their order is not fixed.
    """

    name: str
    values: np.ndarray
    columns: list[Any]
    names: Names = None

    def __len__(self) -> int:
        return len(self.values)

    def gaps(self, allowed: np.ndarray | None = None) -> np.ndarray:
        """Return which rows have missing values, (n,), or raise if that is not allowed.

        Raises
        ------
        ValueError
            The message names the column and the row.
        """
        gaps = rows_with_gaps(self.values)
        wrong = gaps if allowed is None else gaps & ~allowed
        if wrong.any():
            row = int(wrong.argmax())
            column = int(is_gap(self.values[row : row + 1]).reshape(-1).argmax())
            name = self.columns[column] if len(self.columns) > 1 else self.name
            value = self.values[row].ravel()[column] if self.values.ndim > 1 else self.values[row]
            raise ValueError(f"{name} is {value} in row {row}: drop or repair the row.")
        return gaps

    def beside(self, other: Part) -> Part:
        """Return the part with its columns in the order of another part, matched by their suffixes.

        Raises
        ------
        ValueError
            If suffixes or shapes differ.
        """
        found, known = (
            None if part.names is None else tuple(ends_of(part.names, part.name))
            for part in (self, other)
        )
        if found is not None and known is not None and set(found) != set(known):
            raise ValueError(
                f"The columns of {other.name} end in {list(known)}, those of {self.name} in "
                f"{list(found)}. They must have the same suffixes."
            )
        if self.values.shape[1:] != other.values.shape[1:]:
            raise ValueError(
                f"{other.name} has shape {other.values.shape}, but {self.name} has "
                f"{self.values.shape}. The shapes must be the same."
            )
        order = order_of(found, known, self.name)
        if order is None or self.values.ndim == 1:
            return self
        columns = [self.columns[k] for k in order]
        return replace(self, values=self.values[:, order], columns=columns, names=None)


def read_transitions(X: Any) -> Transitions:
    """Read a frame, a mapping of columns or arrays, or a dataset of Minari, D4RL or d3rlpy.

    Raises
    ------
    TypeError
        If X is none of these.
    ValueError
        If a part or a required value is missing, lengths differ, or rewards are not finite. The
        message names the part.
    """
    columns = columns_of_dataset(X) or _columns_of_table(X)
    parts = _parts(columns.by_name, named=nw.dependencies.is_into_dataframe(X))
    return replace(_checked(parts), reader=columns.reader)


def _columns_of_table(X: Any) -> Columns:
    columns = named_columns(X)
    if columns is None:
        raise TypeError(
            "transitions are a frame or a mapping of arrays with state, action, reward, "
            "next_state and terminated, or a dataset of Minari, D4RL or d3rlpy; got "
            f"{type(X).__name__}."
        )
    return Columns(columns)


def along(flags: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return one flag a row in a shape that goes with values, (n,) or (n, d)."""
    return flags.reshape(-1, *[1] * (values.ndim - 1))


def _part(columns: Mapping[Any, Any], name: str, named: bool) -> Part | None:
    """Return a part of a table by its name, None if it is not there."""
    found = columns_of(name, columns)
    if not found:
        return None
    if found == [name]:
        inner = None if named else named_columns(columns[name])
        if inner is not None:  # a frame in a mapping
            columns, found, named = inner, list(inner), True
        elif not named:
            return Part(name, read_values(columns[name], name), [name])
    _check_lengths({column: columns[column] for column in found})
    return Part(name, side_by_side(columns, found, name), found, tuple(found))


def _parts(columns: Mapping[Any, Any], named: bool) -> dict[str, Part]:
    """Return the parts of a table that are there.

    Raises
    ------
    ValueError
        If a required part is missing, or lengths differ.
    """
    parts = {
        name: Part(name, read_values(columns[name], name), [name])
        for name in ("reward", "terminated", "truncated")
        if name in columns
    }
    for name in ("state", "next_state", "action", "next_action"):
        part = _part(columns, name, named)
        if part is not None:
            parts[name] = part
    _check_complete(parts, list(columns))
    return parts


def _checked(parts: Mapping[str, Part]) -> Transitions:
    reward = _finite_rewards(parts["reward"])
    terminated = _flags(parts["terminated"])
    truncated = _flags(parts["truncated"]) if "truncated" in parts else np.zeros_like(terminated)
    state, next_state = parts["state"], parts["next_state"].beside(parts["state"])
    state.gaps()
    action, has_action = _actions(parts.get("action"), terminated | truncated)
    following, has_next_action = _next_actions(parts, action, terminated | truncated)
    return Transitions(
        state=state.values,
        next_state=_filled(next_state, next_state.gaps(terminated) | terminated, state.values),
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        action=action,
        next_action=following,
        has_action=has_action,
        has_next_action=has_next_action,
        state_names=state.names,
        action_names=parts["action"].names if "action" in parts else None,
    )


def _check_complete(parts: Mapping[str, Part], columns: list[Any]) -> None:
    absent = [name for name in ("state", "next_state", "reward", "terminated") if name not in parts]
    if absent:
        hint = " Names of D4RL and d3rlpy are read from a mapping of arrays, with observations."
        raise ValueError(
            f"The transitions lack {absent}. They need state, reward, next_state and terminated "
            f"(and action, if there is a choice), but have {columns}."
            f"{hint if has_names_of_datasets(columns) else ''}"
        )
    _check_lengths({name: part.values for name, part in parts.items()})
    if not len(parts["reward"]):
        raise ValueError("The transitions have no rows.")


def _check_lengths(columns: Mapping[Any, Any]) -> None:
    shapes = {name: np.shape(column) for name, column in columns.items()}
    single = [name for name, shape in shapes.items() if not shape]
    if single:
        raise ValueError(f"{single[0]} is a single value. Pass one value for each row.")
    lengths = {name: shape[0] for name, shape in shapes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The parts of the transitions have different lengths: {lengths}.")


def _actions(part: Part | None, ends: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the actions, and which of them were given."""
    if part is None:
        return None, np.ones(len(ends), dtype=bool)
    gaps = part.gaps(allowed=ends)
    if gaps.all():
        raise ValueError(
            "action is missing in every row. Leave the column out if there is no choice."
        )
    seen = plain(part.values[~gaps])
    if gaps.any() and seen.dtype.kind == "f" and are_whole(seen):
        seen = seen.astype(np.int64)  # a gap makes floats of whole numbers
    actions = np.empty(part.values.shape, dtype=seen.dtype)
    actions[~gaps] = seen
    actions[gaps] = seen[np.arange(gaps.sum()) % len(seen)]
    return actions, ~gaps


def _next_actions(
    parts: Mapping[str, Part], action: np.ndarray | None, ends: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the next actions, and which of them were given."""
    if action is None or "next_action" not in parts:
        return None, np.zeros(len(ends), dtype=bool)
    part = parts["next_action"].beside(parts["action"])
    gaps = part.gaps(allowed=ends)
    return _filled(part, gaps, action), ~gaps


def _filled(part: Part, rows: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return values with some rows replaced. Gaps may have changed their dtype, so others set it.

    Raises
    ------
    ValueError
        If the values have another type than the others.
    """
    seen = _alike(plain(part.values[~rows]), like, part.name)
    filled = like.astype(_common_type(like, seen))
    filled[~rows] = seen
    return filled


def _alike(seen: np.ndarray, like: np.ndarray, name: str) -> np.ndarray:
    """Return whole numbers in the dtype of others if it holds them exactly, else unchanged."""
    if not seen.size:
        return seen.astype(like.dtype)
    if like.dtype.kind not in "biu" or _common_type(like, seen).kind in "biuO":
        return seen
    other = name.removeprefix("next_")
    if seen.dtype.kind == "f" and not are_whole(seen):
        raise ValueError(
            f"{other} holds whole numbers, but {name} does not, or it holds inexact floats beyond "
            '2^53. Read it with an integer dtype, such as "Int64".'
        )
    cast = seen.astype(like.dtype)
    if not np.array_equal(cast, seen):
        raise ValueError(
            f"{name} holds whole numbers of {seen.dtype}, beyond the {like.dtype} of {other}. Give "
            "both the same dtype."
        )
    return cast


def _common_type(a: np.ndarray, b: np.ndarray) -> np.dtype[Any]:
    return np.dtype(object) if object in (a.dtype, b.dtype) else np.result_type(a, b)


def _finite_rewards(part: Part) -> np.ndarray:
    rewards = part.values
    if rewards.ndim != 1:
        raise ValueError(f"reward must have one number for each row, got shape {rewards.shape}.")
    part.gaps()
    try:
        values = rewards.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"rewards must be numbers: {error}.") from error
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise ValueError(f"reward is {values[row]} in row {row}: drop or repair the row.")
    row = int(np.abs(values).argmax())
    if abs(values[row]) > LARGEST_REWARD:
        raise ValueError(
            f"reward is {values[row]} in row {row}, too large for sums of rewards. Divide all "
            "rewards by a constant."
        )
    return values


def _flags(part: Part) -> np.ndarray:
    part.gaps()
    flags = part.values == 1
    if part.values.ndim != 1 or not (flags | (part.values == 0)).all():
        raise ValueError(f"{part.name} must hold booleans, or 0 and 1, one a row.")
    return flags.astype(bool)
