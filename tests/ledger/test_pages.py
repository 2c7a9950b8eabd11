"""Properties of pages and deltas: whatever is stored in whatever way comes back, and damage never does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import pages
from ledger.effects import PAGE_SLOTS, STATE_FORMAT, StateChange

ROW = np.dtype([("a", np.int64), ("b", np.int32), ("c", np.uint8, (4,))])
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1500),  # rows added
        st.lists(st.integers(0, 2**31), max_size=40),  # rows changed
        st.integers(0, 4096),  # and a run of them: many neighbours make pages the shorter way
        st.booleans(),  # refresh
    ),
    min_size=1,
    max_size=6,
)


class Stored:
    """The two tables as dicts."""

    def __init__(self) -> None:
        self.pages: dict[int, tuple[int, bytes, int]] = {}
        self.deltas: list[tuple[int, int, bytes, int]] = []
        self.backlog = pages.Backlog()

    def commit(self, version: int, change: StateChange, *, refresh: bool) -> pages.Plan:
        plan = pages.plan("x", change, self.backlog, refresh=refresh)
        if plan.refresh:
            self.deltas.clear()
        for blob in plan.blobs:
            crc = pages.checksum(3, "x", blob.page, version, blob.body)
            if blob.page == pages.DELTA:
                self.deltas.append((version, blob.count, blob.body, crc))
            else:
                self.pages[blob.page] = (version, blob.body, crc)
        self.backlog = plan.after
        return plan

    def load(self, slots: int) -> np.ndarray:
        loader = pages.Loader(3, "x", ROW, slots)
        for page, (version, body, crc) in self.pages.items():
            loader.page(page, version, STATE_FORMAT, body, crc)
        for version, count, body, crc in self.deltas:
            loader.delta(version, STATE_FORMAT, count, body, crc)
        return loader.finish()


@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_what_is_stored_comes_back_whatever_the_way(steps: list, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stored, rows = Stored(), np.zeros(0, ROW)
    for version, (grown, scattered, run, refresh) in enumerate(steps, 1):
        rows = np.concatenate((rows, np.frombuffer(rng.bytes(grown * ROW.itemsize), ROW)))
        if not len(rows):
            continue
        dirty = np.unique([s % len(rows) for s in scattered] + list(range(min(run, len(rows)))))
        dirty = dirty.astype(np.int32)
        rows[dirty] = np.frombuffer(rng.bytes(len(dirty) * ROW.itemsize), ROW)
        stored.commit(version, StateChange(rows, dirty), refresh=refresh)
        assert stored.load(len(rows)).tobytes() == rows.tobytes()
        assert stored.backlog.deltas == len(stored.deltas)
        assert stored.backlog.delta_bytes == sum(len(body) for _, _, body, _ in stored.deltas)


def _full(count: int) -> tuple[Stored, np.ndarray]:
    stored, rows = Stored(), np.zeros(count, ROW)
    rows["a"] = np.arange(count)
    stored.commit(1, StateChange(rows, np.zeros(0, np.int32)), refresh=False)
    return stored, rows


def test_few_slots_go_as_a_delta_and_neighbours_as_pages() -> None:
    stored, rows = _full(5 * PAGE_SLOTS)
    scattered = np.arange(0, 5 * PAGE_SLOTS, 100, dtype=np.int32)
    plan = stored.commit(2, StateChange(rows, scattered), refresh=False)
    assert [blob.page for blob in plan.blobs] == [pages.DELTA]
    plan = stored.commit(3, StateChange(rows, np.arange(PAGE_SLOTS, 2 * PAGE_SLOTS, dtype=np.int32)), refresh=False)
    assert [blob.page for blob in plan.blobs] == [1]


def test_refresh_writes_every_page_that_deltas_touched_and_leaves_none() -> None:
    stored, rows = _full(5 * PAGE_SLOTS)
    for version, slot in ((2, 0), (3, 4 * PAGE_SLOTS)):
        rows["a"][slot] = -version
        stored.commit(version, StateChange(rows, np.array([slot], np.int32)), refresh=False)
    assert len(stored.deltas) == 2
    rows["a"][2 * PAGE_SLOTS] = -4
    plan = stored.commit(4, StateChange(rows, np.array([2 * PAGE_SLOTS], np.int32)), refresh=True)
    assert [blob.page for blob in plan.blobs] == [0, 2, 4]
    assert (stored.deltas, stored.backlog.deltas, stored.backlog.pages) == ([], 0, set())
    assert stored.load(len(rows)).tobytes() == rows.tobytes()


def test_a_page_newer_than_a_delta_is_not_overwritten_by_it() -> None:
    stored, rows = _full(2 * PAGE_SLOTS)
    rows["a"][5] = -1
    stored.commit(2, StateChange(rows, np.array([5], np.int32)), refresh=False)
    rows["a"][5] = -2
    stored.commit(3, StateChange(rows, np.arange(PAGE_SLOTS, dtype=np.int32)), refresh=False)
    assert len(stored.deltas) == 1
    assert stored.load(len(rows))["a"][5] == -2


@pytest.mark.parametrize("where", [0, 1, 999])
def test_one_flipped_bit_is_noticed(where: int) -> None:
    stored, rows = _full(100)
    version, body, crc = stored.pages[0]
    torn = bytearray(body)
    torn[where] ^= 1
    stored.pages[0] = (version, bytes(torn), crc)
    with pytest.raises(pages.Damaged, match="partition 3, x, page 0"):
        stored.load(len(rows))


def test_a_torn_page_a_missing_page_and_a_page_in_the_wrong_place_are_noticed() -> None:
    stored, rows = _full(2 * PAGE_SLOTS)
    whole = dict(stored.pages)
    version, body, crc = whole[0]
    stored.pages = whole | {0: (version, body[:4096], crc)}
    with pytest.raises(pages.Damaged, match="checksum"):
        stored.load(len(rows))
    stored.pages = {0: whole[0]}
    with pytest.raises(pages.Damaged, match="1024 slots are missing"):
        stored.load(len(rows))
    stored.pages = {0: whole[1], 1: whole[0]}
    with pytest.raises(pages.Damaged, match="checksum"):
        stored.load(len(rows))


def test_an_unknown_format_is_refused() -> None:
    body = np.zeros(3, ROW).tobytes()
    crc = pages.checksum(3, "x", 0, 1, body, STATE_FORMAT + 1)
    with pytest.raises(pages.Damaged, match=f"format {STATE_FORMAT + 1} is not known"):
        pages.Loader(3, "x", ROW, 3).page(0, 1, STATE_FORMAT + 1, body, crc)


@pytest.mark.parametrize("dirty", [[2, 1], [1, 1], [-1], [100]])
def test_dirty_slots_that_are_no_set_of_slots_stop_the_writer(dirty: list[int]) -> None:
    with pytest.raises(AssertionError, match="dirty slots"):
        pages.touched(StateChange(np.zeros(100, ROW), np.array(dirty, np.int32)), 100)


def test_an_array_never_shrinks() -> None:
    with pytest.raises(AssertionError, match="shrank"):
        pages.touched(StateChange(np.zeros(9, ROW), np.zeros(0, np.int32)), 10)
