"""The optimiser: AdamW and Muon on one buffer of all parameters, and their moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from skbellman.fields.networks import ResidualBlock

# Learning rate of Muon relative to AdamW, see doc/decisions/optimiser.md.
HIDDEN_RATE = 7.0


class FlatOptimiser:
    """AdamW and Muon on the parameters of a module, and a moving average of them.

    Muon (Jordan et al. 2024, arXiv 2502.16982) updates the square matrices of residual blocks by
    the orthogonal matrix nearest to the mean gradient, so all directions are learned at similar
    speed. AdamW updates all other parameters. While the optimiser is in use, parameters are views
    of one buffer, and a step is a few operations for any number of layers.

    Parameters
    ----------
    module : nn.Module
    learning_rate, weight_decay : float
        Learning rate and weight decay of AdamW. A step shrinks all weights by their product.
    largest_gradient : float
        Norm to which larger gradients are clipped.
    hidden_rate : float
        Learning rate of Muon relative to AdamW. 0 is AdamW only.
    momentum : float
        Momentum of Muon.
    hidden_every : int
        Muon updates once in so many steps, with as many times its rate. The orthogonal matrices
        cost as much as a step, and every second step is as good (doc/decisions/optimiser.md).

    Attributes
    ----------
    averaged : nn.Module
        A copy of the module with the moving average of its parameters.
    """

    def __init__(
        self,
        module: nn.Module,
        learning_rate: float,
        weight_decay: float,
        largest_gradient: float,
        hidden_rate: float = 0.0,
        momentum: float = 0.95,
        hidden_every: int = 2,
    ) -> None:
        self.module, self.averaged = module, copy.deepcopy(module)
        self.largest_gradient = largest_gradient
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.hidden_rate, self.momentum, self.hidden_every = hidden_rate, momentum, hidden_every
        parameters, hidden = _in_order(module, hidden_rate > 0)
        self._flat = torch.cat([p.detach().flatten() for p in parameters])
        self._gradient, self._average = torch.zeros_like(self._flat), self._flat.clone()
        _point(parameters, self._flat, self._gradient)
        _point(_in_order(self.averaged, hidden_rate > 0)[0], self._average, None)
        shape = (len(hidden), *hidden[0].shape) if hidden else (0, 0, 0)
        n_hidden = sum(p.numel() for p in hidden)
        self._hidden = self._flat[:n_hidden].view(shape)
        self._hidden_gradient = self._gradient[:n_hidden].view(shape)
        self._mean_gradient = torch.zeros_like(self._hidden)
        self._rest, self._rest_gradient = self._flat[n_hidden:], self._gradient[n_hidden:]
        self._moments = torch.zeros(2, len(self._rest)).to(self._flat).unbind(0)
        self._n_steps, self._n_adam_steps = 0, self._flat.new_zeros((), dtype=torch.float32)

    def step(self, loss: Tensor, factor: float, decay: float) -> None:
        """Update the parameters by the gradient of a loss, and their moving average.

        Parameters
        ----------
        loss : tensor of shape ()
        factor : float
            Factor of the learning rate in this step.
        decay : float
            Decay of the moving average.
        """
        self._gradient.zero_()
        loss.backward()
        norm = torch.linalg.vector_norm(self._gradient)
        self._gradient.mul_((self.largest_gradient / (norm + 1e-6)).clamp(max=1.0))
        self._n_steps += 1
        self._move_rest(self.learning_rate * factor)
        if len(self._hidden):
            self._move_hidden(self.learning_rate * factor * self.hidden_every)
        self._average.lerp_(self._flat, 1 - decay)

    def release(self) -> None:
        """Give each parameter its own memory again."""
        for p in self.module.parameters():
            p.data, p.grad = p.data.clone(), None

    @torch.no_grad()
    def _move_rest(self, rate: float) -> None:
        # The class AdamW would import an unused compiler, which takes more than a second.
        first, second = self._moments
        adamw(
            [self._rest], [self._rest_gradient], [first], [second], [], [self._n_adam_steps],
            fused=True, amsgrad=False, beta1=0.9, beta2=0.99, lr=rate,
            weight_decay=self.weight_decay, eps=1e-8, maximize=False,
        )  # fmt: skip

    def _move_hidden(self, rate: float) -> None:
        self._mean_gradient.lerp_(self._hidden_gradient, 1 - self.momentum)
        if self._n_steps % self.hidden_every:
            return
        ahead = torch.lerp(self._hidden_gradient, self._mean_gradient, self.momentum)
        self._hidden.mul_(1 - rate * self.weight_decay)
        self._hidden.add_(nearly_orthogonal(ahead), alpha=-rate * self.hidden_rate)


def nearly_orthogonal(matrices: Tensor, n_steps: int = 5) -> Tensor:
    """Return matrices, (k, n, n), with the same singular vectors and values of about 1.

    This is the iteration of Newton and Schulz with the coefficients of Muon.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    for _ in range(n_steps):
        square = x @ x.mT
        change = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, change, x, beta=a)
    return x


def _in_order(module: nn.Module, apart: bool) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return all parameters, hidden matrices first if these are apart, and these alone."""
    blocks = [block for block in module.modules() if apart and isinstance(block, ResidualBlock)]
    hidden = [p for block in blocks for p in block.parameters() if p.dim() == 2]
    known = set(map(id, hidden))
    return [*hidden, *(p for p in module.parameters() if id(p) not in known)], hidden


def _point(parameters: list[nn.Parameter], flat: Tensor, gradient: Tensor | None) -> None:
    """Make parameters views of a buffer, and their gradients of another."""
    start = 0
    for p in parameters:
        part = slice(start, start := start + p.numel())
        p.data = flat[part].view_as(p)
        p.grad = None if gradient is None else gradient[part].view_as(p)
