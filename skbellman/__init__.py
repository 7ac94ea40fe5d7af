"""Densities of tables that one can do arithmetic with, as scikit-learn estimators."""

from skbellman.algebra import ShardedDensity
from skbellman.density import BellmanDiffusionDensity
from skbellman.imputer import BellmanImputer
from skbellman.training import TrainingDivergedError
from skbellman.value import DistributionalValueEstimator, MixtureOfReturns

__all__ = [
    "BellmanDiffusionDensity",
    "BellmanImputer",
    "DistributionalValueEstimator",
    "MixtureOfReturns",
    "ShardedDensity",
    "TrainingDivergedError",
]
__version__ = "0.1.0"
