"""
Draw and complete images
========================

A network of your own for images: here a few convolutions, for digits of 8 x 8 pixels. The same
field draws images, completes them and has their log-density. What a network has to be, and figures
of a U-Net: :doc:`/images`.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from skbellman.fields import GridField, NetworkField
from skbellman.fitting import fit_own_field
from skbellman.sampling import Annealing, draw_given, draw_rows
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan


class Convolutions(nn.Module):
    """Squares of 2 x 2 pixels are the pixels of a residual network."""

    def __init__(self, n_columns):
        super().__init__()
        self.place = nn.Parameter(0.1 * torch.randn(1, 48, 4, 4))
        self.into = nn.Conv2d(12, 48, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, 48),
                nn.SiLU(),
                nn.Conv2d(48, 48, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(48, 48, 3, padding=1),
            )
            for _ in range(3)
        )
        self.out_of = nn.Conv2d(48, 4, 3, padding=1)
        nn.init.zeros_(self.out_of.weight)
        nn.init.zeros_(self.out_of.bias)

    def forward(self, x, levels, seen):
        images = torch.stack([x, levels, seen.to(x)], 1).view(-1, 3, 8, 8)
        z = self.into(pixel_unshuffle(images, 2)) + self.place
        for block in self.blocks:
            z = z + block(z)
        return pixel_shuffle(self.out_of(nn.functional.silu(z)), 2).flatten(1)


# %%
# Pixels are whole numbers from 0 to 16. ``GridField`` has the share of each value in each pixel,
# and the network learns what pixels say about one another. Pixels of one row of the image (a block)
# are given or missing together in a part of each batch.

images = torch.tensor(load_digits().data).float()
mean, unit = images.mean(), images.std()
values = torch.arange(17)
shares = torch.stack([(images == v).float().mean(0) for v in values], -1) + 1e-3
reference = GridField((values - mean) / unit, shares)
schedule = NoiseSchedule(torch.full((64,), 0.12) / unit, torch.full((64,), 20.0))

torch.manual_seed(0)
field = NetworkField(reference, Convolutions)
rows = (images - mean) / unit
record = fit_own_field(
    field,
    rows[:1600],
    rows[1600:],
    schedule,
    Plan(n_steps=300, learning_rate=4e-3, n_evaluations=3),
    conditional_fraction=0.4,
    blocks=torch.arange(64) // 8,
)

# %%
# Images that were drawn, below real ones.

generator = torch.Generator().manual_seed(0)
drawn = draw_rows(field, 20, schedule, Annealing(16), generator)


def show(axis, rows, n_across=10):
    apart = nn.functional.pad((rows * unit + mean).view(-1, 8, 8), (2, 2, 2, 2))
    tiled = apart.view(-1, n_across, 12, 12).transpose(1, 2).reshape(-1, 12 * n_across)
    axis.imshow(tiled, cmap="gray_r", vmin=0, vmax=16)
    axis.set_axis_off()


figure, axes = plt.subplots(2, 1, figsize=(8, 3.6), layout="constrained")
for axis, part, title in zip(axes, [rows[1600:1620], drawn], ["real", "drawn"], strict=True):
    show(axis, part)
    axis.set_title(title, loc="left")
plt.show()

# %%
# Given the lower half of a real image (first row), the upper half is drawn, three times.

given = rows[1600:1610].clone()
given[:, :32] = torch.nan
completed = [draw_given(field, given, schedule, Annealing(16), generator) for _ in range(3)]
figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
show(axis, torch.cat([rows[1600:1610], *completed]))
axis.axhline(11.5, color="tab:red", lw=1)
plt.show()
