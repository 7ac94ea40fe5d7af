"""
Evaluate a policy
=================

``DistributionalValueEstimator`` learns the whole distribution of a return from a table of
transitions.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skbellman import DistributionalValueEstimator

rng = np.random.default_rng(0)
state = rng.integers(0, 3, 2000)
transitions = pd.DataFrame(
    {
        "state": state,
        "reward": rng.normal(1.0, 0.2 + 0.4 * state),
        "next_state": np.minimum(state + 1, 2),
        "terminated": state == 2,
    }
)
value = DistributionalValueEstimator(gamma=0.9, random_state=0).fit(transitions)
value.predict([0, 1, 2]).round(2)

# %%
# The mean of the worst tenth of the returns.

value.cvar([0, 1, 2], alpha=0.1).round(2)

# %%
# The distribution of the return from each state.

returns = np.linspace(-2, 6, 200)
for start in (0, 1, 2):
    plt.plot(returns, value.cdf([start], returns=returns)[0], label=f"state {start}")
plt.xlabel("return")
plt.ylabel("P(return <= r)")
plt.legend()
plt.show()
