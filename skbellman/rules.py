"""The base of constraints: what every kind of them says of rows, and of samples before any row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from skbellman.tables import TableEncoder

Mask = Callable[[Any], np.ndarray]


class Rule(ABC):
    """A constraint: a mask of the rows that keep it.

    A new kind implements `__call__`, and overrides defaults that differ.
    """

    # Whether only rows that keep all other constraints are looked at.
    is_last: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, X: Any) -> np.ndarray:
        """Return which rows of a table keep the constraint."""

    def begun(self, encoder: TableEncoder) -> Mask:
        """Return the mask of tables like the fitted one in one call of `sample`.

        It may remember the rows that it has seen.
        """
        return self

    def learned(self, X: Any) -> Rule:
        """Return the constraint of an estimator that is fitted to a table."""
        return self

    def joined(self, others: Iterable[Any]) -> Rule:
        """Return the constraint of a density whose parts have these constraints."""
        return self

    def combinations(self) -> tuple[Sequence[Any], list[tuple[Any, ...]]]:
        """Return columns, and all combinations of their values that keep it; none if unknown."""
        return (), []

    def bound(self) -> tuple[Any, str, Any] | None:
        """Return the column, the sign and the literal of a comparison with a value."""
        return None

    def doubt(self, encoder: TableEncoder) -> str:
        """Return why samples of a density hardly ever keep it, empty if nothing is known."""
        return ""


class OfTable(Rule):
    """A constraint that a user's function decides.

    Parameters
    ----------
    function : callable
        From a table to a bool for each row.
    """

    def __init__(self, function: Mask) -> None:
        self.function = function

    def __call__(self, X: Any) -> np.ndarray:
        """Return what the function says, which has to be one bool for each row."""
        found = np.asarray(self.function(X))
        if found.shape != (len(X),) or found.dtype != bool:
            raise ValueError(
                f"the constraint {self!r} returned {found.dtype} of shape {found.shape} for a "
                f"table of {len(X)} rows: return one bool for each."
            )
        return found

    def __repr__(self) -> str:
        return repr(self.function)
