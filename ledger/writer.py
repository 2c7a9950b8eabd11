"""I/O: the one thread that writes the ledger: units of work in order, each a transaction, with deadlines.

    callers --queue (bounded)--> thread: BEGIN IMMEDIATE, work(connection), COMMIT --future--> callers

A unit that could not start before its deadline never starts. One that is running when the deadline passes has
an unknown outcome, and the caller is told so: it must look, or stop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from ledger.port import LedgerFailed

T = TypeVar("T")
_Job = tuple[Callable[[Connection], Any], "Future[Any]"]


def outcome(future: Future[T], wait_s: float) -> T:
    """What a unit of work came to; `LedgerFailed` past the deadline."""
    try:
        return future.result(wait_s)
    except TimeoutError:
        if future.done():  # the work's own TimeoutError
            raise
        if future.cancel():
            raise LedgerFailed(f"the ledger did not get to it in {wait_s} s", retriable=True) from None
        raise LedgerFailed(
            f"a write still runs after {wait_s} s: look before repeating it", retriable=False
        ) from None


class WriterPort(Protocol):
    """Units of work, each a transaction, in the order in which they were asked for."""

    def do(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> T: ...

    def later(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> Future[T]: ...

    def close(self) -> None: ...


class WriterMaker(Protocol):
    """Makes one on an engine; it refuses more than `queue_max` waiting units and waits `deadline_s` for each."""

    def __call__(self, engine: Engine, *, queue_max: int, deadline_s: float) -> WriterPort: ...


class Writer:
    """Owns the writing connection; `do` may be called from any thread but the writer's own."""

    def __init__(self, engine: Engine, *, queue_max: int, deadline_s: float) -> None:
        self._connection = engine.connect()  # here, so that a file that cannot be opened is the opener's to tell
        self._deadline_s = deadline_s
        self._queue: queue.Queue[_Job | None] = queue.Queue(queue_max)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> T:
        """Run `work` in a transaction of its own and return its value once that is durable."""
        wait_s = self._deadline_s if deadline_s is None else deadline_s
        return outcome(self.later(work, deadline_s=wait_s), wait_s)

    def later(self, work: Callable[[Connection], T], *, deadline_s: float | None = None) -> Future[T]:
        """Queue `work`; the future has its value once its transaction is durable."""
        assert threading.current_thread() is not self._thread, "a unit of work asked for another one"
        if self._closed:
            raise LedgerFailed("the ledger is closed", retriable=False)
        wait_s = self._deadline_s if deadline_s is None else deadline_s
        future: Future[T] = Future()
        try:
            self._queue.put((work, future), timeout=wait_s)
        except queue.Full:
            raise LedgerFailed(f"the ledger's queue stayed full for {wait_s} s", retriable=True) from None
        return future

    def _run(self) -> None:
        with self._connection as connection:
            while (job := self._queue.get()) is not None:
                work, future = job
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    with connection.begin():
                        value = work(connection)
                except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who gets it
                    future.set_exception(error)
                else:
                    future.set_result(value)

    def close(self) -> None:
        """Finish what is queued, then stop; raises `LedgerFailed` when that takes longer than the deadline."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None, timeout=self._deadline_s)
        self._thread.join(self._deadline_s)
        if self._thread.is_alive():
            raise LedgerFailed("the ledger's writer did not stop", retriable=False)
