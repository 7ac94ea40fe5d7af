"""
Choose by risk
==============

The law of a return says more than its mean. The best action by the mean of the worst tenth can
differ from the best action on average.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skbellman import DistributionalValueEstimator

rng = np.random.default_rng(0)
n = 4000
state, action = rng.integers(0, 2, n), rng.choice(["safe", "bold"], n)
fails = (action == "bold") & (rng.random(n) < 0.1)
transitions = pd.DataFrame(
    {
        "state": state,
        "action": action,
        "reward": np.where(action == "bold", 2.0, 1.0) - 6.0 * fails + rng.normal(0, 0.2, n),
        "next_state": 1,
        "terminated": fails | (state == 1),
    }
)
value = DistributionalValueEstimator(policy="greedy", gamma=0.9, random_state=0)
value.fit(transitions)
{"on average": value.act(0), "by the worst tenth": value.act(0, risk=("cvar", 0.1))}

# %%
# The laws of the return after each action.

returns = np.linspace(-5, 5, 300)
for action in ("safe", "bold"):
    law = value.score_samples(np.zeros(len(returns), dtype=int), action, returns=returns)
    mean, worst = value.predict([0], [action])[0], value.cvar([0], [action], alpha=0.1)[0]
    plt.plot(returns, np.exp(law), label=f"{action}: mean {mean:.1f}, worst tenth {worst:.1f}")
plt.xlabel("return")
plt.ylabel("density")
plt.legend()
plt.show()
