"""Arithmetic of fitted densities: each result is a density again."""

from skbellman.algebra.base import Density, Estimate, check_same_measure
from skbellman.algebra.mixture import MixtureDensity, mixture

__all__ = ["Density", "Estimate", "MixtureDensity", "check_same_measure", "mixture"]
