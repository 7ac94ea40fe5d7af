"""Text that looks like numbers or dates, as files without dtypes hold them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np

# Levels up to which text that looks like numbers is taken for categories: digits, months.
_FEW_LEVELS = 12
# Share of the levels that must look so: some stand for what is missing, as "n/a" does.
_NEARLY_ALL = 0.9
_DAY_FIRST = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}( .*)?")


def what_text_looks_like(levels: np.ndarray) -> str:
    """Return what the levels of a column look like and how to convert them, "" if like nothing."""
    texts = levels.tolist()
    if len(texts) <= _FEW_LEVELS:
        return ""
    if _share(float, texts) >= _NEARLY_ALL:
        return (
            f"looks like numbers ({texts[0]!r}, ...): convert it, with astype(float) or polars' "
            "cast(pl.Float64)"
        )
    if _share(_date, texts) >= _NEARLY_ALL:
        return (
            f"looks like dates ({texts[0]!r}, ...): convert it, with pd.to_datetime or polars' "
            "str.to_datetime()"
        )
    return ""


def _share(parse: Callable[[str], Any], texts: list[str]) -> float:
    return sum(_parses(parse, text) for text in texts) / len(texts)


def _parses(parse: Callable[[str], Any], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _date(text: str) -> None:
    if not _DAY_FIRST.fullmatch(text):
        datetime.fromisoformat(text)
