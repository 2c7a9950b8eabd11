"""Ladder stages: what a change inside a tier cycle does under each word."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from config.units import INT64_MAX
from rating.calendar import local_calendar, months_of
from rating.schedule import Schedule, compile_schedule, relevant, resolve_cycle
from rating.tariff.model import Tariff
from rating.tariff.reading import parse_tariffs
from rating.walk import ladder
from registry.image import AttributeChange

MakeTariff = Callable[..., Tariff]
GUANGZHOU = """
[version.energy]
base = "0.5802"
funds = "0.00866875"
ratio_step = "0.0001"
ratio_mode = "half_up"
[[version.period]]
name = "all"
ratio = "1"
at = ["00:00-24:00"]
[version.tiers]
adders = ["0", "0.05", "0.30"]
per = "cycle"
length = "none"
[[version.tiers.bounds]]
months = [5, 6, 7, 8, 9, 10]
upto = ["260", "600"]
[[version.tiers.bounds]]
months = [11, 12, 1, 2, 3, 4]
upto = ["200", "400"]
[[version.tiers.attribute]]
name = "household_size"
at_least = 5
add = ["100", "100"]
"""
ADDER_E8 = (0, 5_000_000, 30_000_000, 30_000_000, 30_000_000, 30_000_000, 30_000_000, 30_000_000)


def day_of(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def adders_yuan(used_and_bounds: list[tuple[int, tuple[int, ...]]]) -> float:
    """What the tiers add when so many Wh are used one after the other under these bounds."""
    used, total = 0, 0
    for energy, bounds in used_and_bounds:
        total += sum(piece * ADDER_E8[tier] for tier, piece in ladder(used, energy, bounds))
        used += energy
    return round(total / 1e11, 6)


def bounds(*upto_kwh: int) -> tuple[int, ...]:
    return tuple(u * 1000 for u in upto_kwh) + (INT64_MAX,) * (8 - len(upto_kwh))


def schedule_of(tariff: Tariff, *history: AttributeChange, years: tuple[int, int] = (2026, 2027)) -> Schedule:
    calendar = local_calendar(tariff.timezone, *years)
    return compile_schedule(tariff, calendar, relevant(tariff, calendar, history))


def rule_at(schedule: Schedule, at_s: int) -> tuple[int, ...]:
    return next(b for s, e, b in zip(schedule.start_s, schedule.end_s, schedule.bounds, strict=True) if s <= at_s < e)


# Domain 9: the household grows to five inside a summer month; 300 kWh before, 400 in all.
#
#   1 July           16 July            1 August
#     |--- 300 kWh ----|--- 100 kWh -------|
#     size 4           size 5
HOUSEHOLD = [("by_instant", 4.00), ("from_cycle_start", 2.00), ("next_cycle", 7.00)]


@pytest.mark.parametrize(("word", "yuan"), HOUSEHOLD)
def test_household_grows_inside_the_month(make_tariff: MakeTariff, word: str, yuan: float) -> None:
    tariff = make_tariff(word=word, prices=GUANGZHOU)
    calendar = local_calendar("Asia/Shanghai", 2026, 2027)
    grown_s = calendar.day_start_s(day_of("2026-07-16")) + 9 * 3600  # at nine: the whole day counts
    schedule = schedule_of(
        tariff, AttributeChange("household_size", 0, 4), AttributeChange("household_size", grown_s, 5)
    )
    before, after = (rule_at(schedule, calendar.day_start_s(day_of(d))) for d in ("2026-07-15", "2026-07-16"))
    assert adders_yuan([(300_000, before), (100_000, after)]) == yuan
    july = [i for i, c in enumerate(schedule.cycle) if c == 56 * 12 + 6]
    assert len(july) == (2 if word == "by_instant" else 1)
    august = schedule.bounds[july[-1] + 1]
    assert august == bounds(360, 700), "from the next cycle on all words agree"
    if word == "by_instant":
        assert schedule.start_s[july[1]] == calendar.day_start_s(day_of("2026-07-16"))


def test_by_days_weighs_and_rounds_down_to_the_wh(make_tariff: MakeTariff) -> None:
    tariff = make_tariff(word="by_days", prices=GUANGZHOU)
    calendar = local_calendar("Asia/Shanghai", 2026, 2027)
    schedule = schedule_of(tariff, AttributeChange("household_size", calendar.day_start_s(day_of("2026-07-21")), 6))
    assert len(schedule.bounds) == 12
    assert schedule.bounds[6][:3] == (260_000 + 11 * 100_000 // 31, 600_000 + 11 * 100_000 // 31, INT64_MAX)
    assert schedule.bounds[6][0] == 295_483  # 295,483.87


# Domain 9: Guangzhou bounds, 16 October to 15 November, 250 kWh before 1 November and 50 after.
SEASON = [("by_instant", 2.50), ("by_days", 3.45), ("from_cycle_start", 5.00), ("next_cycle", 2.00)]


@pytest.mark.parametrize(("word", "yuan"), SEASON)
def test_season_inside_a_read_day_cycle(word: str, yuan: float) -> None:
    parts = [(day_of("2026-10-16"), bounds(260, 600)), (day_of("2026-11-01"), bounds(200, 400))]
    stages = resolve_cycle(parts, day_of("2026-11-16"), word)
    before = stages[0][1]
    after = stages[-1][1] if stages[-1][0] <= day_of("2026-11-01") else before
    assert round(adders_yuan([(250_000, before), (50_000, after)]), 2) == yuan


@pytest.mark.parametrize("word", ["next_cycle", "from_cycle_start", "by_instant", "by_days"])
def test_seasons_of_calendar_months(make_tariff: MakeTariff, word: str) -> None:
    schedule = schedule_of(make_tariff(word=word, prices=GUANGZHOU))
    summer, winter = bounds(260, 600), bounds(200, 400)
    assert schedule.bounds == (winter,) * 4 + (summer,) * 6 + (winter,) * 2
    assert schedule.cycle == tuple(range(56 * 12, 57 * 12))
    assert schedule.end_s[:-1] == schedule.start_s[1:]
    assert schedule.end_s[-1] == local_calendar("Asia/Shanghai", 2026, 2027).end_s


# Domain 9: annual tiers, monthly bills (Beijing, 300 kWh a month); 1,757.88 would be a ladder reset by the bill.
BEIJING = """
[version.energy]
base = "0.4883"
funds = "0"
ratio_step = "0.0001"
ratio_mode = "half_up"
[[version.period]]
name = "all"
ratio = "1"
at = ["00:00-24:00"]
[version.tiers]
adders = ["0", "0.05", "0.30"]
per = "cycle"
length = "none"
[[version.tiers.bounds]]
upto = ["2880", "4800"]
"""


@pytest.mark.parametrize(("kwh", "yuan"), [(3600, 1793.88), (5000, 2597.50), (2880, 1406.304), (4800, 2439.84)])
def test_annual_tiers(make_tariff: MakeTariff, kwh: int, yuan: float) -> None:
    tariff = make_tariff(cycle="calendar_year", prices=BEIJING)
    schedule = schedule_of(tariff, years=(2026, 2029))
    assert schedule.cycle == tuple(int(m) for m in months_of([day_of(f"{y}-01-01") for y in (2026, 2027, 2028)]))
    rule = schedule.bounds[1]
    prices = tariff.version[0].prices_e8(tariff.version[0].period[0])
    used, total = 0, 0
    for month in range(12):
        energy = kwh * 1000 * (month + 1) // 12 - used
        total += sum(piece * prices[tier] for tier, piece in ladder(used, energy, rule))
        used += energy
    assert total == round(yuan * 1e3) * 10**8


def test_seasons_inside_an_annual_cycle_by_instant(make_tariff: MakeTariff) -> None:
    schedule = schedule_of(make_tariff(cycle="calendar_year", word="by_instant", prices=GUANGZHOU))
    assert [b[0] for b in schedule.bounds] == [200_000, 260_000, 200_000]
    assert set(schedule.cycle) == {56 * 12}, "one cycle, three stages: the use so far goes on"


def test_only_attributes_that_the_tariff_knows_matter(shipped: dict[str, Tariff]) -> None:
    calendar = local_calendar("Asia/Shanghai", 2026, 2027)
    history = (AttributeChange("floor_area", 0, 90), AttributeChange("household_size", 10, 5))
    assert relevant(shipped["guangzhou-residential-flat"], calendar, history) == ()
    early = (AttributeChange("household_size", 99, 5),)
    tariff = shipped["guangzhou-residential"]
    assert relevant(tariff, calendar, history) == relevant(tariff, calendar, early) != ()


def test_of_two_changes_on_one_day_the_later_stands(shipped: dict[str, Tariff]) -> None:
    calendar = local_calendar("Asia/Shanghai", 2026, 2027)
    noon_s = calendar.day_start_s(day_of("2026-03-03")) + 43_200
    history = (AttributeChange("household_size", noon_s + 60, 3), AttributeChange("household_size", noon_s, 7))
    assert relevant(shipped["guangzhou-residential"], calendar, history) == (
        (day_of("2026-03-03"), "household_size", 3),
    )


def test_a_household_that_shrinks_again(make_tariff: MakeTariff) -> None:
    tariff = make_tariff(prices=GUANGZHOU)
    calendar = local_calendar("Asia/Shanghai", 2026, 2027)
    at = [calendar.day_start_s(day_of(d)) for d in ("2026-02-10", "2026-06-10")]
    schedule = schedule_of(
        tariff, AttributeChange("household_size", at[0], 5), AttributeChange("household_size", at[1], 4)
    )
    assert [b[0] // 1000 for b in schedule.bounds] == [200, 200, 300, 300, 360, 360, 260, 260, 260, 260, 200, 200]


def test_by_days_is_refused_between_versions_of_other_tiers(make_text: Callable[..., str]) -> None:
    text = make_text(word="by_days", prices=GUANGZHOU)
    later = make_text(word="by_days")
    with pytest.raises(ValueError, match="cannot weigh bounds"):
        parse_tariffs({"made-up": text + later[later.index("[[version]]") :].replace("2020-01-01", "2026-07-10")})


PER_DAY = """
[[version.period]]
name = "all"
at = ["00:00-24:00"]
prices = ["0.3", "0.4"]
[version.tiers]
per = "day"
[[version.tiers.bounds]]
months = [6, 7, 8, 9]
upto = ["13.5"]
[[version.tiers.bounds]]
months = [10, 11, 12, 1, 2, 3, 4, 5]
upto = ["11"]
"""


def test_an_allowance_per_day_is_as_long_as_the_cycle(make_tariff: MakeTariff) -> None:
    schedule = schedule_of(make_tariff(prices=PER_DAY))
    days = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    each = [11_000] * 5 + [13_500] * 4 + [11_000] * 3
    assert [b[0] for b in schedule.bounds] == [n * wh for n, wh in zip(days, each, strict=True)]


def test_a_bound_for_thirty_days_is_scaled_to_the_cycle(make_tariff: MakeTariff) -> None:
    text = PER_DAY.replace('per = "day"', 'per = "cycle"\nlength = "days30"')
    schedule = schedule_of(make_tariff(prices=text))
    assert [b[0] for b in schedule.bounds[:3]] == [11_000 * 31 // 30, 11_000 * 28 // 30, 11_000 * 31 // 30]
    assert schedule.bounds[0][0] == 11_366, "11,366.67 rounded down to the Wh"


@pytest.mark.parametrize(("people", "kwh"), [(3, (180, 260)), (5, (180, 260)), (6, (210, 290)), (8, (270, 350))])
def test_so_much_for_each_person_above_a_number(make_tariff: MakeTariff, people: int, kwh: tuple[int, int]) -> None:
    text = GUANGZHOU[: GUANGZHOU.index("[[version.tiers.bounds]]")] + (
        '[[version.tiers.bounds]]\nupto = ["180", "260"]\n'
        '[[version.tiers.attribute]]\nname = "household_size"\nabove = 5\neach = ["30", "30"]\n'
    )
    schedule = schedule_of(make_tariff(prices=text), AttributeChange("household_size", 0, people))
    assert {tuple(b[:2]) for b in schedule.bounds} == {(kwh[0] * 1000, kwh[1] * 1000)}


@pytest.mark.parametrize(
    ("cycle", "begins", "months"),
    [
        ("calendar_two_months", 1, [1, 3, 5, 7, 9, 11]),
        ("calendar_two_months", 2, [12, 2, 4, 6, 8, 10, 12]),  # the first began before the horizon
        ("calendar_quarter", 2, [11, 2, 5, 8, 11]),
        ("calendar_year", 4, [4, 4]),
    ],
)
def test_cycles_of_several_months_begin_where_the_file_says(
    make_text: Callable[..., str], cycle: str, begins: int, months: list[int]
) -> None:
    text = make_text(cycle=cycle, prices=GUANGZHOU).replace("cycle_begins = 1", f"cycle_begins = {begins}")
    schedule = schedule_of(parse_tariffs({"made-up": text})[0])
    calendar = local_calendar("Asia/Shanghai", 2026, 2027)
    assert [number % 12 + 1 for number in schedule.cycle] == months
    assert schedule.start_s[0] == calendar.start_s
    assert schedule.end_s[-1] == calendar.end_s


def test_a_season_by_date_begins_inside_a_cycle(make_text: Callable[..., str]) -> None:
    text = make_text(word="by_instant", prices=GUANGZHOU)
    seasons = (
        '[[season]]\nname = "s"\nfrom = "05-16"\nto = "11-15"\n[[season]]\nname = "w"\nfrom = "11-16"\nto = "05-15"\n'
    )
    text = text.replace("[[version]]", seasons + "[[version]]")
    text = text.replace("months = [5, 6, 7, 8, 9, 10]", 'season = ["s"]')
    text = text.replace("months = [11, 12, 1, 2, 3, 4]", 'season = ["w"]')
    assert "months" not in text
    schedule = schedule_of(parse_tariffs({"made-up": text})[0])
    calendar = local_calendar("Asia/Shanghai", 2026, 2027)
    turns = [calendar.day_start_s(day_of(f"2026-{day}")) for day in ("05-16", "11-16")]
    assert [b[0] for b, start in zip(schedule.bounds, schedule.start_s, strict=True) if start in turns] == [
        260_000,
        200_000,
    ]
    assert len(schedule.bounds) == 14
