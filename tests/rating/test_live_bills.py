"""Bills with charges, slabs and shared tiers in the daemon's engine: what `meterd rate` says, to the last digit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from config.units import decimal_text
from ledger.effects import Component
from meterd.rate.columns import NAMES, columns_of
from meterd.rate.cycles import rate_columns
from rating.book import TariffBook
from rating.calendar import first_day_of
from rating.tariff.model import Tariff
from rating.tariff.reading import parse_tariff

MINOR = 10**9
ZONE = ZoneInfo("Asia/Shanghai")
HEAD = """id = "made-up"
commodity = "electricity"
unit = "kWh"
currency = "CNY"
timezone = "Asia/Shanghai"
clock = "daylight"
bill_cycle = "calendar_month"
cycle = "calendar_month"
tier_kind = "{kind}"
allocation = "{allocation}"
on_change = "next_cycle"
on_open = "full_bounds"
on_switch = "start_anew"
[rounding]
level = "{level}"
mode = "{mode}"
step = "0.01"
"""
VERSION = """
[[version]]
from = {day}
source = "made up"
dated = "2026"
[[version.period]]
name = "day"
at = ["08:00-22:00"]
prices = ["0.51", "{upper}", "0.9133"]
[[version.period]]
name = "night"
at = "rest"
prices = ["0.2507", "0.31", "{upper}"]
[version.tiers]
per = "cycle"
length = "none"
bounds = [{{upto = ["120", "300"]}}]
"""
CHARGES = """
[[version.charge]]
name = "service"
kind = "standing"
amount = "0.3333"
per = "day"
[[version.charge]]
name = "fund"
kind = "levy"
price = "0.0205"
[[version.charge]]
name = "first-kwh"
kind = "credit"
price = "0.0814"
parts = "pooled"
allowance = [{months = [1, 2, 3, 4, 5, 6, 7], upto = "3.5"}, {months = [8, 9, 10, 11, 12], upto = "2"}]
[[version.charge]]
name = "tax"
kind = "percent"
rate = "13"
base = ["energy", "service", "fund", "first-kwh"]
included = false
step = "0.01"
mode = "half_up"
[[version.charge]]
name = "contained"
kind = "percent"
rate = "6"
base = ["energy"]
included = true
step = "0.001"
mode = "half_even"
[[version.charge]]
name = "least"
kind = "minimum"
amount = "1.7"
per = "day"
base = ["energy", "tax"]
"""
SHAPES = [
    ("block", "chronological"),
    ("slab", "chronological"),
    ("block", "proportional"),
    ("block", "per_period"),
]


def tariff(kind: str, allocation: str, level: str, mode: str, upper: str, second: str) -> Tariff:
    """From 2026 on, and one with other prices, without a minimum, from `second` on."""
    text = HEAD.format(kind=kind, allocation=allocation, level=level, mode=mode)
    text += VERSION.format(day="2026-01-01", upper="0.6") + CHARGES
    text += VERSION.format(day=second, upper=upper) + CHARGES[: CHARGES.index('\n[[version.charge]]\nname = "least"')]
    return parse_tariff("made-up", text, {})


def home_on(home: Callable[..., Any], one: Tariff, names: Sequence[str] = ("a",), **changes: Any) -> Any:
    h = home(names, **changes)
    h.book = TariffBook.compile([one], (one.id,), ((),), [(0, 0)], 2020, 2040)
    h.engine = h.fresh()
    return h


def months(checkpoints: Sequence[Any]) -> dict[int, int]:
    """What was posted by month, in fen that the customer pays."""
    found: dict[int, int] = {}
    for checkpoint in checkpoints:
        for entry in checkpoint.entries:
            entry.check()
            for row in entry.rows:
                if row["component"] not in (Component.CREDIT, Component.OPENING):
                    month = int(np.datetime64(int(row["day"]), "D").astype("datetime64[M]").astype(np.int64))
                    found[month] = found.get(month, 0) - int(row["amount_fen"])
    return found


def billed(one: Tariff, readings: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Totals of `meterd rate` by month."""
    rows = [
        ("p", "1.8.0", datetime.fromtimestamp(at_s, UTC).isoformat(), decimal_text(wh, 3), "kWh", "A")
        for at_s, wh in readings
    ]
    table = pa.table({name: [row[n] for row in rows] for n, name in enumerate(NAMES)})
    rated = rate_columns(columns_of(table, "kWh"), one, {})
    assert {one.reason for one in rated.refusals} <= {"frozen"}  # weeks without use are told of; the reading counts
    start = [datetime.fromtimestamp(cycle.from_s, ZONE) for cycle in rated.cycles]
    return {
        (at.year - 1970) * 12 + at.month - 1: cycle.total_minor for at, cycle in zip(start, rated.cycles, strict=True)
    }


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(["bill", "line"]),
    st.sampled_from(["half_up", "half_even", "down", "up", "floor", "ceiling"]),
    st.sampled_from(["0.6", "0.7125"]),
    st.sampled_from(["2026-08-01", "2026-08-13", "2026-09-02"]),
    st.lists(st.tuples(st.integers(1, 60 * 24 * 40), st.integers(0, 90_000), st.booleans()), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
@example(("block", "chronological"), "bill", "half_up", "0.6", "2026-08-01", [(43_200, 0, False)], random.Random(1))
def test_a_month_is_billed_as_meterd_rate_says(
    home: Callable[..., Any],
    shape: tuple[str, str],
    level: str,
    mode: str,
    upper: str,
    second: str,
    steps: list[tuple[int, int, bool]],
    cuts: Any,
) -> None:
    """Readings minutes or weeks apart, ticks or none between them, checkpoints anywhere."""
    one = tariff(*shape, level, mode, upper, second)
    h = home_on(home, one)
    at, value = datetime(2026, 7, 1, tzinfo=ZONE), 0
    readings, checkpoints = [(int(at.timestamp()), 0)], []
    for minutes, wh, ticked in steps:
        at, value = at + timedelta(minutes=minutes), value + wh
        readings.append((int(at.timestamp()), value))
        h.engine.apply([h.record([(0, value, readings[-1][0], 4)])])
        if ticked:
            h.engine.apply([h.tick(readings[-1][0])])
        if cuts.random() < 0.4:
            checkpoints.append(h.engine.checkpoint(epoch=1, log_id="l"))
    # One more at a month's end, so that every bill is complete, and a tick that closes all of them.
    end = datetime(at.year + (at.month == 12), at.month % 12 + 1, 1, tzinfo=ZONE)
    readings.append((int(end.timestamp()), value + 1))
    h.engine.apply([h.record([(0, value + 1, readings[-1][0], 4)]), h.tick(readings[-1][0])])
    checkpoints.append(h.engine.checkpoint(epoch=1, log_id="l"))
    wanted = billed(one, readings)
    found = {month: fen for month, fen in months(checkpoints).items() if fen}
    assert found == {month: fen for month, fen in wanted.items() if fen}
    row = h.engine.part.account[0]
    assert row["balance_fen"] == -sum(wanted.values())
    assert (row["carry_energy_e11"], row["carry_adder_e11"], row["pending_e11"]) == (0, 0, 0)
    assert not h.engine.part.cell["wh"].any()
    assert not h.engine.part.cell["energy_e11"].any()


def live_fen(h: Any) -> int:
    row, channel = h.engine.part.account[0], h.engine.part.channel[0]
    accrued = sum(int(channel[name]) for name in ("accrued_energy_e11", "accrued_adder_e11"))
    accrued += sum(int(row[name]) for name in ("carry_energy_e11", "carry_adder_e11", "pending_e11"))
    return int(row["balance_fen"]) + -accrued // MINOR


@pytest.mark.parametrize("shape", SHAPES)
def test_the_live_balance_holds_what_the_bill_will_say(home: Callable[..., Any], shape: tuple[str, str]) -> None:
    """A midnight's live balance is what `meterd rate` bills up to it (to a fen: live is rounded down)."""
    one = tariff(*shape, "bill", "half_up", "0.7125", "2026-07-16")
    h = home_on(home, one, balance_fen=100_000)
    at, readings = h.opened_s, [(h.opened_s, 0)]
    for day in range(1, 31):
        at += 86_400
        readings.append((at, readings[-1][1] + 9_000 + 411 * day))
        h.engine.apply([h.record([(0, readings[-1][1], at, 4)]), h.tick(at)])
        h.engine.checkpoint(epoch=1, log_id="l")
        (due_fen,) = billed(one, readings).values()
        assert 100_000 - due_fen - live_fen(h) in (0, 1)


def test_a_standing_charge_falls_every_day_without_a_reading(home: Callable[..., Any]) -> None:
    one = tariff("block", "chronological", "bill", "half_up", "0.6", "2027-01-01")
    h = home_on(home, one, balance_fen=3_050)
    h.engine.checkpoint(epoch=1, log_id="l")
    told, kinds = [], []
    for day in range(1, 4):
        h.engine.apply([h.tick(h.opened_s + 86_400 * day)])
        checkpoint = h.engine.checkpoint(epoch=1, log_id="l")
        told.append(live_fen(h))
        kinds += [event.kind for event in checkpoint.events]
    # 0.3333 a day and 13 % of it, to a fen; the minimum of 1.7 a day is for energy and tax: 2.0333 on day one.
    assert told == [3050 - 204, 3050 - 407, 3050 - 610]
    assert kinds == ["alert"], "at or below 30.00 from the first day on, and told once"


def test_a_bill_waits_and_the_next_cycle_counts_already(home: Callable[..., Any]) -> None:
    """A register that lags keeps July open; August's use and days are pending with it, and both come out right."""
    one = tariff("block", "proportional", "bill", "half_up", "0.7125", "2026-08-13")
    h = home_on(home, one)
    july = [(h.opened_s, 0), (h.seconds("2026-07-30T12:00"), 150_000)]
    august = [(h.seconds("2026-08-02T07:00"), 171_000), (h.seconds("2026-09-01T00:00"), 500_000)]
    h.engine.apply([h.record([(0, july[1][1], july[1][0], 4)]), h.tick("2026-08-01T12:00")])
    assert h.engine.part.account["cycle"][0] == 56 * 12 + 6, "it waits"
    h.engine.apply([h.record([(0, august[0][1], august[0][0], 4)]), h.tick(august[0][0])])
    first = h.engine.checkpoint(epoch=1, log_id="l")
    h.engine.apply([h.record([(0, august[1][1], august[1][0], 4)]), h.tick(august[1][0])])
    second = h.engine.checkpoint(epoch=1, log_id="l")
    wanted = billed(one, [*july, *august])
    assert months([first, second]) == {month: fen for month, fen in wanted.items() if fen}


def test_a_register_that_was_silent_for_months(home: Callable[..., Any]) -> None:
    """Its sheet gets more cells before it is rated; every month of the silence has its own bill."""
    one = tariff("slab", "chronological", "line", "half_up", "0.7125", "2026-08-13")
    h = home_on(home, one)
    readings = [(h.opened_s, 0), (h.seconds("2027-03-01T00:00"), 2_411_037)]
    h.engine.apply([h.record([(0, readings[1][1], readings[1][0], 4)])])
    assert h.engine.part.sheet["cycles"][0] == 16
    h.engine.apply([h.tick(readings[1][0])])
    assert months([h.engine.checkpoint(epoch=1, log_id="l")]) == billed(one, readings)


def test_names_are_in_the_rows_of_a_bill(home: Callable[..., Any]) -> None:
    one = tariff("block", "chronological", "bill", "half_up", "0.7125", "2026-07-16")
    h = home_on(home, one)
    h.engine.apply([h.record([(0, 200_000, h.seconds("2026-08-01T00:00"), 4)]), h.tick("2026-08-01T00:00")])
    (bill,) = [entry for entry in h.engine.checkpoint(epoch=1, log_id="l").entries if entry.kind == "bill"]
    told = [
        (one.version[row["version"]].charge[row["place"]].name, int(row["day"]) - first_day_of(56 * 12 + 6) + 1)
        for row in bill.rows
        if row["component"] != Component.ROUNDING
    ]
    assert told == [
        *((name, 15) for name in ("service", "fund", "first-kwh", "tax", "contained")),
        *((name, 31) for name in ("service", "fund", "first-kwh", "tax", "contained")),
    ]
