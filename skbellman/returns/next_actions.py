"""The action after each step of a table: the given one, or that of the next row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skbellman.notices import warn
from skbellman.returns.encoding import DecisionSpace
from skbellman.returns.transitions import Transitions, along


def with_next_actions(table: Transitions) -> Transitions:
    """Return the table with each step's next action. Rows without a known one are left out.

    If the table has no next actions, they are those of the next rows, provided that these begin in
    the states in which the steps end.

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
            "The next actions are unknown. Add the column next_action, keep the rows of an "
            "episode in order, or pass the policy to evaluate."
        )
    return table.take(np.flatnonzero(table.has_next_action | table.terminated))


def _with_actions_of_next_rows(table: Transitions) -> Transitions:
    """Return the table with the action of the next row, if it begins in the state reached."""
    actions = np.asarray(table.action)
    if (actions == actions[:1]).all():  # no choice
        return replace(table, next_action=actions, has_next_action=np.ones(len(table), dtype=bool))
    following = np.minimum(np.arange(len(table)) + 1, len(table) - 1)
    goes_on = ~(table.terminated | table.truncated)
    acted = table.has_action | table.terminated  # after the end of a return, any action will do
    follows = goes_on & acted[following] & _same_rows(table.next_state, table.state[following])
    follows[-1] = False
    _warn_of_disorder(int(goes_on.sum()), int(follows.sum()), table)
    return replace(table, next_action=actions[following], has_next_action=follows)


def _warn_of_disorder(
    n_open: int, n_followed: int, table: Transitions, share_of_ends: float = 0.25
) -> None:
    """Warn if more rows are left out than the ends of short episodes would explain.

    Episodes that are cut off without a flag may have as few as four steps.
    """
    if not n_followed or n_open - n_followed <= share_of_ends * n_open:
        return
    n_used = n_followed + int(table.terminated.sum())
    warn(
        f"{n_used} of {len(table)} rows could be used. The next action is that of the next row, "
        f"but only {n_followed} of the {n_open} rows in which no episode ends are followed by a "
        "row that begins in their next state. Sort the rows by episode and time, give the column "
        "next_action, or pass the policy that is evaluated."
    )


def with_actions(table: Transitions, space: DecisionSpace) -> Transitions:
    """Return the steps whose action is known. Terminal steps without an action have any action.

    A last row without an action, at which an episode was cut off, is no step and is left out.
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


def filled(next_actions: np.ndarray | None, table: Transitions) -> np.ndarray | None:
    """Return the next actions, with an arbitrary one after the end."""
    if next_actions is None or table.action is None:
        return table.action
    return np.where(along(table.terminated, table.action), table.action, next_actions)


def _same_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    equal = a == b
    return equal if equal.ndim == 1 else equal.all(tuple(range(1, equal.ndim)))
