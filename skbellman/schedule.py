"""The path of noise levels that training, likelihood and sampling share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    r"""Levels per column from a floor at t = 0 to a ceiling at t = 1, geometric in t.

    .. math:: \sigma_j(t) = \sigma_{\min, j}^{1 - t} \sigma_{\max, j}^{t},
              \qquad \dot\sigma_j = \rho_j \sigma_j, \quad \rho_j = \log(\sigma_{\max, j} / \sigma_{\min, j}).

    Parameters
    ----------
    floor, ceiling : tensor of shape (D,)
        Positive levels, the ceiling above the floor.
    """  # noqa: E501 - one formula

    def __init__(self, floor: Tensor, ceiling: Tensor) -> None:
        super().__init__()
        if not bool(((floor > 0) & (ceiling > floor) & torch.isfinite(ceiling)).all()):
            raise ValueError(f"levels need 0 < floor < ceiling, got {floor} and {ceiling}.")
        self.floor: Tensor
        self.rate: Tensor
        self.register_buffer("floor", floor)
        self.register_buffer("rate", (ceiling / floor).log())

    def forward(self, t: Tensor | float) -> Tensor:
        """Return sigma(t): shape (D,) for a number, t.shape + (D,) for a tensor."""
        t = torch.as_tensor(t, dtype=self.floor.dtype, device=self.floor.device)
        return self.floor * (t.unsqueeze(-1) * self.rate).exp()

    def diffusivity(self, t: Tensor | float) -> Tensor:
        r"""Return :math:`\dot\sigma \sigma = \rho \sigma^2`, half the growth of the variance."""
        return self.rate * self(t).square()

    def rows(self, picked: slice | Tensor) -> NoiseSchedule:
        """Return the path of the picked rows: the same for all of them."""
        return self

    @property
    def condition(self) -> NoiseSchedule | None:
        """The path on which held columns move and others are missing; None if no column is held."""
        return None

    def scaled(self, factor: Tensor) -> NoiseSchedule:
        """Return the path of columns in other units, factor times as large, (D,)."""
        return NoiseSchedule(self.floor * factor, self.floor * factor * self.rate.exp())

    def above(self, noise: Tensor) -> NoiseSchedule:
        """Return the path that ends at the floor plus noise, a number or (D,)."""
        floor = torch.hypot(self.floor, noise.to(self.floor).expand_as(self.floor))
        return NoiseSchedule(floor, torch.maximum(self.floor * self.rate.exp(), 2 * floor))

    def widened(self, columns: Sequence[int], n_columns: int) -> NoiseSchedule:
        """Return the path of n_columns columns; those at these positions have this path."""
        floor = self.floor.amin().expand(n_columns).clone()
        rate = self.rate.amax().expand(n_columns).clone()
        floor[columns], rate[columns] = self.floor, self.rate
        return NoiseSchedule(floor, floor * rate.exp())

    def among(self, columns: Sequence[int], n_columns: int) -> NoiseSchedule:
        """Return the same path, with the other columns missing."""
        everywhere = torch.ones_like(self.floor, dtype=torch.bool)
        return self._masked_among(columns, n_columns, everywhere, everywhere)

    def _masked_among(
        self, columns: Sequence[int], n_columns: int, moving: Tensor, seen: Tensor
    ) -> NoiseSchedule:
        masks = []
        for mask in (moving, seen):
            masks.append(mask.new_zeros(*mask.shape[:-1], n_columns))
            masks[-1][..., columns] = mask
        return PartialSchedule(self.widened(columns, n_columns), *masks)


class PartialSchedule(NoiseSchedule):
    """The path of the levels of some columns, while others are held at the floor or missing.

    Parameters
    ----------
    schedule : NoiseSchedule
    moving, seen : tensor of bool, shape (D,) or (n, D)
        Columns whose level follows the schedule, and observed columns, for all rows or for each
        row. Observed columns that do not move are held.
    """

    def __init__(self, schedule: NoiseSchedule, moving: Tensor, seen: Tensor) -> None:
        nn.Module.__init__(self)
        self.floor, self.rate = schedule.floor, schedule.rate
        self.moving, self.seen = moving & seen, seen

    def forward(self, t: Tensor | float) -> Tensor:
        """Return sigma(t) for a number t, (D,) or (n, D): inf where a column is missing."""
        levels = torch.where(self.moving, super().forward(t), self.floor)
        return torch.where(self.seen, levels, torch.inf)

    def diffusivity(self, t: Tensor | float) -> Tensor:
        """Return half the growth of the variance, 0 where the level is constant."""
        return torch.where(self.moving, self.rate * NoiseSchedule.forward(self, t).square(), 0.0)

    def rows(self, picked: slice | Tensor) -> NoiseSchedule:
        """Return the path of the picked rows."""
        if self.moving.dim() == 1:
            return self
        return PartialSchedule(self, self.moving[picked], self.seen[picked])

    @property
    def condition(self) -> NoiseSchedule | None:
        """The path on which held columns move and others are missing; None if no column is held."""
        held = self.seen & ~self.moving
        return PartialSchedule(self, held, held) if bool(held.any()) else None

    def scaled(self, factor: Tensor) -> NoiseSchedule:
        """Return the path of columns in other units, factor times as large, (D,)."""
        return PartialSchedule(super().scaled(factor), self.moving, self.seen)

    def above(self, noise: Tensor) -> NoiseSchedule:
        """Return the path that ends at the floor plus noise, a number or (D,)."""
        return PartialSchedule(super().above(noise), self.moving, self.seen)

    def among(self, columns: Sequence[int], n_columns: int) -> NoiseSchedule:
        """Return the path of n_columns columns; all but these are missing."""
        return self._masked_among(columns, n_columns, self.moving, self.seen)


def masked(
    schedule: NoiseSchedule, x: Tensor, held: Tensor | None = None
) -> tuple[NoiseSchedule, Tensor]:
    """Return the path for rows with NaN in missing columns, and the rows without NaN.

    ``held``, of shape (D,) or (n, D), says which columns stay at the floor. If all rows have one
    pattern, the faster form is used.
    """
    seen = ~torch.isnan(x)
    held = torch.zeros_like(seen) if held is None else held.expand_as(seen)
    if bool(seen.all()) and not bool(held.any()):
        return schedule, x
    moving = ~held
    if bool((seen == seen[:1]).all()) and bool((moving == moving[:1]).all()):
        return PartialSchedule(schedule, moving[0], seen[0]), x.nan_to_num(0.0)
    return PartialSchedule(schedule, moving, seen), x.nan_to_num(0.0)
