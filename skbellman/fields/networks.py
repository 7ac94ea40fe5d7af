"""The residual network behind the neural fields."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

_N_FREQUENCIES = 8


class Dropout(nn.Module):
    """Dropout with its own random generator: torch's dropout uses the global one.

    Parameters
    ----------
    share : float
        Share of the units that are dropped; the others are scaled up.

    Attributes
    ----------
    generator : torch.Generator or None
        Generator on the device of the units; None is torch's own. Copies and pickles have none.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, z: Tensor) -> Tensor:
        if not (self.training and self.share):
            return z
        chance = torch.rand(z.shape, generator=self.generator, device=z.device)
        return torch.where(chance < self.share, 0.0, z / (1 - self.share))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"generator": None}


class ResidualBlock(nn.Module):
    """The map z + W2 act(W1 act(z)), initially the identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.into = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.into.weight)
        self.out_of = zero_linear(width, width)
        self.activation = nn.SiLU()
        self.dropout = Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.out_of(self.dropout(self.activation(self.into(self.activation(z)))))


class ResidualNetwork(nn.Sequential):
    """A multilayer perceptron with residual blocks and an output that is initially 0.

    It works in the precision of its weights. Outputs have the precision of the input.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__(
            curved_linear(n_inputs, width),
            *(ResidualBlock(width, dropout) for _ in range(depth)),
            nn.SiLU(),
            zero_linear(width, n_outputs),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return the outputs, (..., n_outputs)."""
        return super().forward(z.to(self.bias.dtype)).to(z.dtype)

    def with_slopes(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs, and the slope of each activation for `pulled_back`."""
        first, blocks, last = self._parts
        hidden, slopes = first(z.to(self.bias.dtype)), []
        for block in blocks:
            before, slope = _silu_with_slope(hidden)
            inside, inner = _silu_with_slope(block.into(before))
            hidden = hidden + block.out_of(inside)
            slopes += [slope, inner]
        end, slope = _silu_with_slope(hidden)
        return last(end).to(z.dtype), [*slopes, slope]

    def pulled_back(self, directions: Tensor, slopes: list[Tensor]) -> Tensor:
        """Return the products of directions, (k, n, n_outputs), with the Jacobian.

        They have shape (k, n, n_inputs) and equal those of autograd, without dropout. Most of the
        time of a score is spent here. So slopes are computed once for all directions, and products
        are in place.
        """
        first, blocks, last = self._parts
        *inner, final = slopes
        pulled = (directions.to(self.bias.dtype) @ last.weight).mul_(final)
        for k, block in reversed(list(enumerate(blocks))):
            inside = (pulled @ block.out_of.weight).mul_(inner[2 * k + 1])
            pulled += (inside @ block.into.weight).mul_(inner[2 * k])
        return (pulled @ first.weight).to(directions.dtype)

    @property
    def _parts(self) -> tuple[nn.Linear, list[ResidualBlock], nn.Linear]:
        first, *blocks, _, last = self
        return cast("tuple[nn.Linear, list[ResidualBlock], nn.Linear]", (first, blocks, last))

    def drop_by(self, generator: torch.Generator) -> None:
        """Set the generator of dropout, on the network's device."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    @property
    def bias(self) -> Tensor:
        """Bias of the last layer: the outputs before training."""
        return cast("nn.Linear", self[-1]).bias


def _silu_with_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    share = z.sigmoid()
    value = z * share
    return value, torch.addcmul(share, value, 1 - share)


def curved_linear(n_inputs: int, width: int, scale: float = 0.5) -> nn.Linear:
    """Return a first layer with weights so large that the activations are not linear.

    The correction of a Gaussian reference is orthogonal to linear functions of x. With torch's
    small default weights, SiLU is linear, and the correction is learned very slowly. See
    doc/decisions/gaussian-reference.md.
    """
    layer = nn.Linear(n_inputs, width)
    nn.init.normal_(layer.weight, std=scale)
    nn.init.uniform_(layer.bias, -scale, scale)
    return layer


def zero_linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """Return a linear layer whose weight and bias are 0."""
    layer = nn.Linear(n_inputs, n_outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def n_level_features(n_columns: int) -> int:
    """Return the width of `level_features`."""
    return 2 * n_columns + 2 * _N_FREQUENCIES


def level_features(sigma: Tensor, seen: Tensor) -> Tensor:
    """Return features of the levels: log sigma, the mask, and waves of the mean level.

    The shape is (..., 2 D + 16). Missing columns, whose level is infinite, enter as a mask.
    """
    log_sigma = torch.where(seen, sigma, 1.0).log()
    n_seen = seen.sum(-1, keepdim=True).clamp(min=1)
    frequencies = 0.4 * torch.arange(1, _N_FREQUENCIES + 1, dtype=sigma.dtype, device=sigma.device)
    phases = log_sigma.sum(-1, keepdim=True) / n_seen * frequencies
    return torch.cat([log_sigma / 4, seen.to(sigma), phases.sin(), phases.cos()], -1)
