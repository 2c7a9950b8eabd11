"""Pure: what ingest's worker stands between: the link to a broker, and the reading log with the streams' marks."""

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


class LinkPort(Protocol):
    """One shard's session with its broker, as the worker uses it (`ingest.link.Link`; a simulated world has its own).

    A *generation* is one connection; what was received over an older one is no longer acknowledged.
    """

    paused: bool
    shard: str

    @property
    def connected(self) -> bool: ...

    @property
    def reconnects(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    def start(self) -> None:
        """Connect, for as long as it takes, and put what comes into the queue."""
        ...

    def watch(self) -> None:
        """Replace what is dead."""
        ...

    def close(self, deadline_real_s: float) -> None: ...

    def acknowledge(self, generation: int, mids: list[int]) -> int:
        """PUBACKs in order; returns how many (none when the connection is another one by now)."""
        ...

    def tell(self, messages: Sequence[tuple[str, bytes]]) -> bool:
        """Publish with QoS 0; False when there is no connection."""
        ...

    def publish(self, topic: str, payload: bytes) -> bool:
        """Publish with QoS 1; False when there is no connection."""
        ...

    def resume(self) -> None:
        """Take messages again after back-pressure."""
        ...
