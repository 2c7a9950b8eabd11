"""Spreading, the ladder, and a day explained: the worked figures of the domain."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.units import INT64_MAX, decimal_text, round_ratio
from rating.book import TariffBook
from rating.tariff.model import Tariff
from rating.walk import Line, ladder, spread
from registry.image import AttributeChange
from tests.rating.explained import explain_day

SUMMER = (260_000, 600_000, *(INT64_MAX,) * 6)
WINTER = (200_000, 400_000, *(INT64_MAX,) * 6)
FEN_E11 = 10**9
ORDER = ("guangzhou-residential", "guangzhou-residential-tou", "guangzhou-residential-flat")
PLAIN, TOU, FLAT = 0, 1, 2


@pytest.fixture(scope="module")
def book(shipped: dict[str, Tariff]) -> TariffBook:
    histories = ((), (AttributeChange("household_size", 0, 5),))
    pairs = [(PLAIN, 0), (PLAIN, 1), (TOU, 0), (FLAT, 0)]
    return TariffBook.compile(tuple(shipped.values()), ORDER, histories, pairs, 2021, 2028)


def day_of(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


# -- spreading -----------------------------------------------------------------------------------------------
def test_four_wh_over_1_1_3() -> None:
    assert spread(4, 5, [1, 2, 5]) == [0, 1, 3]


def test_a_week_of_silence_piles_up_nowhere() -> None:
    parts = spread(5_000, 336 * 1800, [1800 * (k + 1) for k in range(336)])
    assert set(parts) == {14, 15}
    assert sum(parts) == 5_000


boundaries = st.lists(st.integers(1, 10**6), min_size=1, max_size=40).map(
    lambda steps: [sum(steps[: i + 1]) for i in range(len(steps))]
)


@given(st.integers(-4 * 10**9, 4 * 10**9), boundaries)
def test_parts_sum_and_none_is_off_by_one(energy: int, at: list[int]) -> None:
    parts = spread(energy, at[-1], at)
    assert sum(parts) == energy
    for part, (start, end) in zip(parts, pairwise([0, *at]), strict=True):
        assert abs(part * at[-1] - energy * (end - start)) < at[-1]


@given(st.integers(0, 4 * 10**9), boundaries, st.data())
def test_splitting_at_the_registers_that_spreading_gives_changes_nothing(
    energy: int, at: list[int], data: st.DataObject
) -> None:
    """A reading more, stamped on a boundary with the spread register there, moves no energy between periods.

    Inside the halves floors may fall otherwise; at the boundaries of the cut they do not, so each side keeps its sum.
    """
    cut = data.draw(st.integers(0, len(at) - 1))
    parts = spread(energy, at[-1], at)
    left = sum(parts[: cut + 1])
    assert sum(spread(left, at[cut], at[: cut + 1])) == left
    if cut + 1 < len(at):
        right = spread(energy - left, at[-1] - at[cut], [a - at[cut] for a in at[cut + 1 :]])
        assert sum(right) == sum(parts[cut + 1 :])


# -- the ladder ----------------------------------------------------------------------------------------------
# used before, energy, pieces. Upper bounds are inclusive: the 260,000th Wh is first tier, the next one is not.
LADDER = [
    (0, 260_000, [(0, 260_000)]),
    (0, 260_001, [(0, 260_000), (1, 1)]),
    (259_999, 1, [(0, 1)]),
    (260_000, 1, [(1, 1)]),
    (600_000, 1, [(2, 1)]),
    (0, 602_000, [(0, 260_000), (1, 340_000), (2, 2_000)]),
    (100, 0, []),
    (260_001, -1, [(1, -1)]),
    (260_000, -1, [(0, -1)]),
    (602_000, -602_000, [(2, -2_000), (1, -340_000), (0, -260_000)]),
    (5, -10, [(0, -10)]),  # an estimate taken back after the cycle began
    (-5, 10, [(0, 10)]),
]


@pytest.mark.parametrize(("used", "energy", "pieces"), LADDER)
def test_ladder(used: int, energy: int, pieces: list[tuple[int, int]]) -> None:
    assert ladder(used, energy, SUMMER) == pieces


@given(st.integers(0, 10**6), st.integers(-(10**6), 10**6), st.sampled_from([SUMMER, WINTER]))
def test_ladder_pieces_sum_and_never_leave_their_tier(used: int, energy: int, bounds: tuple[int, ...]) -> None:
    at = used
    for tier, piece in ladder(used, energy, bounds):
        low, high = sorted((at, at + piece))
        assert low >= (bounds[tier - 1] if tier else low)
        assert high <= bounds[tier]
        at += piece
    assert at == used + energy


@given(st.integers(0, 10**6), st.lists(st.integers(-1000, 400_000), max_size=6))
def test_ladder_does_not_care_how_the_energy_is_cut(used: int, parts: list[int]) -> None:
    def by_tier(pieces: list[tuple[int, int]]) -> dict[int, int]:
        sums: dict[int, int] = {}
        for tier, piece in pieces:
            sums[tier] = sums.get(tier, 0) + piece
        return {tier: energy for tier, energy in sums.items() if energy}

    cut, at = [], used
    for part in parts:
        cut += ladder(at, part, SUMMER)
        at += part
    assert by_tier(cut) == by_tier(ladder(used, sum(parts), SUMMER))


# -- worked figures ------------------------------------------------------------------------------------------
def charge_e11(prices_e8: tuple[int, ...], energy_wh: int, bounds: tuple[int, ...]) -> int:
    return sum(piece * prices_e8[tier] for tier, piece in ladder(0, energy_wh, bounds))


MONTHS = [
    (600_000, SUMMER, "370.32125000000"),
    (600_000, WINTER, "423.32125000000"),
    (260_000, SUMMER, "153.10587500000"),
    (602_000, SUMMER, "372.09898750000"),
]


@pytest.mark.parametrize(("energy_wh", "bounds", "yuan"), MONTHS)
def test_a_month_of_guangzhou(shipped: dict[str, Tariff], energy_wh: int, bounds: tuple[int, ...], yuan: str) -> None:
    version = shipped["guangzhou-residential"].version[0]
    exact = charge_e11(version.prices_e8(version.period[0]), energy_wh, bounds)
    assert decimal_text(exact, 11) == yuan


def test_602_kwh_are_rounded_once(shipped: dict[str, Tariff]) -> None:
    tariff = shipped["guangzhou-residential"]
    prices = tariff.version[0].prices_e8(tariff.version[0].period[0])
    lines = [piece * prices[tier] for tier, piece in ladder(0, 602_000, SUMMER)]
    mode = tariff.rounding.mode
    assert round_ratio(sum(lines), FEN_E11, mode) == 37_210
    assert [round_ratio(line, FEN_E11, mode) for line in lines] == [15_311, 21_722, 178], (
        "372.11 if lines were rounded"
    )


# -- a day explained -----------------------------------------------------------------------------------------
def quarter_hours(start_s: int, count: int, energy_wh: int, first: int) -> tuple[list[int], list[int], list[int]]:
    at = [start_s + 900 * i for i in range(count + 1)]
    return at, [first + energy_wh * i for i in range(count + 1)], [4] * (count + 1)


def test_a_day_of_time_of_use_crosses_a_bound(book: TariffBook) -> None:
    #  16 July 2026, 100 Wh a quarter hour after 257,000 Wh: the bound falls after 30 of them, at 07:30
    #
    #   00:00        07:30 08:00   10:00  12:00  14:00        19:00      24:00
    #     | valley 3,000 |200| 800   | 800  | 800  | 2,000      | 2,000    |  Wh
    #     | first tier   | second tier
    day = day_of("2026-07-16")
    at, value, quality = quarter_hours(book.day_start_s(TOU, day), 96, 100, 1_000_000)
    lines = explain_day(book, TOU, 0, at, value, quality, 257_000, day)
    sums: dict[tuple[str, int], int] = {}
    for line in lines:
        sums[line.period, line.tier] = sums.get((line.period, line.tier), 0) + line.energy_wh
    assert sums == {("valley", 0): 3_000, ("valley", 1): 200, ("flat", 1): 3_600, ("peak", 1): 2_800}
    assert sum(line.energy_wh for line in lines) == 9_600
    exact = 3_200 * 22_916_875 + 3_600 * 58_886_875 + 2_800 * 99_496_875 + 6_600 * 5_000_000
    assert sum(line.amount_e11 for line in lines) == exact
    assert sum(line.adder_e11 for line in lines) == 6_600 * 5_000_000
    assert all(line.price_e8 * line.energy_wh == line.amount_e11 for line in lines)


def test_boundary_readings_are_on_the_right_side(book: TariffBook) -> None:
    #  a register at 08:00 completes valley; one at 08:00:01 has one second of flat
    day = day_of("2026-07-16")
    eight_s = book.day_start_s(TOU, day) + 8 * 3600
    on = explain_day(book, TOU, 0, [eight_s - 900, eight_s], [0, 900], [4, 4], 0, day)
    assert [(line.period, line.energy_wh) for line in on] == [("valley", 900)]
    past = explain_day(book, TOU, 0, [eight_s - 899, eight_s + 1], [0, 900], [4, 4], 0, day)
    assert [(line.period, line.energy_wh) for line in past] == [("valley", 899), ("flat", 1)]
    assert past[0].end_s == past[1].start_s == eight_s


def test_a_day_takes_only_its_share_of_a_gap(book: TariffBook) -> None:
    #  one reading over two days: each has its own half, to the Wh
    first, second = day_of("2026-07-16"), day_of("2026-07-17")
    at = [book.day_start_s(PLAIN, first), book.day_start_s(PLAIN, second + 1)]
    shares = [explain_day(book, PLAIN, 0, at, [0, 4_001], [4, 1], 0, day) for day in (first, second)]
    assert [[line.energy_wh for line in lines] for lines in shares] == [[2_000], [2_001]]
    assert shares[0][0].quality.name == "E"
    assert shares[0][0].reading_at_s == at[1]
    assert explain_day(book, PLAIN, 0, at, [0, 4_001], [4, 4], 0, second + 1) == []


def test_seven_people_pay_flat_and_five_have_wider_bounds(book: TariffBook) -> None:
    day = day_of("2026-07-16")
    at = [book.day_start_s(PLAIN, day), book.day_start_s(PLAIN, day) + 3600]

    def lines(tariff: int, history: int) -> list[Line]:
        return explain_day(book, tariff, history, at, [0, 1_000], [4, 4], 300_000, day)

    assert [(line.tier, line.price_e8) for line in lines(FLAT, 0)] == [(0, 62_586_875)]
    assert [(line.tier, line.price_e8) for line in lines(PLAIN, 0)] == [(1, 63_886_875)]
    assert [(line.tier, line.price_e8) for line in lines(PLAIN, 1)] == [(0, 58_886_875)]


@given(
    energy=st.lists(st.integers(0, 3_000), min_size=2, max_size=12),
    gaps=st.lists(st.integers(60, 20_000), min_size=12, max_size=12),
    used=st.integers(0, 700_000),
)
def test_days_together_charge_every_wh_once(book: TariffBook, energy: list[int], gaps: list[int], used: int) -> None:
    day = day_of("2026-07-10")
    at, value = [book.day_start_s(TOU, day) + 7 * 3600], [0]
    for step, gap in zip(energy, gaps, strict=False):
        at.append(at[-1] + gap)
        value.append(value[-1] + step)
    place, amount = used, 0
    for number in range(day, day + 5):
        lines = explain_day(book, TOU, 0, at, value, [4] * len(at), place, number)
        place += sum(line.energy_wh for line in lines)
        amount += sum(line.adder_e11 for line in lines)
    assert place - used == value[-1]
    adders = (0, 5_000_000, 30_000_000)
    assert amount == sum(piece * adders[tier] for tier, piece in ladder(used, value[-1], SUMMER))
