"""Densities of tables that one can do arithmetic with, as scikit-learn estimators."""

from skbellman.density import BellmanDiffusionDensity
from skbellman.imputer import BellmanImputer
from skbellman.training import TrainingDivergedError

__all__ = ["BellmanDiffusionDensity", "BellmanImputer", "TrainingDivergedError"]
__version__ = "0.1.0"
