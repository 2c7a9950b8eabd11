"""Pure: one tariff over a horizon of years, as sorted segments; the kernel walks them and knows no calendar.

Local day boundaries, time-of-use periods, seasons, types of day and tariff versions all become segment starts. A
segment lasts until the next one starts; its prices are those of the version in force at that instant. Every local
day starts a segment, because a day is what charges are posted by.

      00:00          08:00    10:00  12:00  14:00        19:00      24:00
        | valley       | flat   | peak | flat | peak       | flat     |      7 segments, one `day`
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rating.calendar import DAY_S, Int64s, LocalCalendar, days_of_year, months_of
from rating.tariff.days import day_types
from rating.tariff.fields import TIERS_MAX
from rating.tariff.model import Tariff
from rating.tariff.plans import plans_of


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


@dataclass(frozen=True, slots=True, eq=False)
class _Plans:
    """Plans of all versions as arrays, so that every instant of the horizon is looked up at once."""

    index: npt.NDArray[np.int32]  # [version, day of the year, day type] -> plan
    period: npt.NDArray[np.int16]  # [plan, minute] -> place in Tariff.period_names; -1 on days that cannot be
    price_e8: Int64s  # [version, place in Tariff.period_names, tier]


def _plans(tariff: Tariff) -> _Plans:
    names = tariff.period_names
    index: list[npt.NDArray[np.int32]] = []
    period: list[npt.NDArray[np.int16]] = []
    prices = np.zeros((len(tariff.version), len(names), TIERS_MAX), dtype=np.int64)
    for v, version in enumerate(tariff.version):
        plans = plans_of(tariff, version)
        place = np.array([*(names.index(p.name) for p in version.period), -1], dtype=np.int16)
        index.append(np.array(plans.index, dtype=np.int32) + len(period))
        period += [place[list(plan.period)] for plan in plans.plan]
        for p, one in zip(place, version.period, strict=False):
            prices[v, p] = version.prices_e8(one)
    return _Plans(np.array(index), np.array(period), prices)


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
    plans = _plans(tariff)
    changes = np.nonzero((plans.period != np.roll(plans.period, 1, axis=1)).any(axis=0))[0]
    start_s = _starts_s(calendar, np.unique(np.append(changes, 0)).astype(np.int64))
    local_s = calendar.local_s(start_s)
    day = np.maximum.accumulate(local_s // DAY_S)
    minute = local_s % DAY_S // 60
    from_days = np.array([day_number(tariff, v) for v in range(len(tariff.version))], dtype=np.int64)
    version = np.searchsorted(from_days, day, side="right") - 1
    inside = (day >= calendar.first_day) & (day < calendar.end_day) & (version >= 0)
    first = int(day[0])
    kind = day_types(tariff, first, int(day[-1]) + 1)[day - first]
    period = plans.period[plans.index[version, days_of_year(day), kind], minute]
    fresh = np.ones(len(start_s), dtype=bool)
    fresh[1:] = (np.diff(day) != 0) | (np.diff(period) != 0) | (np.diff(version) != 0)
    keep = inside & fresh
    assert keep.any(), f"{tariff.id}: no version is in force within the horizon"
    assert (period[keep] >= 0).all(), f"{tariff.id}: a day of a type that its calendar does not have"
    return Timeline(
        start_s=start_s[keep],
        day=day[keep].astype(np.int32),
        cycle=months_of(day[keep]),
        period=period[keep].astype(np.uint8),
        version=version[keep].astype(np.int32),
        price_e8=np.ascontiguousarray(plans.price_e8[version[keep], period[keep]]),
        end_s=calendar.end_s,
    )
