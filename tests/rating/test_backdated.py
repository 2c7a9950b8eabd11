"""Registry versions that are dated behind readings: nothing is lost, nothing is billed twice, somebody is told.

account a  ----------------x        x: last accepted reading when the version comes
version    ----|                    |: the date from which it says b, another tariff, another multiplier
account b                  |---->   b goes on from x; what lies between stays with a
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.effects import InboxRow
from registry.image import AttributeChange
from tests.rating.test_spans import FIRST_TIER, MOVE, two_spans

MakeHome = Callable[..., Any]
VERSION = InboxRow(9, None, "registry", "r9", {"digest": "d9"})
HOUR_S = 3600


def activate(h: Any, image: Any, book: Any = None) -> None:
    h.names[:] = ["a", "b", "c"]
    h.engine.activate(VERSION, image, book or h.book, h.engine.names)


def changed(home: MakeHome, kind: str, since_s: int, value: int) -> Any:
    """The version in which register 100 belongs, from `since_s` on, to somebody or something else."""
    h = home(["a", "b"], value=value)
    channels = h.image.channels
    channels["meter"][1] = channels["meter"][0]
    channels["until_s"][0], channels["next"][0] = since_s, 1
    channels["opening_value"][1], channels["opening_at_s"][1] = -1, since_s
    h.image.ladders["opening_at_s"][1] = since_s
    h.image.list_meter[:] = channels["meter"]
    h.image.lists["c1"] = (0, 1)
    if kind == "multiplier":
        channels["multiplier"][1] = 3
        channels["account"][1] = channels["ladder"][1] = 0
        h.image.account_start[:] = [0, 2, 2]
    return h.image


def billed_wh(h: Any) -> int:
    """Everything posted by day, and what the open days hold."""
    entries = h.engine.checkpoint(epoch=1, log_id="x").entries
    posted = sum(int(e.rows["quantity"].sum()) for e in entries if e.kind == "usage")
    return posted + int(h.engine.part.channel["day_energy"].sum())


@pytest.mark.parametrize("power", [0, 13_200])
def test_a_move_that_is_told_late_bills_no_register_twice(home: MakeHome, power: int) -> None:
    """Readings to the 20th at 5,010 kWh; then: moved on the 11th. b's first kWh is the one after 5,010."""
    h = home(["a"], power_w=power, value=5_000_000)
    h.read(5_005_000, "2026-07-09T00:00")
    h.read(5_010_000, "2026-07-20T00:00")
    image = changed(home, "move", h.seconds(MOVE), 5_000_000)
    image.channels["power_max_w"] = power
    activate(h, image)
    assert h.engine.part.channel["value"].tolist() == [5_010_000, 5_010_000]
    h.image = image
    assert h.read(5_011_000, "2026-07-20T06:00") == "accepted"
    assert [h.charge_e11(0), h.charge_e11(1)] == [10_000 * FIRST_TIER, 1_000 * FIRST_TIER]
    (told,) = h.engine.checkpoint(epoch=1, log_id="x").exceptions
    assert (told.reason, told.meter, told.read_at_s) == ("backdated", "000000000100", h.seconds("2026-07-20T00:00"))
    assert "account a" in told.note
    activate(h, image)  # the same again is no news
    assert h.engine.checkpoint(epoch=1, log_id="x").exceptions == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["move", "multiplier"]),
    since_h=st.integers(1, 600),
    gaps=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9_000)), min_size=2, max_size=12),
    data=st.data(),
)
def test_any_date_before_or_after_any_reading_bills_the_register_difference(
    home: MakeHome, kind: str, since_h: int, gaps: list[tuple[int, int]], data: Any
) -> None:
    when = data.draw(st.integers(0, len(gaps)))
    first = 700_000
    h = home(["a"], value=first)
    since_s, at_s, value = h.opened_s + since_h * HOUR_S, h.opened_s, first
    for number, (hours, step) in enumerate([*gaps, (700, 5)]):  # the last one lies behind every date
        if number == when:
            image = changed(home, kind, since_s, first)
            activate(h, image)
        at_s, value = at_s + hours * HOUR_S, value + step
        assert h.read(value, at_s) in ("accepted", "frozen")
        assert (h.engine.part.channel["value"][h.engine.part.channel["at_s"] == at_s] >= 0).all()
    before, after = (int(used) for used in h.engine.part.ladder["used"]) if kind == "move" else (0, 0)
    if kind == "move":
        assert before >= 0
        assert after >= 0
        assert billed_wh(h) == value - first
    else:  # each Wh of the register once, times one multiplier or the other
        billed = billed_wh(h)
        assert value - first <= billed <= 3 * (value - first)
        assert (billed - (value - first)) % 2 == 0


def test_a_boundary_at_the_very_reading_hands_over_without_a_word(home: MakeHome) -> None:
    h = home(["a"], value=0)
    h.read(10_000, MOVE)
    image = changed(home, "multiplier", h.seconds(MOVE), 0)
    activate(h, image)
    assert h.read(11_000, "2026-07-12T00:00") == "accepted"
    assert billed_wh(h) == 10_000 + 3 * 1_000
    assert "exception.backdated" not in h.engine.counters


def test_a_reading_across_a_new_multiplier_counts_each_part_by_its_own(home: MakeHome) -> None:
    """30 kWh over 15 days, 5 of them before the change from 1 to 3: 10 + 3 x 20."""
    h = home(["a"])
    image = changed(home, "multiplier", h.seconds(MOVE), 0)
    activate(h, image)
    h.read(0, "2026-07-06T00:00")
    assert h.read(30_000, "2026-07-21T00:00") == "accepted"
    assert billed_wh(h) == 10_000 + 3 * 20_000


def test_a_chain_of_dates_behind_the_reading_ends_in_its_last_span(home: MakeHome) -> None:
    h = home(["a"])
    h.read(10_000, "2026-07-20T00:00")
    image = home(["a", "b", "c"]).image
    first, second = h.seconds("2026-07-05T00:00"), h.seconds(MOVE)
    image.channels["until_s"][:2], image.channels["next"][:2] = [first, second], [1, 2]
    image.channels["opening_value"][1:], image.channels["opening_at_s"][1:] = -1, [first, second]
    image.channels["meter"][:], image.list_meter[:] = 100, 100
    image.lists["c1"] = (0, 1)
    activate(h, image)
    h.image = image
    assert h.read(12_000, "2026-07-21T00:00") == "accepted"
    assert [h.charge_e11(i) for i in range(3)] == [10_000 * FIRST_TIER, 0, 2_000 * FIRST_TIER]


def test_tier_bounds_that_change_behind_a_reading_are_told_and_rule_what_follows(home: MakeHome) -> None:
    """Five people since 25 June, told on 20 July: 260 kWh are used; the next 100 are first tier now."""
    plain = ((), (AttributeChange("household_size", 0, 5),))
    h = home(["a", "b"], histories=plain)
    h.read(260_000, "2026-07-20T00:00")
    image = home(["a", "b"], histories=plain).image
    image.ladders["history"][0] = 1
    activate(h, image)
    h.read(360_000, "2026-07-25T00:00")
    assert h.charge_e11() == 360_000 * FIRST_TIER
    (told,) = h.engine.checkpoint(epoch=1, log_id="x").exceptions
    assert (told.reason, told.value) == ("backdated", 260_000)
    assert "bounds" in told.note


def test_bounds_that_change_ahead_of_every_reading_are_no_news(home: MakeHome) -> None:
    h = home(["a"], histories=((),))
    h.read(1_000, "2026-07-20T00:00")
    later = ((AttributeChange("household_size", h.seconds("2026-08-01T00:00"), 5),),)
    again = home(["a"], histories=later)
    activate(h, again.image, again.book)
    assert h.engine.checkpoint(epoch=1, log_id="x").exceptions == []


def test_a_version_that_does_not_continue_the_active_one_changes_nothing(home: MakeHome) -> None:
    h = home(["a", "b"])
    h.read(1_000, "2026-07-02T00:00")
    held = h.engine.part.channel.copy()
    brought, moved = home(["a", "b"]).image, home(["a", "b"]).image
    brought.ladders["opening_used"][1] += 1
    moved.ladders["opening_at_s"][0] -= 86_400
    for image in (home(["a"]).image, two_spans(home).image, brought, moved):
        activate(h, image)
        out = h.engine.checkpoint(epoch=1, log_id="x")
        assert "do not continue" in out.applied[-1].outcome
        assert [e.reason for e in out.exceptions] == ["command"]
        assert np.array_equal(h.engine.part.channel, held)
    assert h.read(2_000, "2026-07-03T00:00") == "accepted"


# -- a vacancy ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("at", "value", "verdict"),
    [
        ("2026-07-13T00:00", 60_000, "late"),  # before b's register: nobody's
        ("2026-07-16T00:00", 100_000, "duplicate"),  # exactly on it
        ("2026-07-16T00:00", 100_001, "conflict"),
        ("2026-07-16T00:15", 100_001, "accepted"),
    ],
)
def test_a_reading_after_the_end_of_a_run_is_judged_by_the_register_after_the_vacancy(
    home: MakeHome, at: str, value: int, verdict: str
) -> None:
    """
    a, one tariff | a, another |  vacant  | b, from its own register
                  5            11         16
    """
    h = home(["a", "x", "b"])
    channels = h.image.channels
    first, last, opened = (h.seconds(f"2026-07-{day}T00:00") for day in ("05", "11", "16"))
    channels["meter"][:], h.image.list_meter[:] = 100, 100
    channels["until_s"][:2], channels["next"][:2] = [first, last], [1, 2]
    channels["opening_value"][1:], channels["opening_at_s"][1:] = [-1, 100_000], [first, opened]
    h.image.lists["c1"] = (0, 1)
    h.engine = h.fresh()
    h.read(30_000, "2026-07-04T00:00")
    assert h.read(value, at) == verdict
    charged = 1 if verdict == "accepted" else 0
    assert [h.charge_e11(i) for i in range(3)] == [30_000 * FIRST_TIER, 0, charged * FIRST_TIER]
