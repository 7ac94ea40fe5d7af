"""The Bellman operator on the laws of returns. It is linear in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from skbellman.fields import Affine, DensityField, GaussianMixtureField, Mixture, Smoothed
from skbellman.returns.basis import GaussianBasis

# A backed-up law is tabulated at so many places per spacing, and so many spacings beyond its ends.
_PLACES = 6
_REACH = 9
# Lagrange's polynomials of x for the values at -1, 0, 1, 2, by powers of x.
_CUBIC = (
    (0.0, 1.0, 0.0, 0.0),
    (-1 / 3, -1 / 2, 1.0, -1 / 6),
    (1 / 2, -1.0, 1 / 2, 0.0),
    (-1 / 6, 1 / 2, -1 / 2, 1 / 6),
)


def bellman_backup(
    rewards: Sequence[float],
    discounts: Sequence[float],
    laws: Sequence[DensityField],
    weights: Tensor,
    level: float,
) -> DensityField:
    r"""Return the law of :math:`r_i + \gamma_i Z_i`, where i has the given probabilities.

    .. math:: (T p)(x) = \sum_i w_i \frac{1}{\gamma_i} p_i\Big(\frac{x - r_i}{\gamma_i}\Big),
        \qquad (T g)(x) = \sum_i w_i \frac{1}{\gamma_i^2} g_i\Big(\frac{x - r_i}{\gamma_i}\Big)

    for the density and its gradient field. The laws are seen at one noise level, of Z and of
    the result alike: :math:`Z_\sigma = Z + N(0, \sigma^2)` has the law of :math:`r + e + \gamma
    Z'_\sigma` with :math:`e \sim N(0, \sigma^2 (1 - \gamma^2))`, so that noise costs no bias.

    Parameters
    ----------
    rewards : sequence of n floats
    discounts : sequence of n floats
        Gamma. It is 0 for terminal steps, whose laws are not used.
    laws : sequence of n DensityField
        Laws of the returns that follow, of one column, at the level.
    weights : tensor of shape (n,)
        Probabilities; normalised.
    level : float
        The noise level sigma, in units of the return.

    Returns
    -------
    DensityField
        At the same level.

    Examples
    --------
    >>> import torch
    >>> from skbellman.fields import GaussianMixtureField
    >>> from skbellman.returns import bellman_backup
    >>> law = GaussianMixtureField.normal(torch.zeros(1), torch.eye(1))  # of level 1
    >>> backed_up = bellman_backup([3.0], [0.5], [law], torch.ones(1), level=1.0)
    >>> backed_up.scalar(torch.tensor([[3.0]]), 0.0)  # its variance is .25 + .75
    tensor([0.3989])
    """
    parts = [
        _pushed(law, reward, discount, level, weights)
        for reward, discount, law in zip(rewards, discounts, laws, strict=True)
    ]
    return Mixture(parts, weights)


def _pushed(
    law: DensityField, reward: float, discount: float, level: float, like: Tensor
) -> DensityField:
    """Return the law of reward + discount Z + e."""
    shift = like.new_tensor([reward])
    if discount == 0:
        return GaussianMixtureField.normal(shift, like.new_tensor([[level**2]]))
    moved = Affine(law, like.new_tensor([discount]), shift)
    return Smoothed(moved, like.new_tensor(level * math.sqrt(1 - discount**2)))


def project_backup(
    basis: GaussianBasis, reward: Tensor, discount: float, follows: Tensor, next_weights: Tensor
) -> Tensor:
    r"""Return the coordinates u of :math:`r + \gamma Z'` in the basis: the operator, projected.

    The nearest density of the basis to `bellman_backup`, in its inner product. The atoms
    :math:`r + \gamma c_k` carry the weights of the next law and are seen through the level h.

    Parameters
    ----------
    basis : GaussianBasis
    reward : tensor of shape (n,)
    discount : float
    follows : tensor of bool, shape (n,)
        False where the step is terminal.
    next_weights : tensor of shape (n, K)
        Weights of the laws that follow. A mixture of laws has the mixture of their weights.

    Returns
    -------
    tensor of shape (n, K)
    """
    # A terminal step gives an atom at the reward: the middle atom of a law, minus its own offset.
    constants = _constants(basis, discount, next_weights.dtype, next_weights.device)
    weights = torch.where(follows.unsqueeze(-1), next_weights, constants.end)
    shift = reward + torch.where(follows, constants.low, constants.low_at_end)
    # With t = j - shift / spacing the product with the basis function j is F(t).
    first = torch.add(constants.first, shift, alpha=-_PLACES / basis.spacing)
    moments = _interpolated(weights @ constants.pushed, first, basis)
    # Moments of the law that is shifted are a polynomial of the shift.
    by = (shift / (basis.high - basis.low)).unsqueeze(-1)
    constant, linear, square = (weights @ constants.powers).unflatten(-1, (3, 3)).unbind(1)
    powers = torch.addcmul(constant, by, torch.addcmul(linear, by, square))
    return basis.nearest(moments, powers)


@dataclass(frozen=True)
class _Constants:
    """The constants of a projected backup, which depend on the basis and the discount alone.

    Attributes
    ----------
    end : tensor of shape (K,)
        Weights of the atom of a terminal step.
    low, low_at_end : tensor of shape ()
        Shifts of a law and of a terminal atom, in addition to the reward.
    first : tensor of shape ()
        Position of t = 0 in the table of F.
    pushed : tensor of shape (K, M)
        See `_pushed_basis`.
    powers : tensor of shape (K, 9)
        The moments of `GaussianBasis.powers` of each atom, three for each power of the shift.
    """

    end: Tensor
    low: Tensor
    low_at_end: Tensor
    first: Tensor
    pushed: Tensor
    powers: Tensor


def _moved_powers(place: Tensor) -> Tensor:
    """Return the coefficients of 1, x + y and (x + y)^2 in y for each x, (K, 9), by powers of y."""
    one, none = torch.ones_like(place), torch.zeros_like(place)
    return torch.stack([one, place, place**2, none, one, 2 * place, none, none, one], -1)


@lru_cache(maxsize=4)
def _constants(
    basis: GaussianBasis, discount: float, dtype: torch.dtype, device: torch.device
) -> _Constants:
    middle, low = basis.size // 2, (discount - 1) * basis.low
    lows = torch.tensor([low, low - discount * float(basis.centres[middle])], dtype=torch.float64)
    end = torch.zeros(basis.size, dtype=torch.float64)
    end[middle] = 1.0
    # Without a shift the atom k is at low + discount (c_k - low).
    powers = _moved_powers(discount * (basis.place(basis.centres) + 0.5) - 0.5)
    first = torch.tensor(float(_PLACES * _REACH))
    parts = end, *lows, first, _pushed_basis(basis, discount), powers
    return _Constants(*(part.to(device, dtype) for part in parts))


def push_forward(basis: GaussianBasis, reward: Tensor, discount: Tensor, weights: Tensor) -> Tensor:
    r"""Return the weights of :math:`r + \gamma Z'`, where each row has a discount of its own.

    The atoms :math:`r + \gamma c_k` are interpolated between the centres, see `cubic_weights`.

    Parameters
    ----------
    basis : GaussianBasis
    reward, discount : tensor of shape (n,)
        Terminal steps have a discount of 0.
    weights : tensor of shape (n, K)
        Weights of the laws that follow.

    Returns
    -------
    tensor of shape (n, K)
    """
    place = _places(basis, reward, discount).clamp_(0, basis.size - 1)
    node = place.floor().clamp_(1, basis.size - 3)
    atoms = _spread(place.sub_(node), weights)
    nodes = node.long().unsqueeze(1) + _around(weights.device)
    return torch.zeros_like(weights).scatter_add_(1, nodes.flatten(1), atoms.flatten(1))


def _spread(f: Tensor, weights: Tensor) -> Tensor:
    """Return the shares of four nodes, (n, 4, K), in weights at distance f from the second node.

    The same as `cubic_weights`, faster because the polynomials share factors.
    """
    outer = torch.addcmul(f, f, f, value=-1).mul_(weights).mul_(-1 / 6)
    inner = torch.sub(3 * outer, weights)
    at_outer, at_inner = outer * f, inner * f
    parts = 2 * outer - at_outer, at_inner - inner, -at_inner, at_outer + outer
    return torch.stack(parts, 1)


@lru_cache(maxsize=4)
def _around(device: torch.device) -> Tensor:
    """Return the places of four nodes from the second of them, (4, 1)."""
    return torch.arange(-1, 3, device=device).unsqueeze(-1)


def mass_beyond(basis: GaussianBasis, reward: Tensor, discount: Tensor, weights: Tensor) -> Tensor:
    """Return the mass of each row's backed-up law beyond either end of the basis, (n,)."""
    place = _places(basis, reward, discount)
    below = torch.where(place < 0, weights, 0.0).sum(-1)
    above = torch.where(place > basis.size - 1, weights, 0.0).sum(-1)
    return below.abs() + above.abs()


def _places(basis: GaussianBasis, reward: Tensor, discount: Tensor) -> Tensor:
    """Return where the centres of the next law go, in spacings from the first, (n, K)."""
    first = ((discount - 1) * basis.low + reward) / basis.spacing
    places = torch.arange(basis.size, dtype=reward.dtype, device=reward.device)
    return torch.addcmul(first.unsqueeze(-1), discount.unsqueeze(-1), places)


@lru_cache(maxsize=4)
def _pushed_basis(basis: GaussianBasis, discount: float) -> Tensor:
    r"""Return the kernel of :math:`t_m - \gamma k`, (K, M): F(t_m) is its sum over weights.

    All rows of a batch need F at the same places, up to a shift. So one matrix product tabulates F
    for all of them, in float32 as in the networks.
    """
    n_places = _PLACES * (basis.size + 2 * _REACH)
    places = torch.arange(n_places, dtype=torch.float64) / _PLACES - _REACH
    atoms = discount * torch.arange(basis.size, dtype=torch.float64)
    return basis.kernel(places - atoms.unsqueeze(-1)).float()


def _interpolated(table: Tensor, place: Tensor, basis: GaussianBasis) -> Tensor:
    """Return F(t + j) for each row's F, tabulated in (n, M), and all j: (n, K).

    The places of each t in the table, (n,), are given. Interpolation is cubic. The kernel is wide
    compared with a step of the table, and 0 at its ends.
    """
    base = place.floor()
    factors = _lagrange((place - base).unsqueeze(-1))
    # Places beyond the table are moved to its end, where all four neighbours are 0.
    first = base.clamp(-table.shape[1], 2 * table.shape[1]).long().view(-1, 1, 1)
    index = (first + _neighbours(basis.size, table.device)).clamp_(0, table.shape[1] - 1)
    values = table.gather(1, index.flatten(1))
    # A matrix product would need one matrix for each row.
    return (factors.unsqueeze(-1) * values.view(-1, 4, basis.size)).sum(1)


def _lagrange(f: Tensor) -> Tensor:
    """Return the weights, (n, 4), of values at -1, 0, 1, 2 for places f between, (n, 1)."""
    constant, linear, square, cube = _cubic(f.dtype, f.device)
    slope = torch.addcmul(linear, f, torch.addcmul(square, f, cube))
    return torch.addcmul(constant, f, slope)


@lru_cache(maxsize=4)
def _cubic(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    return torch.tensor(_CUBIC, dtype=dtype, device=device).unbind()


@lru_cache(maxsize=4)
def _neighbours(size: int, device: torch.device) -> Tensor:
    """Return the places of four neighbours for each of the basis functions, (4, K)."""
    return torch.arange(-1, 3, device=device)[:, None] + _PLACES * torch.arange(size, device=device)
