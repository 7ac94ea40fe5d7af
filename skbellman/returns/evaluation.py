"""Policy evaluation from a table: its encoding, and the laws of its policy's returns."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import torch
from torch import Tensor

from skbellman.returns.batch import Batch
from skbellman.returns.columns import named_columns, order_of
from skbellman.returns.encoding import (
    DecisionSpace,
    LabelEncoder,
    LabelFeatures,
    NumberFeatures,
    features_of,
    sorted_labels,
)
from skbellman.returns.transitions import Transitions, along

Policy = Any  # "table", an array, or a callable
# Of rows that no row follows though no episode ends there, beyond which they are not in order:
# episodes that are cut off without a flag may be of four steps.
_ENDS = 0.25


def space_of(table: Transitions) -> DecisionSpace:
    """Learn from a table how its states and actions are read.

    Actions of floating point are numbers, others are labels.
    """
    features = features_of(np.concatenate([table.state, table.next_state]))
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


def with_next_actions(table: Transitions) -> Transitions:
    """Return the table with each step's next action; rows where none is known are left out.

    If the table does not have them, it is the action of the next row, where that begins in the
    state that this one ends in.

    Raises
    ------
    ValueError
        If no row has a next action.
    """
    if table.action is None:
        return table
    if table.next_action is None:
        table = _with_actions_of_next_rows(table)
    if not (table.has_next_action.any() or table.terminated.all()):
        raise ValueError(
            "the next actions are not known: give the column next_action, keep the rows of an "
            "episode in order, or pass the policy that is evaluated."
        )
    return table.take(np.flatnonzero(table.has_next_action | table.terminated))


def _with_actions_of_next_rows(table: Transitions) -> Transitions:
    """Return the table with the action of the next row, if that begins where a row ends."""
    actions = np.asarray(table.action)
    if (actions == actions[:1]).all():  # no choice
        return replace(table, next_action=actions, has_next_action=np.ones(len(table), dtype=bool))
    following = np.minimum(np.arange(len(table)) + 1, len(table) - 1)
    goes_on = ~(table.terminated | table.truncated)
    acted = table.has_action | table.terminated  # where the return ends any action is one
    follows = goes_on & acted[following] & _same_rows(table.next_state, table.state[following])
    follows[-1] = False
    _warn_of_disorder(int(goes_on.sum()), int(follows.sum()), table)
    return replace(table, next_action=actions[following], has_next_action=follows)


def _warn_of_disorder(n_open: int, n_followed: int, table: Transitions) -> None:
    """Warn if more rows are left out than there are ends of episodes, short as they may be."""
    if not n_followed or n_open - n_followed <= _ENDS * n_open:
        return
    n_used = n_followed + int(table.terminated.sum())
    warnings.warn(
        f"{n_used} of {len(table)} rows could be used: the next action is that of the next row, "
        f"but only {n_followed} of the {n_open} rows in which no episode ends are followed by a "
        "row that begins in their next state. Sort the rows by episode and time, give the column "
        "next_action, or pass the policy that is evaluated.",
        UserWarning,
        stacklevel=5,
    )


def with_actions(table: Transitions, space: DecisionSpace) -> Transitions:
    """Return the steps whose action is known; a return that ends without one ends after any.

    A step without an action at which an episode was cut off is none, and left out.
    """
    if table.action is None or table.has_action.all():
        return table
    known, ends = table.has_action, np.flatnonzero(~table.has_action & table.terminated)
    each = np.ones(1) if space.actions is None else space.actions.labels
    rows = np.concatenate([np.flatnonzero(known), np.repeat(ends, len(each))])
    whole = table.take(rows)
    if space.actions is None:
        return whole
    actions = np.concatenate([table.action[known], np.tile(each, len(ends))])
    return replace(whole, action=actions)


def policy_probabilities(policy: Policy, states: np.ndarray, space: DecisionSpace) -> np.ndarray:
    """Return the probabilities of the actions in each state, (n, n_actions).

    Raises
    ------
    ValueError
        If the policy's shape does not fit, or its rows are not probabilities.
    """
    if callable(policy):
        answer = np.asarray(policy(states))
        if answer.shape == (len(states),) and space.actions is not None:
            return np.eye(space.n_actions)[space.codes(answer, len(states))]
    elif isinstance(space.features, LabelFeatures):
        answer = _policy_table(policy, space.features.encoder.labels, space.actions)
        answer = answer[_policy_rows(len(answer), states.reshape(-1), space.features.encoder)]
    else:
        raise ValueError("policy is a table, but states are not labels: pass a function of states.")
    if answer.shape != (len(states), space.n_actions):
        raise ValueError(
            f"policy gives shape {answer.shape} for {len(states)} states and "
            f"{space.n_actions} actions."
        )
    if (answer < 0).any() or not np.allclose(answer.sum(1), 1):
        raise ValueError("policy gives rows that are not probabilities.")
    return answer.astype(np.float64)


def _policy_table(policy: Any, states: np.ndarray, actions: LabelEncoder | None) -> np.ndarray:
    """Return a policy's table as an array; a frame's columns are matched with the actions.

    Its index with the labels of states, if it has them.
    """
    if not nw.dependencies.is_into_dataframe(policy) or actions is None:
        return np.asarray(policy)
    if set(states.tolist()) <= set(getattr(policy, "index", ())):
        policy = policy.loc[states.tolist()]
    columns = named_columns(policy) or {}
    labels = actions.labels.tolist()
    known = tuple(labels if set(labels) & set(columns) else map(str, labels))
    order = order_of(tuple(columns), known, "policy") or []
    return np.column_stack([list(columns.values())[k].to_numpy() for k in order])


def _policy_rows(n_rows: int, states: np.ndarray, encoder: LabelEncoder) -> np.ndarray:
    """Return the row of a policy's table for each state.

    There is a row for each whole number from 0, if states are such; else for each label, sorted.
    """
    codes, labels = encoder.codes(states), encoder.labels
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < n_rows:
        return states.astype(np.int64)
    if n_rows != len(labels):
        raise ValueError(f"policy has {n_rows} rows, but there are {len(labels)} states.")
    return codes


def encode(
    table: Transitions, space: DecisionSpace, policy: Policy | None, device: torch.device
) -> Batch:
    """Return the whole table as one batch, for a policy or None for the best."""
    table = with_actions(table, space)
    next_actions, probabilities = table.next_action, None
    if policy is None:
        pass
    elif isinstance(policy, str):
        probabilities = _recorded(table, space)
    elif space.action_features is not None:
        next_actions = np.asarray(policy(table.next_state)) if callable(policy) else next_actions
        probabilities = np.ones((len(table), 1))
    else:
        probabilities = policy_probabilities(policy, table.next_state, space)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    return Batch(
        state=tensor(space.inputs(table.state, table.action)),
        next_state=tensor(space.inputs(table.next_state, _filled(next_actions, table))),
        action=torch.tensor(space.codes(table.action, len(table)), device=device),
        reward=torch.tensor(table.reward, dtype=torch.float64, device=device),
        follows=torch.tensor(~table.terminated, device=device),
        policy=None if probabilities is None else tensor(probabilities),
    )


def warn_of_dead_ends(table: Transitions, space: DecisionSpace) -> None:
    """Warn of labelled states that returns lead to and that no row begins in."""
    if not isinstance(space.features, LabelFeatures):
        return
    reached = np.setdiff1d(table.next_state, table.state)
    if len(reached):
        warnings.warn(
            f"states {reached[:8].tolist()} are only ever next states and not terminal: nothing "
            "tells their returns, and those of states that lead there are off.",
            UserWarning,
            stacklevel=4,
        )


def _recorded(table: Transitions, space: DecisionSpace) -> np.ndarray:
    """Return the recorded next actions as probabilities."""
    if space.actions is None:
        return np.ones((len(table), 1))
    codes = space.codes(np.asarray(_filled(table.next_action, table)), len(table))
    return np.eye(space.n_actions)[codes]


def _filled(next_actions: np.ndarray | None, table: Transitions) -> np.ndarray | None:
    """Return the next actions, with any in place of those after the end."""
    if next_actions is None or table.action is None:
        return table.action
    return np.where(along(table.terminated, table.action), table.action, next_actions)


def _same_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    equal = a == b
    return equal if equal.ndim == 1 else equal.all(tuple(range(1, equal.ndim)))
