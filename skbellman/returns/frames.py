r"""A frame for each state: its return is :math:`Z = m + d U`, with U of unit scale everywhere.

Centres m and scales d are linear in features of the state, and solve linear equations for the mean
and the variance of returns. A step of the process is then one of U, whose reward and discount
depend on the row:

.. math:: U = \frac{r + \gamma m' - m}{d} + \frac{\gamma d'}{d} U'.

Errors of the frames are no errors of the laws: U makes up for them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.batch import Batch
from skbellman.returns.fields import BasisReturnField, largest, rows_of
from skbellman.returns.perceptron import Pass

# Standard deviations that a frame covers.
REACH = 6.0
# Largest number of rows that frames are fitted to, and rows of one block.
_MAX_ROWS, _CHUNK = 30_000, 4096
# The ridge of features of numbers weighs as much as one of these numbers of rows, at most a share
# of all rows. Held-out rows choose. See doc/decisions/laws-in-frames.md.
_PRIORS = ((100.0, 0.01), (1000.0, 0.1))


class Frames(nn.Module):
    """Centres and scales of returns, linear in features of a state.

    Parameters
    ----------
    features : Features
    n_actions : int
    bounds : tuple of float
        Bounds of returns, in the unit.
    unit : float
        Unit of returns.

    Attributes
    ----------
    coefficients : tensor of shape (2, n_actions, d), float64
        Coefficients of the means and the variances, in the unit.
    least : tensor of shape (), float64
        Least deviation, in the unit.
    """

    coefficients: Tensor
    least: Tensor

    def __init__(
        self, features: Features, n_actions: int, bounds: tuple[float, float], unit: float
    ) -> None:
        super().__init__()
        self.features, self.n_actions = features, n_actions
        self.bounds, self.unit = bounds, unit
        shape = (2, n_actions, features.width)
        self.register_buffer("coefficients", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("least", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre and the scale of each state's frame, (n,) each, float64.

        They are those of the uniform mixture of its actions.
        """
        means, variances = self.linear(self.features(states))
        centre = means.mean(-1)
        spread = variances + (means - centre.unsqueeze(-1)).square()
        return self.unit * centre, self.unit * spread.mean(-1).sqrt()

    def reaching(self, states: Tensor, beyond: float = 0.4) -> tuple[Tensor, Tensor]:
        """Return centres and scales whose frames end soon after the bounds of returns.

        A margin of so many scales is left beyond the bounds.
        """
        centre, scale = self(states)
        low, high = (self.unit * bound for bound in self.bounds)
        farthest = torch.maximum(centre - low, high - centre)
        needed = (farthest / (REACH - beyond)).clamp(min=self.unit * float(self.least))
        return centre, torch.minimum(scale, needed)

    @torch.no_grad()
    def means(self, states: Tensor) -> Tensor:
        """Return the means of each action, (n, n_actions), float64."""
        return self.unit * self.linear(self.features(states))[0]

    def linear(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and variances of each action in the unit, (n, n_actions) each, float64."""
        means, variances = features.double() @ self.coefficients.transpose(1, 2)
        return means.clamp(*self.bounds), variances.clamp(min=float(self.least) ** 2)


class Features(nn.Module):
    """Features of a state: the state itself, random hyperbolic tangents, and units of a network.

    Parameters
    ----------
    n_inputs : int
    n_random : int
    generator : torch.Generator
        Generator of the random features.
    trunk : module, optional
        A trained module from states to more features. Its weights are fixed.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        n_inputs: int,
        n_random: int,
        generator: torch.Generator,
        trunk: nn.Sequential | None = None,
    ) -> None:
        super().__init__()
        draws = torch.randn(n_inputs + 1, n_random, generator=generator, device=generator.device)
        self.register_buffer("weight", draws[:-1])
        self.register_buffer("bias", draws[-1])
        self.trunk = trunk
        probe = torch.zeros(1, n_inputs, device=draws.device)
        n_units = 0 if trunk is None else trunk(probe).shape[1]
        self.width: int = 1 + n_inputs + n_random + n_units

    def forward(self, states: Tensor) -> Tensor:
        """Return features, (n, width)."""
        parts = [torch.ones_like(states[:, :1]), states]
        parts.append(torch.tanh(states @ self.weight + self.bias))
        if self.trunk is not None:
            parts.append(self.trunk(states))
        return torch.cat(parts, -1)


class TemporalDifferences:
    r"""Least squares temporal differences (Bradtke and Barto, 1996) for some rows of a table.

    Features :math:`\phi` of the state and action, and a quantity x that is linear in them:
    :math:`E[\phi (c - x + \gamma^k x')] = 0` for a target c.

    Parameters
    ----------
    frames : Frames
        Frames whose coefficients are set.
    steps : Batch
        Rewards in units of the return.
    gamma : float
    ridge : float
        Ridge of the equations, relative to the mean square of a feature.
    """

    def __init__(self, frames: Frames, steps: Batch, gamma: float, ridge: float) -> None:
        some = torch.randperm(len(steps.action), generator=torch.Generator().manual_seed(0))
        self.frames, self.gamma, self.ridge = frames, gamma, ridge
        self.steps = steps.take(some[:_MAX_ROWS].to(steps.action.device))
        self.now, self.next = (
            torch.cat([frames.features(part).float() for part in states.split(_CHUNK)])
            for states in (self.steps.state, self.steps.next_state)
        )
        self.actions = one_hot(self.steps.action, frames.n_actions).double()
        self.onwards = gamma * self.steps.follows.double()
        self.reward = self.steps.reward.double() / frames.unit

    def solve(self, n_policies: int = 8, least_scale: float = 0.05, rounding: float = 1e-4) -> None:
        """Solve for the coefficients of the mean, then of the variance and its least value.

        The best policy is found by policy iteration (Lagoudakis and Parr, JMLR 2003).

        Parameters
        ----------
        n_policies : int
            Largest number of policies.
        least_scale : float
            Least deviation of a frame, relative to the root of the mean variance.
        rounding : float
            The same relative to the largest mean: float32 cannot resolve smaller differences.
        """
        coefficients, reward = self.frames.coefficients, self.reward
        for _ in range(n_policies if self.steps.policy is None else 1):
            before = coefficients[0].clone()
            coefficients[0] = self._solution(1, reward)
            if torch.allclose(before, coefficients[0]):
                break
        self.frames.least.zero_()
        coefficients[1] = self._solution(2, self._squared_errors())
        variance = (self.actions * self.frames.linear(self.now)[1]).sum(-1)
        scale = max(float(self.frames.linear(self.now)[0].abs().max()), float(reward.abs().max()))
        least = max(least_scale * float(variance.mean().sqrt()), rounding * scale)
        self.frames.least.fill_(least or rounding)
        self._widen()

    def _widen(self, beyond: float = 0.003, reach: float = REACH - 1.0) -> None:
        """Widen all frames until they cover the errors of all but so many steps.

        Where returns have hardly any variance, a ridge leaves larger errors than frames are wide.
        """
        variance = (self.actions * self.frames.linear(self.now)[1]).sum(-1)
        ratio = (self._squared_errors() / variance).sort().values
        farthest = float(ratio[int((1 - beyond) * (len(ratio) - 1))])
        growth = max(farthest / reach**2, 1.0)
        self.frames.coefficients[1] *= growth
        self.frames.least *= math.sqrt(growth)

    def _squared_errors(self) -> Tensor:
        """Return the squared error of each step, with the variance of the next action."""
        own = (self.actions * self.frames.linear(self.now)[0]).sum(-1)
        following, policy = self.frames.linear(self.next)[0], self._policy()
        expected = (policy * following).sum(-1)
        spread = (policy * (following - expected.unsqueeze(-1)).square()).sum(-1)
        error = self.reward + self.onwards * expected - own
        return error.square() + self.onwards.square() * spread

    def _policy(self) -> Tensor:
        """Return the probabilities of the next actions, or of the best ones by the means."""
        if self.steps.policy is not None:
            return self.steps.policy.double()
        best = largest(self.frames.linear(self.next)[0], self.steps.mask)
        return one_hot(best, self.frames.n_actions).double()

    def choose_ridge(self, candidates: Sequence[float]) -> None:
        """Take the ridge whose means solve the equations of held-out rows best.

        Either half of the rows is held out. The policy is that of the coefficients.
        """
        half = len(self.reward) // 2
        if half == 0:
            return
        halves = torch.arange(2 * half, device=self.reward.device).split(half)
        first, second = ((self._equations(1, self.reward, r), self._square(r)) for r in halves)

        def error(ridge: float) -> float:
            pairs = (first, second), (second, first)
            return sum(
                held.error(own.solution(ridge), square) for (own, _), (held, square) in pairs
            )

        self.ridge = min(candidates, key=error)

    def _solution(self, power: int, target: Tensor) -> Tensor:
        """Return the coefficients, (n_actions, d), for the target of each step."""
        rows = torch.arange(len(target), device=target.device)
        return self._equations(power, target, rows).solution(self.ridge)

    def _equations(self, power: int, target: Tensor, rows: Tensor) -> Equations:
        n_actions, width = self.frames.coefficients.shape[1:]
        size = n_actions * width
        matrix, constant, square = target.new_zeros(size, size), target.new_zeros(size), 0.0
        onwards = (self.onwards**power).unsqueeze(-1) * self._policy()
        for part in rows.split(_CHUNK):
            now = _by_action(self.actions[part], self.now[part])
            matrix += now.T @ (now - _by_action(onwards[part], self.next[part]))
            square += float(now.square().sum())
            constant += now.T @ target[part]
        return Equations(matrix, constant, square / size, n_actions)

    def _square(self, rows: Tensor) -> Tensor:
        r"""Return the sum of :math:`\phi \phi^T` over rows, (m, m)."""
        parts = (_by_action(self.actions[part], self.now[part]) for part in rows.split(_CHUNK))
        return torch.stack([now.T @ now for now in parts]).sum(0)


@dataclass(frozen=True)
class Equations:
    r"""Linear equations for the coefficients of features, summed over rows.

    Attributes
    ----------
    matrix : tensor of shape (m, m)
        Sum of :math:`\phi (\phi - \gamma \phi')^T`.
    constant : tensor of shape (m,)
    size : float
        The mean sum of squares of a feature.
    n_actions : int
        Each has its own features, of which the first is constant.
    """

    matrix: Tensor
    constant: Tensor
    size: float
    n_actions: int

    def solution(self, ridge: float, on_constant: float = 1e-6) -> Tensor:
        """Return the coefficients, (n_actions, d).

        The ridge is relative to the mean square of a feature.
        """
        ridges = torch.full_like(self.constant, ridge * self.size or 1.0)
        # The constant has no penalty: with a discount near 1, it is the largest part of returns.
        ridges.view(self.n_actions, -1)[:, 0] *= on_constant
        found = torch.linalg.solve(self.matrix + ridges.diag(), self.constant)
        return found.view(self.n_actions, -1)

    def error(self, coefficients: Tensor, square: Tensor, ridge: float = 0.01) -> float:
        r"""Return the squared error of coefficients, projected on the features of the rows.

        ``square`` is the sum of :math:`\phi \phi^T` over them, (m, m).
        """
        gap = self.constant - self.matrix @ coefficients.flatten()
        ridges = torch.full_like(gap, ridge * self.size or 1.0)
        return float(gap @ torch.linalg.solve(square + ridges.diag(), gap))


def _by_action(shares: Tensor, features: Tensor) -> Tensor:
    """Return the features of state and action, (n, n_actions * d)."""
    return (shares.unsqueeze(-1) * features.double().unsqueeze(1)).flatten(1)


def unit_of(rewards: Tensor) -> float:
    """Return the power of two nearest to the largest reward, 1 if all are 0.

    In that unit, squares and fourth powers stay within the range of floats.
    """
    return 2.0 ** math.frexp(float(rewards.abs().max()))[1]


def return_bounds(rewards: Tensor, gamma: float) -> tuple[float, float]:
    """Return the least and the largest return that the rewards allow."""
    lowest, highest = float(rewards.min()), float(rewards.max())
    horizon = 1 / (1 - gamma) if gamma < 1 else math.inf
    low = min(lowest, lowest * horizon, 0.0) if lowest else 0.0
    return low, max(highest, highest * horizon, 0.0) if highest else 0.0


def n_random_features(
    n_inputs: int, n_actions: int, a_number: int = 100, most: int = 400, most_in_all: int = 1200
) -> int:
    """Return the number of random features of a state: a multiple of its numbers, up to a limit.

    The features of all actions together have a limit, too. See doc/decisions/state-frames.md.
    """
    return max(min(a_number * n_inputs, most, most_in_all // n_actions - n_inputs), 0)


def new_frames(
    steps: Batch,
    n_actions: int,
    gamma: float,
    generator: torch.Generator,
    trunk: nn.Sequential | None = None,
) -> Frames:
    """Return frames for the returns of a table, of steps in units of the reward."""
    n_inputs = steps.state.shape[1]
    labels = bool(((steps.state == 0) | (steps.state == 1)).all())  # which need no random features
    n_random = 0 if labels else n_random_features(n_inputs, n_actions)
    features = Features(n_inputs, n_random, generator, trunk)
    unit = unit_of(steps.reward)
    frames = Frames(features, n_actions, return_bounds(steps.reward / unit, gamma), unit)
    frames = frames.to(steps.state.device).requires_grad_(False)
    # Laws of labels share no features, so they need no ridge but for rounding.
    n_rows = min(len(steps.action), _MAX_ROWS)
    ridges = [1e-6] if labels else [min(n / n_rows, share) for n, share in _PRIORS]
    equations = TemporalDifferences(frames, steps, gamma, ridges[-1])
    if steps.policy is None:
        equations.solve()  # for the best policy
    if not labels:
        equations.choose_ridge(ridges)
    equations.solve()
    return frames


def framed(steps: Batch, frame: Callable[[Tensor], tuple[Tensor, Tensor]], gamma: float) -> Batch:
    """Return the steps of U: rewards and discounts in units of the frames, row by row."""

    def of(states: Tensor) -> tuple[Tensor, Tensor]:
        parts = [torch.stack(frame(rows)) for rows in states.split(_CHUNK)]
        centre, scale = torch.cat(parts, -1)
        return centre, scale

    (centre, scale), (next_centre, next_scale) = of(steps.state), of(steps.next_state)
    onwards = steps.discounts(gamma).double()
    reward = (steps.reward.double() + onwards * next_centre - centre) / scale
    discount = onwards * next_scale / scale
    return replace(steps, reward=reward.float(), discount=discount.float())


class FramedReturnField(BasisReturnField):
    """A network from states to the logits of U's law for each action, in the frame of the state.

    Weights of a law are the softmax of its logits, so they are positive.

    Parameters
    ----------
    n_inputs, n_actions : int
    hidden : sequence of int
        Units of the hidden layers.
    basis : GaussianBasis
        Basis of the laws of U, from -REACH to REACH.
    frames : Frames
    """

    def __init__(
        self,
        n_inputs: int,
        n_actions: int,
        hidden: Sequence[int],
        basis: GaussianBasis,
        frames: Frames,
    ) -> None:
        super().__init__(n_inputs, n_actions, hidden, basis)
        self.frames = frames
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Start every law as normal in its frame."""
        self.last_layer.bias.copy_((-0.5 * self.basis.centres.square()).repeat(self.n_actions))
        self.last_layer.weight.zero_()

    def weights(self, states: Tensor) -> Tensor:
        """Return the weights w, (n, n_actions, K)."""
        return self.network(states).unflatten(-1, (self.n_actions, self.basis.size)).softmax(-1)

    def _raw(self, states: Tensor) -> Tensor:
        return self.basis.coordinates(self.weights(states))

    def weights_under(self, states: Tensor, policy: Tensor) -> Tensor:
        """Return the weights of the laws under a policy, (n, n_actions): (n, K)."""
        return (policy.unsqueeze(-1) * self.weights(states)).sum(1)

    def logits_and_back(
        self, states: Tensor, actions: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Return the logits of one action in each state, (n, K), and a function.

        It takes slopes by the logits to gradients of the network.
        """
        taken = Pass(self.network, states)
        rows = rows_of(actions, self.n_actions)
        flat = taken.outputs.view(-1, self.basis.size)

        def back(slopes: Tensor) -> None:
            if self.n_actions > 1:
                slopes = torch.zeros_like(flat).index_copy_(0, rows, slopes)
            taken.set_gradients(slopes.view_as(taken.outputs))

        return flat.index_select(0, rows), back

    def in_frames(self, frames: Frames) -> FramedReturnField:
        """Return the field with other frames. Laws start anew, the earlier layers stay."""
        other = copy.deepcopy(self)
        other.frames = frames
        other._begin()
        return other.requires_grad_()

    def by_frames(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expected returns, (n, n_actions), and scales, (n,), of the frames."""
        return self.frames.means(states), self.frames(states)[1]

    def frame(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre and the scale of each state's frame, (n,) each, in float64."""
        return self.frames.reaching(states)

    def means(self, states: Tensor) -> Tensor:
        """Return the expected returns, (n, n_actions)."""
        centre, scale = (part.unsqueeze(-1) for part in self.frame(states))
        return (centre + scale * super().means(states).double()).clamp(*self.bounds)

    def best(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the actions with the largest expected return, (n,): all share one frame."""
        return largest(super().means(states), mask)
