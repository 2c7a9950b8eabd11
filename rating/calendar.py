"""Pure: local days and cycles of a time zone as UTC instants, also where a day has 23, 24.5 or 25 hours.

A zone is kept as spans of constant offset, so that everything else is arithmetic on whole columns. Where a
clock goes back over midnight the day number does not: the repeated stretch belongs to the later day.
Days are numbered from 1970-01-01, cycles are months from 1970-01, both local.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

DAY_S: Final = 86_400
FIRST_YEAR: Final = 1971  # instants and cycles are never negative
LAST_YEAR: Final = 2106  # UTC seconds of a reading are uint32
_MONTH_STARTS: Final = np.cumsum([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30])
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LocalCalendar:
    """One zone over [start_s, end_s): local midnights of 1 January of the first year and of the end year."""

    timezone: str
    first_day: int
    end_day: int  # exclusive
    span_start_s: Int64s  # from here on ...
    offset_s: Int64s  # ... local time = UTC + offset

    @property
    def start_s(self) -> int:
        return self.day_start_s(self.first_day)

    @property
    def end_s(self) -> int:
        return self.day_start_s(self.end_day)

    def day_starts_s(self, days: npt.ArrayLike) -> Int64s:
        """First instant of each local day: its midnight, or where the clock jumps over midnight, the jump."""
        midnight = np.asarray(days, dtype=np.int64)[:, None] * DAY_S - self.offset_s[None, :]
        reached = np.maximum(midnight, self.span_start_s[None, :])
        until = np.append(self.span_start_s[1:], np.iinfo(np.int64).max)
        first = np.argmax(reached < until[None, :], axis=1)
        return np.asarray(reached[np.arange(len(first)), first], dtype=np.int64)

    def day_start_s(self, day: int) -> int:
        return _day_start_s(self, day)

    def local_s(self, at_s: Int64s) -> Int64s:
        """Wall clock as seconds since 1970-01-01 00:00 local."""
        span = np.searchsorted(self.span_start_s, at_s, side="right") - 1
        return np.asarray(at_s + self.offset_s[span], dtype=np.int64)

    def day_of(self, at_s: int) -> int:
        """Local day that holds an instant (by day starts, so that a clock going back changes nothing)."""
        day = int(self.local_s(np.array([at_s], dtype=np.int64))[0]) // DAY_S
        return day + 1 if self.day_start_s(day + 1) <= at_s else day

    def days_of(self, at_s: Int64s) -> Int64s:
        """`day_of` for a column."""
        day = self.local_s(at_s) // DAY_S
        moments, which = np.unique(day, return_inverse=True)
        following = self.day_starts_s(moments + 1)[which.reshape(-1)]
        return np.asarray(day + (following <= at_s), np.int64)


@lru_cache(maxsize=8192)
def _day_start_s(calendar: LocalCalendar, day: int) -> int:
    return int(calendar.day_starts_s([day])[0])


def months_of(days: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Months since 1970-01 of local day numbers."""
    dates = np.asarray(days, dtype=np.int64).astype("datetime64[D]")
    return dates.astype("datetime64[M]").astype(np.int32)


def days_of_year(days: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Place of local day numbers in a leap year, from 0: 29 February is 59, 1 March always 60."""
    dates = np.asarray(days, dtype=np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    in_month = (dates - months.astype("datetime64[D]")).astype(np.int32)
    return np.asarray(_MONTH_STARTS[months.astype(np.int64) % 12] + in_month, dtype=np.int32)


def first_day_of(month: int) -> int:
    """Local day number of the first day of a month (months since 1970-01)."""
    return int(np.datetime64(month, "M").astype("datetime64[D]").astype(np.int64))


def _offset_s(zone: ZoneInfo, at_s: int, standing: bool) -> int:
    moment = datetime.fromtimestamp(at_s, UTC).astimezone(zone)
    offset, ahead = moment.utcoffset(), moment.dst()
    assert offset is not None
    assert ahead is not None
    return int((offset - ahead if standing else offset).total_seconds())


@lru_cache(maxsize=32)
def local_calendar(timezone: str, from_year: int, to_year: int, standing: bool = False) -> LocalCalendar:
    """The calendar of a zone over the years [from_year, to_year); two weeks' margin on both sides.

    `standing`: by the zone's standard time all year, as some grids count; its clock does not change in summer.
    """
    assert FIRST_YEAR <= from_year < to_year <= LAST_YEAR, (from_year, to_year)
    zone = ZoneInfo(timezone)
    first_day = first_day_of((from_year - 1970) * 12)
    end_day = first_day_of((to_year - 1970) * 12)
    at_s = (first_day - 14) * DAY_S
    starts, offsets = [at_s], [_offset_s(zone, at_s, standing)]
    for next_s in range(at_s + DAY_S, (end_day + 14) * DAY_S, DAY_S):
        offset = _offset_s(zone, next_s, standing)
        if offset != offsets[-1]:
            low, high = next_s - DAY_S, next_s  # the offset differs between them: find the second
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset_s(zone, middle, standing) == offsets[-1] else (low, middle)
            starts.append(high)
            offsets.append(offset)
    return LocalCalendar(
        timezone, first_day, end_day, np.array(starts, dtype=np.int64), np.array(offsets, dtype=np.int64)
    )
