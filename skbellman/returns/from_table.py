"""Learning the laws of returns from a table of transitions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from skbellman.notices import warn
from skbellman.returns.basis import GaussianBasis, cubic_weights
from skbellman.returns.batch import Batch
from skbellman.returns.direct import DirectLearner, DirectReturnField
from skbellman.returns.fields import BasisReturnField, ReturnField, TabularReturnField
from skbellman.returns.frames import (
    REACH,
    FramedReturnField,
    framed,
    new_frames,
    return_bounds,
    unit_of,
)
from skbellman.returns.learners import FramedLearner
from skbellman.returns.learning import (
    Curves,
    Learner,
    fit_to_table,
    kept_if_interrupted,
    random_rows,
)
from skbellman.returns.moments import moments
from skbellman.returns.tabular import (
    MARGIN,
    SETTLED,
    Table,
    evaluated,
    located,
    normal_laws,
    operator,
    settled,
)
from skbellman.settings import Seeded

# Limits of warnings: mass of the laws beyond their ends, and the distance of the mean over all rows
# from the solved one, in deviations of a return and relative to the mean.
_BEYOND, _OFF, _RELATIVE = 0.01, 0.1, 0.01


@dataclass(frozen=True)
class TableFit:
    """How laws are learned from a table, see `DistributionalValueEstimator`.

    Attributes
    ----------
    sizes : tuple of int
        Width of a state, and number of actions.
    rates : callable
        Returns the learning and target rates, given a kind of learner and a default target rate.
    seeded : Seeded
        A context that is open while networks are built.
    report : callable
        Receives the step, the number of steps, and figures as text.
    """

    gamma: float
    sizes: tuple[int, int]
    n_basis: int
    gradient_weight: float
    hidden: Sequence[int]
    batch_size: int | None
    rates: Callable[[type[Learner], float], tuple[float, float]]
    generator: torch.Generator
    seeded: Seeded
    report: Callable[[int, int, str], None]

    def with_labels(
        self, steps: Batch, n_sweeps: int, name: Callable[[int], str]
    ) -> tuple[TabularReturnField, Curves] | None:
        """Return the laws of labelled states and their curves; None if there are too many steps.

        Parameters
        ----------
        steps : Batch
            Counted steps.
        n_sweeps : int
            Largest number of backups of all laws.
        name : callable
            Returns the name of a pair of state and action, for error messages.
        """
        unit = unit_of(steps.reward)
        scaled = replace(steps, reward=steps.reward.double() / unit)
        exact = evaluated(Table.of(scaled, self.sizes[1]), self.gamma, name)
        solved, curves = moments(exact), Curves()
        like = GaussianBasis(0.0, 1.0, self.n_basis, self.gradient_weight)
        found = located(exact, self.gamma, solved, like)
        if found is None:
            return None
        few, basis = found
        laws = normal_laws(basis, solved)

        def note(sweep: int, change: float, now: np.ndarray) -> None:
            nonlocal laws
            laws = now
            curves.step.append(sweep)
            curves.loss.append(change)
            curves.support.append((unit * basis.low, unit * basis.high))
            self.report(sweep, n_sweeps, curves.figures())

        with kept_if_interrupted():
            settled(operator(few, basis, cubic_weights), laws, SETTLED, n_sweeps, note)
        with self.seeded:
            field = TabularReturnField(*self.sizes, basis, unit)
        parts = laws, unit * solved.mean, unit * np.sqrt(solved.variance)
        field.set_solved(*(torch.as_tensor(part) for part in parts))
        field.bounds = return_bounds(steps.reward, self.gamma)
        return field.to(steps.state.device), curves

    def with_network(
        self, steps: Batch, n_steps: int, field: FramedReturnField | None
    ) -> tuple[BasisReturnField, Curves]:
        """Return the laws that a network gives, and its curves.

        Frames are solved for twice: with random features, and again once the network has learned
        features. An earlier field continues in its frames if the laws stay within them.
        """
        n_actions = self.sizes[1]
        if field is not None and self._stays(field, steps):
            again = copy.deepcopy(field)
            again.network.requires_grad_()
            return self._trained(again, steps, n_steps, Curves())
        frames = new_frames(steps, n_actions, self.gamma, self.generator)
        with self.seeded:
            first = FramedReturnField(*self.sizes, self.hidden, self._unit_basis(), frames)
        first = first.to(steps.state.device)
        first.bounds = return_bounds(steps.reward, self.gamma)
        if not self.hidden or n_steps < 2:
            return self._trained(first, steps, n_steps, Curves())
        first, curves = self._trained(first, steps, n_steps // 2, Curves())
        if curves.diverged:
            return first, curves
        trunk = copy.deepcopy(first.trunk)
        assert trunk is not None
        trunk.requires_grad_(False)
        frames = new_frames(steps, n_actions, self.gamma, self.generator, trunk)
        return self._trained(first.in_frames(frames), steps, n_steps - n_steps // 2, curves)

    def in_the_papers_form(
        self,
        steps: Batch,
        tabular: TabularReturnField | None,
        n_steps: int,
        least_reward: float = 1e-30,
    ) -> tuple[DirectReturnField, Curves]:
        """Return networks of the density and its gradient, and their curves.

        Their support comes from the laws of labelled states, or from the frames of states.

        Raises
        ------
        ValueError
            For rewards beyond the range of float32: the largest is below a limit, or above its
            inverse.
        """
        largest = float(steps.reward.abs().max())
        if largest and not least_reward < largest < 1 / least_reward:
            raise ValueError(
                f'The largest reward is {largest:g}; form="networks" needs one from '
                f"{least_reward:g} to {1 / least_reward:g}. Multiply all rewards by a constant."
            )
        if tabular is not None:
            basis = tabular.basis
            room = MARGIN * basis.spacing
            support = tabular.unit * (basis.low + room), tabular.unit * (basis.high - room)
        else:
            frames = new_frames(steps, self.sizes[1], self.gamma, self.generator)
            centre, scale = frames(some_rows(steps).state)
            least, most = return_bounds(steps.reward, self.gamma)
            low, high = float((centre - 3 * scale).min()), float((centre + 3 * scale).max())
            support = max(low, least), min(high, most)
        rows = replace(steps, reward=steps.reward.float())
        with self.seeded:  # also while it learns: each step samples places of the return
            field = DirectReturnField(*self.sizes, self.hidden, *support).to(steps.state.device)
            learner = DirectLearner(field, self.gamma, *self.rates(DirectLearner, 0.1))
            return field, self._curves(learner, rows, n_steps, 64, Curves())

    def _unit_basis(self) -> GaussianBasis:
        return GaussianBasis(-REACH, REACH, self.n_basis, self.gradient_weight)

    def _trained(
        self, field: FramedReturnField, steps: Batch, n_steps: int, curves: Curves
    ) -> tuple[FramedReturnField, Curves]:
        learner = self._learner(field)
        rows = framed(steps, field.frame, self.gamma)
        return field, self._curves(learner, rows, n_steps, 256, curves)

    def _learner(self, field: FramedReturnField) -> FramedLearner:
        return FramedLearner(field, self.gamma, *self.rates(FramedLearner, 0.1))

    def _curves(
        self, learner: Learner, rows: Batch, n_steps: int, usual_size: int, curves: Curves
    ) -> Curves:
        draw = random_rows(rows, self.batch_size or usual_size, self.generator)
        return fit_to_table(learner, draw, n_steps, self.report, curves)

    def _stays(self, field: FramedReturnField, steps: Batch) -> bool:
        rows = checked_rows(steps, field)
        return field.mass_beyond(framed(rows, field.frame, self.gamma), self.gamma) <= _BEYOND


def some_rows(steps: Batch, at_most: int = 4096) -> Batch:
    """Return evenly spaced rows of a table, to check laws on."""
    every = 1 + (len(steps.action) - 1) // at_most
    return steps.take(torch.arange(0, len(steps.action), every, device=steps.action.device))


def checked_rows(steps: Batch, field: ReturnField) -> Batch:
    """Return some rows, with the best next actions by a field if they have no policy."""
    rows = some_rows(steps)
    if rows.policy is not None:
        return rows
    with torch.no_grad():
        best = field.best(rows.next_state, rows.mask)
    return replace(rows, policy=one_hot(best, field.n_actions).to(rows.state))


def warn_of_mass_beyond(field: ReturnField, steps: Batch, gamma: float) -> None:
    """Warn of laws that reach beyond their ends.

    Parameters
    ----------
    field : ReturnField
    steps : Batch
        In units of the reward. A policy of None is that of the best actions by the field.
    gamma : float
    """
    rows = checked_rows(steps, field)
    beyond = field.mass_beyond(framed(rows, field.frame, gamma), gamma)
    if beyond > _BEYOND:
        _warn(
            f"{beyond:.1%} of the mass of returns is beyond the ends of the laws, whose tails are "
            "cut off"
        )


def warn_of_misplaced(field: ReturnField, steps: Batch, gamma: float) -> None:
    """Warn of laws that reach beyond their ends, or whose means are not those of the process.

    Parameters
    ----------
    field, steps, gamma
        As for `warn_of_mass_beyond`.
    """
    rows = checked_rows(steps, field)
    warn_of_mass_beyond(field, rows, gamma)
    unit = unit_of(rows.reward)
    means, solved, deviations = (part / unit for part in _means_of(field, rows, gamma))
    gap, mean, deviation = means - solved, float(solved.mean()), _root_mean_square(deviations)
    shift, apart = float(gap.mean()), _root_mean_square(gap)
    if abs(shift) > _OFF * deviation + _RELATIVE * abs(mean) or apart > deviation:
        _warn(
            f"expected returns are {unit * (mean + shift):.4g} on average where linear equations "
            f"say {unit * mean:.4g}, and differ by {unit * apart:.3g} from state to state (the "
            f"deviation of a return is {unit * deviation:.3g})"
        )


def _root_mean_square(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _warn(fault: str) -> None:
    remedy = "raise n_steps, lower gamma, or give more rows."
    warn(f"{fault}: {remedy}")


def _means_of(field: ReturnField, rows: Batch, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return expected returns of rows by the laws, the solved ones, and scales of the frames."""
    found = field.by_frames(rows.state)
    if found is None:
        generator = torch.Generator(rows.state.device).manual_seed(0)
        frames = new_frames(rows, field.n_actions, gamma, generator, field.trunk)
        found = frames.means(rows.state), frames(rows.state)[1]
    with torch.no_grad():
        means = field.means(rows.state).double()
    at, (solved, scale) = rows.action.unsqueeze(1), found
    return means.gather(1, at).squeeze(1), solved.gather(1, at).squeeze(1), scale
