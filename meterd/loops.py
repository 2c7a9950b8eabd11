"""I/O: threads that repeat one bounded pass: archive, autopay, notices. A pass that fails stops its thread, loudly.

A failing dependency (a gateway that is down, a full disk) is the pass's own business; what reaches this loop is
retried only when it says `retriable`, with a pause; anything else is a broken invariant and ends the thread, and
the daemon with it.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import insert, select
from sqlalchemy.exc import DatabaseError

from config.clock import Clock
from config.settings import Paths, Settings
from config.steps import reach
from ingest.archive import ArchiveFile, Archiver
from ledger import database
from ledger.database import reading
from ledger.port import LedgerPort
from ledger.reads import cursors
from ledger.schema import archive_file
from meterd.metrics import Metrics
from rating.readings import ReadingLog

PAUSES_REAL_S: Final = (0.1, 0.5, 1.0, 5.0)


def waiting_helps(error: Exception) -> bool:
    """Whether the same pass may go well later: the error says so, or the disk is full or busy."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, DatabaseError):
        return database.waiting_helps(error)
    return bool(getattr(error, "retriable", False))


class Loop:
    """One thread: `step` returns how much it did; 0 means: wait for `wake` or `idle_real_s`."""

    def __init__(self, name: str, step: Callable[[], int], clock: Clock, *, idle_real_s: float) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.beat_real_s = clock.monotonic_s()
        self._step, self._clock, self._idle_real_s = step, clock, idle_real_s
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, deadline_real_s: float) -> bool:
        """Let the pass in hand end. False when the deadline was not enough."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(deadline_real_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        log = structlog.get_logger(self.name)
        failed = 0
        try:
            while not self._stopping.is_set():
                self.beat_real_s = self._clock.monotonic_s()
                try:
                    done = self._step()
                    failed = 0
                except Exception as error:
                    if not waiting_helps(error):
                        raise
                    pause = PAUSES_REAL_S[min(failed, len(PAUSES_REAL_S) - 1)]
                    failed += 1
                    log.warning("pass failed, trying again", error=str(error), again_in_real_s=pause)
                    self._stopping.wait(pause)
                    continue
                if done == 0:
                    self._wake.wait(self._idle_real_s)
                    self._wake.clear()
        except BaseException as error:
            self.failure = error
            log.exception("stopped")
            if not isinstance(error, Exception):
                raise


class ArchivePass:
    """Writes the files that are due, names them in the ledger, prunes the log below min(ledger, archive)."""

    def __init__(
        self, settings: Settings, store: LedgerPort, log: ReadingLog, clock: Clock, metrics: Metrics
    ) -> None:
        self._store, self._log, self._clock, self._metrics = store, log, clock, metrics
        self._paths = Paths(settings.data_dir)
        self._archiver = Archiver(log, self._paths.archive, settings.archive)
        self._ends = dict.fromkeys(range(settings.partitions), 0)
        with reading(self._paths.ledger) as connection:
            rows = connection.execute(select(archive_file)).all()
        for row in rows:
            self._ends[row.partition] = max(self._ends[row.partition], row.last_offset)
        self._archiver.sweep(row.path for row in rows)

    def step(self, *, force: bool = False) -> int:
        """One pass over the partitions; `force` writes short files, too (at the end of a demo, before an audit)."""
        now_s, done = self._clock.now_s(), 0
        for partition, end in self._ends.items():
            file = self._archiver.write_due(partition, end, now_s, force=force)
            if file is not None:
                self._name(file)
                self._ends[partition] = file.last_offset
                done += 1
            _, last = self._log.bounds(partition)
            self._metrics.archive_lag.labels(str(partition)).set(last - self._ends[partition])
        if done:
            self._prune()
        return done

    def _name(self, file: ArchiveFile) -> None:
        row = {name: getattr(file, name) for name in file.__slots__}
        self._store.write(lambda connection: connection.execute(insert(archive_file).values(**row)))
        reach("archive.named")

    def _prune(self) -> None:
        with self._store.reader() as connection:
            rated = cursors(connection)
        for partition, end in self._ends.items():
            ledger_offset, _as_of_s = rated.get(partition, (0, 0))
            self._archiver.prune(partition, ledger_offset, end)
