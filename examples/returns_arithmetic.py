"""Laws of returns made of fitted ones, without new data, beside exact laws.

    python examples/returns_arithmetic.py

Three fits to tables of steps: a choice between a safe and a bold first action, and a machine that
runs for ever. The picture goes to examples/output/returns_arithmetic.png.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from skbellman import (
    DistributionalValueEstimator,
    ImprovedReturns,
    MixtureOfReturns,
    RescaledReturns,
    SumOfReturns,
)

GAMMA, NOISE = 0.9, 0.3
# Rewards of the states after the first step, which end the episode: after "safe", a win, a loss.
REWARDS = np.array([0.0, 3.0, -4.0])
BOLD = np.array([0.75, 0.25])


def choice(n_rows, rng):
    """Return steps from "start", and from where they lead."""
    action = rng.choice(["safe", "bold"], n_rows)
    result = np.where(action == "safe", 0, 1 + (rng.random(n_rows) < BOLD[1]))
    names = np.array(["safe", "win", "loss"])[result]
    steps = [
        pd.DataFrame({"state": "start", "action": action, "next_state": names,
                      "reward": 1.0 * (action == "safe"), "terminated": False}),
        pd.DataFrame({"state": names, "action": action, "next_state": names,
                      "reward": REWARDS[result], "terminated": True}),
    ]  # fmt: skip
    table = pd.concat(steps, ignore_index=True)
    table["reward"] += NOISE * rng.standard_normal(len(table))
    return table


def machine(n_rows, rng):
    """Return steps of a machine that earns about 1 for ever."""
    reward = 1 + rng.standard_normal(n_rows)
    return pd.DataFrame({"state": "on", "reward": reward, "next_state": "on", "terminated": False})


def gaussians(weights, means, deviation):
    """Return the density of a mixture of Gaussians as a function."""
    return lambda x: stats.norm(means, deviation).pdf(x[:, None]) @ np.asarray(weights)


def exact_choice():
    """Return the weights, means and deviation of the laws after "safe" and after "bold"."""
    deviation = NOISE * np.hypot(1, GAMMA)
    return ([1.0], [1.0], deviation), (BOLD, GAMMA * REWARDS[1:], deviation)


def panels(rng):
    """Return the title, the states, the laws with their names, and the exact densities of each."""
    steps = choice(40_000, rng)
    best = DistributionalValueEstimator(policy="greedy", gamma=GAMMA, random_state=0).fit(steps)
    safe, bold = (ImprovedReturns(best, risk) for risk in (("cvar", 0.1), "mean"))
    endless = DistributionalValueEstimator(gamma=GAMMA, random_state=0).fit(machine(40_000, rng))
    on_safe, on_bold = exact_choice()
    mixed = [0.5, *(0.5 * BOLD)], [1.0, *on_bold[1]], on_bold[2]
    twice = np.outer(BOLD, BOLD).ravel(), np.add.outer(*[on_bold[1]] * 2).ravel()
    mean, deviation = 1 / (1 - GAMMA), 1 / np.sqrt(1 - GAMMA**2)
    start, on = ["start"], ["on"]
    return [
        (
            "Best first action for a risk",
            [(bold, start, "mean", on_bold), (safe, start, "CVaR .1", on_safe)],
        ),
        (
            "One of both policies, by a coin",
            [(MixtureOfReturns([safe, bold], [1, 1]), start, "mixture", mixed)],
        ),
        (
            "Two independent bold runs",
            [(SumOfReturns([bold, bold]), [start] * 2, "sum", (*twice, np.sqrt(2) * on_bold[2]))],
        ),
        (
            "Other units of the reward",
            [
                (endless, on, "r", ([1.0], [mean], deviation)),
                (
                    RescaledReturns(endless, scale=0.5),
                    on,
                    "0.5 r",
                    ([1.0], [mean / 2], deviation / 2),
                ),
                (
                    RescaledReturns(endless, shift=-1.5),
                    on,
                    "r - 1.5",
                    ([1.0], [mean - 15], deviation),
                ),
            ],
        ),
    ]


def main():
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.5), layout="constrained")
    q = (np.arange(1000) + 0.5) / 1000
    for axis, (title, laws) in zip(axes.flat, panels(np.random.default_rng(0)), strict=True):
        for k, (law, states, name, (weights, means, deviation)) in enumerate(laws):
            ends = law.quantile(states, q=[0.0005, 0.9995])[0] + [-1, 1]
            x = np.linspace(*ends, 400)
            repeated = [list(part) * 400 for part in states] if name == "sum" else states * 400
            exact = gaussians(weights, means, deviation)
            axis.plot(x, exact(x), color="0.75", lw=4, label="exact" if not k else None)
            found = np.exp(law.score_samples(repeated, returns=x))
            axis.plot(x, found, color=f"C{k}", label=name)
            fine = np.linspace(ends[0] - 3, ends[1] + 3, 20_001)
            below = np.cumsum(exact(fine)) * (fine[1] - fine[0])
            quantiles = np.interp(q, below, fine)
            w1 = np.abs(law.quantile(states, q=q)[0] - quantiles).mean() / quantiles.std()
            print(
                f"{title}, {name}: mean {law.predict(states)[0]:.3f} "
                f"(exact {np.dot(weights, means):.3f}), W1 {w1:.3f} deviations"
            )
        axis.set(title=title, xlabel="return", ylim=(0, None))
        axis.legend()
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "returns_arithmetic.png", dpi=120)


if __name__ == "__main__":
    main()
