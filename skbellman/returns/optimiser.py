"""Adam, and Adam with one second moment for each tensor, on gradients in one vector."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor


class Optimiser(ABC):
    """Gradient descent with running means of gradients.

    The gradients of all tensors are parts of one vector, and so are their means. A step is a few
    operations on these vectors; torch's optimisers need as many for each tensor.

    Parameters
    ----------
    parameters : iterable of Parameter
        Their ``grad`` is allocated here, and has to be changed in place.
    learning_rate : float

    Attributes
    ----------
    decay, square_decay : float
        Decay rates of the means of gradients, and of their squares.
    least : float
        Added to the root of the mean square.
    """

    decay, square_decay, least = 0.9, 0.999, 1e-8

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters = list(parameters)
        self.rate = self.first_rate = learning_rate
        like = self.parameters[0]
        ends = [0]
        for parameter in self.parameters:
            ends.append(ends[-1] + parameter.numel())
        self._places = [slice(*pair) for pair in pairwise(ends)]
        self.gradient, self._mean = like.new_zeros(2, ends[-1]).detach()
        self._means = self._parts(self._mean)
        self._n_seen = [0] * len(self.parameters)
        for parameter, part in zip(self.parameters, self._parts(self.gradient), strict=True):
            parameter.grad = part

    def anneal(self, share_of_steps: float) -> None:
        """Set the learning rate after a share of the steps. It decays to 0 by a cosine."""
        self.rate = self.first_rate * 0.5 * (1 + math.cos(math.pi * share_of_steps))

    def forget(self, parameters: Iterable[Tensor]) -> None:
        """Reset the means of some tensors."""
        some = {id(parameter) for parameter in parameters}
        for k, parameter in enumerate(self.parameters):
            if id(parameter) in some:
                self._n_seen[k] = 0
                self._means[k].zero_()
                self._forget_square(k)

    @torch.no_grad()
    def step(self) -> None:
        """Move each tensor against the mean of its gradients."""
        self._n_seen = [n + 1 for n in self._n_seen]
        self._mean.lerp_(self.gradient, 1 - self.decay)
        # Both means start at 0, and their bias is corrected. Instead of the root, the step length
        # and the added constant are scaled, which is cheaper.
        roots = [math.sqrt(1 - self.square_decay**n) for n in self._n_seen]
        pairs = zip(roots, self._n_seen, strict=True)
        lengths = [-self.rate * root / (1 - self.decay**n) for root, n in pairs]
        sizes = self._sizes([self.least * root for root in roots])
        torch._foreach_addcdiv_(self.parameters, self._means, sizes, lengths)

    @abstractmethod
    def _sizes(self, least: list[float]) -> list[Tensor]:
        """Return roots of the mean squares, updated by this step, plus a constant."""

    @abstractmethod
    def _forget_square(self, k: int) -> None:
        """Set the mean square of a tensor to 0."""

    def _parts(self, vector: Tensor) -> list[Tensor]:
        """Return the part of a vector that belongs to each tensor, in its shape."""
        pairs = zip(self.parameters, self._places, strict=True)
        return [vector[place].view_as(parameter) for parameter, place in pairs]


class Adam(Optimiser):
    """Adam, equal to that of torch."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        super().__init__(parameters, learning_rate)
        self._square, self._root = torch.zeros_like(self._mean), torch.empty_like(self._mean)
        self._squares, self._roots = self._parts(self._square), self._parts(self._root)

    def _sizes(self, least: list[float]) -> list[Tensor]:
        """Return one second moment for each number."""
        self._square.mul_(self.square_decay)
        self._square.addcmul_(self.gradient, self.gradient, value=1 - self.square_decay)
        torch.sqrt(self._square, out=self._root)
        if len(set(least)) == 1:
            self._root.add_(least[0])
        else:
            torch._foreach_add_(self._roots, least)
        return self._roots

    def _forget_square(self, k: int) -> None:
        self._squares[k].zero_()


class BlockwiseAdam(Optimiser):
    """Adam with one second moment for each tensor (arXiv 2406.16793, one block a tensor).

    Adam divides each gradient by its own size. Its steps have the same length along every
    coordinate of a law, also along those that hold only noise. Here the coordinates are
    orthonormal, and one common divisor preserves their geometry.

    The learning rate is the length of a step relative to the root mean square of gradients.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        super().__init__(parameters, learning_rate)
        self._gradients = self._parts(self.gradient)
        self._square = self.gradient.new_zeros(len(self.parameters))
        self._counts = self.gradient.new_tensor([p.numel() for p in self.parameters])

    def _sizes(self, least: list[float]) -> list[Tensor]:
        """Return one second moment for each tensor."""
        norms = torch.stack(torch._foreach_norm(self._gradients))
        self._square.lerp_(norms * norms / self._counts, 1 - self.square_decay)
        return list((self._square.sqrt() + self._square.new_tensor(least)).unbind())

    def _forget_square(self, k: int) -> None:
        self._square[k] = 0.0
