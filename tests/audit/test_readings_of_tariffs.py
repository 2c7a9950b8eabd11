"""The auditor's reading of a tariff file and the engine's agree: prices at every instant, bounds on every day."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from audit.tariffs import read_tariffs
from config.tariff_files import tariff_texts
from config.units import CURRENCIES
from rating.calendar import local_calendar
from rating.schedule import compile_schedule, relevant
from rating.tariff.reading import parse_tariffs
from rating.timeline import compile_timeline
from registry.image import AttributeChange

TEXTS = tariff_texts()
FROM, TO = 2024, 2028
STANDING = {
    "ontario-standing": TEXTS["ontario-tou"]
    .replace('id = "ontario-tou"', 'id = "ontario-standing"')
    .replace('clock = "daylight"', 'clock = "standing"')
}
ALL = {**TEXTS, **STANDING}


@pytest.mark.parametrize("name", sorted(ALL))
def test_prices_at_every_instant(name: str) -> None:
    tariff = parse_tariffs({name: ALL[name]})[0]
    audited = read_tariffs({name: ALL[name]}, FROM, TO)[name]
    calendar = local_calendar(tariff.timezone, FROM, TO, tariff.clock == "standing")
    timeline = compile_timeline(tariff, calendar)
    segment = audited.segment_at(int(timeline.start_s[0]))
    for row in range(len(timeline)):
        assert segment is not None
        assert (segment.start_s, segment.day) == (timeline.start_s[row], timeline.day[row])
        prices = audited.prices[segment.key : segment.key + 8]
        digits = CURRENCIES[tariff.currency].price_digits
        assert [price.scaleb(digits) for price in prices] == [Decimal(p) for p in timeline.price_e8[row].tolist()]
        segment = segment.following()
    assert segment is None
    assert timeline.end_s == audited.day_start_s(audited.end_day)


@pytest.mark.parametrize("word", ["next_cycle", "from_cycle_start", "by_instant", "by_days"])
@pytest.mark.parametrize("name", sorted(ALL))
def test_bounds_on_every_day(name: str, word: str, same_bounds: Any) -> None:
    text = ALL[name].replace('on_change = "next_cycle"', f'on_change = "{word}"')
    tariff = parse_tariffs({name: text})[0]
    audited = read_tariffs({name: text}, FROM, TO)[name]
    calendar = local_calendar(tariff.timezone, FROM, TO, tariff.clock == "standing")
    history = tuple(
        AttributeChange("household_size", calendar.day_start_s(audited.first_day + ahead), people)
        for ahead, people in ((40, 5), (300, 3), (411, 8))
    )
    schedule = compile_schedule(tariff, calendar, relevant(tariff, calendar, history))
    same_bounds(audited, calendar, schedule, history)
