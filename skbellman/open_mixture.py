"""scikit-learn's mixture of Gaussians, which may end early."""

from __future__ import annotations

from sklearn.mixture import GaussianMixture


class OpenMixture(GaussianMixture):
    """A mixture that may end before it has converged, without a warning.

    Filters of warnings are the process's, and another thread may be changing them.
    """

    @property
    def converged_(self) -> bool:
        """Whether it has converged: nobody is to be warned."""
        return True

    @converged_.setter
    def converged_(self, value: bool) -> None:
        pass
