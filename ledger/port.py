"""Pure: the port of the ledger and what can go wrong at it. Contract: tests/ledger/test_contract.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection

from ledger.effects import PartitionCheckpoint, Recovered

T = TypeVar("T")


MAKE_ROOM: Final = "Make room on its disk, and start again"


class StartRefused(Exception):
    """The data are not what a daemon may go on from; nothing was changed. Says what a person should do."""

    def __init__(self, what: str, what_to_do: str) -> None:
        super().__init__(f"{what}. {what_to_do}")
        self.what = what
        self.what_to_do = what_to_do


class Fenced(Exception):
    """Somebody else owns this role by now: nothing was written, and whoever asked must drop the role."""

    def __init__(self, role: str, *, epoch: int, owner_epoch: int | None) -> None:
        super().__init__(f"{role}: epoch {epoch} is fenced off, the owner's is {owner_epoch}")
        self.role = role
        self.epoch = epoch
        self.owner_epoch = owner_epoch


class LedgerFailed(Exception):
    """A write did not end in time or the writer is closed; `retriable`: nothing was written and nothing will be."""

    def __init__(self, what: str, *, retriable: bool) -> None:
        super().__init__(what)
        self.retriable = retriable


class KeyConflict(Exception):
    """The same idempotency key with other contents: a caller's mistake, and nothing was written."""


class LogBounds(Protocol):
    """What the ledger asks of a reading log before a start (`rating.readings.ReadingLog` has it)."""

    @property
    def log_id(self) -> str: ...

    def bounds(self, partition: int) -> tuple[int, int]: ...


class CommitPort(Protocol):
    """A checkpoint on its way to the disk; asked by the one thread that began it."""

    @property
    def done(self) -> bool:
        """Whether `result` will not wait."""
        ...

    def then(self, call: Callable[[], None]) -> None:
        """Call (from any thread) when it is over."""
        ...

    def result(self) -> None:
        """Return when it is durable; raise what `LedgerPort.commit` would."""
        ...

    def again(self) -> None:
        """After a `LedgerFailed` that is retriable (a full disk): try the same transaction once more."""
        ...


class LedgerPort(Protocol):
    """One writer, many readers, one transaction for all partitions of a checkpoint."""

    def recover(self, partition: int) -> Recovered:
        """State as of the newest checkpoint; `StartRefused` when anything in it does not check."""
        ...

    def check_log(self, log: LogBounds) -> None:
        """`StartRefused` unless every cursor can go on in this log."""
        ...

    def commit(self, checkpoints: Sequence[PartitionCheckpoint]) -> None:
        """Make all of them true at once, durable on return; `Fenced` or an AssertionError and none of them is."""
        ...

    def commit_later(self, checkpoints: Sequence[PartitionCheckpoint]) -> CommitPort:
        """The same, not waited for: when this returns their arrays may change. One at a time."""
        ...

    def write(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> T:
        """Any other unit of work, in the one writer; rolled back when it raises."""
        ...

    def reader(self) -> AbstractContextManager[Connection]:
        """A connection that cannot write and sees one moment."""
        ...

    def take_over(self, role: str, holder: str) -> int:
        """Raise the role's epoch and return it: from here on the former owner is fenced."""
        ...

    def close(self) -> None: ...
