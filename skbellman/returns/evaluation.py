"""A table of transitions as the batch that laws are learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from skbellman.notices import warn
from skbellman.returns.batch import Batch
from skbellman.returns.encoding import (
    DecisionSpace,
    LabelEncoder,
    NumberFeatures,
    features_of,
    sorted_labels,
)
from skbellman.returns.next_actions import filled, with_actions
from skbellman.returns.policies import Policy
from skbellman.returns.transitions import Transitions


def space_of(table: Transitions) -> DecisionSpace:
    """Learn from a table how its states and actions are read.

    Floating-point actions are numbers, others are labels.
    """
    states = np.concatenate([table.state, table.next_state])
    features = features_of(states).read_by(table.reader)
    names = table.state_names, table.action_names
    if table.action is None:
        return DecisionSpace(features, None, None, *names)
    known = [part for part in (table.action, table.next_action) if part is not None]
    actions = np.concatenate(known)
    if actions.dtype.kind == "f":
        return DecisionSpace(features, None, NumberFeatures(actions, "action"), *names)
    if actions.size != len(actions):
        raise ValueError("actions of several columns must be floating-point numbers.")
    labels = LabelEncoder("action", sorted_labels("action", actions.reshape(-1)))
    return DecisionSpace(features, labels, None, *names)


def in_order_of_fit(table: Transitions, space: DecisionSpace) -> Transitions:
    """Return a table with its columns in the order of fit, without actions if it had none."""
    if not space.has_choice:
        table = replace(table, action=None, next_action=None)
    elif table.action is None:
        raise ValueError("The transitions lack the column 'action', which fit had.")
    return table.in_order_of(space.state_names, space.action_names)


def encode(table: Transitions, space: DecisionSpace, policy: Policy, device: torch.device) -> Batch:
    """Return the whole table as one batch, for the returns of a policy."""
    table = with_actions(table, space)
    next_actions, probabilities = policy.following(table, space)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    return Batch(
        state=tensor(space.inputs(table.state, table.action)),
        next_state=tensor(space.inputs(table.next_state, filled(next_actions, table))),
        action=torch.tensor(space.codes(table.action, len(table)), device=device),
        reward=torch.tensor(table.reward, dtype=torch.float64, device=device),
        follows=torch.tensor(~table.terminated, device=device),
        policy=None if probabilities is None else tensor(probabilities),
    )


def warn_of_dead_ends(table: Transitions, space: DecisionSpace) -> None:
    """Warn of labelled states in which no row begins, although returns lead there."""
    if space.features.encoder is None:
        return
    reached = np.setdiff1d(table.next_state, table.state)
    if len(reached):
        warn(
            f"States {reached[:8].tolist()} occur only as next states, and are not terminal. Their "
            "returns are unknown, and those of states that lead there are biased."
        )
