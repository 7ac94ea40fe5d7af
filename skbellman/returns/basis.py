"""Laws of returns as sums of Gaussians on a line, their inner products in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianBasis:
    r"""The densities :math:`\sum_k w_k N(x; c_k, h^2)`, with weights of either sign.

    Centres c are evenly spaced, and h is 3/4 of their spacing. With a smaller h, smooth densities
    would have ripples. With a larger one, the Gaussians would be nearly dependent. Such a density
    is the law of a return at the noise level h: :math:`\sum_k w_k \delta_{c_k}` seen through noise
    of deviation h.

    The inner product of two densities, :math:`\int p q + \lambda h^2 \int p' q'`, the objective
    of identity and gradient matching together (arXiv 2410.01796, section 3), is a double sum of a
    kernel of the distances of their centres. In the coordinates :math:`u = G^{1/2} w`, with G
    the Gram matrix of the basis, it is the plain product of vectors.

    Parameters
    ----------
    low, high : float
        First and last centre.
    size : int
        Number K of centres.
    gradient_weight : float
        The weight :math:`\lambda` of gradient matching.
    overlap : float
        The level h in spacings, see doc/decisions/projected-bellman-backup.md.
    ridge : float
        Added to the Gram matrix, whose diagonal is 1.
    """

    low: float
    high: float
    size: int
    gradient_weight: float = 0.0
    overlap: float = 0.75
    ridge: float = 1e-4

    @property
    def level(self) -> float:
        """Noise level h, in units of the return."""
        return self.overlap * self.spacing

    @property
    def spacing(self) -> float:
        """Distance of neighbouring centres, in units of the return."""
        return (self.high - self.low) / (self.size - 1)

    @cached_property
    def centres(self) -> Tensor:
        """Centres, (K,), float64."""
        return torch.linspace(self.low, self.high, self.size, dtype=torch.float64)

    def kernel(self, distance: Tensor, least_exponent: float = -40.0) -> Tensor:
        r"""Return :math:`\langle N(a, h^2), N(b, h^2) \rangle`, 1 at distance 0 for lambda = 0.

        Distances a - b are in units of the spacing. The tail is cut at an exponent: products with
        denormal numbers would be a hundred times slower.
        """
        square = 0.5 * (distance / self.overlap).square()
        value = torch.exp((-0.5 * square).clamp(min=least_exponent))
        if not self.gradient_weight:
            return value
        return value * (1 + 0.5 * self.gradient_weight * (1 - square))

    def moments(self, positions: Tensor, weights: Tensor) -> Tensor:
        r"""Return the products of :math:`\sum_m w_m N(y_m, h^2)` with the basis, (n, K).

        Positions y and weights have shape (n, M).
        """
        index = torch.arange(self.size, dtype=positions.dtype, device=positions.device)
        distance = (positions - self.low).div(self.spacing).unsqueeze(-2) - index.unsqueeze(-1)
        return (self.kernel(distance) @ weights.unsqueeze(-1)).squeeze(-1)

    @cached_property
    def whitening(self) -> Tensor:
        """G^(-1/2), symmetric, (K, K), float64: w = whitening @ u, and u = whitening @ moments."""
        values, vectors = self._spectrum
        return (vectors * values.rsqrt()) @ vectors.T

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of G."""
        index = torch.arange(self.size, dtype=torch.float64)
        gram = self.kernel(index[:, None] - index[None, :])
        gram += self.ridge * torch.eye(self.size, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(gram)
        return values, vectors

    @cached_property
    def _root(self) -> Tensor:
        """G^(1/2), the inverse of the whitening."""
        values, vectors = self._spectrum
        return (vectors * values.sqrt()) @ vectors.T

    def coordinates(self, weights: Tensor) -> Tensor:
        """Return the coordinates u of weights w, (..., K)."""
        return weights @ self._like(weights, "_root")

    def project(self, positions: Tensor, weights: Tensor) -> Tensor:
        """Return the coordinates u, (n, K), of the nearest density to atoms seen at the level h.

        It is the nearest density with the same mass, mean and variance. Without this constraint,
        the ridge and the ends of the basis would lose a little at each backup.
        """
        return self.nearest(self.moments(positions, weights), self.powers(positions, weights))

    def powers(self, positions: Tensor, weights: Tensor) -> Tensor:
        """Return the moments of order 0 to 2 of atoms, in the unit of `place`: (n, 3)."""
        places = self.place(positions)
        first = weights * places
        return torch.stack([weights.sum(-1), first.sum(-1), (first * places).sum(-1)], -1)

    def place(self, positions: Tensor) -> Tensor:
        """Return positions in the unit in which the basis reaches from -1 / 2 to 1 / 2."""
        return (positions - self.low) / (self.high - self.low) - 0.5

    def nearest(self, moments: Tensor, powers: Tensor, max_gap: float = 0.05) -> Tensor:
        """Return the coordinates, (n, K), of given products with the basis and given moments.

        The moments, (n, 3), are those of `powers`. Moments that lie beyond the basis cannot be met,
        so the correction is limited to the span of the basis.
        """
        near = moments @ self._like(moments, "whitening")
        gap = torch.addmm(powers, near, self._like(moments, "_powers").T, alpha=-1)
        gap.clamp_(-max_gap, max_gap)
        return torch.addmm(near, gap, self._like(moments, "_mending"))

    @cached_property
    def _powers(self) -> Tensor:
        """The matrix A from coordinates to moments, (3, K)."""
        place = self.place(self.centres)
        return torch.stack([place**k for k in range(3)]) @ self.whitening

    @cached_property
    def _mending(self) -> Tensor:
        """The least coordinates of each unit moment, (3, K): A has the pseudo-inverse."""
        return torch.linalg.pinv(self._powers).T

    def weights(self, coordinates: Tensor) -> Tensor:
        """Return the weights w of coordinates u, (..., K)."""
        return coordinates @ self._like(coordinates, "whitening")

    def means(self, coordinates: Tensor) -> Tensor:
        """Return the means of the laws, (...)."""
        return coordinates @ self._like(coordinates, "_mean")

    def slopes_of_means(self, coordinates: Tensor) -> Tensor:
        """Return the slopes of the means of laws by their coordinates, (..., K)."""
        return self._like(coordinates, "_mean").expand_as(coordinates)

    def gaps_of_means(self, coordinates: Tensor) -> Tensor:
        """Return the means of the nearest laws of unit mass, up to a constant, (...)."""
        return coordinates @ self._like(coordinates, "_gap_of_mean")

    @cached_property
    def _gap_of_mean(self) -> Tensor:
        """The part of the mean vector that is orthogonal to the mass vector, (K,)."""
        return self._mean - (self._mean @ self._unit) * self._mass

    @cached_property
    def _mean(self) -> Tensor:
        """The vector whose product with coordinates is the mean, (K,)."""
        return self.whitening @ self.centres

    @cached_property
    def _mass(self) -> Tensor:
        """The vector whose product with coordinates is the mass, (K,)."""
        return self.whitening.sum(0)

    @cached_property
    def _unit(self) -> Tensor:
        """The least coordinates of mass 1, (K,)."""
        return self._mass / self._mass.square().sum()

    def cumulative(self, coordinates: Tensor) -> Tensor:
        """Return the mass of the atoms up to each centre, (..., K)."""
        return coordinates @ self._like(coordinates, "_cumulative")

    @cached_property
    def _cumulative(self) -> Tensor:
        """The matrix from coordinates to the sums of weights, (K, K)."""
        return self.whitening @ torch.ones(self.size, self.size, dtype=torch.float64).triu()

    def with_unit_mass(self, coordinates: Tensor) -> Tensor:
        """Return the nearest coordinates whose density has mass 1."""
        flat = coordinates.flatten(0, -2)
        gap = 1 - flat @ self._like(flat, "_mass")
        return torch.addr(flat, gap, self._like(flat, "_unit")).view_as(coordinates)

    def without_mass(self, coordinates: Tensor, factor: float = 1.0) -> Tensor:
        """Return the nearest coordinates, (n, K), whose density has mass 0, times a factor.

        It turns slopes by the result of `with_unit_mass` into slopes by its argument.
        """
        mass, unit = (
            coordinates @ self._like(coordinates, "_mass"),
            self._like(coordinates, "_unit"),
        )
        return torch.addr(coordinates, mass, unit, beta=factor, alpha=-factor)

    def _like(self, tensor: Tensor, name: str) -> Tensor:
        """Return an attribute with the type and device of a tensor."""
        return _cast(self, name, tensor.dtype, tensor.device)

    def normals(self, x: Tensor, sigma: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the Gaussians with noise of deviation sigma at x, and their logarithmic slopes.

        Shapes (m, K), for x of shape (m, 1).
        """
        variance = self.level**2 + torch.as_tensor(sigma).to(x).square()
        offset = x - self.centres.to(x)
        normals = torch.exp(-0.5 * offset.square() / variance) / (2 * math.pi * variance).sqrt()
        return normals, -offset / variance

    def density(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return the density of each law, weights of shape (n, K), at x of shape (m,): (n, m)."""
        return weights.to(x) @ self.normals(x.unsqueeze(-1))[0].T

    def convert(self, weights: Tensor, other: GaussianBasis) -> Tensor:
        """Return the weights, (n, K), of the same laws in another basis."""
        return other.weights(other.project(self.centres.to(weights).expand_as(weights), weights))

    def moved(self, centre: float, scale: float) -> GaussianBasis:
        """Return the basis of the laws of centre + scale * Z, which have the same weights."""
        return replace(self, low=centre + scale * self.low, high=centre + scale * self.high)


def cubic_weights(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return four centres and their weights for atoms at places, in spacings: (..., 4) each.

    Lagrange's cubic interpolation keeps mass, mean, variance and third moment of atoms on the
    basis. Atoms beyond its ends are moved to the ends.
    """
    place = place.clamp(0, size - 1)
    first = place.floor().clamp(1, size - 3)
    f = place - first
    weights = (
        -f * (f - 1) * (f - 2) / 6,
        (f + 1) * (f - 1) * (f - 2) / 2,
        -(f + 1) * f * (f - 2) / 2,
        (f + 1) * f * (f - 1) / 6,
    )
    nodes = first.long().unsqueeze(-1) + torch.arange(-1, 3, device=place.device)
    return nodes, torch.stack(weights, -1)


def linear_weights(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return two centres and their weights for atoms at places, in spacings: (..., 2) each.

    Mass and mean are kept, and no weight is negative (arXiv 1707.06887).
    """
    place = place.clamp(0, size - 1)
    first = place.floor().clamp(max=size - 2)
    nodes = first.long().unsqueeze(-1) + torch.arange(2, device=place.device)
    return nodes, torch.stack([1 - (place - first), place - first], -1)


@lru_cache(maxsize=2)
def change_of_basis(basis: GaussianBasis, other: GaussianBasis) -> tuple[Tensor, Tensor]:
    """Return matrix and shift that take coordinates u to those in another basis.

    The law stays the same: u' = matrix @ u + shift. With centres farther apart this only adds
    noise, so it is exact up to the resolution of the new basis. It is computed once, because the
    slower field moves to the same basis.
    """
    identity = torch.eye(basis.size, dtype=torch.float64)
    across = other.project(basis.centres.expand(basis.size, -1), identity).T
    shift = basis._unit
    matrix = across @ basis.whitening
    return matrix @ (identity - shift[:, None] * basis._mass[None, :]), matrix @ shift


@lru_cache(maxsize=64)
def _cast(basis: GaussianBasis, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an attribute, cast once: a learning step consists of many small operations."""
    return getattr(basis, name).to(dtype=dtype, device=device)
