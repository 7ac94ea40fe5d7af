"""Rows drawn from tables of numbers, categories and gaps, against other generators of tables.

    pip install sdmetrics ctgan ForestDiffusion
    cd examples/benchmarks && python generated.py --data FOLDER --tables abalone mushroom --seeds 5

Every method is fitted with its defaults to 80% of the rows, gaps among categories as a category of
their own. Its draws, as many as the other rows, are compared with those: the AUC of boosted trees
that tell them apart (0.5 is best), and SDMetrics' Shape and Trend (1 is best), which look at single
columns and at pairs of them. "independent" draws each column by itself from the training rows:
Shape and Trend praise it. "real rows" are training rows. Without --data the tables are fetched from
OpenML. ForestDiffusion trains a model for each column, category and level: it is asked for by
--methods, where there is time, with fewer copies of each row and levels than its 100 and 50.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ctgan import CTGAN, TVAE
from density import auc
from ForestDiffusion import ForestDiffusionModel
from sdmetrics.reports.single_table import QualityReport
from sklearn.preprocessing import OrdinalEncoder
from tables import MIXED, categories_of, codes, load_mixed

from skbellman import BellmanDiffusionDensity


def ours(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    return BellmanDiffusionDensity(random_state=seed).fit(train).sample(n_rows, random_state=seed)


def _gan(make: Callable[[], CTGAN | TVAE]):
    def drawn(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
        model = make()
        model.set_random_state(seed)
        model.fit(train, categories_of(train))
        return model.sample(n_rows)

    return drawn


def forest_diffusion(
    train: pd.DataFrame, n_rows: int, seed: int, copies: int, levels: int
) -> pd.DataFrame:
    """Their flow; it takes no column of a single category."""
    alike = [c for c in categories_of(train) if train[c].nunique() == 1]
    if alike:
        rows = forest_diffusion(train.drop(columns=alike), n_rows, seed, copies, levels)
        return rows.assign(**{c: train[c].iloc[0] for c in alike})[train.columns]
    categories = categories_of(train)
    encoder = OrdinalEncoder().fit(train[categories])
    coded_columns = encoder.transform(train[categories]).T
    coded = train.assign(**dict(zip(categories, coded_columns, strict=True)))
    kinds = [coded.columns.get_loc(c) for c in categories]
    whole = [k for k, c in enumerate(train) if train[c].dtype.kind == "i"]
    model = ForestDiffusionModel(
        coded.to_numpy(float), diffusion_type="flow", n_t=levels, duplicate_K=copies,
        cat_indexes=kinds, int_indexes=whole, n_jobs=1, seed=seed,
    )  # fmt: skip
    rows = pd.DataFrame(model.generate(batch_size=n_rows), columns=train.columns)
    rows[categories] = encoder.inverse_transform(rows[categories])
    return rows


def independent(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({c: rng.choice(train[c].to_numpy(), n_rows) for c in train})


def real_rows(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    return train.sample(n_rows, random_state=seed)


METHODS: dict[str, Callable[..., pd.DataFrame]] = {
    "ours": ours,
    "CTGAN": _gan(CTGAN),
    "TVAE": _gan(TVAE),
    "ForestDiffusion": forest_diffusion,
    "independent": independent,
    "real rows": real_rows,
}


def quality(real: pd.DataFrame, drawn: pd.DataFrame) -> tuple[float, float]:
    """Return SDMetrics' Shape and Trend."""
    kinds = {True: "categorical", False: "numerical"}
    categories = categories_of(real)
    metadata = {"columns": {c: {"sdtype": kinds[c in categories]} for c in real}}
    report = QualityReport()
    report.generate(real, drawn[real.columns], metadata, verbose=False)
    shape, trend = report.get_properties()["Score"]
    return float(shape), float(trend)


def run(method: str, frame: pd.DataFrame, seed: int) -> tuple[float, float, float, float]:
    """Return AUC, Shape, Trend and the seconds of fit and draws."""
    order = np.random.default_rng(seed).permutation(len(frame))
    n_train = int(0.8 * len(frame))
    train, test = (frame.iloc[rows].reset_index(drop=True) for rows in np.split(order, [n_train]))
    begin = time.perf_counter()
    drawn = METHODS[method](train, len(test), seed)
    seconds = time.perf_counter() - begin
    return auc(codes(test, frame), codes(drawn, frame)), *quality(test, drawn), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--tables", nargs="+", default=["abalone", "mushroom"], choices=MIXED)
    usual = [name for name in METHODS if name != "ForestDiffusion"]
    parser.add_argument("--methods", nargs="+", default=usual, choices=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--copies", type=int, default=20, help="of each row, for ForestDiffusion")
    parser.add_argument("--levels", type=int, default=50, help="of ForestDiffusion")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    METHODS["ForestDiffusion"] = partial(
        forest_diffusion, copies=arguments.copies, levels=arguments.levels
    )
    print("| table | method | AUC | Shape | Trend | seconds |", flush=True)
    for name in arguments.tables:
        frame = load_mixed(name, arguments.data)
        for method in arguments.methods:
            figures = np.array([run(method, frame, seed) for seed in range(arguments.seeds)])
            cells = zip(figures.mean(0)[:3], figures.std(0)[:3], strict=True)
            text = " | ".join(f"{mean:.3f} ({spread:.3f})" for mean, spread in cells)
            print(f"| {name} | {method} | {text} | {figures[:, 3].mean():.0f} |", flush=True)


if __name__ == "__main__":
    main()
