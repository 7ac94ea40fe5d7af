"""The synthetic experiments of arXiv 2410.01796, with pictures: fields and draws beside the truth.

    pip install ".[benchmark]" && python examples/benchmarks/synthetic.py unbalanced

One of: uniform (one column), mixture (three even modes), unbalanced (weights 0.02, 0.08, 0.3 and
0.6), ring (around a blob, with a gap of low density between). Each takes under two minutes on two
cores, writes doc/synthetic_CASE.png and prints errors of the fields under p, W1 of 1000 draws to
1000 rows of p, and the weights of the modes among the draws.

Every objective has the same networks and 600 steps on 4000 rows; denoising also four times as
many, which take the time that the others do. The score-based model is the
denoising network without its scalar field, sampled by Langevin's dynamics at its lowest level
(1000 steps from standard normal rows, as the paper's dynamics are) and annealed (arXiv 1907.05600).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from distances import relative_error, w1
from methods import (
    denoising_draws,
    denoising_fields,
    fit_denoising,
    fit_paper,
    kernel_draws,
    kernel_fields,
    number_rows,
    paper_draws,
)
from torch import Tensor

from skbellman.fields import GaussianMixtureField, NeuralField
from skbellman.fitting import Rows
from skbellman.matching import likeliest_bandwidth
from skbellman.paper import Matching
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan

mpl.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parents[2] / "doc"
PLAN = Plan(n_steps=600, learning_rate=1e-3, patience=10)
N_ROWS, N_HELD_OUT, N_DRAWS = 4000, 400, 1000
FLOOR = 0.05
LANGEVIN_STEP = 0.2  # in units of sigma^2

FieldsAt = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """A density whose fields are known, and which of its modes a row belongs to."""

    draw: Callable[[int, torch.Generator], Tensor]
    fields: FieldsAt
    mode: Callable[[Tensor], Tensor]
    weights: list[float]
    n_columns: int = 2
    reach: float = 2.6


@dataclass(frozen=True)
class Found:
    """What a method makes of a case; fields are None for one that has no density."""

    draws: Tensor
    seconds: float
    fields: FieldsAt | None


def uniform() -> Case:
    def fields(x: Tensor) -> tuple[Tensor, Tensor]:
        inside = x[:, 0].abs() < 3**0.5
        return torch.where(inside, 12**-0.5, 0.0), torch.zeros_like(x)

    def draw(n_rows: int, generator: torch.Generator) -> Tensor:
        return 3**0.5 * (2 * torch.rand(n_rows, 1, generator=generator) - 1)

    return Case(draw, fields, lambda x: (x[:, 0] > 0).long(), [0.5, 0.5], n_columns=1)


def gaussians(weights: list[float], means: list[list[float]], deviation: float) -> Case:
    centres = torch.tensor(means)
    covariances = deviation**2 * torch.eye(2).expand(len(weights), -1, -1)
    field = GaussianMixtureField(torch.tensor(weights), centres, covariances)
    return Case(
        lambda n, generator: field.draw(n, torch.zeros(2), generator),
        lambda x: (field.scalar(x, 0.0), field.gradient(x, 0.0)),
        lambda x: torch.cdist(x, centres).argmin(1),
        weights,
    )


def ring(share: float = 0.7, radius: float = 1.7, width: float = 0.12) -> Case:
    def s(x: Tensor) -> Tensor:
        r = x.norm(dim=-1)
        around = (-((r - radius) ** 2) / (2 * width**2)).exp() / (r * width * (2 * math.pi) ** 1.5)
        blob = (-(r**2) / (2 * (2 * width) ** 2)).exp() / (2 * math.pi * (2 * width) ** 2)
        return share * around + (1 - share) * blob

    def fields(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        value = s(x)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    def draw(n_rows: int, generator: torch.Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(n_rows, 1, generator=generator)
        noise = width * torch.randn(n_rows, 2, generator=generator)
        around = (radius + noise[:, :1]) * torch.cat([angle.cos(), angle.sin()], 1)
        chosen = torch.rand(n_rows, 1, generator=generator) < share
        return torch.where(chosen, around, 2 * noise)

    return Case(draw, fields, lambda x: (x.norm(dim=-1) < radius / 2).long(), [share, 1 - share])


CASES: dict[str, Callable[[], Case]] = {
    "uniform": uniform,
    "mixture": lambda: gaussians(
        [1 / 3] * 3, [[-1.4, -0.8], [1.4, -0.8], [0.0, 1.6]], deviation=0.35
    ),
    "unbalanced": lambda: gaussians(
        [0.02, 0.08, 0.3, 0.6], [[-1.3, 1.3], [1.3, 1.3], [1.3, -1.3], [-1.3, -1.3]], deviation=0.35
    ),
    "ring": ring,
}


def langevin(
    field: NeuralField, x: Tensor, sigma: Tensor, n_steps: int, generator: torch.Generator
) -> Tensor:
    """Move rows by Langevin's dynamics at one level, dx = h dt / 2 + dw."""
    dt = LANGEVIN_STEP * sigma.square()
    for _ in range(n_steps):
        noise = torch.randn(x.shape, generator=generator)
        x = x + 0.5 * dt * field.log_gradient(x, sigma) + dt.sqrt() * noise
    return x


def annealed_langevin(
    field: NeuralField, schedule: NoiseSchedule, start: Tensor, generator: torch.Generator
) -> Tensor:
    x = start * schedule(1.0)
    for t in torch.linspace(1, 0, 80).tolist():
        x = langevin(field, x, schedule(t), 10, generator)
    return x


def estimate(case: Case, rows: Rows, seed: int) -> dict[str, Found]:
    """Return what every method finds."""
    found, train = {}, rows.draws[0]
    for kind in ("pairwise", "sliced"):
        begin, generator = time.perf_counter(), torch.Generator().manual_seed(seed)
        field = fit_paper(rows, Matching(kind), PLAN, seed)
        draws = paper_draws(field, N_DRAWS, generator)
        found[kind] = Found(draws, time.perf_counter() - begin, _at_level_0(field))
    found |= denoised(rows, case, seed)
    found["denoising, 4 x steps"] = denoised_for_longer(rows, seed)
    return found | {"KDE": kernel(train, seed)}


def _at_level_0(field) -> FieldsAt:  # type: ignore[no-untyped-def]
    return lambda x: (field.scalar(x, 0.0), field.gradient(x, 0.0))


def denoised(rows: Rows, case: Case, seed: int) -> dict[str, Found]:
    """Return the library's fields, and the same network as a score-based model."""
    begin, generator = time.perf_counter(), torch.Generator().manual_seed(seed)
    field, schedule = fit_denoising(rows, PLAN, seed, FLOOR)
    training = time.perf_counter() - begin
    start = torch.randn(N_DRAWS, case.n_columns, generator=generator)
    found = {}
    for name, sampler in {
        "score, Langevin": lambda: langevin(field, start, schedule(0.0), 1000, generator),
        "score, annealed": lambda: annealed_langevin(field, schedule, start, generator),
        "denoising": lambda: denoising_draws(field, schedule, N_DRAWS, generator),
    }.items():
        begin = time.perf_counter()
        draws = sampler()
        found[name] = Found(draws, training + time.perf_counter() - begin, None)
    at = partial(denoising_fields, field, schedule)
    return found | {"denoising": replace(found["denoising"], fields=at)}


def denoised_for_longer(rows: Rows, seed: int) -> Found:
    """Return what denoising makes of about the time that the paper's objectives take."""
    begin, generator = time.perf_counter(), torch.Generator().manual_seed(seed)
    plan = replace(PLAN, n_steps=4 * PLAN.n_steps)
    field, schedule = fit_denoising(rows, plan, seed, FLOOR)
    draws = denoising_draws(field, schedule, N_DRAWS, generator)
    at = partial(denoising_fields, field, schedule)
    return Found(draws, time.perf_counter() - begin, at)


def kernel(train: Tensor, seed: int) -> Found:
    begin = time.perf_counter()
    eps = likeliest_bandwidth(train[:1000])
    draws = kernel_draws(train, eps, N_DRAWS, torch.Generator().manual_seed(seed))
    seconds = time.perf_counter() - begin
    return Found(draws, seconds, lambda x: kernel_fields(x, train, eps))


def line(case: Case, name: str, found: Found, test: Tensor) -> str:
    """Return a row of the table."""
    errors = "| | |"
    if found.fields is not None:
        pairs = list(zip(found.fields(test), case.fields(test), strict=True))
        values = [
            relative_error(f, true) if bool((true != 0).any()) else np.nan for f, true in pairs
        ]
        errors = f"| {values[0]:.3f} | {values[1]:.3f} |"
    modes = case.mode(found.draws)
    weights = [float((modes == k).double().mean()) for k in range(len(case.weights))]
    shares = ", ".join(f"{weight:.3f}" for weight in weights)
    return f"| {name} {errors} {w1(found.draws, test):.3f} | {shares} | {found.seconds:.0f} |"


def draw_lines(case: Case, methods: dict[str, Found], path: Path) -> None:
    """Draw s, g and a histogram of the draws in one column."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    axis = torch.linspace(-case.reach, case.reach, 400)[:, None]
    for name, found in methods.items():
        if found.fields is not None:
            for panel, values in zip(axes, found.fields(axis), strict=False):
                style = {"color": "k", "lw": 2} if name == "truth" else {}
                panel.plot(axis, values.detach(), label=name, **style)
        draws = found.draws[:, 0].sort().values
        axes[2].plot(draws, torch.linspace(0, 1, len(draws)), lw=1, label=name)
    for panel, title in zip(axes, ["s", "g", "draws, cumulative share"], strict=True):
        panel.set_title(title)
        panel.legend(fontsize=7)
    axes[1].set_ylim(-2, 2)
    axes[2].set_xlim(-2 * case.reach, 2 * case.reach)
    figure.savefig(path, dpi=100)


def draw_fields(case: Case, methods: dict[str, Found], path: Path) -> None:
    """Draw s, g and the draws of each method in two columns."""
    figure, axes = plt.subplots(
        3, len(methods), figsize=(2.1 * len(methods), 6.4), layout="constrained"
    )
    fine, coarse = (_square(case.reach, n) for n in (60, 16))
    top = float(methods["truth"].fields(fine)[0].max())  # type: ignore[misc]
    extent = [-case.reach, case.reach] * 2
    for column, (name, found) in zip(axes.T, methods.items(), strict=True):
        column[0].set_title(name, fontsize=9)
        if found.fields is None:
            for panel in column[:2]:
                panel.text(0.5, 0.5, "no density", ha="center", transform=panel.transAxes)
        else:
            s, g = found.fields(fine)[0].view(60, 60).T, found.fields(coarse)[1]
            column[0].imshow(s, origin="lower", extent=extent, vmin=0, vmax=top)
            longest = float(g.norm(dim=1).quantile(0.98))
            column[1].quiver(*coarse.T, *g.T, angles="xy", scale_units="xy", scale=2 * longest)
        column[2].scatter(*found.draws.T, s=1)
        for panel in column:
            panel.set(xlim=extent[:2], ylim=extent[:2], xticks=[], yticks=[], aspect="equal")
    for panel, label in zip(axes[:, 0], ["s", "g (each to its own scale)", "draws"], strict=True):
        panel.set_ylabel(label)
    figure.savefig(path, dpi=100)


def _square(reach: float, n: int) -> Tensor:
    axis = torch.linspace(-reach, reach, n)
    return torch.cartesian_prod(axis, axis)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=[*CASES])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    case, generator = CASES[arguments.case](), torch.Generator().manual_seed(arguments.seed)
    counts = [N_ROWS, N_HELD_OUT, N_DRAWS, N_DRAWS]
    train, held_out, test, own = case.draw(sum(counts), generator).split(counts)
    methods = {"truth": Found(own, 0.0, case.fields)}
    methods |= estimate(case, number_rows(train, held_out), arguments.seed)
    print(f"true weights: {case.weights}")
    print("| method | error of s | error of g | W1 | weights | seconds |")
    for name, found in methods.items():
        print(line(case, name, found, test))
    picture = draw_lines if case.n_columns == 1 else draw_fields
    picture(case, methods, FOLDER / f"synthetic_{arguments.case}.png")


if __name__ == "__main__":
    main()
