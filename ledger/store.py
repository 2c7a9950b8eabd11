"""I/O: the ledger on SQLite: lock, migrations, recovery, the one commit for all partitions, ownership.

Start-up: take the data directory's lock, migrate, compare identity (log, partitions), verify every cursor.
Whatever does not check refuses the start with what to do about it; nothing is repaired by guessing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, insert, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from config.clock import Clock
from config.settings import LedgerSettings
from config.steps import reach
from ledger import commit as rows
from ledger import recover as recovery
from ledger.database import full, migrate, reader_engine, snapshot, waiting_helps, writer_engine
from ledger.effects import PAGE_SLOTS, STATE_FORMAT, PartitionCheckpoint, Recovered
from ledger.port import MAKE_ROOM, LedgerFailed, LogBounds, StartRefused
from ledger.schema import meta, owner
from ledger.writer import Writer, WriterMaker, outcome

T = TypeVar("T")


def take_lock(path: Path) -> int:
    """Exclusive lock on the data directory for the life of the returned descriptor; `StartRefused` if taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 40).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StartRefused(
            f"A daemon runs on {path.parent} already (process {holder})",
            "Use it through the command line, or stop it first",
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


class Commit:
    """A checkpoint on its way to the disk (`ledger.port.CommitPort`); one thread asks for its end."""

    def __init__(self, begin: Callable[[], Future[int]], deadline_s: float, durable: Callable[[], None]) -> None:
        self.future = begin()
        self._begin, self._deadline_s, self._durable = begin, deadline_s, durable

    @property
    def done(self) -> bool:
        """Whether `result` will not wait."""
        return self.future.done()

    def then(self, call: Callable[[], None]) -> None:
        """Call from the writer's thread when it is over; at once when it is already."""
        self.future.add_done_callback(lambda _: call())

    def again(self) -> None:
        """After a retriable failure: queue the same transaction once more."""
        self.future = self._begin()

    def result(self) -> None:
        """Return when it is durable; raise what it raised, having written nothing.

        `LedgerFailed` with `retriable` when the disk is full or busy: `again` then writes the same.
        """
        try:
            credited = outcome(self.future, self._deadline_s)
        except OperationalError as error:
            if not waiting_helps(error):
                raise
            raise LedgerFailed(f"the ledger refuses a checkpoint: {error.orig}", retriable=True) from error
        self._durable()
        reach("checkpoint.committed")
        if credited:
            reach("order.credited")


class LedgerStore:
    """The `ledger.port.LedgerPort` on SQLite. Made by `open`."""

    def __init__(
        self,
        engine: Engine,
        readers: Engine,
        *,
        settings: LedgerSettings,
        clock: Clock,
        partitions: int,
        lock: int | None,
        writer: WriterMaker = Writer,
    ) -> None:
        self._engine, self._readers, self._lock = engine, readers, lock
        self._settings, self._clock, self._partitions = settings, clock, partitions
        self._dtypes: recovery.Dtypes = {}
        self._standing: dict[int, rows.Standing] = {}  # as of the last durable commit; else read again
        self._running: Commit | None = None
        self._writer = writer(engine, queue_max=settings.queue_max, deadline_s=settings.write_deadline_real_s)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        settings: LedgerSettings,
        clock: Clock,
        log_id: str,
        partitions: int,
        arrays: recovery.Dtypes,
        lock: int | None = None,
        writer: WriterMaker = Writer,
    ) -> LedgerStore:
        """Open or create; `arrays`: the state's dtypes by name (`rating.state.ARRAYS`); raises `StartRefused`.

        `lock`: what `take_lock` gave the caller, who had something else to open first; the store keeps it.
        `writer`: a thread, or what a simulated world has in its place.
        """
        descriptor = take_lock(path.with_name("meterd.lock")) if lock is None else lock
        engine = writer_engine(path)
        try:
            migrate(engine)
            with engine.connect() as connection, connection.begin():
                _identity(connection, log_id=log_id, partitions=partitions)
            store = cls(
                engine,
                reader_engine(path),
                settings=settings,
                clock=clock,
                partitions=partitions,
                lock=descriptor,
                writer=writer,
            )
        except BaseException as error:
            engine.dispose()
            os.close(descriptor)
            if isinstance(error, DatabaseError):  # torn below our checksums, if the disk is not full
                advice = MAKE_ROOM if full(error) else recovery.RESTORE
                raise StartRefused(f"The ledger cannot be opened: {error.orig}", advice) from error
            raise
        store._dtypes = dict(arrays)
        return store

    def recover(self, partition: int) -> Recovered:
        """State as of the newest checkpoint, on a snapshot of its own, so that partitions load side by side."""
        try:
            with self.reader() as connection:
                return recovery.recover(connection, partition, self._dtypes)
        except DatabaseError as error:  # torn below our checksums
            raise StartRefused(f"Partition {partition} cannot be read: {error.orig}", recovery.RESTORE) from error

    def check_log(self, log: LogBounds) -> None:
        """`StartRefused` when the log is another one, ends before a cursor, or begins after it."""
        try:
            with self.reader() as connection:
                cursors = [recovery.newest(connection, partition) for partition in range(self._partitions)]
        except DatabaseError as error:
            raise StartRefused(f"The cursors cannot be read: {error.orig}", recovery.RESTORE) from error
        for row in cursors:
            if row is not None:
                _check_cursor(row, log)

    def commit(self, checkpoints: Sequence[PartitionCheckpoint]) -> None:
        """One transaction for all of them, durable on return."""
        self.commit_later(checkpoints).result()

    def commit_later(self, checkpoints: Sequence[PartitionCheckpoint]) -> Commit:
        """Copy what changed and queue the transaction; the arrays may change again when this returns."""
        assert len({c.partition for c in checkpoints}) == len(checkpoints), "one checkpoint a partition"
        if self._running is not None and not self._running.future.done():
            raise AssertionError("one commit at a time: the next is planned on what the one before left")
        planned = [
            # Out until the transaction is durable: after a failure, also in COMMIT, it is read from the database.
            rows.planned(c, self._taken_standing(c.partition), delta_bytes_max=self._settings.delta_bytes_max)
            for c in checkpoints
        ]
        self._running = Commit(
            lambda: self._writer.later(lambda connection: self._write_all(connection, planned)),
            self._settings.write_deadline_real_s,
            lambda: self._committed(planned),
        )
        return self._running

    def _taken_standing(self, partition: int) -> rows.Standing:
        known = self._standing.pop(partition, None)
        if known is not None:
            return known
        with self.reader() as connection:
            return recovery.standing(connection, partition)

    def _write_all(self, connection: Connection, planned: Sequence[rows.Planned]) -> int:
        now_s = self._clock.now_s()
        credited = rows.write_checkpoints(connection, planned, partitions=self._partitions, now_s=now_s)
        reach("checkpoint.before_commit")
        return credited

    def _committed(self, planned: Sequence[rows.Planned]) -> None:
        self._standing.update({one.asked.partition: one.after for one in planned})

    def write(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> T:
        """Any unit of work as a transaction in the writer's thread; raises what it raises, having written nothing."""
        return self._writer.do(work, deadline_s=deadline_s)

    def reader(self) -> contextlib.AbstractContextManager[Connection]:
        """One moment of the ledger, for reading."""
        return snapshot(self._readers)

    def take_over(self, role: str, holder: str) -> int:
        """Raise the epoch of `role` and return it."""

        def work(connection: Connection) -> int:
            self._standing.clear()  # what another owner wrote meanwhile is only in the database
            raised = update(owner).where(owner.c.role == role).values(epoch=owner.c.epoch + 1, holder=holder)
            epoch = connection.execute(raised.returning(owner.c.epoch)).scalar()
            if epoch is None:
                epoch = 1
                connection.execute(insert(owner).values(role=role, epoch=epoch, holder=holder))
            return int(epoch)

        return self.write(work)

    def close(self) -> None:
        """Finish what is queued, close the file, let the lock go."""
        try:
            self._writer.close()
        finally:
            self._readers.dispose()
            self._engine.dispose()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


def _check_cursor(row: Row[Any], log: LogBounds) -> None:
    """`StartRefused` when `log` is not the one, whole, that the cursor stands in."""
    where = f"Partition {row.partition} was rated up to record {row.offset} of log {row.log_id}"
    both = "Put the log back that belongs to this ledger, or restore both from one backup"
    if row.log_id != log.log_id:
        raise StartRefused(f"{where}, but this log is {log.log_id}", "Put the log back that belongs to this ledger")
    first, last = log.bounds(row.partition)
    if last < row.offset:
        raise StartRefused(f"{where}, but the log ends at {last}: acknowledged records are missing", both)
    if last > row.offset and first > row.offset + 1:
        raise StartRefused(f"{where}, but the log begins at {first}: records between were pruned unrated", both)


def _identity(connection: Connection, *, log_id: str, partitions: int) -> None:
    """Write who this ledger is at its first opening; refuse another log, count or format ever after."""
    expected = {
        "log_id": log_id,
        "partitions": str(partitions),
        "page_slots": str(PAGE_SLOTS),
        "state_format": str(STATE_FORMAT),
    }
    advice = {
        "log_id": "Put the log back that belongs to this ledger, or restore both from one backup",
        "partitions": "Set `partitions` back: a metering point never changes its partition",
        "page_slots": "Start the meterd that wrote it",
        "state_format": "Start the meterd that wrote it",
    }
    found = {row.name: row.value for row in connection.execute(select(meta))}
    for name, value in expected.items():
        if name not in found:
            connection.execute(insert(meta).values(name=name, value=value))
        elif found[name] != value:
            raise StartRefused(f"This ledger was made with {name} = {found[name]}, not {value}", advice[name])
