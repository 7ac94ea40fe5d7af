"""Returns of a Markov decision process: their laws, transitions, and the Bellman operator.

Where what is:

- questions to fitted laws: `questions`, `held_out` and `agreement`; answers: `laws`, and of
  laws made of laws, `combined`
- states and actions as numbers: `encoding` (a kind of states is a `Features`), `columns`; spaces of
  gymnasium: `spaces`
- policies: `policies` (a kind is a `Policy`), `next_actions`
- how laws are held: `fields` (a kind is a `ReturnField`), `perceptron`, `basis`, `frames`, `direct`
- one fit: `plan`; to a table: `fit_table`, `transitions`, `datasets` (of other packages),
  `evaluation`, `from_table`, `tabular`, `moments`; in an environment: `fit_environment` (a kind of
  agent is an `Agent`), `episodes`, `replay`, `counted`, `control`
- learners: `learning` (steps, for any objective), `regression` (the objective of laws on a basis,
  in parts), `simplex`, `support`, `optimiser`, `learners` (which of these go together), `sweeps`
  (in a table)
- the Bellman operator: `bellman`; encoded steps: `batch`
"""

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.bellman import bellman_backup, project_backup
from skbellman.returns.laws import BasisLaw, TabulatedLaws

__all__ = ["BasisLaw", "GaussianBasis", "TabulatedLaws", "bellman_backup", "project_backup"]
