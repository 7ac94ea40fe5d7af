"""Text that looks like numbers, amounts, dates or times, as files without dtypes hold them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np

_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
# 31/12/2020, 31-Dec-2020, Dec 31, 2020; a time may follow.
_DATE = re.compile(
    rf"(\d{{1,4}}[/.-]\d{{1,2}}[/.-]\d{{1,4}}|\d{{1,2}}[ -]{_MONTH}[ ,-]+\d{{2,4}}"
    rf"|{_MONTH} \d{{1,2}},? \d{{4}})( .*)?",
    re.IGNORECASE,
)
# 23:59, 23:59:59.5, 11:59 pm, and durations such as 120:30:00.
_TIME = re.compile(r"\d{1,3}:[0-5]\d(:[0-5]\d(\.\d+)?)?( ?[ap]m)?", re.IGNORECASE)


def what_text_looks_like(levels: np.ndarray, few_levels: int = 12, nearly_all: float = 0.9) -> str:
    """Return what levels of text look like and how to convert them; "" for plain text.

    Parameters
    ----------
    levels : array of str
    few_levels : int, default=12
        With at most this many levels, text that looks like numbers is taken as categories.
    nearly_all : float, default=0.9
        Share of the levels that must look so. Others may stand for missing values ("n/a").
    """
    texts = levels.tolist()
    if len(texts) <= few_levels:
        return ""
    if _share(float, texts) >= nearly_all:
        return (
            f"looks like numbers ({texts[0]!r}, ...): convert it, with astype(float) or polars' "
            "cast(pl.Float64)"
        )
    if _share(_amount, texts) >= nearly_all:
        return (
            f"looks like amounts ({texts[0]!r}, ...): remove signs and thousands separators, and "
            "convert it, with astype(float) or polars' cast(pl.Float64)"
        )
    if _share(_date, texts) >= nearly_all:
        return (
            f"looks like dates ({texts[0]!r}, ...): convert it, with pd.to_datetime or polars' "
            "str.to_datetime()"
        )
    if _share(_time, texts) >= nearly_all:
        return (
            f"looks like times ({texts[0]!r}, ...): convert it to hours or seconds, for example "
            "with pd.to_timedelta(...).dt.total_seconds()"
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


def _amount(text: str) -> None:
    """Read a number with a sign of a currency, of a percentage, or of thousands."""
    bare = "".join(c for c in text if unicodedata.category(c) != "Sc" and c != "%").strip()
    if bare == text.strip() and not _THOUSANDS.fullmatch(bare):
        raise ValueError(f"{text!r} has no sign of an amount.")
    float(re.sub(r"[,.\s'](?=\d{3}(\D|$))", "", bare).replace(",", "."))


def _date(text: str) -> None:
    if not _DATE.fullmatch(text):
        datetime.fromisoformat(text)


def _time(text: str) -> None:
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is no time of day, and no duration.")
