"""Fields of the return given state and action, with networks shared across states."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from skbellman.fields import DensityField
from skbellman.returns.basis import GaussianBasis, change_of_basis
from skbellman.returns.batch import Batch
from skbellman.returns.bellman import mass_beyond
from skbellman.returns.laws import BasisLaw, TabulatedLaws
from skbellman.returns.perceptron import Pass, perceptron
from skbellman.returns.risk import Statistic, worst_of_atoms
from skbellman.returns.simplex import law_of_mean


class ReturnField(nn.Module, ABC):
    """Laws of the return for each state and action, as fields.

    Attributes
    ----------
    n_actions : int
    bounds : tuple of float
        Least and largest possible return.
    is_table : bool
        Whether each of finitely many states has its own law.
    goes_on : bool
        Whether the field can continue to learn from new steps.
    acts : bool
        Whether the field has an actor, which chooses numbers as actions.
    tail : float
        The density is cut off so many noise levels beyond the outermost places.
    n_cells : int
        Laws are tabulated on a grid with so many cells per noise level.
    """

    n_actions: int
    bounds: tuple[float, float] = (-math.inf, math.inf)
    is_table: ClassVar[bool] = False
    goes_on: ClassVar[bool] = True
    acts: ClassVar[bool] = False
    tail: ClassVar[float] = 4.0
    n_cells: ClassVar[int] = 4

    @abstractmethod
    def means(self, states: Tensor) -> Tensor:
        """Return the expected returns, (n, n_actions)."""

    def best(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the available actions with the largest expected return, (n,)."""
        return largest(self.means(states), mask)

    @abstractmethod
    def density(self, states: Tensor, policy: Tensor, x: Tensor) -> Tensor:
        """Return the density at x, of shape (m,), under actions of a policy, (n, n_actions): (n, m).

        It is linear in the policy, and may be slightly negative. Places x are in units of each
        state's frame.
        """  # noqa: E501 - one sentence

    @abstractmethod
    def law(self, state: Tensor, action: int) -> DensityField:
        """Return the law in one state, of shape (n_inputs,), after one action."""

    @abstractmethod
    def support(self) -> tuple[float, float, float]:
        """Return the ends of the density and the noise level, in units of the frames."""

    @property
    def trunk(self) -> nn.Sequential | None:
        """The layers from states to features, if there are any."""
        return None

    def by_frames(self, states: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the solved expected returns, (n, n_actions), and scales of frames, (n,).

        None if states have no frames.
        """
        return None

    def mass_beyond(self, batch: Batch, discount: float) -> float:
        """Return the mean mass of backed-up laws beyond the ends, under the batch's policy.

        The batch is in units of the frames. It is 0 if laws have no basis.
        """
        return 0.0

    def actions(self, states: Tensor) -> Tensor:
        """Return the actions of the actor, (n, n_numbers), if there is one."""
        raise NotImplementedError

    def with_own_actions(self, states: Tensor) -> Tensor:
        """Return states joined with the actor's actions, as inputs of its critics."""
        return torch.cat([states, self.actions(states)], -1)

    def frame(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre and the scale of each state's frame, (n,) each, in float64."""
        centre = states.new_zeros(len(states), dtype=torch.float64)
        return centre, torch.ones_like(centre)

    def moments(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the means under actions of a policy, and the deviations if solved for."""
        return (policy * self.means(states)).sum(-1), None

    def snapshot(self) -> Any:
        """Return a snapshot for `restore`."""
        return copy.deepcopy(self.state_dict())

    def restore(self, state: Any) -> None:
        """Go back to the laws of a snapshot."""
        self.load_state_dict(state)

    @torch.no_grad()
    def reach(self, states: Tensor) -> tuple[float, float, float]:
        """Return the ends of the densities in some states, and the mean noise level."""
        low, high, level = self.support()
        if not len(states):
            return low, high, level
        centre, scale = self.frame(states)
        least, most = (centre + scale * low).amin(), (centre + scale * high).amax()
        return float(least), float(most), level * float(scale.mean())

    @torch.no_grad()
    def worst(self, states: Tensor, share: float) -> np.ndarray:
        """Return the means of the worst share of the returns of each action, (n, n_actions)."""
        each = torch.eye(self.n_actions).to(states).repeat(len(states), 1)
        rows = states.repeat_interleave(self.n_actions, 0)
        laws = self.tabulated(rows, each, with_noise=False)
        return laws.cvar(share).reshape(len(states), -1)

    @torch.no_grad()
    def tabulated(self, states: Tensor, policy: Tensor, with_noise: bool) -> TabulatedLaws:
        """Return the laws under actions of a policy, seen at the noise level or without it."""
        low, high, level = self.support()
        edges = np.linspace(low, high, self.n_cells * math.ceil((high - low) / level) + 1)
        middles = torch.as_tensor((edges[1:] + edges[:-1]) / 2, device=states.device)
        density = self.density(states, policy, middles)
        centre, scale = (part.cpu().numpy() for part in self.frame(states))
        solved, spread = self.moments(states, policy)
        mean = solved.double().cpu().numpy()
        deviation = None if spread is None else spread.double().cpu().numpy()
        laws = TabulatedLaws(edges, density.cpu().numpy(), centre, scale)
        if not with_noise:
            return laws.without_noise(level).placed(mean, deviation, self.bounds)
        if deviation is not None:
            deviation = np.hypot(deviation, level * scale)
        return laws.moved_to(mean, deviation)


def largest(means: Tensor, mask: Tensor | None) -> Tensor:
    """Return the available actions with the largest means, (n,)."""
    return (means if mask is None else means.masked_fill(~mask, -torch.inf)).argmax(-1)


def _chosen(outputs: Tensor, actions: Tensor) -> Tensor:
    """Return the outputs of one action a row, (n, K), out of all, (n, n_actions, K)."""
    # This takes a third of the time of an index of rows and actions.
    return outputs.flatten(0, 1).index_select(0, rows_of(actions, outputs.shape[1]))


def rows_of(actions: Tensor, n_actions: int) -> Tensor:
    """Return the flat index of each row's action, (n,)."""
    return _firsts(len(actions), n_actions, actions.device) + actions


@lru_cache(maxsize=8)
def _firsts(n: int, n_actions: int, device: torch.device) -> Tensor:
    return torch.arange(0, n * n_actions, n_actions, device=device)


class BasisReturnField(ReturnField):
    """A network from states to the coordinates of a law for each action.

    Parameters
    ----------
    n_inputs : int
        Width of a state.
    n_actions : int
    hidden : sequence of int
        Units of the hidden layers.
    basis : GaussianBasis
        Basis of the laws, the same in every state.
    """

    def __init__(
        self, n_inputs: int, n_actions: int, hidden: Sequence[int], basis: GaussianBasis
    ) -> None:
        super().__init__()
        self.n_actions, self.basis = n_actions, basis
        self.network = perceptron(n_inputs, hidden, n_actions * basis.size)
        self._begin_in_the_middle()

    @torch.no_grad()
    def _begin_in_the_middle(self) -> None:
        """Start every law as roughly one narrow peak in the middle of the basis.

        Otherwise laws would be backed up from beyond the ends again and again, and widen the
        support. Weights are a tenth of torch's.
        """
        last, coordinates = self.last_layer, _peak_in_the_middle(self.basis)
        last.bias.copy_(coordinates.expand(self.n_actions, -1).flatten())
        last.weight.mul_(0.1)

    def forward(self, states: Tensor) -> Tensor:
        """Return coordinates u of mass 1, (n, n_actions, K)."""
        return self.basis.with_unit_mass(self._raw(states))

    def coordinates(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return the coordinates u of one action in each state, (n, K)."""
        return self.basis.with_unit_mass(_chosen(self._raw(states), actions))

    def coordinates_and_back(
        self, states: Tensor, actions: Tensor
    ) -> tuple[Tensor, Callable[[Tensor, float], None]]:
        """Return coordinates, and a function from slopes by them to gradients of the network.

        Slopes have shape (n, K) and a factor.
        """
        taken = Pass(self.network, states)
        shape = len(actions) * self.n_actions, self.basis.size
        rows = rows_of(actions, self.n_actions)

        def back(slopes: Tensor, factor: float) -> None:
            slopes = self.basis.without_mass(slopes, factor)
            if self.n_actions > 1:
                slopes = slopes.new_zeros(shape).index_copy_(0, rows, slopes)
            taken.set_gradients(slopes.view_as(taken.outputs))

        found = taken.outputs.view(shape).index_select(0, rows)
        return self.basis.with_unit_mass(found), back

    def slopes_by_inputs(self, states: Tensor, statistic: Statistic) -> Tensor:
        """Return the slopes, (n, n_inputs), of a statistic of the first action's laws."""
        taken = Pass(self.network, states)
        coordinates = self.basis.with_unit_mass(taken.outputs)
        _, slopes = statistic(self.basis, coordinates)
        return taken.slopes_by_inputs(self.basis.without_mass(slopes))

    def best_coordinates(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the coordinates u of the best action in each state, (n, K)."""
        raw = self._raw(states)
        # Means of raw coordinates are means of laws, up to a constant.
        best = largest(self.basis.gaps_of_means(raw), mask)
        return self.basis.with_unit_mass(_chosen(raw, best))

    def mixed(self, states: Tensor, policy: Tensor) -> Tensor:
        """Return the coordinates u of the laws under a policy, (n, n_actions): (n, K)."""
        # This is three times as fast as a batched product of small matrices.
        return self.basis.with_unit_mass((policy.unsqueeze(-1) * self._raw(states)).sum(1))

    def _raw(self, states: Tensor) -> Tensor:
        return self.network(states).unflatten(-1, (self.n_actions, self.basis.size))

    def weights(self, states: Tensor) -> Tensor:
        """Return the weights w, (n, n_actions, K)."""
        return self.basis.weights(self(states))

    def means(self, states: Tensor) -> Tensor:
        """Return the expected returns, exact for the density, (n, n_actions)."""
        return self.basis.means(self(states))

    def density(self, states: Tensor, policy: Tensor, x: Tensor) -> Tensor:
        """Return the density at x under actions of a policy, (n, m)."""
        weights = (policy.unsqueeze(1) @ self.weights(states)).squeeze(1)
        return self.basis.density(weights, x)

    @torch.no_grad()
    def worst(self, states: Tensor, share: float) -> np.ndarray:
        """Return the means of the worst share of the returns of each action, (n, n_actions).

        They are those of the nearest laws of atoms at the centres, which contain no noise.
        """
        places = worst_of_atoms(self.basis, law_of_mean(self.weights(states)), share)
        centre, scale = (part.unsqueeze(-1) for part in self.frame(states))
        return (centre + scale * places).clamp(*self.bounds).cpu().numpy()

    def support(self) -> tuple[float, float, float]:
        """Return the ends of the density, and the noise level."""
        room = self.tail * self.basis.level
        return self.basis.low - room, self.basis.high + room, self.basis.level

    def law(self, state: Tensor, action: int) -> DensityField:
        """Return the law in one state, of shape (n_inputs,), after one action."""
        states = state.unsqueeze(0)
        weights = self.weights(states)[0, action]
        policy = one_hot(torch.tensor([action], device=state.device), self.n_actions).to(state)
        scale = float(self.frame(states)[1])
        mean = float(self.moments(states, policy)[0])
        own = float(weights.double() @ self.basis.centres.to(weights.device))
        return BasisLaw(self.basis.moved(mean - scale * own, scale), weights)

    @torch.no_grad()
    def move_to(self, basis: GaussianBasis) -> None:
        """Change the basis and keep the laws: the last layer is transformed."""
        matrix, shift = (
            part.to(self.last_layer.weight) for part in change_of_basis(self.basis, basis)
        )
        last = self.last_layer
        weight = last.weight.unflatten(0, (self.n_actions, self.basis.size))
        bias = last.bias.unflatten(0, (self.n_actions, self.basis.size))
        last.weight.copy_((matrix @ weight).flatten(0, 1))
        last.bias.copy_((bias @ matrix.T + shift).flatten())
        self.basis = basis

    def snapshot(self) -> Any:
        """Return a snapshot for `restore`, with the basis."""
        return super().snapshot(), self.basis

    def restore(self, state: Any) -> None:
        """Go back to the laws and the basis of a snapshot."""
        weights, self.basis = state
        super().restore(weights)

    @torch.no_grad()
    def mass_beyond(self, batch: Batch, discount: float) -> float:
        """Return the mean mass of backed-up laws beyond the ends, under the batch's policy."""
        assert batch.policy is not None
        each = self.weights(batch.next_state)
        weights = (batch.policy.to(each).unsqueeze(1) @ each).squeeze(1)
        parts = batch.reward.to(weights), batch.discounts(discount).to(weights), weights
        return float(mass_beyond(self.basis, *parts).mean())

    @property
    def trunk(self) -> nn.Sequential | None:
        """The layers from states to features, if there are any."""
        return nn.Sequential(*list(self.network)[:-1]) if len(self.network) > 1 else None

    @property
    def last_layer(self) -> nn.Linear:
        """The layer that gives the coordinates, before their mass is fixed."""
        return cast("nn.Linear", self.network[-1])


class TabularReturnField(BasisReturnField):
    """A table of laws, one for each state and action. A state is the one-hot flags of one label.

    Parameters
    ----------
    n_states, n_actions : int
    basis : GaussianBasis
        Basis of the laws, the same in every state.
    unit : float
        Unit of the returns on the basis.

    Attributes
    ----------
    laws : tensor of shape (n_states, n_actions, K)
        Coordinates u.
    known : tensor of bool, shape (n_states, n_actions)
        Which laws were assigned.
    solved : tensor of shape (2, n_states, n_actions), float64, or None
        Means and deviations from linear equations. They replace those of the laws.
    """

    is_table = True
    laws: nn.Parameter
    known: Tensor
    solved: Tensor | None

    def __init__(
        self, n_states: int, n_actions: int, basis: GaussianBasis, unit: float = 1.0
    ) -> None:
        nn.Module.__init__(self)
        self.n_actions, self.basis, self.unit = n_actions, basis, unit
        self.laws = nn.Parameter(torch.empty(n_states, n_actions, basis.size))
        self.register_buffer("known", torch.zeros(n_states, n_actions, dtype=torch.bool))
        self.register_buffer("solved", None)
        with torch.no_grad():
            self.laws.copy_(_peak_in_the_middle(basis))

    def _raw(self, states: Tensor) -> Tensor:
        return self.laws[states.argmax(-1)]

    @torch.no_grad()
    def set_solved(self, weights: Tensor, mean: Tensor, deviation: Tensor) -> None:
        """Set all laws: weights of shape (n_pairs, K), and solved moments, (n_pairs,)."""
        shape = self.known.shape
        self.laws.copy_(self.basis.coordinates(weights).view(*shape, -1))
        self.solved = torch.stack([mean.view(shape), deviation.view(shape)]).to(self.laws.device)

    def means(self, states: Tensor) -> Tensor:
        """Return the expected returns, (n, n_actions)."""
        if self.solved is None:
            return super().means(states)
        return self.solved[0, states.argmax(-1)]

    @torch.no_grad()
    def worst(self, states: Tensor, share: float) -> np.ndarray:
        """Return the means of the worst share of the returns of each action, (n, n_actions)."""
        if self.solved is None:
            return super().worst(states, share)
        weights = law_of_mean(self.weights(states)).double()
        centres = self.basis.centres.to(weights)
        own, worst = weights @ centres, worst_of_atoms(self.basis, weights, share)
        spread = (weights @ centres.square() - own.square()).clamp(min=1e-300).sqrt()
        mean, deviation = self.solved[:, states.argmax(-1)]
        return (mean + deviation * (worst - own) / spread).clamp(*self.bounds).cpu().numpy()

    def frame(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre and the scale of each state's frame: 0, and the unit."""
        centre, scale = super().frame(states)
        return centre, self.unit * scale

    def moments(self, states: Tensor, policy: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the means under actions of a policy, and the deviations if solved for."""
        if self.solved is None:
            return super().moments(states, policy)
        mean, deviation = self.solved[:, states.argmax(-1)]
        shares = policy.double()
        mixed = (shares * mean).sum(-1)
        spread = torch.hypot(deviation, mean - mixed.unsqueeze(-1)) / self.unit
        return mixed, self.unit * (shares * spread.square()).sum(-1).sqrt()

    @torch.no_grad()
    def move_to(self, basis: GaussianBasis) -> None:
        """Change the basis, keeping the laws."""
        matrix, shift = (part.to(self.laws) for part in change_of_basis(self.basis, basis))
        self.laws.copy_(self.laws @ matrix.T + shift)
        self.basis = basis

    @torch.no_grad()
    def assign(self, pairs: Tensor, laws: Tensor) -> Tensor:
        """Set some of the laws, and return their squared change.

        Parameters
        ----------
        pairs : tensor of int, shape (n,)
            State times n_actions, plus action.
        laws : tensor of shape (n, K)
            Coordinates u.
        """
        own = self.laws.flatten(0, 1)
        change = (own[pairs] - laws).square().sum(-1).mean()
        own[pairs] = laws
        self.known.view(-1)[pairs] = True
        return change

    @torch.no_grad()
    def suppose(self, law: Tensor | None = None) -> None:
        """Set the law, (K,), of every pair that was never assigned one.

        By default it is the mean of the state's other actions, neither the best nor the worst.
        """
        known = self.known.unsqueeze(-1)
        if law is None:
            n_known = known.sum(1, keepdim=True)
            mean = (self.laws * known).sum(1, keepdim=True) / n_known.clamp(min=1)
            supposed = torch.where(n_known > 0, mean, self.laws)
        else:
            supposed = law.expand_as(self.laws)
        self.laws.copy_(torch.where(known, self.laws, supposed))


def _peak_in_the_middle(basis: GaussianBasis, width: float = 2.0) -> Tensor:
    """Return the coordinates, (1, K), of roughly one narrow peak in the middle of the basis.

    Its width is in spacings.
    """
    peak = 0.5 * (basis.low + basis.high) + width * basis.spacing * torch.randn(1, 1000)
    return basis.project(peak, torch.full_like(peak, 1e-3))
