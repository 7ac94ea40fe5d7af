"""Laws made of laws: mixtures, sums of independent returns, other units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from skbellman.returns.laws import TabulatedLaws

# A sum is tabulated on as many cells as its parts have, within these limits.
_FEWEST, _MOST = 1024, 8192


def mixture_of(parts: Sequence[TabulatedLaws], shares: np.ndarray) -> TabulatedLaws:
    """Return the mixture of the laws of each row, with shares of shape (n_parts,).

    Its cells lie between the edges of all parts, so it is exact however far apart they are.
    """
    edges = np.sort(np.hstack([part.edges_of_returns() for part in parts]), 1)
    mass = np.tensordot(shares, [np.diff(part.cdf(edges)) for part in parts], 1)
    low, high = edges[:, 0], edges[:, -1]
    places = (edges - low[:, None]) / (high - low)[:, None]
    bounds = min(part.bounds[0] for part in parts), max(part.bounds[1] for part in parts)
    return TabulatedLaws(places, mass, low, high - low, bounds)


def sum_of(parts: Sequence[TabulatedLaws]) -> TabulatedLaws:
    """Return the law of the sum of independent returns, one of each part, row by row.

    Distribution functions are tabulated on cells of one width and convolved by Fourier transforms.
    Means and deviations add up exactly.
    """
    edges = [part.edges_of_returns() for part in parts]
    n_cells = min(max(sum(e.shape[1] for e in edges), _FEWEST), _MOST)
    size = next_fast_len(n_cells + len(parts), real=True)
    low = [e[:, 0] for e in edges]
    width = sum(e[:, -1] - e[:, 0] for e in edges) / n_cells
    spectrum = np.ones(size // 2 + 1, dtype=complex)
    for part, first in zip(parts, low, strict=True):
        mass = np.diff(part.cdf(first[:, None] + width[:, None] * np.arange(n_cells + 1)))
        spectrum = spectrum * rfft(mass, size)
    mass = irfft(spectrum, size)
    # The middles of the first cells add up to the middle of the first cell of the sum.
    first = np.sum(low, 0) + 0.5 * (len(parts) - 1) * width
    bounds = sum(part.bounds[0] for part in parts), sum(part.bounds[1] for part in parts)
    law = TabulatedLaws(np.arange(size + 1.0), mass, first, width, bounds)
    deviations = np.sqrt(np.square([part.deviation() for part in parts]).sum(0))
    return law.moved_to(np.sum([part.mean() for part in parts], 0), deviations)


def in_units(laws: TabulatedLaws, scale: float, shift: float) -> TabulatedLaws:
    """Return the laws of scale * Z + shift, where scale is not 0."""
    edges, mass = laws.edges, laws.mass
    if scale < 0:
        edges, mass = -edges[..., ::-1], mass[:, ::-1]
    low, high = sorted(scale * end + shift for end in laws.bounds)
    centre = scale * laws.centre + shift
    return TabulatedLaws(edges, mass, centre, abs(scale) * laws.scale, (low, high))
