"""What a training step, a draw and a score of an untrained U-Net cost by the number of pixels.

python scale.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from networks import UNet

from skbellman.fields import DiagonalGaussianField, NetworkField
from skbellman.likelihood import FlowIntegral
from skbellman.matching import denoising_loss
from skbellman.sampling import Annealing, draw_rows
from skbellman.schedule import NoiseSchedule

SHAPES = {64: (1, 8, 8), 784: (1, 28, 28), 3072: (3, 32, 32)}
WIDTHS = {64: (64, 64), 784: (64, 64, 64), 3072: (64, 64, 64)}
N_ROWS = 32


def seconds(function: Callable[[], object]) -> float:
    """Return the processor's seconds of a second call."""
    function()
    start = time.process_time()
    function()
    return time.process_time() - start


def costs(n_columns: int) -> dict[str, float]:
    """Return milliseconds for each image, and the memory of the process."""
    field = NetworkField(
        DiagonalGaussianField(torch.zeros(n_columns), torch.ones(n_columns)),
        lambda n: UNet(SHAPES[n], WIDTHS[n]),
    )
    ones, generator = torch.ones(n_columns), torch.Generator().manual_seed(0)
    schedule = NoiseSchedule(0.02 * ones, 20 * ones)
    x = torch.randn(N_ROWS, n_columns, generator=generator)
    levels = schedule(torch.rand(N_ROWS, generator=generator))

    def step() -> None:
        denoising_loss(field, x, levels, x.flip(0)).backward()

    found = {"step": seconds(step)}
    field.eval().requires_grad_(False)
    found["draw, 16 levels"] = seconds(
        lambda: draw_rows(field, N_ROWS, schedule, Annealing(16), generator)
    )
    quick = FlowIntegral(8, 4, multistep=True)
    found["score, 8 nodes, 4 signs"] = seconds(lambda: quick.log_density(field, x, schedule))
    each = {name: 1000 * taken / N_ROWS for name, taken in found.items()}
    return {**each, "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        print(json.dumps({"D": int(sys.argv[1]), **costs(int(sys.argv[1]))}))
        return
    for n_columns in SHAPES:
        subprocess.run([sys.executable, __file__, str(n_columns)], check=True)


if __name__ == "__main__":
    main()
