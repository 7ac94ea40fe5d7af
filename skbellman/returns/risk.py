r"""Statistics of laws: the mean, or the mean of the worst share. Both are exact in the weights.

The mean is linear in them. The worst share :math:`\alpha` has the mean
:math:`\max_z z - E(z - Z)^+ / \alpha` (Rockafellar and Uryasev, 2000), the largest of linear
functions. For atoms at centres, the largest belongs to one centre.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from skbellman.returns.basis import GaussianBasis
from skbellman.validation import check_numbers

# Maps a basis and coordinates, (n, K), to values, (n,), and slopes by the coordinates, (n, K).
Statistic = Callable[[GaussianBasis, Tensor], tuple[Tensor, Tensor]]


def mean(basis: GaussianBasis, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of laws, and their slopes."""
    return basis.means(coordinates), basis.slopes_of_means(coordinates)


class WorstShare:
    """The mean of the worst share of a law, with atoms in place of Gaussians.

    Parameters
    ----------
    share : float
        Above 0, at most 1.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, basis: GaussianBasis, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of laws, and their slopes."""
        functions = _functions(basis, self.share, coordinates.dtype, coordinates.device)[1]
        values, best = (coordinates @ functions).max(-1)
        return values, functions.T[best]


def worst_of_atoms(basis: GaussianBasis, weights: Tensor, share: float) -> Tensor:
    """Return the means of the worst share of laws of atoms at the centres, (n,)."""
    return (weights @ _functions(basis, share, weights.dtype, weights.device)[0]).amax(-1)


@lru_cache(maxsize=8)
def _functions(
    basis: GaussianBasis, share: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the linear functions of each centre z as columns: of weights, and of coordinates."""
    z, centres = basis.centres, basis.centres.unsqueeze(-1)
    of_weights = z - (z - centres).clamp(min=0) / share
    return of_weights.to(device, dtype), (basis.whitening @ of_weights).to(device, dtype)


def checked_share(alpha: float) -> float:
    """Return a checked share of the worst returns.

    Raises
    ------
    ValueError
        If it is not above 0 and at most 1.
    """
    if not 0 < check_numbers("alpha", alpha) <= 1:
        raise ValueError(f"alpha must be above 0 and at most 1, got {alpha!r}.")
    return alpha


def share_of(risk: Any) -> float:
    """Return the share of the worst returns of a risk: 1 for "mean".

    Raises
    ------
    ValueError
        If the risk is neither "mean" nor ("cvar", alpha).
    """
    match risk:
        case "mean":
            return 1.0
        case tuple(("cvar", alpha)):
            return checked_share(alpha)
    raise ValueError(f'risk must be "mean" or ("cvar", alpha), got {risk!r}.')


def statistic_of(risk: Any) -> Statistic:
    """Return the statistic of a risk, see `share_of`."""
    share = share_of(risk)
    return mean if share == 1 else WorstShare(share)
