"""Gaps of mixed tables filled: errors of centres and laws of draws, against other imputers.

    pip install miceforest "lightgbm<4.6"
    cd examples/benchmarks && python imputation.py --data FOLDER

Each seed picks distinct rows of a table, --rows at most, and hides cells in one of three ways:

- random: each cell with probability 0.2;
- seen: a third of the columns stay whole; in each other column the probability of a gap, 0.3 on
  average, is logistic in a combination of them (missing at random, MAR);
- blocks: random blocks of three columns are missing together, each with probability 0.2.

Metrics are over all hidden cells, numbers in deviations of their column: root mean square error
(RMSE) of the mean of draws, mean absolute error (MAE) of their median, and the continuous ranked
probability score (CRPS) of the draws, which is the absolute error of a single one. "Category" is
the share of categories whose most frequent draw is wrong. "Covered" is the share of numbers within
the 90% interval of the draws: ranks 2 to 37 of 39 draws, or 1 to 18 of 19, with ties broken at
random, so that draws of the right law cover 90% on grids too. "Width" is the interval's mean
length.

MissForest is the algorithm of Stekhoven and Buehlmann (2012) with scikit-learn's forests of 100
trees: the package of this name (4.2.3) also fits the forest of a column to the rows that lack it,
which makes it worse. miceforest runs 2 rounds. HyperImpute needs an older scikit-learn than this
library: --hyperimpute names the interpreter that has it. Nothing is tuned. --repeats keeps repeated
rows. --out keeps the results, and runs that it holds are not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import subprocess
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from tables import MIXED, categories_of, codes, load, load_mixed

from skbellman import BellmanImputer

TABLES = [
    "wine_quality_red", "parkinsons", "concrete", "diabetes", "breast_cancer",
    "abalone", "adult", "online_shoppers", "credit_default", "mushroom",
]  # fmt: skip
# Draws of methods that draw: their 90% intervals end at whole ranks.
N_DRAWS, N_SETS = 39, 19
RANKED = ("RMSE", "MAE", "CRPS", "category")
METRICS = (*RANKED, "covered", "width", "seconds")
HYPERIMPUTE = """
import pickle, sys
import pandas as pd
from hyperimpute.plugins.imputers import Imputers
values, names = pickle.load(sys.stdin.buffer)
frame = pd.DataFrame(values, columns=names)
filled = Imputers().get("hyperimpute", random_state=int(sys.argv[1])).fit_transform(frame)
pickle.dump(filled.to_numpy(), open(sys.argv[2], "wb"))
"""


def table(name: str, folder: Path | None) -> pd.DataFrame:
    """Return a table of numbers, and of categories as strings."""
    if name == "breast_cancer":
        frame = load_breast_cancer(as_frame=True).frame
        return frame.astype({"target": str}).astype({"target": object})
    if name == "diabetes":
        frame = load_diabetes(as_frame=True, scaled=False).frame
        return frame.astype({"sex": str}).astype({"sex": object})
    return load_mixed(name, folder) if name in MIXED else load(name, folder)


def rows_of(frame: pd.DataFrame, n_rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return n_rows rows at most, without columns that are constant in them."""
    picked = frame.iloc[rng.permutation(len(frame))[:n_rows]].reset_index(drop=True)
    return picked.loc[:, picked.nunique() > 1]


def hide_at_random(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    return rng.random(frame.shape) < 0.2


def hide_by_seen(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """A combination of ranks of the columns that stay whole decides, for each other column."""
    n, width = frame.shape
    ranks = rankdata(codes(frame, frame), axis=0) / n
    whole = rng.permutation(width)[: max(width // 3, 1)]
    slopes = rng.normal(size=(len(whole), width))
    score = ranks[:, whole] @ slopes
    score = 1.5 * (score - score.mean(0)) / score.std(0)
    hidden = rng.random(frame.shape) < expit(score - 1.1)  # 0.3 on average
    hidden[:, whole] = False
    return hidden


def hide_blocks(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    n, width = frame.shape
    block = rng.permutation(width) // 3
    return (rng.random((n, width)) < 0.2)[:, block]


MECHANISMS = {"random": hide_at_random, "seen": hide_by_seen, "blocks": hide_blocks}


def hidden_cells(frame: pd.DataFrame, mechanism: str, rng: np.random.Generator) -> np.ndarray:
    """Return which cells are hidden: never all of a row, and each level stays somewhere."""
    hidden = MECHANISMS[mechanism](frame, rng)
    full = hidden.all(axis=1)
    hidden[full, rng.integers(frame.shape[1], size=full.sum())] = False
    for j, name in enumerate(frame):
        if name in categories_of(frame):
            kept = set(frame[name][~hidden[:, j]])
            hidden[~frame[name].isin(kept), j] = False
    return hidden


# Methods: of a table with gaps and a seed, codes of completed tables, (n_draws, n, width).
Method = Callable[[pd.DataFrame, int], np.ndarray]


def ours(gaps: pd.DataFrame, seed: int, **parameters: Any) -> np.ndarray:
    imputer = BellmanImputer(random_state=seed, **parameters).fit(gaps)
    return np.stack([codes(filled, gaps) for filled in imputer.complete(gaps, N_DRAWS)])


def _coded(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return the table with categories as numbers, NaN in the gaps."""
    values = pd.DataFrame(codes(gaps, gaps), columns=gaps.columns)
    return values.mask(gaps.isna())


def by_matrix(make: Callable[[int], Any], gaps: pd.DataFrame, seed: int) -> np.ndarray:
    """An imputer of matrices: numbers in deviations, categories as indicators of their levels."""
    coded, categories = _coded(gaps), categories_of(gaps)
    mean, scale = coded.mean(), coded.std()
    parts = {}
    for name in coded:
        if name in categories:
            levels = np.arange(coded[name].max() + 1)
            parts[name] = (coded[name].to_numpy()[:, None] == levels).astype(float)
            parts[name][gaps[name].isna()] = np.nan
        else:
            parts[name] = ((coded[name] - mean[name]) / scale[name]).to_numpy()[:, None]
    filled = make(seed).fit_transform(np.hstack(list(parts.values())))
    ends = np.cumsum([part.shape[1] for part in parts.values()])[:-1]
    split = dict(zip(parts, np.split(filled, ends, axis=1), strict=True))
    return np.column_stack(
        [
            part.argmax(1) if name in categories else part[:, 0] * scale[name] + mean[name]
            for name, part in split.items()
        ]
    )[None]


def miss_forest(gaps: pd.DataFrame, seed: int, most_rounds: int = 10) -> np.ndarray:
    """Algorithm 1 of Stekhoven and Buehlmann (2012): forests of one column given the others."""
    is_category = np.isin(gaps.columns, categories_of(gaps))
    missing, n_missing = gaps.isna().to_numpy(), gaps.isna().sum().to_numpy()
    values = _coded(gaps).fillna(_coded(gaps).mean())
    values = values.mask(missing & is_category, 0.0).to_numpy()  # the most frequent level
    changes = np.full(2, np.inf)
    for _ in range(most_rounds):
        last = values.copy()
        for j in np.argsort(n_missing, kind="stable")[(n_missing == 0).sum() :]:
            kind = RandomForestClassifier if is_category[j] else RandomForestRegressor
            others, hidden = np.delete(values, j, axis=1), missing[:, j]
            forest = kind(100, max_features="sqrt", random_state=seed)
            forest.fit(others[~hidden], values[~hidden, j])
            values[hidden, j] = forest.predict(others[hidden])
        squares = np.square(values - last)[:, ~is_category].sum()
        differing = (values != last)[:, is_category].sum() / max(missing[:, is_category].sum(), 1)
        now = np.array([squares / np.square(values[:, ~is_category]).sum().clip(1e-300), differing])
        if (now >= changes).all():
            return last[None]
        changes = now
    return values[None]


def mice_forest(gaps: pd.DataFrame, seed: int) -> np.ndarray:
    import miceforest

    frame = gaps.astype(dict.fromkeys(categories_of(gaps), "category"))
    frame.columns = [str(j) for j in range(frame.shape[1])]
    kernel = miceforest.ImputationKernel(frame, num_datasets=N_SETS, random_state=seed)
    kernel.mice(2, num_threads=1)
    tables = [kernel.complete_data(k).set_axis(gaps.columns, axis=1) for k in range(N_SETS)]
    kinds = dict.fromkeys(categories_of(gaps), object)
    return np.stack([codes(filled.astype(kinds), gaps) for filled in tables])


def hyper_impute(interpreter: str, gaps: pd.DataFrame, seed: int) -> np.ndarray:
    """In a process of its own, from codes; it rounds to those that occur."""
    coded = _coded(gaps)
    answer = Path(f"/tmp/hyperimpute-{os.getpid()}.pickle")
    subprocess.run(
        [interpreter, "-c", HYPERIMPUTE, str(seed), str(answer)],
        input=pickle.dumps((coded.to_numpy(), [*coded])), check=True, capture_output=True,
    )  # fmt: skip
    filled = pickle.loads(answer.read_bytes()).astype(float)
    answer.unlink()
    for j, name in enumerate(gaps):
        if name in categories_of(gaps):
            filled[:, j] = filled[:, j].round().clip(0, coded[name].max())
    return filled[None]


METHODS: dict[str, Method] = {
    "BellmanImputer": ours,
    "MissForest": miss_forest,
    "miceforest": mice_forest,
    "nearest neighbours": partial(by_matrix, lambda seed: KNNImputer()),
    "IterativeImputer": partial(by_matrix, lambda seed: IterativeImputer(random_state=seed)),
    "mean and mode": partial(by_matrix, lambda seed: SimpleImputer()),
}


def metrics(
    whole: pd.DataFrame, hidden: np.ndarray, draws: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Return the metrics of draws, which are codes as those of the whole table."""
    truth = codes(whole, whole)
    is_category = np.isin(whole.columns, categories_of(whole))
    scale = np.where(is_category, 1.0, truth.std(0))
    found: dict[str, float] = {}
    cells = hidden & ~is_category
    if cells.any():
        sides = np.broadcast_to(scale, truth.shape)[cells]
        x, y = draws[:, cells] / sides, truth[cells] / sides
        found |= {
            "RMSE": float(np.sqrt(np.square(x.mean(0) - y).mean())),
            "MAE": float(np.abs(np.median(x, axis=0) - y).mean()),
            "CRPS": crps(x, y),
        }
        if len(x) > 1:
            found |= dict(zip(("covered", "width"), interval(x, y, rng), strict=True))
    cells = hidden & is_category
    if cells.any():
        x, y = draws[:, cells], truth[cells]
        counts = [(x == level).sum(0) for level in range(int(truth[:, is_category].max()) + 1)]
        found["category"] = float((np.argmax(counts, axis=0) != y).mean())
    return found


def crps(draws: np.ndarray, truth: np.ndarray) -> float:
    """Return the score without bias by the number of draws."""
    n = len(draws)
    places = 2 * np.arange(n)[:, None] - n + 1
    spread = (places * np.sort(draws, axis=0)).sum(0) / max(n * (n - 1), 1)
    return float((np.abs(draws - truth).mean(0) - spread).mean())


def interval(draws: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return coverage and mean width of the 90% intervals, ties of a number broken at random."""
    n = len(draws)
    outside = (n + 1) // 20
    ties = rng.integers((draws == truth).sum(0) + 1)
    rank = (draws < truth).sum(0) + ties
    inside = (rank >= outside) & (rank <= n - outside)
    low, high = np.sort(draws, axis=0)[[outside - 1, n - outside]]
    return float(inside.mean()), float((high - low).mean())


def run(
    frame: pd.DataFrame, mechanism: str, seed: int, method: Method, n_rows: int
) -> dict[str, float]:
    """Return the metrics of a method on a table with gaps."""
    rng = np.random.default_rng(seed)
    whole = rows_of(frame, n_rows, rng)
    hidden = hidden_cells(whole, mechanism, rng)
    gaps = whole.mask(hidden)
    begin = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        filled = method(gaps, seed)
    seconds = time.perf_counter() - begin
    # Levels are numbered as in the table with gaps, which holds all of them.
    draws = recoded(filled, gaps, whole)
    assert np.isfinite(draws).all()
    return metrics(whole, hidden, draws, rng) | {"seconds": seconds}


def recoded(draws: np.ndarray, gaps: pd.DataFrame, whole: pd.DataFrame) -> np.ndarray:
    """Return draws whose categories are numbered as in the whole table."""
    draws = draws.copy()
    for j, name in enumerate(gaps):
        if name in categories_of(gaps):
            levels = gaps[name].value_counts().index
            places = whole[name].value_counts().index.get_indexer(levels)
            draws[..., j] = places[draws[..., j].astype(int)]
    return draws


KEYS = ("table", "mechanism", "seed", "method")


def results(arguments: argparse.Namespace, methods: dict[str, Method]) -> pd.DataFrame:
    """Return the metrics of all runs, those that are not known yet run now."""
    out = arguments.out
    lines = out.read_text().splitlines() if out is not None and out.exists() else []
    known = [json.loads(line) for line in lines]
    done = {tuple(found[k] for k in KEYS) for found in known}
    wanted = product(arguments.tables, arguments.mechanisms, arguments.seeds, methods)
    for key in (key for key in wanted if key not in done):
        name, mechanism, seed, label = key
        frame = table(name, arguments.data)
        frame = frame if arguments.repeats else frame.drop_duplicates()
        found = run(frame, mechanism, seed, methods[label], arguments.rows)
        known.append(dict(zip(KEYS, key, strict=True)) | found)
        print(json.dumps(known[-1]), flush=True)
        if out is not None:
            with out.open("a") as file:
                file.write(json.dumps(known[-1]) + "\n")
    return pd.DataFrame(known).reindex(columns=[*KEYS, *METRICS])


def report(found: pd.DataFrame) -> None:
    """Print metrics by table and gaps, and mean ranks by gaps and over all."""
    keys = ["mechanism", "table", "method"]
    means = found.groupby(keys, sort=False)[[*METRICS]].mean()
    kinds = [*means.groupby("mechanism", sort=False)]
    for mechanism, part in kinds:
        print(f"\n| gaps {mechanism}: table | method | " + " | ".join(METRICS) + " |")
        for (_, name, method), row in part.iterrows():
            print(f"| {name} | {method} | {_figures(row[:-1])} | {row.iloc[-1]:.0f} |")
    for mechanism, part in [*kinds, ("all", means)]:
        print(f"\n| gaps {mechanism}: mean rank | errors | " + " | ".join(RANKED) + " | covered |")
        for method, row in mean_ranks(part).iterrows():
            print(f"| {method} | {_figures(row)} |")


def mean_ranks(means: pd.DataFrame) -> pd.DataFrame:
    """Return mean ranks of the methods that ran on all tables, and their mean coverage."""
    n_tables = means.index.droplevel("method").nunique()
    n_runs = means.groupby("method").size()
    ran = means.index.get_level_values("method").isin(n_runs.index[n_runs == n_tables])
    ranks = means.loc[ran, [*RANKED]].groupby(["mechanism", "table"]).rank()
    errors = ranks[["RMSE", "MAE", "category"]].stack().groupby("method").mean()
    covered = means.loc[ran, "covered"].groupby("method").mean()
    found = ranks.groupby("method").mean().assign(covered=covered)
    found.insert(0, "errors", errors)
    return found.sort_values("errors")


def _figures(row: pd.Series) -> str:
    return " | ".join("" if np.isnan(x) else f"{x:.3f}" for x in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder with the CSV files")
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--mechanisms", nargs="+", default=[*MECHANISMS], choices=MECHANISMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--rows", type=int, default=600, help="of each table, at most")
    parser.add_argument("--repeats", action="store_true", help="with repeated rows")
    parser.add_argument("--hyperimpute", metavar="PYTHON", help="interpreter that has HyperImpute")
    parser.add_argument("--out", type=Path, default=None, help="file of results, one a line")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    methods = {label: METHODS[label] for label in arguments.methods}
    if arguments.hyperimpute:
        methods["HyperImpute"] = partial(hyper_impute, arguments.hyperimpute)
    report(results(arguments, methods))


if __name__ == "__main__":
    main()
