"""I/O: reads what an audit needs as plain values: ledger rows, archive and log, registry tables, gateway's book.

Everything is opened read-only. The packed formats are declared here again, on purpose: a change on the other
side that nobody told the auditor of must show.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from audit.accounts import Columns
from audit.world import World, build
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
SUBLEDGER_ROW: Final = np.dtype(
    {
        "names": ["amount_fen", "quantity", "slot", "channel", "day", "component"],
        "formats": ["<i8", "<i8", "<i4", "<i4", "<i4", "u1"],
        "offsets": [0, 8, 16, 20, 24, 28],
        "itemsize": 32,
    }
)
COMPONENTS: Final = {
    1: "energy", 2: "tier_adder", 3: "rounding", 4: "credit", 5: "opening", 6: "adjustment", 7: "reversal"
}  # fmt: skip
TABLES: Final = (
    "points", "accounts", "tariffs", "attributes", "meters", "registers", "opening_registers", "changeouts",
    "opening_accounts",
)  # fmt: skip
_SHIFT: Final = 48
_BUSY_S: Final = 10.0


class RecordsMissing(Exception):
    """Offsets between archive and log that the ledger says were applied, and that are nowhere."""


@dataclass(slots=True)
class Command:
    """An inbox row as applied in one partition after record `offset`."""

    id: int
    offset: int
    kind: str
    key: str
    body: dict[str, Any]
    outcome: str


@dataclass(slots=True)
class Snapshot:
    """The ledger at one moment. Cursors: partition -> (checkpoint, offset)."""

    cursors: dict[int, tuple[int, int]] = field(default_factory=dict)
    entry_last: int = 0
    commands: dict[int, list[Command]] = field(default_factory=lambda: defaultdict(list))
    files: dict[int, list[tuple[int, int, str]]] = field(default_factory=lambda: defaultdict(list))
    versions: list[str] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)


def connect(path: Path) -> sqlite3.Connection:
    """Read-only, and with a deadline for a busy database."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
    connection.row_factory = sqlite3.Row
    return connection


def snapshot(paths: Paths) -> Snapshot:
    """Everything but the packed money, in one transaction."""
    found = Snapshot()
    with closing(connect(paths.ledger)) as db:
        db.execute("BEGIN")
        cursors = 'SELECT partition, MAX(id) AS id, "offset" FROM checkpoint GROUP BY partition'
        for row in db.execute(cursors):
            found.cursors[row["partition"]] = row["id"], row["offset"]
        found.entry_last = int(db.execute("SELECT COALESCE(MAX(id), 0) FROM entry").fetchone()[0])
        applied = (
            'SELECT i.id, a.partition, a."offset" AS at, i.kind, i.key, i.body, a.outcome FROM inbox_applied a'
            " JOIN inbox i ON i.id = a.inbox_id ORDER BY a.partition, at, i.id"
        )
        for row in db.execute(applied):
            body = json.loads(row["body"])
            command = Command(row["id"], row["at"], row["kind"], row["key"], body, row["outcome"])
            found.commands[row["partition"]].append(command)
        for row in db.execute("SELECT partition, first_offset, last_offset, path FROM archive_file ORDER BY 1, 2"):
            found.files[row["partition"]].append((row["first_offset"], row["last_offset"], row["path"]))
        found.versions = [r["digest"] for r in db.execute("SELECT digest FROM registry_version ORDER BY number")]
        found.orders = [dict(row) for row in db.execute("SELECT * FROM order_")]
    return found


def records(
    paths: Paths, snap: Snapshot, partition: int, after_offset: int
) -> Iterator[tuple[int, int, int, str, bytes]]:
    """(offset, kind, received_at_s, source, body) up to the cursor: the archive, then what only the log has."""
    end = snap.cursors[partition][1]
    at = after_offset
    for record in _stored(paths, snap, partition, after_offset, end):
        if record[0] != at + 1:
            raise RecordsMissing(f"partition {partition}: record {at + 1} is neither in the archive nor in the log")
        at = record[0]
        yield record
    if at < end:
        raise RecordsMissing(f"partition {partition}: record {at + 1} is neither in the archive nor in the log")


def _stored(
    paths: Paths, snap: Snapshot, partition: int, after: int, end: int
) -> Iterator[tuple[int, int, int, str, bytes]]:
    columns = ["offset", "kind", "received_at_s", "source", "body"]
    for first, last, path in snap.files.get(partition, []):
        if last <= after or first > end:
            continue
        with pq.ParquetFile(paths.archive / path) as file:
            for batch in file.iter_batches(batch_size=512, columns=columns):
                for row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    if after < row[0] <= end:
                        after = row[0]
                        yield row
    if after >= end:
        return
    low, high = partition << _SHIFT | (after + 1), partition << _SHIFT | end
    with closing(connect(paths.log)) as db:
        found = db.execute(
            "SELECT id, kind, received_at_s, source, body FROM record WHERE id BETWEEN ? AND ? ORDER BY id",
            (low, high),
        )
        for row in found:
            yield row["id"] & ((1 << _SHIFT) - 1), row["kind"], row["received_at_s"], row["source"], row["body"]


def columns_of(body: bytes) -> Columns:
    """The columns of a READINGS record as lists of Python integers."""
    batch = pa.ipc.read_record_batch(pa.py_buffer(body), READING_SCHEMA)
    meter, value, read_at_s, register, quality = (batch.column(i).to_numpy().tolist() for i in range(5))
    return meter, value, read_at_s, register, quality


def world(paths: Paths, digest: str) -> World:
    """One registry version, derived from its tables."""
    folder = paths.registry / digest
    version = json.loads((folder / "version.json").read_text())
    tables = {name: _rows(folder / f"{name}.parquet") for name in TABLES}
    return build(digest, int(version["partitions"]), str(version["timezone"]), tables)


def _rows(path: Path) -> list[Any]:
    return list(pq.read_table(path).to_pylist()) if path.is_file() else []


@dataclass(slots=True)
class Found:
    """One partition's posted money. `amounts`: (slot, day, component) -> sum; `quantity`: (slot, day) -> Wh."""

    amounts: dict[tuple[int, int, str], int] = field(default_factory=lambda: defaultdict(int))
    by_entry: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    postings: list[tuple[int, str, int]] = field(default_factory=list)
    single: list[tuple[str, str, int, int]] = field(default_factory=list)  # reference, kind, slot, amount


def posted(paths: Paths, partition: int, entry_after: int, entry_last: int) -> Found:
    """Entries (entry_after, entry_last] of a partition, unpacked."""
    found = Found()
    span = (partition, entry_after, entry_last)
    with closing(connect(paths.ledger)) as db:
        heads = {
            row["id"]: row
            for row in db.execute(
                "SELECT id, kind, reference FROM entry WHERE partition = ? AND id > ? AND id <= ?", span
            )
        }
        found.postings = [
            (row["entry_id"], row["account_name"], row["amount_fen"])
            for row in db.execute(
                "SELECT p.entry_id, p.account_name, p.amount_fen FROM posting p JOIN entry e ON e.id = p.entry_id"
                " WHERE e.partition = ? AND e.id > ? AND e.id <= ?",
                span,
            )
        ]
        pages = db.execute(
            "SELECT entry_id, body FROM subledger WHERE partition = ? AND entry_id > ? AND entry_id <= ?", span
        )
        for page in pages:
            head = heads[page["entry_id"]]
            rows = np.frombuffer(page["body"], SUBLEDGER_ROW)
            columns = (rows[name].tolist() for name in ("amount_fen", "quantity", "slot", "day", "component"))
            for amount, quantity, slot, day, number in zip(*columns, strict=True):
                component = COMPONENTS.get(number, f"component {number}")
                dated = component in ("energy", "tier_adder", "rounding")
                found.by_entry[page["entry_id"]] += amount
                if amount:
                    found.amounts[slot, day if dated else -1, component] += amount
                if quantity:
                    found.amounts[slot, day, "quantity_wh"] += quantity
                if head["kind"] in ("credit", "reversal"):
                    found.single.append((str(head["reference"]), head["kind"], slot, amount))
    return found


def gateway_book(path: Path) -> list[dict[str, Any]]:
    """Rows of a gateway's book: table `charge` of an SQLite file, or a JSON list (or {"charges": [...]})."""
    if path.suffix == ".json":
        told = json.loads(path.read_text())
        return list(told["charges"] if isinstance(told, dict) else told)
    with closing(connect(path)) as db:
        return [dict(row) for row in db.execute("SELECT * FROM charge")]
