"""I/O: the reading log in one SQLite file of its own; `append` returns after fsync (WAL, synchronous=FULL).

A record's key is partition << 48 | offset, so a partition is one stretch of the tree and reading on is a range
scan. Offsets never restart: when pruning empties a partition, its high-water mark stays in `high`. Every record
carries a crc32 that is checked when it is read.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from config.synced import Synced
from ingest import mark_journal
from ingest.many_rows import insert, many
from ingest.mark_journal import MarkJournal
from ingest.sequences import Mark
from rating.readings import LogFailed, Record, RecordKind, StoredRecord

_SHIFT: Final = 48
_OFFSETS: Final = (1 << _SHIFT) - 1
_FORMAT: Final = "2"
_BEFORE: Final = ("1",)  # formats that are read as they are: 1 had no mark_journal
_ROW_BYTES: Final = 1000  # of a record beside its body, generously
_PRUNE_STEP: Final = 256  # records deleted in one transaction
_CRC_BYTES: Final = 5120  # for more zlib gives up Python's global lock, and 5 us of work would queue for it again
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS record (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, received_at_s INTEGER NOT NULL, source TEXT NOT NULL,
    stream TEXT NOT NULL, sequence INTEGER NOT NULL, detail TEXT NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS high (partition INTEGER PRIMARY KEY, last INTEGER NOT NULL);
"""
# OR ROLLBACK: an insert of many rows that may fail half-way copies every page that it changes to a file beforehand,
# 30 MB/s with lone meters; one that ends the transaction need not.
_INSERT: Final = many("INSERT OR ROLLBACK INTO record VALUES ", 9)
_COLUMNS: Final = "id, kind, received_at_s, source, stream, sequence, detail, crc, body"


def _crc(record: Record) -> int:
    head = f"{int(record.kind)} {record.received_at_s} {record.source} {record.stream} {record.sequence} "
    crc = zlib.crc32((head + record.detail).encode("utf-8", "surrogatepass"))
    if len(record.body) <= _CRC_BYTES:
        return zlib.crc32(record.body, crc)
    body = memoryview(record.body)
    for at in range(0, len(body), _CRC_BYTES):
        crc = zlib.crc32(body[at : at + _CRC_BYTES], crc)
    return crc


class SqliteLog:
    """`IngestLog` on SQLite. One process appends; reading goes on beside it, from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        size_max_bytes: int = 32 << 30,
        busy_timeout_real_s: float = 10.0,
        mark_generation: int = mark_journal.GENERATION,
    ) -> None:
        self._path, self._synced = path, Synced(path)
        self._size_max_bytes = size_max_bytes
        self._busy_timeout_real_s = busy_timeout_real_s
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._writer = self._connect()
            self._writer.executescript(_SCHEMA + mark_journal.SCHEMA)
            self._log_id = self._identity()
            self._marks = MarkJournal(self._writer, mark_generation)
            self._reader = self._connect()
            self._room_bytes = -1  # not asked yet
            self._page_size = int(self._one("PRAGMA page_size"))
            self._last: dict[int, int] = {}
            self._first: dict[int, int] = {}  # as far as asked: looks at bounds must not wait for a running append
            self._load_ends()
        except (sqlite3.Error, ValueError) as error:
            no_room = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            raise LogFailed(f"{path}: {error}", retriable=no_room) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout_real_s, isolation_level=None, check_same_thread=False
        )
        for pragma in (
            "page_size=16384",  # frames have 22 kB: twice as many a second as on pages of 4 kB (new files only)
            "journal_mode=WAL",
            "synchronous=FULL",
            "wal_autocheckpoint=4000",  # 64 MB
            "secure_delete=OFF",
            "cache_size=-16000",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def _one(self, sql: str, *values: int) -> Any:
        return self._writer.execute(sql, values).fetchone()[0]

    def _identity(self) -> str:
        self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('log_id', ?)", (uuid.uuid4().hex,))
        self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (_FORMAT,))
        found = dict(self._writer.execute("SELECT name, value FROM meta").fetchall())
        if found["format"] in _BEFORE:
            self._writer.execute("UPDATE meta SET value = ? WHERE name = 'format'", (_FORMAT,))
            found["format"] = _FORMAT
        if found["format"] != _FORMAT:
            raise LogFailed(f"{self._path}: log format {found['format']}, this is {_FORMAT}", retriable=False)
        return str(found["log_id"])

    def _load_ends(self) -> None:
        """Last offset of every partition: the highest key, or the high-water mark of what was pruned."""
        ends = dict(self._writer.execute("SELECT partition, last FROM high").fetchall())
        key = -1
        while (row := self._writer.execute("SELECT min(id) FROM record WHERE id > ?", (key,)).fetchone())[
            0
        ] is not None:
            partition = row[0] >> _SHIFT
            key = (partition << _SHIFT) | _OFFSETS
            last = self._one("SELECT max(id) FROM record WHERE id <= ?", key) & _OFFSETS
            ends[partition] = max(ends.get(partition, 0), last)
        self._last = ends

    @property
    def log_id(self) -> str:
        return self._log_id

    @property
    def size_bytes(self) -> int:
        """Pages in use; pruned pages are used again."""
        with self._writing:
            return self._used_bytes()

    def _used_bytes(self) -> int:
        pages: int = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return pages * self._page_size

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield self._writer
            self._writer.execute("COMMIT")
            self._synced.make_sure()
        except sqlite3.Error as error:
            self._undo()
            raise self._failed(error) from error
        except OSError as error:  # committed, and perhaps gone with the next mount: only a start can tell
            raise LogFailed(f"{self._path}: {error}", retriable=False) from error
        except BaseException:
            self._undo()
            raise

    def _failed(self, error: sqlite3.Error) -> LogFailed:
        return LogFailed(f"{self._path}: {error}", retriable=isinstance(error, sqlite3.OperationalError))

    def _undo(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            self._load_ends()
        except sqlite3.Error as error:
            raise LogFailed(f"{self._path}: cannot roll back: {error}", retriable=False) from error

    def append(self, records: Sequence[Record], marks: Sequence[Mark] = ()) -> list[StoredRecord]:
        stored: list[StoredRecord] = []
        rows: list[tuple[object, ...]] = []
        with self._writing:
            ends = dict(self._last)
            for record in records:
                offset = ends.get(record.partition, 0) + 1
                ends[record.partition] = offset
                stored.append(StoredRecord(offset, record))
                rows.append(_row(offset, record))
            with self._transaction() as connection:
                self._make_sure_of_room(rows)
                insert(connection, _INSERT, rows)
                written = self._marks.write(connection, marks) if marks else None
            self._last = ends
            if written is not None:
                self._marks.committed(written)
        return stored

    def _make_sure_of_room(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Refuse when the file is full. It is asked only when what came since may have filled the room it had."""
        self._room_bytes -= sum(_ROW_BYTES + 2 * len(cast(bytes, row[-1])) for row in rows)
        if self._room_bytes < 0:
            self._room_bytes = self._size_max_bytes - self._used_bytes()
            if self._room_bytes < 0:
                raise LogFailed(f"{self._path}: full ({self._size_max_bytes} bytes)", retriable=True)

    def read(self, partition: int, after_offset: int, records_max: int) -> list[StoredRecord]:
        low = (partition << _SHIFT) | after_offset
        high = (partition << _SHIFT) | _OFFSETS
        sql = f"SELECT {_COLUMNS} FROM record WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"  # noqa: S608 - constants
        with self._reading:
            try:
                rows = self._reader.execute(sql, (low, high, records_max)).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from error
        return [self._stored(partition, row) for row in rows]

    def _stored(self, partition: int, row: tuple[Any, ...]) -> StoredRecord:
        key, kind, received_at_s, source, stream, sequence, detail, crc, body = row
        offset = key & _OFFSETS
        record = Record(RecordKind(kind), partition, received_at_s, source, stream, sequence, body, detail)
        if _crc(record) != crc:
            raise LogFailed(f"{self._path}: record {offset} of partition {partition} is damaged", retriable=False)
        return StoredRecord(offset, record)

    def bounds(self, partition: int) -> tuple[int, int]:
        known = self._first.get(partition)
        if known is not None:
            return known, self._last.get(partition, 0)
        low, high = partition << _SHIFT, (partition << _SHIFT) | _OFFSETS
        with self._writing:
            last = self._last.get(partition, 0)
            try:
                first = self._one("SELECT min(id) FROM record WHERE id > ? AND id <= ?", low, high)
            except sqlite3.Error as error:
                raise self._failed(error) from error
            if first is not None:
                self._first[partition] = first & _OFFSETS
        return (first & _OFFSETS if first is not None else last + 1 if last else 0), last

    def prune(self, partition: int, below_offset: int) -> None:
        first, last = self.bounds(partition)
        below_offset = min(below_offset, last + 1)
        low = partition << _SHIFT
        while first < below_offset:  # in steps, so that appends need not wait for long
            first = min(first + _PRUNE_STEP, below_offset)
            with self._writing, self._transaction() as connection:
                self._first.pop(partition, None)
                connection.execute("INSERT OR REPLACE INTO high VALUES (?, ?)", (partition, last))
                connection.execute("DELETE FROM record WHERE id > ? AND id < ?", (low, low | first))

    def marks(self) -> list[Mark]:
        with self._writing:
            return mark_journal.newest(self._writer)

    def close(self) -> None:
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()


def _row(offset: int, record: Record) -> tuple[object, ...]:
    return (
        (record.partition << _SHIFT) | offset,
        int(record.kind),
        record.received_at_s,
        record.source,
        record.stream,
        record.sequence,
        record.detail,
        _crc(record),
        record.body,
    )
