"""Densities, quantiles, risks and samples of laws of returns."""

from __future__ import annotations

import math
from copy import copy

import numpy as np
import torch
from scipy.ndimage import convolve1d
from scipy.special import ndtr
from torch import Tensor

from skbellman.fields import DensityField
from skbellman.fields.base import Levels
from skbellman.returns.basis import GaussianBasis


class SignedLaw(DensityField):
    """One law whose density may be slightly negative: logarithms are those of its positive part.

    A subclass gives ``scalar`` and ``gradient``.
    """

    n_columns = 1

    def log_scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return log s(x, sigma), -inf where s is not positive."""
        return self.scalar(x, sigma).clamp(min=0).log()

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return g / s, and 0 where s is not positive."""
        s = self.scalar(x, sigma).unsqueeze(-1)
        return torch.where(s > 0, self.gradient(x, sigma) / s.clamp(min=1e-300), 0.0)


class BasisLaw(SignedLaw):
    r"""One law :math:`\sum_k w_k N(c_k, h^2)` as a density field of one column.

    Parameters
    ----------
    basis : GaussianBasis
    weights : tensor of shape (K,)
        Weights of either sign.
    """

    def __init__(self, basis: GaussianBasis, weights: Tensor) -> None:
        super().__init__()
        self.basis = basis
        self.weights: Tensor
        self.register_buffer("weights", weights)

    def scalar(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return s(x, sigma), shape (..., n), of either sign."""
        return self.basis.normals(x, sigma)[0] @ self.weights.to(x)

    def gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        """Return g(x, sigma), shape (..., n, 1)."""
        normals, slopes = self.basis.normals(x, sigma)
        return ((normals * slopes) @ self.weights.to(x)).unsqueeze(-1)


class TabulatedLaws:
    """Laws that are constant on each cell of a grid: every question has a closed form.

    Negative masses become 0, and the rest is normalised. Grids are in units of each
    law's own frame: a return is centre + scale * place.

    Parameters
    ----------
    edges : array of shape (m + 1,) or (n, m + 1)
        Edges of the cells, ascending, in units of the frames: of all laws, or of each.
    mass : array of shape (n, m)
        Masses of n laws in the cells, up to a factor: of even cells, densities. A cell of no width
        is an atom, which has no density.
    centre, scale : array of shape (n,), optional
        The frames, 0 and 1 by default; scales are positive.
    bounds : tuple of float, optional
        Least and largest possible return: no answer is beyond.

    Attributes
    ----------
    negative_mass : array of shape (n,)
        Share of the mass that was negative.
    n_sharpenings : int
        Steps of the deconvolution. They make an atom a third as wide as the noise.

    Raises
    ------
    ValueError
        If a law is positive nowhere, or not finite.
    """

    n_sharpenings = 200

    def __init__(
        self,
        edges: np.ndarray,
        mass: np.ndarray,
        centre: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        positive = mass.clip(min=0)
        total = positive.sum(1, keepdims=True)
        if not (np.isfinite(total).all() and (total > 0).all()):
            raise ValueError("A law has no positive mass: the fit diverged. Lower learning_rate.")
        self.edges, self.bounds = edges, bounds
        self.centre = np.zeros(len(mass)) if centre is None else centre
        self.scale = np.ones(len(mass)) if scale is None else scale
        self.negative_mass = (positive - mass).sum(1) / total[:, 0]
        self.mass = positive / total
        cumulative = np.cumsum(self.mass, axis=1)
        cumulative /= cumulative[:, -1:]
        self._cumulative = np.hstack([np.zeros((len(mass), 1)), cumulative])

    def __len__(self) -> int:
        return len(self.mass)

    def without_noise(self, level: float) -> TabulatedLaws:
        """Return the laws Z of laws seen through noise, Z + N(0, level^2), in units of the frames.

        They share one grid of even cells.
        This is expectation maximisation (Richardson and Lucy): each step increases the likelihood
        of Z on the cells, and Z keeps its mass and mean and stays positive. Atoms become narrow,
        and densities as smooth as the noise hardly change.
        """
        width = self.edges[1] - self.edges[0]
        reach = math.ceil(5 * level / width)  # in cells, five deviations of the noise
        noise = np.diff(ndtr((np.arange(-reach, reach + 2) - 0.5) * width / level))
        law = self.mass
        for _ in range(self.n_sharpenings):
            seen = convolve1d(law, noise, mode="constant")
            law = law * convolve1d(self.mass / seen.clip(min=1e-300), noise, mode="constant")
        return TabulatedLaws(self.edges, law, self.centre, self.scale, self.bounds)

    def moved_to(self, mean: np.ndarray, deviation: np.ndarray | None = None) -> TabulatedLaws:
        """Return the laws of the same shapes with other means, and deviations if given, (n,)."""
        scale, own = self.scale, self.deviation()
        if deviation is not None:  # a law of one atom keeps a width near rounding
            least = np.finfo(float).eps * np.maximum(np.abs(mean), own)
            scale = scale * (np.maximum(deviation, least) / own)
        centre = mean - scale * self._mean_places()
        moved = copy(self)
        moved.centre, moved.scale = centre, scale
        return moved

    @property
    def _middles(self) -> np.ndarray:
        return (self.edges[..., 1:] + self.edges[..., :-1]) / 2

    def _mean_places(self) -> np.ndarray:
        return (self.mass * self._middles).sum(1)

    def mean(self) -> np.ndarray:
        """Return the means, (n,)."""
        return self.centre + self.scale * self._mean_places()

    def deviation(self) -> np.ndarray:
        """Return the standard deviations, (n,)."""
        offset = self._middles - self._mean_places()[:, None]
        within = np.diff(self.edges) ** 2 / 12
        return self.scale * np.sqrt((self.mass * (offset**2 + within)).sum(1))

    def density(self, x: np.ndarray) -> np.ndarray:
        """Return the density of law i at x[i], (n,). It is 0 outside the grid."""
        pairs = zip(self._edges_of_each, self._places(x[:, None])[:, 0], strict=True)
        cell = np.array([np.searchsorted(e, at, side="right") for e, at in pairs], dtype=int) - 1
        inside = (cell >= 0) & (cell < self.mass.shape[1])
        at = np.arange(len(x)), cell.clip(0, self.mass.shape[1] - 1)
        # Beyond the grid, the last cell may have no width.
        width = np.where(inside, np.diff(self._edges_of_each)[at], np.inf)
        return np.asarray(self.mass[at] / width / self.scale)

    def edges_of_returns(self) -> np.ndarray:
        """Return the edges of the cells as returns, (n, m + 1)."""
        return self.centre[:, None] + self.scale[:, None] * self._edges_of_each

    @property
    def _edges_of_each(self) -> np.ndarray:
        n, m = self.mass.shape
        return np.broadcast_to(self.edges, (n, m + 1))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Return P(Z <= x) of law i at x[i], x of shape (n, q): (n, q)."""
        laws = zip(self._places(x), self._edges_of_each, self._cumulative, strict=True)
        return np.stack([np.interp(*law) for law in laws])

    def _places(self, x: np.ndarray) -> np.ndarray:
        """Return returns, (n, q), in units of the frames.

        They are infinite if a law is one atom.
        """
        with np.errstate(over="ignore"):
            places: np.ndarray = (x - self.centre[:, None]) / self.scale[:, None]
        return places

    def quantile(self, probability: np.ndarray) -> np.ndarray:
        """Return the quantiles of law i at probability[i], of shape (n, q): (n, q)."""
        laws = zip(probability, self._cumulative, self._edges_of_each, strict=True)
        places = np.stack([_inverse(*law) for law in laws])
        return (self.centre[:, None] + self.scale[:, None] * places).clip(*self.bounds)

    def cvar(self, alpha: float) -> np.ndarray:
        """Return the mean of the worst share alpha of each law, (n,)."""
        upper = np.minimum(self._cumulative[:, 1:], alpha)
        lower = np.minimum(self._cumulative[:, :-1], alpha)
        width = np.diff(self.edges)
        taken = (upper - lower) / np.where(self.mass > 0, self.mass, 1.0)
        middle = self.edges[..., :-1] + 0.5 * taken * width
        worst = ((upper - lower) * middle).sum(1) / (upper - lower).sum(1)
        return (self.centre + self.scale * worst).clip(*self.bounds)

    def sample(self, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Return samples, (n, n_samples)."""
        return self.quantile(rng.random((len(self), n_samples)))


def _inverse(probability: np.ndarray, cumulative: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the quantiles of a piecewise linear distribution function."""
    cell = np.searchsorted(cumulative, probability, side="left").clip(1, len(edges) - 1)
    below, above = cumulative[cell - 1], cumulative[cell]
    share = (probability - below) / np.where(above > below, above - below, 1.0)
    return edges[cell - 1] + share.clip(0, 1) * (edges[cell] - edges[cell - 1])
