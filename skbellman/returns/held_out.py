"""The agreement of laws with held-out transitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skbellman.notices import warn
from skbellman.returns.agreement import Backups, bellman_error, some_rows
from skbellman.returns.evaluation import in_order_of_fit
from skbellman.returns.laws import TabulatedLaws
from skbellman.returns.next_actions import with_actions
from skbellman.returns.questions import Questions
from skbellman.returns.transitions import Transitions


@dataclass(frozen=True)
class HeldOut:
    """Held-out transitions.

    Attributes
    ----------
    questions : Questions
        Questions to the laws.
    gamma : float
    """

    questions: Questions
    gamma: float

    def error(self, table: Transitions) -> float:
        """Return the error of the Bellman equation in steps, see `bellman_error`.

        Warns if steps are left out.
        """
        table, space = self._known(table), self.questions.space
        own, own_of = self._distinct_laws(table.state, table.action)
        after = self.questions.policy.after(table, space)
        ahead, ahead_of = self._distinct_laws(table.next_state, after)
        discount = self.gamma * ~table.terminated
        backups = Backups(own, ahead, own_of, ahead_of, table.reward, discount)
        if space.is_tabular:
            return bellman_error(backups, own_of)
        inputs = space.inputs(table.state, table.action)
        return bellman_error(backups, space.codes(table.action, len(table)), inputs)

    def _known(self, table: Transitions) -> Transitions:
        """Return the steps whose states and actions were seen in fit."""
        space, policy = self.questions.space, self.questions.policy
        table = in_order_of_fit(table, space)
        table = with_actions(policy.told_by(table), space)
        known = space.knows(table.state, table.action)
        known &= space.knows(table.next_state, policy.recorded(table, space)) | table.terminated
        if not known.any():
            raise ValueError("The states and actions of X do not occur in the rows of fit.")
        if not known.all():
            warn(
                f"{(~known).sum()} of {len(known)} steps are left out of the score: their states "
                "or actions do not occur in the rows of fit."
            )
        table = table.take(np.flatnonzero(known))
        return table if space.is_tabular else table.take(some_rows(len(table)))

    def _distinct_laws(
        self, states: np.ndarray, actions: np.ndarray | None
    ) -> tuple[TabulatedLaws, np.ndarray]:
        """Return laws without noise, and the index of each state's law. Labels share equal laws."""
        space = self.questions.space
        rows = of = np.arange(len(states))
        if space.is_tabular:
            places = space.features(states).argmax(1) * space.n_actions
            if actions is not None:
                places = places + space.codes(actions, len(states))
            _, rows, of = np.unique(places, return_index=True, return_inverse=True)
        some = None if actions is None else actions[rows]
        return self.questions.laws_of_rows(states[rows], some), of
