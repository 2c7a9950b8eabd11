"""Pure: the reading log as ingest needs it: the port of rating, with the streams' marks beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingest.sequences import Mark
from rating.readings import ReadingLog, Record, StoredRecord


class IngestLog(ReadingLog, Protocol):
    """A `ReadingLog` that also keeps marks, durable together with the records that moved them."""

    def append(self, records: Sequence[Record], marks: Sequence[Mark] = ()) -> list[StoredRecord]:
        """All records and marks, or none (`LogFailed`)."""
        ...

    def marks(self) -> list[Mark]:
        """The newest mark of every stream."""
        ...
