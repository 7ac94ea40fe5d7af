"""Multilayer perceptrons, and their gradients without a graph.

A learning step consists of small operations, and building an autograd graph costs as much as the
matrix products. The layers are few and known, so their gradients are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


def perceptron(n_inputs: int, hidden: Sequence[int], n_outputs: int) -> nn.Sequential:
    """Return a multilayer perceptron with rectified units; its last layer is the last module."""
    widths = [n_inputs, *hidden]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))


class Pass:
    """One forward pass through a perceptron, with its backward pass.

    Parameters
    ----------
    network : nn.Sequential
        A `perceptron`.
    inputs : tensor of shape (n, n_inputs)

    Attributes
    ----------
    outputs : tensor of shape (n, n_outputs)
    """

    @torch.no_grad()
    def __init__(self, network: nn.Sequential, inputs: Tensor) -> None:
        self._layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        self._inputs = [inputs]
        for layer in self._layers[:-1]:
            units = linear(self._inputs[-1], layer.weight, layer.bias)
            self._inputs.append(units.relu_())
        last = self._layers[-1]
        self.outputs = linear(self._inputs[-1], last.weight, last.bias)

    @torch.no_grad()
    def set_gradients(self, slopes: Tensor) -> None:
        """Set the gradients of the layers, in place, from slopes by the outputs."""
        backwards = list(zip(self._layers, self._inputs, strict=True))[::-1]
        for depth, (layer, inputs) in enumerate(backwards):
            torch.mm(slopes.t(), inputs, out=layer.weight.grad)
            torch.sum(slopes, 0, out=layer.bias.grad)
            if depth < len(backwards) - 1:
                slopes = slopes @ layer.weight
                # Four times as fast as a product with a mask, which torch converts first.
                slopes = torch.ops.aten.threshold_backward(slopes, inputs, 0.0)

    @torch.no_grad()
    def slopes_by_inputs(self, slopes: Tensor) -> Tensor:
        """Return slopes by the inputs, (n, n_inputs), from slopes by the outputs."""
        for layer, inputs in list(zip(self._layers, self._inputs, strict=True))[:0:-1]:
            slopes = torch.ops.aten.threshold_backward(slopes @ layer.weight, inputs, 0.0)
        return slopes @ self._layers[0].weight
