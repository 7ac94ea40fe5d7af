"""Questions to fitted laws, with states and actions as a user has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skbellman.fields import DensityField
from skbellman.returns.columns import Names, named_cells
from skbellman.returns.encoding import DecisionSpace, check_rows
from skbellman.returns.fields import ReturnField
from skbellman.returns.laws import TabulatedLaws
from skbellman.returns.policies import Policy


@dataclass(frozen=True)
class Questions:
    """What is asked of fitted laws.

    Attributes
    ----------
    field : ReturnField
    space : DecisionSpace
    policy : Policy
        That takes the first action where none is given.
    device : torch.device
        Of the field.
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
        """Return the laws, seen at the noise level or without it."""
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
    def worth(self, observation: Any, risk: str | tuple[str, float]) -> np.ndarray:
        """Return how good each action is in one state, (n_actions,).

        Raises
        ------
        ValueError
            For a risk that is none.
        """
        inputs = self._inputs(self._one_state(observation), None)
        match risk:
            case "mean":
                return self.field.means(inputs).cpu().numpy()[0]
            case tuple(("cvar", alpha)):
                each = torch.eye(self.space.n_actions).to(inputs)
                repeated = inputs.repeat(len(each), 1)
                return self.field.tabulated(repeated, each, with_noise=False).cvar(
                    checked_share(alpha)
                )
        raise ValueError(f'risk must be "mean" or ("cvar", alpha), got {risk!r}.')

    def _asked(self, states: Any, actions: Any) -> tuple[Tensor, Tensor]:
        rows = self.space.features.asked(states, self.space.state_names)
        if actions is not None:
            actions = check_rows("actions", actions, len(rows), self.space.action_names)
        return self._in_order(rows, actions)

    def _in_order(self, states: Any, actions: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """Return states, and probabilities of first actions, as the field takes them."""
        inputs = self._inputs(states, actions)
        n_actions = self.space.n_actions
        if actions is not None or n_actions == 1:
            first = np.eye(n_actions)[self.space.codes(actions, len(states))]
        else:
            first = self.policy.first(states, inputs, self.field, self.space)
        return inputs, torch.as_tensor(first).to(inputs)

    def _inputs(self, states: Any, actions: np.ndarray | None) -> Tensor:
        encoded = self.space.inputs(states, actions)
        return torch.as_tensor(encoded, dtype=torch.float32, device=self.device)

    def _one_state(self, observation: Any) -> Any:
        """Return one state, which may be a row of a frame, as rows in the order of fit."""
        names = self.space.state_names
        rows = self.space.features.asked(_as_rows(observation, names), names)
        if len(rows) != 1:
            raise ValueError(f"one state is asked for, but there are {len(rows)} rows.")
        return rows

    def _one_action(self, action: Any) -> np.ndarray:
        """Return one action, which may be a row of a frame, as an array of actions."""
        names = self.space.action_names
        return check_rows("actions", _as_rows(action, names), 1, names)


def checked_share(alpha: float) -> float:
    """Return a share of the worst returns.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be above 0 and at most 1, got {alpha!r}.")
    return alpha


def checked_mask(mask: Any, n_actions: int) -> np.ndarray:
    """Return which actions there are, (n_actions,).

    Raises
    ------
    ValueError
        If there is none, or they are of another number.
    """
    flags = np.asarray(mask).astype(bool)
    if flags.shape != (n_actions,) or not flags.any():
        raise ValueError(f"action_mask must hold {n_actions} flags, one at least true, got {mask}.")
    return flags


def _as_rows(row: Any, names: Names) -> Any:
    """Return one row as rows, by the names of its cells if there were names in fit."""
    cells = None if names is None else named_cells(row)
    return [row] if cells is None else cells
