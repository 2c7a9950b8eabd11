"""I/O: the rating role: log -> engines -> one checkpoint transaction, in one thread.

    for each partition: read the log after the cursor, apply; apply inbox rows that wait
    the log is rated to its end, and something changed:   checkpoint after checkpoint_idle_real_s
    under backlog:                                        checkpoint every checkpoint_busy_real_s

One checkpoint is on its way to the disk at a time, and rating goes on meanwhile. What comes once the log is rated to
its end waits until a checkpoint may begin or one has ended, and is rated together: a pass over sixteen partitions
costs the same for one reading in each as for fifty. The engine's state runs ahead of the ledger; after a crash the
log gives it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import Connection, select, text, update

from config.clock import Clock
from config.settings import Paths, RatingSettings, Settings
from config.steps import reach
from ingest.wire import decode_frames
from ledger.effects import InboxRow
from ledger.inbox import pending
from ledger.port import CommitPort, LedgerPort, StartRefused
from ledger.schema import inbox, inbox_applied, registry_version
from meterd.city import City
from meterd.loops import PAUSES_REAL_S, waiting_helps
from meterd.mandates import sync_mandates
from meterd.metrics import Metrics
from rating.engine import PartitionEngine
from rating.readings import ReadingLog

CityMaker = Callable[[Path, str, RatingSettings], City]
_INBOX_MAX: Final = 1000
_OPEN_ROWS: Final = select(inbox.c.id).where(text("settled = 0")).limit(1)  # asked ten times a second
_INBOX_POLL_REAL_S: Final = 0.2
_log = structlog.get_logger("rating")


class RatingLoop:
    """Owns every partition's engine. `start` recovers; the thread runs until `stop`; `failure` says why it ended."""

    def __init__(
        self,
        settings: Settings,
        store: LedgerPort,
        log: ReadingLog,
        clock: Clock,
        metrics: Metrics,
        *,
        on_city: Callable[[City], None],
        on_commit: Callable[[bool], None],
        make_city: CityMaker = City,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self.city: City | None = None
        self.engines: list[PartitionEngine] = []
        self.failure: BaseException | None = None
        self.lag = 0
        self.beat_real_s = clock.monotonic_s()
        self._settings, self._store, self._log_port, self._clock = settings, store, log, clock
        self._metrics, self._on_city, self._on_commit = metrics, on_city, on_commit
        self._make_city = make_city
        self._paths = Paths(settings.data_dir)
        self._epochs: list[int] = []
        self._in_force = ""  # the version that every partition stands on, when all that follows from it is done
        self._taken: set[tuple[int, int]] = set()  # inbox rows applied and not committed yet
        self._wake = threading.Event()
        self._due = threading.Event()  # a checkpoint has ended, or the loop is to
        self._behind = False  # the log has more than was rated
        self._inbox_asked = True
        self._inbox_at_real_s = float("-inf")
        self._commit_at_real_s = float("-inf")
        self._commit_began_real_s = float("-inf")
        self._commit: CommitPort | None = None  # at most one on its way
        self._commit_rows: list[tuple[int, int]] = []  # (partition, inbox row) that it applies
        self._commit_told = False  # it has something for autopay or for people
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait
        self._thread = threading.Thread(target=self._run, name="rating", daemon=True)

    # -- life ------------------------------------------------------------------------------------------------
    def recover(self) -> None:
        """Load every partition and take it over; raises StartRefused."""
        digests = set()
        # Read first, take over then: a refused start changes nothing. The directory's lock keeps other owners away.
        for partition in range(self._settings.partitions):
            recovered = self._store.recover(partition)
            engine = PartitionEngine(
                partition,
                rating=self._settings.rating,
                autopay=self._settings.autopay,
                currency=self._settings.currency,
                decode=decode_frames,
                recovered=recovered,
            )
            self.engines.append(engine)
            if recovered.registry_digest:
                digests.add(recovered.registry_digest)
                self._attach(engine, recovered.registry_digest, recovered.timeline_digest)
        for partition in range(self._settings.partitions):
            self._epochs.append(self._store.take_over(f"partition:{partition}", "meterd run"))
        if len(digests) > 1:  # a registry row that only some partitions have committed: the others apply it next
            _log.info("registry versions differ between partitions", digests=sorted(digests))
        if self.city is not None:
            self._on_city(self.city)

    def _attach(self, engine: PartitionEngine, digest: str, timeline_digest: str) -> None:
        city = self._load(digest)
        if city.book.digest != timeline_digest:
            raise StartRefused(
                f"The tariffs make other prices than those that partition {engine.partition} was rated with",
                "Start the release that it was rated with; where the registry version keeps no tariff files, put"
                " those of the settings back. A changed tariff is a new dated version in its file, brought in with a"
                " registry import",
            )
        engine.attach(city.image.partitions[engine.partition], city.book, city.names(engine.partition))

    def _load(self, digest: str) -> City:
        if self.city is None or self.city.digest != digest:
            _log.info("compiling tariffs for registry", digest=digest[:12])
            self.city = self._make_city(self._paths.registry, digest, self._settings.rating)
        return self.city

    def start(self) -> None:
        self._thread.start()

    def wake(self, *, inbox_too: bool = False) -> None:
        """Something may be waiting: records in the log, or rows in the inbox."""
        if inbox_too:
            self._inbox_asked = True
        self._wake.set()

    def stop(self, deadline_real_s: float) -> bool:
        """Apply nothing more, write the last checkpoint, end. False when the deadline was not enough."""
        self._stopping.set()
        self._wake.set()
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(deadline_real_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    # -- the loop --------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            self.begin()
            idle_real_s = self._settings.ledger.checkpoint_idle_real_s
            while True:
                self._due.clear()
                if self._stopping.is_set():
                    break
                if not self.step():  # the end of a commit wakes, too
                    changed = any(engine.changed for engine in self.engines)
                    self._wake.wait(idle_real_s if changed else _INBOX_POLL_REAL_S)
                    self._wake.clear()
                elif not self._behind:
                    self._due.wait(idle_real_s)
            self._settle(wait=True)
            self._inbox_asked = True
            self._apply_inbox()  # credits of the last payments
            if any(engine.changed for engine in self.engines):
                self._begin_checkpoint()
                self._settle(wait=True)
        except BaseException as error:
            self.failure = error
            _log.exception("rating stopped")
            if not isinstance(error, Exception):
                raise

    def begin(self) -> None:
        """Before the first step: a kill may have come between an activation and what follows it."""
        self._after_registry()

    def step(self) -> bool:
        """One bounded pass; False when nothing was to be done."""
        self.beat_real_s = self._clock.monotonic_s()
        moved = self._apply_log()
        moved |= self._apply_inbox()
        self._settle(wait=False)
        settings = self._settings.ledger
        changed = any(engine.changed for engine in self.engines)
        if changed and self._commit is None:
            since = self._clock.monotonic_s() - self._commit_at_real_s
            if since >= settings.checkpoint_busy_real_s or (
                not self._behind and since >= settings.checkpoint_idle_real_s
            ):
                self._begin_checkpoint()
                return True
        return moved

    def _apply_log(self) -> bool:
        moved = self._behind = False
        batch = self._settings.rating.batch_records_max
        for engine in self.engines:
            records = self._log_port.read(engine.partition, engine.offset, batch)
            if records:
                engine.apply(records)
                moved = True
                self._behind |= len(records) == batch
        return moved

    def _apply_inbox(self) -> bool:
        now = self._clock.monotonic_s()
        if not self._inbox_asked and now - self._inbox_at_real_s < _INBOX_POLL_REAL_S:
            return False
        self._inbox_asked, self._inbox_at_real_s = False, now
        moved = False
        with self._store.reader() as connection:
            if connection.execute(_OPEN_ROWS).first() is None:
                return False
            waiting = [pending(connection, e.partition, _INBOX_MAX) for e in self.engines]
        for engine, rows in zip(self.engines, waiting, strict=True):
            for row in rows:
                if (engine.partition, row.id) in self._taken:
                    continue
                self._taken.add((engine.partition, row.id))
                self._apply_row(engine, row)
                moved = True
        if moved:
            self._inbox_asked = True  # there may be more than one reading of the inbox held
        return moved

    def _apply_row(self, engine: PartitionEngine, row: InboxRow) -> None:
        if row.kind != "registry":
            engine.apply_inbox(row)
            return
        city = self._load(str(row.body["digest"]))
        engine.activate(row, city.image.partitions[engine.partition], city.book, city.names(engine.partition))

    def _begin_checkpoint(self) -> None:
        """Gather and copy what changed; rating goes on while the writer makes it durable."""
        self._commit_began_real_s = self._clock.monotonic_s()
        changed = [engine for engine in self.engines if engine.changed]
        log_id = self._log_port.log_id
        checkpoints = [e.checkpoint(epoch=self._epochs[e.partition], log_id=log_id) for e in changed]
        reach("checkpoint.gathered")
        self._commit = self._store.commit_later(checkpoints)
        self._commit_rows = [(c.partition, row.inbox_id) for c in checkpoints for row in c.applied]
        self._commit_told = any(c.events or c.notices or c.applied for c in checkpoints)
        self._commit.then(self._written)

    def _written(self) -> None:
        self._wake.set()
        self._due.set()

    def _settle(self, *, wait: bool) -> None:
        """What follows from a checkpoint that has become durable, or its error."""
        if self._commit is None or not (wait or self._commit.done):
            return
        self._await_room(self._commit.result, "checkpoint", again=self._commit.again)
        self._commit = None
        self._commit_at_real_s = self._clock.monotonic_s()
        self._metrics.checkpoint_seconds.observe(self._commit_at_real_s - self._commit_began_real_s)
        self._taken.difference_update(self._commit_rows)
        if self._commit_rows:
            self._after_registry()
        self._on_commit(self._commit_told)

    def _await_room(self, write: Callable[[], None], what: str, *, again: Callable[[], None] = lambda: None) -> None:
        """The disk being full is back-pressure: nothing more is rated until this is written."""
        attempt = 0
        while True:
            try:
                write()
            except Exception as error:
                if not waiting_helps(error) or self._stopping.is_set():
                    raise
                pause_real_s = PAUSES_REAL_S[min(attempt, len(PAUSES_REAL_S) - 1)]
                attempt += 1
                _log.error(f"{what} not written, trying again", error=str(error), again_in_real_s=pause_real_s)
                self._pause(pause_real_s)
                again()
            else:
                return

    def _after_registry(self) -> None:
        """When every partition stands on one version that is new: its mandates, its routes, its date."""
        city = self.city
        if city is None or any(e.registry_digest != city.digest for e in self.engines):
            return
        if city.digest == self._in_force:  # most commits that apply rows of the inbox are credits
            return
        now_s = self._clock.now_s()
        rows: list[dict[str, Any]] | None = None
        with self._store.reader() as connection:
            known = select(registry_version.c.activated_at_s).where(registry_version.c.digest == city.digest)
            if connection.scalar(known) is None:
                rows = city.reader.mandates(self._settings.autopay)
        if rows is not None:
            dated = partial(_activated, city.digest, rows, now_s)
            self._await_room(lambda: self._store.write(dated), "activation")
            reach("registry.in_force")
            _log.info("registry active", digest=city.digest[:12], mandates=len(rows))
        self._on_city(city)
        self._in_force = city.digest

    # -- for people and metrics ------------------------------------------------------------------------------
    def outcome(self, inbox_id: int) -> str | None:
        """Outcome of an inbox row once every partition that it is for has committed it; None before."""
        with self._store.reader() as connection:
            asked = select(inbox_applied.c.outcome, inbox.c.settled)
            asked = asked.join(inbox, inbox.c.id == inbox_applied.c.inbox_id).where(inbox.c.id == inbox_id)
            rows = connection.execute(asked).all()
        if not rows or not rows[0].settled:
            return None
        return "; ".join(sorted({row.outcome for row in rows if row.outcome}))


def _activated(digest: str, mandates: list[dict[str, Any]], now_s: int, connection: Connection) -> None:
    sync_mandates(connection, mandates, now_s)
    dated = update(registry_version).where(registry_version.c.digest == digest)
    connection.execute(dated.values(activated_at_s=now_s))
