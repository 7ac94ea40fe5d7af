"""Theorem 4.1 of arXiv 2410.01796 by numbers: the dynamics converge, and how slowly.

With fields in closed form, the W1 distance from the law of the rows at time t to p, for several
starts, for overlapping and for separated modes in one and two columns; the time until the
weights of two modes are right, as the modes move apart; annealed dynamics beside it. About
two minutes on two cores. Writes doc/theorem_4_1.png and prints the figures.

    pip install ".[benchmark]" && python examples/paper/theorem_4_1.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import ot
import torch

from skbellman.dynamics import bellman_dynamics
from skbellman.fields import GaussianMixtureField
from skbellman.schedule import NoiseSchedule
from skbellman.solvers import annealed_dynamics

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURE = Path(__file__).parents[2] / "doc" / "theorem_4_1.png"
WEIGHTS = torch.tensor([0.3, 0.7]).double()
DEVIATION = 0.5
TIMES = [1, 10, 100, 1000]
DT = 0.1
N_ROWS = 500


def two_modes(gap: float, n_columns: int) -> GaussianMixtureField:
    """Return weights .3 and .7 on Gaussians of deviation .5, so many deviations apart."""
    means = torch.zeros(2, n_columns).double()
    means[:, 0] = torch.tensor([-0.5, 0.5]) * gap * DEVIATION
    covariances = DEVIATION**2 * torch.eye(n_columns).double().expand(2, -1, -1)
    return GaussianMixtureField(WEIGHTS, means, covariances)


def starts(field: GaussianMixtureField, generator: torch.Generator) -> dict[str, torch.Tensor]:
    shape = (N_ROWS, field.n_columns)
    normal = torch.randn(shape, generator=generator).double()
    uniform = torch.rand(shape, generator=generator).double()
    return {
        "uniform": 6 * uniform - 3,
        "Gaussian": 2 * normal,
        "left mode": field.means[0] + DEVIATION * normal,
    }


def w1(rows: torch.Tensor, field: GaussianMixtureField, generator: torch.Generator) -> float:
    """Return W1 to as many rows of p, the mean over four sets of them."""
    level = torch.zeros(field.n_columns).double()
    distances = []
    for _ in range(4):
        other = field.draw(len(rows), level, generator)
        cost = ot.dist(rows.numpy(), other.numpy(), metric="euclidean")
        distances.append(ot.emd2([], [], cost, numItermax=10**6))
    return float(np.mean(distances))


def annealed(field: GaussianMixtureField, generator: torch.Generator) -> torch.Tensor:
    """Draw rows by the probability flow from the ceiling, 16 levels."""
    ones = torch.ones(field.n_columns).double()
    schedule = NoiseSchedule(0.01 * ones, 20 * ones)
    x = 20 * torch.randn(N_ROWS, field.n_columns, generator=generator).double()
    return annealed_dynamics(field, x, schedule, 16, generator)


def curves(gap: float, n_columns: int) -> dict[str, list[float]]:
    """Return W1 at each time by start; the floor of p's own rows; annealed dynamics."""
    field, generator = two_modes(gap, n_columns), torch.Generator().manual_seed(0)
    begin = starts(field, generator)
    x, before = torch.cat(list(begin.values())), 0
    found = {name: [w1(start, field, generator)] for name, start in begin.items()}
    for time in TIMES:
        x = bellman_dynamics(field, x, round((time - before) / DT), generator, dt=DT).rows
        for name, rows in zip(begin, x.split(N_ROWS), strict=True):
            found[name].append(w1(rows, field, generator))
        before = time
    own = field.draw(N_ROWS, torch.zeros(n_columns).double(), generator)
    found["rows of p"] = [w1(own, field, generator)]
    found["annealed"] = [w1(annealed(field, generator), field, generator)]
    return found


def passage_time(gap: float) -> float:
    """Return the mean time from one mode to the other in one column, by quadrature.

    The generator of dx = g dt + sqrt(s) dw is f -> (p^2 f')' / (2 p), whose mean first passage
    time from a to b is the integral over y in [a, b] of 2 / p(y)^2 times P(x < y).
    """
    field = two_modes(gap, 1)
    x = torch.linspace(-3 - gap, 3 + gap, 200_001).double()
    dx = float(x[1] - x[0])
    p = field.scalar(x[:, None], 0.0)
    left, right = field.means[:, 0]
    between = (x > left) & (x < right)
    below = torch.cumsum(p, 0) * dx
    return float((2 / p[between] ** 2 * below[between]).sum() * dx)


def draw_picture(
    results: dict[tuple[float, int], dict[str, list[float]]], gaps: list[float]
) -> None:
    figure, axes = plt.subplots(1, len(results) + 1, figsize=(17, 3.6), layout="constrained")
    for axis, ((gap, n_columns), found) in zip(axes, results.items(), strict=False):
        for name, values in found.items():
            if len(values) > 1:
                axis.plot([0.3, *TIMES], values, "o-", label=f"start: {name}")
        axis.axhline(found["annealed"][0], color="k", ls="--", label="annealed, 16 levels")
        axis.axhline(found["rows of p"][0], color="0.6", ls=":", label="rows of p")
        axis.set(xscale="log", yscale="log", xlabel="time t (first point: t = 0)")
        axis.set_title(f"{n_columns}-D, modes {gap:g} deviations apart", fontsize=9)
    axes[0].set_ylabel("W1 to p")
    axes[0].legend(fontsize=7)
    axes[-1].semilogy(gaps, [passage_time(gap) for gap in gaps], "o-")
    axes[-1].set_title("passage from one mode to the other, 1-D", fontsize=9)
    axes[-1].set(xlabel="modes apart, deviations", ylabel="mean time")
    figure.savefig(PICTURE, dpi=100)


def main() -> None:
    torch.set_num_threads(2)
    results = {(gap, d): curves(gap, d) for d in (1, 2) for gap in (2.0, 6.0)}
    print("| modes apart | D | start | t = 0 | " + " | ".join(f"t = {t}" for t in TIMES) + " |")
    for (gap, n_columns), found in results.items():
        for name, values in found.items():
            cells = " | ".join(f"{value:.3f}" for value in values)
            print(f"| {gap:g} | {n_columns} | {name} | {cells} |")
    gaps = [2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0]
    for gap in gaps:
        print(f"mean passage time, modes {gap:g} deviations apart: {passage_time(gap):.3g}")
    draw_picture(results, gaps)


if __name__ == "__main__":
    main()
