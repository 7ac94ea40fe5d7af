"""
Compare two tables
==================

``compare`` shows where two densities differ, and by how much. Both need the same encoder.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skbellman import BellmanDiffusionDensity
from skbellman.algebra import compare

rng = np.random.default_rng(0)
before = pd.DataFrame({"height": rng.normal(170, 10, 400), "weight": rng.normal(70, 8, 400)})
after = pd.DataFrame({"height": rng.normal(172, 10, 400), "weight": rng.normal(74, 8, 400)})
p = BellmanDiffusionDensity(n_steps=150, random_state=0).fit(after)
q = BellmanDiffusionDensity(n_steps=150, random_state=0, encoder=p.encoder_).fit(before)
comparison = compare(p, q)
comparison.kl(100, random_state=0)

# %%
# The log-ratio of the two densities, row by row. The drift is along the weight.

points = plt.scatter(after["height"], after["weight"], s=12, c=comparison.log_ratio(after))
plt.colorbar(points, label="log p(after) - log p(before)")
plt.xlabel("height")
plt.ylabel("weight")
plt.show()
