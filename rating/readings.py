"""Pure: what rating is fed: the record, its columns, and the port of the reading log.

A record's `body` for READINGS is one Arrow record batch message (no schema message before it) under
`READING_SCHEMA` (built in `ingest.wire`): fixed-width columns, no nulls, one row a reading. It holds meter
*addresses*, never slots. For REJECT the body is the message's bytes; for TICK it is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

# Column name -> numpy type, in wire order. 22 bytes a reading.
READING_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "meter": np.uint64,  # address: 12 decimal digits of DL/T 645, or 2**63 + digest of a text serial
    "value": np.int64,  # register in thousandths of its unit (Wh, litre), before the multiplier
    "read_at_s": np.uint32,  # UTC seconds, device time
    "register": np.uint8,  # config.units.REGISTER_CODE
    "quality": np.uint8,  # config.units.Quality
}


@dataclass(slots=True)
class Readings:
    """Columns of equal length, one row a reading (types as `READING_COLUMNS`)."""

    meter: npt.NDArray[np.uint64]
    value: npt.NDArray[np.int64]
    read_at_s: npt.NDArray[np.uint32]
    register: npt.NDArray[np.uint8]
    quality: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.meter)


@dataclass(slots=True)
class Frames:
    """The bodies of several records, end to end, and where the columns of each lie: what `gather` reads.

    `data` uint8; `rows` int64[records]; `starts` int64[records, 5], of the columns of `READING_COLUMNS` in `data`,
    each a multiple of 8.
    """

    data: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Readings:
        """One record's columns, as views."""
        rows = int(self.rows[number])
        columns = []
        for start, kind in zip(self.starts[number], READING_COLUMNS.values(), strict=True):
            size = rows * np.dtype(kind).itemsize
            columns.append(self.data[start : start + size].view(kind))
        return Readings(*columns)


class RecordKind(IntEnum):
    """What a record of the log is; the numbers are stored."""

    READINGS = 1
    REJECT = 2
    TICK = 3


class Record(NamedTuple):
    """One entry of a partition's log, before it has an offset.

    `received_at_s` (UTC) is the only now that rating knows; for a TICK it is `as_of`. `sequence` is -1 for a
    source that cannot number its messages. `detail` holds the reject's reason and note: "reason: note".
    """

    kind: RecordKind
    partition: int
    received_at_s: int
    source: str  # concentrator id as in the topic; "" for ticks
    stream: str
    sequence: int
    body: bytes
    detail: str = ""


class StoredRecord(NamedTuple):
    """A durable record with its offset in the partition (1, 2, 3 ...; 0 means: nothing yet)."""

    offset: int
    record: Record


class LogFailed(Exception):
    """The log could not take or give records; `retriable` says whether waiting may help."""

    def __init__(self, what: str, *, retriable: bool) -> None:
        super().__init__(what)
        self.retriable = retriable


class ReadingLog(Protocol):
    """Append-only, per partition, durable when `append` returns. Contract: tests/ingest/test_log_contract.py."""

    @property
    def log_id(self) -> str:
        """Random at creation; the ledger's cursor is only valid against this id."""
        ...

    def append(self, records: Sequence[Record]) -> list[StoredRecord]:
        """Make all of them durable, in order; raise `LogFailed` and have written none of them."""
        ...

    def read(self, partition: int, after_offset: int, records_max: int) -> list[StoredRecord]:
        """The next records of a partition, oldest first; empty when there is nothing after."""
        ...

    def bounds(self, partition: int) -> tuple[int, int]:
        """First offset still kept, and the last one written (0 when none was ever)."""
        ...

    def prune(self, partition: int, below_offset: int) -> None:
        """Forget records with offset < below_offset; the caller has checked ledger and archive."""
        ...

    def close(self) -> None: ...
