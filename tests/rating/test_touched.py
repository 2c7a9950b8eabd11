"""What moved since the last checkpoint is found, all of it and nothing else, whatever the length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.state import COLD
from rating.touched import Seen, accounts_of, clear, marked


@given(st.lists(st.booleans(), max_size=70))
def test_marked_slots_are_found_in_order_and_cleared_one_by_one(marks):
    of = np.array(marks, np.uint8)
    found = marked(of)
    assert found.dtype == np.int32
    assert found.tolist() == [place for place, mark in enumerate(marks) if mark]
    clear(of, found[1:])
    assert marked(of).tolist() == found[:1].tolist()


@given(st.lists(st.integers(-1, 19), min_size=1, max_size=40), st.sets(st.integers(0, 19)), st.data())
def test_accounts_are_those_that_are_marked_or_own_a_channel(owners, dirty, data):
    cold = np.zeros(len(owners), COLD)
    cold["account"] = owners
    marks = np.zeros(20, np.uint8)
    marks[list(dirty)] = 1
    slots = sorted(data.draw(st.sets(st.integers(0, len(owners) - 1))))
    wanted = dirty | {owners[slot] for slot in slots if owners[slot] >= 0}
    assert accounts_of(np.array(slots, np.int32), cold, marks).tolist() == sorted(wanted)
    assert set(marked(marks).tolist()) == dirty


def test_a_row_is_said_once_and_again_when_any_byte_of_it_changes():
    rng = np.random.default_rng(1)
    rows = np.frombuffer(rng.bytes(300 * COLD.itemsize), COLD).copy()
    all_of_them = np.arange(300, dtype=np.int32)
    seen = Seen()
    assert seen.moved(rows, all_of_them).tolist() == all_of_them.tolist()
    assert not len(seen.moved(rows, all_of_them))
    raw = rows.view(np.uint8).reshape(300, -1)
    for place in range(COLD.itemsize):
        raw[place, place] ^= 1 << (place % 8)
    assert seen.moved(rows, all_of_them[10:]).tolist() == list(range(10, COLD.itemsize))
    assert seen.moved(rows, all_of_them).tolist() == list(range(10))  # what was not asked about is still new
    longer = np.concatenate([rows, np.zeros(5, COLD)])
    assert seen.moved(longer, np.arange(305, dtype=np.int32)).tolist() == [300, 301, 302, 303, 304]


@pytest.mark.parametrize("fields", [("pending_value", "mean_day"), ("estimates", "days"), ("next", "account")])
def test_two_fields_that_change_together_are_no_coincidence(fields):
    rows = np.zeros(1, COLD)
    seen = Seen()
    none = np.zeros(1, np.int32)
    seen.moved(rows, none)
    for step in range(1, 20_000):
        rows[fields[0]], rows[fields[1]] = step, -step if rows[fields[1]].dtype.kind == "i" else step
        assert len(seen.moved(rows, none)) == 1
