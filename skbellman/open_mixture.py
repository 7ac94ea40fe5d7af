"""scikit-learn's mixture of Gaussians, which may end early."""

from __future__ import annotations

from sklearn.mixture import GaussianMixture


class OpenMixture(GaussianMixture):
    """A mixture that may end before it has converged, without a warning.

    Warning filters belong to the process, and another thread may change them at the same time.
    """

    @property
    def converged_(self) -> bool:
        """Always true, so that scikit-learn does not warn."""
        return True

    @converged_.setter
    def converged_(self, value: bool) -> None:
        pass
