"""Calendar and timeline: where days, periods, versions and cycles begin, also when clocks change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.calendar import local_calendar, months_of
from rating.tariff.model import Tariff
from rating.tariff.reading import parse_tariffs
from rating.timeline import Timeline, compile_timeline

MakeTariff = Callable[..., Tariff]
ZONES = ("Asia/Shanghai", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns")


def day_of(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def segments_of(tariff: Tariff, timeline: Timeline, day: str) -> list[tuple[str, str]]:
    """(local time of the start, period) of each segment of a day."""
    zone = ZoneInfo(tariff.timezone)
    rows = np.nonzero(timeline.day == day_of(day))[0]
    return [
        (
            datetime.fromtimestamp(int(timeline.start_s[r]), zone).strftime("%H:%M"),
            tariff.period_names[timeline.period[r]],
        )
        for r in rows
    ]


def test_a_day_of_time_of_use(shipped: dict[str, Tariff]) -> None:
    #   00:00          08:00    10:00  12:00  14:00        19:00      24:00
    #     | valley       | flat   | peak | flat | peak       | flat     |
    tariff = shipped["guangzhou-residential-tou"]
    timeline = compile_timeline(tariff, local_calendar("Asia/Shanghai", 2026, 2027))
    assert segments_of(tariff, timeline, "2026-07-15") == [
        ("00:00", "valley"),
        ("08:00", "flat"),
        ("10:00", "peak"),
        ("12:00", "flat"),
        ("14:00", "peak"),
        ("19:00", "flat"),
    ]
    assert len(timeline) == 365 * 6
    assert timeline.start_s[0] == utc("2025-12-31T16:00")
    assert timeline.end_s == utc("2026-12-31T16:00")


def test_a_day_without_periods_is_one_segment(shipped: dict[str, Tariff]) -> None:
    timeline = compile_timeline(shipped["guangzhou-residential"], local_calendar("Asia/Shanghai", 2024, 2025))
    assert len(timeline) == 366
    assert set(np.diff(timeline.start_s)) == {86_400}
    assert timeline.price_e8.tolist() == [[58886875, 63886875] + [88886875] * 6] * 366


def test_the_ratios_changed_on_the_first_of_october_2021(shipped: dict[str, Tariff]) -> None:
    #  30 September          | 1 October
    #  ... peak 0.96596875 ..| valley 0.22916875 ... peak 0.99496875
    tariff = shipped["guangzhou-residential-tou"]
    timeline = compile_timeline(tariff, local_calendar("Asia/Shanghai", 2021, 2022))
    price = {}
    for day in ("2021-09-30", "2021-10-01"):
        for row in np.nonzero(timeline.day == day_of(day))[0]:
            price[day, tariff.period_names[timeline.period[row]]] = int(timeline.price_e8[row, 0])
    assert price == {
        ("2021-09-30", "valley"): 29876875,
        ("2021-09-30", "flat"): 58886875,
        ("2021-09-30", "peak"): 96596875,
        ("2021-10-01", "valley"): 22916875,
        ("2021-10-01", "flat"): 58886875,
        ("2021-10-01", "peak"): 99496875,
    }


def test_cycles_are_local_months(shipped: dict[str, Tariff]) -> None:
    timeline = compile_timeline(shipped["guangzhou-residential"], local_calendar("Asia/Shanghai", 2026, 2027))
    at = {day: int(timeline.cycle[timeline.day == day_of(day)][0]) for day in ("2026-01-31", "2026-02-01")}
    assert at == {"2026-01-31": 56 * 12, "2026-02-01": 56 * 12 + 1}


# Zone, day, its length in half hours (domain 3), and its segments' starts.
SWITCH_DAYS = [
    ("Europe/Berlin", "2026-03-29", 46, [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]),
    ("Europe/Berlin", "2026-10-25", 50, [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]),
    ("Australia/Lord_Howe", "2026-04-05", 49, [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]),
    ("Australia/Lord_Howe", "2026-10-04", 47, [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]),
    ("Asia/Shanghai", "2026-03-29", 48, [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]),
    # Beirut's clock jumps from 00:00 to 01:00: the day starts at one o'clock.
    ("Asia/Beirut", "2025-03-30", 46, [("01:00", "night"), ("06:00", "day"), ("22:00", "night")]),
    # Havana's clock goes from 01:00 back to 00:00: the day's first hour happens twice.
    ("America/Havana", "2025-11-02", 50, [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]),
    # Beirut's goes from 00:00 back to 23:00 of the day before: that hour belongs to the longer day before it.
    ("Asia/Beirut", "2025-10-25", 50, [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]),
]


@pytest.mark.parametrize(("zone", "day", "half_hours", "segments"), SWITCH_DAYS)
def test_days_on_which_the_clock_changes(
    make_tariff: MakeTariff, zone: str, day: str, half_hours: int, segments: list[tuple[str, str]]
) -> None:
    tariff = make_tariff(zone=zone)
    calendar = local_calendar(zone, 2025, 2027)
    number = day_of(day)
    assert calendar.day_start_s(number + 1) - calendar.day_start_s(number) == half_hours * 1800
    timeline = compile_timeline(tariff, calendar)
    assert segments_of(tariff, timeline, day) == segments
    rows = np.nonzero(timeline.day == number)[0]
    assert timeline.start_s[rows[0]] == calendar.day_start_s(number)
    assert timeline.start_s[rows[-1] + 1] == calendar.day_start_s(number + 1)


@pytest.mark.parametrize("zone", ZONES)
def test_every_local_day_starts_a_segment(make_tariff: MakeTariff, zone: str) -> None:
    timeline = compile_timeline(make_tariff(zone=zone), local_calendar(zone, 2020, 2031))
    assert (np.diff(timeline.start_s) > 0).all()
    first = np.nonzero(np.diff(timeline.day, prepend=-1))[0]
    assert timeline.day[first].tolist() == list(range(day_of("2020-01-01"), day_of("2031-01-01")))
    zone_info = ZoneInfo(zone)
    for row in first:
        local = datetime.fromtimestamp(int(timeline.start_s[row]), zone_info)
        assert (local.hour, local.minute, local.second) == (0, 0, 0)
    assert (timeline.cycle == months_of(timeline.day)).all()


@given(at_s=st.integers(utc("2020-01-02T00:00"), utc("2030-12-30T00:00")), zone=st.sampled_from(ZONES))
@settings(max_examples=300, deadline=None)
def test_any_instant_has_the_period_of_its_wall_clock(make_tariff: MakeTariff, at_s: int, zone: str) -> None:
    timeline = _timeline(make_tariff, zone)
    row = int(np.searchsorted(timeline.start_s, at_s, side="right")) - 1
    local = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    assert timeline.day[row] == day_of(local.date().isoformat())
    assert timeline.period[row] == (1 if 6 <= local.hour < 22 else 0)
    assert timeline.price_e8[row, 0] == (100_000_000 if 6 <= local.hour < 22 else 50_000_000)


TIMELINES: dict[str, Timeline] = {}


def _timeline(make_tariff: MakeTariff, zone: str) -> Timeline:
    if zone not in TIMELINES:
        TIMELINES[zone] = compile_timeline(make_tariff(zone=zone), local_calendar(zone, 2020, 2031))
    return TIMELINES[zone]


def test_seasons_of_periods_by_month(make_text: Callable[..., str]) -> None:
    text = make_text().replace('at = ["00:00-06:00", "22:00-24:00"]', 'at = ["00:00-06:00"]\nmonths = [7]')
    tariff = parse_tariffs({"made-up": text})[0]
    timeline = compile_timeline(tariff, local_calendar("Asia/Shanghai", 2026, 2027))
    assert segments_of(tariff, timeline, "2026-06-30") == [("00:00", "day")]
    assert segments_of(tariff, timeline, "2026-07-01") == [("00:00", "night"), ("06:00", "day")]
    assert segments_of(tariff, timeline, "2026-08-01") == [("00:00", "day")]


def test_nothing_is_priced_before_the_first_version(make_tariff: MakeTariff) -> None:
    timeline = compile_timeline(make_tariff(), local_calendar("Asia/Shanghai", 2018, 2021))
    assert timeline.start_s[0] == utc("2019-12-31T16:00")
    with pytest.raises(AssertionError, match="no version is in force"):
        compile_timeline(make_tariff(), local_calendar("Asia/Shanghai", 2018, 2020))


@given(at_s=st.integers(utc("2025-01-02T00:00"), utc("2026-12-30T00:00")))
@settings(max_examples=200, deadline=None)
def test_day_of_agrees_with_day_starts(at_s: int) -> None:
    for zone in ("Asia/Beirut", "America/Havana", "Europe/Berlin"):
        calendar = local_calendar(zone, 2025, 2027)
        day = calendar.day_of(at_s)
        assert calendar.day_start_s(day) <= at_s < calendar.day_start_s(day + 1)


def test_a_day_that_has_begun_does_not_end_when_the_clock_goes_back(make_text: Callable[..., str]) -> None:
    #  St John's, November 2010: at 00:01 on the 7th the clock goes back to 23:01 on the 6th
    #
    #   22:00 (6th)      00:00   00:01 = 23:01       00:00 again      06:00
    #     | night, 6th     | night, 7th ...            ... still       | day, 7th
    text = make_text(zone="America/St_Johns").replace("2020-01-01\nsource", "2010-01-01\nsource")
    tariff = parse_tariffs({"made-up": text})[0]
    calendar = local_calendar("America/St_Johns", 2010, 2011)
    timeline = compile_timeline(tariff, calendar)
    start_s = utc("2010-11-07T02:30")
    assert calendar.day_start_s(day_of("2010-11-07")) == start_s
    assert calendar.day_start_s(day_of("2010-11-08")) - start_s == 25 * 3600
    assert segments_of(tariff, timeline, "2010-11-07") == [("00:00", "night"), ("06:00", "day"), ("22:00", "night")]
    assert (np.diff(timeline.day) >= 0).all()
    repeated_s = start_s + 1800  # 23:30 on the 6th for the second time
    assert calendar.day_of(repeated_s) == day_of("2010-11-07")
    assert calendar.day_of(start_s - 1) == day_of("2010-11-06")
