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

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from config.units import INT64_MAX
from rating.calendar import LocalCalendar, days_of_year, first_day_of, months_of
from rating.tariff.fields import DAYS_OF_YEAR, TIERS_MAX
from rating.tariff.model import Tariff
from rating.tariff.plans import days_of
from rating.tariff.tiers import Tiers
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


def bounds_of(tiers: Tiers | None, season: int, attributes: dict[str, int], days: int) -> Bounds:
    """Bounds in one of the seasons of `tiers.bounds` for an account with these attributes.

    Figures per day, or for thirty days, are scaled to the `days` of the cycle and rounded down to the Wh.
    """
    if tiers is None:
        return UNBOUNDED
    upto = list(tiers.bounds[season].upto_wh)
    for extra in tiers.attribute:
        times = extra.times(attributes)
        upto = [bound + times * add for bound, add in zip(upto, extra.figures_wh, strict=True)]
    if tiers.per == "day":
        upto = [bound * days for bound in upto]
    elif tiers.length == "days30":
        upto = [bound * days // 30 for bound in upto]
    return (*upto, *UNBOUNDED[len(upto) :])


def _seasons(tariff: Tariff) -> npt.NDArray[np.int16]:
    """Which of a version's bounds holds on each day of the year: [version, day of the year]."""
    owner = np.zeros((len(tariff.version), DAYS_OF_YEAR), dtype=np.int16)
    for v, version in enumerate(tariff.version):
        for b, bounds in enumerate(version.tiers.bounds if version.tiers else ()):
            owner[v, list(days_of(bounds, tariff.season))] = b
    return owner


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
    """The changes of a history that the bounds of this tariff look at, in order; equal: equal schedules."""
    names = {name for v in tariff.version if v.tiers for extra in v.tiers.attribute for name in extra.names}
    return changes_of(calendar, history, names)


def changes_of(
    calendar: LocalCalendar, history: Sequence[AttributeChange], names: Collection[str]
) -> tuple[tuple[int, str, int], ...]:
    """The changes (local day, name, value) of these attributes, in order.

    Changes before the horizon count from its start.
    """
    latest: dict[tuple[int, str], int] = {}  # of two changes on one day the later one stands
    for change in sorted((c for c in history if c.name in names), key=lambda c: c.from_s):
        if change.from_s < calendar.end_s:
            day = calendar.first_day if change.from_s <= calendar.start_s else calendar.day_of(change.from_s)
            latest[day, change.name] = change.value
    return tuple((day, name, value) for (day, name), value in sorted(latest.items()))


def _cycles(tariff: Tariff, calendar: LocalCalendar) -> list[tuple[int, int, int, int]]:
    """(number, first day rated, end day, days) of the tier cycles of the horizon from the first version on."""
    months = tariff.cycle_months
    first, end = (int(m) for m in months_of([calendar.first_day, calendar.end_day]))
    starts = max(day_number(tariff, 0), calendar.first_day)
    out = []
    for cycle in range(first - (first - tariff.cycle_anchor) % months, end, months):
        day, end_day = first_day_of(cycle), first_day_of(cycle + months)
        if end_day > starts:
            out.append((cycle, max(day, starts), end_day, end_day - day))
    return out


def compile_schedule(tariff: Tariff, calendar: LocalCalendar, changes: Sequence[tuple[int, str, int]]) -> Schedule:
    """Stages of the ladder for `relevant` changes; they cover the timeline of the tariff without gaps."""
    versions = [day_number(tariff, v) for v in range(len(tariff.version))]
    cycles = _cycles(tariff, calendar)
    assert cycles, f"{tariff.id}: no version is in force within the horizon"
    base = cycles[0][1]
    days_all = np.arange(base, cycles[-1][2])
    version_of = np.searchsorted(versions, days_all, side="right") - 1
    season_of = _seasons(tariff)[version_of, days_of_year(days_all)]
    turns = base + 1 + np.flatnonzero((np.diff(version_of) != 0) | (np.diff(season_of) != 0))
    marks = np.union1d(turns, np.array([day for day, _, _ in changes], dtype=np.int64))
    known: dict[tuple[int, int, int, tuple[tuple[str, int], ...]], Bounds] = {}
    attributes: dict[str, int] = {}
    ahead = list(changes)
    days: list[int] = []
    numbers: list[int] = []
    bounds: list[Bounds] = []
    for number, first_day, end_day, length in cycles:
        inside = marks[np.searchsorted(marks, first_day, "right") : np.searchsorted(marks, end_day)]
        parts: list[tuple[int, Bounds]] = []
        for day in (first_day, *inside.tolist()):
            while ahead and ahead[0][0] <= day:
                _, name, value = ahead.pop(0)
                attributes[name] = value
            version, season = int(version_of[day - base]), int(season_of[day - base])
            key = (version, season, length, tuple(sorted(attributes.items())))
            if key not in known:
                known[key] = bounds_of(tariff.version[version].tiers, season, attributes, length)
            if not parts or parts[-1][1] != known[key]:
                parts.append((day, known[key]))
        for day, rule in resolve_cycle(parts, end_day, tariff.on_change):
            days.append(day)
            numbers.append(number)
            bounds.append(rule)
    starts_s = tuple(int(s) for s in calendar.day_starts_s(np.array(days, dtype=np.int64)))
    return Schedule(starts_s, (*starts_s[1:], calendar.end_s), tuple(numbers), tuple(bounds))
