"""Densities of scikit-learn's digits: bits, draws told from real ones, time and memory.

python benchmark.py                          # every method, each in a process of its own
python benchmark.py --methods grid ddpm --seeds 0 1 2 --steps 2000
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from ddpm import DDPM
from density import ImageDensity
from measures import Features, detection_auc, frechet_distance, precision_and_recall
from networks import digits_network
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from skbellman import BellmanDiffusionDensity
from skbellman.likelihood import FlowIntegral
from skbellman.sampling import Annealing

N_VALUES, N_DRAWN = 17, 720
HUTCHINSON, QUICK = FlowIntegral(16, 8), FlowIntegral(8, 4, multistep=True)


@dataclass(frozen=True)
class Data:
    """Digits of 8 x 8, whole numbers from 0 to 16, and the labels of two parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray


def digits(seed: int, n_test: int = 360, n_validation: int = 140) -> Data:
    """Return the digits of scikit-learn in a random order, in three parts."""
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.images))
    images, labels = found.images[order].astype(int), found.target[order]
    train = slice(n_test + n_validation, None)
    return Data(
        images[train], images[n_test : train.start], images[:n_test], labels[train], labels[:n_test]
    )


@dataclass
class Result:
    """Bits per pixel of the test images, sets of drawn images by name, and seconds."""

    bits: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    fit_seconds: float
    score_ms: dict[str, float]
    draw_seconds: dict[str, float]


def measured(
    fit: Callable[[], object],
    scores: dict[str, Callable[[], np.ndarray]],
    draws: dict[str, Callable[[], np.ndarray]],
) -> Result:
    """Fit, score and draw, and take the time of each."""
    _, seconds = timed(fit)
    bits = {name: timed(score) for name, score in scores.items()}
    drawn = {name: timed(draw) for name, draw in draws.items()}
    return Result(
        {name: found for name, (found, _) in bits.items()},
        {name: found for name, (found, _) in drawn.items()},
        seconds,
        {name: 1000 * took / len(found) for name, (found, took) in bits.items()},
        {name: took for name, (_, took) in drawn.items()},
    )


def timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the answer and the processor's seconds."""
    start = time.process_time()
    found = function()
    return found, time.process_time() - start


def of_network(data: Data, seed: int, n_steps: int, grid: bool) -> Result:
    density = ImageDensity(digits_network, N_VALUES, grid=grid, n_steps=n_steps, seed=seed)
    return measured(
        lambda: density.fit(data.train, data.validation),
        {
            "8 signs, 16 nodes": lambda: density.bits(data.test, HUTCHINSON),
            "4 signs, 8 nodes": lambda: density.bits(data.test, QUICK),
            "exact, 60 rows": lambda: density.bits(data.test[:60], FlowIntegral(16)),
        },
        {
            "16 levels, beta 0": lambda: density.sample(N_DRAWN, Annealing(16), seed=seed),
            "40 levels, beta 0": lambda: density.sample(N_DRAWN, Annealing(40), seed=seed),
            "40 levels, beta 1": lambda: density.sample(N_DRAWN, Annealing(40, 1.0), seed=seed),
        },
    )


def of_ddpm(data: Data, seed: int, n_steps: int, dequantised: bool) -> Result:
    model = DDPM(digits_network, N_VALUES, n_steps=n_steps, dequantised=dequantised, seed=seed)
    bits = {"8 signs, 32 nodes": lambda: model.bits(data.test, FlowIntegral(32, 8))}
    return measured(
        lambda: model.fit(data.train, data.validation),
        bits if dequantised else {},
        {"1000 passes": lambda: model.sample(N_DRAWN, seed)},
    )


def of_table(data: Data, seed: int, n_steps: int) -> Result:
    density = BellmanDiffusionDensity(random_state=seed)
    rows = np.concatenate([data.train, data.validation]).reshape(-1, 64)
    test = data.test.reshape(-1, 64)
    return measured(
        lambda: density.fit(rows),
        {"default": lambda: -density.score_samples(test) / (64 * math.log(2))},
        {"default": lambda: np.asarray(density.sample(N_DRAWN, random_state=seed))},
    )


def of_peer(data: Data, seed: int, candidates: list, noise: float = 1.0) -> Result:
    """Fit estimators of scikit-learn to dequantised rows; the validation rows choose one."""
    rng = np.random.default_rng(seed)

    def rows(images: np.ndarray, times: int = 1) -> np.ndarray:
        values = np.tile(images.reshape(-1, 64), (times, 1))
        return values + rng.random(values.shape)

    chosen = []

    def fit() -> object:
        fitted = [candidate.fit(rows(data.train, 4)) for candidate in candidates]
        judges = rows(data.validation, 4)
        chosen.append(max(fitted, key=lambda peer: peer.score_samples(judges).mean()))
        return chosen[0]

    def draw() -> np.ndarray:
        drawn = chosen[0].sample(N_DRAWN)
        drawn = drawn[0] if isinstance(drawn, tuple) else drawn
        return np.floor(drawn).clip(0, N_VALUES - 1).astype(int)

    test = rows(data.test)
    bits = {"": lambda: -chosen[0].score_samples(test) / (64 * math.log(2))}
    return measured(fit, bits, {"": draw})


def of_mixture(data: Data, seed: int, n_steps: int) -> Result:
    sizes = [(k, ridge) for k in (10, 20, 40) for ridge in (0.1, 0.3, 1.0)]
    return of_peer(
        data, seed, [GaussianMixture(k, reg_covar=r, random_state=seed) for k, r in sizes]
    )


def of_kernel(data: Data, seed: int, n_steps: int) -> Result:
    return of_peer(data, seed, [KernelDensity(bandwidth=h) for h in np.geomspace(0.5, 3, 8)])


def of_train_rows(data: Data, seed: int, n_steps: int) -> Result:
    """Return real rows as if they were drawn: the best that any method can do."""
    return Result({}, {"": data.train[:N_DRAWN]}, 0.0, {}, {})


METHODS = {
    "grid": lambda *arguments: of_network(*arguments, grid=True),
    "gaussian": lambda *arguments: of_network(*arguments, grid=False),
    "ddpm": lambda *arguments: of_ddpm(*arguments, dequantised=True),
    "ddpm, whole values": lambda *arguments: of_ddpm(*arguments, dequantised=False),
    "table": of_table,
    "mixture": of_mixture,
    "kernel": of_kernel,
    "train rows": of_train_rows,
}


def figures(data: Data, result: Result) -> dict:
    """Return the numbers of a result."""
    features = Features(data.train, data.train_labels)
    real = features(data.test)
    found: dict = {
        "classifier": features.accuracy(data.test, data.test_labels),
        "fit_s": result.fit_seconds,
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, bits in result.bits.items():
        error = float(bits.std() / len(bits) ** 0.5)
        found[f"bits ({name})"] = [float(bits.mean()), error, result.score_ms[name]]
    for name, rows in result.drawn.items():
        drawn = rows.reshape(-1, 8, 8)
        sets = np.array_split(drawn, len(drawn) // len(data.test))
        near = precision_and_recall(features(drawn[: len(real)]), real)
        found[f"draws ({name})"] = {
            "auc": float(np.mean([detection_auc(part, data.test) for part in sets])),
            "frechet": frechet_distance(features(drawn), real),
            "precision": near[0],
            "recall": near[1],
            "seconds": result.draw_seconds.get(name, 0.0),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--here", action="store_true", help="one method, in this process")
    options = parser.parse_args()
    for seed in options.seeds:
        for method in options.methods:
            if not options.here:
                alone = ["--methods", method, "--seeds", str(seed), "--steps", str(options.steps)]
                subprocess.run([sys.executable, __file__, *alone, "--here"], check=True)
                continue
            torch.set_num_threads(1)
            data = digits(seed)
            found = figures(data, METHODS[method](data, seed, options.steps))
            print(json.dumps({"method": method, "seed": seed, **found}), flush=True)


if __name__ == "__main__":
    main()
