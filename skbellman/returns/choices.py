"""Actions of an environment: labels, labels of several parts as one, or numbers within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from skbellman.returns.encoding import Features, JointLabelEncoder, LabelEncoder, as_rows

# Largest number of actions, and of joint ones: a network has a law for each.
MAX_ACTIONS = 10_000
MAX_JOINT_ACTIONS = 1000


class BoxActions(Features):
    """Actions within finite bounds, as numbers from -1 to 1.

    Parameters
    ----------
    space : Box

    Attributes
    ----------
    widest : float
        Larger bounds count as infinite: environments write the largest float for "any".

    Raises
    ------
    ValueError
        If a bound is infinite, or the space holds whole numbers or no number at all.
    """

    widest = 1e30

    def __init__(self, space: Any) -> None:
        if space.dtype.kind != "f":
            raise ValueError(
                f"The actions of {space} are whole numbers. Wrap the environment so that it has "
                "MultiDiscrete actions, or a Box of floats (gymnasium.wrappers.TransformAction)."
            )
        if not math.prod(space.shape):
            raise ValueError(
                f"The actions of {space} hold no number, so there is nothing to choose. Give the "
                "environment an action space with at least one number."
            )
        self.space, self.shape = space, space.shape
        self.low, self.high = (np.ravel(end).astype(np.float64) for end in (space.low, space.high))
        if not (np.maximum(np.abs(self.low), np.abs(self.high)) < self.widest).all():
            raise ValueError(
                f"The actions of {space} have no finite bounds, which an actor needs. Set them: "
                "gymnasium.wrappers.TransformAction(env, lambda a: a, "
                "gymnasium.spaces.Box(low, high))."
            )
        self.width = self.n_values = len(self.low)
        self.middle, self.scale = (self.low + self.high) / 2, (self.high - self.low) / 2

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        """Return (n, width), from -1 to 1, for n actions."""
        rows = as_rows(np.asarray(actions, dtype=np.float64))
        if rows.shape[1] != self.width:
            raise ValueError(
                f"actions have {rows.shape[1]} numbers, but {self.space} has {self.width}."
            )
        inside = ((rows >= self.low) & (rows <= self.high)).all(1)
        if not inside.all():
            row = int((~inside).argmax())
            raise ValueError(f"Action {rows[row]} of row {row} is not within {self.space}.")
        return (rows - self.middle) / np.where(self.scale > 0, self.scale, 1.0)

    def taken(self, numbers: np.ndarray) -> np.ndarray:
        """Return actions, (n, ...), for numbers from -1 to 1: never beyond the bounds."""
        wide = self.middle + self.scale * numbers
        actions = wide.reshape(len(numbers), *self.shape).astype(self.space.dtype)
        return actions.clip(self.space.low, self.space.high)

    def one(self, numbers: np.ndarray) -> np.ndarray:
        """Return the first action."""
        return np.asarray(self.taken(numbers)[0])

    def agrees_with(self, other: Any) -> bool:
        """Return whether the bounds are the same."""
        return bool(self.space == getattr(other, "space", None))


# How labels are read, or else numbers.
Choices = tuple[LabelEncoder | None, BoxActions | None]


def _labels(space: Any) -> Choices:
    if space.n > MAX_ACTIONS:
        raise ValueError(
            f"{space} has {space.n} actions; at most {MAX_ACTIONS} can be learned. Offer fewer "
            "with gymnasium.wrappers.TransformAction, or a Box of numbers."
        )
    return LabelEncoder("action", space.start + np.arange(space.n)), None


def _numbers(space: Any) -> Choices:
    return None, BoxActions(space)


def _joint_labels(space: Any, sizes: np.ndarray, first: Any) -> Choices:
    n_actions = math.prod(sizes.ravel().tolist())
    if n_actions > MAX_JOINT_ACTIONS:
        raise ValueError(
            f"{space} has {n_actions} joint actions; at most {MAX_JOINT_ACTIONS} can be "
            "learned. Leave out parts or levels with gymnasium.wrappers.TransformAction."
        )
    each = np.stack(np.unravel_index(np.arange(n_actions), sizes.ravel()), -1)
    labels = each.reshape(-1, *sizes.shape) + first
    return JointLabelEncoder("action", labels.astype(space.dtype)), None


def _of_multi_discrete(space: Any) -> Choices:
    return _joint_labels(space, space.nvec, space.start)


def _of_multi_binary(space: Any) -> Choices:
    return _joint_labels(space, np.full(space.shape, 2), 0)


def choices_of(space: Any) -> Choices:
    """Return how the actions of a space are read.

    Raises
    ------
    ValueError
        If there are too many actions, their bounds are infinite, or the space is of another kind.
    """
    from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

    kinds: dict[type, Callable[[Any], Choices]] = {
        Discrete: _labels, MultiDiscrete: _of_multi_discrete, MultiBinary: _of_multi_binary,
        Box: _numbers,
    }  # fmt: skip
    read = next((kinds[base] for base in type(space).__mro__ if base in kinds), None)
    if read is None:
        raise ValueError(
            f'policy="greedy" needs actions of Discrete, MultiDiscrete, MultiBinary or Box, but '
            f"the environment has {space}. Flatten it with gymnasium.wrappers.TransformAction."
        )
    return read(space)
