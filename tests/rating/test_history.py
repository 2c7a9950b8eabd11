"""Warnings beside the verdict: high and low against the register's own days, use while disconnected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger.effects import InboxRow
from tests.rating.test_spans import two_spans

MakeHome = Callable[..., Any]
REGISTER = {"concentrator": "c1", "meter": 100, "register": "1.8.0"}
NAMES = ("high", "low", "use_while_disconnected")


def warned(h: Any) -> dict[str, int]:
    return {name: h.engine.counters[f"warning.{name}"] for name in NAMES if f"warning.{name}" in h.engine.counters}


def days(h: Any, uses: list[int], first: int = 2) -> None:
    """One reading at the end of each local day."""
    value = int(h.engine.part.channel["value"][0])
    for place, use in enumerate(uses):
        value += use
        h.read(value, f"2026-07-{first + place:02}T00:00")


@pytest.mark.parametrize(
    ("day", "told"),
    [(10_000, {}), (30_000, {}), (30_003, {"high": 1}), (3_334, {}), (3_333, {"low": 1}), (0, {"low": 1})],
)
def test_a_day_against_the_days_before(home: MakeHome, day: int, told: dict[str, int]) -> None:
    """Ten days of 10 kWh; three times as much is usual still, and so is a third."""
    h = home()
    days(h, [10_000] * 10)
    assert int(h.engine.part.cold["mean_day"][0]) == 10_000
    days(h, [day], first=12)
    assert warned(h) == told
    assert h.engine.part.ladder["used"][0] == 100_000 + day  # charged all the same


def test_a_week_is_needed_and_little_use_is_never_noteworthy(home: MakeHome) -> None:
    h = home()
    days(h, [1_000] * 6 + [90_000])
    assert warned(h) == {}
    small = home()
    days(small, [50] * 10 + [900, 0])
    assert warned(small) == {}


def test_the_mean_moves_by_an_eighth_a_day(home: MakeHome) -> None:
    h = home()
    days(h, [8_000, 16_000, 0])
    assert int(h.engine.part.cold["mean_day"][0]) == 7_875  # 8,000; 9,000; 7,875
    assert int(h.engine.part.cold["days"][0]) == 3


def test_what_is_left_of_a_day_that_a_tick_has_closed_is_no_day(home: MakeHome) -> None:
    h = home()
    days(h, [10_000] * 10)
    h.read(109_000, "2026-07-11T20:00")
    h.engine.apply([h.tick("2026-07-16T00:00")])
    h.read(110_000, "2026-07-12T00:00", received="2026-07-16T01:00")
    assert warned(h) == {}
    assert int(h.engine.part.cold["days"][0]) == 10
    days(h, [1_000], first=13)
    assert warned(h) == {"low": 1}


def supply(h: Any, state: str, number: int = 7) -> str:
    h.engine.apply_inbox(InboxRow(number, 0, "supply", f"s{number}", REGISTER | {"state": state, "reason": "w"}))
    out = h.engine.checkpoint(epoch=1, log_id="x")
    return next(str(a.outcome) for a in out.applied if a.inbox_id == number)


def test_what_a_command_s_reading_warns_of_is_counted_with_the_command(home: MakeHome) -> None:
    """A restart between the command and the next records must not lose it."""
    h = home()
    supply(h, "disconnected")
    body = {"concentrator": "c1", "readings": [[100, 1, h.seconds("2026-07-02T00:00"), 5_000, 4]]}
    h.engine.apply([h.tick("2026-07-02T00:00")])
    h.engine.apply_inbox(InboxRow(8, 0, "release", "k8", body))
    assert h.engine.counters["warning.use_while_disconnected"] == 1
    out = h.engine.checkpoint(epoch=1, log_id="x")
    assert out.counters["warning.use_while_disconnected"] == 1
    assert not h.engine._warnings.any()


def test_a_plain_reading_ends_a_row_of_estimates(home: MakeHome) -> None:
    """Also of one that told no use, so that nothing is in excess and all else is plain."""
    h = home()
    h.read(1_000, "2026-07-01T01:00")
    h.read(1_000, "2026-07-01T02:00", quality=1)
    assert int(h.engine.part.cold["estimates"][0]) == 1
    h.read(2_000, "2026-07-01T03:00")
    assert int(h.engine.part.cold["estimates"][0]) == 0


def test_use_while_disconnected_is_warned_of_and_charged(home: MakeHome) -> None:
    h = home()
    h.read(1_000, "2026-07-02T00:00")
    assert supply(h, "disconnected") == ""
    h.read(1_000, "2026-07-02T01:00")
    assert warned(h) == {}
    for value in (1_500, 1_600):  # inside one segment, where the plain way would be
        assert h.read(value, f"2026-07-02T0{value // 100 - 13}:00") == "accepted"
    assert warned(h) == {"use_while_disconnected": 2}
    assert supply(h, "connected", 8) == ""
    h.read(1_700, "2026-07-02T05:00")
    assert warned(h) == {"use_while_disconnected": 2}
    assert h.charge_e11() == 1_700 * 58_886_875


def test_a_span_that_takes_over_knows_of_it(home: MakeHome) -> None:
    h = two_spans(home)
    supply(h, "disconnected")
    h.read(10_000, "2026-07-12T00:00")
    h.read(11_000, "2026-07-13T00:00")
    assert warned(h) == {"use_while_disconnected": 2}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (REGISTER | {"state": "off"}, "neither"),
        (REGISTER, "state is missing"),
        (REGISTER | {"meter": 7, "state": "connected"}, "no such channel"),
    ],
)
def test_a_mark_that_makes_no_sense_is_refused(home: MakeHome, body: dict[str, Any], why: str) -> None:
    h = home()
    h.engine.apply_inbox(InboxRow(7, 0, "supply", "s", body))
    (applied,) = [a for a in h.engine.checkpoint(epoch=1, log_id="x").applied if a.inbox_id == 7]
    assert why in applied.outcome


def test_a_meter_that_is_gone_is_not_marked(home: MakeHome) -> None:
    h = home()
    h.engine.part.channel["until_s"][0] = h.opened_s
    assert "not installed" in supply(h, "disconnected")
