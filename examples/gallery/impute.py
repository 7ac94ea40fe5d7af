"""
Fill missing values
===================

``BellmanImputer`` fits a density to the table with its missing values. Then it samples the missing
values of each row given the rest.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris

from skbellman import BellmanDiffusionDensity, BellmanImputer

df = load_iris(as_frame=True).data
rng = np.random.default_rng(0)
hidden = rng.random(df.shape) < 0.2
table = df.mask(hidden)
imputer = BellmanImputer(BellmanDiffusionDensity(n_steps=200), random_state=0)
filled = imputer.fit_transform(table)
filled.head()

# %%
# Filled values beside the hidden true ones. A sample keeps the spread of a column;
# ``statistic="median"`` has the least absolute error.

figure, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
for column, axis in zip(df, axes, strict=True):
    rows = hidden[:, df.columns.get_loc(column)]
    axis.scatter(df.loc[rows, column], filled.loc[rows, column], s=12)
    axis.axline((df[column].mean(), df[column].mean()), slope=1, color="gray", lw=1)
    axis.set(title=column, xlabel="true")
plt.show()
