"""Local days of registers that lag are closed by ticks; the live balance does not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ledger.effects import Component, Recovered

MakeHome = Callable[..., Any]


def posted(h: Any) -> list[tuple[int, int]]:
    """(Wh, fen) of each usage row of component energy since the last checkpoint."""
    entries = h.engine.checkpoint(epoch=1, log_id="x").entries
    for entry in entries:
        entry.check()
    rows = [row for e in entries if e.kind == "usage" for row in e.rows if row["component"] == Component.ENERGY]
    return [(int(row["quantity"]), -int(row["amount_fen"])) for row in rows]


def test_a_dead_meter_s_last_day_is_posted_once_its_window_is_over(home: MakeHome) -> None:
    """
    |  1 July     |  2 July  |  3 July  |  4 July  |
        x 5 kWh                                    ^ 3 days after 2 July 00:00
    """
    h = home()
    h.read(5_000, "2026-07-01T12:00")
    before = h.charge_e11()
    h.engine.apply([h.tick("2026-07-04T23:59:59")])
    assert posted(h) == []
    h.engine.apply([h.tick("2026-07-05T00:00")])
    assert posted(h) == [(5_000, 294)]  # 2.9443...
    assert h.charge_e11() == before
    row = h.engine.part.channel[0]
    assert [int(row["day_energy"]), int(row["value"])] == [0, 5_000]
    assert int(row["accrued_energy_e11"]) == 5_000 * 58_886_875 % 10**9
    for day in range(6, 30):
        h.engine.apply([h.tick(f"2026-07-{day:02}T00:01")])
    assert posted(h) == []


def test_a_day_that_goes_on_after_its_close_gives_the_rest_when_it_ends(home: MakeHome) -> None:
    h = home()
    h.read(5_000, "2026-07-01T12:00")
    h.engine.apply([h.tick("2026-07-05T00:00")])
    h.read(6_000, "2026-07-01T13:00", received="2026-07-05T00:10")
    h.engine.apply([h.tick("2026-07-05T00:20")])
    h.read(8_000, "2026-07-02T00:00", received="2026-07-05T00:30")
    assert posted(h) == [(5_000, 294), (3_000, 177)]  # 8 kWh are 4.7109...: 471 fen
    assert h.charge_e11() == 8_000 * 58_886_875


def test_who_does_not_lag_is_left_alone(home: MakeHome) -> None:
    h = home(["a", "b"])
    h.engine.apply([h.record([(0, 5_000, "2026-07-01T12:00", 4), (1, 9_000, "2026-07-04T12:00", 4)])])
    posted(h)
    h.engine.apply([h.tick("2026-07-05T00:00")])
    assert posted(h) == [(5_000, 294)]


def test_many_lag_and_the_close_rows_are_few(home: MakeHome) -> None:
    names = [f"a{i}" for i in range(300)]
    h = home(names)
    h.engine._closes = h.engine._closes[:64]
    h.engine.apply([h.record([(i, 5_000, "2026-07-01T12:00", 4)]) for i in range(300)])
    h.engine.apply([h.tick("2026-07-05T00:00")])
    assert posted(h) == [(5_000, 294)] * 300


@pytest.mark.parametrize(
    "ticks", [["2026-07-05T00:00"], ["2026-07-04T00:00", "2026-07-05T00:00", "2026-07-05T00:01"]]
)
def test_a_restart_between_the_ticks_changes_no_byte(home: MakeHome, ticks: list[str]) -> None:
    """A day goes on after its close; an engine that starts anew must not close it a second time."""
    h = home()
    first = [h.record([(0, 5_000, "2026-07-01T12:00", 4)]), *(h.tick(at) for at in ticks)]
    late = h.record([(0, 6_000, "2026-07-01T13:00", 4)], received="2026-07-05T00:10")
    last = [late, h.tick("2026-07-05T00:20")]
    h.engine.apply(first)
    seen = h.engine.checkpoint(epoch=1, log_id="x")
    arrays = {name: rows.copy() for name, rows in h.engine.part.arrays().items()}
    again = h.fresh(
        Recovered(0, "x", seen.offset, seen.as_of_s, seen.registry_digest, "", dict(seen.counters), arrays)
    )
    for engine in (h.engine, again):
        engine.apply(last)
    assert again.counters == h.engine.counters
    assert all(np.array_equal(again.part.arrays()[n], rows) for n, rows in h.engine.part.arrays().items())
