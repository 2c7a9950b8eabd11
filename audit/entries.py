"""I/O: the posted money of one partition, page by page in the order in which it was written.

Entries, postings and packed rows are only ever appended, so they are read in chunks outside the snapshot, up to
the last entry that it knows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from audit.packed import CHARGES, COMPONENTS, CONTAINED, SUBLEDGER_ROW, checksum
from audit.sources import Fault, Snapshot, connect
from config.settings import Paths

_CHUNK: Final = 64  # pages of at most some dozen kB
NO_DAY: Final = -1
_DATED: Final = ("energy", "tier_adder", "rounding")
_PAGES: Final = (  # by rowid, which is the order of writing: no index leads there, and the rows are few and long
    'SELECT s.rowid AS place, s.page, s.entry_id, s.body, s.crc, e.kind, e.reference, e."offset" FROM subledger s'
    " LEFT JOIN entry e ON e.id = s.entry_id"
    " WHERE s.rowid > ? AND +s.partition = ? AND s.entry_id > ? AND s.entry_id <= ? ORDER BY s.rowid LIMIT ?"
)
_POSTINGS: Final = (
    "SELECT p.entry_id, p.account_name, p.amount_fen FROM posting p JOIN entry e ON e.id = p.entry_id"
    " WHERE e.partition = ? AND e.id > ? AND e.id <= ? ORDER BY e.id"
)
_STEP: Final = 10_000  # entry ids at a time
Amount = tuple[int, int, str, int]  # slot, day, component, fen or Wh


@dataclass(slots=True)
class Page:
    """The rows of one entry in one page of accounts; `total`: their sum in fen."""

    entry: int
    offset: int
    kind: str
    reference: str
    amounts: list[Amount]
    total: int


def pages(paths: Paths, snap: Snapshot, entry_after: int) -> Iterator[Page]:
    """Subledger pages of entries (entry_after, snap.entry_last], in the order written."""
    place = 0
    while True:
        with closing(connect(paths.ledger)) as db:
            asked = (place, snap.partition, entry_after, snap.entry_last, _CHUNK)
            rows = db.execute(_PAGES, asked).fetchall()
        for row in rows:
            place = row["place"]
            yield _unpacked(row, snap)
        if len(rows) < _CHUNK:
            return


def _unpacked(row: sqlite3.Row, snap: Snapshot) -> Page:
    entry, body = int(row["entry_id"]), row["body"]
    where = f"entry {entry}, page {row['page']} of partition {snap.partition}"
    if checksum(snap.partition, "subledger", row["page"], entry, body) != row["crc"]:
        snap.faults.append(Fault("subledger", f"{where}: the checksum does not match"))
    if len(body) % SUBLEDGER_ROW.itemsize:
        snap.faults.append(Fault("subledger", f"{where}: its length does not fit"))
        body = body[: len(body) - len(body) % SUBLEDGER_ROW.itemsize]
    if row["kind"] is None:
        snap.faults.append(Fault("subledger", f"{where}: there is no such entry"))
    rows = np.frombuffer(body, SUBLEDGER_ROW)
    amounts, total = _amounts(rows)
    return Page(entry, row["offset"] or 0, row["kind"] or "", str(row["reference"]), amounts, total)


def _amounts(rows: Any) -> tuple[list[Amount], int]:
    found: list[Amount] = []
    total = 0
    names = ("amount_fen", "quantity", "slot", "day", "component", "version", "place")
    for amount, quantity, slot, day, number, version, place in zip(
        *(rows[name].tolist() for name in names), strict=True
    ):
        component = COMPONENTS.get(number, f"component {number}")
        if number in CHARGES:  # each by itself; what is contained has an amount that is no money
            what = quantity if number == CONTAINED else amount
            found.append((slot, day, f"{component} {version}.{place}", what))
            total += amount
            continue
        total += amount
        if amount:
            found.append((slot, day if component in _DATED else NO_DAY, component, amount))
        if quantity:
            found.append((slot, day, "quantity_wh", quantity))
    return found, total


def postings(paths: Paths, snap: Snapshot, entry_after: int) -> Iterator[tuple[int, str, int]]:
    """(entry, account name, fen) of every posting of the partition's entries, in order of entries."""
    for low in range(entry_after, snap.entry_last, _STEP):
        with closing(connect(paths.ledger)) as db:
            span = (snap.partition, low, min(low + _STEP, snap.entry_last))
            rows = db.execute(_POSTINGS, span).fetchall()
        for row in rows:
            yield row["entry_id"], row["account_name"], row["amount_fen"]


def verify_rest(paths: Paths, snap: Snapshot, entry_after: int, offset_after: int) -> int:
    """Checksums of packed rows whose money is not compared row by row: bills and late readings; returns how many."""
    count = 0
    asked = "SELECT page, entry_id, body, crc FROM bill_page WHERE partition = ? AND entry_id > ? AND entry_id <= ?"
    with closing(connect(paths.ledger)) as db:
        for page, entry, body, crc in db.execute(asked, (snap.partition, entry_after, snap.entry_last)):
            count += 1
            if checksum(snap.partition, "bill", page, entry, body) != crc:
                where = f"entry {entry}, page {page} of partition {snap.partition}"
                snap.faults.append(Fault("bill", f"{where}: the checksum does not match"))
        asked = 'SELECT id, "offset", body, crc FROM late_page WHERE partition = ? AND "offset" > ? AND "offset" <= ?'
        for number, offset, body, crc in db.execute(asked, (snap.partition, offset_after, snap.offset)):
            count += 1
            if checksum(snap.partition, "late", 0, offset, body) != crc:
                where = f"late page {number} of partition {snap.partition}"
                snap.faults.append(Fault("late", f"{where}: the checksum does not match"))
    return count
