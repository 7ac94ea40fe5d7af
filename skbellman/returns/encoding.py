"""States and actions as the numbers that networks take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# Of states that are one label, up to which their laws are held in a table.
MAX_LABELS = 1000
# Of a reward: laws are learned in float32.
LARGEST_REWARD = float(np.finfo(np.float32).max)
_SHOWN = 8


class Features(Protocol):
    """Reads states: labels, numbers, or observations of an environment.

    Attributes
    ----------
    width : int
        Numbers of a state.
    one_hot : bool
        Whether they are flags of labels, nearly all of them 0.
    one_label : bool
        Whether exactly one of them is 1.
    of_parts : bool
        Whether a state is a mapping or tuple of several, and no array.
    """

    width: int
    one_hot: bool
    one_label: bool
    of_parts: bool

    def __call__(self, states: Any) -> np.ndarray:
        """Return (n, width) for n states."""


class LabelEncoder:
    """Labels, among those that were there in fit, as their positions.

    Parameters
    ----------
    name : str
        What they label, for messages.
    labels : array of shape (n_labels,)
        Sorted.
    """

    def __init__(self, name: str, labels: np.ndarray) -> None:
        self.name, self.labels = name, labels
        self._position = {label: k for k, label in enumerate(labels.tolist())}

    def __len__(self) -> int:
        return len(self.labels)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Return the positions of labels, (n,)."""
        unknown = [v for v in values.tolist() if v not in self._position]
        if unknown:
            shown = ", ".join(map(repr, self.labels[:_SHOWN].tolist()))
            more = ", ..." if len(self) > _SHOWN else ""
            raise ValueError(f"unknown {self.name} {unknown[0]!r}: known are {shown}{more}.")
        return np.array([self._position[v] for v in values.tolist()], dtype=np.int64)


class LabelFeatures:
    """One-hot states."""

    one_hot, one_label, of_parts = True, True, False

    def __init__(self, labels: np.ndarray) -> None:
        self.encoder = LabelEncoder("state", labels)
        self.width = len(labels)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Return (n, width) for states of shape (n,) or (n, 1)."""
        if states.size != len(states):
            raise ValueError(f"states are single labels here, got shape {states.shape}.")
        return np.eye(self.width)[self.encoder.codes(states.reshape(-1))]


class NumberFeatures:
    """States of numbers, brought to unit scale."""

    one_hot, one_label, of_parts = False, False, False

    def __init__(self, states: np.ndarray) -> None:
        values = _as_numbers(states)
        self.width = values.shape[1]
        self.mean, spread = values.mean(0), values.std(0)
        self.scale = np.where(spread > 0, spread, 1.0)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Return (n, width) for states of shape (n, width), or (n,) where width is 1."""
        values = _as_numbers(states)
        if values.shape[1] != self.width:
            raise ValueError(f"states have {values.shape[1]} numbers, but had {self.width} in fit.")
        return (values - self.mean) / self.scale


def features_of(states: np.ndarray) -> LabelFeatures | NumberFeatures:
    """Learn how states are read: one column of whole numbers, strings or booleans holds labels."""
    if states.size == len(states) and states.dtype.kind != "f":
        return LabelFeatures(sorted_labels("state", states.reshape(-1)))
    return NumberFeatures(states)


def sorted_labels(name: str, values: np.ndarray) -> np.ndarray:
    """Return the labels that there are, sorted.

    Raises
    ------
    ValueError
        If they are of kinds that have no order, as 1 and "a".
    """
    try:
        return np.unique(values)
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in values.tolist()})
        raise ValueError(
            f"labels must be of one kind, but {name} has {', '.join(kinds)}: write all as strings."
        ) from error


def is_missing(values: np.ndarray) -> np.ndarray:
    """Return which rows hold None or NaN, (n,)."""
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        return missing if values.ndim == 1 else missing.any(1)
    if values.dtype == object:
        return np.array([value is None or value != value for value in values])
    return np.zeros(len(values), dtype=bool)


def _as_numbers(states: np.ndarray) -> np.ndarray:
    try:
        values = np.asarray(states, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"states of several columns must be numbers: {error}.") from error
    values = values.reshape(len(values), -1)
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values).all(1)).argmax())
        raise ValueError(f"the state of row {row} holds {states[row]}, which is not finite.")
    return values


def check_rows(name: str, values: Any, n_rows: int) -> np.ndarray:
    """Return one value for each of n rows, from as many or a single one."""
    array = np.asarray(values)
    if array.ndim == 0:
        array = np.repeat(array, n_rows)
    if len(array) != n_rows:
        raise ValueError(f"{name} has {len(array)} rows, but there are {n_rows} states.")
    return array


@dataclass(frozen=True)
class DecisionSpace:
    """How states and actions become numbers.

    Attributes
    ----------
    features : Features
        Of a state.
    actions : LabelEncoder or None
        None where there is no choice of action, or where actions are numbers.
    action_features : NumberFeatures or None
        Of actions that are numbers, which a network takes beside the state.
    """

    features: Features
    actions: LabelEncoder | None = None
    action_features: NumberFeatures | None = None

    @property
    def n_actions(self) -> int:
        """Number of laws that a network gives for an input."""
        return 1 if self.actions is None else len(self.actions)

    @property
    def n_inputs(self) -> int:
        """Width of a network's input."""
        return self.features.width + (self.action_features.width if self.action_features else 0)

    @property
    def is_tabular(self) -> bool:
        """Whether states and actions are few labels."""
        few = self.features.one_label and self.features.width <= MAX_LABELS
        return few and self.action_features is None

    def pair_name(self, pair: int) -> str:
        """Return the name of a pair of labelled state and action, for messages."""
        state, action = divmod(pair, self.n_actions)
        labels = getattr(getattr(self.features, "encoder", None), "labels", None)
        name = f"state {state if labels is None else labels.tolist()[state]!r}"
        if self.actions is None:
            return name
        return f"{name} after action {self.actions.labels.tolist()[action]!r}"

    def agrees_with(self, other: DecisionSpace) -> bool:
        """Return whether states and actions become the same numbers."""
        same = type(self.features) is type(other.features)
        return same and (self.n_inputs, self.n_actions) == (other.n_inputs, other.n_actions)

    def inputs(self, states: Any, actions: np.ndarray | None) -> np.ndarray:
        """Return what a network takes, (n, n_inputs)."""
        encoded = self.features(states)
        if self.action_features is None:
            return encoded
        if actions is None:
            raise ValueError("actions are numbers here, so the question needs them: pass actions.")
        return np.hstack([encoded, self.action_features(actions)])

    def codes(self, actions: np.ndarray | None, n_rows: int) -> np.ndarray:
        """Return which of the network's laws each action has, (n,)."""
        if self.actions is None:
            return np.zeros(n_rows, dtype=np.int64)
        if actions is None:
            raise ValueError("there is a choice of actions: pass actions.")
        return self.actions.codes(actions.reshape(len(actions)))
