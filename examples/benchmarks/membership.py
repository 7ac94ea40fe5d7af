"""The attack of `membership_report` on samples of a fit, and on copies of its rows.

    cd examples/benchmarks && python membership.py FOLDER/abalone.csv --rows 1000

The rows of a CSV file are put in random order (seed 0): so many are fitted, as many are the
attacker's reference table, and as many are held out. The AUC for copies is what the attack reaches
where samples hide nothing.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from skbellman import BellmanDiffusionDensity
from skbellman.privacy import copying_report, membership_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="CSV file")
    parser.add_argument("--rows", type=int, default=1000, help="rows of each of the three tables")
    parser.add_argument("--asked", type=int, default=300, help="rows that the attack is tried on")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    frame = pd.read_csv(options.table)
    order = np.random.RandomState(0).permutation(len(frame))[: 3 * options.rows]
    train, reference, rest = (
        frame.iloc[rows].reset_index(drop=True) for rows in np.split(order, 3)
    )
    density = BellmanDiffusionDensity(random_state=0).fit(train)
    sampled = density.sample(len(train), random_state=0)
    print(copying_report(sampled, train, rest, random_state=0))
    some = train.head(options.asked), rest.head(options.asked)
    for name, known in (("samples", sampled), ("copies", train)):
        print(name, membership_report(known, reference, *some, random_state=1), flush=True)


if __name__ == "__main__":
    main()
