"""Learning to balance a pole: returns of episodes and the support of the laws, by steps.

    python examples/cart_pole.py

Three runs, about two minutes. The picture goes to examples/output/cart_pole.png.
"""

from __future__ import annotations

from pathlib import Path

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

from skbellman import DistributionalValueEstimator


def play(agent, risk, n_episodes=10):
    """Return the mean return of episodes that training did not see."""
    environment, returns = gymnasium.make("CartPole-v1"), []
    for seed in range(n_episodes):
        observation, _ = environment.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = agent.act(observation, risk=risk)
            observation, reward, terminated, truncated, _ = environment.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
    return np.mean(returns)


def main():
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 5), sharex=True, height_ratios=[2, 1], layout="constrained"
    )
    for seed in range(3):
        agent = DistributionalValueEstimator(policy="greedy", random_state=seed)
        agent.fit("CartPole-v1", n_steps=15_000)
        curves = agent.history_
        steps, returns = np.array(curves["step"]), np.array(curves["return"])
        smooth = np.convolve(returns, np.ones(10) / 10, mode="valid")
        above.plot(steps[9:], smooth, color=f"C{seed}", label=f"run {seed}")
        low, high = np.array(curves["support"]).T
        below.fill_between(steps, low, high, color=f"C{seed}", alpha=0.3, lw=0)
        print(f"run {seed}: greedy policy {play(agent, 'mean'):.0f} of 500")
    above.set(ylabel="return of an episode,\nmean of ten", title="CartPole-v1")
    above.legend()
    below.set(xlabel="steps in the environment", ylabel="support\n(discounted return)")
    folder = Path(__file__).parent / "output"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "cart_pole.png", dpi=120)


if __name__ == "__main__":
    main()
