"""
Generate synthetic rows
=======================

Fit a density to a table and sample rows that look like it. Columns, dtypes and categories are
those of the table. With ``constraints``, every sample keeps the rules of the table too.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skbellman import BellmanDiffusionDensity

rng = np.random.default_rng(0)
n = 1000
start = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 300, n), unit="D")
plan = rng.choice(["basic", "plus", "pro"], n, p=[0.5, 0.3, 0.2])
days = rng.poisson(np.where(plan == "pro", 60, 15))
price = np.select([plan == "basic", plan == "plus"], [9.99, 19.99], 49.99)
spent = np.where(rng.random(n) < 0.3, 0.0, np.round(price * rng.lognormal(0, 0.5, n), 2))
df = pd.DataFrame(
    {"start": start, "end": start + pd.to_timedelta(days, unit="D"), "plan": plan, "spent": spent}
)
density = BellmanDiffusionDensity(constraints=["start <= end"], random_state=0).fit(df)
drawn = density.sample(1000, random_state=1)
drawn.head()

# %%
# Real rows beside synthetic ones.

figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for axis, frame, title in zip(axes, [df, drawn], ["real", "synthetic"], strict=True):
    for name, rows in frame.groupby("plan"):
        axis.scatter((rows["end"] - rows["start"]).dt.days, rows["spent"], s=8, label=name)
    axis.set(title=title, xlabel="days")
axes[0].set_ylabel("spent")
axes[0].legend()
plt.show()

# %%
# How many samples keep the constraint, before those that break it are drawn again.

print(f"{density.acceptance_:.1%}")
