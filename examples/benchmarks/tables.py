"""The tables of the benchmarks, split and put on one scale for every method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import multivariate_normal
from sklearn.datasets import fetch_openml

from skbellman.tables.grids import grid_step

OPENML = {"abalone": 183, "wine_quality_red": 40691, "parkinsons": 1488, "concrete": 44959}
# Tables of numbers and categories.
MIXED = {
    "abalone": 183,
    "mushroom": 24,
    "adult": 1590,
    "credit_default": 46919,
    "online_shoppers": 46947,
}
# Positions of categories that are written as numbers.
CODED = {
    "credit_default": (1, 2, 3, 5, 6, 7, 8, 9, 10, 23),
    "online_shoppers": tuple(range(10, 18)),
}
# In the place of a gap, for those who take none.
GAP = "(none)"


def load(name: str, folder: Path | None) -> pd.DataFrame:
    """Return the numeric columns of a table, from a folder of CSV files or from OpenML."""
    numeric = _read(name, OPENML, folder).select_dtypes("number")
    return numeric.drop(columns=[c for c in ("status", "Class") if c in numeric])


def load_mixed(name: str, folder: Path | None) -> pd.DataFrame:
    """Return a table whose categories are strings, gaps among them a category of their own."""
    frame = _read(name, MIXED, folder).drop(columns="ID", errors="ignore")
    frame = frame.astype(dict.fromkeys(frame.columns[[*CODED.get(name, ())]], str))
    categories = categories_of(frame)
    frame = frame.astype(dict.fromkeys(categories, object)).rename(columns=str)
    return frame.fillna(dict.fromkeys(categories, GAP))


def categories_of(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns that hold no numbers."""
    return list(frame.columns.difference(frame.select_dtypes("number").columns))


def codes(frame: pd.DataFrame, like: pd.DataFrame) -> np.ndarray:
    """Return the table as numbers, categories as their places among those of another table."""
    known = {c: like[c].value_counts().index for c in categories_of(like)}
    return np.column_stack(
        [
            known[c].get_indexer(frame[c]) if c in known else frame[c].to_numpy(float)
            for c in like.columns
        ]
    )


def _read(name: str, ids: dict[str, int], folder: Path | None) -> pd.DataFrame:
    if folder is None:
        return fetch_openml(data_id=ids[name], as_frame=True).frame
    return pd.read_csv(folder / f"{name}.csv")


def dequantised(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Spread each column on a grid uniformly over its step, the same for every method."""
    values = frame.to_numpy(float)
    steps = np.array([grid_step(column) for column in values.T])
    return values + steps * (rng.random(values.shape) - 0.5)


def split(values: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Return 80% training, 10% validation and 10% test rows, in training deviations."""
    order = rng.permutation(len(values))
    first, second = int(0.8 * len(order)), int(0.9 * len(order))
    parts = np.split(values[order], [first, second])
    mean, scale = parts[0].mean(0), parts[0].std(0)
    return [(part - mean) / scale for part in parts]


class Mixture:
    """A mixture of 6 Gaussians in 8 columns, or another number, whose log-density is known."""

    def __init__(self, seed: int, n_columns: int = 8) -> None:
        rng = np.random.default_rng(seed)
        self.weights = rng.dirichlet(np.full(6, 3.0))
        self.means = 1.5 * rng.normal(size=(6, n_columns))
        roots = 0.4 * rng.normal(size=(6, n_columns, n_columns))
        self.covariances = roots @ roots.transpose(0, 2, 1) + 0.05 * np.eye(n_columns)

    def draw(self, n_rows: int, rng: np.random.Generator) -> np.ndarray:
        component = rng.choice(6, n_rows, p=self.weights)
        noise = rng.normal(size=(n_rows, self.means.shape[1], 1))
        return self.means[component] + (
            np.linalg.cholesky(self.covariances)[component] @ noise
        ).squeeze(-1)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        parts = zip(self.weights, self.means, self.covariances, strict=True)
        logs = [np.log(w) + multivariate_normal(m, c).logpdf(x) for w, m, c in parts]
        return np.logaddexp.reduce(logs)
