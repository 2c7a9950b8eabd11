"""Pure: the type of every local day under a tariff's calendar: weekday, weekend, holiday, adjusted, special.

    special   the file of days, or an announcement
    holiday   the file of days, or the library, when the tariff counts that holiday
    adjusted  a day of a weekend that is worked for a counted holiday (chinese-calendar), or the file of days
    weekend   the days of the week that the tariff calls so
    weekday   every other day

Which holidays a library knows differs from which a tariff counts (Ontario's regulation has the Civic Holiday and has
not 11 November; the library's public ones are another set): a tariff lists what it counts, by the library's names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from rating.tariff.fields import DayType
from rating.tariff.model import Calendar, Tariff

_EPOCH: Final = date(1970, 1, 1)
_SUFFIX: Final = re.compile(r" \([^()]*\)$")  # "Boxing Day (observed)" is Boxing Day on another day
NAMED_YEARS: Final = range(2000, 2051)  # a holiday that a tariff counts must occur in one of them


@dataclass(frozen=True, slots=True)
class Library:
    """What a library says: its holidays with their names, the weekend days that are worked, and for which years."""

    holidays: dict[date, tuple[str, ...]]
    worked: dict[date, tuple[str, ...]]
    first_year: int
    last_year: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name for names in self.holidays.values() for name in names}))


class NoSuchCalendar(ValueError):
    """A library has no holidays for that country or subdivision."""


@lru_cache(maxsize=64)
def library_of(library: str, country: str | None, subdivision: str | None, observed: bool | None) -> Library:
    """Holidays of `NAMED_YEARS` by a library; raises `NoSuchCalendar`."""
    if library == "none":
        return Library({}, {}, 1, 9999)
    if library == "chinese-calendar":
        return _chinese()
    import holidays  # a fifth of a second: only for tariffs that need it

    try:
        kind = getattr(holidays, country or "")
        found = kind(
            subdiv=subdivision,
            years=NAMED_YEARS,
            observed=bool(observed),
            categories=kind.supported_categories,
            language="en_US" if "en_US" in kind.supported_languages else None,
        )
    except (AttributeError, NotImplementedError) as fault:
        raise NoSuchCalendar(f"holidays has no days for {country} {subdivision or ''}: {fault}".strip()) from None
    days = {on: tuple(_plain(name) for name in found.get_list(on)) for on in found}
    return Library(days, {}, max(kind.start_year, NAMED_YEARS[0]), min(kind.end_year, NAMED_YEARS[-1]))


def _plain(name: str) -> str:
    return _SUFFIX.sub("", name)


def _chinese() -> Library:
    from chinese_calendar.constants import holidays, workdays

    years = [on.year for on in holidays]
    return Library(
        {on: (str(name),) for on, name in holidays.items()},
        {on: (str(name),) for on, name in workdays.items()},
        min(years),
        max(years),
    )


def calendar_library(calendar: Calendar) -> Library:
    """The library of a tariff's calendar; raises `NoSuchCalendar`."""
    return library_of(calendar.library, calendar.country, calendar.subdivision, calendar.observed)


def day_types(tariff: Tariff, first_day: int, end_day: int) -> npt.NDArray[np.uint8]:
    """DayType of each local day in [first_day, end_day), counted from 1970-01-01; without a calendar all WEEKDAY."""
    days = np.arange(first_day, end_day, dtype=np.int64)
    kinds = np.zeros(len(days), dtype=np.uint8)
    if tariff.calendar is None:
        return kinds
    kinds[np.isin((days + 3) % 7, tariff.calendar.weekend)] = DayType.WEEKEND  # 1970-01-01 was a Thursday
    library, counts = calendar_library(tariff.calendar), set(tariff.calendar.counts)
    for kind, told in ((DayType.ADJUSTED, library.worked), (DayType.HOLIDAY, library.holidays)):
        for on, names in told.items():
            place = (on - _EPOCH).days - first_day
            if 0 <= place < len(days) and not counts.isdisjoint(names):
                kinds[place] = kind
    for listed in tariff.listed:
        if first_day <= listed.day < end_day:
            kinds[listed.day - first_day] = listed.kind
    return kinds


def known_until(tariff: Tariff) -> date | None:
    """Last local day whose type is sure; None where no library is asked. Later days have no holidays."""
    if tariff.calendar is None or tariff.calendar.library == "none":
        return None
    listed = max((listed.day for listed in tariff.listed), default=0)
    year = max(calendar_library(tariff.calendar).last_year, (_EPOCH + timedelta(days=listed)).year if listed else 0)
    return date(year, 12, 31)


def kinds_of(tariff: Tariff) -> tuple[DayType, ...]:
    """Types of day that the tariff's calendar can give."""
    calendar = tariff.calendar
    if calendar is None:
        return (DayType.WEEKDAY,)
    found = {DayType.WEEKDAY, *(listed.kind for listed in tariff.listed)}
    if calendar.weekend:
        found.add(DayType.WEEKEND)
    if calendar.library != "none":
        found.add(DayType.HOLIDAY)
    if calendar.library == "chinese-calendar":
        found.add(DayType.ADJUSTED)
    if any(DayType.SPECIAL in (period.days or ()) for version in tariff.version for period in version.period):
        found.add(DayType.SPECIAL)
    return tuple(sorted(found))
