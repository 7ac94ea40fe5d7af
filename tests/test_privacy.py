from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skbellman.privacy import copying_report

RNG = np.random.default_rng(0)


def table(n_rows: int) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "x": RNG.lognormal(size=n_rows),
            "n": RNG.integers(0, 1000, n_rows),
            "c": RNG.choice(["a", "b"], n_rows),
        }
    )
    return frame.assign(x=frame["x"].mask(RNG.random(n_rows) < 0.1))


TRAIN, HELD_OUT = table(800), table(300)


def test_fresh_rows_are_as_near_to_one_as_to_the_other():
    report = copying_report(table(600), TRAIN, HELD_OUT, random_state=0)
    assert abs(report.share_nearer - 0.5) < 0.08
    assert report.standard_error == pytest.approx(0.02, abs=0.002)
    assert max(report.copies, report.copies_held_out) < 0.03  # where x is missing


def test_copies_and_near_copies_are_found():
    copies = copying_report(TRAIN[:200], TRAIN[:300], HELD_OUT, random_state=0)
    assert copies.copies == 1.0
    assert copies.share_nearer > 0.97
    near = TRAIN[:200].assign(x=TRAIN["x"][:200] * 1.001)
    report = copying_report(near, TRAIN[:300], HELD_OUT, random_state=0)
    assert report.copies < 0.2
    assert report.share_nearer > 0.95


def test_duplicates_of_the_table_are_told_beside_copies():
    held_out = pd.concat([HELD_OUT[:150], TRAIN[:150]])
    report = copying_report(table(50), TRAIN, held_out, random_state=0)
    assert report.copies_held_out == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("drawn", "match"), [
    (TRAIN[["x", "n"]], "drawn has the columns"),
    (TRAIN[:1], "drawn has 1 row"),
])  # fmt: skip
def test_tables_that_cannot_be_compared_are_refused(drawn, match):
    with pytest.raises(ValueError, match=match):
        copying_report(drawn, TRAIN, HELD_OUT)


def test_rows_that_can_be_compared_with_none_are_near_to_neither():
    empty = TRAIN[:2].assign(x=np.nan, n=np.nan, c=None)
    report = copying_report(empty, TRAIN, HELD_OUT, random_state=0)
    assert report.share_nearer == 0.5
