"""Digits that were drawn, and digits completed from one half: examples/output/digits.png."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from benchmark import N_VALUES, Data, digits
from density import ImageDensity
from networks import digits_network

from skbellman.sampling import Annealing

mpl.use("Agg")
import matplotlib.pyplot as plt

OUTPUT = Path(__file__).parent.parent / "output"
N_ACROSS, ANNEALING = 14, Annealing(40)


def tiled(images: np.ndarray) -> np.ndarray:
    """Return rows of images as one picture."""
    apart = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    n, height, width = apart.shape
    tiles = apart.reshape(n // N_ACROSS, N_ACROSS, height, width).swapaxes(1, 2)
    return tiles.reshape(-1, N_ACROSS * width)


def draw(density: ImageDensity, data: Data, path: Path) -> None:
    """Draw real digits, samples, and upper halves that were sampled given lower ones."""
    real = data.test[:N_ACROSS]
    given = np.where(np.arange(8)[:, None] < 4, np.nan, real)
    completed = [density.sample(N_ACROSS, ANNEALING, given, seed) for seed in range(3)]
    parts = {
        "real": data.test[: 3 * N_ACROSS],
        "drawn": density.sample(3 * N_ACROSS, ANNEALING),
        "real; below it, three times, its upper half is drawn given the lower": np.concatenate(
            [real, *completed]
        ),
    }
    figure, axes = plt.subplots(3, 1, height_ratios=(3, 3, 4), figsize=(8, 7), layout="constrained")
    for axis, (title, images) in zip(axes, parts.items(), strict=True):
        axis.imshow(tiled(images), cmap="gray_r", vmin=0, vmax=N_VALUES - 1)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_axis_off()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    data = digits(0)
    density = ImageDensity(digits_network, N_VALUES).fit(data.train, data.validation)
    draw(density, data, OUTPUT / "digits.png")


if __name__ == "__main__":
    main()
