"""The objectives of arXiv 2410.01796 against known fields: where they work, and where not.

    python examples/benchmarks/objectives.py --seeds 5

Mixtures of Gaussians with weights in the ratio 1 : 2 : 3 ..., 4000 rows, the same width, batch
and number of steps for every objective. Five studies, of which --studies chooses:

- columns: 1 to 32 columns, four modes of deviation 0.5;
- modes: 1 to 32 modes in two columns, of deviation 1 / sqrt(modes);
- slices: number and law of the directions of the sliced objective;
- terms: gradient and identity matching alone and together, on one network s with g = grad s;
- cost: milliseconds of a training step by the number of columns, one seed.

Errors are relative: the root mean square of the difference to the true field under p, over that
of the true field, of s and of g. W1 is that of 400 draws to 400 rows of p, made as the estimator
makes them. "kernel" is what the pairwise objective aims at: the kernel density estimate which s
is to become, at the likeliest bandwidth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from distances import relative_error, w1
from methods import (
    SETTINGS,
    denoising_draws,
    denoising_fields,
    fit_denoising,
    fit_paper,
    kernel_draws,
    kernel_fields,
    number_rows,
    paper_draws,
)
from torch import Tensor, nn

from skbellman.fields import DensityField, GaussianMixtureField
from skbellman.fields.networks import ResidualNetwork
from skbellman.fitting import Rows
from skbellman.matching import (
    kernel_density,
    likeliest_bandwidth,
    pairwise_gradient_loss,
    pairwise_identity_loss,
)
from skbellman.paper import Matching
from skbellman.training import Plan, train

N_ROWS, N_HELD_OUT, N_TEST = 4000, 200, 400
PLAN = Plan(n_steps=400, learning_rate=1e-3, patience=10)


@dataclass(frozen=True)
class Known:
    """Rows of a mixture, and its fields at the test rows."""

    train: Tensor
    held_out: Tensor
    test: Tensor
    own: Tensor
    s: Tensor
    g: Tensor

    @classmethod
    def of(cls, n_columns: int, n_modes: int, deviation: float, seed: int) -> Known:
        generator = torch.Generator().manual_seed(seed)
        means = torch.randn(n_modes, n_columns, generator=generator)
        covariances = deviation**2 * torch.eye(n_columns).expand(n_modes, -1, -1)
        weights = torch.arange(1, n_modes + 1) / (n_modes * (n_modes + 1) / 2)
        field = GaussianMixtureField(weights, means - means.mean(0), covariances)
        counts = [N_ROWS, N_HELD_OUT, N_TEST, N_TEST]
        x = field.draw(sum(counts), torch.zeros(n_columns), generator)
        test = x.split(counts)[2]
        return cls(*x.split(counts), field.scalar(test, 0.0), field.gradient(test, 0.0))

    @property
    def rows(self) -> Rows:
        return number_rows(self.train, self.held_out)


@dataclass(frozen=True)
class Found:
    """What an objective makes of the fields at the test rows, and draws."""

    s: Tensor
    g: Tensor
    draws: Tensor


Method = Callable[[Known, int], Found]


def direct(matching: Matching) -> Method:
    """Return the paper's method: two networks, one level, its own dynamics."""

    def method(known: Known, seed: int) -> Found:
        return found(fit_paper(known.rows, matching, PLAN, seed), known, seed)

    return method


def found(field: DensityField, known: Known, seed: int) -> Found:
    draws = paper_draws(field, N_TEST, torch.Generator().manual_seed(seed))
    return Found(field.scalar(known.test, 0.0), field.gradient(known.test, 0.0), draws)


def denoising(known: Known, seed: int) -> Found:
    field, schedule = fit_denoising(known.rows, PLAN, seed, floor=0.05)
    draws = denoising_draws(field, schedule, N_TEST, torch.Generator().manual_seed(seed))
    return Found(*denoising_fields(field, schedule, known.test), draws)


class PotentialField(DensityField):
    """One network: s, and g its gradient."""

    def __init__(self, n_columns: int, unit: float) -> None:
        super().__init__()
        self.n_columns, self.unit = n_columns, unit
        self.network = ResidualNetwork(n_columns, 1, SETTINGS.width, SETTINGS.depth, 0.0)
        self.register_buffer("shift", torch.zeros(()))

    def scalar(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.unit * self.network(x).squeeze(-1) + self.shift

    def gradient(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return torch.func.grad(lambda points: self.scalar(points, sigma).sum())(x)

    log_scalar = log_gradient = None  # type: ignore[assignment] # not asked for here


def terms(names: list[str]) -> Method:
    """Return pairwise matching of one potential, by the named objectives."""
    losses = {"gradient": pairwise_gradient_loss, "identity": pairwise_identity_loss}

    def method(known: Known, seed: int) -> Found:
        generator = torch.Generator().manual_seed(seed)
        eps = likeliest_bandwidth(known.train[:1000])
        mean_density = float(kernel_density(known.held_out, known.train, eps).mean())
        torch.manual_seed(seed)  # of the weights that the network begins with
        field = PotentialField(known.train.shape[1], mean_density)

        def loss_of(x: Tensor, others: Tensor) -> Tensor:
            total = sum(losses[name](field, x, others, eps) for name in names)
            return total / mean_density**2

        def loss(_: nn.Module) -> Tensor:
            x, others = known.train[torch.randperm(N_ROWS, generator=generator)].split(
                [SETTINGS.batch_size, N_ROWS - SETTINGS.batch_size]
            )
            return loss_of(x, others)

        def evaluate(_: nn.Module) -> dict[str, float]:
            return {"score": -float(loss_of(known.held_out, known.train).detach())}

        train(field, loss, PLAN, evaluate)
        if "identity" not in names:  # the gradient leaves the constant open
            mean = field.scalar(known.held_out, 0.0).detach().mean()
            field.shift += mean_density - mean
        return found(field.requires_grad_(False), known, seed)

    return method


def kernel(known: Known, seed: int) -> Found:
    eps = likeliest_bandwidth(known.train[:1000])
    draws = kernel_draws(known.train, eps, N_TEST, torch.Generator().manual_seed(seed))
    return Found(*kernel_fields(known.test, known.train, eps), draws)


def figures(method: Method, known: Known, seed: int) -> list[float]:
    """Return the errors of s and g, W1, W1 of p's own rows, and seconds."""
    begin = time.perf_counter()
    result = method(known, seed)
    seconds = time.perf_counter() - begin
    errors = [relative_error(result.s, known.s), relative_error(result.g, known.g)]
    return [*errors, w1(result.draws, known.test), w1(known.own, known.test), seconds]


METHODS: dict[str, Method] = {
    "kernel": kernel,
    "pairwise": direct(Matching("pairwise")),
    "sliced": direct(Matching("sliced")),
    "denoising": denoising,
}
SLICES = {
    f"{number} slices, {law}": direct(Matching("sliced", slices=law, n_slices=number))
    for number, law in [*((n, "sphere") for n in (1, 4, 16, 64)), (16, "gaussian"), (16, "axes")]
}
TERMS = {
    "gradient alone": terms(["gradient"]),
    "identity alone": terms(["identity"]),
    "both, one network": terms(["gradient", "identity"]),
    "both, two networks": METHODS["pairwise"],
}
Case = tuple[str, tuple[int, int, float], dict[str, Method]]
STUDIES: dict[str, list[Case]] = {
    "columns": [(f"{d} columns", (d, 4, 0.5), METHODS) for d in (1, 2, 4, 8, 16, 32)],
    "modes": [(f"{k} modes", (2, k, k**-0.5), METHODS) for k in (1, 2, 8, 32)],
    "slices": [(f"{d} columns", (d, 4, 0.5), SLICES) for d in (1, 2)],
    "terms": [(f"{d} columns", (d, 4, 0.5), TERMS) for d in (1, 2, 4)],
}


def print_costs() -> None:
    """Print the time of a step: 100 more steps, with as many evaluations."""
    for n_columns in (1, 2, 4, 8, 16, 32):
        rows = Known.of(n_columns, 4, 0.5, seed=0).rows
        fits: dict[str, Callable[[Plan], object]] = {
            "pairwise": lambda plan, rows=rows: fit_paper(rows, Matching("pairwise"), plan, 0),
            "sliced": lambda plan, rows=rows: fit_paper(rows, Matching("sliced"), plan, 0),
            "denoising": lambda plan, rows=rows: fit_denoising(rows, plan, 0, floor=0.05),
        }
        cells = []
        for fit in fits.values():
            seconds = []
            for n_steps in (20, 120):
                begin = time.perf_counter()
                fit(replace(PLAN, n_steps=n_steps))
                seconds.append(time.perf_counter() - begin)
            cells.append(f"{10 * (seconds[1] - seconds[0]):.1f}")
        print(f"| {n_columns} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--studies", nargs="+", default=[*STUDIES, "cost"])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for study in arguments.studies:
        if study == "cost":
            print("\n| columns | pairwise | sliced | denoising | (ms a step)")
            print_costs()
            continue
        print(f"\n| {study} | objective | error of s | error of g | W1 | W1 of p | seconds |")
        for label, problem, methods in STUDIES[study]:
            for name, method in methods.items():
                seeds = range(arguments.seeds)
                values = np.array([figures(method, Known.of(*problem, s), s) for s in seeds])
                pairs = zip(values.mean(0), values.std(0), strict=True)
                cells = " | ".join(f"{mean:.3g} ({spread:.2g})" for mean, spread in pairs)
                print(f"| {label} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
