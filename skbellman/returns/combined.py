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
    below, upto = (
        np.tensordot(shares, each, 1)
        for each in ([p.below(edges) for p in parts], [p.cdf(edges) for p in parts])
    )
    # The edge of an atom is there twice or more often: the first of its cells without width has it.
    width = np.diff(edges)
    is_first = np.diff(edges, axis=1, prepend=-np.inf)[:, :-1] > 0
    atoms = np.where(is_first, (upto - below)[:, :-1], 0.0)
    mass = np.where(width > 0, below[:, 1:] - upto[:, :-1], atoms)
    return TabulatedLaws.of_returns(edges, mass)


def sum_of(parts: Sequence[TabulatedLaws]) -> TabulatedLaws:
    """Return the law of the sum of independent returns, one of each part, row by row.

    Distribution functions are tabulated on cells of one width and convolved by Fourier transforms.
    Means and deviations add up exactly.
    """
    edges = [part.edges_of_returns() for part in parts]
    n_cells = min(max(sum(e.shape[1] for e in edges), _FEWEST), _MOST)
    size = next_fast_len(n_cells + len(parts), real=True)
    low, high = [e[:, 0] for e in edges], [e[:, -1] for e in edges]
    width = (np.sum(high, 0) - np.sum(low, 0)) / n_cells
    spectrum = np.ones(size // 2 + 1, dtype=complex)
    for part, first in zip(parts, low, strict=True):
        upto = part.cdf(first[:, None] + width[:, None] * np.arange(1, n_cells + 1))
        mass = np.diff(upto, prepend=0.0)
        spectrum = spectrum * rfft(mass, size)
    mass = irfft(spectrum, size)
    # The middles of the first cells add up to the middle of the first cell of the sum.
    first = np.sum(low, 0) + 0.5 * (len(parts) - 1) * width
    law = TabulatedLaws(np.arange(size + 1.0), mass, first, width)
    mean = np.sum([part.mean() for part in parts], 0)
    deviation = np.hypot.reduce([part.deviation() for part in parts])
    return law.placed(mean, deviation, (np.sum(low, 0), np.sum(high, 0)))


def in_units(laws: TabulatedLaws, scale: float, shift: float) -> TabulatedLaws:
    """Return the laws of scale * Z + shift, where scale is not 0."""
    turned = laws if scale > 0 else laws.turned()
    centre = abs(scale) * turned.centre + shift
    return TabulatedLaws(turned.edges, turned.mass, centre, abs(scale) * turned.scale)
