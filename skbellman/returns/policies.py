"""Policies whose returns are learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import narwhals.stable.v2 as nw
import numpy as np
from torch import Tensor

from skbellman.returns.columns import named_columns, order_of
from skbellman.returns.encoding import DecisionSpace, LabelEncoder, as_rows
from skbellman.returns.fields import ReturnField
from skbellman.returns.next_actions import filled, with_next_actions
from skbellman.returns.transitions import Transitions

# Next actions that are numbers, and probabilities of laws. None stands for the best action.
Following = tuple[np.ndarray | None, np.ndarray | None]


class Policy(ABC):
    """A policy whose returns are learned.

    A new kind of policy is a subclass, and a line in `policy_of`.

    Attributes
    ----------
    is_greedy : bool
        Whether it takes the best actions, which are learned together with their returns.
    """

    is_greedy: ClassVar[bool] = False

    def told_by(self, table: Transitions) -> Transitions:
        """Return the rows of a table that inform on the policy, with its next actions."""
        return table

    @abstractmethod
    def following(self, table: Transitions, space: DecisionSpace) -> Following:
        """Return the next actions of a table, as numbers and as probabilities, (n, n_actions)."""

    @abstractmethod
    def first(
        self, states: Any, inputs: Tensor, field: ReturnField, space: DecisionSpace
    ) -> np.ndarray:
        """Return the probabilities of first actions, (n, n_actions), if there is a choice.

        Inputs are the states as a field takes them.
        """

    def own_numbers(self, states: Any, space: DecisionSpace) -> np.ndarray | None:
        """Return the first actions in states where actions are numbers; None if not known."""
        return None

    def recorded(self, table: Transitions, space: DecisionSpace) -> np.ndarray | None:
        """Return the recorded actions after a step, None if the policy does not use them."""
        return None

    def after(self, table: Transitions, space: DecisionSpace) -> np.ndarray | None:
        """Return the actions after a step, None if `first` gives their probabilities."""
        return self.recorded(table, space)

    def agrees_with(self, other: Policy) -> bool:
        """Return whether two policies are certainly the same."""
        return type(self) is type(other)


class RecordedPolicy(Policy):
    """The policy that acted in a table. Only its recorded actions are known."""

    def told_by(self, table: Transitions) -> Transitions:
        """Return the rows whose next action is known."""
        return with_next_actions(table)

    def following(self, table: Transitions, space: DecisionSpace) -> Following:
        """Return the recorded next actions."""
        if space.actions is None:
            return table.next_action, np.ones((len(table), 1))
        codes = space.codes(np.asarray(filled(table.next_action, table)), len(table))
        return table.next_action, np.eye(space.n_actions)[codes]

    def first(
        self, states: Any, inputs: Tensor, field: ReturnField, space: DecisionSpace
    ) -> np.ndarray:
        """Raise an error: its other actions are unknown."""
        raise ValueError(
            "There is a choice of actions, and only the recorded actions of the policy are "
            "known: pass actions."
        )

    def recorded(self, table: Transitions, space: DecisionSpace) -> np.ndarray | None:
        """Return the recorded next actions, if there is a choice."""
        return table.next_action if space.has_choice else None


class GreedyPolicy(Policy):
    """The greedy policy of the learned laws."""

    is_greedy = True

    def following(self, table: Transitions, space: DecisionSpace) -> Following:
        """Return no probabilities: learners find the best actions."""
        return table.next_action, None

    def first(
        self, states: Any, inputs: Tensor, field: ReturnField, space: DecisionSpace
    ) -> np.ndarray:
        """Return 1 for the best action in each state."""
        return np.eye(space.n_actions)[field.best(inputs).cpu().numpy()]


@dataclass(frozen=True, eq=False)
class GivenPolicy(Policy):
    """A policy that the user passes.

    Attributes
    ----------
    given : callable or array
    """

    given: Any

    def following(self, table: Transitions, space: DecisionSpace) -> Following:
        """Return the next actions if actions are numbers, else their probabilities."""
        if space.action_features is not None and table.action is not None:
            numbers = self.own_numbers(table.next_state, space)
            return numbers.reshape(table.action.shape), np.ones((len(table), 1))
        return table.next_action, self.probabilities(table.next_state, space)

    def first(
        self, states: Any, inputs: Tensor, field: ReturnField, space: DecisionSpace
    ) -> np.ndarray:
        """Return the probabilities of actions, (n, n_actions)."""
        return self.probabilities(states, space)

    def agrees_with(self, other: Policy) -> bool:
        """Return whether both are the same object. It may have changed meanwhile."""
        return super().agrees_with(other) and self.given is getattr(other, "given", None)

    @abstractmethod
    def own_numbers(self, states: Any, space: DecisionSpace) -> np.ndarray:
        """Return the actions in states where actions are numbers, checked."""

    def probabilities(self, states: Any, space: DecisionSpace) -> np.ndarray:
        """Return the probabilities of the actions in each state, (n, n_actions).

        Raises
        ------
        ValueError
            If the policy's shape does not fit, or its rows are not probabilities.
        """
        answer = self.answer(states, space)
        if answer.shape != (len(states), space.n_actions):
            raise ValueError(
                f"policy gives shape {answer.shape} for {len(states)} states and "
                f"{space.n_actions} actions."
            )
        if (answer < 0).any() or not np.allclose(answer.sum(1), 1):
            raise ValueError("The rows of policy are not probabilities (at least 0, with sum 1).")
        return answer.astype(np.float64)

    @abstractmethod
    def answer(self, states: Any, space: DecisionSpace) -> np.ndarray:
        """Return unchecked probabilities, (n, n_actions)."""


class FunctionPolicy(GivenPolicy):
    """A function from states to actions, or to their probabilities."""

    given: Callable[[Any], Any]

    def own_numbers(self, states: Any, space: DecisionSpace) -> np.ndarray:
        """Return the function's actions in states.

        Raises
        ------
        ValueError
            If they have another shape than the actions of the table, or are not finite.
        """
        answer, n = np.asarray(self.given(states)), len(states)
        width = space.n_inputs - space.features.width
        if answer.dtype.kind not in "biuf" or answer.shape[:1] != (n,) or answer.size != n * width:
            raise ValueError(
                f"policy gives {answer.dtype} of shape {answer.shape} for {n} states. Actions of "
                f"the table are numbers: it must give {width} for each state."
            )
        if not np.isfinite(answer).all():
            row = int((~np.isfinite(as_rows(answer))).any(1).argmax())
            raise ValueError(f"policy gives the action {answer[row]} in state {states[row]}.")
        return answer

    def after(self, table: Transitions, space: DecisionSpace) -> np.ndarray | None:
        """Return the function's actions in the next states, where actions are numbers."""
        numbers = space.action_features is not None
        return self.own_numbers(table.next_state, space) if numbers else None

    def answer(self, states: Any, space: DecisionSpace) -> np.ndarray:
        """Return the function's probabilities, or 1 for each of its actions."""
        answer = np.asarray(self.given(states))
        if answer.shape == (len(states),) and space.actions is not None:
            return np.eye(space.n_actions)[space.codes(answer, len(states))]
        return answer


class ArrayPolicy(GivenPolicy):
    """A row of probabilities for each labelled state."""

    def own_numbers(self, states: Any, space: DecisionSpace) -> np.ndarray:
        """Raise an error: probabilities are of labels."""
        raise ValueError(
            "policy is a table of probabilities, but actions are numbers: pass a function from "
            "states to actions."
        )

    def answer(self, states: np.ndarray, space: DecisionSpace) -> np.ndarray:
        """Return the rows of the states."""
        encoder = space.features.encoder
        if encoder is None:
            raise ValueError(
                "policy is a table, but states are not labels: pass a function of states."
            )
        table = _policy_table(self.given, encoder.labels, space.actions)
        return table[_policy_rows(len(table), states.reshape(-1), encoder)]


def policy_of(parameter: Any) -> Policy:
    """Return the policy of a parameter: "table", "greedy", a function or an array."""
    if isinstance(parameter, str):
        return {"table": RecordedPolicy, "greedy": GreedyPolicy}[parameter]()
    return FunctionPolicy(parameter) if callable(parameter) else ArrayPolicy(parameter)


def _policy_table(policy: Any, states: np.ndarray, actions: LabelEncoder | None) -> np.ndarray:
    """Return a policy's table as an array. Columns of a frame are matched with the actions.

    Its index is matched with the labels of states, if it has them.
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

    If states are whole numbers, row i is that of state i. Else rows follow the sorted labels.
    """
    codes, labels = encoder.codes(states), encoder.labels
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < n_rows:
        return states.astype(np.int64)
    if n_rows != len(labels):
        raise ValueError(f"policy has {n_rows} rows, but there are {len(labels)} states.")
    return codes
