"""I/O: the world's disk: the real reading log and the ledger's real transactions, failing and dying on demand.

`Death` is the end of the simulated process. It is no Exception, so nothing of the system catches it.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, Engine, Insert
from sqlalchemy.exc import OperationalError

from ingest.log_sqlite import SqliteLog
from ingest.sequences import Mark
from ledger.port import LedgerFailed
from ledger.schema import inbox
from rating.readings import LogFailed, Record, StoredRecord
from simulators.world.weather import Weather

T = TypeVar("T")
FULL_TIMES: Final = 4  # at most so many writes in a row are refused for want of room
MARK_GENERATION: Final = 200  # so that marks are folded in every history


class Death(BaseException):
    """The simulated process ends here."""


class Disk:
    """What every life of the daemon writes to. `calm` ends all faults."""

    def __init__(self, dice: random.Random, weather: Weather, counts: Counter[str]) -> None:
        self.dice, self.weather, self.counts = dice, weather, counts
        self.writers: list[InlineWriter] = []
        self.inbox_id_left: int | None = None  # of a transaction that began before another and ends after it

    def log(self, path: Path) -> WorldLog:
        return WorldLog(path, self)

    def writer(self, engine: Engine, *, queue_max: int, deadline_s: float) -> InlineWriter:
        """A `ledger.writer.WriterMaker`."""
        del queue_max, deadline_s
        self.writers.append(InlineWriter(engine, self))
        return self.writers[-1]

    def happens(self, rate: float, what: str) -> bool:
        if self.dice.random() >= rate:
            return False
        self.counts[what] += 1
        return True


class FailingConnection:
    """A connection to the log's file, whose commits and whose file may fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.commit_fails = self.durable = self.broken = False  # `durable`: a commit that fails was one all the same

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.commit_fails:
            self.commit_fails = False
            if self.durable:
                self._connection.execute(sql)
            raise sqlite3.OperationalError("disk I/O error")
        if self.broken and not self.commit_fails:
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class WorldLog(SqliteLog):
    """The real log, which refuses for a while or for good, or dies before or after it was durable."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path, mark_generation=MARK_GENERATION)
        self._disk, self._full = disk, 0
        self._writer.execute("PRAGMA synchronous=OFF")
        self._file = FailingConnection(self._writer)
        self._writer = cast(sqlite3.Connection, self._file)

    def append(self, records: Sequence[Record], marks: Sequence[Mark] = ()) -> list[StoredRecord]:
        disk, weather = self._disk, self._disk.weather
        if self._full == 0 and disk.happens(weather.log_full, "disk:log full"):
            self._full = disk.dice.randint(1, FULL_TIMES)
        if self._full:
            self._full -= 1
            raise LogFailed("the simulated disk is full", retriable=True)
        if disk.happens(weather.log_sync, "disk:log sync failed"):
            self._file.commit_fails = True
        if disk.happens(weather.log_broken, "disk:log broken"):
            self._file.commit_fails = self._file.broken = True
            self._file.durable = disk.dice.random() < 0.5
        torn = disk.happens(weather.log_torn, "disk:log torn")
        if torn and disk.dice.random() < 0.5:
            raise Death("log, before it was durable")
        stored = super().append(records, marks)
        if torn:
            raise Death("log, after it was durable")
        return stored


class InlineWriter:
    """The ledger's writer without its thread: units of work in order, each a transaction, at once or a little later.

    A unit that was put off is done before the next one, or when the world says so (`flush`).
    """

    def __init__(self, engine: Engine, disk: Disk) -> None:
        self._connection, self._disk = engine.connect(), disk
        ids = InboxIds(disk, self._connection)
        setattr(self._connection, "execute", ids)  # noqa: B010 - an event would cost every statement something
        driver = self._connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA synchronous=OFF")  # the simulated machine never loses power
        self._waiting: deque[tuple[Callable[[Connection], Any], Future[Any]]] = deque()
        self._full = 0
        self._refused = False

    def do(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> T:
        del deadline_s
        self.flush()
        if self._refuses():
            raise LedgerFailed("the simulated disk is full", retriable=True)
        return self._transaction(work)

    def later(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> Future[T]:
        del deadline_s
        future: Future[T] = Future()
        self._waiting.append((work, future))
        slow = self._disk.happens(self._disk.weather.slow_commit, "disk:slow commit")
        if self._refused or not slow:  # who was refused waits for the second try, and nothing else goes on
            self.flush()
        return future

    def flush(self) -> bool:
        """Do what was put off; False: there was nothing."""
        moved = bool(self._waiting)
        while self._waiting:
            work, future = self._waiting.popleft()
            try:
                self._refused = self._refuses()
                if self._refused:
                    raise _full()
                future.set_result(self._transaction(work))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the outcome
                future.set_exception(error)
        return moved

    def _refuses(self) -> bool:
        if self._full == 0 and self._disk.happens(self._disk.weather.ledger_full, "disk:ledger full"):
            self._full = self._disk.dice.randint(1, FULL_TIMES)
        if self._full:
            self._full -= 1
            return True
        return False

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        broken = self._disk.happens(self._disk.weather.ledger_broken, "disk:ledger broken")
        with self._connection.begin():
            value = work(self._connection)
            if broken and self._disk.dice.random() < 0.5:
                raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))
        if broken:  # it was durable, and whoever asked is told that it failed
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))
        return value

    def close(self) -> None:
        """What was put off is lost."""
        self._waiting.clear()
        self._connection.close()


class InboxIds:
    """Gives rows of the inbox their ids as a database with many writers may: a higher one is seen before a lower one.

    Now and then a row has the id after the next, and the one that was left out goes to the row that comes then. Not
    to a registry version's: its transaction has read the number of the version before, so its id was drawn later.
    """

    def __init__(self, disk: Disk, connection: Connection) -> None:
        self._disk, self._connection, self._execute = disk, connection, connection.execute

    def __call__(self, asked: Any, values: Any = None, **options: Any) -> Any:
        """In the place of the connection's own `execute`."""
        if isinstance(asked, Insert) and asked.table is inbox and not isinstance(values, list):
            number = self._number(to_any=(values or {}).get("kind") != "registry")
            asked = asked if number is None else asked.values(id=number)
        return self._execute(asked, values, **options)

    def _number(self, *, to_any: bool) -> int | None:
        """The id that the row must have; None: the next. One that was left out goes `to_any` row."""
        disk, ask = self._disk, self._connection.exec_driver_sql
        (last,) = ask("SELECT coalesce(max(id), 0) FROM inbox").one()
        if to_any:
            left, disk.inbox_id_left = disk.inbox_id_left, None
            if left is not None and left < last:
                return left if ask("SELECT 1 FROM inbox WHERE id = ?", (left,)).first() is None else None
        if disk.happens(disk.weather.late_id, "disk:inbox id out of order"):
            disk.inbox_id_left = last + 1
            return int(last) + 2
        return None


def _full() -> OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return OperationalError("COMMIT", {}, error)
