"""Energy by bin and tier: the pieces of a ladder, and nothing for channels that are not tallied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from config.units import INT64_MAX
from rating.spread import tally
from rating.state import ChannelFlag
from rating.tally import bins_of
from rating.tariff.fields import TIERS_MAX
from rating.walk import ladder

BOUNDS = (260_000, 600_000) + (INT64_MAX,) * (TIERS_MAX - 2)


@settings(deadline=None)  # the first one compiles
@given(st.integers(0, 10**6), st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=5))
def test_pieces_are_those_of_the_ladder(used: int, pieces: list[int]) -> None:
    counts = np.zeros(TIERS_MAX, np.int64)
    told = [0] * TIERS_MAX
    at = used
    for piece in pieces:
        tally(counts, at, piece, np.array(BOUNDS, np.int64))
        for tier, wh in ladder(at, piece, BOUNDS):
            told[tier] += wh
        at += piece
    assert counts.tolist() == told
    assert counts.sum() == sum(pieces)


def test_a_tally_is_what_was_charged(home: Callable[..., Any]) -> None:
    h = home(["a", "b"], tariff_ids=("guangzhou-residential-tou", "guangzhou-residential"))
    part = h.engine.part
    bins = bins_of(h.book, h.opened_s, h.seconds("2026-10-01T00:00"))
    h.engine.part.book = bins.book
    part.tally = bins.counters(2)
    part.channel["flags"] |= np.uint8(ChannelFlag.TALLY)
    for number, at in enumerate(["2026-07-11T09:30", "2026-07-31T23:00", "2026-08-02T12:00", "2026-09-30T23:00"]):
        for who in (0, 1):
            assert h.read(400_000 * (number + 1) + who, at, home=who) == "accepted"
    for who, ladder_bins in enumerate(bins.of):
        counts = part.tally[who]
        assert not counts[bins.size].any(), "nothing lies outside the time"
        exact = sum(
            int(wh) * one.price_e8[tier]
            for one, row in zip(ladder_bins, counts, strict=False)
            for tier, wh in enumerate(row)
        )
        assert exact == h.charge_e11(who)
    assert {one.period for one in bins.of[0]} == {"peak", "valley", "flat"}
    july = [n for n, one in enumerate(bins.of[1]) if bins.stretches[1][one.stretch].cycle == 56 * 12 + 6]
    assert part.tally[1][july].sum(axis=0)[:2].tolist() == [260_000, 340_000], "bounds of July"


def test_nothing_is_tallied_without_the_flag(home: Callable[..., Any]) -> None:
    h = home(["a"])
    bins = bins_of(h.book, h.opened_s, h.seconds("2026-08-01T00:00"))
    h.engine.part.book = replace(bins.book)
    h.engine.part.tally = bins.counters(1)
    assert h.read(100_000, "2026-07-11T09:30") == "accepted"
    assert not h.engine.part.tally.any()
