"""Pure: which period rules each minute of a local day, by day of the year and type of day.

Days of the year with the same periods share a plan, so that a version has a handful of them:

    index[day of the year, day type] -> plan -> period of each minute
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from rating.tariff.charges import Allowance, Charge
from rating.tariff.fields import ALL_MONTHS, DAYS_OF_YEAR, MINUTES, DayType, day_of_year
from rating.tariff.model import Period, Season, Tariff, Version
from rating.tariff.tiers import SeasonBounds

ALL_YEAR: Final = frozenset(range(DAYS_OF_YEAR))
_STARTS: Final = (*(day_of_year(month, 1) for month in ALL_MONTHS), DAYS_OF_YEAR)


@dataclass(frozen=True, slots=True)
class Plan:
    """Periods of one local day; `gaps` and `overlaps` are what is wrong with it."""

    period: tuple[int, ...]  # index into Version.period for each minute; -1: none
    gaps: tuple[int, ...]  # first minutes without a period
    overlaps: tuple[int, ...]  # periods that lie over another


def season_days(season: Season) -> frozenset[int]:
    """Days of the year of a season."""
    if season.from_place <= season.to_place:
        return frozenset(range(season.from_place, season.to_place + 1))
    return ALL_YEAR - frozenset(range(season.to_place + 1, season.from_place))


def days_of(part: Period | SeasonBounds | Allowance | Charge, seasons: Sequence[Season]) -> frozenset[int]:
    """Days of the year for which a part speaks; seasons that it names and nobody defines count for nothing."""
    if part.months is not None:
        return frozenset(chain.from_iterable(range(_STARTS[m - 1], _STARTS[m]) for m in part.months))
    if part.season is not None:
        return frozenset().union(*(season_days(s) for s in seasons if s.name in part.season))
    return ALL_YEAR


def day_plan(version: Version, ruling: Iterable[int]) -> Plan:
    """The plan of a day on which the periods `ruling` (indexes) speak."""
    plan = [-1] * MINUTES
    rest: list[int] = []
    overlaps: list[int] = []
    for i in ruling:
        if not version.period[i].spans:
            rest.append(i)
        for start, end in version.period[i].spans:
            if any(p >= 0 for p in plan[start:end]):
                overlaps.append(i)
            plan[start:end] = [i] * (end - start)
    if rest:
        plan = [rest[0] if p < 0 else p for p in plan]
    gaps = tuple(m for m in range(MINUTES) if plan[m] < 0 and (m == 0 or plan[m - 1] >= 0))
    return Plan(tuple(plan), gaps, (*overlaps, *rest[1:]))


@dataclass(frozen=True, slots=True)
class Plans:
    """All plans of a version: `plan[index[place][kind]]` is the plan of a day."""

    index: tuple[tuple[int, ...], ...]  # [DAYS_OF_YEAR][len(DayType)]
    plan: tuple[Plan, ...]


def plans_of(tariff: Tariff, version: Version) -> Plans:
    """Every plan of a version, also for types of day that its calendar does not have (those may have gaps)."""
    where = [days_of(period, tariff.season) for period in version.period]
    places: dict[tuple[int, ...], int] = {}
    plans: list[Plan] = []
    index: list[tuple[int, ...]] = []
    for place in range(DAYS_OF_YEAR):
        row = []
        for kind in DayType:
            ruling = tuple(
                i
                for i, period in enumerate(version.period)
                if place in where[i] and (period.days is None or kind in period.days)
            )
            if ruling not in places:
                places[ruling] = len(plans)
                plans.append(day_plan(version, ruling))
            row.append(places[ruling])
        index.append(tuple(row))
    return Plans(tuple(index), tuple(plans))
