"""Types of day, seasons by date, standing time: what a tariff of weekdays and holidays becomes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pytest

from rating.calendar import local_calendar
from rating.tariff.days import day_types, known_until
from rating.tariff.fields import DayType
from rating.tariff.model import Tariff
from rating.tariff.reading import TariffFaults, parse_tariffs
from rating.timeline import compile_timeline

MakeText = Callable[..., str]
# O. Reg. 494/10 counts the Civic Holiday, and neither Easter Monday nor 11 November (domain 2).
ONTARIO = """
[calendar]
weekend = ["sat", "sun"]
library = "holidays"
country = "CA"
subdivision = "ON"
observed = true
unknown_year = "provisional"
counts = ["New Year's Day", "Family Day", "Good Friday", "Victoria Day", "Canada Day", "Civic Holiday", "Labor Day",
    "Thanksgiving Day", "Christmas Day", "Boxing Day"]
"""
CHINA = """
[calendar]
weekend = ["sat", "sun"]
library = "chinese-calendar"
unknown_year = "provisional"
counts = ["New Year's Day", "Spring Festival", "Tomb-sweeping Day", "Labour Day", "Dragon Boat Festival",
    "National Day", "Mid-autumn Festival"]
"""
FLAT = """
[[version.period]]
name = "all"
at = ["00:00-24:00"]
price = "0.5"
"""
THREE = """
[[version.period]]
name = "off"
days = ["weekend", "holiday"]
at = ["00:00-24:00"]
price = "0.098"
[[version.period]]
name = "night"
days = ["weekday"]
at = ["00:00-07:00", "19:00-24:00"]
price = "0.098"
[[version.period]]
name = "mid"
days = ["weekday"]
season = ["summer"]
at = ["07:00-11:00", "17:00-19:00"]
price = "0.157"
[[version.period]]
name = "on"
days = ["weekday"]
season = ["summer"]
at = "rest"
price = "0.203"
[[version.period]]
name = "winter-mid"
days = ["weekday"]
season = ["winter"]
at = ["11:00-17:00"]
price = "0.157"
[[version.period]]
name = "winter-on"
days = ["weekday"]
season = ["winter"]
at = "rest"
price = "0.203"
"""
SEASONS = """
[[season]]
name = "summer"
from = "05-01"
to = "10-31"
[[season]]
name = "winter"
from = "11-01"
to = "04-30"
"""


def day_of(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def tariff_of(make_text: MakeText, top: str, prices: str, **files: str) -> Tariff:
    text = make_text(zone="America/Toronto", prices=prices)
    days = {f"{name}.days.csv": rows for name, rows in files.items()}
    return parse_tariffs({"made-up": text.replace("[[version]]", top + "[[version]]"), **days})[0]


def types_of(tariff: Tariff, year: int, kind: DayType) -> list[str]:
    first = day_of(f"{year}-01-01")
    kinds = day_types(tariff, first, day_of(f"{year + 1}-01-01"))
    return [str(np.datetime64(int(first + place), "D")) for place in np.flatnonzero(kinds == kind)]


def test_ontario_counts_the_regulation_s_holidays(make_text: MakeText) -> None:
    tariff = tariff_of(make_text, ONTARIO, FLAT)
    assert types_of(tariff, 2026, DayType.HOLIDAY) == [
        "2026-01-01", "2026-02-16", "2026-04-03", "2026-05-18", "2026-07-01", "2026-08-03", "2026-09-07",
        "2026-10-12", "2026-12-25", "2026-12-26", "2026-12-28",
    ]  # fmt: skip
    assert "2025-11-11" not in types_of(tariff, 2025, DayType.HOLIDAY)
    assert len(types_of(tariff, 2026, DayType.WEEKEND)) == 104 - 1  # 26 December is a Saturday, and a holiday


def test_china_works_on_some_days_of_weekends(make_text: MakeText) -> None:
    #  2026: National Day 1 to 7 October off; the Saturday before (20 September is a Sunday) and after are worked
    tariff = tariff_of(make_text, CHINA, FLAT)
    holidays = types_of(tariff, 2026, DayType.HOLIDAY)
    assert [day for day in holidays if day.startswith("2026-10")] == [f"2026-10-0{n}" for n in range(1, 8)]
    worked = types_of(tariff, 2026, DayType.ADJUSTED)
    assert worked
    assert {np.datetime64(day).astype(date).weekday() for day in worked} <= {5, 6}
    assert "2026-10-10" in worked
    assert known_until(tariff) == date(2026, 12, 31)
    assert types_of(tariff, 2031, DayType.HOLIDAY) == [], "nobody has announced them: weekdays and weekends only"


def test_a_file_of_days_adds_and_overrides(make_text: MakeText) -> None:
    rows = "date,type,name\n2026-07-01,weekday,not this year\n2026-07-02,special,heat\n2026-07-04,adjusted,made up\n"
    top = ONTARIO + 'days_file = "own"\n'
    tariff = tariff_of(make_text, top, FLAT, own=rows)
    first = day_of("2026-07-01")
    assert day_types(tariff, first, first + 4).tolist() == [
        DayType.WEEKDAY, DayType.SPECIAL, DayType.WEEKDAY, DayType.ADJUSTED,
    ]  # fmt: skip


WRONG_DAYS = [
    ("day,type,name\n", "own.days.csv:1: the first line must be date,type,name"),
    ("date,type,name\n2026-02-30,holiday,x\n", "own.days.csv:2: write YYYY-MM-DD,type,name"),
    ("date,type,name\n2026-02-03,holyday,x\n", "own.days.csv:2: 'holyday' is no day type"),
    ("date,type,name\n2026-02-03,holiday,x\n2026-02-03,weekday,y\n", "own.days.csv:3: 2026-02-03 stands here twice"),
]


@pytest.mark.parametrize(("rows", "told"), WRONG_DAYS)
def test_what_is_wrong_with_a_file_of_days(make_text: MakeText, rows: str, told: str) -> None:
    with pytest.raises(TariffFaults) as caught:
        tariff_of(make_text, ONTARIO + 'days_file = "own"\n', FLAT, own=rows)
    assert [fault.startswith(told) for fault in caught.value.faults] == [True], caught.value.faults


#  Local starts of a day's segments.
PICTURES = [
    ("2026-07-15", ["00:00 night", "07:00 mid", "11:00 on", "17:00 mid", "19:00 night"]),
    ("2026-07-01", ["00:00 off"]),  # Canada Day, a Wednesday
    ("2026-07-18", ["00:00 off"]),  # a Saturday
    ("2026-10-30", ["00:00 night", "07:00 mid", "11:00 on", "17:00 mid", "19:00 night"]),
    ("2026-11-02", ["00:00 night", "07:00 winter-on", "11:00 winter-mid", "17:00 winter-on", "19:00 night"]),
    ("2026-11-11", ["00:00 night", "07:00 winter-on", "11:00 winter-mid", "17:00 winter-on", "19:00 night"]),
]


@pytest.mark.parametrize(("day", "picture"), PICTURES)
def test_pictures_of_ontario_s_days(make_text: MakeText, day: str, picture: list[str]) -> None:
    tariff = tariff_of(make_text, SEASONS + ONTARIO, THREE)
    calendar = local_calendar("America/Toronto", 2026, 2027)
    timeline = compile_timeline(tariff, calendar)
    rows = np.flatnonzero(timeline.day == day_of(day))
    local = calendar.local_s(timeline.start_s[rows]) % 86_400 // 60
    names = [tariff.period_names[place] for place in timeline.period[rows]]
    assert [f"{m // 60:02}:{m % 60:02} {name}" for m, name in zip(local, names, strict=True)] == picture


def test_a_season_begins_on_its_day(make_text: MakeText) -> None:
    seasons = SEASONS.replace("05-01", "05-16").replace("04-30", "05-15")
    tariff = tariff_of(make_text, seasons + ONTARIO, THREE)
    timeline = compile_timeline(tariff, local_calendar("America/Toronto", 2026, 2027))
    noon = {
        day: {tariff.period_names[p] for p in timeline.period[timeline.day == day_of(day)]}
        for day in ("2026-05-15", "2026-05-19")
    }
    assert noon["2026-05-15"] == {"night", "winter-on", "winter-mid"}
    assert noon["2026-05-19"] == {"night", "on", "mid"}


@pytest.mark.parametrize(("clock", "starts"), [("daylight", "04:00"), ("standing", "05:00")])
def test_standing_time_has_no_summer(make_text: MakeText, clock: str, starts: str) -> None:
    text = make_text(zone="America/Toronto").replace('clock = "daylight"', f'clock = "{clock}"')
    tariff = parse_tariffs({"made-up": text})[0]
    calendar = local_calendar("America/Toronto", 2026, 2027, tariff.clock == "standing")
    july = calendar.day_start_s(day_of("2026-07-15"))
    assert np.datetime_as_string(np.datetime64(july, "s"), unit="m") == f"2026-07-15T{starts}"
    lengths = np.diff(calendar.day_starts_s(np.arange(calendar.first_day, calendar.end_day + 1)))
    assert set(lengths.tolist()) == ({86_400} if clock == "standing" else {82_800, 86_400, 90_000})


WRONG = [
    ('clock = "daylight"\n', "", "clock: the clock of America/Toronto changes"),
    ('library = "holidays"', 'library = "none"', "calendar.country: library 'none' does not use it"),
    ('country = "CA"', 'country = "XX"', "calendar.country: holidays has no days for XX"),
    ('subdivision = "ON"', 'subdivision = "QQ"', "calendar.country: holidays has no days for CA QQ"),
    ('"Good Friday", ', '"Good Fryday", ', "calendar.counts[2]: 'Good Fryday' is no holiday of the library"),
    ("observed = true\n", "", "calendar.observed: library 'holidays' needs it"),
    ('"provisional"', '"unpriced"', "calendar.unknown_year: 'unpriced' is not built in this version"),
    ('weekend = ["sat", "sun"]', 'weekend = ["saturday"]', "calendar.weekend: write a list of mon, tue"),
    ('days = ["weekend", "holiday"]', 'days = ["weekend"]', "version[0]: on 01-01 (holiday): no period at 00:00"),
    ('days = ["weekend", "holiday"]', 'days = ["weekend", "holiday", "adjusted"]', "calendar has no adjusted days"),
    ('days = ["weekend", "holiday"]', 'days = ["weekend", "fest"]', "period[0].days: 'fest' is no day type"),
    ('season = ["winter"]\nat = "rest"', 'season = ["wintry"]\nat = "rest"', "no [[season]] is called 'wintry'"),
    ('from = "11-01"', 'from = "10-31"', "period[5]: on 10-31 (weekday): period 'winter-on' overlaps another"),
    ('from = "11-01"', 'from = "11-31"', "season[1].from: '11-31' is no day of the year"),
    ('price = "0.098"', 'price = "0.098"\nratio = "1"', "a period has a ratio, a price, or prices: one of them"),
]


@pytest.mark.parametrize(("old", "new", "told"), WRONG)
def test_what_is_wrong_with_days(make_text: MakeText, old: str, new: str, told: str) -> None:
    text = make_text(zone="America/Toronto", prices=THREE)
    text = text.replace("[[version]]", SEASONS + ONTARIO + "[[version]]", 1)
    assert old in text
    with pytest.raises(TariffFaults) as caught:
        parse_tariffs({"made-up": text.replace(old, new, 1)})
    assert any(told in fault for fault in caught.value.faults), caught.value.faults
    assert all(fault.startswith("made-up.toml:") for fault in caught.value.faults)
