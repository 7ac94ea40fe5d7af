"""Pictures of fitted estimators, as scikit-learn's displays. They need matplotlib."""

from skbellman.inspection.conditional import ConditionalDisplay
from skbellman.inspection.density import DensityDisplay
from skbellman.inspection.explanation import ExplanationDisplay
from skbellman.inspection.learning_curve import LearningCurveDisplay
from skbellman.inspection.pairs import PairsDisplay
from skbellman.inspection.return_law import ReturnLawDisplay

__all__ = [
    "ConditionalDisplay",
    "DensityDisplay",
    "ExplanationDisplay",
    "LearningCurveDisplay",
    "PairsDisplay",
    "ReturnLawDisplay",
]
