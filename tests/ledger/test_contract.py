"""Contract of `ledger.port.LedgerPort`: what every ledger behind it promises, on whatever database `opener` opens."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import OperationalError

from config.settings import LedgerSettings
from ledger import pages, reads
from ledger.effects import LATE, PAGE_SLOTS, Event, ExceptionRow, Notice
from ledger.port import Fenced, LedgerFailed
from ledger.schema import checkpoint, event, exception, late_page, notice, state_delta, state_page, switch
from ledger.store import LedgerStore
from rating.state import ARRAYS

Make = Callable[..., object]


def count(store: LedgerStore, table: object) -> int:
    with store.reader() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def same(store: LedgerStore, arrays: dict[str, np.ndarray], partition: int = 0) -> bool:
    found = store.recover(partition).arrays
    return all(found[name].tobytes() == rows.tobytes() for name, rows in arrays.items())


def test_a_partition_that_was_never_checkpointed_is_empty(store: LedgerStore) -> None:
    found = store.recover(1)
    assert (found.log_id, found.offset, found.counters) == (None, 0, {})
    assert {name: (len(rows), rows.dtype) for name, rows in found.arrays.items()} == {
        name: (0, dtype) for name, dtype in ARRAYS.items()
    }


@pytest.mark.parametrize("reopen", [False, True])
def test_state_comes_back_as_committed(opener: Make, make_checkpoint: Make, make_arrays: Make, reopen: bool) -> None:
    store = opener()
    epoch = store.take_over("partition:0", "t")
    arrays = make_arrays(3 * PAGE_SLOTS + 7)
    store.commit([make_checkpoint(epoch=epoch, offset=10, arrays=arrays)])
    for offset, slots in ((11, [5, 2000]), (12, list(range(PAGE_SLOTS))), (13, [5, 3 * PAGE_SLOTS + 6])):
        fresh = make_arrays(3 * PAGE_SLOTS + 7, offset)
        for name in arrays:
            arrays[name][slots] = fresh[name][slots]
        store.commit([make_checkpoint(epoch=epoch, offset=offset, arrays=arrays, dirty=slots)])
        if reopen:
            store.close()
            store = opener()
        assert same(store, arrays)
    found = store.recover(0)
    assert (found.offset, found.log_id, found.counters, found.registry_digest) == (13, "log-1", {"accepted": 13}, "r")
    assert count(store, checkpoint) == 4  # appended, never overwritten
    assert count(store, state_delta) > 0


def test_arrays_grow(store: LedgerStore, make_checkpoint: Make, make_arrays: Make) -> None:
    epoch = store.take_over("partition:0", "t")
    for offset, length in enumerate((3, 4, PAGE_SLOTS, PAGE_SLOTS + 1, 5 * PAGE_SLOTS), 1):
        arrays = make_arrays(length)
        store.commit([make_checkpoint(epoch=epoch, offset=offset, arrays=arrays, dirty=range(min(length, 3)))])
        # what lay there before differs from this seedless prefix by nothing but the arrays' own layout
        if offset > 1:
            store.commit([make_checkpoint(epoch=epoch, offset=offset, arrays=arrays, dirty=range(length))])
        assert same(store, arrays)


def test_deltas_are_folded_into_pages_when_they_pass_the_limit(
    opener: Make, make_checkpoint: Make, make_arrays: Make
) -> None:
    store = opener(settings=LedgerSettings(delta_bytes_max=2000))
    epoch = store.take_over("partition:0", "t")
    arrays = make_arrays(2 * PAGE_SLOTS)
    store.commit([make_checkpoint(epoch=epoch, arrays=arrays)])
    seen = []
    for offset in range(2, 40):
        for rows in arrays.values():
            rows[offset] = rows[offset + 40]
        store.commit([make_checkpoint(epoch=epoch, offset=offset, arrays=arrays, dirty=[offset])])
        with store.reader() as connection:
            seen.append(connection.execute(select(func.sum(func.length(state_delta.c.body)))).scalar() or 0)
        assert same(store, arrays)
    assert max(seen) <= 2000 + 4 * (64 + 4)
    assert seen.count(0) >= 2


def test_a_commit_is_for_all_partitions_or_none(store: LedgerStore, make_checkpoint: Make, make_arrays: Make) -> None:
    epochs = [store.take_over(f"partition:{p}", "t") for p in (0, 1)]
    arrays = make_arrays(10)
    both = [make_checkpoint(epoch=epochs[p], partition=p, offset=3, arrays=arrays) for p in (0, 1)]
    both[1].epoch += 1
    with pytest.raises(Fenced):
        store.commit(both)
    assert (count(store, checkpoint), count(store, state_page)) == (0, 0)
    both[1].epoch -= 1
    store.commit(both)
    assert same(store, arrays, 0)
    assert same(store, arrays, 1)


def test_an_old_epoch_writes_nothing(store: LedgerStore, make_checkpoint: Make, make_arrays: Make) -> None:
    old = store.take_over("partition:0", "first")
    store.commit([make_checkpoint(epoch=old, arrays=make_arrays(5))])
    new = store.take_over("partition:0", "second")
    assert new == old + 1
    with pytest.raises(Fenced, match="fenced off") as refused:
        store.commit([make_checkpoint(epoch=old, offset=2, arrays=make_arrays(5, 1), dirty=[1])])
    assert (refused.value.role, refused.value.owner_epoch) == ("partition:0", new)
    assert store.recover(0).offset == 1
    assert same(store, make_arrays(5))
    store.commit([make_checkpoint(epoch=new, offset=2)])
    assert store.recover(0).offset == 2


def test_a_partition_that_nobody_took_over_is_fenced(store: LedgerStore, make_checkpoint: Make) -> None:
    with pytest.raises(Fenced):
        store.commit([make_checkpoint(epoch=0)])


@pytest.mark.parametrize("change", [{"offset": 4}, {"log_id": "another"}])
def test_a_cursor_never_goes_back_nor_to_another_log(store: LedgerStore, make_checkpoint: Make, change: dict) -> None:
    epoch = store.take_over("partition:0", "t")
    store.commit([make_checkpoint(epoch=epoch, offset=5)])
    with pytest.raises(AssertionError, match="does not follow"):
        store.commit([make_checkpoint(**({"epoch": epoch, "offset": 6} | change))])
    assert store.recover(0).offset == 5


def test_after_a_commit_that_failed_the_next_one_is_right(
    store: LedgerStore, make_checkpoint: Make, make_arrays: Make
) -> None:
    epoch = store.take_over("partition:0", "t")
    arrays = make_arrays(2000)
    store.commit([make_checkpoint(epoch=epoch, arrays=arrays)])
    grown = {name: np.concatenate((rows, rows[:5])) for name, rows in arrays.items()}
    late = np.zeros(1, LATE)
    bad = make_checkpoint(epoch=epoch, offset=2, arrays=grown, events=[Event("alert", None, 0, 0, 0)], late=late)
    with pytest.raises(Exception, match="NOT NULL"):
        store.commit([bad])
    assert (count(store, late_page), store.recover(0).offset) == (0, 1)
    store.commit([make_checkpoint(epoch=epoch, offset=2, arrays=grown)])  # grown slots are named nowhere as dirty
    assert same(store, grown)


def test_what_rating_tells_is_written_once_per_key(store: LedgerStore, make_checkpoint: Make) -> None:
    epoch = store.take_over("partition:0", "t")
    odd = ExceptionRow("k1", "future", 1, 100, "conc-1", "s", 7, b"\x00\xff", note="lone \ud800 and \0")
    told = {
        "events": [Event("low_balance", "A1", 1, 100, 1900)],
        "exceptions": [odd, odd],
        "notices": [Notice("n1", "low_balance", "", "A1", {"balance_fen": 1900})],
        "late": np.array([(4, 20_000, 3)], LATE),
    }
    store.commit([make_checkpoint(epoch=epoch, offset=1, **told)])
    store.commit([make_checkpoint(epoch=epoch, offset=2, **told)])
    assert [count(store, t) for t in (event, exception, notice, late_page)] == [1, 1, 1, 2]
    with store.reader() as connection:
        (row,) = reads.exceptions(connection, reads.Wanted("future"))
        assert (row["bytes"], row["repeats"], row["state"]) == (b"\x00\xff", 3, "open")
        assert row["note"] == "lone \\ud800 and \\x00"
        assert reads.exceptions_by_reason(connection) == {"future": 1}
        body, crc = connection.execute(select(late_page.c.body, late_page.c.crc)).first()
    assert np.frombuffer(body, LATE).tolist() == [(4, 20_000, 3)]
    assert pages.checksum(0, "late", 0, 1, body) == crc


def test_counters_are_summed_over_the_newest_checkpoints(store: LedgerStore, make_checkpoint: Make) -> None:
    epochs = [store.take_over(f"partition:{p}", "t") for p in (0, 1)]
    for offset in (1, 2):
        store.commit([make_checkpoint(epoch=epochs[p], partition=p, offset=offset * (p + 1)) for p in (0, 1)])
    with store.reader() as connection:
        assert reads.counters(connection) == {"accepted": 2 + 4}
        assert {p: offset for p, (offset, _) in reads.cursors(connection).items()} == {0: 2, 1: 4}


def test_a_unit_of_work_that_raises_leaves_nothing(store: LedgerStore) -> None:
    def work(connection: object) -> None:
        connection.execute(insert(switch).values(name="x", value=1, reason="", at_s=0))
        raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        store.write(work)
    assert count(store, switch) == 0
    assert store.write(lambda c: c.execute(select(func.count()).select_from(switch)).scalar()) == 0


def test_a_reader_sees_one_moment_and_cannot_write(store: LedgerStore) -> None:
    def add(name: str) -> None:
        store.write(lambda c: c.execute(insert(switch).values(name=name, value=1, reason="", at_s=0)))

    with store.reader() as connection:
        add("after the snapshot")  # a writer does not wait for readers
        assert connection.execute(select(func.count()).select_from(switch)).scalar() == 0
        with pytest.raises(OperationalError, match="readonly"):
            connection.execute(text("DELETE FROM switch"))
    assert count(store, switch) == 1


def test_a_write_that_cannot_start_in_time_never_happens(store: LedgerStore) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        started.set()
        assert go_on.wait(20)

    busy = threading.Thread(target=store.write, args=(slow,))
    busy.start()
    assert started.wait(20)
    add = insert(switch).values(name="late", value=1, reason="", at_s=0)
    with pytest.raises(LedgerFailed, match="did not get to it") as failed:
        store.write(lambda c: c.execute(add), deadline_s=0.05)
    assert failed.value.retriable
    go_on.set()
    busy.join(20)
    store.take_over("autopay", "t")  # queued behind it: had it run, it would have by now
    assert count(store, switch) == 0


def test_a_write_still_running_at_its_deadline_is_said_to_be_unknown(store: LedgerStore) -> None:
    go_on = threading.Event()
    with pytest.raises(LedgerFailed, match="look before repeating") as failed:
        store.write(lambda _: go_on.wait(20), deadline_s=0.05)
    assert not failed.value.retriable
    go_on.set()


def test_a_closed_ledger_says_so(opener: Make) -> None:
    store = opener()
    store.close()
    store.close()
    with pytest.raises(LedgerFailed, match="closed"):
        store.write(lambda _: None)


def test_arrays_may_change_while_their_checkpoint_is_written(
    opener: Make, make_checkpoint: Make, make_arrays: Make
) -> None:
    """What was handed over is committed, not what the engine made of it since; a second one has to wait."""
    store = opener()
    epoch = store.take_over("partition:0", "t")
    arrays = make_arrays(2 * PAGE_SLOTS)
    store.commit([make_checkpoint(epoch=epoch, offset=1, arrays=arrays)])
    blocked = threading.Event()
    holding = threading.Thread(target=lambda: store.write(lambda _: blocked.wait(10)))
    holding.start()
    fresh = make_arrays(2 * PAGE_SLOTS, 2)
    for name in arrays:
        arrays[name][:] = fresh[name]
    handed_over = {name: rows.copy() for name, rows in arrays.items()}
    commit = store.commit_later([make_checkpoint(epoch=epoch, offset=2, arrays=arrays, dirty=range(2 * PAGE_SLOTS))])
    for name in arrays:
        arrays[name][:] = make_arrays(2 * PAGE_SLOTS, 3)[name]
    assert not commit.done
    with pytest.raises(AssertionError, match="one commit at a time"):
        store.commit_later([make_checkpoint(epoch=epoch, offset=3, arrays=arrays)])
    over = threading.Event()
    commit.then(over.set)
    blocked.set()
    holding.join()
    commit.result()
    assert over.wait(10)
    assert same(store, handed_over)
    store.commit([make_checkpoint(epoch=epoch, offset=3, arrays=arrays, dirty=range(2 * PAGE_SLOTS))])
    assert same(store, arrays)


def test_a_full_disk_is_waited_for(opener: Make, make_checkpoint: Make, make_arrays: Make) -> None:
    """The very same transaction once there is room: nothing of the first try is there, nothing of it twice."""
    store = opener()
    epoch = store.take_over("partition:0", "t")
    store.commit([make_checkpoint(epoch=epoch, offset=1, arrays=make_arrays(10))])
    arrays = make_arrays(20 * PAGE_SLOTS, 1)
    pages_now = store.write(lambda c: c.execute(text("PRAGMA page_count")).scalar_one())
    store.write(lambda c: c.execute(text(f"PRAGMA max_page_count = {pages_now + 5}")).scalar_one())
    commit = store.commit_later([make_checkpoint(epoch=epoch, offset=2, arrays=arrays)])
    for _ in range(2):
        with pytest.raises(LedgerFailed) as failed:
            commit.result()
        assert failed.value.retriable
        assert store.recover(0).offset == 1
        commit.again()
    store.write(lambda c: c.execute(text("PRAGMA max_page_count = 1000000")).scalar_one())
    commit.again()
    commit.result()
    assert same(store, arrays)
    assert count(store, checkpoint) == 2
    store.commit([make_checkpoint(epoch=epoch, offset=3, arrays=arrays, dirty=[7])])
    assert same(store, arrays)
