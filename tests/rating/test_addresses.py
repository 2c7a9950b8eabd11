"""Addresses to slots: many records at once give what one dictionary look-up a reading gives, in any order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.wire import decode_frames, encode_readings
from rating.addresses import gather, search
from rating.readings import Readings

METERS = 12
LIST = [(100 + m, register) for m in range(METERS) for register in (1, 3)]  # slots in this order
KNOWN = {pair: slot for slot, pair in enumerate(LIST)}
PAIRS = st.tuples(st.integers(98, 101 + METERS), st.sampled_from([1, 3, 9]))
COLUMNS = (
    np.array([m for m, _ in LIST], np.uint64),
    np.array([r for _, r in LIST], np.uint8),
    np.arange(len(LIST), dtype=np.int32),
)


def expected(pair: tuple[int, int]) -> int:
    return KNOWN.get(pair, -2 if any(m == pair[0] for m, _ in LIST) else -1)


def frame(pairs: list[tuple[int, int]]) -> bytes:
    n = len(pairs)
    return encode_readings(
        Readings(
            np.array([m for m, _ in pairs], np.uint64),
            np.arange(n, dtype=np.int64) * 7,
            np.arange(n, dtype=np.uint32) + 1_700_000_000,
            np.array([r for _, r in pairs], np.uint8),
            np.full(n, 4, np.uint8),
        )
    )


in_order = st.lists(st.integers(0, len(LIST) - 1), max_size=30).map(lambda p: [LIST[i] for i in sorted(p)])


curves = st.lists(st.sampled_from(LIST), max_size=6).map(lambda pairs: [pair for pair in pairs for _ in range(5)])


RECORDS = st.lists(st.one_of(st.lists(PAIRS, max_size=30), in_order, curves), min_size=1, max_size=8)


@given(records=RECORDS, known=st.data())
@settings(max_examples=200, deadline=None)
def test_every_address_finds_its_slot(records: list[list[tuple[int, int]]], known: st.DataObject) -> None:
    frames = decode_frames([frame(pairs) for pairs in records])
    listed = [known.draw(st.booleans()) for _ in records]  # an unknown concentrator has an empty list
    total = sum(map(len, records))
    slots, value = np.full(total, -9, np.int32), np.zeros(total, np.int64)
    read_at_s, quality = np.zeros(total, np.uint32), np.zeros(total, np.uint8)
    lists = np.array([(0, len(LIST)), (0, 0)], np.int64)
    which = np.array([0 if here else 1 for here in listed], np.int64)
    hints = np.array([known.draw(st.integers(0, len(LIST))), 0], np.int64)  # a hint may be wrong, and past the end
    missed = np.zeros(len(records), np.int64)
    given = (frames.data, frames.rows, frames.starts, lists, which, hints)
    gather(*given, *COLUMNS, slots, value, read_at_s, quality, missed)
    order = np.argsort(COLUMNS[0], kind="stable")
    at = 0
    for number, (pairs, here) in enumerate(zip(records, listed, strict=True)):
        part = slice(at, at + len(pairs))
        at += len(pairs)
        if missed[number] and here:
            search(order, *COLUMNS, frames[number].meter, frames[number].register, slots[part])
        assert slots[part].tolist() == [expected(pair) if here else -1 for pair in pairs]
        assert value[part].tolist() == [7 * i for i in range(len(pairs))]
        assert read_at_s[part].tolist() == [1_700_000_000 + i for i in range(len(pairs))]
        assert (quality[part] == 4).all()
        assert frames[number].meter.tolist() == [m for m, _ in pairs]


def test_load_curves_in_list_order_are_never_searched_for() -> None:
    pairs = [pair for pair in LIST for _ in range(96)]
    half = len(pairs) // 2
    frames = decode_frames([frame(pairs[:half]), frame(pairs[half:])])
    slots, missed = np.full(len(pairs), -9, np.int32), np.zeros(2, np.int64)
    others = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.uint32), np.zeros(len(pairs), np.uint8)
    lists, which, hints = np.array([(0, len(LIST))]), np.zeros(2, np.int64), np.zeros(1, np.int64)
    for _ in range(2):  # the next day goes on from where this one ended
        gather(frames.data, frames.rows, frames.starts, lists, which, hints, *COLUMNS, slots, *others, missed)
        assert missed.tolist() == [0, 0]
        assert slots.tolist() == [KNOWN[pair] for pair in pairs]
