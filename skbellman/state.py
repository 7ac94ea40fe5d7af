"""The fitted state of an estimator: it changes as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def renewed(estimator: Any) -> Iterator[Any]:
    """Yield a draft of an estimator, whose new attributes become the estimator's at the end.

    An error or an interrupt in between leaves the estimator unchanged. Until the end, it uses its
    old fit.
    """
    before = dict(vars(estimator))
    draft = object.__new__(type(estimator))
    vars(draft).update(before)
    yield draft
    after = vars(draft)
    changed = {k: v for k, v in after.items() if k not in before or v is not before[k]}
    kept = {k: v for k, v in vars(estimator).items() if k in after or k not in before}
    estimator.__dict__ = kept | changed  # one operation, so an interrupt cannot split it


def altered(estimator: Any, **attributes: Any) -> Any:
    """Return a copy of an estimator with other attributes; it shares the rest."""
    copied = object.__new__(type(estimator))
    vars(copied).update(vars(estimator) | attributes)
    return copied
