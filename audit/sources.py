"""I/O: one partition's evidence as plain values: what the ledger says at one moment, and every record behind it.

Everything is opened read-only, in short transactions, so that an audit does not hold up a daemon: a snapshot of
the partition's cursor, state and orders of business, and then chunks of what is only ever appended. Digests and
checksums of what is read are verified, and what fails is noted in `faults`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from audit import refused
from audit.accounts import Columns
from audit.packed import STATE, Assembly, checksum, row_checksum
from audit.saved import StateMissing
from config.settings import Paths

READINGS, REJECT, TICK = 1, 2, 3
READING_SCHEMA: Final = pa.schema(
    [
        ("meter", pa.uint64()),
        ("value", pa.int64()),
        ("read_at_s", pa.uint32()),
        ("register", pa.uint8()),
        ("quality", pa.uint8()),
    ]
)
_SHIFT: Final = 48
_BUSY_S: Final = 10.0
_SLOTS_MAX: Final = 1 << 28  # of an array of one partition
_CHUNK: Final = 256  # rows of a query at a time
_COLUMNS: Final = ("kind", "received_at_s", "source", "stream", "sequence", "detail", "body")
_CHECKPOINT: Final = (
    *("partition", "epoch", "log_id", "offset", "as_of_s", "engine_version"),
    *("registry_digest", "timeline_digest", "counters", "slots"),
)
RecordRow = tuple[int, int, int, str, str, int, str, bytes]  # offset, then _COLUMNS


class RecordsMissing(Exception):
    """Offsets between archive and log that the ledger says were applied, and that are nowhere."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Bytes that are not what was written. `kind` is a difference's component."""

    kind: str
    note: str


@dataclass(slots=True)
class Command:
    """An inbox row as applied in one partition after record `offset`."""

    id: int
    offset: int
    kind: str
    key: str
    body: dict[str, Any]
    outcome: str
    created_at_s: int
    stream: str  # under which a row of the queue tells of it: the kind, and whose of a row that is for all partitions


@dataclass(slots=True)
class Snapshot:
    """One partition of the ledger at one moment.

    `applied`: (offset, inbox id) back to back, in order; `counters`: since the checkpoint that was asked for.
    """

    partition: int
    checkpoint: int = 0
    offset: int = 0
    entry_last: int = 0
    registry_digest: str = ""
    state: dict[str, Assembly] = field(default_factory=dict)
    applied: array[int] = field(default_factory=lambda: array("q"))
    counters: dict[str, int] = field(default_factory=dict)
    exceptions: dict[bytes, refused.Row] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def connect(path: Path) -> sqlite3.Connection:
    """Read-only, and with a deadline for a busy database."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None
    )
    connection.row_factory = sqlite3.Row
    return connection


def partitions(paths: Paths) -> list[int]:
    """Partitions that have a checkpoint, or state without one."""
    asked = "SELECT DISTINCT partition FROM checkpoint UNION SELECT DISTINCT partition FROM state_page ORDER BY 1"
    with closing(connect(paths.ledger)) as db:
        return [row[0] for row in db.execute(asked)]


def newest_registry(paths: Paths, partition: int) -> str:
    """Digest of the registry version that the partition's newest checkpoint was made with; "" for none."""
    asked = "SELECT registry_digest FROM checkpoint WHERE partition = ? ORDER BY id DESC LIMIT 1"
    with closing(connect(paths.ledger)) as db:
        row = db.execute(asked, (partition,)).fetchone()
    return str(row[0]) if row is not None else ""


def snapshot(paths: Paths, partition: int, checkpoint_after: int) -> Snapshot:
    """A partition at its newest checkpoint, with its state. Checkpoints after `checkpoint_after` are verified."""
    found = Snapshot(partition)
    with closing(connect(paths.ledger)) as db:
        db.execute("BEGIN")
        slots = _checkpoints(db, found, checkpoint_after)
        _state(db, found, _slots(found, slots))
        found.entry_last = int(db.execute("SELECT COALESCE(MAX(id), 0) FROM entry").fetchone()[0])
        asked = 'SELECT "offset", inbox_id FROM inbox_applied WHERE partition = ? ORDER BY "offset", checkpoint_id, 2'
        for row in db.execute(asked, (partition,)):  # a row may come to be seen after one with a higher id
            found.applied.extend(row)
        _exceptions(db, found)
    return found


def _checkpoints(db: sqlite3.Connection, found: Snapshot, after: int) -> str:
    """Verify the rows, each by itself and against the one before; returns the newest's lengths of arrays."""
    rows = db.execute(
        "SELECT * FROM checkpoint WHERE partition = ? AND id >= ? ORDER BY id", (found.partition, after)
    )
    before: sqlite3.Row | None = None
    first: sqlite3.Row | None = None
    for row in rows:
        where = f"checkpoint {row['id']} of partition {found.partition}"
        if row_checksum(*(row[name] for name in _CHECKPOINT)) != row["crc"]:
            found.faults.append(Fault("checkpoint", f"{where}: the checksum does not match"))
        if before is not None and (row["offset"] < before["offset"] or row["log_id"] != before["log_id"]):
            found.faults.append(Fault("checkpoint", f"{where} does not follow checkpoint {before['id']}"))
        first, before = first or row, row
    if after and (first is None or first["id"] != after):  # another's counters would not do
        where = f"partition {found.partition} has no checkpoint {after} any more"
        raise StateMissing(f"{where}: audit without --since")
    if before is None:
        found.faults.append(Fault("checkpoint", f"partition {found.partition} has state and no checkpoint"))
        return "{}"
    found.checkpoint, found.offset = before["id"], before["offset"]
    found.registry_digest = before["registry_digest"]
    now, then = (_counters(row) for row in (before, first))
    found.counters = {name: count - (then.get(name, 0) if after else 0) for name, count in now.items()}
    return str(before["slots"])


def thinned(paths: Paths) -> list[Fault]:
    """What is left of checkpoint rows that went: pages of marks whose checksum does not match."""
    with closing(connect(paths.ledger)) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'thinned_page'").fetchone() is None:
            return []  # of a version that thinned nothing
        rows = db.execute("SELECT last_id, count, body, crc FROM thinned_page ORDER BY last_id")
        return [
            Fault("checkpoint", f"marks of checkpoints up to {last_id}: the checksum does not match")
            for last_id, count, body, crc in rows
            if checksum(0, "thinned", count, last_id, body) != crc
        ]


def _counters(row: sqlite3.Row | None) -> dict[str, int]:
    try:
        return {str(name): int(count) for name, count in json.loads(row["counters"]).items()} if row else {}
    except (ValueError, TypeError, AttributeError):  # the checksum has told already
        return {}


def _exceptions(db: sqlite3.Connection, found: Snapshot) -> None:
    """The exceptions queue of the partition, whatever became of its rows."""
    rows = db.execute(
        'SELECT reason, "offset", source, stream, sequence, meter, register, read_at_s, value, quality, bytes,'
        " repeats FROM exception WHERE partition = ? AND reason <> ?",
        (found.partition, refused.UNSEEN),
    )
    for row in rows:
        reason, source = row["reason"], row["source"]
        if row["meter"] is None:
            key = refused.message_event(reason, source, row["stream"], row["sequence"], row["bytes"])
        else:
            told = (row[name] for name in ("meter", "register", "read_at_s", "value", "quality", "bytes"))
            key = refused.reading_event(reason, source, *told)
        words = f"{reason}: {row['meter'] or 'a message'} of {source}"
        known = found.exceptions.setdefault(key, refused.Row(0, row["offset"], words))
        known.count += 1 + row["repeats"]
        known.offset = min(known.offset, row["offset"])


def _slots(found: Snapshot, text: str) -> dict[str, int]:
    """Lengths of the state arrays, as the checkpoint row says."""
    try:
        told = {str(name): int(count) for name, count in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        told = {"": -1}
    if any(not 0 <= count <= _SLOTS_MAX for count in told.values()):
        found.faults.append(
            Fault("checkpoint", f"partition {found.partition}: no lengths of state arrays: {text[:80]}")
        )
        return {}
    return told


def _state(db: sqlite3.Connection, found: Snapshot, slots: dict[str, int]) -> None:
    """The arrays out of pages and deltas; their bytes are not kept."""
    arrays = {name: Assembly(found.partition, name, int(slots.get(name, 0))) for name in STATE}
    strange: set[str] = set()
    pages = "SELECT array, page, version, format, body, crc FROM state_page WHERE partition = ? ORDER BY array, page"
    for name, *page in db.execute(pages, (found.partition,)):
        strange.add(name) if name not in arrays else arrays[name].page(*page)
    deltas = (
        "SELECT array, version, format, count, body, crc FROM state_delta WHERE partition = ? ORDER BY version, id"
    )
    for name, *delta in db.execute(deltas, (found.partition,)):
        strange.add(name) if name not in arrays else arrays[name].delta(*delta)
    for name in sorted(strange | slots.keys() - arrays.keys()):
        found.faults.append(Fault("state", f"partition {found.partition}: an array {name!r} is not known"))
    for name, assembly in arrays.items():
        assembly.finish()
        where = f"partition {found.partition}, {name}"
        found.faults += [Fault("state", f"{where}: {fault}") for fault in assembly.faults]
    found.state = arrays


def commands(paths: Paths, snap: Snapshot, after_offset: int, known: set[int]) -> Iterator[Command]:
    """Inbox rows in the order applied, from `after_offset` on but for those `known`."""
    pairs = [
        (offset, number)
        for offset, number in zip(snap.applied[0::2], snap.applied[1::2], strict=True)
        if offset >= after_offset and number not in known
    ]
    with closing(connect(paths.ledger)) as db:
        for low in range(0, len(pairs), _CHUNK):
            chunk = pairs[low : low + _CHUNK]
            marks = ",".join("?" * len(chunk))
            asked = (
                "SELECT i.id, i.kind, i.key, i.body, i.created_at_s, i.partition, a.outcome"  # noqa: S608
                " FROM inbox i JOIN inbox_applied a ON a.inbox_id = i.id"
                f" WHERE a.partition = ? AND i.id IN ({marks})"
            )
            rows = {row["id"]: row for row in db.execute(asked, (snap.partition, *(id_ for _, id_ in chunk)))}
            for offset, number in chunk:
                row = rows[number]
                body = json.loads(row["body"])
                kind, mine = row["kind"], row["partition"] is not None
                stream = kind if mine else f"{kind}:{snap.partition}"
                yield Command(number, offset, kind, row["key"], body, row["outcome"], row["created_at_s"], stream)


def records(paths: Paths, snap: Snapshot, after_offset: int) -> Iterator[RecordRow]:
    """Records up to the cursor: the archive, then what only the log has; no hole, or `RecordsMissing`."""
    at = after_offset
    while at < snap.offset:
        before = at
        for record in _stored(paths, snap, at):
            if record[0] != at + 1:
                break
            at = record[0]
            yield record
        if at == before:
            where = f"partition {snap.partition}: record {at + 1}"
            raise RecordsMissing(f"{where} is neither in the archive nor in the log")


def _stored(paths: Paths, snap: Snapshot, after: int) -> Iterator[RecordRow]:
    """The next records from where they are now: a daemon may archive and prune between two calls."""
    with closing(connect(paths.ledger)) as db:
        file = db.execute(
            "SELECT path, digest FROM archive_file WHERE partition = ? AND last_offset > ? AND first_offset <= ?"
            " ORDER BY first_offset LIMIT 1",
            (snap.partition, after, after + 1),
        ).fetchone()
    if file is not None:
        yield from _archived(paths.archive / file["path"], file["digest"], snap, after)
        return
    low, high = snap.partition << _SHIFT | (after + 1), snap.partition << _SHIFT | snap.offset
    with closing(connect(paths.log)) as db:
        rows = db.execute(
            "SELECT id, kind, received_at_s, source, stream, sequence, detail, body, crc FROM record"
            " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (low, high, _CHUNK),
        ).fetchall()
    for row in rows:
        offset = row["id"] & ((1 << _SHIFT) - 1)
        head = " ".join(str(row[name]) for name in _COLUMNS[:5]) + " " + row["detail"]
        if zlib.crc32(row["body"], zlib.crc32(head.encode("utf-8", "surrogatepass"))) != row["crc"]:
            where = f"record {offset} of partition {snap.partition}"
            snap.faults.append(Fault("records", f"{where}: the checksum in the log does not match"))
        yield (offset, *(row[name] for name in _COLUMNS))


def _archived(path: Path, digest: str, snap: Snapshot, after: int) -> Iterator[RecordRow]:
    """The records of one file. Other bytes than those that were named are a fault, and read as far as they can be."""
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                snap.faults.append(Fault("archive", f"{path}: not the bytes that were written"))
        with pq.ParquetFile(path) as parquet:
            columns = ["offset", *_COLUMNS]
            for batch in parquet.iter_batches(batch_size=_CHUNK, columns=columns, use_threads=False):
                for row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    if after < row[0] <= snap.offset:
                        yield row
    except (OSError, pa.ArrowException) as error:
        snap.faults.append(Fault("archive", f"{path}: {str(error)[:200]}"))


def columns_of(body: bytes) -> Columns:
    """The columns of a READINGS record as lists of Python integers."""
    batch = pa.ipc.read_record_batch(pa.py_buffer(body), READING_SCHEMA)
    meter, value, read_at_s, register, quality = (batch.column(i).to_numpy().tolist() for i in range(5))
    return meter, value, read_at_s, register, quality
