"""Laws of the return along a chain of five states with Gaussian rewards, against the exact ones.

    python examples/chain.py

No least or largest return is given. The picture goes to examples/output/chain.png.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from skbellman import DistributionalValueEstimator

GAMMA = 0.9
MEANS, DEVIATIONS = np.array([1.0, -1, 2, 0, 1]), np.array([1.0, 0.5, 0.3, 1, 0.7])


def transitions(n_rows, rng):
    state = rng.integers(5, size=n_rows)
    return pd.DataFrame(
        {
            "state": state,
            "reward": rng.normal(MEANS[state], DEVIATIONS[state]),
            "next_state": np.minimum(state + 1, 4),
            "terminated": state == 4,
        }
    )


def exact_law(state):
    discounts = GAMMA ** np.arange(5 - state)
    return stats.norm(discounts @ MEANS[state:], np.sqrt(discounts**2 @ DEVIATIONS[state:] ** 2))


def main():
    value = DistributionalValueEstimator(gamma=GAMMA, random_state=0)
    value.fit(transitions(50_000, np.random.default_rng(0)))
    figure, axes = plt.subplots(1, 5, figsize=(13, 2.6), sharex=True, layout="constrained")
    x, q = np.linspace(-4, 8, 400), (np.arange(1000) + 0.5) / 1000
    for state, axis in enumerate(axes):
        exact = exact_law(state)
        distance = np.abs(value.quantile([state], q=q)[0] - exact.ppf(q)).mean() / exact.std()
        axis.plot(x, exact.pdf(x), color="0.7", lw=4, label="exact")
        log_density = value.score_samples(np.repeat(state, 400), returns=x)
        axis.plot(x, np.exp(log_density), color="C3", label="learned")
        axis.set(title=f"state {state}: W1 {distance:.3f} sd", xlabel="return")
        print(f"state {state}: expected {value.predict([state])[0]:.3f}, exact {exact.mean():.3f}")
    axes[0].set_ylabel("density")
    axes[-1].legend()
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "chain.png", dpi=120)


if __name__ == "__main__":
    main()
