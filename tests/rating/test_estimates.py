"""Bills that close by the settlement window: what lags is estimated to the cycle's end, and trued up afterwards.

|  July ...x. . . . . .|   | 4 August: the window is over
           last register   |
            `-- as before -'  quality E, taken back by the next actual register
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.tariff_files import tariff_texts
from ledger.effects import Component
from rating.tariff.reading import parse_tariffs
from tests.rating.test_switch import FLAT, PLAIN, TOU, spans

MakeHome = Callable[..., Any]
CLOSE = "2026-08-04T00:00"
FIRST_TIER = 58_886_875


def checkpoint(h: Any) -> dict[str, Any]:
    """Entries since the last checkpoint by kind, checked."""
    entries = h.engine.checkpoint(epoch=1, log_id="x").entries
    for entry in entries:
        entry.check()
    return {entry.kind: entry for entry in entries}


def wh(entry: Any) -> int:
    return int(entry.rows["quantity"][entry.rows["component"] == Component.ENERGY].sum()) if entry is not None else 0


def test_a_bill_without_its_boundary_register_holds_an_estimate(home: MakeHome) -> None:
    """62 kWh in 15.5 days are 4 kWh a day, so 62 more to the month's end."""
    h = home(balance_fen=10_000)
    h.read(62_000, "2026-07-16T12:00")
    h.engine.apply([h.tick(CLOSE)])
    told = checkpoint(h)
    assert (wh(told["usage"]), wh(told["estimate"])) == (62_000, 62_000)
    assert told["bill"].bills["complete"].tolist() == [0]
    assert h.engine.counters["estimate.accepted"] == 1
    row = h.engine.part.channel[0]
    assert [int(row[n]) for n in ("value", "at_s", "quality")] == [124_000, h.seconds("2026-08-01T00:00"), 1]
    assert 10_000 - int(h.engine.part.account["balance_fen"][0]) == (124_000 * FIRST_TIER + 5 * 10**8) // 10**9
    assert int(h.engine.part.account["carry_energy_e11"][0]) == 0


@pytest.mark.parametrize("actual", [100_000, 124_000, 150_000])
def test_the_next_actual_register_makes_it_good(home: MakeHome, actual: int) -> None:
    h = home()
    h.read(62_000, "2026-07-16T12:00")
    h.engine.apply([h.tick(CLOSE)])
    assert h.read(actual, "2026-08-05T00:00") == "accepted"
    told = checkpoint(h)
    assert wh(told["usage"]) + wh(told["estimate"]) + int(h.engine.part.channel["day_energy"][0]) == actual
    assert int(h.engine.part.channel["estimate_excess"][0]) == 0
    assert h.read(61_000, "2026-08-05T01:00") == "negative"  # below the last register that was no estimate


def test_below_the_last_actual_register_it_stays_negative(home: MakeHome) -> None:
    h = home()
    h.read(62_000, "2026-07-16T12:00")
    h.engine.apply([h.tick(CLOSE)])
    assert h.read(61_999, "2026-08-05T00:00") == "negative"


def test_nobody_is_charged_upon_it(home: MakeHome) -> None:
    h = home(balance_fen=6_000, trigger_fen=2_000)
    h.read(62_000, "2026-07-16T12:00")
    h.engine.checkpoint(epoch=1, log_id="x")
    h.engine.apply([h.tick(CLOSE)])
    assert h.engine.checkpoint(epoch=1, log_id="x").events == []
    h.read(124_000, "2026-08-04T12:00")
    assert [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events] == ["low_balance"]


@pytest.mark.parametrize(
    ("reads", "why"),
    [
        ([], "no use at all"),
        ([(0, "2026-07-16T12:00", 4)], "no use to go by"),
        ([(9_000, "2026-07-01T23:59", 4)], "less than a day of the cycle"),
        ([(62_000, "2026-07-16T12:00", 1)], "an estimate already"),
    ],
)
def test_without_something_to_go_by_there_is_none(home: MakeHome, reads: list[Any], why: str) -> None:
    h = home()
    for value, at, quality in reads:
        h.read(value, at, quality=quality)
    h.engine.apply([h.tick(CLOSE)])
    assert "estimate" not in checkpoint(h), why
    assert h.engine.counters["bills.by_window"] == 1


def test_one_that_would_be_implausible_is_not_made(home: MakeHome) -> None:
    """3 kW all day is possible; 15 days of it are more than the plausible window of three days allows."""
    h = home(power_w=3_000)
    for day in range(2, 17):
        h.read(72_000 * (day - 1), f"2026-07-{day:02}T00:00")
    h.engine.apply([h.tick(CLOSE)])
    assert "estimate" not in checkpoint(h)
    assert int(h.engine.part.cold["pending_at_s"][0]) == 0


def test_a_register_of_whole_units_is_rounded_down_to_them(home: MakeHome) -> None:
    h = home(resolution=1000)
    h.read(61_000, "2026-07-16T12:00")
    h.engine.apply([h.tick(CLOSE)])
    h.read(62_000, "2026-08-06T00:00")
    assert h.engine.counters["verdict.accepted"] == 2
    assert wh(checkpoint(h)["estimate"]) == 61_000
    odd = home(resolution=1000)
    odd.read(61_000, "2026-07-17T00:00")
    odd.engine.apply([odd.tick(CLOSE)])
    assert wh(checkpoint(odd)["estimate"]) == 57_000  # 57.1875


def test_no_estimate_rests_on_an_estimate(home: MakeHome) -> None:
    """Dead for two months: July ends with an estimate, August with nothing."""
    h = home()
    h.read(62_000, "2026-07-16T12:00")
    h.engine.apply([h.tick(CLOSE), h.tick("2026-09-04T00:00")])
    assert h.engine.counters["bills.by_window"] == 2
    assert h.engine.counters["estimate.accepted"] == 1


def test_two_registers_of_a_ladder_share_its_mean(home: MakeHome) -> None:
    """Both have used 31 kWh in half of July when one falls silent: it is given 31 of the 62 that may come."""
    h = home(["a", "x"])
    h.image.channels["account"][1] = h.image.channels["ladder"][1] = 0
    h.image.account_start[:] = [0, 2, 2]
    h.engine = h.fresh()
    h.engine.apply([h.record([(home_, 31_000, "2026-07-16T12:00", 4) for home_ in (0, 1)])])
    h.engine.apply([h.tick(CLOSE)])
    assert wh(checkpoint(h)["estimate"]) == 62_000
    assert h.engine.part.channel["value"].tolist() == [62_000, 62_000]


def test_a_change_of_tariff_inside_the_gap_is_split_at_it(home: MakeHome) -> None:
    h = home(["a", "x"])
    channels = h.image.channels
    channels["meter"][1], channels["account"][1] = 100, 0
    channels["until_s"][0], channels["next"][0] = h.seconds("2026-07-24T06:00"), 1
    channels["opening_value"][1], channels["opening_at_s"][1] = -1, h.seconds("2026-07-24T06:00")
    h.image.account_start[:] = [0, 2, 2]
    h.image.lists["c1"] = (0, 1)
    h.engine = h.fresh()
    h.read(62_000, "2026-07-16T12:00")
    h.engine.apply([h.tick(CLOSE)])
    assert h.engine.part.channel["value"].tolist() == [124_000, 124_000]
    assert h.engine.part.ladder["used"].tolist() == [93_000, 31_000]


# -- what a guess goes by: what was counted here, over the time in which it was --------------------------------------


def imported(home: MakeHome, opening_wh: int, opened: str = "2026-07-11", **changes: Any) -> Any:
    """An account whose opening register is of `opened`, with so much used before it in the tier cycle."""
    h = home(opened=f"{opened}T00:00+08:00", **changes)
    h.image.ladders["opening_used"][0] = opening_wh
    h.engine = h.fresh()
    return h


def two_registers(home: MakeHome, opened: str = "2026-07-01T00:00") -> Any:
    """Meters 0 and 1 of one account, on one ladder; the second is counted from `opened` on."""
    h = home(["a", "x"])
    h.image.channels["account"][1] = h.image.channels["ladder"][1] = 0
    h.image.channels["opening_at_s"][1] = h.seconds(opened)
    h.image.account_start[:] = [0, 2, 2]
    h.engine = h.fresh()
    return h


def estimate(h: Any, close: str = CLOSE) -> int:
    """Wh of the estimates that a close by the window makes."""
    checkpoint(h)
    h.engine.apply([h.tick(close)])
    return wh(checkpoint(h).get("estimate"))


@pytest.mark.parametrize("opening_wh", [0, 1_000, 100_000, 555_000])
@pytest.mark.parametrize("known_since", ["2026-07-11T00:00", "2024-03-01T00:00"])
def test_what_the_import_brought_is_no_use_to_go_by(home: MakeHome, opening_wh: int, known_since: str) -> None:
    """20 kWh in the ten days since the opening register are 22 in the eleven that are left, whatever was before, and
    whenever the contract began."""
    h = imported(home, opening_wh)
    h.image.accounts["from_s"][0] = h.seconds(known_since)
    h.read(20_000, "2026-07-21T00:00")
    assert estimate(h) == 22_000
    assert int(h.engine.part.ladder["used"][0]) == opening_wh + 42_000  # in the tiers all of it counts


@pytest.mark.parametrize(
    ("reads", "why"),
    [
        ([], "nothing was counted"),
        ([(0, "2026-07-21T00:00", 4)], "nothing was used since the opening"),
        ([(2_000, "2026-07-11T23:59", 4)], "less than a day since the opening"),
    ],
)
def test_what_the_import_brought_makes_no_guess_by_itself(home: MakeHome, reads: list[Any], why: str) -> None:
    h = imported(home, 100_000)
    for value, at, quality in reads:
        h.read(value, at, quality=quality)
    assert estimate(h) == 0, why


def test_in_the_months_after_it_is_forgotten(home: MakeHome) -> None:
    """August: 30 kWh in 15 days, then 32 in 16; July's 100 kWh stay with July."""
    h = imported(home, 100_000)
    h.read(42_000, "2026-08-01T00:00")
    h.read(72_000, "2026-08-16T00:00")
    assert estimate(h, "2026-09-04T00:00") == 32_000


@pytest.mark.parametrize("word", ["next_cycle", "by_instant"])
def test_a_ladder_of_the_year_that_begins_in_its_middle(home: MakeHome, word: str) -> None:
    """1,500 kWh by 15 April, 96 kWh in the 96 days to 20 July, then a day's kWh a day. Bounds change in May."""
    text = tariff_texts()[PLAIN].replace('\ncycle = "calendar_month"', '\ncycle = "calendar_year"\ncycle_begins = 1')
    tariffs = {PLAIN: parse_tariffs({PLAIN: text.replace('"next_cycle"', f'"{word}"')})[0]}
    build = type(home())
    h = imported(lambda **more: build(tariffs, ["a"], **more), 1_500_000, "2026-04-15")
    h.read(96_000, "2026-07-20T00:00")
    assert estimate(h) == 12_000


def test_over_a_change_of_meter_both_meters_are_known(home: MakeHome) -> None:
    """40 kWh in 10 days by the old meter, 10 in 10 by the new one: 27.5 more in the last eleven."""
    h = two_registers(home, "2026-07-11T00:00")
    h.image.channels["until_s"][0] = h.seconds("2026-07-11T00:00")
    h.engine = h.fresh()
    h.read(40_000, "2026-07-11T00:00")
    h.read(10_000, "2026-07-21T00:00", home=1)
    assert estimate(h) == 27_500


def test_a_register_that_came_later_has_its_own_time(home: MakeHome) -> None:
    """20 kWh in 20 days and 30 in 10: 50 in 30 days of a register, so 18,333 Wh in eleven days of each."""
    h = two_registers(home, "2026-07-11T00:00")
    h.engine.apply([h.record([(0, 20_000, "2026-07-21T00:00", 4), (1, 30_000, "2026-07-21T00:00", 4)])])
    assert estimate(h) == 2 * 18_333


def test_a_sibling_that_went_on_brings_its_time_with_its_use(home: MakeHome) -> None:
    """Both use 2 kWh a day; one falls silent on the 16th, the other one is read in August."""
    h = two_registers(home)
    h.engine.apply([h.record([(0, 30_000, "2026-07-16T00:00", 4), (1, 62_000, "2026-08-01T00:00", 4)])])
    h.read(66_000, "2026-08-03T00:00", home=1)
    assert estimate(h) == 32_000


def test_a_sibling_alone_is_nothing_to_go_by(home: MakeHome) -> None:
    h = two_registers(home)
    h.engine.apply([h.record([(0, 100, "2026-07-01T12:00", 4), (1, 62_000, "2026-08-01T00:00", 4)])])
    assert estimate(h) == 0


def test_over_a_change_of_tariff_each_register_has_all_its_time(home: MakeHome) -> None:
    """Both use 2 kWh a day, and the tariff changes on the 20th; one is silent since the 11th."""
    h = spans(home, [PLAIN, TOU], ["2026-07-20T00:00"], registers=2)
    h.read(20_000, "2026-07-11T00:00")
    h.read(62_000, "2026-08-01T00:00", home=1)
    assert estimate(h) == 42_000


def test_a_tariff_that_does_not_carry_over_goes_by_its_own_time(home: MakeHome) -> None:
    """3 kWh a day since the tariff changed on the 20th, 1 kWh before."""
    h = spans(home, [PLAIN, FLAT], ["2026-07-20T00:00"])
    h.read(19_000, "2026-07-20T00:00")
    h.read(34_000, "2026-07-25T00:00")
    assert estimate(h) == 21_000


def test_use_that_the_ladder_keeps_no_more_is_nothing_to_go_by(home: MakeHome) -> None:
    """One stands on 21 July and gets no guess, which would be implausible; the other one has come to September."""
    h = two_registers(home)
    h.image.channels["power_max_w"][0] = 1_000
    h.engine = h.fresh()
    for day in range(2, 22):
        h.read(24_000 * (day - 1), f"2026-07-{day:02}T00:00")
    h.read(1_000_000, "2026-08-03T00:00", home=1)
    assert estimate(h) == 0
    h.read(1_001_000, "2026-09-10T00:00", home=1)
    assert estimate(h, "2026-09-12T00:00") == 0
    assert h.engine.counters["bills.by_window"] == 2
    assert h.engine.part.channel["quality"].tolist()[:2] == [4, 4]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    opening_wh=st.integers(0, 900_000),
    opened_day=st.integers(1, 29),
    after_h=st.integers(1, 700),
    value=st.integers(0, 900_000),
)
def test_no_energy_from_before_the_opening_is_in_a_guess(
    home: MakeHome, opening_wh: int, opened_day: int, after_h: int, value: int
) -> None:
    """It is what the register itself did, to the Wh: its use since the opening, over the time since the opening."""
    h = imported(home, opening_wh, f"2026-07-{opened_day:02}")
    at_s, end_s = h.opened_s + after_h * 3600, h.seconds("2026-08-01T00:00")
    if at_s >= end_s:
        return
    h.read(value, at_s)
    expected = value * (end_s - at_s) // (at_s - h.opened_s) if after_h >= 24 else 0
    assert estimate(h) == expected


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 40_000)), min_size=1, max_size=8),
    st.integers(0, 500_000),
    st.integers(73, 2_000),
)
def test_whatever_was_estimated_the_next_actual_leaves_the_register_s_energy(
    home: MakeHome, steps: list[tuple[int, int]], more: int, after_h: int
) -> None:
    h = home()
    value, at_s, end_s = 0, h.opened_s, h.seconds("2026-08-01T00:00")
    for hours, step in steps:
        at_s, value = at_s + hours * 3600, value + step
        if at_s < end_s:
            h.read(value, at_s)
    h.engine.apply([h.tick(end_s + 3 * 86_400)])
    row = h.engine.part.channel[0]
    assert int(row["value"]) >= int(row["estimate_excess"]) >= 0
    final = value + more
    assert h.read(final, end_s + after_h * 3600) in ("accepted", "frozen")
    told = checkpoint(h)
    billed = wh(told.get("usage")) + wh(told.get("estimate")) + int(h.engine.part.channel["day_energy"][0])
    assert billed == final
    used = h.engine.part.ladder[0]
    assert np.int64(used["used"]) + np.int64(used["used_before"]) <= final
