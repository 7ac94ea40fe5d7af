"""Returns of a Markov decision process: their laws, transitions, and the Bellman operator."""

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.bellman import bellman_backup, project_backup
from skbellman.returns.laws import BasisLaw, TabulatedLaws

__all__ = ["BasisLaw", "GaussianBasis", "TabulatedLaws", "bellman_backup", "project_backup"]
