"""The shipped tariffs give the figures that their documents, or our facts, give for them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from config.units import CURRENCIES
from rating.calendar import LocalCalendar, local_calendar
from rating.schedule import compile_schedule
from rating.tariff.model import Tariff
from rating.timeline import Timeline, compile_timeline
from rating.walk import ladder

YEARS = (2025, 2028)
Compiled = tuple[LocalCalendar, Timeline]


def compiled(tariff: Tariff) -> Compiled:
    calendar = local_calendar(tariff.timezone, *YEARS, tariff.clock == "standing")
    return calendar, compile_timeline(tariff, calendar)


def _minor(tariff: Tariff, amount: str) -> Decimal:
    """An amount of the tariff's currency in its minor unit."""
    return Decimal(amount).scaleb(CURRENCIES[tariff.currency].minor_digits)


def at(calendar: LocalCalendar, when: str) -> int:
    day, clock = when.split()
    number = (date.fromisoformat(day) - date(1970, 1, 1)).days
    return calendar.day_start_s(number) + int(clock[:2]) * 3600 + int(clock[3:]) * 60


# Tariff, a moment of the tier cycle (not a day with a change of the clock), use in the cycle, what it costs.
CYCLES = [
    ("guangzhou-residential", "2026-07-15 12:00", "600", "370.32125"),
    ("guangzhou-residential", "2026-12-15 12:00", "600", "423.32125"),
    ("guangzhou-residential", "2026-07-15 12:00", "260", "153.105875"),
    ("guangzhou-residential-flat", "2026-07-15 12:00", "600", "375.52125"),
    ("beijing-residential", "2026-07-15 12:00", "5000", "2597.50"),
    ("beijing-residential", "2026-07-15 12:00", "3600", "1793.88"),
    ("beijing-water", "2026-07-15 12:00", "300", "1820"),
    ("beijing-gas", "2026-07-15 12:00", "500", "1338.00"),
    ("guangzhou-water", "2026-07-15 12:00", "30", "99.42"),
    ("beijing-heating-kwh", "2026-01-15 12:00", "1000", "160"),
    ("beijing-heating-gj", "2026-01-15 12:00", "3.6", "160.02"),  # 1,000 kWh: the unit decides
    ("taiwan-residential", "2026-01-15 12:00", "2000", "6591.8"),  # 1,000 kWh a month: 6,592 in the press
    ("taiwan-residential", "2026-07-15 12:00", "2000", "7903.6"),  # in summer 7,904
    ("taiwan-residential", "2026-07-15 12:00", "808", "1911.76"),  # twice 404 kWh: 120, 210 and 74 of each month
    ("ontario-tiered", "2026-01-15 12:00", "1100", "134.20"),  # 1,000 x 0.120 + 100 x 0.142
    ("ontario-tiered", "2026-07-15 12:00", "1100", "143.00"),  # 600 x 0.120 + 500 x 0.142
]


@pytest.mark.parametrize(("name", "when", "use", "total"), CYCLES)
def test_use_in_one_cycle(shipped: dict[str, Tariff], name: str, when: str, use: str, total: str) -> None:
    calendar, timeline = compiled(shipped[name])
    schedule = compile_schedule(shipped[name], calendar, ())
    moment = at(calendar, when)
    stage = next(i for i, end in enumerate(schedule.end_s) if moment < end)
    prices = timeline.price_e8[int((timeline.start_s <= moment).sum()) - 1]
    pieces = ladder(0, int(Decimal(use) * 1000), schedule.bounds[stage])
    assert sum(wh * Decimal(int(prices[tier])) for tier, wh in pieces) == _minor(shipped[name], total) * 10**9


# Tariff, local moment, price of a unit in the first tier.
MOMENTS = [
    ("guangzhou-residential-tou", "2026-07-15 11:00", "0.99496875"),
    ("guangzhou-residential-tou", "2026-07-15 07:59", "0.22916875"),
    ("ontario-tou", "2026-01-15 08:00", "0.203"),  # a Thursday in winter
    ("ontario-tou", "2026-01-15 12:00", "0.157"),
    ("ontario-tou", "2026-01-15 19:00", "0.098"),
    ("ontario-tou", "2026-07-15 08:00", "0.157"),  # swapped in summer
    ("ontario-tou", "2026-07-15 12:00", "0.203"),
    ("ontario-tou", "2026-01-17 12:00", "0.098"),  # a Saturday
    ("ontario-tou", "2026-08-03 12:00", "0.098"),  # Civic Holiday, a Monday
    ("ontario-tou", "2026-04-06 12:00", "0.157"),  # Easter Monday counts as any Monday
    ("ontario-tou", "2026-11-11 12:00", "0.157"),  # so does 11 November
    ("ontario-tou", "2026-12-28 12:00", "0.098"),  # Boxing Day fell on the Saturday
    ("ontario-tou", "2025-10-31 12:00", "0.158"),  # the prices of 2024
    ("ontario-ulo", "2025-01-15 02:00", "0.028"),
    ("ontario-ulo", "2025-01-18 02:00", "0.028"),  # the night is cheap on every day
    ("ontario-ulo", "2025-01-18 12:00", "0.076"),
    ("ontario-ulo", "2025-01-15 17:00", "0.284"),
    ("ontario-ulo", "2025-07-15 21:30", "0.122"),
]


@pytest.mark.parametrize(("name", "when", "price"), MOMENTS)
def test_price_at_a_moment(shipped: dict[str, Tariff], name: str, when: str, price: str) -> None:
    calendar, timeline = compiled(shipped[name])
    segment = int((timeline.start_s <= at(calendar, when)).sum()) - 1
    assert int(timeline.price_e8[segment, 0]) == _minor(shipped[name], price) * 10**6
