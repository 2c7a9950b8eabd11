"""I/O (reads a daemon's files while it runs): when what becomes visible: checkpoints, events, charges, notices.

A balance is visible when the checkpoint that holds its reading is committed: what `account show`, the statement and
autopay read. The files are asked whether they have changed every `POLL_S`; how far apart the looks really were, and
so how late a time may be, is measured with the rest.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config.clock import Clock
from config.settings import Paths
from simulators.load.accounts import Accounts
from simulators.load.answers import Answered, Answers, Row
from simulators.load.asked import LoadFailed
from simulators.load.histogram import Histogram

POLL_S: Final = 0.002
LOG_EVERY_S: Final = 0.2
END_S: Final = 60.0  # for a last look at everything
_PUT_OFF: Final = (
    "SELECT e.account, e.arm FROM decision d JOIN event e ON e.id = d.event_id"
    " WHERE d.id > ? AND d.outcome != 'order' AND e.kind = 'low_balance' ORDER BY d.id"
)
_SHIFT: Final = 48
_OFFSET: Final = (1 << _SHIFT) - 1


@dataclass(frozen=True, slots=True)
class Streams:
    """Which streams are this run's: `prefix` and the number of the concentrator; and where an account's meter is."""

    prefix: str
    accounts: Accounts

    def concentrator(self, stream: str) -> int:
        """-1: another's."""
        number = stream.removeprefix(self.prefix)
        return int(number) if number != stream and number.isdecimal() else -1


@dataclass(slots=True)
class Seen:
    """Latencies and counts of what was seen; sizes once a second, with their time on the monotonic clock."""

    answered: Answered
    looks: Histogram = field(default_factory=Histogram)  # from one look to the next: how late a time may be
    files: list[tuple[float, int, int, int]] = field(default_factory=list)  # (at, bytes of log, ledger, archive)


class Observer:
    """A thread of its own; `stop` ends it and returns what it saw."""

    def __init__(
        self, data: Path, book: Path | None, notices: Path | None, clock: Clock,
        answers: Answers, streams: Streams,
    ) -> None:  # fmt: skip
        self._paths, self._book, self._notices = Paths(data), book, notices
        self._clock = clock
        self._answers, self._streams = answers, streams
        self.seen = Seen(Answered())
        self.failure: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Seen:
        self._stopping.set()
        self._thread.join(END_S)
        if self._thread.is_alive():
            raise LoadFailed(f"the observer has not come to its end in {END_S:g} s")
        if isinstance(self.failure, sqlite3.Error):
            raise LoadFailed(f"the daemon's files cannot be read: {self.failure}") from self.failure
        if self.failure is not None:
            raise self.failure
        return self.seen

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                ledger = stack.enter_context(_reading(self._paths.ledger))
                log = stack.enter_context(_reading(self._paths.log))
                book = stack.enter_context(_reading(self._book)) if self._book is not None else None
                self._watch(ledger, log, book)
        except Exception as error:  # noqa: BLE001 - it belongs to who asks for what was seen
            self.failure = error

    def _watch(self, ledger: sqlite3.Connection, log: sqlite3.Connection, book: sqlite3.Connection | None) -> None:
        version = charged = -1
        last = {name: _newest(ledger, name) for name in ("checkpoint", "event", "decision")} | {"charge": 0}
        if book is not None:
            last["charge"] = _newest(book, "charge")
        ends = _ends(log)
        offsets: dict[int, int] = {}
        told = self._notices.stat().st_size if self._notices is not None and self._notices.exists() else 0
        log_at_s = sample_at_s = 0.0
        now_s = self._clock.monotonic_s()
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(POLL_S)  # one look more after the end
            before_s, now_s = now_s, self._clock.monotonic_s()
            self.seen.looks.add(now_s - before_s)
            # Effects are looked for before their causes: whatever is found has its cause in what is found next.
            told, notices = self._told(told)
            charges: list[tuple[float, str]] = []
            if book is not None:
                charged, charges = self._charges(book, charged, last)
            version = self._ledger(ledger, version, last, offsets)
            self._paid(ledger, charges, notices)
            if now_s - log_at_s >= LOG_EVERY_S or stopping:
                log_at_s = now_s
                self._records(log, ends)
            if now_s - sample_at_s >= 1.0 or stopping:
                sample_at_s = now_s
                self.seen.files.append((now_s, *self._sizes()))
        self.seen.answered = self._answers.end()

    def _sizes(self) -> tuple[int, int, int]:
        paths = self._paths
        archive = [path.stat().st_size for path in paths.archive.glob("*/*.parquet")]
        return _size(paths.log), _size(paths.ledger), sum(archive)

    def _ledger(self, db: sqlite3.Connection, version: int, last: dict[str, int], offsets: dict[int, int]) -> int:
        (now,) = db.execute("PRAGMA data_version").fetchone()
        if now == version:
            return version
        db.execute("BEGIN")  # one moment: events belong to the checkpoints that are seen with them
        at_s = self._clock.monotonic_s()
        rows = db.execute(
            'SELECT id, partition, "offset" FROM checkpoint WHERE id > ? ORDER BY id', (last["checkpoint"],)
        ).fetchall()
        asked = "SELECT id, kind, account, arm, partition FROM event WHERE id > ? ORDER BY id"
        events = db.execute(asked, (last["event"],)).fetchall()
        decisions = db.execute(_PUT_OFF, (last["decision"],)).fetchall()
        last["decision"] = _newest(db, "decision")
        db.execute("COMMIT")
        for number, partition, offset in rows:
            last["checkpoint"], offsets[partition] = number, offset
            self._answers.checkpoint(at_s, partition, offset)
        for number, kind, account, arm, partition in events:
            last["event"] = number
            if kind != "low_balance" or self._book is None:  # whose charges are not seen has no order to wait for
                continue
            concentrator = self._streams.accounts.concentrator_of(account)
            if concentrator >= 0:
                self._answers.low_balance((account, arm), concentrator, partition, offsets.get(partition, 0))
        for account, arm in decisions:
            self._answers.put_off((account, arm))
        return int(now)

    def _charges(
        self, db: sqlite3.Connection, version: int, last: dict[str, int]
    ) -> tuple[int, list[tuple[float, str]]]:
        """(version, [(at, reference)]) of what is new."""
        (now,) = db.execute("PRAGMA data_version").fetchone()
        if now == version:
            return version, []
        at_s = self._clock.monotonic_s()
        rows = db.execute("SELECT id, reference FROM charge WHERE id > ? ORDER BY id", (last["charge"],)).fetchall()
        if rows:
            last["charge"] = rows[-1][0]
        return int(now), [(at_s, reference) for _, reference in rows]

    def _told(self, at: int) -> tuple[int, list[tuple[float, str]]]:
        """(place in the file, [(at, key of the order)]) of messages about charges."""
        path = self._notices
        if path is None or not path.exists() or path.stat().st_size <= at:
            return at, []
        at_s = self._clock.monotonic_s()
        with path.open("rb") as file:
            file.seek(at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        keys = [json.loads(line)["key"].split(":") for line in whole.splitlines()]
        return at + len(whole), [(at_s, key[1]) for key in keys if key[0] == "charged" and len(key) > 1]

    def _paid(
        self, ledger: sqlite3.Connection, charges: list[tuple[float, str]], notices: list[tuple[float, str]]
    ) -> None:
        for at_s, reference in charges:
            account, arm, _ = reference.rsplit("/", 2)
            self._answers.charge(at_s, (account, int(arm)))
        for at_s, key in notices:
            found = ledger.execute("SELECT account, arm FROM order_ WHERE key = ?", (key,)).fetchone()
            if found is not None:
                self._answers.notice(at_s, (found[0], int(found[1])))

    def _records(self, db: sqlite3.Connection, ends: dict[int, int]) -> None:
        """What is new in every partition, in one snapshot: a message's records come together."""
        found: dict[int, list[Row]] = {}
        db.execute("BEGIN")
        for partition, end in _ends(db).items():
            low = partition << _SHIFT
            rows = db.execute(
                "SELECT id, stream, sequence FROM record WHERE id > ? AND id <= ? AND sequence > 0 ORDER BY id",
                (low + ends.get(partition, 0), low + end),
            ).fetchall()
            numbered = ((number & _OFFSET, self._streams.concentrator(name), seq) for number, name, seq in rows)
            found[partition] = [row for row in numbered if row[1] >= 0]
            ends[partition] = end
        db.execute("COMMIT")
        self._answers.records(found, ends)


def can_watch(book: Path) -> bool:
    """Whether a gateway's book says of every charge which order it was for, as that of `simulators.gateway` does."""
    try:
        with _reading(book) as db:
            db.execute("SELECT id, reference FROM charge LIMIT 1").fetchall()
    except sqlite3.Error:
        return False
    return True


def _ends(log: sqlite3.Connection) -> dict[int, int]:
    """The last offset of every partition that has records."""
    ends: dict[int, int] = {}
    key = -1
    while True:
        (first,) = log.execute("SELECT min(id) FROM record WHERE id > ?", (key,)).fetchone()
        if first is None:
            return ends
        key = ((first >> _SHIFT) + 1 << _SHIFT) - 1
        (last,) = log.execute("SELECT max(id) FROM record WHERE id <= ?", (key,)).fetchone()
        ends[first >> _SHIFT] = last & _OFFSET


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


def _size(database: Path) -> int:
    """Of a database and what it has not put into its file yet."""
    files = (database, database.with_name(f"{database.name}-wal"))
    return sum(path.stat().st_size for path in files if path.exists())


def _newest(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])  # noqa: S608 - a name of ours
