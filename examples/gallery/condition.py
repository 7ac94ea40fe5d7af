"""
Condition on some columns
=========================

One fit answers every conditional question: samples given some values, and conditional
log-densities.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skbellman import BellmanDiffusionDensity

rng = np.random.default_rng(0)
age = rng.integers(18, 80, 1000)
sex = rng.choice(["F", "M"], 1000)
income = np.round(np.exp(9.5 + age / 80 + 0.3 * (sex == "M") + rng.normal(0, 0.3, 1000)), 2)
df = pd.DataFrame({"age": age, "sex": sex, "income": income})
density = BellmanDiffusionDensity(n_steps=300, random_state=0).fit(df)

# %%
# Rows with these values. The income is sampled given them.

density.sample(3, given={"sex": "F", "age": 37}, random_state=0)

# %%
# The conditional density of the income at three ages.

incomes = np.linspace(5000, 90000, 80)
for years in (25, 45, 65):
    rows = pd.DataFrame({"age": years, "sex": "F", "income": incomes})
    log_density = density.score_samples(rows, columns=["income"], given=["age", "sex"])
    plt.plot(incomes, np.exp(log_density), label=f"age {years}")
plt.xlabel("income")
plt.ylabel("p(income | age, sex = F)")
plt.legend()
plt.show()
