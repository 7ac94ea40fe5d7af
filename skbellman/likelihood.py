r"""The normalised log-density of a field: the probability-flow integral.

Along the flow :math:`\dot x = -\dot\sigma \sigma h(x, \sigma)` (arXiv 2011.13456, eq. 39) the
log-density changes by :math:`-\dot\sigma \sigma\, \mathrm{div}\, h`. Here the integral is of the
difference to a reference with known log-density :math:`\log s_0`, which agrees with the field at
the ceiling. With r = h - h_0,

.. math:: \log s(x, \sigma_{\min}) = \log s_0(x, \sigma_{\min})
          - \int_0^1 \dot\sigma \sigma \, (\mathrm{div}\, r + h_0 \cdot r) \, dt,

because along the same path, by the heat equation,
:math:`\frac{d}{dt} \log s_0 = \dot\sigma \sigma (\mathrm{div}\, h_0 + |h_0|^2 - h_0 \cdot h)`.
If the networks add nothing, the result is exact for any number of nodes. Otherwise only the
correction has an integration error.

The nodes are Gauss-Legendre nodes, denser in the middle of t. `skbellman.transport` moves x between
nodes. On the boundary between modes the flow turns sharply; such rows may be integrated again with
twice the nodes. The value of each row depends on that row alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.special import ndtr as norm_cdf
from torch import Tensor

from skbellman.fields import ClosedFormField, DensityField, NeuralField, Referred
from skbellman.schedule import NoiseSchedule, masked
from skbellman.transport import Multistep, RungeKutta, Transport

# Rows times directions that are processed at once, so that memory does not grow with the rows. A
# GPU needs many to be busy.
_CHUNK, _GPU_CHUNK = 4096, 2**15
# Random signs for many columns, where the exact divergence is too expensive.
N_PROBES = 8
# Density of the nodes over t: a share is even, the rest is a Gaussian.
_EVEN, _MIDDLE, _SPREAD = 0.45, 0.39, 0.17


@dataclass(frozen=True)
class FlowIntegral:
    """Parameters of the flow integral.

    Parameters
    ----------
    n_nodes : int
        Nodes of the quadrature.
    n_probes : int, None or "auto"
        None takes the exact divergence, with one directional derivative per column. A number takes
        Hutchinson's estimate with that many random signs. They are a function of the row, so the
        same row always gets the same value. "auto" is exact for few columns, and takes 8 signs for
        more.
    tolerance : float
        Rows with a larger error estimate of a step (see `RungeKutta`) are integrated again with
        twice the nodes. inf never repeats.
    most_nodes : int
        Largest number of nodes, see doc/decisions/flow-integral.md.
    most_exact_columns : int
        Largest number of columns for which "auto" is exact.
    multistep : bool
        Whether steps extrapolate from previous nodes, with no passes of their own and no error
        estimate.
    """

    n_nodes: int
    n_probes: int | Literal["auto"] | None = None
    tolerance: float = math.inf
    most_nodes: int = 128
    most_exact_columns: int = 64
    multistep: bool = False

    def log_density(
        self,
        field: DensityField,
        x: Tensor,
        schedule: NoiseSchedule,
        reference: ClosedFormField | None = None,
        held: Tensor | None = None,
    ) -> Tensor:
        """Return log s(x, sigma_min), shape (n,), for x of shape (n, D).

        NaN in x marks a missing column: the value is the marginal log-density of the others.
        ``held``, bool of shape (D,) or (n, D), marks conditions: the value is the conditional
        log-density of the others.

        The reference is the field's own unless one is given.
        """
        path, x = masked(schedule, x, held)
        asked = field if reference is None else Referred(field, reference)
        return asked.log_density(x, path, self)

    def along(self, field: DensityField, x: Tensor, path: NoiseSchedule) -> Tensor:
        """Return the integral along the path, (n,), with more nodes for rows that need them."""
        size = self._chunk_size(x)
        pairs = [
            self._log_density(field, x[k : k + size], path.rows(slice(k, k + size)))
            for k in range(0, len(x), size)
        ]
        log_density = torch.cat([part for part, _ in pairs])
        doubt = torch.cat([part for _, part in pairs])
        turning = doubt > self.tolerance
        if bool(turning.any()) and self.n_nodes < self.most_nodes:
            finer = replace(self, n_nodes=2 * self.n_nodes)
            log_density[turning] = finer.along(field, x[turning], path.rows(turning))
        return log_density

    def log_ratios(
        self, field: NeuralField, x: Tensor, schedule: NoiseSchedule
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return trajectories of the flow: levels, positions, and log s - log s_0 there.

        Shapes are (n_nodes, 1 or n, D), (n_nodes, n, D) and (n_nodes, n). NaN in x is missing.
        """
        onward = torch.as_tensor(_remaining_weights(self.n_nodes)).to(x)
        path, x = masked(schedule, x)
        size, positions, ratios = self._chunk_size(x), [], []
        for k in range(0, len(x), size):
            rows = slice(k, k + size)
            pieces = self._pieces(field, x[rows], path.rows(rows))
            nodes = list(pieces)
            positions.append(torch.stack([node.x for node in nodes]))
            ratios.append(onward @ torch.stack([node.piece for node in nodes]))
        levels = torch.stack([torch.atleast_2d(path(node.t)) for node in nodes])
        return levels, torch.cat(positions, 1), torch.cat(ratios, 1)

    def _log_density(
        self, field: DensityField, x: Tensor, schedule: NoiseSchedule
    ) -> tuple[Tensor, Tensor]:
        """Return log s(x, sigma_min) and the largest error estimate of a step, (n,) each."""
        assert field.reference is not None
        log_density = field.reference.log_density(x, schedule, self)
        worst = torch.zeros_like(log_density)
        for node in self._pieces(field, x, schedule):
            log_density = log_density + node.piece
            worst = torch.maximum(worst, node.doubt)
        if schedule.condition is not None:
            log_density = log_density + _gaussian_ratio(node.h0, node.r, schedule, node.t)
        return log_density, worst

    def _chunk_size(self, x: Tensor) -> int:
        chunk = _CHUNK if x.device.type == "cpu" else _GPU_CHUNK
        return max(chunk // (self._n_probes(x) or x.shape[1]), 16)

    def _n_probes(self, x: Tensor) -> int | None:
        if self.n_probes != "auto":
            return self.n_probes
        return None if x.shape[1] <= self.most_exact_columns else N_PROBES

    def _pieces(self, field: DensityField, x: Tensor, schedule: NoiseSchedule) -> Iterator[_Node]:
        """Yield the nodes from the floor to the ceiling."""
        moving = schedule.diffusivity(0.0) > 0
        directions = _directions(x, moving, self._n_probes(x))
        transport: Transport = (
            Multistep(schedule) if self.multistep else RungeKutta(field, schedule)
        )
        transport.see(x, 0.0, field.log_gradient(x, schedule(0.0)))
        for i, (t, weight) in enumerate(zip(*_nodes(self.n_nodes), strict=True)):
            x, doubt = transport.onward(x, t)
            diffusivity, each = schedule.diffusivity(t), directions(i).expand(-1, *x.shape)
            h0, r, products = field.gradient_products(x, schedule(t), each * diffusivity)
            divergence = (products * each).sum((0, -1))
            transport.see(x, t, h0 + r)
            stein = divergence + (diffusivity * h0 * r).sum(-1)
            yield _Node(t, x, -weight * stein, doubt, h0, r)


class _Node(NamedTuple):
    """t, position, weighted integrand, error estimate of the step to it, h_0 and h - h_0."""

    t: float
    x: Tensor
    piece: Tensor
    doubt: Tensor
    h0: Tensor
    r: Tensor


def _nodes(n_nodes: int) -> tuple[list[float], list[float]]:
    """Return nodes and weights on [0, 1]: those of Gauss-Legendre in u, with t a function of u.

    The fields are smooth near the ends of t. Modes merge below the middle, where most nodes are.
    See doc/decisions/flow-integral.md.
    """
    places, weights = np.polynomial.legendre.leggauss(n_nodes)
    grid = np.linspace(0, 1, 4097)
    share = _EVEN * grid + (1 - _EVEN) * norm_cdf((grid - _MIDDLE) / _SPREAD)
    start, total = share[0], share[-1] - share[0]
    t = np.interp((places + 1) / 2, (share - start) / total, grid)
    bell = np.exp(-0.5 * ((t - _MIDDLE) / _SPREAD) ** 2) / (_SPREAD * math.sqrt(2 * math.pi))
    return t.tolist(), (weights / 2 * total / (_EVEN + (1 - _EVEN) * bell)).tolist()


def _remaining_weights(n_nodes: int) -> np.ndarray:
    """Return W with W @ pieces = the integral from each node to 1.

    Exact for polynomials of degree n_nodes - 1, like the quadrature itself; ``pieces`` are
    values times quadrature weights.
    """
    legendre = np.polynomial.legendre
    nodes, weights = legendre.leggauss(n_nodes)
    coefficients = np.linalg.inv(legendre.legvander(nodes, n_nodes - 1))
    primitive = legendre.legint(coefficients)
    to_end = legendre.legval(1.0, primitive) - legendre.legval(nodes, primitive).T
    return to_end / weights


def _gaussian_ratio(h0: Tensor, r: Tensor, path: NoiseSchedule, t: float) -> Tensor:
    r"""Return log s - log s_0 of Gaussians with the variance of the noise, (n,).

    :math:`\tfrac12 \sigma^2 (|h_0|^2 - |h|^2)`. The reference has the mean and covariance of the
    field, but not its conditional means. If these differ by delta, the log-ratio differs by about
    delta / sigma.
    """
    variance = torch.where(path.diffusivity(t) > 0, path(t), 0.0).square()
    return -(variance * r * (h0 + 0.5 * r)).sum(-1)


def _directions(x: Tensor, moving: Tensor, n_probes: int | None) -> Callable[[int], Tensor]:
    """Return a function from nodes to directions, (k, 1 or n, D).

    They are 0 in columns that do not move, (D,) or (n, D), whose derivatives do not count.
    """
    if n_probes is None:
        basis = _axes(torch.atleast_2d(moving)).to(x)
        return lambda node: basis
    n_columns = x.shape[1]
    # Signs of a Hadamard matrix are orthogonal within a node and between nodes. So errors from
    # off-diagonal elements of the Jacobian cancel between neighbours.
    own = torch.where(moving, row_signs(x, 1, 0), 0.0) * n_probes**-0.5
    places = torch.arange(n_probes, device=x.device)
    size = 1 << (n_columns - 1).bit_length()
    return lambda node: _hadamard((node * n_probes + places) % size, n_columns).unsqueeze(1) * own


def _hadamard(rows: Tensor, n_columns: int) -> Tensor:
    """Return signs of some rows of the Hadamard matrix, (k, n_columns), without the rest of it.

    Row i has the sign of the parity of the bits that i shares with j in column j.
    """
    bits = rows.unsqueeze(1) & torch.arange(n_columns, device=rows.device)
    for shift in (32, 16, 8, 4, 2, 1):
        bits = bits ^ (bits >> shift)
    return 1 - 2 * (bits & 1)


def _axes(moving: Tensor) -> Tensor:
    """Return the axes of the columns that move in each row, (n, D): (k, n, D), 0 beyond a row's."""
    place = torch.where(moving, moving.cumsum(-1), 0)
    n_axes = max(int(place.max()), 1)
    return place == torch.arange(1, n_axes + 1, device=moving.device).view(-1, 1, 1)


def row_signs(x: Tensor, n_probes: int, seed: int) -> Tensor:
    """Return random signs, (n_probes, n, D), as a function of each row and the seed."""
    n_columns = x.shape[1]
    counter = torch.arange(n_probes * n_columns, device=x.device).view(n_probes, 1, n_columns)
    cells = (x * 2**20).round().to(torch.int64)
    keys = _mix(cells + _mix(torch.arange(n_columns, device=x.device) + 1)).sum(-1)
    bits = _mix(keys.view(1, -1, 1) + _mix(counter + (seed + 1) * 2**32))
    return torch.where(bits < 0, -1.0, 1.0).to(x)


def _mix(z: Tensor) -> Tensor:
    """Scramble 64-bit integers (the finaliser of splitmix64)."""
    z = z * -7046029254386353131
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return z ^ ((z >> 31) & 0x1FFFFFFFF)
