"""An actor, which chooses numbers as actions, and its critics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.fields import BasisReturnField
from skbellman.returns.perceptron import Pass, perceptron


class Actor(nn.Module):
    """A network from states to actions, numbers from -1 to 1.

    Parameters
    ----------
    n_inputs : int
        Width of a state.
    hidden : sequence of int
        Units of the hidden layers.
    n_numbers : int
        Numbers of an action.
    """

    def __init__(self, n_inputs: int, hidden: Sequence[int], n_numbers: int) -> None:
        super().__init__()
        self.network = perceptron(n_inputs, hidden, n_numbers)

    def forward(self, states: Tensor) -> Tensor:
        """Return actions, (n, n_numbers)."""
        return self.network(states).tanh()

    def actions_and_back(self, states: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Return actions, and a function from slopes by them to gradients of the network."""
        taken = Pass(self.network, states)
        actions = taken.outputs.tanh()

        def back(slopes: Tensor) -> None:
            taken.set_gradients(slopes * (1 - actions.square()))

        return actions, back


class ActorCriticField(BasisReturnField):
    """The laws of returns by twin critics, and the actor that chooses actions by them.

    An input is a state with an action. The law is the mixture of the critics' in equal parts.

    Parameters
    ----------
    actor : Actor
    critics : sequence of BasisReturnField
        They share one basis, and give one law for each input.
    """

    acts: ClassVar[bool] = True
    actor: Any
    critics: Any

    def __init__(self, actor: Actor, critics: Sequence[BasisReturnField]) -> None:
        nn.Module.__init__(self)
        self.n_actions, self.basis, self.actor = 1, critics[0].basis, actor
        self.critics = nn.ModuleList(critics)

    def _raw(self, states: Tensor) -> Tensor:
        return torch.stack([critic._raw(states) for critic in self.critics]).mean(0)

    def actions(self, states: Tensor) -> Tensor:
        """Return the actor's actions, (n, n_numbers)."""
        chosen: Tensor = self.actor(states)
        return chosen

    def twins(self, inputs: Tensor) -> Tensor:
        """Return the coordinates u of each critic, (2, n, K)."""
        raw = torch.stack([critic._raw(inputs).squeeze(1) for critic in self.critics])
        return self.basis.with_unit_mass(raw)

    @torch.no_grad()
    def move_to(self, basis: GaussianBasis) -> None:
        """Change the basis, keeping the laws."""
        for critic in self.critics:
            critic.move_to(basis)
        self.basis = basis

    @property
    def last_layer(self) -> Any:
        """The layers that give the coordinates of each critic."""
        return nn.ModuleList([critic.last_layer for critic in self.critics])

    def restore(self, state: Any) -> None:
        """Go back to the laws, the actor and the basis of a snapshot."""
        super().restore(state)
        for critic in self.critics:
            critic.basis = self.basis
