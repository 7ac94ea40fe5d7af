"""Questions to fitted laws, with states and actions as the user passes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skbellman.fields import DensityField
from skbellman.returns.columns import Names, named_cells
from skbellman.returns.encoding import DecisionSpace, check_rows, flags_of
from skbellman.returns.fields import ReturnField
from skbellman.returns.laws import TabulatedLaws
from skbellman.returns.policies import Policy
from skbellman.returns.risk import share_of


@dataclass(frozen=True)
class Questions:
    """Questions to fitted laws.

    Attributes
    ----------
    field : ReturnField
    space : DecisionSpace
    policy : Policy
        It takes the first action if none is given.
    device : torch.device
        Device of the field.
    """

    field: ReturnField
    space: DecisionSpace
    policy: Policy
    device: torch.device

    @torch.no_grad()
    def means(self, states: Any, actions: Any) -> np.ndarray:
        """Return the expected returns, (n,)."""
        inputs, first = self._asked(states, actions)
        return self.field.moments(inputs, first)[0].double().cpu().numpy()

    def laws(self, states: Any, actions: Any, with_noise: bool) -> TabulatedLaws:
        """Return the laws, with the noise of their level or without it."""
        return self.field.tabulated(*self._asked(states, actions), with_noise)

    def laws_of_rows(self, states: Any, actions: np.ndarray | None) -> TabulatedLaws:
        """Return the laws without noise, of states and actions in the order of fit."""
        return self.field.tabulated(*self._in_order(states, actions), with_noise=False)

    @torch.no_grad()
    def law(self, state: Any, action: Any) -> DensityField:
        """Return the law in one state, after one action if there is a choice."""
        actions = None if action is None else self._one_action(action)
        inputs = self._inputs(self._one_state(state), actions)
        return self.field.law(inputs[0], int(self.space.codes(actions, 1)[0]))

    @torch.no_grad()
    def act(self, observation: Any, risk: str | tuple[str, float], mask: Any) -> Any:
        """Return the best action in one state, or in each of several, (n, ...).

        Raises
        ------
        ValueError
            For an unknown risk, or a mask of another shape.
        """
        if not self.space.features.is_one(observation):
            return self.best_actions(observation, risk, mask)
        return self.space.choices.one(self._chosen(self._one_state(observation), risk, mask))

    @torch.no_grad()
    def best_actions(self, states: Any, risk: Any, mask: Any = None) -> np.ndarray:
        """Return the best actions in several states, (n, ...)."""
        return self.space.choices.taken(self._chosen(self._states(states), risk, mask))

    def _chosen(self, states: Any, risk: Any, mask: Any) -> np.ndarray:
        """Return the best actions in states in the order of fit, as codes or numbers."""
        share, inputs = share_of(risk), self._tensor(self.space.features(states))
        return self._numbers(inputs, mask) if self.field.acts else self._best(inputs, share, mask)

    def _numbers(self, states: Tensor, mask: Any) -> np.ndarray:
        """Return the actor's actions, (n, n_numbers)."""
        if mask is not None:
            raise ValueError("action_mask needs actions that are labels; here they are numbers.")
        return self.field.actions(states).double().cpu().numpy()

    def _best(self, states: Tensor, share: float, mask: Any) -> np.ndarray:
        """Return the best actions, (n,), by the mean of the worst share of returns."""
        if share == 1:
            worth = self.field.means(states).cpu().numpy()
        else:
            worth = self.field.worst(states, share)
        if mask is not None:
            worth = np.where(checked_mask(mask, worth.shape), worth, -np.inf)
        return worth.argmax(1)

    def _asked(self, states: Any, actions: Any) -> tuple[Tensor, Tensor]:
        rows = self._states(states)
        if actions is not None:
            actions = check_rows("actions", actions, len(rows), self.space.action_names)
        return self._in_order(rows, actions)

    def _in_order(self, states: Any, actions: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """Return states, and probabilities of first actions, as inputs of the field."""
        if actions is None and self.space.action_features is not None:
            actions = self.policy.own_numbers(states, self.space)
        inputs = self._inputs(states, actions)
        n_actions = self.space.n_actions
        if actions is not None or n_actions == 1:
            first = np.eye(n_actions)[self.space.codes(actions, len(states))]
        else:
            first = self.policy.first(states, inputs, self.field, self.space)
        return inputs, torch.as_tensor(first).to(inputs)

    def _inputs(self, states: Any, actions: np.ndarray | None) -> Tensor:
        if actions is None and self.field.acts:
            return self.field.with_own_actions(self._tensor(self.space.features(states)))
        return self._tensor(self.space.inputs(states, actions))

    def _tensor(self, encoded: np.ndarray) -> Tensor:
        return torch.as_tensor(encoded, dtype=torch.float32, device=self.device)

    def _states(self, states: Any) -> Any:
        """Return states in the order of fit."""
        return self.space.features.asked(states, self.space.state_names)

    def _one_state(self, observation: Any) -> Any:
        """Return one state, which may be a row of a frame, as rows in the order of fit."""
        rows = self._states(_as_rows(observation, self.space.state_names))
        if len(rows) != 1:
            raise ValueError(f"Expected one state, got {len(rows)} rows.")
        return rows

    def _one_action(self, action: Any) -> np.ndarray:
        """Return one action, which may be a row of a frame, as an array of actions."""
        names = self.space.action_names
        return check_rows("actions", _as_rows(action, names), 1, names)


def checked_mask(mask: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return which actions are available, (n, n_actions), or (n_actions,) for all states.

    Raises
    ------
    ValueError
        If no action is available, the shape is wrong, or it holds anything but 0 and 1.
    """
    flags = flags_of(mask, "action_mask")
    if flags.shape not in (shape[1:], shape) or not flags.any(-1).all():
        raise ValueError(f"action_mask must hold {shape[1]} flags, one at least true, got {mask}.")
    return flags


def _as_rows(row: Any, names: Names) -> Any:
    """Return one row as a table, matched by the names of its cells if fit had names."""
    cells = None if names is None else named_cells(row)
    return [row] if cells is None else cells
