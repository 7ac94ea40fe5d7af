"""The path of noise levels that training, likelihood and sampling share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    r"""Levels per column from a floor at t = 0 to a ceiling at t = 1, geometric in t.

    .. math:: \sigma_j(t) = \sigma_{\min, j}^{1 - t} \sigma_{\max, j}^{t},
              \qquad \dot\sigma_j = \rho_j \sigma_j, \quad \rho_j = \log(\sigma_{\max, j} / \sigma_{\min, j}).

    Parameters
    ----------
    floor, ceiling : tensor of shape (D,)
        Positive, the ceiling above the floor.
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
