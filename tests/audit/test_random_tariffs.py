"""Tariffs drawn from the language: the engine's and the auditor's reading of each agree, and cover every day."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.tariffs import read_tariffs
from config.units import decimal_text
from rating.calendar import local_calendar
from rating.schedule import compile_schedule, relevant
from rating.tariff.fields import month_day
from rating.tariff.reading import parse_tariffs
from rating.timeline import compile_timeline
from registry.image import AttributeChange

FROM, TO = 2025, 2027
ZONES = ("Asia/Shanghai", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "America/St_Johns")
DAYS = "date,type,name\n2025-03-30,special,a\n2025-07-04,holiday,b\n2026-02-28,adjusted,c\n2026-11-01,special,d\n"
KINDS = (("weekday", "adjusted"), ("weekend",), ("holiday", "special"))


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def tariffs(draw: Any) -> str:
    """A tariff file: some seasons that cover the year, groups of day types, spans that cover the day, tiers."""
    chosen = draw(st.lists(st.integers(0, 365), min_size=1, max_size=3, unique=True).map(sorted))
    seasons = [(f"s{n}", chosen[n], (chosen[(n + 1) % len(chosen)] - 1) % 366) for n in range(len(chosen))]
    if len(chosen) == 1:
        seasons = [("s0", 0, 365)]
    tiers = draw(st.integers(1, 4))
    price = st.integers(-(10**8), 19 * 10**8).map(lambda n: decimal_text(n, 8))
    parts = []
    for name, _, _ in seasons:
        for group in draw(
            st.sampled_from([(KINDS[0] + KINDS[1] + KINDS[2],), KINDS, (KINDS[0], KINDS[1] + KINDS[2])])
        ):
            cuts = sorted(draw(st.sets(st.integers(1, 1439), max_size=4)))
            for start, end in zip([0, *cuts], [*cuts, 1440], strict=True):
                cost = draw(st.lists(price, min_size=tiers, max_size=tiers))
                parts.append(
                    f'[[version.period]]\nname = "p{len(parts)}"\nseason = ["{name}"]\ndays = {list(group)!r}\n'
                    f'at = ["{clock(start)}-{clock(end)}"]\nprices = {cost!r}\n'
                )
    if tiers > 1:
        per = draw(
            st.sampled_from(['per = "day"', 'per = "cycle"\nlength = "none"', 'per = "cycle"\nlength = "days30"'])
        )
        parts.append(f"[version.tiers]\n{per}\n")
        rising = st.lists(st.integers(1, 900_000), min_size=tiers - 1, max_size=tiers - 1, unique=True).map(sorted)
        parts += [
            f'[[version.tiers.bounds]]\nseason = ["{name}"]\n'
            f"upto = {[str(Decimal(n) / 1000) for n in draw(rising)]!r}\n"
            for name, _, _ in seasons
        ]
        add = [str(n) for n in sorted(draw(st.lists(st.integers(0, 90), min_size=tiers - 1, max_size=tiers - 1)))]
        way = draw(st.sampled_from([("at_least = 5", "add"), ("above = 4", "each")]))
        parts.append(f'[[version.tiers.attribute]]\nname = "people"\n{way[0]}\n{way[1]} = {add!r}\n')
    cycle = draw(st.sampled_from(["calendar_month", "calendar_two_months", "calendar_quarter", "calendar_year"]))
    begins = "" if cycle == "calendar_month" else f"cycle_begins = {draw(st.integers(1, 12))}\n"
    word = draw(st.sampled_from(["next_cycle", "from_cycle_start", "by_instant", "by_days"]))
    return (
        'id = "drawn"\ncommodity = "electricity"\nunit = "kWh"\ncurrency = "EUR"\n'
        f'timezone = "{draw(st.sampled_from(ZONES))}"\nclock = "{draw(st.sampled_from(["daylight", "standing"]))}"\n'
        f'bill_cycle = "calendar_month"\ncycle = "{cycle}"\n{begins}tier_kind = "block"\n'
        'allocation = "chronological"\n'
        f'on_change = "{word}"\non_open = "full_bounds"\non_switch = "carry_over"\n'
        '[rounding]\nlevel = "bill"\nmode = "half_up"\nstep = "0.01"\n'
        + "".join(
            f'[[season]]\nname = "{n}"\nfrom = "{month_day(a)}"\nto = "{month_day(b)}"\n' for n, a, b in seasons
        )
        + '[calendar]\nweekend = ["sat", "sun"]\nlibrary = "none"\ndays_file = "own"\n'
        + f'[[version]]\nfrom = 2025-{draw(st.integers(1, 12)):02}-15\nsource = "drawn"\ndated = "2025"\n'
        + "".join(parts)
    )


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(text=tariffs(), changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 8)), max_size=3))
def test_two_readings_of_one_file_agree(same_bounds: Any, text: str, changes: list[tuple[int, int]]) -> None:
    texts = {"drawn": text, "own.days.csv": DAYS}
    (tariff,), audited = parse_tariffs(texts), read_tariffs(texts, FROM, TO)["drawn"]
    calendar = local_calendar(tariff.timezone, FROM, TO, tariff.clock == "standing")
    timeline = compile_timeline(tariff, calendar)
    segment = audited.segment_at(int(timeline.start_s[0]))
    ends = [*timeline.start_s[1:].tolist(), timeline.end_s]
    for row, end_s in enumerate(ends):
        # The auditor cuts where its plan changes; the engine also where only the name does: walk both to each start.
        assert segment is not None
        assert segment.start_s <= timeline.start_s[row] < segment.end_s
        assert segment.day == timeline.day[row]
        prices = audited.prices[segment.key : segment.key + 8]
        assert [price.scaleb(8) for price in prices] == [Decimal(p) for p in timeline.price_e8[row].tolist()]
        while segment is not None and segment.end_s <= end_s:
            segment = segment.following()
    assert segment is None
    history = [
        AttributeChange("people", calendar.day_start_s(audited.first_day + ahead), value)
        for ahead, value in sorted(changes)
    ]
    schedule = compile_schedule(tariff, calendar, relevant(tariff, calendar, history))
    same_bounds(audited, calendar, schedule, history)
