"""I/O: the truth book: what every meter really used, and every message that left or should have left.

One SQLite file, written by the fleet process alone and read by the checker. It knows nothing of the system
under test. A message is written here before it enters the outbox and marked as held before it leaves it, so
that a kill at any moment leaves the book ahead of the outbox, never behind; the same run taken up again writes
the same rows again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulators.fleet_load import Load

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS channel (
    row INTEGER PRIMARY KEY, meter TEXT NOT NULL, address TEXT NOT NULL, register TEXT NOT NULL,
    concentrator TEXT NOT NULL, point TEXT NOT NULL, resolution INTEGER NOT NULL, multiplier INTEGER NOT NULL,
    digits INTEGER NOT NULL, billed INTEGER NOT NULL, opening INTEGER NOT NULL,
    replaced_by TEXT,                  -- meter that took over
    final INTEGER,                     -- true register at the change, step's multiple, never wrapped
    registers BLOB NOT NULL            -- int64: true register at every interval's end, never wrapped
);
CREATE TABLE IF NOT EXISTS message (
    stream TEXT NOT NULL, sequence INTEGER NOT NULL, concentrator TEXT NOT NULL,
    kind TEXT NOT NULL,                -- frame, bad:<class>, lost
    interval INTEGER NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL,  -- rows of channel, [first, end)
    absent TEXT NOT NULL,              -- JSON list of rows in between that are not in it; '' when none
    readings INTEGER NOT NULL,
    PRIMARY KEY (stream, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS expected (
    stream TEXT NOT NULL, sequence INTEGER NOT NULL, place INTEGER NOT NULL,
    reason TEXT NOT NULL, meter TEXT NOT NULL, PRIMARY KEY (stream, sequence, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message as the book has it."""

    stream: str
    sequence: int
    concentrator: str
    kind: str
    interval: int
    first: int = 0
    end: int = 0
    absent: tuple[int, ...] = ()
    readings: int = 0


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One register's truth."""

    meter: str
    address: int
    register: str
    concentrator: str
    point: str
    resolution: int
    multiplier: int
    digits: int
    billed: bool
    opening: int
    replaced_by: str | None
    final: int | None
    registers: npt.NDArray[np.int64]


@dataclass(slots=True)
class Book:
    """The whole book, for the checker."""

    run: dict[str, Any]
    channels: list[ChannelRow]
    messages: list[MessageRow]
    expected: dict[str, int]  # reason -> exceptions that messages up to `held` should have raised
    held: dict[str, int]


class TruthBook:
    """Writes one. Not thread-safe: one process, one thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def begin(self, load: Load, run: Mapping[str, Any]) -> None:
        """Write the truth of the whole run; a run taken up again keeps what is there."""
        if self._db.execute("SELECT 1 FROM channel LIMIT 1").fetchone() is not None:
            return
        successor = {change.old_meter: change for change in load.changes}
        interval_of = {change.old_meter: _interval(load, change.at_s) for change in load.changes}
        rows = []
        for row, c in enumerate(load.channels):
            change = successor.get(c.meter)
            final = None
            if change is not None:
                final = int(load.true[row, interval_of[c.meter]]) // c.resolution * c.resolution
            rows.append(
                (
                    row,
                    c.meter,
                    str(c.address),
                    c.register,
                    c.concentrator,
                    c.point,
                    c.resolution,
                    c.multiplier,
                    c.digits,
                    int(c.billed),
                    c.opening,
                    change.new_meter if change else None,
                    final,
                    load.true[row].tobytes(),
                )
            )
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO run VALUES (?,?)", [(k, json.dumps(v)) for k, v in run.items()])
        self._db.executemany("INSERT INTO channel VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        self._db.execute("COMMIT")

    def write(
        self,
        messages: Iterable[MessageRow],
        expected: Iterable[tuple[str, int, int, str, str]],
        held: Mapping[str, int],
    ) -> None:
        """One commit: new messages, what they should raise, and how far streams are held."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR REPLACE INTO message VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (
                    m.stream,
                    m.sequence,
                    m.concentrator,
                    m.kind,
                    m.interval,
                    m.first,
                    m.end,
                    json.dumps(m.absent) if m.absent else "",
                    m.readings,
                )
                for m in messages
            ],
        )
        self._db.executemany("INSERT OR REPLACE INTO expected VALUES (?,?,?,?,?)", expected)
        self._db.executemany(
            "INSERT INTO held VALUES (?,?) ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)",
            list(held.items()),
        )
        self._db.execute("COMMIT")

    def sent(self) -> list[tuple[str, int]]:
        """(stream, sequence) of every message that there was."""
        return self._db.execute("SELECT stream, sequence FROM message WHERE kind <> 'lost'").fetchall()

    def close(self) -> None:
        self._db.close()


def _interval(load: Load, at_s: int) -> int:
    return (at_s - load.start_s) // load.interval_s - 1


def read_book(path: Path) -> Book:
    """Read a book, also while it is being written."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        db.execute("BEGIN")
        run = {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM run")}
        channels = [
            ChannelRow(m, int(a), r, c, p, res, mul, dig, bool(b), o, by, fin, np.frombuffer(reg, np.int64))
            for m, a, r, c, p, res, mul, dig, b, o, by, fin, reg in db.execute(
                "SELECT meter, address, register, concentrator, point, resolution, multiplier, digits, billed,"
                " opening, replaced_by, final, registers FROM channel ORDER BY row"
            )
        ]
        messages = [
            MessageRow(s, n, c, k, i, f, e, tuple(json.loads(a)) if a else (), count)
            for s, n, c, k, i, f, e, a, count in db.execute(
                "SELECT stream, sequence, concentrator, kind, interval, first, end, absent, readings FROM message"
            )
        ]
        expected = dict(
            db.execute(
                "SELECT e.reason, count(*) FROM expected e JOIN held h ON h.stream = e.stream"
                " WHERE e.sequence <= h.sequence GROUP BY e.reason"
            )
        )
        return Book(run, channels, messages, expected, dict(db.execute("SELECT stream, sequence FROM held")))
    finally:
        db.close()
