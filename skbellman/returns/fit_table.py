"""A fit to a table of transitions, and the form of its laws."""

from __future__ import annotations

from dataclasses import dataclass

from skbellman.returns.batch import Batch
from skbellman.returns.counted import counted
from skbellman.returns.encoding import DecisionSpace
from skbellman.returns.evaluation import encode, in_order_of_fit, space_of, warn_of_dead_ends
from skbellman.returns.fields import ReturnField, TabularReturnField
from skbellman.returns.frames import FramedReturnField
from skbellman.returns.from_table import TableFit, warn_of_misplaced
from skbellman.returns.learning import Curves
from skbellman.returns.plan import Fitted, Learned, Plan
from skbellman.returns.transitions import Transitions

# Largest number of backups of all laws of a table. Backups end once laws have settled.
MOST_SWEEPS = 20_000

Found = tuple[ReturnField, Curves]


def fit_table(plan: Plan, table: Transitions) -> Learned:
    """Return the laws of the returns of a table's process under a policy."""
    policy = plan.policy
    if plan.before is not None:
        table = in_order_of_fit(table, plan.before.space)
    if plan.parameters.gamma == 1 and not table.terminated.any():
        raise ValueError("gamma=1 needs episodes that end, but no step of X is terminated.")
    with plan.seeded:  # a policy may be a random function
        table = policy.told_by(table)
    plan.check_no_actor()
    space = space_of(table) if plan.before is None else plan.before.space
    if policy.is_greedy and space.actions is None:
        raise ValueError('policy="greedy" needs actions that are labels.')
    warn_of_dead_ends(table, space)
    with plan.seeded:
        steps = encode(table, space, policy, plan.device)
    return TableLaws(plan, space, steps, plan.table_fit(space)).learned()


@dataclass(frozen=True)
class TableLaws:
    """Fit the laws of an encoded table: a table of laws if possible, else networks.

    Attributes
    ----------
    plan : Plan
    space : DecisionSpace
    steps : Batch
    fit : TableFit
    """

    plan: Plan
    space: DecisionSpace
    steps: Batch
    fit: TableFit

    def learned(self) -> Learned:
        """Return the laws in the form that the parameters ask for."""
        few = self._counted()
        tabular = None if few is None else self._tabular(few)
        form = {"basis": self._on_the_basis, "networks": self._in_the_papers_form}
        field, curves = form[self.plan.parameters.form](tabular)
        if tabular is None:
            warn_of_misplaced(field, self.steps, self.plan.parameters.gamma)
        seen = None if few is None or tabular is None else self.plan.steps_seen(few, 1)
        fitted = Fitted(field, self.space, seen, self.plan.ends(self.steps.follows))
        return Learned(fitted, curves, self.steps.state)

    def _counted(self) -> Batch | None:
        """Return the distinct steps, with those of the last fit, if laws may be a table."""
        before = self.plan.before
        if not self.space.is_tabular or not (before is None or before.field.is_table):
            return None
        few, known = counted(self.steps), self.plan.steps_before(1)
        return few if known is None else counted(few.and_then(known.to(few.reward.device)))

    def _tabular(self, few: Batch) -> tuple[TabularReturnField, Curves] | None:
        return self.fit.with_labels(few, self.plan.steps(MOST_SWEEPS), self.space.pair_name)

    def _on_the_basis(self, tabular: tuple[TabularReturnField, Curves] | None) -> Found:
        if tabular is not None:
            return tabular
        before = None if self.plan.before is None else self.plan.before.field
        n_steps = self.plan.steps(steps_from_table(self.space.features.one_hot))
        in_frames = before if isinstance(before, FramedReturnField) else None
        return self.fit.with_network(self.steps, n_steps, in_frames)

    def _in_the_papers_form(self, tabular: tuple[TabularReturnField, Curves] | None) -> Found:
        basis = None if tabular is None else tabular[0]
        return self.fit.in_the_papers_form(self.steps, basis, self.plan.steps(10_000))


def steps_from_table(labels: bool) -> int:
    """Return the steps after which laws of a network settle: more if states share weights."""
    return 6000 if labels else 12_000
