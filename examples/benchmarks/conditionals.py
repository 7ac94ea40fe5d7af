"""Marginal and conditional log-densities against closed forms, by how many columns they concern.

    cd examples/benchmarks && python conditionals.py --rows 5000 --columns 3 8 20

A mixture of six Gaussians in D columns; the estimator with its defaults, fitted once. The median
over 200 fresh rows, in nats, of the absolute error of the log-density of k columns drawn at random:
their marginal, and their conditional given all others, given half of the others, and as the
difference of the joint and the marginal of the others. "all" is the whole estimator, "networks"
what the networks say without the closed form beside them, which is of the truth's own kind here.
"""

from __future__ import annotations

import argparse
import copy
import time

import numpy as np
import torch
from tables import Mixture

from skbellman import BellmanDiffusionDensity
from skbellman.fields import GaussianMixtureField
from skbellman.fields import Mixture as MixtureOfFields

N_TEST = 200


class Truth:
    """The closed form of every marginal and conditional."""

    def __init__(self, mixture: Mixture) -> None:
        parts = (mixture.weights, mixture.means, mixture.covariances)
        self.field = GaussianMixtureField(*map(torch.tensor, parts))

    def log_density(self, x: np.ndarray, columns: list[int], given: list[int]) -> np.ndarray:
        both = self._marginal(x, [*columns, *given])
        return both - self._marginal(x, given) if given else both

    def _marginal(self, x: np.ndarray, columns: list[int]) -> np.ndarray:
        levels = torch.full((x.shape[1],), torch.inf, dtype=torch.float64)
        levels[columns] = 0.0
        return self.field.log_scalar(torch.tensor(x), levels).numpy()


def networks_of(density: BellmanDiffusionDensity) -> BellmanDiffusionDensity:
    """Return the estimator without the closed form beside its networks."""
    alone = copy.deepcopy(density)
    alone.field_ = MixtureOfFields([density.field_.fields[0]], density.field_.weights.new_ones(1))
    return alone


def questions(
    n_columns: int, k: int, rng: np.random.Generator
) -> dict[str, tuple[list[int], list[int]]]:
    """Return columns and conditions to ask, k columns at random."""
    order = rng.permutation(n_columns).tolist()
    asked, others = order[:k], order[k:]
    found = {"marginal": (asked, [])}
    if others:
        found["given all others"] = (asked, others)
    if len(others) > 1:
        found["given half of them"] = (asked, others[: len(others) // 2])
    return found


def errors(
    density: BellmanDiffusionDensity,
    truth: Truth,
    x: np.ndarray,
    asked: list[int],
    given: list[int],
) -> dict[str, float]:
    """Return median absolute errors: direct, and of the difference where there are conditions."""
    expected = truth.log_density(x, asked, given)
    direct = density.score_samples(x, columns=asked, given=given)
    found = {"": direct}
    if given:
        joint = density.score_samples(x, columns=[*asked, *given])
        found[", as a difference"] = joint - density.score_samples(x, columns=given)
    return {name: float(np.median(np.abs(value - expected))) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--columns", type=int, nargs="+", default=[3, 8, 20])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    print("| D | asked | question | all | networks |")
    for n_columns in arguments.columns:
        mixture, rng = Mixture(seed=0, n_columns=n_columns), np.random.default_rng(arguments.seed)
        begin = time.perf_counter()
        train, x = mixture.draw(arguments.rows, rng), mixture.draw(N_TEST, rng)
        density = BellmanDiffusionDensity(random_state=arguments.seed).fit(train)
        seconds = time.perf_counter() - begin
        models, truth = [density, networks_of(density)], Truth(mixture)
        print(f"| {n_columns} | fit | {seconds:.0f} s | {density.field_.weights[1]:.2f} | |")
        for k in sorted({1, n_columns // 2, n_columns - 1, n_columns}):
            for name, (asked, given) in questions(n_columns, k, rng).items():
                found = [errors(model, truth, x, asked, given) for model in models]
                for variant in found[0]:
                    cells = " | ".join(f"{f[variant]:.3f}" for f in found)
                    print(f"| {n_columns} | {k} | {name}{variant} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
