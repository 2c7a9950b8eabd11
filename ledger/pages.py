"""Pure: state arrays as pages and deltas: which slots go how, their bytes, their checksums, and back.

A page holds PAGE_SLOTS rows of one array (the last one fewer); its body is those rows. A delta holds the rows
of one checkpoint that changed; its body is the int32 slots, then the rows. A checksum covers the body and its
place (partition, array, page or delta, version, format), so a whole page in the wrong place is noticed too.

    version      7        8        9        10
    page 0       [rows]                              deltas 8 and 10 touch pages 0 and 3: start-up applies them
    page 3       [rows]                              over the pages, each only where the page is older
    delta                 {..}              {..}

Deltas are cheap to write and dear to keep. When those of a partition pass a limit, every page that they touch
is written whole and they are deleted, in the same transaction (`plan`, `Backlog`).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ledger.effects import PAGE_SLOTS, STATE_FORMAT, StateChange

Rows = npt.NDArray[np.void]
Slots = npt.NDArray[np.int32]
DELTAS_MAX: Final = 1024  # of one partition, all arrays together: bounds start-up whatever their size
DELTA: Final = -1  # stands for the page number in a delta's checksum


class Damaged(Exception):
    """Bytes that are not what was written: checksum, format or shape."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One page (`page` >= 0) or delta (`page` = DELTA) ready to store; `count` rows in it."""

    array: str
    page: int
    count: int
    body: bytes


@dataclass(slots=True)
class Backlog:
    """What the stored deltas of one partition's array amount to, and how long the stored array is."""

    slots: int = 0
    delta_bytes: int = 0
    deltas: int = 0
    pages: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one array's change is stored; `refresh`: its older deltas go in the same transaction."""

    blobs: list[Blob]
    refresh: bool
    after: Backlog


def checksum(partition: int, array: str, page: int, version: int, body: bytes, layout: int = STATE_FORMAT) -> int:
    """CRC-32 over place and body."""
    head = struct.pack("<qqqq", partition, page, version, layout) + array.encode()
    return zlib.crc32(body, zlib.crc32(head))


def row_checksum(*values: object) -> int:
    """CRC-32 over the fields of a row, separated so that no two lists of fields look alike."""
    return zlib.crc32("\x1f".join(str(value) for value in values).encode())


def touched(change: StateChange, stored_slots: int) -> Slots:
    """Changed slots; those beyond the stored length count as changed whether or not they are named."""
    length = len(change.rows)
    if length < stored_slots:
        raise AssertionError(f"a state array shrank from {stored_slots} to {length}: slots are never taken back")
    dirty = np.asarray(change.dirty, dtype=np.int32)
    if len(dirty) and not (dirty[0] >= 0 and dirty[-1] < length and bool(np.all(dirty[1:] > dirty[:-1]))):
        raise AssertionError("dirty slots must be sorted, distinct and inside the array")
    if length == stored_slots:
        return dirty
    grown = np.arange(stored_slots, length, dtype=np.int32)
    return np.concatenate((dirty[dirty < stored_slots], grown))


def plan(array: str, change: StateChange, backlog: Backlog, *, refresh: bool) -> Plan:
    """Choose a delta or whole pages, whichever is fewer bytes; with `refresh`, all pages dirtied by now."""
    slots = touched(change, backlog.slots)
    length = len(change.rows)
    page_of = slots // PAGE_SLOTS
    pages = page_of[np.flatnonzero(np.diff(page_of, prepend=-1))]
    if refresh:
        every = np.array(sorted(backlog.pages.union(pages.tolist())), dtype=np.int64)
        return Plan([_page(array, change.rows, int(page)) for page in every], refresh=True, after=Backlog(length))
    if not len(slots):
        return Plan([], refresh=False, after=backlog)
    itemsize = change.rows.dtype.itemsize
    delta_bytes = len(slots) * (4 + itemsize)
    page_bytes = int(np.minimum(PAGE_SLOTS, length - pages * PAGE_SLOTS).sum()) * itemsize
    if page_bytes <= delta_bytes:
        blobs = [_page(array, change.rows, int(page)) for page in pages]
        # Older deltas of these pages stay and are skipped at start-up, page by page.
        after = Backlog(length, backlog.delta_bytes, backlog.deltas, backlog.pages)
        return Plan(blobs, refresh=False, after=after)
    body = slots.astype("<i4").tobytes() + change.rows[slots].tobytes()
    after = Backlog(length, backlog.delta_bytes + len(body), backlog.deltas + 1, backlog.pages.union(pages.tolist()))
    return Plan([Blob(array, DELTA, len(slots), body)], refresh=False, after=after)


def _page(array: str, rows: Rows, page: int) -> Blob:
    part = rows[page * PAGE_SLOTS : (page + 1) * PAGE_SLOTS]
    return Blob(array, page, len(part), part.tobytes())


class Loader:
    """Puts one array together again: pages first, then deltas in order of version, then `finish`."""

    def __init__(self, partition: int, array: str, dtype: np.dtype[np.void], slots: int) -> None:
        self._partition, self._array, self._itemsize = partition, array, dtype.itemsize
        self._rows: Rows = np.zeros(slots, dtype)
        self._bytes = self._rows.view(np.uint8).reshape(-1)
        pages = -(-slots // PAGE_SLOTS)
        self._versions = np.full(pages, -1, np.int64)
        self._covered = np.zeros(pages, np.int64)  # rows of a page that came with the page itself
        self._loose: set[int] = set()  # slots that only deltas brought

    def _verify(self, page: int, version: int, layout: int, body: bytes, crc: int) -> None:
        where = f"partition {self._partition}, {self._array}, " + (f"page {page}" if page >= 0 else "delta")
        if layout != STATE_FORMAT:
            raise Damaged(f"{where}, version {version}: format {layout} is not known")
        if checksum(self._partition, self._array, page, version, body, layout) != crc:
            raise Damaged(f"{where}, version {version}: the checksum does not match")

    def page(self, page: int, version: int, layout: int, body: bytes, crc: int) -> None:
        """One stored page; raises `Damaged`."""
        self._verify(page, version, layout, body, crc)
        start = page * PAGE_SLOTS * self._itemsize
        if page >= len(self._versions) or start + len(body) > len(self._bytes) or len(body) % self._itemsize:
            raise Damaged(f"partition {self._partition}, {self._array}, page {page}: its length is wrong")
        self._bytes[start : start + len(body)] = np.frombuffer(body, np.uint8)
        self._versions[page] = version
        self._covered[page] = len(body) // self._itemsize

    def delta(self, version: int, layout: int, count: int, body: bytes, crc: int) -> None:
        """One stored delta; rows of pages that are as new or newer are skipped; raises `Damaged`."""
        self._verify(DELTA, version, layout, body, crc)
        if len(body) != count * (4 + self._itemsize):
            raise Damaged(f"partition {self._partition}, {self._array}, delta {version}: its length is wrong")
        slots = np.frombuffer(body, "<i4", count)
        rows = np.frombuffer(body, self._rows.dtype, count, offset=4 * count)
        if count and int(slots[-1]) >= len(self._rows):
            raise Damaged(f"partition {self._partition}, {self._array}, delta {version}: slot beyond the array")
        newer = self._versions[slots // PAGE_SLOTS] < version
        self._rows[slots[newer]] = rows[newer]
        loose = slots % PAGE_SLOTS >= self._covered[slots // PAGE_SLOTS]
        self._loose.update(slots[loose].tolist())

    def finish(self) -> Rows:
        """The array; `Damaged` when some slot was never stored."""
        pages = np.arange(len(self._versions))
        expected = np.minimum(PAGE_SLOTS, len(self._rows) - pages * PAGE_SLOTS)
        missing = int((expected - self._covered).sum()) - len(self._loose)
        if missing:
            raise Damaged(f"partition {self._partition}, {self._array}: {missing} slots are missing")
        return self._rows
