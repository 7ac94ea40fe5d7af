"""Dates and times: days since 1970, in UTC where they have a time zone."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import narwhals.stable.v2 as nw
import numpy as np

from skbellman.tables.kinds import MOST_WHOLE, Cells, Kind, are_all_beyond

# Units of a clock, in nanoseconds, the longest first.
_CLOCK_UNITS = {
    "days": 86_400 * 10**9, "hours": 3600 * 10**9, "minutes": 60 * 10**9, "seconds": 10**9,
    "milliseconds": 10**6, "microseconds": 1000, "nanoseconds": 1,
}  # fmt: skip
_DAY = _CLOCK_UNITS["days"]
# Units of a dtype, in nanoseconds.
UNITS = {"D": _DAY, "s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}


class Dates(Kind):
    """Dates or times. Their plain cells are NumPy's, in UTC where they have a time zone.

    Parameters
    ----------
    unit : {"D", "s", "ms", "us", "ns"}
        Unit of the dtype.
    zone : str, tzinfo or None
    """

    # Share of a day that a double of some million days can resolve.
    least_part = 1e-9

    def __init__(self, unit: str, zone: str | tzinfo | None = None) -> None:
        self.dtype, self.zone = np.dtype(f"datetime64[{unit}]"), zone
        self.held = f"dates with{'out' if zone is None else ''} a time zone"
        # Days since 1970: in nanoseconds 292 years either way, else from the year 1 on.
        in_nanoseconds = unit == "ns"
        self.bounds = (-292.0 * 365, 292.0 * 365) if in_nanoseconds else (-719_162.0, 2_932_896.0)
        self._per_day = _DAY // UNITS[unit]
        self._set_clock(1)

    def of_series(
        self, series: nw.Series[Any], missing: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if series.dtype == nw.Date:
            pairs = zip(series.to_list(), missing.tolist(), strict=True)
            return np.array([None if gap else v for v, gap in pairs], dtype=self.dtype), missing
        if self.zone is not None:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return series.to_numpy().astype(self.dtype), missing

    def learn(self, cells: np.ndarray) -> None:
        """Find the longest unit of which all cells are multiples, and the origin."""
        count = cells.astype(self.dtype, copy=False).view(np.int64)
        lengths = [unit * self._per_day // _DAY for unit in _CLOCK_UNITS.values()]
        longer = (length for length in lengths if length > 1)
        few = count[:1000]
        self._set_clock(
            next((n for n in longer if not (few % n).any() and not (count % n).any()), 1)
        )
        if are_all_beyond(count, MOST_WHOLE * self._clock):
            self.origin = int(np.sort(count)[len(count) // 2])

    def _set_clock(self, length: int) -> None:
        """Set the unit of the clock, in units of the dtype."""
        self._clock = length
        nanoseconds = length * (_DAY // self._per_day)
        name = next(name for name, unit in _CLOCK_UNITS.items() if unit == nanoseconds)
        self.unit = length / self._per_day, f"whole {name}"

    @property
    def number_bounds(self) -> tuple[float, float]:
        least, most = self._days
        last = most + 1 - max(self.unit[0], self.least_part)
        return least - self.origin / self._per_day, last - self.origin / self._per_day

    @property
    def _days(self) -> tuple[float, float]:
        """The first and the last day of samples."""
        least, most = self.bounds
        # Local times differ from UTC by up to a day.
        return (least, most) if self.zone is None else (least + 1, most - 1)

    def numbers(self, plain: np.ndarray) -> np.ndarray:
        cells, fits = self.take(plain)
        if fits.all():
            return (cells.view(np.int64) - self.origin) / self._per_day
        per_day = _DAY // UNITS[np.datetime_data(plain.dtype)[0]]
        return plain.astype(np.int64) / per_day - self.origin / self._per_day

    def drawn(self, numbers: np.ndarray) -> np.ndarray:
        # Days separately: the whole range in nanoseconds does not fit an int64.
        days, part = np.divmod(numbers.clip(*self.number_bounds), 1.0)
        origin_days, origin_part = divmod(self.origin, self._per_day)
        count = (days.astype(np.int64) + origin_days) * self._per_day + origin_part
        n_units = np.rint(part * (self._per_day / self._clock)).astype(np.int64)
        # From an origin, the bounds as doubles are off by some microseconds.
        least, most = (int(day) * self._per_day for day in self._days)
        last = most + self._per_day - self._clock
        return (count + n_units * self._clock).clip(least, last).astype(self.dtype)

    def take(self, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = plain.astype(self.dtype, copy=False)
        return cells, cells.astype(plain.dtype, copy=False) == plain

    def parse(self, value: Any) -> Cells | None:
        moment = _moment(value)
        found = None if moment is None else self._in_utc(moment)
        if found is None:
            return None
        if beyond := _nanoseconds(value):
            found = found + np.timedelta64(beyond, "ns")
        return Cells(self, found, np.zeros(1, dtype=bool))

    def _in_utc(self, moment: datetime) -> np.ndarray | None:
        """Return the moment, in UTC if dates have a zone; None if it is ambiguous.

        It is ambiguous with a zone if dates have none. It is also ambiguous without one in an hour
        that the clocks of the zone repeat or skip.
        """
        if moment.tzinfo is None and self.zone is not None:
            moment = moment.replace(tzinfo=as_tzinfo(self.zone))
            if moment.replace(fold=1).utcoffset() != moment.replace(fold=0).utcoffset():
                return None
        elif moment.tzinfo is not None and self.zone is None:
            return None
        return utc_moments([moment])

    def shown(self, number: float) -> str:
        return _day_text(number + self.origin / self._per_day)

    def limits(self) -> str:
        return " to ".join(map(_day_text, self.bounds))

    def is_beyond(self, plain: np.ndarray) -> bool:
        day = plain.astype("datetime64[D]").astype(np.int64)[0]
        return not self.bounds[0] < day < self.bounds[1]


def utc_moments(moments: list[Any]) -> np.ndarray:
    """Return datetimes as NumPy's, in UTC where they have a time zone."""
    naive = [m if m.tzinfo is None else m.astimezone(UTC).replace(tzinfo=None) for m in moments]
    return np.array(naive, dtype="datetime64[us]")


def as_tzinfo(zone: str | tzinfo) -> tzinfo:
    """Return the time zone of a name such as Europe/Berlin, +01:00 or UTC+01:00."""
    if isinstance(zone, tzinfo):
        return zone
    if offset := re.fullmatch(r"(?:UTC)?([+-])(\d\d):(\d\d)", zone):
        sign = -1 if offset[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(offset[2]), minutes=int(offset[3])))
    return ZoneInfo(zone)


def _moment(value: Any) -> datetime | None:
    """Return a date, time or ISO 8601 text as a time; None for anything else."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()  # years beyond 9999 give a number
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    return None


def _nanoseconds(value: Any) -> int:
    """Return the nanoseconds that a Python datetime cannot hold."""
    if isinstance(value, str):
        digits = re.search(r"[.,]\d{6}(\d{1,3})", value)
        return int(digits[1].ljust(3, "0")) if digits else 0
    if isinstance(value, np.datetime64):
        return int((value - value.astype("datetime64[us]")) / np.timedelta64(1, "ns"))
    return getattr(value, "nanosecond", 0)


def _day_text(days: float) -> str:
    return str(np.datetime64(round(days * (_DAY // 1000)), "us"))
