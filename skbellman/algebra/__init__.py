"""Arithmetic of fitted densities: each result is a density again."""

from skbellman.algebra.base import Density, Estimate
from skbellman.algebra.comparison import Comparison, compare
from skbellman.algebra.difference import DifferenceDensity, difference
from skbellman.algebra.mixture import MixtureDensity, mixture
from skbellman.algebra.rescaling import RescaledDensity, rescale
from skbellman.algebra.reweighting import reweight
from skbellman.algebra.sharded import ShardedDensity

__all__ = [
    "Comparison",
    "Density",
    "DifferenceDensity",
    "Estimate",
    "MixtureDensity",
    "RescaledDensity",
    "ShardedDensity",
    "compare",
    "difference",
    "mixture",
    "rescale",
    "reweight",
]
