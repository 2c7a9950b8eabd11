"""I/O (none really): the reading log as a fake, with faults on demand; it passes the real one's contract."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence

from ingest.sequences import Mark
from rating.readings import LogFailed, Record, StoredRecord


class MemoryLog:
    """Forgets everything with the process; `fail_next` makes the next appends fail, retriably."""

    def __init__(self, log_id: str | None = None) -> None:
        self._log_id = log_id or uuid.uuid4().hex
        self._records: dict[int, list[StoredRecord]] = {}
        self._last: dict[int, int] = {}
        self._marks: dict[tuple[str, str], Mark] = {}
        self._lock = threading.Lock()
        self.fail_next = 0

    @property
    def log_id(self) -> str:
        return self._log_id

    def append(self, records: Sequence[Record], marks: Sequence[Mark] = ()) -> list[StoredRecord]:
        with self._lock:
            if self.fail_next > 0:
                self.fail_next -= 1
                raise LogFailed("told to fail", retriable=True)
            stored = []
            for record in records:
                offset = self._last.get(record.partition, 0) + 1
                self._last[record.partition] = offset
                stored.append(StoredRecord(offset, record))
                self._records.setdefault(record.partition, []).append(stored[-1])
            self._marks.update({(mark.source, mark.stream): mark for mark in marks})
            return stored

    def read(self, partition: int, after_offset: int, records_max: int) -> list[StoredRecord]:
        with self._lock:
            kept = self._records.get(partition, [])
            start = max(0, after_offset + 1 - kept[0].offset) if kept else 0
            return kept[start : start + records_max]

    def bounds(self, partition: int) -> tuple[int, int]:
        with self._lock:
            last = self._last.get(partition, 0)
            kept = self._records.get(partition, [])
            return (kept[0].offset if kept else last + 1 if last else 0), last

    def prune(self, partition: int, below_offset: int) -> None:
        with self._lock:
            kept = self._records.get(partition, [])
            self._records[partition] = [stored for stored in kept if stored.offset >= below_offset]

    def marks(self) -> list[Mark]:
        with self._lock:
            return list(self._marks.values())

    def close(self) -> None:
        """Nothing to close."""
