"""I/O (through the log it wraps): the newest durable records also in memory, so that rating need not read back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from ingest.port import IngestLog
from ingest.sequences import Mark
from rating.readings import Record, StoredRecord

_OVERHEAD_BYTES: Final = 200  # of a record beside its body


class TailedLog:
    """An `IngestLog` that serves `read` from memory when it holds what follows `after_offset`."""

    def __init__(self, log: IngestLog, tail_max_bytes: int) -> None:
        self._log = log
        self._left_bytes = tail_max_bytes
        self._tails: dict[int, deque[StoredRecord]] = {}
        self._order: deque[int] = deque()  # partition of each kept record, oldest first
        self._appending = threading.Lock()  # held through the fsync, so that the tail keeps the log's order
        self._lock = threading.Lock()  # held briefly
        self.served = 0
        self.missed = 0

    @property
    def log_id(self) -> str:
        return self._log.log_id

    @property
    def inner(self) -> IngestLog:
        """The log itself."""
        return self._log

    def append(self, records: Sequence[Record], marks: Sequence[Mark] = ()) -> list[StoredRecord]:
        with self._appending:
            stored = self._log.append(records, marks)
            self._keep(stored)
        return stored

    def _keep(self, stored: Sequence[StoredRecord]) -> None:
        with self._lock:
            for entry in stored:
                self._tails.setdefault(entry.record.partition, deque()).append(entry)
                self._order.append(entry.record.partition)
                self._left_bytes -= len(entry.record.body) + _OVERHEAD_BYTES
            while self._left_bytes < 0 and self._order:
                self._drop_oldest(self._order.popleft())

    def _drop_oldest(self, partition: int) -> None:
        tail = self._tails.get(partition)
        if tail:
            self._left_bytes += len(tail.popleft().record.body) + _OVERHEAD_BYTES

    def read(self, partition: int, after_offset: int, records_max: int) -> list[StoredRecord]:
        with self._lock:
            tail = self._tails.get(partition)
            if tail and tail[0].offset <= after_offset + 1:
                start = after_offset + 1 - tail[0].offset
                self.served += 1
                # By place, which a deque finds from its nearer end: rating reads at the right end of a long one.
                return [tail[place] for place in range(start, min(len(tail), start + records_max))]
        self.missed += 1
        return self._log.read(partition, after_offset, records_max)

    def bounds(self, partition: int) -> tuple[int, int]:
        return self._log.bounds(partition)

    def prune(self, partition: int, below_offset: int) -> None:
        self._log.prune(partition, below_offset)
        with self._lock:
            tail = self._tails.get(partition)
            dropped = 0
            while tail and tail[0].offset < below_offset:
                self._drop_oldest(partition)
                dropped += 1
            if dropped:
                self._forget_order(partition, dropped)

    def _forget_order(self, partition: int, count: int) -> None:
        """Take the oldest `count` entries of a partition out of the order of dropping."""
        kept: deque[int] = deque()
        for other in self._order:
            if other == partition and count > 0:
                count -= 1
            else:
                kept.append(other)
        self._order = kept

    def marks(self) -> list[Mark]:
        return self._log.marks()

    def close(self) -> None:
        self._log.close()
