"""
Generate synthetic rows
=======================

Fit a density to a table and sample rows that look like it. Columns, dtypes and categories are
those of the table.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_iris

from skbellman import BellmanDiffusionDensity

data = load_iris(as_frame=True)
df = data.data.assign(species=data.target_names[data.target])
density = BellmanDiffusionDensity(n_steps=200, random_state=0).fit(df)
drawn = density.sample(150, random_state=1)
drawn.head()

# %%
# Real rows beside synthetic ones.

figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for axis, frame, title in zip(axes, [df, drawn], ["real", "synthetic"], strict=True):
    for species, rows in frame.groupby("species"):
        axis.scatter(rows["petal length (cm)"], rows["petal width (cm)"], s=12, label=species)
    axis.set(title=title, xlabel="petal length (cm)")
axes[0].set_ylabel("petal width (cm)")
axes[0].legend()
plt.show()
