"""I/O: the simulated gateway's own book: one SQLite file that says what it charged, whatever dies.

A request's result is durable (WAL, synchronous=FULL) before anybody is answered or told by webhook. The same key
within its lifetime gives the same result again; with another amount or token it is a conflict; later it is a new
charge, as with real gateways.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS result (
    key TEXT PRIMARY KEY, token TEXT NOT NULL, amount_fen INTEGER NOT NULL, at_s INTEGER NOT NULL,
    status TEXT NOT NULL, txn TEXT NOT NULL, code TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS charge (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, token TEXT NOT NULL, amount_fen INTEGER NOT NULL,
    txn TEXT NOT NULL UNIQUE, at_s INTEGER NOT NULL, reference TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS heard (key TEXT PRIMARY KEY, requests INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS declines (token TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""


class KeyReused(Exception):
    """The same key with another amount or token."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a key."""

    key: str
    status: str  # succeeded, declined
    txn: str
    amount_fen: int
    code: str

    def body(self) -> dict[str, Any]:
        return asdict(self)


class Book:
    """One file, one connection, one lock: every method is atomic and durable on return."""

    def __init__(self, path: Path, key_lifetime_s: int = 86_400, *, synchronous: str = "FULL") -> None:
        self._lifetime_s = key_lifetime_s
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={synchronous}")  # the simulated world's machine never loses power
        self._db.executescript(_SCHEMA)

    def heard(self, key: str) -> int:
        """Count one more request for the key: 1 the first time. Seeds that request's faults."""
        with self._lock:
            sql = "INSERT INTO heard VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET requests = requests + 1"
            row = self._db.execute(sql + " RETURNING requests", (key,)).fetchone()
            return int(row[0])

    def charge(
        self,
        key: str,
        token: str,
        amount_fen: int,
        reference: str,
        now_s: int,
        *,
        decline: str | None,
        refuse_first: int,
    ) -> Result:
        """The key's result, made now if there is none. `decline`: the code to decline a new one with;

        `refuse_first`: the first so many new charges of this token are declined, whatever the faults say.
        """
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = self._charge(key, token, amount_fen, reference, now_s, decline, refuse_first)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            return result

    def _charge(
        self,
        key: str,
        token: str,
        amount_fen: int,
        reference: str,
        now_s: int,
        decline: str | None,
        refuse_first: int,
    ) -> Result:
        sql = "SELECT token, amount_fen, at_s, status, txn, code FROM result WHERE key = ?"
        row = self._db.execute(sql, (key,)).fetchone()
        if row is not None and now_s < row[2] + self._lifetime_s:
            if (row[0], row[1]) != (token, amount_fen):
                raise KeyReused(key)
            return Result(key, row[3], row[4], amount_fen, row[5])
        refused = self._db.execute("SELECT count FROM declines WHERE token = ?", (token,)).fetchone()
        if refuse_first > (refused[0] if refused else 0):
            decline = "insufficient_funds"
            again = "INSERT INTO declines VALUES (?, 1) ON CONFLICT (token) DO UPDATE SET count = count + 1"
            self._db.execute(again, (token,))
        txn = ""
        if decline is None:
            number = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM charge").fetchone()[0]
            txn = f"gw-{number:08d}"
            values = (number, key, token, amount_fen, txn, now_s, reference)
            self._db.execute("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        result = Result(key, "succeeded" if decline is None else "declined", txn, amount_fen, decline or "")
        kept = (key, token, amount_fen, now_s, result.status, txn, result.code)
        self._db.execute("INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?, ?)", kept)
        return result

    def charge_after_all(self, key: str, now_s: int, reference: str) -> Result | None:
        """Take the money of a key that was declined; None when there is nothing to take."""
        with self._lock:
            sql = "SELECT token, amount_fen FROM result WHERE key = ? AND status = 'declined'"
            row = self._db.execute(sql, (key,)).fetchone()
            if row is None:
                return None
            number = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM charge").fetchone()[0]
            txn = f"gw-{number:08d}"
            self._db.execute("BEGIN IMMEDIATE")
            values = (number, key, *row, txn, now_s, reference)
            self._db.execute("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            changed = "UPDATE result SET status = 'succeeded', txn = ?, code = '' WHERE key = ?"
            self._db.execute(changed, (txn, key))
            self._db.execute("COMMIT")
            return Result(key, "succeeded", txn, int(row[1]), "")

    def lookup(self, key: str) -> Result | None:
        """The newest result of a key, however old."""
        with self._lock:
            sql = "SELECT status, txn, amount_fen, code FROM result WHERE key = ?"
            row = self._db.execute(sql, (key,)).fetchone()
            return None if row is None else Result(key, *row)

    def page(self, after: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """At most `limit` charges after that number, oldest first, and the last one's number."""
        names = ("key", "token", "amount_fen", "txn", "at_s", "reference")
        sql = f"SELECT id, {', '.join(names)} FROM charge WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - our names
        with self._lock:
            rows = self._db.execute(sql, (after, limit)).fetchall()
        return [dict(zip(names, row[1:], strict=True)) for row in rows], rows[-1][0] if rows else after

    def charges(self) -> list[dict[str, Any]]:
        """Every charge, oldest first: the truth about money."""
        names = ("key", "token", "amount_fen", "txn", "at_s", "reference")
        with self._lock:
            rows = self._db.execute(f"SELECT {', '.join(names)} FROM charge ORDER BY id").fetchall()  # noqa: S608 - our names
        return [dict(zip(names, row, strict=True)) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._db.close()
