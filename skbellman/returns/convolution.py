"""Laws of returns in states that hold an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skbellman.returns.basis import GaussianBasis
from skbellman.returns.fields import BasisReturnField
from skbellman.returns.images import Picture


def convolutions(picture: Picture) -> nn.Sequential:
    """Return the layers from images, (n, channels, height, width), to features, (n, n_features).

    Images with sides of at least 36 pixels have those of DQN (Mnih et al., Nature 518, 2015), which
    need so many. Smaller ones have one layer of 16 filters of 3 x 3, as in MinAtar (arXiv
    1903.03176).
    """
    n = picture.n_channels
    if min(picture.sides) < 36:
        return nn.Sequential(nn.Conv2d(n, 16, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(
        nn.Conv2d(n, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip


class ImageEncoder(nn.Module):
    """Rows of pixels, and numbers beside them, to features.

    Pixels are divided by the largest one seen while learning. The bound of their space is no
    scale: it is 255 for MiniGrid, whose codes are at most 10.

    Parameters
    ----------
    picture : Picture
    n_inputs : int
        Width of a row.

    Attributes
    ----------
    largest : tensor of shape ()
        The largest pixel seen.
    n_features : int
    n_at_once : int
        Rows that are encoded at once, for memory.
    """

    n_at_once = 512
    largest: Tensor

    def __init__(self, picture: Picture, n_inputs: int) -> None:
        super().__init__()
        self.picture, self.layers = picture, convolutions(picture)
        self.register_buffer("largest", torch.zeros(()))
        with torch.no_grad():
            self.n_features = self._encoded(torch.zeros(1, n_inputs)).shape[1]

    def forward(self, rows: Tensor) -> Tensor:
        """Return features, (n, n_features)."""
        pixels = rows[:, : self.picture.size]
        if self.training and len(rows):
            self.largest = torch.maximum(self.largest, pixels.abs().max().to(self.largest))
        return torch.cat([self._encoded(some) for some in rows.split(self.n_at_once)])

    def _encoded(self, rows: Tensor) -> Tensor:
        size, scale = self.picture.size, torch.where(self.largest > 0, self.largest, 1.0)
        like = next(self.parameters())
        images = (rows[:, :size].to(like) / scale).unflatten(1, self.picture.shape)
        axis = self.picture.channel_axis
        images = images.unsqueeze(1) if axis is None else images.movedim(axis + 1, 1)
        return torch.cat([self.layers(images), rows[:, size:].to(images)], 1)


class ImageReturnField(BasisReturnField):
    """A network of convolutions from states with an image to a law for each action.

    Parameters
    ----------
    picture : Picture
        Layout of the image.
    n_inputs, n_actions, hidden, basis
        As for `BasisReturnField`. The hidden layers follow the convolutions.
    """

    def __init__(
        self,
        picture: Picture,
        n_inputs: int,
        n_actions: int,
        hidden: Sequence[int],
        basis: GaussianBasis,
    ) -> None:
        encoder = ImageEncoder(picture, n_inputs)
        super().__init__(encoder.n_features, n_actions, hidden, basis)
        self.network = nn.Sequential(encoder, *self.network)

    def coordinates_and_back(
        self, states: Tensor, actions: Tensor
    ) -> tuple[Tensor, Callable[[Tensor, float], None]]:
        """Return coordinates, and a function from slopes by them to gradients, by autograd."""
        with torch.enable_grad():
            found = self.coordinates(states, actions)

        def back(slopes: Tensor, factor: float) -> None:
            for parameter in self.parameters():
                parameter.grad.zero_()  # type: ignore[union-attr]
            found.backward(factor * slopes)

        return found.detach(), back
