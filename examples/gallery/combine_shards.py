"""
Combine and forget shards
=========================

``ShardedDensity`` fits each shard of a table alone. A shard can be added. It can also be
forgotten exactly.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris

from skbellman import BellmanDiffusionDensity, ShardedDensity

df = load_iris(as_frame=True).data.sample(frac=1, random_state=0)
first, second, third = df[:50], df[50:100], df[100:]
estimator = BellmanDiffusionDensity(n_steps=100)
sharded = ShardedDensity(estimator, random_state=0)
sharded.fit({"first": first, "second": second, "third": third})
dict(zip(sharded.keys_, sharded.weights_.round(2).tolist(), strict=True))

# %%
# The density of one column: of each shard, and of all.

name = "petal length (cm)"
places = np.linspace(0.5, 7.5, 200)
table = df.iloc[:1].loc[[df.index[0]] * 200].assign(**{name: places})
for key, part in zip(sharded.keys_, sharded.parts_, strict=True):
    plt.plot(places, np.exp(part.score_samples(table, columns=[name])), lw=1, label=key)
plt.plot(places, np.exp(sharded.score_samples(table, columns=[name])), "k", label="all")
plt.xlabel(name)
plt.ylabel("density")
plt.legend()
plt.show()

# %%
# Forget a shard. The result equals, bit for bit, a fit of the other shards with the same encoder.

sharded.forget("third")
estimator = BellmanDiffusionDensity(n_steps=100, encoder=sharded.encoder_)
never_seen = ShardedDensity(estimator, random_state=0).fit({"first": first, "second": second})
bool(np.array_equal(sharded.score_samples(df[:20]), never_seen.score_samples(df[:20])))
