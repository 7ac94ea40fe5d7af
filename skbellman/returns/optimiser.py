"""Adam, and Adam with one second moment for each tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def adam(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    """Return Adam, in one operation for all tensors."""
    return torch.optim.Adam(parameters, learning_rate, fused=True)


class BlockwiseAdam(torch.optim.Optimizer):
    """Adam with one second moment for each tensor (arXiv 2406.16793, a block to a tensor).

    Adam divides each number's gradient by its own size, and so takes steps of the same length along
    every coordinate of a law: those that hold noise alone as far as those that hold the law.
    Coordinates of laws are orthonormal, and divided by one number they stay so.

    Parameters
    ----------
    parameters : iterable of Parameter
    learning_rate : float
        Length of a step by the root mean square of the tensor's gradients.

    Attributes
    ----------
    decay, square_decay : float
        Of the means of gradients and of their squares.
    least : float
        Added to the root of the mean square.
    """

    decay, square_decay, least = 0.9, 0.999, 1e-8

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        super().__init__(parameters, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move each tensor against the mean of its gradients."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            self._move(parameters, [p.grad for p in parameters], group["lr"])

    def _move(self, parameters: list[Tensor], gradients: list[Tensor], rate: float) -> None:
        states = [self._counted(p) for p in parameters]
        means, squares = [s["mean"] for s in states], [s["square"] for s in states]
        norms = torch._foreach_norm(gradients)
        now = torch._foreach_div(torch._foreach_mul(norms, norms), [p.numel() for p in parameters])
        torch._foreach_lerp_(means, gradients, 1 - self.decay)
        torch._foreach_lerp_(squares, now, 1 - self.square_decay)
        # Both means begin at 0: divided by what they have seen they are without bias.
        sizes = torch._foreach_div(squares, [1 - self.square_decay ** s["n"] for s in states])
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, self.least)
        lengths = [-rate / (1 - self.decay ** s["n"]) for s in states]
        torch._foreach_addcdiv_(parameters, means, sizes, lengths)

    def _counted(self, parameter: Tensor) -> dict[str, Any]:
        """Return the state of a tensor, this step counted; a new one has seen nothing."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state.update(n=0, mean=torch.zeros_like(parameter), square=parameter.new_zeros(()))
        state["n"] += 1
        return state
