"""The auditor's rules one by one: verdicts, spreading, ladder, tariffs, spans; figures worked out by hand."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from audit.accounts import PartitionAudit
from audit.tariffs import Tariff, month_start, read_tariffs
from audit.world import address, build
from config.settings import RatingSettings
from config.tariff_files import tariff_texts


def s(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp())


@pytest.fixture(scope="module")
def tariffs() -> dict[str, Tariff]:
    return read_tariffs(tariff_texts(), 2020, 2040)


def day_number(text: str) -> int:
    return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()


@pytest.fixture
def book(tariffs: dict[str, Tariff], plain_tables: Any) -> Any:
    def make(**changes: Any) -> PartitionAudit:
        found = PartitionAudit(0, tariffs, RatingSettings())
        found.activate(build("v", 1, "Asia/Shanghai", plain_tables(**changes)))
        return found

    return make


def read(book: PartitionAudit, at: str, value: int, quality: int = 4, received: str | None = None) -> str:
    before = book.verdicts.copy()
    book.readings("c1", s(received or at), ([1], [value], [s(at)], [1], [quality]))
    return next(iter(name for name, n in book.verdicts.items() if n > before[name]))


def total(book: PartitionAudit, component: str) -> int:
    return sum(amount for (_, _, name), amount in book.expected.items() if name == component)


@pytest.mark.parametrize(
    ("tariff", "at", "tiers"),
    [
        ("guangzhou-residential", "2026-07-01T10:00", ["0.58886875", "0.63886875", "0.88886875"]),
        ("guangzhou-residential-tou", "2026-07-01T10:00", ["0.99496875", "1.04496875", "1.29496875"]),
        ("guangzhou-residential-tou", "2021-09-30T10:00", ["0.96596875", "1.01596875", "1.26596875"]),
        ("guangzhou-residential-tou", "2026-07-01T00:00", ["0.22916875", "0.27916875", "0.52916875"]),
        ("guangzhou-residential-tou", "2026-07-01T12:00", ["0.58886875", "0.63886875", "0.88886875"]),
        ("guangzhou-residential-flat", "2026-07-01T10:00", ["0.62586875"] * 3),
    ],
)
def test_prices(tariffs: dict[str, Tariff], tariff: str, at: str, tiers: list[str]) -> None:
    segment = tariffs[tariff].segment_at(s(at))
    assert segment is not None
    assert tariffs[tariff].prices[segment.key : segment.key + 3] == [Decimal(text) for text in tiers]


@pytest.mark.parametrize(
    ("day", "size", "bounds"),
    [
        ("2026-07-01", 4, (260_000, 600_000)),
        ("2026-07-01", 5, (360_000, 700_000)),
        ("2026-11-01", 4, (200_000, 400_000)),
        ("2026-06-30", 5, (260_000, 600_000)),  # registered on 10 June: from the next cycle on
    ],
)
def test_bounds(tariffs: dict[str, Tariff], day: str, size: int, bounds: tuple[int, ...]) -> None:
    history = (("household_size", s("2026-06-10"), size),)
    assert tariffs["guangzhou-residential"].bounds_on(day_number(day), history) == bounds


@pytest.mark.parametrize(
    ("word", "early", "late"),
    [
        ("next_cycle", 200_000, 200_000),
        ("from_cycle_start", 200_000, 200_000),
        ("by_instant", 200_000, 260_000),
        ("by_days", 230_246, 230_246),  # 181 days of 200 and 184 of 260 kWh, rounded down to the Wh
    ],
)
def test_the_word_for_changes_inside_a_cycle(word: str, early: int, late: int) -> None:
    text = tariff_texts()["guangzhou-residential"].replace('"next_cycle"', f'"{word}"')
    tariff = Tariff(
        text.replace('\ncycle = "calendar_month"', '\ncycle = "calendar_year"\ncycle_begins = 1'), 2020, 2040, {}
    )
    got = [tariff.bounds_on(day_number(d), ())[0] for d in ("2026-01-05", "2026-07-05")]
    assert got == [early, late]


@pytest.mark.parametrize(("days", "length_h"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)])
def test_days_of_other_lengths_are_covered_without_a_hole(days: str, length_h: int) -> None:
    text = tariff_texts()["guangzhou-residential-tou"].replace("Asia/Shanghai", "Europe/Berlin")
    tariff = Tariff(text, 2020, 2040, {})
    day = day_number(days)
    assert tariff.day_start_s(day + 1) - tariff.day_start_s(day) == length_h * 3600
    at_s, peak_s = tariff.day_start_s(day), 0
    while at_s < tariff.day_start_s(day + 1):
        segment = tariff.segment_at(at_s)
        assert segment is not None
        assert segment.start_s == at_s
        peak_s += (segment.end_s - at_s) * (tariff.prices[segment.key] == Decimal("0.99496875"))
        at_s = segment.end_s
    assert peak_s == 7 * 3600


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (("2026-07-02T00:00", 10_000, 4), "duplicate"),
        (("2026-07-02T00:00", 10_000, 3), "duplicate"),
        (("2026-07-02T00:00", 10_001, 4), "conflict"),
        (("2026-07-01T12:00", 10_001, 4), "late"),
        (("2026-07-02T06:00", 9_999, 4), "negative"),
        (("2026-07-02T06:00", 10_000 + 79_201, 4), "implausible"),  # 13.2 kW in six hours: 79.2 kWh
        (("2026-07-02T06:00", 10_000 + 79_200, 4), "accepted"),
        (("2026-07-07T00:00", 10_000 + 3 * 24 * 13_200 + 1, 4), "unconfirmed_jump"),  # the window is three days
    ],
)
def test_verdicts(book: Any, second: tuple[str, int, int], verdict: str) -> None:
    found = book()
    assert read(found, "2026-07-02T00:00", 10_000) == "accepted"
    assert read(found, *second) == verdict


def test_a_rollover_counts_on(book: Any, plain_tables: Any) -> None:
    rows = plain_tables()["opening_registers"]
    rows[0]["value"] = "99800"
    found = book(opening_registers=rows)
    assert read(found, "2026-07-03T00:00", 180_000) == "rollover"  # 99,800 then 180 on five digits: 380 kWh
    assert total(found, "quantity_wh") == 380_000


def test_future_resolution_and_reset(book: Any, plain_tables: Any) -> None:
    rows = plain_tables()["registers"]
    rows[0]["resolution"] = "0.01"
    opened = plain_tables()["opening_registers"]
    opened[0]["value"] = "13423.70"
    found = book(registers=rows, opening_registers=opened)
    assert read(found, "2026-07-02T00:00", 13_424_000, received="2026-07-01T23:54") == "future"
    assert read(found, "2026-07-02T00:00", 13_424_005) == "resolution"
    assert read(found, "2026-07-02T00:00", 0) == "reset"
    assert read(found, "2026-07-02T00:15", 13_423_700) == "accepted"
    assert total(found, "quantity_wh") == 0


def test_an_estimate_that_was_too_high_is_taken_back(book: Any) -> None:
    found = book()
    assert read(found, "2026-07-02T00:00", 30_000, quality=1) == "accepted"
    assert read(found, "2026-07-03T00:00", 10_000) == "accepted"
    assert read(found, "2026-07-04T00:00", 9_999) == "negative"
    assert total(found, "quantity_wh") == 10_000
    assert total(found, "energy") == -588  # 17.66 and back to 5.88


def test_a_better_quality_replaces_and_charges_the_difference(book: Any) -> None:
    found = book()
    assert read(found, "2026-07-01T12:00", 30_000, quality=1) == "accepted"
    assert read(found, "2026-07-01T12:00", 20_000) == "replaced"
    assert read(found, "2026-07-02T00:00", 20_000) == "accepted"
    assert total(found, "energy") == -1_177  # 20 kWh: 11.777375


def test_a_better_quality_of_the_same_value_confirms_an_estimate(book: Any) -> None:
    found = book()
    assert read(found, "2026-07-02T00:00", 30_000, quality=1) == "accepted"
    assert read(found, "2026-07-02T00:00", 30_000) == "replaced"
    assert read(found, "2026-07-02T00:00", 30_000) == "duplicate"
    assert read(found, "2026-07-03T00:00", 20_000) == "negative"  # nothing is left that could be taken back
    assert total(found, "quantity_wh") == 30_000


def test_overflow_counts_the_multiplier(book: Any, plain_tables: Any) -> None:
    rows = plain_tables()["meters"]
    rows[0] |= {"multiplier": "40", "power_max_w": ""}
    found = book(meters=rows)
    assert read(found, "2026-07-01T01:00", 1_000, quality=1) == "accepted"
    assert read(found, "2026-07-01T01:00", 200_000_000) == "overflow"
    assert read(found, "2026-07-01T02:00", 200_000_000) == "overflow"


def test_a_move_told_late_hands_the_register_over_at_the_last_reading(tariffs: Any, plain_tables: Any) -> None:
    """30 kWh to the 20th; then told: B moved in on the 11th. What was charged stays, B goes on."""
    told = plain_tables()
    found = PartitionAudit(0, tariffs, RatingSettings())
    found.activate(build("v1", 1, "Asia/Shanghai", told))
    assert read(found, "2026-07-20T00:00", 30_000) == "accepted"
    old, span = told["accounts"][0], told["tariffs"][0]
    moved = plain_tables(
        accounts=[old | {"to": "2026-07-11"}, old | {"account": "B", "from": "2026-07-11", "slot": 1}],
        tariffs=[span | {"to": "2026-07-11"}, span | {"account": "B", "from": "2026-07-11"}],
    )
    found.activate(build("v2", 1, "Asia/Shanghai", moved))
    assert read(found, "2026-07-21T00:00", 31_000) == "accepted"
    wh: dict[str, int] = {}
    for (account, _, name), n in found.expected.items():
        if name == "quantity_wh":
            wh[account] = wh.get(account, 0) + n
    assert wh == {"A": 30_000, "B": 1_000}


def test_each_part_of_a_reading_has_its_span_s_multiplier(book: Any, plain_tables: Any) -> None:
    row = plain_tables()["meters"][0]
    found = book(meters=[row | {"to": "2026-07-03"}, row | {"from": "2026-07-03", "multiplier": "3"}])
    assert read(found, "2026-07-04T00:00", 30_001) == "accepted"  # 20,000 before the change, 10,001 after
    assert total(found, "quantity_wh") == 20_000 + 3 * 10_001


def test_a_gap_is_spread_by_cumulative_floors(book: Any) -> None:
    found = book()
    assert read(found, "2026-07-04T00:00", 10) == "accepted"  # 10 Wh over three days: 3, 3, 4
    wh = {day: n for (_, day, name), n in found.expected.items() if name == "quantity_wh"}
    assert [wh[month_start(678) + n] for n in range(3)] == [3, 3, 4]


def test_addresses() -> None:
    assert address("000000000042") == 42
    assert address("meter-7") >= 2**63


def test_a_vacancy_is_nobodys_and_the_next_account_counts_from_its_own_opening(book: Any, plain_tables: Any) -> None:
    """A1 leaves on the 10th at 30 kWh, B moves in on the 15th at 100: 10 kWh to the 16th are B's, 70 are nobody's."""
    told = plain_tables()
    old, moved = told["accounts"][0], told["tariffs"][0]
    found = book(
        accounts=[old | {"to": "2026-07-10"}, old | {"account": "B", "from": "2026-07-15", "slot": 1}],
        tariffs=[moved | {"to": "2026-07-10"}, moved | {"account": "B", "from": "2026-07-15"}],
        opening_registers=[
            told["opening_registers"][0],
            told["opening_registers"][0] | {"value": "100", "read_at": "2026-07-15"},
        ],
    )
    assert read(found, "2026-07-10T00:00", 30_000) == "accepted"
    assert read(found, "2026-07-12T00:00", 60_000) == "late"  # before B's opening register
    assert read(found, "2026-07-16T00:00", 110_000) == "accepted"
    wh = {account: n for (account, _, name), n in found.expected.items() if name == "quantity_wh"}
    assert wh["B"] == 10_000
    assert (
        sum(n for (account, _, name), n in found.expected.items() if (account, name) == ("A", "quantity_wh"))
        == 30_000
    )


def test_a_span_that_ends_inside_a_day_gives_what_it_accrued_when_the_bill_closes(
    book: Any, plain_tables: Any
) -> None:
    told = plain_tables()
    found = book(accounts=[told["accounts"][0] | {"to": "2026-07-10T12:00+08:00"}])
    assert read(found, "2026-07-10T12:00", 19_000) == "accepted"
    found.tick(s("2026-08-01T00:00"))
    assert total(found, "quantity_wh") == 19_000
    assert total(found, "energy") + total(found, "rounding") == -1_119  # 11.18850625
