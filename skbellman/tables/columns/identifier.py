"""Identifiers of rows: they have no part in the density, and samples have new ones."""

from __future__ import annotations

from collections import Counter
from copy import copy
from hashlib import blake2b
from typing import Any

import numpy as np

from skbellman.tables.columns.base import Codes, Column, Coordinates, LogMeasure, Nodes, Values
from skbellman.tables.kinds import as_objects, is_missing
from skbellman.tables.measures import Names, Reference


class IdentifierColumn(Column):
    """A column of identifiers. It has no coordinates, and any value scores log-density 0.

    Samples have new values of the same form. Text has a length that occurred, and at each place a
    character that occurred there. Whole numbers are above the largest. New values are not in the
    table, and differ from each other. The column stores no value of the table, only a 64-bit hash
    of each text.

    Parameters
    ----------
    values : array of shape (n,)
        Text, or whole numbers; none of them missing.
    """

    n_dims, holds_numbers, is_fresh = 0, False, True

    def __init__(self, values: Values) -> None:
        are_text = values.dtype == object and type(values[0]) is str
        self.form = _Text(values.tolist()) if are_text else _Count(values)

    @property
    def measure(self) -> Reference:
        return Names()

    def codes(self, values: Values) -> Codes:
        """Return 0 for any value, -1 for a missing one."""
        return -is_missing(values).astype(np.int64)

    def _encode(self, values: Values, place: np.ndarray | float) -> tuple[Coordinates, LogMeasure]:
        return np.empty((len(values), 0)), np.zeros(len(values))

    def decode(self, coordinates: Coordinates) -> Codes:
        return np.zeros(len(coordinates), dtype=np.int64)

    def nodes(self, values: Values, n_nodes: int) -> Nodes:
        nowhere = np.empty((n_nodes, len(values), 0))
        return Nodes(nowhere, nowhere, np.zeros(len(values)))

    def fresh(self, n_rows: int, rng: np.random.Generator) -> Values:
        """Return new values, all different."""
        return self.form.fresh(n_rows, rng)

    def avoiding(self, values: Values) -> IdentifierColumn:
        """Return a column that also knows these values; itself if it knows all."""
        return self._knowing(self.form.marks(values)) if len(values) else self

    def avoiding_those_of(self, other: IdentifierColumn) -> IdentifierColumn:
        """Return a column that also knows the values of another column."""
        return self._knowing(other.form.known)

    def _knowing(self, marks: Any) -> IdentifierColumn:
        known = self.form.joined(marks)
        if known is self.form.known:
            return self
        column = copy(self)
        column.form = copy(self.form)
        column.form.known = known
        return column


class _Count:
    """Whole numbers above the largest one, which is all that is stored.

    They are Python's: floats have gaps from 2^53 on.
    """

    def __init__(self, values: Values) -> None:
        self.known = self.marks(values)

    def marks(self, values: Values) -> int:
        return int(values.max())

    def joined(self, largest: int) -> int:
        return self.known if largest <= self.known else largest

    def fresh(self, n_rows: int, rng: np.random.Generator) -> Values:
        fits: Any = np.int64 if abs(self.known) + n_rows < 2**62 else object
        return self.known + 1 + np.arange(n_rows, dtype=fits)


class _Text:
    """Text with the lengths, and the characters at each place, of given texts."""

    def __init__(self, texts: list[str]) -> None:
        counts = Counter(map(len, texts))
        self.lengths = sorted(counts)
        self.shares = np.array([counts[length] for length in self.lengths]) / len(texts)
        self.characters = [
            ["".join(sorted(set(place))) for place in zip(*of_length, strict=True)]
            for of_length in ([t for t in texts if len(t) == length] for length in self.lengths)
        ]
        self.known = np.unique(_digests(texts))

    def marks(self, values: Values) -> np.ndarray:
        return _digests([text for text in values.tolist() if type(text) is str])

    def joined(self, digests: np.ndarray) -> np.ndarray:
        new = np.setdiff1d(digests, self.known)
        return np.union1d(self.known, new) if len(new) else self.known

    def fresh(self, n_rows: int, rng: np.random.Generator, n_rounds: int = 8) -> Values:
        found: dict[str, None] = {}
        texts: list[str] = []
        for _ in range(n_rounds):
            texts = self._draw(n_rows - len(found), rng)
            self._keep_new(texts, found)
            if len(found) == n_rows:
                return as_objects(list(found))
        # The form allows almost no other text, so texts become longer.
        suffix = 0
        while len(found) < n_rows:
            numbers = range(suffix + 1, suffix + 1 + n_rows - len(found))
            suffix = numbers.stop - 1
            self._keep_new([f"{texts[k % len(texts)]}-{k}" for k in numbers], found)
        return as_objects(list(found))

    def _keep_new(self, texts: list[str], found: dict[str, None]) -> None:
        """Add the texts that are not known."""
        is_new = ~np.isin(_digests(texts), self.known)
        found.update((text, None) for text, new in zip(texts, is_new, strict=True) if new)

    def _draw(self, n_rows: int, rng: np.random.Generator) -> list[str]:
        texts = []
        for k in rng.choice(len(self.lengths), n_rows, p=self.shares):
            places = self.characters[k]
            at = (rng.random(len(places)) * [len(place) for place in places]).astype(int)
            texts.append("".join(place[j] for place, j in zip(places, at, strict=True)))
        return texts


def _digests(texts: list[str]) -> np.ndarray:
    """Return 64 bits of a hash of each text."""
    digests = (blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8) for text in texts)
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype=np.uint64)
