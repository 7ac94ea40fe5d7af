"""Spaces of gymnasium: how their observations and actions are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from skbellman.returns.encoding import MAX_LABELS, Features, as_rows


class BoxFeatures(Features):
    """Observations, flattened by gymnasium. Numbers with finite bounds are scaled to -1 to 1.

    Attributes
    ----------
    widest : float
        Larger bounds count as infinite: environments write the largest float for "any".
    largest : float
        Largest number of an observation: laws are computed in float32.
    n_most : int
        Largest width; each label has a flag.
    """

    widest = 1e4
    largest = 1e30
    n_most = 10_000_000

    def __init__(self, space: Any) -> None:
        from gymnasium.spaces import Box, flatten_space

        try:
            self._check_width(space)
            flat = flatten_space(space)
        except NotImplementedError as error:  # MiniGrid's missions
            raise ValueError(
                f"gymnasium cannot flatten observations of {space}. Leave out the parts that are "
                "neither numbers nor labels, e.g. with gymnasium.wrappers.FilterObservation."
            ) from error
        if not isinstance(flat, Box):
            raise ValueError(
                f"Observations of {space} have no fixed length. Wrap the environment so that they "
                "do."
            )
        bounds = np.stack([flat.low, flat.high]).astype(np.float64).reshape(2, -1)
        bounded = np.abs(bounds).max(0) < self.widest
        low, high = np.where(bounded, bounds, [[-1.0], [1.0]])
        self.space, self.width = space, len(low)
        self.observed = observed(space)
        self.one_hot, self.of_parts = self.observed.holds_labels, space.shape is None
        self.n_values, self.n_axes = self.observed.n_values, len(space.shape or ())
        self.middle, self.scale = (low + high) / 2, np.maximum((high - low) / 2, 1e-12)

    def __call__(self, states: Any) -> np.ndarray:
        """Return (n, width) for a sequence of n observations."""
        rows = [self.flat(observation) for observation in states]
        if not rows:
            return np.empty((0, self.width))
        flat = as_rows(np.asarray(rows, dtype=np.float64))
        if flat.shape[1] != self.width:
            raise ValueError(
                f"observations have {flat.shape[1]} numbers, but {self.space} has {self.width}."
            )
        far = ~(np.abs(flat) <= self.largest).all(1)
        if far.any():
            raise ValueError(
                f"The observation {rows[int(far.argmax())]} is not finite, or beyond "
                f"{self.largest:.3g}. Rescale it, as gymnasium.wrappers.TransformObservation does."
            )
        return (flat - self.middle) / self.scale

    def _check_width(self, space: Any) -> None:
        """Raise an error if observations hold nothing, sentences, or too many labels."""
        from gymnasium.spaces import flatdim

        if observed(space).holds_sentences:
            raise ValueError(
                f"Observations of {space} hold sentences, which are not read. Leave them out, or "
                "encode them as labels, with gymnasium.wrappers.TransformObservation."
            )
        width = flatdim(space)
        if not width:
            raise ValueError(
                f"Observations of {space} hold no number. If all states are alike, use Discrete(1)."
            )
        if width > self.n_most:
            raise ValueError(
                f"Observations of {space} take {width} numbers, as each label has a flag; at most "
                f"{self.n_most} are read. Write labels as numbers, e.g. with "
                "gymnasium.wrappers.TransformObservation."
            )

    def flat(self, observation: Any) -> np.ndarray:
        """Return an observation as gymnasium flattens it.

        Raises
        ------
        ValueError
            If it is none of the space.
        """
        from gymnasium.spaces import flatten

        member = self.observed.member(observation)
        try:
            flat = np.asarray(flatten(self.space, member))
            # A label that is negative or too large may have set the flag of another.
            known = self.observed.knows_labels(member)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise self._refusal(observation) from error
        if not known:
            raise self._refusal(observation)
        return flat

    def _refusal(self, observation: Any) -> ValueError:
        return ValueError(f"{observation!r} is no observation of {self.space}.")

    def rows(self, flat: np.ndarray) -> np.ndarray:
        """Return flattened observations as rows of a table, (n, width)."""
        return flat.reshape(len(flat), self.width)


class JointLabelFeatures(BoxFeatures):
    """Observations of labels only, as one-hot flags of one joint label."""

    one_label = True

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.sizes = self.observed.label_sizes
        self.width = math.prod(self.sizes)

    def __call__(self, states: Any) -> np.ndarray:
        """Return (n, width) for a sequence of n observations."""
        rows = [self.flat(observation) for observation in states]
        return np.eye(self.width)[self.rows(np.asarray(rows))]

    def rows(self, flat: np.ndarray) -> np.ndarray:
        """Return the joint label, (n,), of each flattened observation."""
        flags = flat.reshape(len(flat), sum(self.sizes))
        parts = np.split(flags, np.cumsum(self.sizes)[:-1], axis=1)
        return np.ravel_multi_index([part.argmax(1) for part in parts], self.sizes)


def features_of_space(space: Any) -> BoxFeatures:
    """Return the features of observations: few labels as one label, others flattened."""
    seen = observed(space)
    if seen.holds_labels and math.prod(seen.label_sizes) <= MAX_LABELS:
        return JointLabelFeatures(space)
    return BoxFeatures(space)


class ObservationReader:
    """Reads observations of a dataset as rows: of one joint label, or of numbers.

    Parameters
    ----------
    space : Space
        The space of the observations, mappings or tuples.
    """

    def __init__(self, space: Any) -> None:
        self.features = features_of_space(space)

    def of_batch(self, observations: Any) -> np.ndarray:
        """Return the rows of n observations, whose parts are arrays of n values."""
        try:
            return self.features.rows(self.features.observed.flat(observations))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Observations of the dataset are none of {self.features.space}: {error}."
            ) from error

    def of_list(self, observations: Any) -> np.ndarray:
        """Return the rows of a list of observations."""
        rows = [self.features.flat(observation) for observation in observations]
        return self.features.rows(np.asarray(rows, dtype=np.float64))


class Observed:
    """The observations of a space of gymnasium: by default they are numbers.

    A new kind of space is a subclass, and an entry of `observed`.

    Parameters
    ----------
    space : Space

    Attributes
    ----------
    holds_labels : bool
        Whether observations are labels, or mappings or tuples of labels.
    label_sizes : list of int
        How many values each label has.
    n_values : int
        Numbers or labels of an observation.
    """

    holds_labels = False

    def __init__(self, space: Any) -> None:
        self.space = space
        self.label_sizes: list[int] = []
        self.n_values: int = 1 if space.shape is None else math.prod(space.shape)

    @property
    def holds_sentences(self) -> bool:
        """Whether observations are strings, as missions of MiniGrid are, or have such parts."""
        return self.space.dtype is not None and self.space.dtype.kind == "U"

    def check(self, observation: Any) -> None:
        """Raise an error if the shape of an observation is not that of the space."""
        self.member(observation)

    def flat(self, batch: Any) -> np.ndarray:
        """Return n observations, whose parts are arrays of n values, as rows of numbers."""
        return as_rows(np.asarray(batch, dtype=np.float64))

    def knows_labels(self, observation: Any) -> bool:
        """Return whether every label of an observation is one of the space's."""
        return not self.holds_labels or bool(self.space.contains(observation))

    def member(self, observation: Any) -> Any:
        """Return an observation in the form of the space.

        Raises
        ------
        ValueError
            If it has another shape, or a label is unknown.
        """
        if self.space.shape is not None and np.shape(observation) != self.space.shape:
            raise ValueError(
                f"An observation has shape {np.shape(observation)} instead of {self.space.shape}."
            )
        return observation


class ObservedLabel(Observed):
    """One label, a whole number."""

    holds_labels = True

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.label_sizes = [int(space.n)]

    def member(self, observation: Any) -> Any:
        """Return the label as an integer."""
        label = _whole(observation)
        if label is None or not self.space.contains(label):
            raise ValueError(f"unknown state {observation!r}; known: those of {self.space}.")
        return label

    def flat(self, batch: Any) -> np.ndarray:
        """Return the flags of labels."""
        return _flags(np.asarray(batch).reshape(len(batch)) - self.space.start, self.space.n)


class ObservedLabels(Observed):
    """An array of labels."""

    holds_labels = True

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.label_sizes = [int(n) for n in space.nvec.flat]

    def flat(self, batch: Any) -> np.ndarray:
        """Return the flags of labels."""
        labels = as_rows(np.asarray(batch) - self.space.start).T
        return np.hstack([_flags(*of) for of in zip(labels, self.label_sizes, strict=True)])


class ObservedTuple(Observed):
    """Several observations."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.parts = [observed(part) for part in self.spaces()]
        self.label_sizes = [size for part in self.parts for size in part.label_sizes]
        if self.parts:
            self.holds_labels = all(part.holds_labels for part in self.parts)
            self.n_values = sum(part.n_values for part in self.parts)

    @property
    def holds_sentences(self) -> bool:
        """Whether a part holds sentences."""
        return any(part.holds_sentences for part in self.parts)

    def check(self, observation: Any) -> None:
        """Raise an error if a part is missing or has another shape."""
        try:
            values = self.values(observation)
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{observation!r} is no observation of {self.space}.") from error
        if len(values) != len(self.parts):
            raise ValueError(f"{observation!r} is no observation of {self.space}.")
        for part, value in zip(self.parts, values, strict=True):
            part.check(value)

    def spaces(self) -> list[Any]:
        """Return the spaces of the parts."""
        return list(self.space)

    def values(self, observation: Any) -> list[Any]:
        """Return the parts of an observation, in the order of the spaces."""
        return list(observation)

    def flat(self, batch: Any) -> np.ndarray:
        """Return the parts side by side."""
        values = zip(self.parts, self.values(batch), strict=True)
        return np.hstack([part.flat(value) for part, value in values])

    def knows_labels(self, observation: Any) -> bool:
        """Return whether every label of an observation is one of the space's."""
        if self.holds_labels or not self.parts:
            return super().knows_labels(observation)
        parts = zip(self.parts, self.values(observation), strict=True)
        return all(part.knows_labels(value) for part, value in parts)


class ObservedDict(ObservedTuple):
    """Several named observations."""

    def spaces(self) -> list[Any]:
        """Return the spaces of the parts."""
        return list(self.space.values())

    def values(self, observation: Any) -> list[Any]:
        """Return the parts of an observation, in the order of the spaces."""
        return [observation[name] for name in self.space]

    def member(self, observation: Any) -> Any:
        """Return the parts without sentences, which are not read."""
        if not isinstance(observation, Mapping):
            return observation
        parts = observation.items()
        return {name: part for name, part in parts if not isinstance(part, str)}


def observed(space: Any) -> Observed:
    """Return the observations of a space."""
    from gymnasium.spaces import Dict, Discrete, MultiDiscrete, Tuple

    kinds: dict[type, type[Observed]] = {
        Discrete: ObservedLabel, MultiDiscrete: ObservedLabels,
        Tuple: ObservedTuple, Dict: ObservedDict,
    }  # fmt: skip
    kind = next((kinds[base] for base in type(space).__mro__ if base in kinds), Observed)
    return kind(space)


def _flags(labels: np.ndarray, n: int) -> np.ndarray:
    """Return a 1 in the place of each label.

    Raises
    ------
    ValueError
        If a label is out of range.
    """
    wrong = (labels < 0) | (labels >= n)
    if wrong.any():
        raise ValueError(f"label {labels[wrong][0]} is not one of {n}")
    return np.eye(int(n))[labels.astype(np.int64)]


def _whole(value: Any) -> Any:
    """Return a whole number as an integer, None for anything else."""
    try:
        number = np.int64(value)
    except (TypeError, ValueError):
        return None
    return number if np.array_equal(number, value) else None
