"""
Explain an anomaly
==================

``BellmanOutlierDetector`` finds odd rows. ``ExplanationDisplay`` shows which cell makes a row odd:
the one that is surprising given the rest of its row.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
from skbellman.inspection import ExplanationDisplay

rng = np.random.default_rng(0)
sex = rng.choice(["F", "M"], 800)
height = rng.normal(np.where(sex == "M", 178, 165), 6).round()
weight = (0.9 * (height - 100) + rng.normal(0, 7, 800)).round()
shoe = (height / 4 - 2 + (sex == "M") + rng.normal(0, 0.7, 800)).round()
df = pd.DataFrame({"sex": sex, "height": height, "weight": weight, "shoe": shoe})
detector = BellmanOutlierDetector(BellmanDiffusionDensity(n_steps=300), random_state=0).fit(df)

# %%
# Five records. One is as usual, the others have one mistake each: a weight in pounds, a height in
# inches, the wrong shoe, two digits of the weight swapped. A height is missing.

records = pd.DataFrame(
    {
        "sex": ["F", "M", "F", "M", "M"],
        "height": [166, 181, 65, 176, np.nan],
        "weight": [60, 163, 58, 70, 28],
        "shoe": [40, 44, 39, 34, 44],
    },
    index=["usual", "pounds", "inches", "wrong shoe", "swapped digits"],
)
records.assign(is_inlier=detector.predict(records))

# %%
# Red cells are surprising given the rest of their row. The most surprising cell of each row has a
# frame. In the rows with a mistake, it is the mistake.

ExplanationDisplay.from_estimator(detector, records)
plt.show()
