"""Laws of the return on a slippery frozen lake, and of a policy that is chosen by a coin.

    python examples/frozen_lake.py

The best policy and a distracted one, which takes every second step at random, are evaluated from
one table of random steps; the laws stand beside exact ones. The picture goes to
examples/output/frozen_lake.png; with --show it opens, and a click on a state shows its law.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

from skbellman import DistributionalValueEstimator, MixtureOfReturns

GAMMA, START = 0.95, 0
MODEL = gymnasium.make("FrozenLake-v1").unwrapped.P
HOLES, GOAL = (5, 7, 11, 12), 15
ARROWS = np.array(["←", "↓", "→", "↑"])
RETURNS = np.linspace(-0.05, 1.05, 500)


def random_steps(n_rows, rng):
    """Return a table of steps from states and actions drawn evenly."""
    states = np.setdiff1d(np.arange(16), [*HOLES, GOAL])
    state, action = rng.choice(states, n_rows), rng.integers(4, size=n_rows)
    slips = rng.integers(3, size=n_rows)
    steps = [MODEL[z][a][k] for z, a, k in zip(state, action, slips, strict=True)]
    _, following, reward, ended = map(np.array, zip(*steps, strict=True))
    return {
        "state": state,
        "action": action,
        "reward": reward,
        "next_state": following,
        "terminated": ended,
    }


def exact_cdf(policy, state):
    """Return P(gamma^(T - 1) <= x) for the time T of arrival, on RETURNS; 0 if it never comes."""
    arrival, onwards = np.zeros(16), np.zeros((16, 16))
    for z, a in np.ndindex(16, 4):
        for p, following, reward, ended in MODEL[z][a]:
            arrival[z] += policy[z, a] * p * reward
            onwards[z, following] += policy[z, a] * p * (not ended)
    place, chance = np.eye(16)[state], []
    for _ in range(1000):
        chance.append(place @ arrival)
        place = place @ onwards
    values = GAMMA ** np.arange(1000)
    later = (values > RETURNS[:, None]) @ np.array(chance)
    return np.where(RETURNS < 0, 0, 1 - later)


def draw_values(axis, value, policy):
    """Draw the expected return in each state, with the action that is best."""
    states = np.setdiff1d(np.arange(16), [*HOLES, GOAL])
    expected = np.full(16, np.nan)
    expected[states] = value.predict(states)
    axis.imshow(expected.reshape(4, 4), cmap="viridis")
    for z in range(16):
        label = {GOAL: "goal"}.get(z, "hole")
        if z in states:
            label = f"{expected[z]:.2f}\n{ARROWS[policy[z].argmax()]}"
        bright = z in states and expected[z] > np.nanmean(expected)
        colour = ("k" if bright else "w") if z in states else "0.5"
        axis.text(z % 4, z // 4, label, ha="center", va="center", color=colour)
    axis.set(title="Expected return, best policy", xticks=[], yticks=[])


def draw_law(axis, title, law, exact):
    """Draw a learned distribution function and the exact one."""
    axis.clear()
    axis.step(RETURNS, exact, where="post", color="0.6", lw=3, label="exact")
    axis.plot(RETURNS, law, color="C3", label="learned")
    axis.set(title=title, xlabel="return", ylabel="probability of at most that", ylim=(0, 1.02))
    axis.legend(loc="lower right")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    table = random_steps(100_000, np.random.default_rng(0))
    agent = DistributionalValueEstimator(policy="greedy", gamma=GAMMA, random_state=0).fit(table)
    best = np.eye(4)[[agent.act(z) if z not in (*HOLES, GOAL) else 0 for z in range(16)]]
    policies = {"best": best, "distracted": 0.5 * best + 0.125}
    values = {
        name: DistributionalValueEstimator(policy=policy, gamma=GAMMA, random_state=0).fit(table)
        for name, policy in policies.items()
    }
    coin = MixtureOfReturns(list(values.values()), [0.5, 0.5])
    exact = {name: exact_cdf(policy, START) for name, policy in policies.items()}

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    draw_values(left, values["best"], best)

    def draw_state(state):
        law = values["best"].cdf([state], returns=RETURNS)[0]
        draw_law(middle, f"Law in state {state}, best policy", law, exact_cdf(best, state))

    def clicked(event):
        if event.inaxes is left:
            state = 4 * round(event.ydata) + round(event.xdata)
            if state not in (*HOLES, GOAL):
                draw_state(state)
                figure.canvas.draw_idle()

    draw_state(14)
    draw_law(
        right,
        "At the start, a coin chooses best or distracted",
        coin.cdf([START], returns=RETURNS)[0],
        0.5 * (exact["best"] + exact["distracted"]),
    )
    figure.canvas.mpl_connect("button_press_event", clicked)
    output = Path(__file__).parent / "output"
    output.mkdir(exist_ok=True)
    figure.savefig(output / "frozen_lake.png", dpi=120)
    parts = {**values, "coin": coin}
    for name, value in parts.items():
        expected, arrives = value.predict([START])[0], 1 - value.cdf([START], returns=0.02)[0]
        print(f"{name}: expected return {expected:.3f}, more than .02 with chance {arrives:.2f}")
    if arguments.show:
        plt.show()


if __name__ == "__main__":
    main()
