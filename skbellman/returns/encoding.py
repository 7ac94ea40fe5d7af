"""States and actions as the numbers that networks take."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skbellman.returns.columns import Names, asked, is_frame, is_row

# Up to so many states that are one label, laws are held in a table.
MAX_LABELS = 1000
# Largest reward: returns may be thousands of times as large.
LARGEST_REWARD = 1e300


class LabelEncoder:
    """Encode labels as their positions among the labels of fit.

    Parameters
    ----------
    name : str
        What they label, for error messages.
    labels : array of shape (n_labels,)
        Sorted.

    Attributes
    ----------
    n_shown : int
        Labels that an error message shows.
    """

    n_shown = 8

    def __init__(self, name: str, labels: np.ndarray) -> None:
        self.name, self.labels = name, labels
        self._position = {label: k for k, label in enumerate(labels.tolist())}

    def __len__(self) -> int:
        return len(self.labels)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Return the positions of labels, (n,)."""
        unknown = values[~self.knows(values)].tolist()
        if unknown:
            shown = ", ".join(map(repr, self.labels[: self.n_shown].tolist()))
            more = ", ..." if len(self) > self.n_shown else ""
            raise ValueError(f"unknown {self.name} {unknown[0]!r}; known: {shown}{more}.")
        return np.array([self._position[key] for key in self._keys(values)], dtype=np.int64)

    def knows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are known labels, (n,)."""
        return np.array([key in self._position for key in self._keys(values)], dtype=bool)

    def taken(self, codes: np.ndarray) -> np.ndarray:
        """Return the labels at positions, (n, ...)."""
        return self.labels[codes]

    def one(self, codes: np.ndarray) -> Any:
        """Return the label at the first of the positions, as a Python object."""
        return self.labels.tolist()[int(codes[0])]

    def agrees_with(self, other: Any) -> bool:
        """Return whether the labels are the same."""
        labels: Any = getattr(other, "labels", None)
        return np.array_equal(self.labels, labels)

    def _keys(self, values: np.ndarray) -> list[Any]:
        if values.size != len(values):
            raise ValueError(f"{self.name}s must be single labels, got shape {values.shape}.")
        return values.reshape(-1).tolist()


class JointLabelEncoder(LabelEncoder):
    """Arrays of labels, each of which is one label.

    Parameters
    ----------
    name : str
        What they label, for error messages.
    labels : array of shape (n_labels, ...)
    """

    def __init__(self, name: str, labels: np.ndarray) -> None:
        self.name, self.labels = name, labels
        self._position = {key: k for k, key in enumerate(self._keys(labels))}

    def one(self, codes: np.ndarray) -> Any:
        """Return the labels at the first of the positions, as an array."""
        return self.labels[codes[0]]

    def _keys(self, values: np.ndarray) -> list[Any]:
        rows, shape = as_rows(values), self.labels.shape[1:]
        if rows.shape[1] != math.prod(shape):
            raise ValueError(f"{self.name}s must have shape {shape}, got {values.shape[1:]}.")
        return list(map(tuple, rows.tolist()))


class Features(ABC):
    """Reads states: labels, numbers, or observations of an environment.

    A new kind of state is a subclass, which defines how a state becomes numbers.

    Attributes
    ----------
    width : int
        Numbers of a state.
    n_axes : int
        Axes of one state as an array.
    one_hot : bool
        Whether states are one-hot flags of labels.
    one_label : bool
        Whether exactly one flag is 1.
    of_parts : bool
        Whether a state is a mapping or tuple of parts.
    n_values : int
        Numbers or labels of a state, as the user passes it.
    encoder : LabelEncoder or None
        The encoder of states that are labels of a table.
    reader : ObservationReader or None
        How mappings and tuples of a dataset become rows of a table.
    picture : Picture or None
        Layout of the image with which a state begins, if it does.
    dtype : numpy dtype
        Dtype in which a replay keeps states.
    """

    width: int
    n_axes: int = 0
    one_hot: bool = False
    one_label: bool = False
    of_parts: bool = False
    n_values: int
    encoder: LabelEncoder | None = None
    reader: Any = None
    picture: Any = None
    dtype: np.dtype = np.dtype(np.float32)

    @abstractmethod
    def __call__(self, states: Any, /) -> np.ndarray:
        """Return (n, width) for n states."""

    def knows(self, states: np.ndarray) -> np.ndarray:
        """Return which states were seen in fit, (n,)."""
        return np.ones(len(states), dtype=bool)

    def is_one(self, states: Any) -> bool:
        """Return whether something is one state, not a sequence or a frame of states."""
        if self.of_parts:
            return not isinstance(states, list | np.ndarray)
        return is_row(states) or (not is_frame(states) and np.ndim(states) <= self.n_axes)

    def asked(self, states: Any, names: Names) -> Any:
        """Return the states of a question, in the order of fit; names are those of the columns."""
        if not self.of_parts:
            return asked(states, "state", names)
        if not isinstance(states, Sequence | np.ndarray):
            raise ValueError(f"states must be a list of observations, got {states!r}.")
        return states if self.reader is None else self.reader.of_list(states)

    def read_by(self, reader: Any) -> Features:
        """Return the features of states that are read as a dataset's, by its reader if any."""
        self.reader, self.of_parts = reader, reader is not None
        return self


class LabelFeatures(Features):
    """One-hot states."""

    one_hot, one_label, n_values = True, True, 1
    encoder: LabelEncoder

    def __init__(self, labels: np.ndarray) -> None:
        self.encoder = LabelEncoder("state", labels)
        self.width = len(labels)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Return (n, width) for states of shape (n,) or (n, 1)."""
        return np.eye(self.width)[self.encoder.codes(states)]

    def knows(self, states: np.ndarray) -> np.ndarray:
        """Return which states are labels that were seen in fit, (n,)."""
        return self.encoder.knows(states)


class NumberFeatures(Features):
    """States or actions of numbers, brought to unit scale.

    Parameters
    ----------
    values : array of shape (n,) or (n, ...)
    name : str
        What they are, for error messages.

    Attributes
    ----------
    largest : float
        Largest number, in standard deviations: laws are computed in float32.
    """

    largest = float(np.finfo(np.float32).max)

    def __init__(self, values: np.ndarray, name: str = "state") -> None:
        self.name = name
        numbers = _as_numbers(values, name)
        self.width = self.n_values = numbers.shape[1]
        self.n_axes = np.ndim(values) - 1
        # A power of two loses no digit, and squares stay finite at any scale.
        largest = np.abs(numbers).max(0)
        self.unit = np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0))))
        scaled = numbers / self.unit
        self.mean, varies = scaled.mean(0), scaled.max(0) > scaled.min(0)
        self.scale = np.where(varies, scaled.std(0), 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return (n, width) for values of shape (n, width), or (n,) where width is 1."""
        numbers = _as_numbers(values, self.name)
        if numbers.shape[1] != self.width:
            raise ValueError(
                f"{self.name}s have {numbers.shape[1]} numbers, but had {self.width} in fit."
            )
        with np.errstate(over="ignore"):
            scaled = (numbers / self.unit - self.mean) / self.scale
        far = ~(np.abs(scaled) <= self.largest)
        if far.any():
            row = int(far.any(1).argmax())
            raise ValueError(
                f"The {self.name} of row {row} holds {values[row]}, too far from those of fit for "
                "the floats of laws."
            )
        return scaled


def features_of(states: np.ndarray) -> LabelFeatures | NumberFeatures:
    """Learn how states are read: one column of whole numbers, strings or booleans holds labels."""
    if states.size == len(states) and states.dtype.kind != "f":
        return LabelFeatures(sorted_labels("state", states.reshape(-1)))
    return NumberFeatures(states)


def sorted_labels(name: str, values: np.ndarray) -> np.ndarray:
    """Return the distinct labels, sorted.

    Raises
    ------
    ValueError
        If labels have no common order, such as 1 and "a".
    """
    try:
        return np.unique(values)
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in values.tolist()})
        raise ValueError(
            f"Labels must have one type, but {name} has {', '.join(kinds)}. Convert all to strings."
        ) from error


def check_rows(name: str, values: Any, n_rows: int, known: Names = None) -> np.ndarray:
    """Return one value for each of n rows, given n values or a single one.

    ``known`` are the names that the columns had in fit.
    """
    if isinstance(values, str | bytes) or not getattr(values, "ndim", hasattr(values, "__len__")):
        values = [values] * n_rows
    array = asked(values, name.removesuffix("s"), known)
    if len(array) != n_rows:
        raise ValueError(f"{name} has {len(array)} rows, but there are {n_rows} states.")
    return array


def flags_of(mask: Any, where: str) -> np.ndarray:
    """Return a mask of actions as booleans.

    Raises
    ------
    ValueError
        If it holds anything but 0 and 1.
    """
    given = np.asarray(mask)
    wrong = ~((given == 0) | (given == 1))
    if np.any(wrong):
        raise ValueError(
            f"{where} holds {given[wrong].tolist()[0]!r}; it must hold 1 for actions that are "
            "available, and 0 for others."
        )
    return given.astype(bool)


def as_rows(values: np.ndarray) -> np.ndarray:
    """Return values of shape (n, ...) as (n, width), where n may be 0."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _as_numbers(values: np.ndarray, name: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}s of several columns must be numbers: {error}.") from error
    numbers = as_rows(numbers)
    if not np.isfinite(numbers).all():
        row = int((~np.isfinite(numbers)).any(1).argmax())
        raise ValueError(f"The {name} of row {row} holds {values[row]}, which is not finite.")
    return numbers


@dataclass(frozen=True)
class DecisionSpace:
    """How states and actions become numbers.

    Attributes
    ----------
    features : Features
        Features of a state.
    actions : LabelEncoder or None
        None if there is no choice of action, or if actions are numbers.
    action_features : Features or None
        Features of actions that are numbers, which a network takes as inputs.
    state_names, action_names : tuple or None
        Columns of a table, in their order, if they had names.
    """

    features: Features
    actions: LabelEncoder | None = None
    action_features: Features | None = None
    state_names: Names = None
    action_names: Names = None

    @property
    def n_actions(self) -> int:
        """Number of laws that a network gives for an input."""
        return 1 if self.actions is None else len(self.actions)

    @property
    def n_inputs(self) -> int:
        """Width of a network's input."""
        return self.features.width + (self.action_features.width if self.action_features else 0)

    @property
    def has_choice(self) -> bool:
        """Whether there is a choice of actions."""
        return self.n_actions > 1 or self.action_features is not None

    @property
    def choices(self) -> Any:
        """The encoder of actions, labels or numbers. None if there is no choice."""
        return self.action_features if self.actions is None else self.actions

    @property
    def is_tabular(self) -> bool:
        """Whether states and actions are labels, and few enough for a table."""
        few = self.features.one_label and self.features.width <= MAX_LABELS
        return few and self.action_features is None

    def pair_name(self, pair: int) -> str:
        """Return the name of a pair of labelled state and action, for messages."""
        state, action = divmod(pair, self.n_actions)
        encoder = self.features.encoder
        name = f"state {state if encoder is None else encoder.labels.tolist()[state]!r}"
        if self.actions is None:
            return name
        return f"{name} after action {self.actions.labels.tolist()[action]!r}"

    def agrees_with(self, other: DecisionSpace) -> bool:
        """Return whether states and actions become the same numbers."""
        same = type(self.features) is type(other.features) and self.n_inputs == other.n_inputs
        same &= self.features.picture == other.features.picture
        return same and (self.choices is None or self.choices.agrees_with(other.choices))

    def inputs(self, states: Any, actions: np.ndarray | None) -> np.ndarray:
        """Return what a network takes, (n, n_inputs)."""
        encoded = self.features(states)
        if self.action_features is None:
            return encoded
        if actions is None:
            raise ValueError("The actions are numbers, so the question needs them: pass actions.")
        return np.hstack([encoded, self.action_features(actions)])

    def codes(self, actions: np.ndarray | None, n_rows: int) -> np.ndarray:
        """Return which of the network's laws each action has, (n,)."""
        if self.actions is None or (actions is None and len(self.actions) == 1):
            return np.zeros(n_rows, dtype=np.int64)
        if actions is None:
            raise ValueError("There is a choice of actions: pass actions.")
        return self.actions.codes(actions)

    def knows(self, states: np.ndarray, actions: np.ndarray | None) -> np.ndarray:
        """Return which states and actions were seen in fit, (n,)."""
        known = self.features.knows(states)
        if self.actions is not None and actions is not None:
            known &= self.actions.knows(actions)
        return known
