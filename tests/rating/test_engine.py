"""The engine over hand-made households: the domain's figures, verdicts, closes, the same bytes on any batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.effects import COMPONENT_NAME, Component, InboxRow, Recovered
from rating.engine import PartitionEngine

MakeHome = Callable[..., Any]
E11_PER_YUAN = 10**11
DAY_S = 86_400


def yuan(e11: int) -> float:
    return e11 / E11_PER_YUAN


@pytest.mark.parametrize(
    ("opened", "end", "kwh", "charge_e11"),
    [
        ("2026-07-01T00:00+08:00", "2026-08-01T00:00", 600, 37_032_125_000_000),
        ("2026-07-01T00:00+08:00", "2026-08-01T00:00", 260, 15_310_587_500_000),
        ("2026-12-01T00:00+08:00", "2027-01-01T00:00", 600, 42_332_125_000_000),
        ("2026-07-01T00:00+08:00", "2026-08-01T00:00", 602, 37_209_898_750_000),
    ],
)
def test_published_figures(home: MakeHome, opened: str, end: str, kwh: int, charge_e11: int) -> None:
    """Domain 1: 600 kWh are 370.32125 in summer and 423.32125 otherwise; 260 kWh are 153.105875."""
    h = home(opened=opened)
    assert h.read(kwh * 1000, end) == "accepted"
    assert h.charge_e11() == charge_e11


def test_bill_is_rounded_once_and_lines_sum_to_it(home: MakeHome) -> None:
    """Domain 9: 602 kWh in summer are 372.10 when the total is rounded once (exact 372.0989875)."""
    h = home(balance_fen=100_000)
    h.read(602_000, "2026-08-01T00:00")
    h.engine.apply([h.tick("2026-08-01T00:05")])
    entries = {e.kind: e for e in h.engine.checkpoint(epoch=1, log_id="x").entries}
    for entry in entries.values():
        entry.check()
    rows = np.concatenate([entries["usage"].rows, entries["bill"].rows])
    assert -int(rows["amount_fen"].sum()) == 37_210
    assert int(h.engine.part.account["balance_fen"][0]) == 100_000 - 37_210
    assert entries["bill"].bills["complete"].tolist() == [1]
    assert int(rows["quantity"].sum()) == 602_000
    names = {COMPONENT_NAME[int(c)] for c in rows["component"]}
    assert names == {"energy", "tier_adder", "rounding"}


def test_each_day_is_posted_with_its_own_energy(home: MakeHome) -> None:
    """
    |  1 July  |  2 July  |  3 July 06:00
    0          10         20            5 kWh, read once at the end: 35 kWh over 54 hours
    """
    h = home()
    h.read(36_000, "2026-07-03T06:00")
    usage = next(e for e in h.engine.checkpoint(epoch=1, log_id="x").entries if e.kind == "usage")
    rows = usage.rows[usage.rows["component"] == Component.ENERGY]
    first = (h.opened_s + 8 * 3600) // DAY_S
    assert rows["day"].tolist() == [first, first + 1]
    assert rows["quantity"].tolist() == [16_000, 16_000]
    assert int(h.engine.part.channel["day_energy"][0]) == 4_000


def test_a_reading_on_the_boundary_completes_the_day_that_it_ends(home: MakeHome) -> None:
    h = home()
    h.read(10_000, "2026-07-02T00:00")
    usage = next(e for e in h.engine.checkpoint(epoch=1, log_id="x").entries if e.kind == "usage")
    assert usage.rows["quantity"].tolist() == [10_000]
    assert int(h.engine.part.channel["day_energy"][0]) == 0


@pytest.mark.parametrize(
    ("steps", "verdicts", "charged_wh"),
    [
        # A register reads 13423.7, then 0 for one reading, then 13423.7: 0 kWh, the zero is an exception.
        ([(13_423_700, 1, 4), (0, 2, 4), (13_423_700, 3, 4)], ["accepted", "reset", "accepted"], 0),
        ([(13_423_700, 1, 4), (13_423_600, 2, 4)], ["accepted", "negative"], 0),
        ([(13_424_000, 1, 4), (13_424_000, 1, 4)], ["accepted", "duplicate"], 300),
        ([(13_424_000, 1, 4), (13_425_000, 1, 4)], ["accepted", "conflict"], 300),
        ([(13_424_000, 2, 4), (13_423_900, 1, 4)], ["accepted", "late"], 300),
        # An estimate, then the actual at the same time: the difference is charged.
        ([(13_424_700, 1, 1), (13_424_200, 1, 4)], ["accepted", "replaced"], 500),
        # An estimate that was too high: the next actual takes back, and is not "negative".
        ([(13_424_700, 1, 1), (13_424_500, 2, 4)], ["accepted", "accepted"], 800),
        # Below the last actual register it is negative all the same.
        ([(13_424_700, 1, 1), (13_423_000, 2, 4)], ["accepted", "negative"], 1_000),
        ([(-5, 1, 4)], ["negative"], 0),
    ],
)
def test_verdicts(home: MakeHome, steps: list[Any], verdicts: list[str], charged_wh: int) -> None:
    h = home(value=13_423_700)
    got = [h.read(value, h.opened_s + hour * 900, quality=q) for value, hour, q in steps]
    assert got == verdicts
    assert h.charge_e11() == charged_wh * 58_886_875


def test_rollover(home: MakeHome) -> None:
    """99,800 then 180 on a 5-digit register is 380 kWh; without known digits it is an exception."""
    h = home(value=99_800_000, digits=5, power_w=20_000)
    assert h.read(180_000, "2026-07-02T00:00") == "rollover"
    assert h.charge_e11() == 260_000 * 58_886_875 + 120_000 * 63_886_875
    assert home(value=99_800_000, power_w=20_000).read(180_000, "2026-07-02T00:00") == "negative"


def test_future_resolution_and_overflow(home: MakeHome) -> None:
    h = home(resolution=10)
    assert h.read(10, "2026-07-01T01:00", received="2026-07-01T00:54:59+08:00") == "future"
    assert h.read(10, "2026-07-01T01:00", received="2026-07-01T00:55:00+08:00") == "accepted"
    assert h.read(25, "2026-07-01T02:00") == "resolution"
    assert h.read(5_000_000_000, "2026-07-01T03:00") == "overflow"
    assert h.charge_e11() == 10 * 58_886_875


def test_implausible_and_the_jump_that_is_confirmed(home: MakeHome) -> None:
    """13.2 kW: 60 vacant days would allow 19,008 kWh; the window is capped at 3 days, 950.4 kWh."""
    h = home(power_w=13_200)
    assert h.read(4_000, "2026-07-01T00:15") == "implausible"
    assert h.read(3_300, "2026-07-01T00:15") == "accepted"
    late = "2026-08-30T00:15"
    assert h.read(3_300 + 951_000, late) == "unconfirmed_jump"
    assert h.charge_e11() == 3_300 * 58_886_875
    assert h.read(3_300 + 951_000, "2026-08-30T00:30", quality=1) == "unconfirmed_jump"
    assert h.read(3_300 + 952_000, "2026-08-30T00:45") == "confirmed"
    assert h.engine.part.channel["value"][0] == 955_300


def test_frozen_is_said_once(home: MakeHome) -> None:
    h = home(value=500)
    verdicts = [h.read(500, h.opened_s + day * DAY_S) for day in range(1, 40)]
    assert verdicts.count("frozen") == 1
    assert verdicts[29] == "frozen"
    assert h.read(600, h.opened_s + 40 * DAY_S) == "accepted"


def test_unknown_meter_and_register_do_not_stop_the_others(home: MakeHome) -> None:
    h = home(["a", "b"])
    frame = h.record([(7, 5, "2026-07-01T01:00", 4), (1, 1_000, "2026-07-01T01:00", 4)])
    h.engine.apply([frame])
    h.engine.apply([h.record([(0, 5, "2026-07-01T01:00", 4)], register=2)])
    out = h.engine.checkpoint(epoch=1, log_id="x")
    assert [e.reason for e in out.exceptions] == ["unknown_meter", "unknown_register"]
    assert h.charge_e11(1) == 1_000 * 58_886_875


def test_a_dead_meter_s_bill_closes_when_the_window_is_over(home: MakeHome) -> None:
    h = home(balance_fen=10_000)
    h.read(1_001, "2026-07-20T10:00")
    h.engine.apply([h.tick("2026-08-01T00:10")])
    assert "bills.by_window" not in h.engine.counters
    h.engine.apply([h.tick("2026-08-04T00:00")])
    assert h.engine.counters["bills.by_window"] == 1
    charge = (1_001 + 597) * 58_886_875  # used, and estimated to the month's end
    assert 10_000 - int(h.engine.part.account["balance_fen"][0]) == (charge + 5 * 10**8) // 10**9
    out = h.engine.checkpoint(epoch=1, log_id="x")
    for entry in out.entries:
        entry.check()
    assert h.read(2_001, "2026-08-05T00:00") == "accepted"  # and the meter may come back


@pytest.mark.parametrize("lagging", [0, 100, 4_095, 4_096, 32_768, 39_999])
def test_bills_that_wait_do_not_stand_in_the_way_of_others(home: MakeHome, lagging: int) -> None:
    """The lowest slots are concentrators that are offline at the month's end: more than one look can hold."""
    h = home([str(i) for i in range(40_000)])
    end = h.seconds("2026-08-01T00:00")
    h.engine.apply([h.record([(i, 1_000, end, 4) for i in range(lagging, 40_000)])])
    h.engine.apply([h.tick(end + 300)])
    assert h.engine.counters.get("bills.complete", 0) == 40_000 - lagging
    h.engine.apply([h.tick(end + 3 * DAY_S)])  # and after the window they close, too
    assert h.engine.counters.get("bills.by_window", 0) == lagging


def test_low_balance_triggers_once_and_rearms(home: MakeHome) -> None:
    h = home(balance_fen=2_500, trigger_fen=2_000)
    h.read(8_000, "2026-07-01T12:00")  # 4.71 yuan: 20.29 left
    assert [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events] == ["alert"]
    h.read(9_000, "2026-07-01T13:00")
    (event,) = h.engine.checkpoint(epoch=1, log_id="x").events
    assert (event.kind, event.arm, event.account, event.balance_fen) == ("low_balance", 1, "a", 1_970)
    h.read(10_000, "2026-07-01T14:00")
    assert h.engine.checkpoint(epoch=1, log_id="x").events == []
    credit = {"account": "a", "amount_fen": 10_000, "gateway": "sim", "order_id": 7}
    h.engine.apply_inbox(InboxRow(9, 0, "credit", "order:7:1", credit))
    out = h.engine.checkpoint(epoch=1, log_id="x")
    assert [(a.inbox_id, a.order_id, a.outcome) for a in out.applied] == [(9, 7, "")]
    assert dict(out.entries[0].postings) == {"customer": 10_000, "clearing:sim": -10_000}
    h.read(180_000, "2026-07-20T14:00")
    assert [(e.kind, e.arm) for e in h.engine.checkpoint(epoch=1, log_id="x").events] == [
        ("alert", 1),
        ("low_balance", 2),
    ]


def test_no_charge_rests_on_an_estimate(home: MakeHome) -> None:
    h = home(balance_fen=2_500, trigger_fen=2_000)
    h.read(20_000, "2026-07-01T12:00", quality=1)
    assert [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events] == ["alert"]
    h.read(20_000, "2026-07-01T12:15")
    assert [e.kind for e in h.engine.checkpoint(epoch=1, log_id="x").events] == ["low_balance"]


def test_rebaseline_charges_nothing(home: MakeHome) -> None:
    h = home(value=5_000_000)
    h.read(5_001_000, "2026-07-01T01:00")
    assert h.read(200, "2026-07-02T02:00") == "reset"
    body = {
        "concentrator": "c1",
        "meter": 100,
        "register": "1.8.0",
        "value": 200,
        "at_s": h.seconds("2026-07-02T02:00"),
    }
    h.engine.apply_inbox(InboxRow(5, 0, "rebaseline", "k", body))
    assert h.read(1_200, "2026-07-02T03:00") == "accepted"
    assert h.charge_e11() == 2_000 * 58_886_875


# -- properties ----------------------------------------------------------------------------------------------
quarter_hours = st.lists(st.integers(0, 5_000), min_size=1, max_size=60)


def _story(h: Any, steps: list[int], seed: int) -> list[Any]:
    """Records of three homes, 8 hours apart, with ticks, duplicates, late and bad readings among them."""
    rng = np.random.default_rng(seed)
    records, value, at = [], 0, h.opened_s
    for step in steps:
        value, at = value + step * 8, at + 28_800
        records.append(h.record([(home, value, at, 4) for home in range(3)]))
        if rng.random() < 0.2:
            records.append(h.record([(0, value, at, 4), (1, max(0, value - 3), at - 900, 4), (2, -1, at + 5, 4)]))
        if rng.random() < 0.3:
            records.append(h.tick(at + 60))
    return records


def _state(engine: PartitionEngine) -> dict[str, bytes]:
    return {name: rows.tobytes() for name, rows in engine.part.arrays().items()}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(quarter_hours, st.integers(0, 2**31), st.data())
def test_same_bytes_on_any_batches_and_after_a_restart(
    home: MakeHome, steps: list[int], seed: int, data: st.DataObject
) -> None:
    """Log + checkpoints replayed give the same state, bit for bit, however the records are cut."""
    h = home(["a", "b", "c"], tariff_ids=("guangzhou-residential", "guangzhou-residential-tou"))
    records = _story(h, steps, seed)
    marks = sorted({data.draw(st.integers(1, len(records))), len(records)})
    start = 0
    for mark in marks:
        h.engine.apply(records[start:mark])
        kept = h.engine.checkpoint(epoch=1, log_id="x")
        start = mark
    again = h.fresh()
    start = 0
    for mark in marks:
        for one in records[start:mark]:
            again.apply([one])
        seen = again.checkpoint(epoch=1, log_id="x")
        start = mark
        if mark == marks[0]:
            arrays = {name: rows.copy() for name, rows in again.part.arrays().items()}
            again = h.fresh(
                Recovered(
                    0,
                    "x",
                    seen.offset,
                    seen.as_of_s,
                    seen.registry_digest,
                    seen.timeline_digest,
                    seen.counters,
                    arrays,
                )
            )
    assert _state(again) == _state(h.engine)
    assert seen.counters == kept.counters


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 900_000), st.integers(1, 40), st.integers(0, 86_399))
def test_splitting_at_the_registers_that_spreading_gives_changes_nothing(
    home: MakeHome, energy: int, days: int, more_s: int
) -> None:
    """A register read at every boundary, where the spreading put it, changes no energy and no money anywhere.

    (At some of the boundaries only it could not hold: whole Wh are floored from the last register read.)
    """
    ids = ("guangzhou-residential-tou",)
    whole, split = home(tariff_ids=ids), home(tariff_ids=ids)
    start_s, total_s = whole.opened_s, days * DAY_S + more_s
    whole.read(energy, start_s + total_s)
    starts = whole.book.seg_start
    for at in starts[(starts > start_s) & (starts < start_s + total_s)].tolist():
        split.read(energy * (at - start_s) // total_s, at)
    split.read(energy, start_s + total_s)
    assert split.charge_e11() == whole.charge_e11()
    assert split.engine.part.ladder["used"][0] == whole.engine.part.ladder["used"][0]
    usage = [h.engine.checkpoint(epoch=1, log_id="x").entries for h in (split, whole)]
    by_day = [{int(r["day"]): int(r["quantity"]) for e in es for r in e.rows if r["component"] == 1} for es in usage]
    assert by_day[0] == by_day[1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(quarter_hours, st.randoms(use_true_random=False))
def test_duplicates_and_reordering_leave_the_register_total_right(home: MakeHome, steps: list[int], rng: Any) -> None:
    h = home()
    rows = []
    value, at = 0, h.opened_s
    for step in steps:
        value, at = value + step, at + 900
        rows += [(value, at)] * rng.choice([1, 1, 2])
    last = rows[-1]
    rng.shuffle(rows)
    for value, at in [*rows, last]:
        h.read(value, at, received="2026-12-31T00:00")
    assert h.engine.part.channel["value"][0] == last[0]
    assert h.engine.part.ladder["used"][0] == last[0]


def test_of_two_registers_of_one_meter_one_is_billed_and_the_other_checked(home: MakeHome) -> None:
    """1.8.0 and the sum of the tariff registers both rise by 20 kWh: 20 are billed, not 40."""
    h = home(["a", "a again"])
    facts = h.image.channels
    facts["bill"][1], facts["account"][1], facts["ladder"][1] = 0, 0, 0
    h.engine = h.fresh()
    h.engine.apply([h.record([(0, 20_000, "2026-07-02T00:00", 4), (1, 20_000, "2026-07-02T00:00", 4)])])
    assert h.charge_e11(0) == 20_000 * 58_886_875
    assert int(h.engine.part.ladder["used"][0]) == 20_000
    assert h.engine.part.channel["value"].tolist() == [20_000, 20_000]
    assert h.read(19_000, "2026-07-02T01:00", home=1) == "negative"  # checked all the same


def test_a_register_difference_is_exact(home: MakeHome) -> None:
    h = home(value=1_000_730, resolution=10)
    h.read(1_260_940, "2026-07-20T00:00")
    assert int(h.engine.part.ladder["used"][0]) == 260_210
    assert h.charge_e11() == 260_210 * 58_886_875 + 210 * 5_000_000  # 0.21 kWh above the first bound


def test_a_dear_price_has_a_lower_bound_of_energy(home: Callable[..., Any]) -> None:
    """44.45 yuan/GJ: 400,000 GJ in one reading are exact, more are an overflow; a product of both would not fit."""
    h = home(["a"], tariff_ids=("beijing-heating-gj",))
    assert h.read(400_000_000, "2026-07-01T01:00") == "accepted"
    assert h.charge_e11() == 400_000_000 * 4_445_000_000
    assert h.read(800_000_001, "2026-07-01T02:00") == "overflow"
    cheap = home(["a"], tariff_ids=("beijing-heating-kwh",))
    assert cheap.read(4_000_000_000, "2026-07-01T01:00") == "accepted"
