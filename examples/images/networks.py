"""Small U-Nets for images, as networks of a `skbellman.fields.NetworkField`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle, silu

N_WAVES = 8


class Block(nn.Module):
    """Two convolutions with a shortcut, between which the noise level scales and shifts."""

    def __init__(self, n_in: int, n_out: int, n_level: int, dropout: float) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.GroupNorm(8, n_in), nn.GroupNorm(8, n_out)
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.of_level, self.dropout = nn.Linear(n_level, 2 * n_out), nn.Dropout(dropout)
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        inside = self.first(silu(self.first_norm(z)))
        scale, shift = self.of_level(level)[:, :, None, None].chunk(2, 1)
        inside = self.second_norm(inside) * (1 + scale) + shift
        return self.shortcut(z) + self.second(self.dropout(silu(inside)))


class UNet(nn.Module):
    """A U-Net whose answer has the shape of the rows.

    Inputs are images for each channel: the pixels, their levels, which are seen, and waves of the
    pixels. Levels of single pixels say which are given, so one network knows every conditional.
    With waves it knows neighbouring values apart (arXiv 2107.00630, appendix C).

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width of an image.
    widths : sequence of int
        Channels of the network at each resolution; each is half the one before.
    n_blocks : int
        Blocks at each resolution, on the way down and on the way up.
    patch : int
        Squares of so many pixels a side are the pixels of the network: a smaller image with more
        channels, which costs less.
    dropout : float
        Share of units dropped in training, by torch's global generator.
    lengths : sequence of float
        Lengths of the waves, in deviations of the pixels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        widths: tuple[int, ...] = (64, 96),
        n_blocks: int = 1,
        patch: int = 2,
        dropout: float = 0.1,
        lengths: tuple[float, ...] = (1.4, 0.7, 0.35),
    ) -> None:
        super().__init__()
        self.shape, self.patch, n_level = shape, patch, 2 * widths[-1]
        self.lengths = lengths
        n_channels, height, width = shape[0] * patch**2, shape[1] // patch, shape[2] // patch
        self.embed = nn.Sequential(
            nn.Linear(2 * N_WAVES, n_level), nn.SiLU(), nn.Linear(n_level, n_level), nn.SiLU()
        )
        self.into = nn.Conv2d((3 + 2 * len(lengths)) * n_channels, widths[0], 3, padding=1)
        # Where a pixel is matters as much as what is around it.
        self.place = nn.Parameter(0.02 * torch.randn(1, widths[0], height, width))
        self.down, self.up, self.narrow = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        n, kept = widths[0], [widths[0]]
        for k, width in enumerate(widths):
            for _ in range(n_blocks):
                self.down.append(Block(n, width, n_level, dropout))
                kept.append(n := width)
            if k < len(widths) - 1:
                self.narrow.append(nn.Conv2d(n, n, 3, stride=2, padding=1))
                kept.append(n)
        self.middle = Block(n, n, n_level, dropout)
        for width in reversed(widths):
            for _ in range(n_blocks + 1):
                self.up.append(Block(n + kept.pop(), width, n_level, dropout))
                n = width
        self.n_blocks = n_blocks
        self.out_of = nn.Conv2d(n, n_channels, 3, padding=1)
        nn.init.zeros_(self.out_of.weight)
        nn.init.zeros_(self.out_of.bias)

    def forward(self, x: Tensor, levels: Tensor, seen: Tensor) -> Tensor:
        """Return F, (n, D), as `skbellman.fields.NetworkField` asks for it."""
        level = self.embed(waves(levels.where(seen, -torch.inf).amax(1)))
        inputs = x, levels, seen.to(x), *pixel_waves(x, levels, self.lengths)
        images = [part.view(-1, *self.shape) for part in inputs]
        z = self.into(pixel_unshuffle(torch.cat(images, 1), self.patch)) + self.place
        kept, blocks = [z], iter(self.down)
        for k in range(len(self.narrow) + 1):
            for _ in range(self.n_blocks):
                kept.append(z := next(blocks)(z, level))
            if k < len(self.narrow):
                kept.append(z := self.narrow[k](z))
        z = self.middle(z, level)
        for block in self.up:
            other = kept.pop()
            if other.shape[-1] != z.shape[-1]:
                z = interpolate(z, size=other.shape[-2:])
            z = block(torch.cat([z, other], 1), level)
        return pixel_shuffle(self.out_of(silu(z)), self.patch).flatten(1)


def waves(level: Tensor) -> Tensor:
    """Return sines and cosines of a level, log(sigma) / 4, (n,): (n, 2 N_WAVES)."""
    phases = 1.6 * level.clamp(min=-3)[:, None] * torch.arange(1, N_WAVES + 1).to(level)
    return torch.cat([phases.sin(), phases.cos()], 1)


def pixel_waves(x: Tensor, levels: Tensor, lengths: tuple[float, ...]) -> list[Tensor]:
    """Return waves of the pixels, each (n, D), as far as the noise leaves anything of them."""
    sigma, found = (4 * levels).exp(), []
    for length in lengths:
        rate = 2 * torch.pi / length
        left = (-0.5 * (rate * sigma).square()).exp()
        found += [left * (rate * x).sin(), left * (rate * x).cos()]
    return found


def digits_network(n_columns: int) -> UNet:
    """Return a network for images of 8 x 8."""
    return UNet((1, 8, 8), (64, 64))
