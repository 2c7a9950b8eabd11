"""Service spans: a move, a change of tariff, a vacancy, a change-out; each register is a chain of channels.

account a           | account b
---------x----------|--------x------>   one reading before, one after the move: split at the boundary
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ledger.effects import InboxRow

MakeHome = Callable[..., Any]
MOVE = "2026-07-11T00:00"
FIRST_TIER = 58_886_875


def two_spans(home: MakeHome, *, opening: int = -1, opening_at: str = MOVE) -> Any:
    """Accounts a and b behind one register (address 100): a until the move, b from `opening_at` on."""
    h = home(["a", "b"])
    channels = h.image.channels
    channels["meter"][1] = channels["meter"][0]
    channels["until_s"][0], channels["next"][0] = h.seconds(MOVE), 1
    channels["opening_value"][1], channels["opening_at_s"][1] = opening, h.seconds(opening_at)
    h.image.ladders["opening_at_s"][1] = h.seconds(opening_at)
    h.image.list_meter[:] = channels["meter"]
    h.image.lists["c1"] = (0, 1)
    h.engine = h.fresh()
    return h


def test_a_reading_across_a_move_is_split_at_it(home: MakeHome) -> None:
    h = two_spans(home)
    assert h.read(10_000, "2026-07-06T00:00") == "accepted"
    assert h.read(40_000, "2026-07-21T00:00") == "accepted"  # 30 kWh over 15 days, 5 of them before the move
    assert h.charge_e11(0) == 20_000 * FIRST_TIER
    assert h.charge_e11(1) == 20_000 * FIRST_TIER
    assert h.read(41_000, "2026-07-22T00:00") == "accepted"
    assert h.charge_e11(0) == 20_000 * FIRST_TIER
    assert h.charge_e11(1) == 21_000 * FIRST_TIER


def test_a_reading_on_the_day_of_the_move_ends_one_and_opens_the_other(home: MakeHome) -> None:
    h = two_spans(home)
    h.read(10_000, MOVE)
    assert h.engine.part.channel["value"].tolist() == [10_000, 10_000]
    h.read(13_000, "2026-07-12T00:00")
    assert [h.charge_e11(0), h.charge_e11(1)] == [10_000 * FIRST_TIER, 3_000 * FIRST_TIER]
    assert h.read(9_000, "2026-07-08T00:00") == "late"


def test_what_flows_in_a_vacancy_is_nobody_s(home: MakeHome) -> None:
    h = two_spans(home, opening=100_000, opening_at="2026-07-16T00:00")
    h.read(30_000, "2026-07-10T00:00")
    h.read(110_000, "2026-07-20T00:00")
    assert [h.charge_e11(0), h.charge_e11(1)] == [30_000 * FIRST_TIER, 10_000 * FIRST_TIER]


def test_a_change_out_ends_with_the_old_final_read(home: MakeHome) -> None:
    """Domain 3: old final 5,430.0, new initial 0.0, previous 5,427.2, now 2.5: 5.3 kWh."""
    h = home(["a"], value=5_427_200)
    change = h.seconds("2026-07-05T10:00")
    larger = home(["a", "x"], value=5_427_200).image
    larger.channels["until_s"][0], larger.channels["closing_value"][0] = change, 5_430_000
    larger.channels["opening_value"][1], larger.channels["opening_at_s"][1] = 0, change
    larger.channels["account"][1] = larger.channels["ladder"][1] = 0
    larger.account_start[:] = [0, 2, 2]
    names = h.engine.names
    assert h.read(2_500, "2026-07-05T12:00", home=1) == "unknown_meter"  # no record of the change yet: no charge
    row = InboxRow(2, None, "registry", "r2", {"digest": "d2"})
    h.engine.activate(row, larger, h.book, names)
    assert h.read(2_500, "2026-07-05T12:15", home=1) == "accepted"
    part = h.engine.part
    used = int(part.ladder["used"][0])
    assert used == 5_300
    assert h.read(5_431_000, "2026-07-05T13:00") == "not_installed"
    assert h.engine.counters["change_out.accepted"] == 1


def test_the_bill_takes_what_a_span_inside_the_cycle_left(home: MakeHome) -> None:
    """A tariff change inside the month: the ended channel's remainder is part of the bill's rounding."""
    h = home(["a", "x"])
    channels = h.image.channels
    channels["meter"][1] = channels["meter"][0]
    channels["until_s"][0], channels["next"][0] = h.seconds(MOVE), 1
    channels["opening_value"][1], channels["opening_at_s"][1] = -1, h.seconds(MOVE)
    channels["account"][1] = 0
    h.image.account_start[:] = [0, 2, 2]
    h.image.lists["c1"] = (0, 1)
    h.engine = h.fresh()
    h.read(30_001, "2026-08-01T00:00")
    h.engine.apply([h.tick("2026-08-01T01:00")])
    part = h.engine.part
    assert not np.any(part.channel["accrued_energy_e11"])
    assert int(part.account["carry_energy_e11"][0]) == 0
    exact = 30_001 * FIRST_TIER
    assert -int(part.account["balance_fen"][0]) == (exact + 5 * 10**8) // 10**9
