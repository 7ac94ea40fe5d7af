"""Observations that hold an image: which they are, and how they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from skbellman.returns.encoding import Features
from skbellman.returns.spaces import BoxFeatures, features_of_space

# Fewer pixels along a side are a matrix of numbers.
LEAST_SIDE = 5


@dataclass(frozen=True)
class Picture:
    """The layout of an image.

    Attributes
    ----------
    shape : tuple of int
        Of an observation: height and width, with the number of channels last or first if there are
        three axes.
    """

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    @property
    def channel_axis(self) -> int | None:
        """The axis of the channels: the last, or the first if it is shorter; None if there is none.

        Channels are colours, kinds of objects, or frames that were stacked.
        """
        if len(self.shape) == 2:
            return None
        return 0 if self.shape[0] < self.shape[-1] else 2

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width."""
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.channel_axis)


def picture_of(space: Any) -> Picture | None:
    """Return the layout of the images of a space, None if its observations are no images.

    Images are a Box of two or three axes, with at least `LEAST_SIDE` pixels along each side, whose
    values are bytes or flags. With three axes, they may be any numbers within finite bounds.
    """
    from gymnasium.spaces import Box

    if not isinstance(space, Box) or len(space.shape) not in (2, 3):
        return None
    compact = _holds_bytes(space)
    bounded = len(space.shape) == 3 and np.abs([space.low, space.high]).max() < BoxFeatures.widest
    picture = Picture(tuple(map(int, space.shape)))
    is_one = (compact or bounded) and min(picture.sides) >= LEAST_SIDE
    return picture if is_one else None


def _holds_bytes(space: Any) -> bool:
    """Return whether all values are bytes, or flags."""
    return space.dtype in (np.uint8, np.bool_)


def has_one_image(space: Any) -> bool:
    """Return whether observations are images, or mappings or tuples with exactly one image."""
    return sum(picture_of(part) is not None for part in _parts_of(space).values()) == 1


def _parts_of(space: Any) -> dict[Any, Any]:
    """Return the spaces of the parts of observations by their places; None is that of the whole."""
    from gymnasium.spaces import Dict, Tuple

    if isinstance(space, Dict):
        return dict(space.spaces)
    return dict(enumerate(space.spaces)) if isinstance(space, Tuple) else {None: space}


def _features_beside(parts: dict[Any, Any]) -> BoxFeatures | None:
    """Return the features of the parts beside the image, None if there are none."""
    from gymnasium.spaces import Dict

    if not parts:
        return None
    return features_of_space(Dict({str(place): part for place, part in parts.items()}))


class ImageFeatures(Features):
    """Observations with one image: its pixels as they are, then the other parts as numbers.

    Parameters
    ----------
    space : Space
        An image, or a Dict or Tuple with one image, see `has_one_image`.

    Attributes
    ----------
    picture : Picture
        Layout of the first numbers of a row.
    dtype : numpy dtype
        uint8, if pixels are bytes or flags and the other parts are labels.
    """

    picture: Picture

    def __init__(self, space: Any) -> None:
        self.space, self.of_parts, self.n_axes = space, space.shape is None, len(space.shape or ())
        parts = _parts_of(space)
        self.place = next(place for place, part in parts.items() if picture_of(part))
        image = parts.pop(self.place)
        self.picture = cast("Picture", picture_of(image))
        self.beside = {str(place): place for place in parts}
        self.others = _features_beside(parts)
        self.width = self.picture.size + (self.others.width if self.others else 0)
        self.n_values = self.picture.size + (self.others.n_values if self.others else 0)
        labels = self.others is None or self.others.one_label
        self.dtype = np.dtype(np.uint8 if _holds_bytes(image) and labels else np.float32)

    def __call__(self, states: Any) -> np.ndarray:
        """Return (n, width), of the dtype, for a sequence of n observations.

        Raises
        ------
        ValueError
            If an observation is none of the space, or not finite.
        """
        rows = np.empty((len(states), self.width), dtype=self.dtype)
        n_pixels = self.picture.size
        for row, state in zip(rows, states, strict=True):
            row[:n_pixels] = self._pixels(self._part(state, self.place)).ravel()
        if self.others is not None:
            rows[:, n_pixels:] = self.others([self._others(state) for state in states])
        return rows

    def _part(self, state: Any, place: Any) -> Any:
        """Return a part of an observation, which is whole if it has no parts."""
        if place is None:
            return state
        try:
            return state[place]
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{state!r} is no observation of {self.space}.") from error

    def _others(self, state: Any) -> dict[str, Any]:
        """Return the parts beside the image."""
        return {name: self._part(state, place) for name, place in self.beside.items()}

    def _pixels(self, image: Any) -> np.ndarray:
        """Return the values of an image, in the dtype."""
        values = np.asarray(image)
        if values.shape != self.picture.shape:
            raise ValueError(f"An image has shape {values.shape} instead of {self.picture.shape}.")
        with np.errstate(invalid="ignore", over="ignore"):
            pixels = values.astype(self.dtype)
        wrong = ~np.isfinite(pixels) if pixels.dtype.kind == "f" else pixels != values
        if wrong.any():
            wanted = "a finite number" if pixels.dtype.kind == "f" else "a whole number to 255"
            raise ValueError(f"An image holds {values[wrong][0]}, which is not {wanted}.")
        return pixels
