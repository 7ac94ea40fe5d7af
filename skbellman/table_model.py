"""A field of a table's coordinates, queried with values of the table."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skbellman.fields import DensityField, NeuralField
from skbellman.fields.base import Integral, Sampler
from skbellman.schedule import NoiseSchedule, masked
from skbellman.tables import TableEncoder, hide, is_missing

# Rows that are sampled at once.
_CHUNK = 16384
# Places of a row's cell of the grid at which a closed form is evaluated.
_FINE = 32

Values = list[np.ndarray]


@dataclass(frozen=True)
class TableModel:
    """A field, and the map from a table to its coordinates.

    Parameters
    ----------
    encoder : TableEncoder
        Fitted.
    field : DensityField
        The field of the encoder's coordinates.
    schedule : NoiseSchedule
        Noise levels of the coordinates; see `precise` for those of scores.
    device : torch.device
        Device of both.
    """

    encoder: TableEncoder
    field: DensityField
    schedule: NoiseSchedule
    device: torch.device

    def precise(self) -> TableModel:
        """Return a copy in double precision, except for the learned parts.

        If columns are nearly collinear, closed forms, positions and sums cancel. The gradients of
        networks and column laws do not, so single precision is enough for them.
        """
        field, schedule = copy.deepcopy(self.field).double(), copy.deepcopy(self.schedule).double()
        for module in field.modules():
            if isinstance(module, NeuralField):
                module.single_precision()
        return TableModel(self.encoder, field, schedule, self.device)

    def seen_through(self, noise: np.ndarray) -> TableModel:
        """Return the model of rows with added noise, given its standard deviations, (n_dims,)."""
        return replace(self, schedule=self.schedule.above(torch.as_tensor(noise)))

    def log_density(
        self,
        values: Values,
        integral: Integral,
        condition: Values | None = None,
        names: Sequence[Any] = (),
    ) -> np.ndarray:
        """Return the log-density of encoded rows, (n,), in the table's units.

        Parameters
        ----------
        values : list of arrays
            Values of each column, missing for columns that are not scored.
        integral : Integral
        condition : list of arrays, optional
            Given values, missing in the other columns. The result is NaN where their density is 0.
        names : sequence
            Names of the given columns.
        """
        if condition is not None:
            columns = zip(self.encoder.names, values, condition, strict=True)
            values = [held if name in names else value for name, value, held in columns]
        cells = TableCells(self, values, condition, names)
        with torch.no_grad():
            return self.field.log_mass(cells, integral).cpu().numpy()

    def gradient(self, values: Values, integral: Integral) -> np.ndarray:
        """Return the gradient of the log-density of encoded rows, (n, n_features).

        It is in the table's units, with NaN in cells without a density.
        """
        layout = self.encoder.layout_
        matrix = torch.tensor(next(layout.encode(values, 1))[0], device=self.device)
        path, x = masked(self.schedule, matrix)
        with torch.no_grad():
            h = self.field.density_gradient(x, path, integral).cpu().numpy()
        slope, of_log = layout.slopes(values)
        found = np.full((len(h), len(values)), np.nan)
        numbers = slice(layout.n_numbers)
        found[:, layout.column_of[numbers]] = h[:, numbers] * slope + of_log
        return found

    def surprises(self, values: Values, integral: Integral) -> np.ndarray:
        """Return -log p(cell given the rest of its row), (n, n_features).

        It is NaN for missing cells. Cells with unknown categories are not used as conditions, and
        neither is the rest of a row if its density is 0.
        """
        found = np.full((len(values[0]), len(values)), np.nan)
        known = [column.known(v) for column, v in zip(self.encoder.fitted_, values, strict=True)]
        for j in range(len(values)):
            seen = np.flatnonzero(~is_missing(values[j]))
            if len(seen):
                cells, rest = values[j][seen], [v[seen] for v in known]
                found[seen, j] = -self._log_density_of(j, cells, rest, integral)
        return found

    def _log_density_of(
        self, j: int, cells: np.ndarray, rest: Values, integral: Integral
    ) -> np.ndarray:
        """Return the log-density of the cells of a column given the rest of their rows, (n,)."""
        nothing = [hide(v, np.ones(len(v), dtype=bool)) for v in rest]
        alone = [*nothing[:j], cells, *nothing[j + 1 :]]
        others = [name for k, name in enumerate(self.encoder.names) if k != j]
        if not others:
            return self.log_density(alone, integral)
        condition = [*rest[:j], nothing[j], *rest[j + 1 :]]
        found = self.log_density(alone, integral, condition, others)
        far = np.flatnonzero(np.isnan(found))
        if len(far):
            found[far] = self.log_density([v[far] for v in alone], integral)
        return found

    def draw(self, n_rows: int, sampler: Sampler, seed: int) -> Values:
        """Return numbers, or codes of categories, of the columns of new rows."""
        nothing = torch.full_like(self.schedule.floor, torch.nan)
        return self.encoder.decode(self._filled(nothing.expand(n_rows, -1), sampler, seed))

    def fill(self, values: Values, sampler: Sampler, seed: int) -> Values:
        """Return numbers or codes of the columns of rows, with sampled values in the gaps."""
        matrix, _ = next(self.encoder.encode_cells(values, 1))
        self.encoder.check_near(matrix)
        rows = torch.tensor(matrix, dtype=self.schedule.floor.dtype, device=self.device)
        return self.encoder.decode(self._filled(rows, sampler, seed), values)

    def _filled(self, rows: Tensor, sampler: Sampler, seed: int) -> np.ndarray:
        generator = torch.Generator(self.device).manual_seed(seed)
        with torch.no_grad():
            parts = [
                self.field.fill(part, self.schedule, sampler, generator)
                for part in rows.split(_CHUNK)
            ]
        return torch.cat(parts).double().cpu().numpy()


class TableCells:
    """Rows of a table as cells of their coordinates, see `skbellman.fields.base.Cells`.

    A row on a grid has the mean density of its cell. A closed form may have a component to a
    cell, with a peak at its centre; the networks are smooth, and few places do.

    Parameters
    ----------
    model : TableModel
    values : list of arrays
        Values of each column, scored and given ones.
    condition : list of arrays, optional
        Those that are given alone.
    names : sequence
        Names of the given columns.
    """

    def __init__(
        self, model: TableModel, values: Values, condition: Values | None, names: Sequence[Any]
    ) -> None:
        self.model, self.values, self.given = model, values, condition
        self.held = None if condition is None else model.encoder.coordinates_of(names)

    @property
    def condition(self) -> TableCells | None:
        """The cells of what is held; None if nothing is."""
        return None if self.given is None else TableCells(self.model, self.given, None, ())

    def total(
        self, log_density: Callable[[Tensor, NoiseSchedule], Tensor], fine: bool = False
    ) -> Tensor:
        """Return the logarithm of a density's integral over each row's cell, (n,)."""
        device = self.model.device
        held = None if fine or self.held is None else torch.tensor(self.held, device=device)
        total = np.full(len(self.values[0]), -np.inf)
        for matrix, rows, log_measure in self._fine() if fine else self._few():
            x = torch.tensor(matrix, device=device)
            path, x = masked(self.model.schedule, x, held)
            # A row so far out that fields overflow has no density that a float can hold.
            logs = log_density(x, path).nan_to_num(nan=-math.inf, neginf=-math.inf)
            np.logaddexp.at(total, rows, logs.cpu().numpy() + log_measure)
        if held is not None and self.given is not None:
            total -= next(self.model.encoder.encode_cells(self.given, 1))[1]
        return torch.tensor(total, device=device)

    def _few(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield places of the rows' cells, their rows and log-measures, whose densities add up."""
        yield self.model.encoder.encode_nodes(self.values, self.held)

    def _fine(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        n_places = _FINE if self.model.encoder.has_cells() else 1
        for matrix, log_measure in self.model.encoder.encode_cells(self.values, n_places):
            yield matrix, np.arange(len(matrix)), log_measure - math.log(n_places)
