"""Sheets: energy by bill cycle, bin and tier; which cells they have, also when readings or tariffs reach further."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from config.units import INT64_MAX
from rating.book import TariffBook
from rating.sheets import longer_runs, run_of
from rating.spread import tally
from rating.state import CELL, SHEET, ChannelFlag
from rating.tariff.fields import TIERS_MAX
from rating.walk import ladder

BOUNDS = (260_000, 600_000) + (INT64_MAX,) * (TIERS_MAX - 2)
JULY = 56 * 12 + 6
E11 = 10**11


@settings(deadline=None)  # the first one compiles
@given(st.integers(0, 10**6), st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=5))
def test_pieces_are_those_of_the_ladder(used: int, pieces: list[int]) -> None:
    cells, dirty = np.zeros(TIERS_MAX, CELL), np.zeros(TIERS_MAX, np.uint8)
    price = np.arange(1, TIERS_MAX + 1)
    told = [0] * TIERS_MAX
    at = used
    for piece in pieces:
        tally(cells, dirty, 0, at, piece, np.array(BOUNDS, np.int64), price)
        for tier, wh in ladder(at, piece, BOUNDS):
            told[tier] += wh
        at += piece
    assert cells["wh"].tolist() == told
    assert cells["energy_e11"].tolist() == [wh * (tier + 1) for tier, wh in enumerate(told)]
    assert all(dirty[cells["wh"] != 0])


def test_a_sheet_is_what_was_charged(home: Callable[..., Any], shipped: dict[str, Any]) -> None:
    ids = ("guangzhou-residential-tou", "guangzhou-residential")
    h = home(["a", "b"], tariff_ids=ids)
    h.book = TariffBook.compile(list(shipped.values()), ids, ((),), [(0, 0), (1, 0)], 2020, 2040, tally_all=True)
    h.engine = h.fresh()
    part = h.engine.part
    for number, at in enumerate(["2026-07-11T09:30", "2026-07-31T23:00", "2026-08-02T12:00", "2026-09-30T23:00"]):
        for who in (0, 1):
            assert h.read(400_000 * (number + 1) + who, at, home=who) == "accepted"
    for who in (0, 1):
        layout, counted = h.book.layouts[who], 0
        for cycle in range(JULY, JULY + 3):
            first = int(run_of(part.sheet[who : who + 1], cycle)[0]) + 1
            for number, one in enumerate(layout.cycle(cycle).bins):
                cells = part.cell[first + number * layout.tiers : first + (number + 1) * layout.tiers]
                assert cells["energy_e11"].tolist() == [
                    wh * price for wh, price in zip(cells["wh"].tolist(), one.price_e8, strict=False)
                ]
                counted += int(cells["energy_e11"].sum())
        assert counted == h.charge_e11(who)
    assert {one.period for one in h.book.layouts[0].cycle(JULY).bins} == {"peak", "valley", "flat"}
    first = int(run_of(part.sheet[1:2], JULY)[0]) + 1
    assert part.cell[first : first + 2]["wh"].tolist() == [260_000, 340_000], "bounds of July"


def test_nobody_has_a_sheet_without_need(home: Callable[..., Any]) -> None:
    h = home(["a"])
    assert h.read(100_000, "2026-07-11T09:30") == "accepted"
    assert len(h.engine.part.sheet) == 0
    assert not h.engine.part.channel["flags"] & ChannelFlag.TALLY


def test_longer_runs_do_not_depend_on_batches() -> None:
    """A sheet that grows twice in one batch, or in two: the same cells in the same places."""

    def sheets() -> tuple[Any, Any]:
        sheet, cell = np.zeros(2, SHEET), np.zeros(12, CELL)
        sheet["first"], sheet["width"], sheet["cycles"], sheet["cycle"] = [0, 6], 3, 2, JULY
        cell["wh"] = np.arange(12) + 1
        return sheet, cell

    one, two = sheets(), sheets()
    first = longer_runs(*one, [(1, 4), (0, 4), (1, 8)])[0]
    second = longer_runs(two[0], longer_runs(two[0], longer_runs(*two, [(1, 4)])[0], [(0, 4)])[0], [(1, 8)])[0]
    assert (one[0] == two[0]).all()
    assert (first == second).all()
    for place, values in ((0, [1, 2, 3]), (1, [7, 8, 9])):
        row = one[0][place : place + 1]
        even = JULY if JULY % 2 == 0 else JULY + 1
        start = int(run_of(row, even)[0])
        assert first["wh"][start : start + 3].tolist() == values
    assert first["wh"].sum() == 78
