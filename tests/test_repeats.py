from __future__ import annotations

import numpy as np
import pytest

from skbellman.tables import RepeatedRows


def repeats_of(rows: np.ndarray) -> RepeatedRows:
    return RepeatedRows(list(rows.T), list(rows.T), np.random.default_rng(0))


def lent(repeats: RepeatedRows, rows: np.ndarray, n_draws: int = 1) -> np.ndarray:
    """Return copies of rows with what they are lent, (n_rows, n_draws, n_features)."""
    columns = repeats.lend(list(rows.T), list(rows.T), n_draws, np.random.default_rng(1))
    return np.column_stack(columns).reshape(len(rows), n_draws, -1)


def test_how_sure_a_repeat_is_follows_from_the_levels_and_the_share_of_repeats():
    n_levels, n_copies, n = 8, 9, 2700
    rows = np.random.default_rng(0).integers(n_levels, size=(n // n_copies, 4)).astype(float)
    repeats = repeats_of(np.repeat(rows, n_copies, axis=0))
    one = (n_copies - 1) / (n - 1)  # of all pairs
    sure = one / (one + (1 - one) / n_levels**3)
    np.testing.assert_allclose(repeats.sureness[:, 3], sure, atol=0.05)  # 0.60
    assert not repeats.sureness[:, :3].any()  # 0.16 and less: not worth a loan
    asked = np.append(rows[0, :3], np.nan)[None]
    share_lent = np.isfinite(lent(repeats, asked, 5000)[..., 3]).mean()
    assert share_lent == pytest.approx(repeats.sureness[3, 3], abs=0.03)


def test_a_row_is_no_repeat_of_itself():
    assert not repeats_of(np.random.default_rng(0).normal(size=(100, 4))).sureness.any()


def test_rows_that_agree_by_chance_alone_lend_nothing():
    rng = np.random.default_rng(0)
    x = rng.integers(2, size=400)
    # Of few levels, the second nearly a function of the first: two in three pairs of rows agree.
    rows = np.column_stack([x, x ^ (rng.random(400) < 0.2), rng.integers(3, size=(2, 400)).T])
    gaps = np.where(rng.random(rows.shape) < 0.2, np.nan, rows.astype(float))
    repeats = repeats_of(gaps)
    assert not repeats.sureness.any()
    np.testing.assert_array_equal(lent(repeats, gaps)[:, 0], gaps)


def test_repeated_rows_lend_each_other_what_they_hold():
    rng = np.random.default_rng(0)
    whole = np.vstack([np.repeat(rng.normal(size=(60, 6)), 2, axis=0), rng.normal(size=(200, 6))])
    gaps = np.where(rng.random(whole.shape) < 0.2, np.nan, whole)
    filled = lent(repeats_of(gaps), gaps, 50)
    was, now = np.isnan(gaps), ~np.isnan(filled)
    assert (filled == whole[:, None])[now].all()
    held_by_twin = np.zeros_like(was)
    held_by_twin[:120] = was[:120] & ~was[:120].reshape(60, 2, 6)[:, ::-1].reshape(120, 6)
    assert now.mean(axis=1)[held_by_twin].mean() > 0.9
    assert not now.any(axis=1)[was & ~held_by_twin].any()


def test_all_that_a_copy_is_lent_comes_from_one_row():
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(100, 6)), 2, axis=0)
    rows[2:4, :4] = rows[0, :4]
    gaps = np.where(rng.random(rows.shape) < 0.1, np.nan, rows)
    gaps[:4] = rows[:4]
    asked = np.append(rows[0, :4], [np.nan, np.nan])[None]
    drawn = lent(repeats_of(gaps), asked, 200)[0, :, 4:]
    pairs = {tuple(pair) for pair in drawn[~np.isnan(drawn).any(axis=1)]}
    assert pairs == {tuple(rows[0, 4:]), tuple(rows[2, 4:])}
