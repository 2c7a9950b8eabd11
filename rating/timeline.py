"""Pure: one tariff over a horizon of years, as sorted segments; the kernel walks them and knows no calendar.

Local day boundaries, time-of-use periods, seasons and tariff versions all become segment starts. A segment
lasts until the next one starts; its prices are those of the version in force at that instant. Every local day
starts a segment, because a day is what charges are posted by.

      00:00          08:00    10:00  12:00  14:00        19:00      24:00
        | valley       | flat   | peak | flat | peak       | flat     |      7 segments, one `day`
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rating.calendar import DAY_S, Int64s, LocalCalendar, months_of
from rating.tariff import Tariff
from rating.tariff_fields import ALL_MONTHS, MINUTES, TIERS_MAX


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Segments in columns of equal length, sorted by start."""

    start_s: Int64s
    day: npt.NDArray[np.int32]  # local, since 1970-01-01
    cycle: npt.NDArray[np.int32]  # bill cycle: local months since 1970-01
    period: npt.NDArray[np.uint8]  # index into Tariff.period_names
    version: npt.NDArray[np.int32]  # index into Tariff.version
    price_e8: Int64s  # [segments, TIERS_MAX]
    end_s: int  # of the horizon: nothing is priced from here on

    def __len__(self) -> int:
        return len(self.start_s)


def day_number(tariff: Tariff, version: int) -> int:
    """Local day from which a version is in force."""
    return int(np.datetime64(tariff.version[version].from_day, "D").astype(np.int64))


def _plans(tariff: Tariff) -> tuple[npt.NDArray[np.int16], Int64s]:
    """Period index of the file by [version, month, minute], and prices by [version, period name, tier]."""
    names = tariff.period_names
    plans = np.zeros((len(tariff.version), 12, MINUTES), dtype=np.int16)
    prices = np.zeros((len(tariff.version), len(names), TIERS_MAX), dtype=np.int64)
    for v, version in enumerate(tariff.version):
        place = np.array([names.index(p.name) for p in version.period], dtype=np.int16)
        for month in ALL_MONTHS:
            plans[v, month - 1] = place[list(version.day_plan(month))]
        for p, period in zip(place, version.period, strict=True):
            prices[v, p] = version.prices_e8(period)
    return plans, prices


def _starts_s(calendar: LocalCalendar, minutes: Int64s) -> Int64s:
    """Every instant at which a wall clock shows one of `minutes`, and every jump of the clock."""
    out = [calendar.span_start_s, np.array([calendar.start_s], dtype=np.int64)]
    ends = np.append(calendar.span_start_s[1:], calendar.end_s + 2 * DAY_S)
    for start_s, end_s, offset_s in zip(calendar.span_start_s, ends, calendar.offset_s, strict=True):
        days = np.arange((start_s + offset_s) // DAY_S, (end_s + offset_s) // DAY_S + 1, dtype=np.int64)
        at_s = (days[:, None] * DAY_S + minutes[None, :] * 60).ravel() - offset_s
        out.append(at_s[(at_s >= start_s) & (at_s < end_s)])
    return np.unique(np.concatenate(out))


def compile_timeline(tariff: Tariff, calendar: LocalCalendar) -> Timeline:
    """Segments from the horizon's start, or from the first version's, to the horizon's end.

    Before the first version nothing is priced: there is no segment there.
    """
    plans, prices = _plans(tariff)
    changes = np.nonzero((plans != np.roll(plans, 1, axis=2)).any(axis=(0, 1)))[0]
    start_s = _starts_s(calendar, np.unique(np.append(changes, 0)).astype(np.int64))
    local_s = calendar.local_s(start_s)
    day = np.maximum.accumulate(local_s // DAY_S)
    minute = local_s % DAY_S // 60
    month = months_of(day)
    from_days = np.array([day_number(tariff, v) for v in range(len(tariff.version))], dtype=np.int64)
    version = np.searchsorted(from_days, day, side="right") - 1
    inside = (day >= calendar.first_day) & (day < calendar.end_day) & (version >= 0)
    period = plans[version, month % 12, minute]
    fresh = np.ones(len(start_s), dtype=bool)
    fresh[1:] = (np.diff(day) != 0) | (np.diff(period) != 0) | (np.diff(version) != 0)
    keep = inside & fresh
    assert keep.any(), f"{tariff.id}: no version is in force within the horizon"
    return Timeline(
        start_s=start_s[keep],
        day=day[keep].astype(np.int32),
        cycle=month[keep],
        period=period[keep].astype(np.uint8),
        version=version[keep].astype(np.int32),
        price_e8=np.ascontiguousarray(prices[version, period][keep]),
        end_s=calendar.end_s,
    )
