"""Pure: the stages of a ladder: which bounds rule a tier cycle, for one tariff and one history of attributes.

Bounds change inside a cycle when a season, a tariff version or an attribute does. The tariff's word `on_change`
says what then happens, and is compiled away here; the kernel only sees stages:

    next_cycle        |--------- bounds at the cycle's start ---------|
    from_cycle_start  |--------- bounds at the cycle's end -----------|
    by_instant        |-- old bounds --|-- new bounds; use so far counts --|
    by_days           |--------- mean of both, weighted by days ------|    rounded down to the Wh

The word rules bounds only; prices are those in force at the instant (rating.timeline). A change takes effect
at the local midnight that starts its day. An attribute that an account does not have counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from config.units import INT64_MAX
from rating.calendar import LocalCalendar, first_day_of, months_of
from rating.tariff import Tariff, Version
from rating.tariff_fields import TIERS_MAX
from rating.timeline import day_number
from registry.image import AttributeChange

Bounds = tuple[int, ...]  # TIERS_MAX inclusive upper bounds in thousandths; from the last tier on INT64_MAX
UNBOUNDED: Final[Bounds] = (INT64_MAX,) * TIERS_MAX


@dataclass(frozen=True, slots=True)
class Schedule:
    """Stages, sorted and without gaps: stage i rules [start_s[i], end_s[i]) of tier cycle `cycle[i]`."""

    start_s: tuple[int, ...]
    end_s: tuple[int, ...]
    cycle: tuple[int, ...]  # months since 1970-01 of the cycle's first month
    bounds: tuple[Bounds, ...]


def bounds_of(version: Version, month: int, attributes: dict[str, int]) -> Bounds:
    """Bounds under a version in a month of the year (1-12) for an account with these attributes."""
    if version.tiers is None:
        return UNBOUNDED
    season = next(s for s in version.tiers.bounds if month in s.months)
    upto = list(season.upto_wh)
    for extra in version.tiers.attribute:
        if attributes.get(extra.name, 0) >= extra.at_least:
            upto = [bound + add for bound, add in zip(upto, extra.add_wh, strict=True)]
    return (*upto, *UNBOUNDED[len(upto) :])


def resolve_cycle(parts: Sequence[tuple[int, Bounds]], end_day: int, on_change: str) -> list[tuple[int, Bounds]]:
    """Stages (first day, bounds) of one cycle whose bounds change at the `parts`' days; pure table of the word."""
    start_day = parts[0][0]
    match on_change:
        case "next_cycle":
            return [parts[0]]
        case "from_cycle_start":
            return [(start_day, parts[-1][1])]
        case "by_instant":
            return list(parts)
        case "by_days":
            ends = [day for day, _ in parts[1:]] + [end_day]
            days = [end - day for (day, _), end in zip(parts, ends, strict=True)]
            mean = tuple(
                INT64_MAX
                if parts[0][1][tier] == INT64_MAX
                else sum(bounds[tier] * n for (_, bounds), n in zip(parts, days, strict=True)) // sum(days)
                for tier in range(TIERS_MAX)
            )
            return [(start_day, mean)]
        case _:
            raise AssertionError(f"unknown word {on_change!r}")


def relevant(
    tariff: Tariff, calendar: LocalCalendar, history: Sequence[AttributeChange]
) -> tuple[tuple[int, str, int], ...]:
    """The changes (local day, name, value) of a history that this tariff looks at, in order; equal: equal schedules.

    Changes before the horizon count from its start.
    """
    names = {extra.name for v in tariff.version if v.tiers for extra in v.tiers.attribute}
    latest: dict[tuple[int, str], int] = {}  # of two changes on one day the later one stands
    for change in sorted((c for c in history if c.name in names), key=lambda c: c.from_s):
        if change.from_s < calendar.end_s:
            day = calendar.first_day if change.from_s <= calendar.start_s else calendar.day_of(change.from_s)
            latest[day, change.name] = change.value
    return tuple((day, name, value) for (day, name), value in sorted(latest.items()))


def _cycles(tariff: Tariff, calendar: LocalCalendar) -> list[tuple[int, int, int]]:
    """(number, first day, end day) of the tier cycles of the horizon from the first version on."""
    months = 12 if tariff.cycle == "calendar_year" else 1
    first, end = (int(m) for m in months_of([calendar.first_day, calendar.end_day]))
    starts = day_number(tariff, 0)
    out = []
    for cycle in range(first, end, months):
        day, end_day = first_day_of(cycle), first_day_of(cycle + months)
        if end_day > starts:
            out.append((cycle, max(day, starts), end_day))
    return out


def compile_schedule(tariff: Tariff, calendar: LocalCalendar, changes: Sequence[tuple[int, str, int]]) -> Schedule:
    """Stages of the ladder for `relevant` changes; they cover the timeline of the tariff without gaps."""
    versions = [day_number(tariff, v) for v in range(len(tariff.version))]
    cycles = _cycles(tariff, calendar)
    assert cycles, f"{tariff.id}: no version is in force within the horizon"
    marks = {*versions, *(day for day, _, _ in changes)}
    seasons = max((len(v.tiers.bounds) for v in tariff.version if v.tiers), default=1) > 1
    known: dict[tuple[int, int, tuple[tuple[str, int], ...]], Bounds] = {}
    attributes: dict[str, int] = {}
    ahead = list(changes)
    days: list[int] = []
    numbers: list[int] = []
    bounds: list[Bounds] = []
    for number, first_day, end_day in cycles:
        at = {first_day, *(day for day in marks if first_day < day < end_day)}
        if seasons and tariff.cycle == "calendar_year":
            at |= {d for m in range(number, number + 12) if (d := first_day_of(m)) > first_day}
        parts: list[tuple[int, Bounds]] = []
        for day in sorted(at):
            while ahead and ahead[0][0] <= day:
                _, name, value = ahead.pop(0)
                attributes[name] = value
            version = sum(1 for v in versions if v <= day) - 1
            month = int(months_of([day])[0]) % 12 + 1
            key = (version, month, tuple(sorted(attributes.items())))
            if key not in known:
                known[key] = bounds_of(tariff.version[version], month, attributes)
            if not parts or parts[-1][1] != known[key]:
                parts.append((day, known[key]))
        for day, rule in resolve_cycle(parts, end_day, tariff.on_change):
            days.append(day)
            numbers.append(number)
            bounds.append(rule)
    starts_s = tuple(int(s) for s in calendar.day_starts_s(np.array(days, dtype=np.int64)))
    return Schedule(starts_s, (*starts_s[1:], calendar.end_s), tuple(numbers), tuple(bounds))
