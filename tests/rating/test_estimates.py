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

from ledger.effects import Component

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
