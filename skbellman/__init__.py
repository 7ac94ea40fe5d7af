"""Densities of tables that one can do arithmetic with, as scikit-learn estimators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skbellman.algebra import ShardedDensity
from skbellman.density import BellmanDiffusionDensity
from skbellman.imputer import BellmanImputer
from skbellman.outliers import BellmanOutlierDetector
from skbellman.paper_density import PaperDensity
from skbellman.tables import TableEncoder
from skbellman.training import TrainingDivergedError

if TYPE_CHECKING:
    from skbellman.return_arithmetic import (
        ImprovedReturns,
        MixtureOfReturns,
        RescaledReturns,
        SumOfReturns,
    )
    from skbellman.value import DistributionalValueEstimator

__all__ = [
    "BellmanDiffusionDensity",
    "BellmanImputer",
    "BellmanOutlierDetector",
    "DistributionalValueEstimator",
    "ImprovedReturns",
    "MixtureOfReturns",
    "PaperDensity",
    "RescaledReturns",
    "ShardedDensity",
    "SumOfReturns",
    "TableEncoder",
    "TrainingDivergedError",
    "algebra",
    "constraints",
    "dynamics",
    "fidelity",
    "fields",
    "inspection",
    "io",
    "privacy",
    "solvers",
]
# Who fits a table does not wait for the estimators of returns to be loaded.
_LATER = {
    "DistributionalValueEstimator": "skbellman.value",
    "ImprovedReturns": "skbellman.return_arithmetic",
    "MixtureOfReturns": "skbellman.return_arithmetic",
    "RescaledReturns": "skbellman.return_arithmetic",
    "SumOfReturns": "skbellman.return_arithmetic",
}
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    if name in __all__:  # a module
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
