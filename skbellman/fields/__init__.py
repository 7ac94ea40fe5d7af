"""Density fields: the protocol, closed forms, networks and linear operators.

Fields know torch and nothing else: no frames, no estimators, no environments.
"""

from skbellman.fields.base import DensityField
from skbellman.fields.gaussian import GaussianMixtureField
from skbellman.fields.neural import NeuralField
from skbellman.fields.operators import Affine, Marginal, Mixture, Smoothed

__all__ = [
    "Affine",
    "DensityField",
    "GaussianMixtureField",
    "Marginal",
    "Mixture",
    "NeuralField",
    "Smoothed",
]
