"""Fit the breast-cancer table of scikit-learn, score held-out rows, and write synthetic ones.

Writes examples/output/synthetic.csv and examples/output/marginals_and_pairs.png.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skbellman import BellmanDiffusionDensity

mpl.use("Agg")
import matplotlib.pyplot as plt

OUTPUT = Path(__file__).parent / "output"
SHOWN = ["mean radius", "mean texture", "mean smoothness", "mean concavity"]


def load_table() -> pd.DataFrame:
    """Return the ten mean measures of each tumour and its diagnosis, a category."""
    data = load_breast_cancer(as_frame=True)
    table = data.data[[name for name in data.data if name.startswith("mean")]]
    return table.assign(diagnosis=data.target_names[data.target])


def peer_scores(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Return held-out log-densities of scikit-learn's estimators, in the table's own units.

    They know no categories: the diagnosis is one-hot without its first level, spread
    uniformly, and their columns are standardised, with the Jacobian put back.
    """
    rng = np.random.default_rng(0)

    def numbers(frame: pd.DataFrame) -> np.ndarray:
        flag = (frame["diagnosis"] == "benign") + rng.random(len(frame))
        return np.column_stack([frame.drop(columns="diagnosis"), flag])

    scaler = StandardScaler().fit(numbers(train))
    z, z_test = scaler.transform(numbers(train)), scaler.transform(numbers(test))
    searches = {
        "KernelDensity": GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.1, 1, 10)}),
        "GaussianMixture": GridSearchCV(
            GaussianMixture(random_state=0, reg_covar=1e-4), {"n_components": [1, 2, 3, 5, 8]}
        ),
    }
    log_jacobian = -np.log(scaler.scale_).sum()
    return {
        name: search.fit(z).best_estimator_.score_samples(z_test).mean() + log_jacobian
        for name, search in searches.items()
    }


def draw_pairs(real: pd.DataFrame, drawn: pd.DataFrame, path: Path) -> None:
    """Draw histograms of some columns and scatter plots of their pairs."""
    figure, axes = plt.subplots(len(SHOWN), len(SHOWN), figsize=(9, 9), layout="constrained")
    for i, below in enumerate(SHOWN):
        for j, across in enumerate(SHOWN):
            axis = axes[i, j]
            for frame, label, color in ((real, "real", "#444444"), (drawn, "drawn", "#d95f02")):
                if i == j:
                    bins = np.linspace(real[across].min(), real[across].max(), 30)
                    axis.hist(
                        frame[across], bins, density=True, histtype="step", color=color, label=label
                    )
                else:
                    axis.scatter(frame[across], frame[below], s=3, alpha=0.5, color=color)
            axis.set(xlabel=across if i == len(SHOWN) - 1 else "", ylabel=below if j == 0 else "")
            axis.tick_params(labelsize=6)
    axes[0, 0].legend(fontsize=7)
    axes[0, 0].set_ylabel("density")
    figure.savefig(path, dpi=110)


def main() -> None:
    table = load_table()
    train, test = train_test_split(table, test_size=0.25, random_state=0)
    density = BellmanDiffusionDensity(random_state=0).fit(train)
    scores = {"BellmanDiffusionDensity": density.score(test), **peer_scores(train, test)}
    print(f"Mean log-density of {len(test)} held-out rows (higher is better):")
    for name, score in scores.items():
        print(f"  {name:24s} {score:8.2f}")
    drawn = density.sample(len(table), random_state=1)
    OUTPUT.mkdir(exist_ok=True)
    drawn.to_csv(OUTPUT / "synthetic.csv", index=False)
    draw_pairs(table, drawn, OUTPUT / "marginals_and_pairs.png")
    print(f"Wrote {len(drawn)} synthetic rows and a picture to {OUTPUT}.")


if __name__ == "__main__":
    main()
