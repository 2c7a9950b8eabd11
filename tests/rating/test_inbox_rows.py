"""Inbox rows with hostile, late and out-of-order contents: an outcome and a row of the queue, never a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.wire import decode_frames
from ledger.effects import InboxRow
from tests.rating.test_spans import FIRST_TIER, MOVE, two_spans

MakeHome = Callable[..., Any]
REGISTER = {"concentrator": "c1", "meter": 100, "register": "1.8.0"}


def apply(h: Any, kind: str, body: Any, number: int = 5) -> tuple[str, list[str]]:
    """(outcome, reasons of the queue's rows) of one inbox row."""
    h.engine.apply_inbox(InboxRow(number, 0, kind, f"k{number}", body))
    out = h.engine.checkpoint(epoch=1, log_id="x")
    for entry in out.entries:
        entry.check()
    (applied,) = [a for a in out.applied if a.inbox_id == number]
    return applied.outcome, [e.reason for e in out.exceptions]


CREDIT = {"account": "a", "amount_fen": 100, "gateway": "g"}
BASE = REGISTER | {"value": 0, "at_s": 1}
RELEASE = {"concentrator": "c1", "readings": [[100, 1, 1, 1, 4]]}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("credit", {}),
        ("credit", CREDIT | {"account": None}),
        ("credit", CREDIT | {"account": "nobody"}),
        *(("credit", CREDIT | {"amount_fen": amount}) for amount in (0, -1, 1.5, "100", True, 10**20)),
        ("credit", CREDIT | {"order_id": "seven"}),
        ("credit", CREDIT | {"gateway": 7}),
        ("reversal", CREDIT | {"amount_fen": None}),
        ("rebaseline", REGISTER),
        ("rebaseline", BASE | {"register": "9.9.9"}),
        ("rebaseline", BASE | {"meter": -1}),
        ("rebaseline", BASE | {"meter": 2**64}),
        ("rebaseline", BASE | {"value": -1}),
        ("rebaseline", BASE | {"value": 2**70}),
        ("rebaseline", BASE | {"at_s": 2**40}),
        ("rebaseline", BASE | {"concentrator": "elsewhere"}),
        ("rebaseline", BASE),  # before the last accepted reading
        ("release", {}),
        ("release", RELEASE | {"readings": []}),
        ("release", RELEASE | {"readings": "all"}),
        ("release", RELEASE | {"readings": [[100, 1, 1, 1]]}),
        ("release", RELEASE | {"readings": [[100, 1, 1, 2**63, 4]]}),
        ("release", RELEASE | {"readings": [[100, 1, -1, 1, 4]]}),
        ("release", RELEASE | {"readings": [[2**64, 1, 1, 1, 4]]}),
        ("release", RELEASE | {"readings": [[100, 1, 1, 1, 9]]}),
        ("release", RELEASE | {"concentrator": ["c1"]}),
        ("disconnect", {}),
        ("credit", ["a", 100]),
    ],
)
def test_a_row_that_cannot_be_carried_out_says_so_and_changes_nothing(home: MakeHome, kind: str, body: Any) -> None:
    h = home(balance_fen=10_000)
    h.read(1_000, "2026-07-02T00:00")
    h.engine.checkpoint(epoch=1, log_id="x")
    held = {name: rows.tobytes() for name, rows in h.engine.part.arrays().items()}
    outcome, reasons = apply(h, kind, body)
    assert outcome
    assert reasons == ["command"]
    assert {name: rows.tobytes() for name, rows in h.engine.part.arrays().items()} == held


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
names = (
    "account",
    "amount_fen",
    "gateway",
    "order_id",
    "concentrator",
    "meter",
    "register",
    "value",
    "at_s",
    "readings",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["credit", "reversal", "rebaseline", "release", "supply", "?"]),
    good=st.sampled_from([CREDIT, BASE, RELEASE]),
    bad=st.dictionaries(st.sampled_from(names), json_values, max_size=3),
)
def test_any_body_ends_in_an_outcome(home: MakeHome, kind: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    h = home(balance_fen=10_000)
    apply(h, kind, good | bad)
    assert h.read(1_000, "2026-07-02T00:00") in ("accepted", "negative", "implausible", "overflow", "late")


def test_rows_before_any_registry_are_refused(home: MakeHome) -> None:
    h = home()
    bare = type(h.engine)(0, rating=h.settings, autopay=h.engine._autopay, currency="CNY", decode=decode_frames)
    for number, (kind, body) in enumerate((("credit", CREDIT), ("rebaseline", BASE), ("release", RELEASE))):
        bare.apply_inbox(InboxRow(number, 0, kind, f"k{number}", body))
    assert all(a.outcome for a in bare.checkpoint(epoch=1, log_id="x").applied)


# -- re-baselines --------------------------------------------------------------------------------------------------
def test_a_rebaseline_after_the_meter_s_end_is_refused(home: MakeHome) -> None:
    h = home(value=900_000)
    h.engine.part.channel["until_s"][0] = h.seconds("2026-07-05T00:00")
    h.read(901_000, "2026-07-04T00:00")
    h.engine.apply([h.tick("2026-07-10T00:00")])
    outcome, reasons = apply(h, "rebaseline", REGISTER | {"value": 5, "at_s": h.seconds("2026-07-06T00:00")})
    assert "not_installed" in outcome
    assert reasons == ["command"]


@pytest.mark.parametrize(("at", "values"), [("2026-07-15T00:00", [10_000, 5_000]), (MOVE, [10_000, 5_000])])
def test_a_rebaseline_across_a_move_is_the_new_account_s(home: MakeHome, at: str, values: list[int]) -> None:
    h = two_spans(home)
    h.read(10_000, "2026-07-10T00:00")
    h.engine.apply([h.tick("2026-07-20T00:00")])
    assert apply(h, "rebaseline", REGISTER | {"value": 5_000, "at_s": h.seconds(at)}) == ("", [])
    assert h.engine.part.channel["value"].tolist() == values
    assert h.read(6_000, "2026-07-21T00:00") == "accepted"
    assert [h.charge_e11(0), h.charge_e11(1)] == [10_000 * FIRST_TIER, 1_000 * FIRST_TIER]


# -- estimates -------------------------------------------------------------------------------------------------------
def test_an_actual_of_the_same_value_confirms_an_estimate(home: MakeHome) -> None:
    h = home(value=900_000)
    h.read(905_000, "2026-07-01T02:00", quality=1)
    before = h.charge_e11()
    assert h.read(905_000, "2026-07-01T02:00", quality=4) == "replaced"
    row = h.engine.part.channel[0]
    assert (int(row["quality"]), int(row["estimate_excess"])) == (4, 0)
    assert h.charge_e11() == before
    assert h.read(905_000, "2026-07-01T02:00", quality=4) == "duplicate"
    assert h.read(901_000, "2026-07-01T03:00") == "negative"  # no estimate any more that could be taken back


def test_a_confirmed_estimate_lets_autopay_go_on(home: MakeHome) -> None:
    h = home(trigger_fen=2_000, balance_fen=2_100)
    h.read(50_000, "2026-07-02T00:00", quality=1)
    assert [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events] == ["alert"]
    h.read(50_000, "2026-07-02T00:00", quality=4)
    assert [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events] == ["low_balance"]


@pytest.mark.parametrize("quality", [1, 4])
def test_an_estimate_in_a_span_that_has_ended_silences_nobody(home: MakeHome, quality: int) -> None:
    """The reading that crosses a change of tariff is an estimate; the actual ones after it are what counts."""
    h = home(["a", "x"], trigger_fen=2_000, balance_fen=10_000)
    channels = h.image.channels
    channels["meter"][1], channels["account"][1] = 100, 0
    channels["until_s"][0], channels["next"][0] = h.seconds(MOVE), 1
    channels["opening_value"][1], channels["opening_at_s"][1] = -1, h.seconds(MOVE)
    h.image.account_start[:] = [0, 2, 2]
    h.image.lists["c1"] = (0, 1)
    h.engine = h.fresh()
    h.read(12_000, "2026-07-12T00:00", quality=quality)
    h.read(180_000, "2026-07-20T00:00")
    kinds = [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events]
    assert kinds == ["alert", "low_balance"]


def test_an_estimate_of_a_meter_that_is_gone_silences_nobody(home: MakeHome) -> None:
    h = home(["a", "x"], trigger_fen=2_000, balance_fen=2_500)
    channels = h.image.channels
    channels["account"][1], channels["ladder"][1] = 0, 0
    channels["until_s"][0] = h.seconds(MOVE)
    channels["opening_at_s"][1] = h.seconds(MOVE)
    h.image.account_start[:] = [0, 2, 2]
    h.engine = h.fresh()
    h.read(1_000, "2026-07-10T00:00", quality=1)
    h.read(10_000, "2026-07-12T00:00", home=1)
    assert "low_balance" in [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events]


# -- change-outs -----------------------------------------------------------------------------------------------------
def changed_out(home: MakeHome, final: int) -> tuple[Any, InboxRow, Any]:
    """A home at 5,427.2 kWh, and the version in which its meter is replaced on 5 July at 10:00."""
    h = home(["a"], value=5_427_200)
    h.names[:] = ["a", "x"]
    larger = home(["a", "x"], value=5_427_200).image
    at_s = h.seconds("2026-07-05T10:00")
    larger.channels["until_s"][0], larger.channels["closing_value"][0] = at_s, final
    larger.channels["opening_value"][1], larger.channels["opening_at_s"][1] = 0, at_s
    larger.channels["account"][1] = larger.channels["ladder"][1] = 0
    larger.account_start[:] = [0, 2, 2]
    return h, InboxRow(2, None, "registry", "r2", {"digest": "d2"}), larger


def test_a_refused_final_read_is_a_row_of_the_queue_and_may_be_released(home: MakeHome) -> None:
    h, row, larger = changed_out(home, final=5_400_000)
    h.read(5_428_000, "2026-07-05T09:00")
    h.engine.activate(row, larger, h.book, h.engine.names)
    out = h.engine.checkpoint(epoch=1, log_id="x")
    (told,) = out.exceptions
    assert (told.reason, told.value, told.source) == ("negative", 5_400_000, "c1")
    assert "change-out" in told.note
    assert [a.outcome for a in out.applied if a.inbox_id == 2] == [""]  # the version itself is active
    assert h.engine.counters["change_out.negative"] == 1
    right = [100, 1, h.seconds("2026-07-05T10:00"), 5_428_500, 4]
    h.engine.apply([h.tick("2026-07-06T00:00")])
    assert apply(h, "release", {"concentrator": "c1", "readings": [right]}) == ("", [])
    assert int(h.engine.part.ladder["used"][0]) == 1_300


@pytest.mark.parametrize(("final", "reasons"), [(5_428_000, []), (5_429_000, ["conflict"])])
def test_a_final_read_at_the_time_of_a_reading(home: MakeHome, final: int, reasons: list[str]) -> None:
    h, row, larger = changed_out(home, final)
    h.read(5_428_000, "2026-07-05T10:00")
    h.engine.activate(row, larger, h.book, h.engine.names)
    assert [e.reason for e in h.engine.checkpoint(epoch=1, log_id="x").exceptions] == reasons
    assert int(h.engine.part.ladder["used"][0]) == 800


def test_a_final_read_replaces_an_estimate_of_the_same_moment(home: MakeHome) -> None:
    h, row, larger = changed_out(home, 5_427_900)
    h.read(5_428_000, "2026-07-05T10:00", quality=1)
    h.engine.activate(row, larger, h.book, h.engine.names)
    assert int(h.engine.part.ladder["used"][0]) == 700
    assert h.engine.counters["change_out.replaced"] == 1
