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
    ) -> None:
        positive = mass.clip(min=0)
        total = positive.sum(1, keepdims=True)
        if not (np.isfinite(total).all() and (total > 0).all()):
            raise ValueError("A law has no positive mass: the fit diverged. Lower learning_rate.")
        self.edges = edges
        self.centre = np.zeros(len(mass)) if centre is None else centre
        self.scale = np.ones(len(mass)) if scale is None else scale
        self.negative_mass = (positive - mass).sum(1) / total[:, 0]
        self.mass = positive / total
        cumulative = np.cumsum(self.mass, axis=1)
        cumulative /= cumulative[:, -1:]
        self._cumulative = np.hstack([np.zeros((len(mass), 1)), cumulative])

    @classmethod
    def of_returns(cls, edges: np.ndarray, mass: np.ndarray) -> TabulatedLaws:
        """Return the laws whose edges, (n, m + 1), are returns. They come back exactly."""
        unit = _unit(edges)
        return cls(edges / unit[:, None], mass, np.zeros(len(edges)), unit)

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
        return TabulatedLaws(self.edges, law, self.centre, self.scale)

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

    def turned(self) -> TabulatedLaws:
        """Return the laws of -Z."""
        edges, mass = -self.edges[..., ::-1], self.mass[:, ::-1]
        return TabulatedLaws(edges, mass, -self.centre, self.scale)

    def placed(
        self,
        mean: np.ndarray,
        deviation: np.ndarray | None,
        bounds: tuple[np.ndarray | float, np.ndarray | float],
        n_steps: int = 8,
    ) -> TabulatedLaws:
        """Return laws of these means, and deviations if given, (n,), without mass beyond bounds.

        Bounds narrow a law, so it is widened first, in some steps.
        """
        wide = self.moved_to(mean, deviation)
        held = wide.within(*bounds)
        if deviation is None:
            return held
        for _ in range(n_steps):
            own = held.deviation()
            growth = np.divide(deviation, own, out=np.ones_like(own), where=own > 0)
            if np.allclose(growth, 1, rtol=0, atol=1e-9):
                break
            wide = wide.moved_to(mean, wide.deviation() * growth.clip(1, 2))
            held = wide.within(*bounds)
        return held

    def within(self, low: np.ndarray | float, high: np.ndarray | float) -> TabulatedLaws:
        """Return the laws without mass beyond bounds, of shape (n,) or for all laws.

        Mass beyond a bound, and as much mass inside as balances it, becomes an atom at the bound.
        Means stay, and so do laws farther inside. A law whose mean is beyond a bound becomes an
        atom there.
        """
        return self._at_least(low).turned()._at_least(-np.asarray(high)).turned()

    def _at_least(self, low: np.ndarray | float) -> TabulatedLaws:
        edges, mass = self.edges_of_returns(), self.mass
        if (edges[:, 0] >= low).all():
            return self
        low = np.maximum(low, edges[:, 0])[:, None]
        taken = _balancing((edges - low) / _unit(edges)[:, None], mass)
        atom = (mass * taken).sum(1, keepdims=True)
        end = (edges[:, :-1] + taken * np.diff(edges)).max(1, where=taken > 0, initial=-np.inf)
        end = np.maximum(end[:, None], low)
        return TabulatedLaws.of_returns(
            np.hstack([low, low, end, np.maximum(edges, end)]),
            np.hstack([atom, 0 * atom, 0 * atom, mass * (1 - taken)]),
        )

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

    def below(self, x: np.ndarray) -> np.ndarray:
        """Return P(Z < x) of law i at x[i], x of shape (n, q): (n, q)."""
        return 1 - self.turned().cdf(-x)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Return P(Z <= x) of law i at x[i], x of shape (n, q): (n, q)."""
        laws = zip(x, self.edges_of_returns(), self._cumulative, strict=True)
        return np.array([np.interp(*law) for law in laws]).reshape(x.shape)

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
        places = np.array([_inverse(*law) for law in laws]).reshape(probability.shape)
        return np.asarray(self.centre[:, None] + self.scale[:, None] * places)

    def cvar(self, alpha: float) -> np.ndarray:
        """Return the mean of the worst share alpha of each law, (n,)."""
        upper = np.minimum(self._cumulative[:, 1:], alpha)
        lower = np.minimum(self._cumulative[:, :-1], alpha)
        width = np.diff(self.edges)
        taken = (upper - lower) / np.where(self.mass > 0, self.mass, 1.0)
        middle = self.edges[..., :-1] + 0.5 * taken * width
        worst = ((upper - lower) * middle).sum(1) / (upper - lower).sum(1)
        return np.asarray(self.centre + self.scale * worst)

    def sample(self, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Return samples, (n, n_samples)."""
        return self.quantile(rng.random((len(self), n_samples)))


def _balancing(edges: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return the share of each cell, (n, m), that belongs to an atom at 0.

    Cells below 0 do, and so many above it that all of them have the mean 0.
    """
    first, width = edges[:, :-1], np.diff(edges)
    moment = np.cumsum(mass * (first + width / 2), 1)  # it falls, then rises
    before = np.hstack([np.zeros_like(edges[:, :1]), moment[:, :-1]])
    share = (moment <= 0).astype(np.float64)
    crosses = (moment > 0) & (before <= 0)
    # A share f of this cell has the moment mass * f * (first + f * width / 2) = -before.
    first, width, due = first[crosses], width[crosses], -before[crosses] / mass[crosses]
    root = np.sqrt(first**2 + 2 * width * due)
    inside = first > 0  # two forms of one solution, neither of which cancels
    share[crosses] = np.where(inside, 2 * due, root - first) / np.where(inside, first + root, width)
    return share


def _unit(edges: np.ndarray) -> np.ndarray:
    """Return a unit of each law, (n,), in which squares stay in range, and that does not round."""
    return np.exp2(np.frexp(np.abs(edges).max(1))[1] - 1.0)


def _inverse(probability: np.ndarray, cumulative: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the quantiles of a piecewise linear distribution function."""
    cell = np.searchsorted(cumulative, probability, side="left").clip(1, len(edges) - 1)
    below, above = cumulative[cell - 1], cumulative[cell]
    share = (probability - below) / np.where(above > below, above - below, 1.0)
    return edges[cell - 1] + share.clip(0, 1) * (edges[cell] - edges[cell - 1])
