"""Densities of tables that one can do arithmetic with, as scikit-learn estimators."""

from skbellman.algebra import ShardedDensity
from skbellman.density import BellmanDiffusionDensity
from skbellman.imputer import BellmanImputer
from skbellman.paper_density import PaperDensity
from skbellman.return_laws import MixtureOfReturns
from skbellman.tables import TableEncoder
from skbellman.training import TrainingDivergedError
from skbellman.value import DistributionalValueEstimator

__all__ = [
    "BellmanDiffusionDensity",
    "BellmanImputer",
    "DistributionalValueEstimator",
    "MixtureOfReturns",
    "PaperDensity",
    "ShardedDensity",
    "TableEncoder",
    "TrainingDivergedError",
]
__version__ = "0.1.0"
