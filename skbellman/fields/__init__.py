"""Density fields: the protocol, closed forms, networks and linear operators.

This package uses torch only. It does not know frames, estimators or environments.
"""

from skbellman.fields.base import DensityField
from skbellman.fields.direct import DirectField
from skbellman.fields.evidence import PairwiseEvidence
from skbellman.fields.gaussian import ClosedFormField, GaussianMixtureField
from skbellman.fields.latent import LatentClassField
from skbellman.fields.network import NetworkField
from skbellman.fields.neural import NeuralField
from skbellman.fields.operators import Affine, Marginal, Mixture, Referred, Smoothed
from skbellman.fields.products import DiagonalGaussianField, GridField, ProductField
from skbellman.fields.shapes import ColumnShapes

__all__ = [
    "Affine",
    "ClosedFormField",
    "ColumnShapes",
    "DensityField",
    "DiagonalGaussianField",
    "DirectField",
    "GaussianMixtureField",
    "GridField",
    "LatentClassField",
    "Marginal",
    "Mixture",
    "NetworkField",
    "NeuralField",
    "PairwiseEvidence",
    "ProductField",
    "Referred",
    "Smoothed",
]
