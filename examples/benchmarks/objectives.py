"""Where the objectives of arXiv 2410.01796 stop working: the error of the fields by dimension.

    python examples/benchmarks/objectives.py --seeds 5

A mixture of four Gaussians of deviation 0.5 in D columns, 4000 rows, the same width, batch and
number of steps for every objective. Errors are relative: the root mean square of the difference to
the true field under p, over that of the true field, of s and of g. "kernel" is the error that
the pairwise objective aims at: that of the kernel density estimate which s is to become, at
the likeliest bandwidth, with the mean number of rows within a kernel of a row.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import Tensor

from skbellman.fields import GaussianMixtureField
from skbellman.fitting import FieldSettings, Rows, fit_gradient, initial_field
from skbellman.likelihood import FlowIntegral
from skbellman.matching import kernel_density, likeliest_bandwidth
from skbellman.paper import Matching, fit_direct
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan

N_ROWS, N_HELD_OUT, N_TEST = 4000, 200, 400
SETTINGS = FieldSettings(128, depth=3, dropout=0.0, batch_size=512, conditional_fraction=0.0)
PLAN = Plan(n_steps=300, learning_rate=1e-3, patience=10)


def truth(n_columns: int, seed: int) -> GaussianMixtureField:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(4, n_columns, generator=generator)
    means = means - means.mean(0)
    covariances = 0.25 * torch.eye(n_columns).expand(4, -1, -1)
    return GaussianMixtureField(torch.tensor([0.1, 0.2, 0.3, 0.4]), means, covariances)


def relative_error(found: Tensor, true: Tensor) -> float:
    found, true = (values.detach().double() for values in (found, true))
    return float((found - true).square().sum().sqrt() / true.square().sum().sqrt())


def run(n_columns: int, seed: int) -> dict[str, list[float]]:
    """Return errors of s and g and milliseconds a step, by objective."""
    field, generator = truth(n_columns, seed), torch.Generator().manual_seed(seed)
    level = torch.zeros(n_columns)
    x = field.draw(N_ROWS + N_HELD_OUT + N_TEST, level, generator)
    held_out, test, train = x.split([N_HELD_OUT, N_TEST, N_ROWS])
    blocks = torch.arange(n_columns)
    rows = Rows(train[None], held_out, torch.zeros(len(held_out)), blocks, corners=[])
    exact = field.scalar(test, 0.0), field.gradient(test, 0.0)
    eps = likeliest_bandwidth(train[:1000])
    near = (torch.cdist(test, train) < 2 * eps**0.5).double().sum(1).mean()
    figures = {"kernel": [relative_error(kernel_density(test, train, eps), exact[0]), float(near)]}
    for kind in ("pairwise", "sliced"):
        begin = time.perf_counter()
        fit = fit_direct(rows, Matching(kind), SETTINGS, PLAN, seed, lambda record: False)
        step = 1e3 * (time.perf_counter() - begin) / PLAN.n_steps
        found = fit.field.scalar(test, 0.0), fit.field.gradient(test, 0.0)
        figures[kind] = [*map(relative_error, found, exact), step]
    begin = time.perf_counter()
    found = denoised(rows, test, generator)
    step = 1e3 * (time.perf_counter() - begin) / PLAN.n_steps
    figures["denoising"] = [*map(relative_error, found, exact), step]
    return figures


def denoised(rows: Rows, test: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return s, by the flow integral, and g = s h at the test rows."""
    ones = torch.ones(test.shape[1])
    schedule = NoiseSchedule(0.05 * ones, 20 * ones)
    field = initial_field(rows, schedule, SETTINGS)
    fit_gradient(field, rows, schedule, SETTINGS, PLAN, generator, lambda record: False)
    with torch.no_grad():
        s = FlowIntegral(32).log_density(field.eval(), test, schedule).exp()
        return s, s.unsqueeze(-1) * field.log_gradient(test, schedule(0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--columns", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    print("| D | objective | error of s | error of g | ms a step |")
    for n_columns in arguments.columns:
        results = [run(n_columns, seed) for seed in range(arguments.seeds)]
        for name in results[0]:
            values = np.array([r[name] for r in results])
            cells = [
                f"{m:.3g} ({s:.2g})" for m, s in zip(values.mean(0), values.std(0), strict=True)
            ]
            if name == "kernel":
                cells = [cells[0], f"{cells[1]} rows within 2 bandwidths", ""]
            print(f"| {n_columns} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
