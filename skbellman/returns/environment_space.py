"""How the observations and actions of an environment are read: labels, numbers or images."""

from __future__ import annotations

from typing import Any

from skbellman.notices import warn
from skbellman.returns.choices import choices_of
from skbellman.returns.encoding import DecisionSpace, Features
from skbellman.returns.images import ImageFeatures, has_one_image
from skbellman.returns.spaces import features_of_space, observed


def environment_space(environment: Any) -> DecisionSpace:
    """Return the encoding of states and actions of a vector environment.

    Warns of sentences, which are not read.

    Raises
    ------
    ValueError
        If its actions cannot be read, or its observations have no fixed length.
    """
    labels, numbers = choices_of(environment.single_action_space)
    space = without_sentences(environment.single_observation_space)
    # The actor of a Box of actions has no layers for images: it takes them as numbers.
    seen = _features_of(space) if numbers is None else features_of_space(space)
    return DecisionSpace(seen, labels, numbers)


def _features_of(space: Any) -> Features:
    return ImageFeatures(space) if has_one_image(space) else features_of_space(space)


def without_sentences(space: Any) -> Any:
    """Return a space of mappings without the parts that are sentences, other spaces unchanged.

    Warns if there are some.
    """
    from gymnasium.spaces import Dict

    if not isinstance(space, Dict):
        return space
    sentences = [name for name, part in space.spaces.items() if observed(part).holds_sentences]
    if not sentences or len(sentences) == len(space.spaces):
        return space
    warn(
        f"Parts of the observations are sentences, which are not read: {sentences}. If they tell "
        "what to do, encode them as labels with gymnasium.wrappers.TransformObservation. To "
        "silence this warning, drop them with gymnasium.wrappers.FilterObservation."
    )
    return Dict({name: part for name, part in space.spaces.items() if name not in sentences})
