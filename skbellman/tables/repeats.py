"""Repeated rows of a table, which fill each other's gaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class RepeatedRows:
    """The rows of a table, and the probability that rows that agree in some cells are one row.

    Two rows that agree in all that both hold are one row seen twice, or agree by chance. Take
    column j and k others. Let a be the share of pairs that agree in j among those that agree in all
    k. Let c be the same share among pairs that differ in one of the k, which are never one row. If
    a share t of the former are one row, then a = t + (1 - t) c. t is the sureness of a repeat. It
    grows with k.

    Parameters
    ----------
    values : list of array, each (n_samples,)
        The columns of the table.
    codes : list of array, each (n_samples,)
        Numbers that are equal if values are equal; NaN or -1 for missing values.
    rng : numpy.random.Generator
        Selects the rows that are compared. It also hides some of their cells, so that every k
        occurs.

    Attributes
    ----------
    sureness : array of float, shape (n_features, n_features)
        t by column and by k.
    """

    # Cells of pairs that are counted: all pairs of five thousand rows with fifteen columns. Larger
    # tables compare fewer rows with all.
    tallied_cells = 450_000_000
    # Rows that lend, selected at random, and how many of them lend to one row at most.
    lending_rows, lenders = 100_000, 100

    def __init__(
        self, values: list[np.ndarray], codes: list[np.ndarray], rng: np.random.Generator
    ) -> None:
        kept = rng.permutation(len(codes[0]))[: self.lending_rows]
        self.values = [column[kept] for column in values]
        self.rows = _matrix([column[kept] for column in codes])
        n_chosen = max(self.tallied_cells // self.rows.size, 1)
        chosen = rng.permutation(len(self.rows))[:n_chosen]
        hidden = rng.random((len(chosen), self.rows.shape[1])) < rng.random((len(chosen), 1))
        partial = np.where(hidden, np.nan, self.rows[chosen])
        self.sureness = _sureness(
            _tally(self.rows[chosen], self.rows, chosen) + _tally(partial, self.rows, chosen)
        )

    def lend(
        self,
        values: list[np.ndarray],
        codes: list[np.ndarray],
        n_draws: int,
        rng: np.random.Generator,
    ) -> list[np.ndarray]:
        """Return columns of n_draws copies of each row, with gaps filled as often as t says.

        All values for a copy come from one row, as far as that row holds them.
        """
        lent = [np.repeat(column, n_draws) for column in values]
        if not self.sureness.any():
            return lent
        rows = _matrix(codes)
        for i, lenders, n_shared in self._agreeing(rows):
            copies = np.arange(i * n_draws, (i + 1) * n_draws)
            chances, order = rng.random(n_draws), rng.random((n_draws, len(lenders)))
            for j in np.flatnonzero(np.isnan(rows[i])):
                sure = self.sureness[j, n_shared] * ~np.isnan(self.rows[lenders, j])
                filled = chances < sure.max()
                first = np.where(sure == sure.max(), order[filled], np.inf).argmin(axis=1)
                lent[j][copies[filled]] = self.values[j][lenders[first]]
        return lent

    def _agreeing(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Iterate over rows with gaps: rows that agree with each, and how many cells both hold."""
        usable = self.sureness.any(axis=0)  # by k
        n_held = rows.shape[1] - np.isnan(rows).sum(axis=1)
        has_gaps, holds_enough = n_held < rows.shape[1], n_held >= usable.argmax()
        for part in _parts(np.flatnonzero(has_gaps & holds_enough), len(self.rows)):
            n_shared, n_differing = _compared(rows[part], self.rows)
            agree = (n_differing == 0) & np.append(usable, False)[n_shared]
            for row in np.flatnonzero(agree.any(axis=1)):
                lenders = np.flatnonzero(agree[row])
                nearest = np.argsort(-n_shared[row, lenders], kind="stable")[: self.lenders]
                yield part[row], lenders[nearest], n_shared[row, lenders[nearest]]


def _matrix(codes: list[np.ndarray]) -> np.ndarray:
    """Return the codes as a matrix of numbers, NaN where one is missing, a column in one piece."""
    columns = [np.where(c < 0, np.nan, c) if c.dtype.kind == "i" else c for c in codes]
    return np.stack(columns).T


def _parts(rows: np.ndarray, n_others: int, n_pairs: int = 200_000) -> list[np.ndarray]:
    """Return the rows in parts with few enough pairs that memory stays small."""
    n_parts = -(-len(rows) * n_others // n_pairs)
    return np.array_split(rows, max(n_parts, 1))


def _compared(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return in how many columns each pair has two values, and in how many they differ."""
    n_shared = np.zeros((len(rows), len(others)), dtype=np.int32)
    n_differing = np.zeros_like(n_shared)
    for column, other in zip(rows.T, others.T, strict=True):
        both, same = _agreement(column, other)
        n_shared += both
        n_differing += both & ~same
    return n_shared, n_differing


def _agreement(column: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pair of values whether both are present, and whether they are equal."""
    return ~np.isnan(column)[:, None] & ~np.isnan(other), column[:, None] == other


def _tally(rows: np.ndarray, others: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Count pairs by column, how many of the k other columns differ (0, 1), k, and equality.

    ``own`` are the positions of the rows among the others. Shape (n_features, 2, n_features, 2).
    """
    n_features = rows.shape[1]
    counts = np.zeros((n_features, 2, n_features, 2))
    for part in _parts(np.arange(len(rows)), len(others)):
        n_shared, n_differing = _compared(rows[part], others)
        n_differing[np.arange(len(part)), own[part]] = n_features + 1  # not a pair
        for j in range(n_features):
            both, same = _agreement(rows[part, j], others[:, j])
            differing = n_differing - (both & ~same)
            for n in (0, 1):
                pairs = both & (differing == n)
                places = 2 * (n_shared[pairs] - 1) + same[pairs]
                counts[j, n] += np.bincount(places, minlength=2 * n_features).reshape(-1, 2)
    return counts


def _sureness(counts: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Return t by column and k. It does not fall with k, and is 0 for too few pairs.

    If t is below ``least``, the gap is left to the density.
    """
    unequal, equal = np.moveaxis(counts, -1, 0)
    agree = equal[:, 0] / (equal[:, 0] + unequal[:, 0] + 1)
    chance = (equal[:, 1] + 0.5) / (equal[:, 1] + unequal[:, 1] + 1)
    sure = (agree - chance) / (1 - chance)
    sure[:, 0] = 0.0  # rows without a compared cell
    sure = np.maximum.accumulate(sure, axis=1)
    return np.where(sure < least, 0.0, sure)
