"""The five UCI tables of arXiv 2410.01796: draws of its objectives, of denoising and of a DDPM.

    python examples/benchmarks/uci.py --data ../shared/data --seeds 5

Without --data the tables are fetched from OpenML. Categories become numbers in the order of their
names, missing values a category of their own, names of rows are dropped, and each column is put in
deviations of the training rows. The paper's objectives, denoising (the library's networks
alone) and the DDPM have networks of the same width and depth, and as many steps of the same batch;
each keeps its best state on the validation rows. "default" is the estimator as users have it,
fitted to the same numbers, "start" the standard normal rows that the paper's dynamics begin with,
"real" the training rows: the floor.

W1 and MMD (unbiased square, Gaussian kernel as wide as the median distance, times 1000) are those
to up to 500 held-out rows, means over up to four sets of as many draws.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from distances import mmd, w1
from methods import (
    SETTINGS,
    denoising_draws,
    fit_denoising,
    fit_paper,
    number_rows,
    paper_draws,
)
from sklearn.datasets import fetch_openml
from torch import Tensor, nn

from skbellman import BellmanDiffusionDensity
from skbellman.fields.networks import ResidualNetwork
from skbellman.fitting import Rows
from skbellman.paper import Matching
from skbellman.training import Plan, train

OPENML = {
    "parkinsons": 1488,
    "wine_quality_red": 40691,
    "abalone": 183,
    "parkinsons_telemonitoring": 4531,
    "mushroom": 24,
}
PLAN = Plan(n_steps=1000, learning_rate=1e-3, patience=10)
N_TEST, N_SETS = 500, 4


@dataclass(frozen=True)
class Parts:
    """Rows of a table in deviations of the training rows."""

    train: Tensor
    validation: Tensor
    test: Tensor

    @property
    def rows(self) -> Rows:
        return number_rows(self.train, self.validation)

    @property
    def n_draws(self) -> int:
        return N_SETS * len(self.test)


def load(name: str, folder: Path | None) -> pd.DataFrame:
    """Return the table with categories as numbers, without names of rows and constant columns."""
    if folder is None:
        frame = fetch_openml(data_id=OPENML[name], as_frame=True).frame
    else:
        frame = pd.read_csv(folder / f"{name}.csv")
    frame = frame.drop(columns="name", errors="ignore")
    for column in frame.columns.difference(frame.select_dtypes("number").columns):
        frame[column] = pd.factorize(frame[column].astype("string").fillna("?"), sort=True)[0]
    return frame.loc[:, frame.nunique() > 1].astype("float64")


def split(values: np.ndarray, seed: int) -> Parts:
    order = np.random.default_rng(seed).permutation(len(values))
    first, second = int(0.7 * len(order)), int(0.8 * len(order))
    parts = np.split(values[order], [first, second, second + N_TEST])[:3]
    mean, scale = parts[0].mean(0), parts[0].std(0)
    scale[scale == 0] = 1.0  # a rare value may be in no training row
    return Parts(*(torch.tensor((part - mean) / scale).float() for part in parts))


def start(parts: Parts, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(parts.n_draws, parts.train.shape[1], generator=generator)


def real(parts: Parts, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return parts.train[torch.randperm(len(parts.train), generator=generator)[: parts.n_draws]]


def direct(kind: str) -> Callable[[Parts, int], Tensor]:
    """Return the paper's method: two networks, one level, its own dynamics."""

    def method(parts: Parts, seed: int) -> Tensor:
        field = fit_paper(parts.rows, Matching(kind), PLAN, seed)
        return paper_draws(field, parts.n_draws, torch.Generator().manual_seed(seed))

    return method


def denoising(parts: Parts, seed: int) -> Tensor:
    field, schedule = fit_denoising(parts.rows, PLAN, seed, floor=0.01)
    return denoising_draws(field, schedule, parts.n_draws, torch.Generator().manual_seed(seed))


class DDPM(nn.Module):
    """Denoising diffusion of arXiv 2006.11239: 1000 steps, beta from 1e-4 to 0.02."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.beta = torch.linspace(1e-4, 0.02, 1000)
        self.alpha_bar = torch.cumprod(1 - self.beta, 0)
        self.frequencies = torch.pi * 2.0 ** torch.arange(8)
        width, depth = SETTINGS.width, SETTINGS.depth
        self.network = ResidualNetwork(n_columns + 17, n_columns, width, depth, 0.0)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the noise in x, (n, D), at steps t, (n,)."""
        share = (t / 1000).unsqueeze(-1)
        phases = share * self.frequencies
        return self.network(torch.cat([x, share, phases.sin(), phases.cos()], -1))

    def loss(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        kept = self.alpha_bar[t].unsqueeze(-1)
        x = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        return (self(x, t) - noise).square().mean()

    @torch.no_grad()
    def sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows from standard normal x (algorithm 2, with the larger variance)."""
        for t in reversed(range(1000)):
            beta, kept = self.beta[t], self.alpha_bar[t]
            guess = self(x, torch.full(x.shape[:1], t))
            x = (x - beta / (1 - kept).sqrt() * guess) / (1 - beta).sqrt()
            if t:
                x = x + beta.sqrt() * torch.randn(x.shape, generator=generator)
        return x


def ddpm(parts: Parts, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of the weights that the network begins with
    model = DDPM(parts.train.shape[1])

    def drawn(clean: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        t = torch.randint(1000, clean.shape[:1], generator=source)
        return clean, t, torch.randn(clean.shape, generator=source)

    def loss(module: nn.Module) -> Tensor:
        picked = torch.randint(len(parts.train), (SETTINGS.batch_size,), generator=generator)
        return model.loss(*drawn(parts.train[picked], generator))

    def evaluate(module: nn.Module) -> dict[str, float]:
        rows = parts.validation.repeat(-(-4000 // len(parts.validation)), 1)
        with torch.no_grad():
            error = module.loss(*drawn(rows, torch.Generator().manual_seed(0)))  # type: ignore[operator]
        return {"score": -float(error)}

    train(model, loss, PLAN, evaluate)
    return model.sample(start(parts, seed), generator)


def default(parts: Parts, seed: int) -> Tensor:
    both = torch.cat([parts.train, parts.validation]).double().numpy()
    density = BellmanDiffusionDensity(random_state=seed).fit(both)
    return torch.tensor(density.sample(parts.n_draws, random_state=seed)).float()


def figures(method: Callable[[Parts, int], Tensor], parts: Parts, seed: int) -> list[float]:
    """Return W1, MMD and seconds."""
    begin = time.perf_counter()
    draws = method(parts, seed)
    seconds = time.perf_counter() - begin
    if not torch.isfinite(draws).all():
        return [np.inf, np.inf, seconds]
    sets = [part for part in draws.split(len(parts.test)) if len(part) == len(parts.test)]
    width = float(torch.pdist(parts.train[:1000]).median())
    distances = [[w1(part, parts.test), mmd(part, parts.test, width)] for part in sets]
    return [*np.mean(distances, 0), seconds]


METHODS = {
    "real": real,
    "start": start,
    "pairwise": direct("pairwise"),
    "sliced": direct("sliced"),
    "denoising": denoising,
    "DDPM": ddpm,
    "default": default,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", nargs="+", default=[*OPENML])
    parser.add_argument("--methods", nargs="+", default=[*METHODS])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    print("| table | method | W1 | 1000 MMD^2 | seconds |")
    for name in arguments.tables:
        frame = load(name, arguments.data)
        for label in arguments.methods:
            method = METHODS[label]
            seeds = range(arguments.seeds)
            splits = [split(frame.to_numpy(), seed) for seed in seeds]
            values = np.array([figures(method, splits[seed], seed) for seed in seeds])
            pairs = zip(values.mean(0), values.std(0), strict=True)
            cells = " | ".join(f"{mean:.3g} ({spread:.2g})" for mean, spread in pairs)
            print(f"| {name} ({frame.shape[1]}) | {label} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
