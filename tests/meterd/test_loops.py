"""The archive pass prunes the log below what ledger and archive both have, and not a record further."""

import errno
import sqlite3
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from config.clock import ManualClock
from config.settings import ArchiveSettings, LedgerSettings, Paths, Settings
from ingest.log_sqlite import SqliteLog
from ledger.port import LedgerFailed
from ledger.store import LedgerStore
from meterd import loops
from meterd.metrics import Metrics
from rating.readings import Record, RecordKind
from rating.state import ARRAYS

NOW_S = 1_782_000_000


@pytest.mark.parametrize(
    ("cursors", "first"),
    [
        ({}, 1),  # nothing is rated: everything stays, however much is archived
        ({0: (4, NOW_S)}, 5),
        ({0: (10, NOW_S)}, 11),
    ],
)
def test_pruned_below_the_ledger(
    cursors: dict[int, tuple[int, int]], first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, partitions=1, archive=ArchiveSettings(records_per_file=4, keep_records=0))
    paths, clock = Paths(tmp_path), ManualClock(NOW_S)
    log = SqliteLog(paths.log)
    store = LedgerStore.open(
        paths.ledger, settings=LedgerSettings(), clock=clock, log_id=log.log_id, partitions=1, arrays=ARRAYS
    )
    monkeypatch.setattr(loops, "cursors", lambda _connection: cursors)
    try:
        log.append([Record(RecordKind.TICK, 0, NOW_S + n, "", "", 0, b"", "") for n in range(12)])
        archive = loops.ArchivePass(settings, store, log, clock, Metrics(CollectorRegistry(), partitions=1))
        while archive.step():
            pass
        assert log.bounds(0) == (first, 12)
    finally:
        store.close()
        log.close()


def refused(code: int) -> OperationalError:
    """What SQLAlchemy makes of SQLite's refusal of this (extended) code."""
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    return OperationalError("INSERT", {}, error)


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EIO, "input/output error"), False),
        (refused(sqlite3.SQLITE_FULL), True),
        (refused(sqlite3.SQLITE_BUSY | 2 << 8), True),  # SQLITE_BUSY_SNAPSHOT
        (refused(sqlite3.SQLITE_IOERR), False),  # what it left is unknown
        (refused(sqlite3.SQLITE_ERROR), False),  # a statement that is wrong
        (LedgerFailed("a queue that is full", retriable=True), True),
        (LedgerFailed("a write that still runs", retriable=False), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_waiting_helps_against(error: Exception, helps: bool) -> None:
    assert loops.waiting_helps(error) is helps


def test_a_pass_goes_on_when_there_is_room_again() -> None:
    """Two passes on a full disk, then one that is done: the thread lives."""
    done, passes = threading.Event(), iter([OSError(errno.ENOSPC, "no space")] * 2)

    def step() -> int:
        for error in passes:
            raise error
        done.set()
        return 0

    loop = loops.Loop("archive", step, ManualClock(NOW_S), idle_real_s=0.01)
    loop.start()
    assert done.wait(10)
    assert loop.stop(10)
    assert loop.failure is None
