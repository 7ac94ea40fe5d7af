"""A short way along a cliff, or a long one away from it: what is best depends on the risk.

    python examples/risk.py

Laws of the return after either first step, learned from a table of random steps, beside episodes
that are played; the picture goes to examples/output/risk.png.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skbellman import DistributionalValueEstimator

LENGTH, WIND, FALL = 5, 0.04, -10.0
ACTIONS = np.array(["along", "away", "back"])
GAMMA = 0.99


def step(place, action, rng):
    """Return rewards, next places and ends. Places 0 to 5 are on the cliff, 10 to 15 away."""
    on_cliff = place < 10
    target = np.select(
        [action == "along", (action == "away") & on_cliff, (action == "back") & ~on_cliff],
        [np.where(place % 10 < LENGTH, place + 1, place), place + 10, place - 10],
        place,
    )
    falls = (target < 10) & on_cliff & (rng.random(len(place)) < WIND)
    reward = -1 + 0.1 * rng.standard_normal(len(place)) + FALL * falls
    return reward, target, falls | (target == LENGTH)


def random_steps(n_rows, rng):
    place = rng.choice([p for p in [*range(6), *range(10, 16)] if p != LENGTH], n_rows)
    action = rng.choice(ACTIONS, n_rows)
    reward, target, ended = step(place, action, rng)
    return pd.DataFrame(
        {
            "state": place,
            "action": action,
            "reward": reward,
            "next_state": target,
            "terminated": ended,
        }
    )


def play(first, value, n_episodes, rng):
    """Return the returns of episodes from the start, the first action given, then the best."""
    best = {p: value.act(p) for p in [*range(LENGTH), *range(10, 16)]}
    place, action = np.zeros(n_episodes, dtype=int), np.repeat(first, n_episodes)
    total, alive = np.zeros(n_episodes), np.ones(n_episodes, dtype=bool)
    for t in range(30):
        reward, target, ended = step(place, action, rng)
        total += GAMMA**t * reward * alive
        alive &= ~ended
        place = np.where(alive, target, 0)
        action = np.array([best[p] for p in place.tolist()])
    return total


def main():
    rng = np.random.default_rng(0)
    value = DistributionalValueEstimator(policy="greedy", gamma=GAMMA, n_steps=5000, random_state=0)
    value.fit(random_steps(30_000, rng))
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    x = np.linspace(-16, -3, 600)
    for first, colour in (("along", "tab:red"), ("away", "tab:blue")):
        played = play(first, value, 20_000, rng)
        mean, cvar = value.predict([0], [first])[0], value.cvar([0], [first], alpha=0.1)[0]
        worst = np.sort(played)[:2000].mean()
        print(
            f"{first}: expected {mean:.2f} (played {played.mean():.2f}), "
            f"mean of the worst tenth {cvar:.2f} (played {worst:.2f})"
        )
        axes.hist(played, bins=120, range=(-16, -3), density=True, color=colour, alpha=0.3)
        law = np.exp(value.score_samples(np.zeros(600, dtype=int), first, returns=x))
        axes.plot(x, law, color=colour, label=f"first step {first}")
    print("best by expected return:", value.act(0))
    print("best by its worst tenth:", value.act(0, risk=("cvar", 0.1)))
    axes.set(xlabel="return", ylabel="density", title="Laws of the return (bars: episodes played)")
    axes.legend()
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "risk.png", dpi=120)


if __name__ == "__main__":
    main()
