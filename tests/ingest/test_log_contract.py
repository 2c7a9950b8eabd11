"""One contract for every reading log: the SQLite one, the one with a tail in memory, and the fake."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from contextlib import closing

import pytest

from ingest.log_memory import MemoryLog
from ingest.log_sqlite import SqliteLog
from ingest.sequences import Mark
from ingest.tail import TailedLog
from rating.readings import LogFailed, RecordKind


class Sqlite:
    def __init__(self, folder):
        self.path = folder / "log.db"

    def open(self, **options):
        return SqliteLog(self.path, **options)


class Tailed(Sqlite):
    def open(self, **options):
        return TailedLog(SqliteLog(self.path, **options), 2000)  # a few records only, so that both ways are used


class Memory:
    def __init__(self, folder):
        self.log = MemoryLog()

    def open(self):
        return self.log


@pytest.fixture(params=[Sqlite, Tailed, Memory], ids=["sqlite", "tailed", "memory"])
def home(request, tmp_path):
    return request.param(tmp_path)


def test_offsets_count_from_one_in_each_partition(home, record):
    log = home.open()
    stored = log.append([record(0), record(1), record(0)])
    assert [(s.record.partition, s.offset) for s in stored] == [(0, 1), (1, 1), (0, 2)]
    assert log.append([record(0)])[0].offset == 3
    assert (log.bounds(0), log.bounds(1), log.bounds(2)) == ((1, 3), (1, 1), (0, 0))
    log.close()


def test_records_come_back_as_they_were(home, record):
    log = home.open()
    records = [
        record(3, b"\x00\xff" * 50),
        record(3, b"", kind=RecordKind.TICK, source="", stream="", sequence=-1),
        record(3, b"{", kind=RecordKind.REJECT, detail="malformed: 空", sequence=2**53 - 1),
    ]
    log.append(records)
    assert [s.record for s in log.read(3, 0, 10)] == records
    assert [s.offset for s in log.read(3, 1, 10)] == [2, 3]
    assert [s.offset for s in log.read(3, 0, 2)] == [1, 2]
    assert log.read(3, 3, 10) == []
    assert log.read(4, 0, 10) == []
    log.close()


@pytest.mark.parametrize("after", [0, 1, 5, 38, 39, 40])
def test_reading_on_is_contiguous_from_anywhere(home, record, after):
    log = home.open()
    for n in range(8):
        log.append([record(n % 2, bytes([n, i]) * 30) for i in range(10)])
    assert [s.offset for s in log.read(1, after, 100)] == list(range(after + 1, 41))
    log.close()


def test_everything_is_there_after_opening_again(home, record):
    log = home.open()
    identity = log.log_id
    log.append([record(p, sequence=n) for n in range(1, 200) for p in (0, 7)])
    log.close()
    again = home.open()
    assert again.log_id == identity
    assert again.bounds(7) == (1, 199)
    assert [s.record.sequence for s in again.read(7, 0, 1000)] == list(range(1, 200))
    assert again.append([record(7)])[0].offset == 200
    again.close()


def test_offsets_go_on_after_everything_was_pruned(home, record):
    log = home.open()
    log.append([record(0) for _ in range(5)])
    log.prune(0, 3)
    assert log.bounds(0) == (3, 5)
    assert [s.offset for s in log.read(0, 0, 10)] == [3, 4, 5]
    log.prune(0, 99)
    assert log.bounds(0) == (6, 5)
    log.close()
    again = home.open()
    assert again.bounds(0) == (6, 5)
    assert again.append([record(0)])[0].offset == 6
    assert again.bounds(0) == (6, 6)
    again.close()


def test_pruning_much_keeps_exactly_the_rest(home, record):
    log = home.open()
    log.append([record(0, sequence=n) for n in range(1, 1001)])
    log.prune(0, 778)
    log.prune(0, 5)  # nothing left to do
    assert log.bounds(0) == (778, 1000)
    assert [s.offset for s in log.read(0, 0, 2000)] == list(range(778, 1001))
    log.close()


def test_pruning_one_partition_leaves_the_others(home, record):
    log = home.open()
    log.append([record(p) for p in (0, 1, 2) for _ in range(3)])
    log.prune(1, 3)
    assert [log.bounds(p) for p in (0, 1, 2)] == [(1, 3), (3, 3), (1, 3)]
    log.close()


def test_marks_are_kept_with_the_records(home, record):
    log = home.open()
    first, second = Mark("C1", "a", "0", 7, ((9, 12), (20, 20)), 3, 5), Mark("C1", "b", "0", 1)
    log.append([record()], [first, second])
    newer = Mark("C1", "b", "0", 2)
    log.append([], [newer])
    log.prune(0, 99)
    log.close()
    again = home.open()
    assert sorted(again.marks(), key=lambda m: m.stream) == [first, newer]
    again.close()


def test_reading_goes_on_while_another_thread_appends(home, record):
    log = home.open()
    failures: list[LogFailed] = []

    def write() -> None:
        try:
            for n in range(50):
                log.append([record(0, bytes(100), sequence=4 * n + i) for i in range(4)])
        except LogFailed as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    while writer.is_alive() or len(seen) < 200:
        seen += [s.offset for s in log.read(0, seen[-1] if seen else 0, 7)]
        assert not failures
    writer.join(10)
    assert seen == list(range(1, 201))
    log.close()


# -- what only the real one can do ------------------------------------------------------------------------------


def test_a_full_log_takes_nothing_and_says_so(tmp_path, record):
    log = SqliteLog(tmp_path / "log.db", size_max_bytes=200_000)
    four = [record(0, bytes(10_000)) for _ in range(4)]
    while log.size_bytes < 200_000:
        log.append(four)
    with pytest.raises(LogFailed, match="full") as failed:
        log.append(four, [Mark("C1", "a", "0", 1)])
    assert log.marks() == []
    assert failed.value.retriable
    last = log.bounds(0)[1]
    assert [s.offset for s in log.read(0, 0, 1000)] == list(range(1, last + 1))
    log.prune(0, last)  # room again
    assert log.append([record(0)])[0].offset == last + 1
    log.close()


def test_all_of_a_group_or_none(tmp_path, record):
    log = SqliteLog(tmp_path / "log.db")
    log.append([record(0)])
    with closing(sqlite3.connect(tmp_path / "log.db")) as other:
        other.execute("CREATE TRIGGER no BEFORE INSERT ON mark_journal BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(LogFailed):  # the records are in the transaction already when the marks fail
        log.append([record(0), record(0)], [Mark("C1", "a", "0", 9)])
    assert (log.bounds(0), log.marks()) == ((1, 1), [])
    assert log.append([record(0)])[0].offset == 2
    log.close()


def test_a_disk_that_cannot_be_read_is_told_as_the_log_s_failure(tmp_path, record):
    log = SqliteLog(tmp_path / "log.db")
    log.append([record(0)])
    with closing(sqlite3.connect(tmp_path / "log.db")) as other:
        other.execute("ALTER TABLE record RENAME TO elsewhere")
    with pytest.raises(LogFailed, match="no such table"):
        log.bounds(0)
    with pytest.raises(LogFailed, match="no such table"):
        log.read(0, 0, 10)
    log.close()


def test_a_locked_file_is_a_reason_to_wait(tmp_path, record):
    log = SqliteLog(tmp_path / "log.db", busy_timeout_real_s=0.05)
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogFailed) as failed:
        log.append([record(0)])
    assert failed.value.retriable
    other.execute("ROLLBACK")
    other.close()
    assert log.append([record(0)])[0].offset == 1
    log.close()


@pytest.mark.parametrize("column", ["body", "source", "sequence", "detail", "received_at_s"])
def test_a_damaged_record_is_noticed(tmp_path, record, column):
    log = SqliteLog(tmp_path / "log.db")
    log.append([record(0, b"abc"), record(0, b"def")])
    log.close()
    other = sqlite3.connect(tmp_path / "log.db")
    value = b"abd" if column == "body" else 5 if column in ("sequence", "received_at_s") else "x"
    other.execute(f"UPDATE record SET {column} = ? WHERE id = 1", (value,))
    other.commit()
    other.close()
    log = SqliteLog(tmp_path / "log.db")
    with pytest.raises(LogFailed, match="damaged") as failed:
        log.read(0, 0, 10)
    assert not failed.value.retriable
    assert [s.record.body for s in log.read(0, 1, 10)] == [b"def"]
    log.close()


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "log.db").write_bytes(b"this is no database, but it is long enough to be one" * 100)
    with pytest.raises(LogFailed) as failed:
        SqliteLog(tmp_path / "log.db")
    assert not failed.value.retriable


def test_the_log_syncs_every_commit(tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    pragmas = [log._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]
    log.close()


def test_the_tail_serves_what_is_new_and_keeps_its_limit(tmp_path, record):
    log = TailedLog(SqliteLog(tmp_path / "log.db"), 10_000)
    for n in range(100):
        log.append([record(n % 3, bytes(300))])
    assert [s.offset for s in log.read(0, 33, 10)] == [34]
    assert (log.served, log.missed) == (1, 0)
    assert [s.offset for s in log.read(0, 0, 100)] == list(range(1, 35))
    assert (log.served, log.missed) == (1, 1)
    assert sum(len(s.record.body) + 200 for tail in log._tails.values() for s in tail) <= 10_000
    for n in range(3):
        log.prune(n, 99)
    assert not log._order
    assert log._left_bytes == 10_000
    log.close()


def test_a_read_at_the_end_of_the_tail_does_not_walk_over_what_was_read_before(tmp_path, record):
    """Rating asks for what is newest; a tail of small records is hundreds of thousands long."""

    class NoWalk(deque):
        def __iter__(self):
            raise AssertionError("every read would take as long as the tail is")

    log = TailedLog(SqliteLog(tmp_path / "log.db"), 1 << 20)
    log.append([record(0, bytes(8)) for _ in range(500)])
    log._tails[0] = NoWalk(log._tails[0])
    assert [s.offset for s in log.read(0, 490, 4)] == [491, 492, 493, 494]
    assert [s.offset for s in log.read(0, 497, 10)] == [498, 499, 500]
    assert log.read(0, 500, 10) == []
    log.close()
