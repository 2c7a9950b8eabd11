"""I/O: MQTT -> the reading log -> acknowledgement -> `held`, in that order, by one worker thread.

    network thread (one a shard)          worker thread
    on_message: put ------ queue ------>  take up to group_max            ack.received
                                          decode, check, route (pure)     ack.decoded
                                          append, one transaction, fsync  ack.log_written
                <------ PUBACKs --------  of this generation only         ack.sent
                <------ held -----------  coalesced by stream             ack.held
                                          records to rating, in memory    ack.handed_over

The log failing is back-pressure: nothing is acknowledged, nothing more is taken, the append is tried again with
growing pauses. A fault that waiting cannot help (a damaged file, a bug) ends the worker and is kept in
`failure`; the daemon's health says so and stops.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import structlog

from config.clock import Clock
from config.reasons import Reason
from config.settings import IngestSettings, Settings
from config.steps import reach
from ingest.decoded import Limits
from ingest.link import Link, LinkMaker, Queue, Received
from ingest.pipeline import Batch, Context, lost, process, ticks
from ingest.port import IngestLog, LinkPort
from ingest.routing import Routes
from ingest.sequences import Bounds, Key, Lost, Mark, Resend, Sequences, missing
from ingest.wire import held_payload, held_topic, resend_payload, resend_topic
from rating.readings import LogFailed, Record, StoredRecord

_TURN_REAL_S: Final = 0.05  # the longest the worker sleeps; also the shortest pause between two ticks
_GAPS_REAL_S: Final = 0.5  # gaps are looked at so often: with fast business time a resend still has time to come
_BACKOFF_REAL_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_log = structlog.get_logger("ingest")

State = Literal["new", "running", "log_failed", "failed", "stopped"]


@dataclass(slots=True)
class Stats:
    """Plain counters, written by the worker alone, read by the metrics at any time."""

    messages: int = 0
    readings: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    ignored: int = 0
    best_effort: int = 0
    unmarked: int = 0  # numbered, and taken without noting the number: a limit is reached
    repeated: int = 0
    misplaced: int = 0
    groups: int = 0
    acks: int = 0
    acks_dropped: int = 0  # earned under an older connection
    held: int = 0
    resends: int = 0
    lost: int = 0  # sequences declared lost
    ticks: int = 0
    log_failures: int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch that became durable."""
        self.messages += len(batch.outcomes)
        self.readings += batch.readings
        self.rejected.update(batch.rejected)
        self.ignored += batch.ignored
        self.best_effort += batch.best_effort
        self.unmarked += batch.unmarked
        self.lost += sum(gap.last - gap.first + 1 for gap in batch.given_up)
        self.repeated += batch.repeated
        self.misplaced += batch.misplaced


class MqttShell:
    """Everything between the broker and rating. `routes` may be replaced while it runs."""

    def __init__(
        self,
        settings: Settings,
        log: IngestLog,
        routes: Routes,
        clock: Clock,
        handed_over: Callable[[list[StoredRecord]], None],
        *,
        port: int | None = None,
        keys: Mapping[str, bytes] | None = None,
        link: LinkMaker | None = None,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self.routes = routes
        self.stats = Stats()
        self.state: State = "new"
        self.failure: BaseException | None = None
        self._settings = settings
        self._log = log
        self._clock = clock
        self._handed_over = handed_over
        self._keys = settings.signing.key_bytes() if keys is None else dict(keys)
        self._limits = Limits(settings.mqtt.payload_max, settings.ingest.readings_max, settings.ingest.nesting_max)
        self._sequences = _sequences(settings.ingest)
        self._queue: Queue = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._dirty: dict[Key, Mark] = {}  # streams whose held is to be said
        self._held_at_real_s = float("-inf")
        self._gaps_at_real_s = float("-inf")
        self._tick_s = -1
        self._tick_at_real_s = float("-inf")
        self._pause = pause or self._stopping.wait  # so many real seconds; True: told to stop
        if link is None:
            link = partial(
                Link, settings=settings.mqtt, port=port or settings.mqtt.port, monotonic_s=clock.monotonic_s
            )
        self._links: dict[str, LinkPort] = {shard: link(shard, self._queue) for shard in settings.mqtt.shards}
        self._worker = threading.Thread(target=self._run, name="ingest", daemon=True)

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the marks, connect, work. Returns at once; `connected` says when the sessions are up."""
        self.open()
        self._worker.start()

    def open(self) -> None:
        """`start` without the worker: whoever calls it takes the turns."""
        self._sequences.load(self._log.marks(), self._clock.now_s())
        self.state = "running"
        for link in self._links.values():
            link.start()

    def stop(self, deadline_real_s: float = 10.0) -> bool:
        """Finish the group in hand, acknowledge it, disconnect. False when the deadline was not enough."""
        until = self._clock.monotonic_s() + deadline_real_s
        for link in self._links.values():
            link.paused = True
        self._stopping.set()
        self._queue.put(None)
        if self._worker.is_alive():
            self._worker.join(max(0.05, until - self._clock.monotonic_s()))
        for link in self._links.values():
            link.close(max(until, self._clock.monotonic_s() + 0.5))
        if self.state != "failed":
            self.state = "stopped"
        return not self._worker.is_alive()

    @property
    def connected(self) -> bool:
        """True when every shard's session is up."""
        return all(link.connected for link in self._links.values())

    @property
    def queue_depth(self) -> int:
        """Messages received and not yet durable."""
        return self._queue.qsize()

    @property
    def reconnects(self) -> int:
        """Connections made, over all shards, the first ones included."""
        return sum(link.reconnects for link in self._links.values())

    @property
    def watchdog_restarts(self) -> int:
        return sum(link.restarts for link in self._links.values())

    @property
    def open_gaps(self) -> int:
        return self._sequences.open_gaps()

    @property
    def streams(self) -> int:
        """How many streams have a mark."""
        return len(self._sequences.marks)

    def mark(self, concentrator: str, stream: str) -> int:
        """The highest contiguous sequence of a stream that is durable."""
        found = self._sequences.marks.get((concentrator, stream))
        return found.contiguous if found else 0

    # -- the worker -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.turn(self.take(_TURN_REAL_S))
            self._say_held(force=True)
        except BaseException as error:
            self.failure = error
            self.state = "failed"
            _log.critical("ingest stopped", error=repr(error))
            if not isinstance(error, Exception):
                raise

    def take(self, wait_real_s: float) -> list[Received]:
        """The next group from the queue; waits so long for its first message."""
        group = []
        try:
            first = self._queue.get(timeout=wait_real_s)
            while first is not None:
                group.append(first)
                if len(group) >= self._settings.log.group_max:
                    break
                first = self._queue.get_nowait()
        except queue.Empty:
            pass
        return group

    def turn(self, group: Sequence[Received]) -> None:
        """One group, from decoding to rating, and what is due beside it."""
        now_s = self._clock.now_s()
        if group:
            reach("ack.received")
        context = Context(
            self._limits, self._settings.partitions, self.routes, self._keys, self._settings.signing.required
        )
        batch = process([received.message for received in group], now_s, self._sequences, context)
        if group:
            reach("ack.decoded")
        self._gaps(batch, now_s)
        tick = self._tick(batch, now_s)
        stored: list[StoredRecord] = []
        if batch.records or batch.marks:
            durable = self._append(batch.records, list(batch.marks.values()))
            if durable is None:
                return
            stored = durable
        if group:
            reach("ack.log_written")
        self._durable(batch, now_s, tick)
        if group:
            self._acknowledge(group)
            reach("ack.sent")
        self._say_held(force=False)
        if stored:
            self._handed_over(stored)
        if group:
            reach("ack.handed_over")
        for link in self._links.values():
            link.watch()
            if not self._stopping.is_set():
                link.resume()

    def _append(self, records: list[Record], marks: list[Mark]) -> list[StoredRecord] | None:
        """Durable, or None when told to stop before it could be."""
        attempt = 0
        while True:
            try:
                stored = self._log.append(records, marks)
            except LogFailed as error:
                if not error.retriable:
                    raise
                self.stats.log_failures += 1
                self.state = "log_failed"
                pause = _BACKOFF_REAL_S[min(attempt, len(_BACKOFF_REAL_S) - 1)]
                attempt += 1
                _log.error("log refuses records", error=str(error), again_in_real_s=pause)
                if self._pause(pause):
                    return None
            else:
                self.state = "running"
                return stored

    def _durable(self, batch: Batch, now_s: int, tick: bool) -> None:
        self.stats.add(batch)
        self.stats.groups += bool(batch.records)
        if tick:
            self.stats.ticks += 1
            self._tick_s = now_s
        for key, mark in batch.marks.items():
            self._sequences.commit(mark, now_s)
            self._dirty[key] = mark

    def _acknowledge(self, group: Sequence[Received]) -> None:
        """PUBACKs in the order of arrival, by link and generation."""
        earned: dict[tuple[str, int], list[int]] = {}
        for link, generation, mid, _ in group:
            if mid:
                earned.setdefault((link.shard, generation), []).append(mid)
        for (shard, generation), mids in earned.items():
            sent = self._links[shard].acknowledge(generation, mids)
            self.stats.acks += sent
            self.stats.acks_dropped += len(mids) - sent

    def _say_held(self, *, force: bool) -> None:
        real_s = self._clock.monotonic_s()
        if not self._dirty or not (
            force or real_s - self._held_at_real_s >= self._settings.ingest.held_interval_real_s
        ):
            return
        self._held_at_real_s = real_s
        told: dict[str, list[tuple[str, bytes]]] = {}
        for mark in self._dirty.values():
            if mark.contiguous > 0 and mark.shard in self._links:
                topic = held_topic(mark.shard, mark.source, mark.stream)
                told.setdefault(mark.shard, []).append((topic, held_payload(mark.contiguous)))
        heard = {shard for shard, messages in told.items() if self._links[shard].tell(messages)}
        self.stats.held += sum(len(told[shard]) for shard in heard)
        unheard = told.keys() - heard
        self._dirty = {k: mark for k, mark in self._dirty.items() if mark.contiguous > 0 and mark.shard in unheard}
        reach("ack.held")

    def _gaps(self, batch: Batch, now_s: int) -> None:
        """Ask for what is missing; what was asked for often enough goes into the log as lost."""
        real_s = self._clock.monotonic_s()
        if real_s - self._gaps_at_real_s < _GAPS_REAL_S:
            return
        self._gaps_at_real_s = real_s
        for due in self._sequences.due(now_s, self._reachable):
            mark = due.mark
            if isinstance(due, Resend):
                link = self._links.get(mark.shard)
                topic = resend_topic(mark.shard, mark.source, mark.stream)
                if link is not None and link.publish(topic, resend_payload(due.first, due.last)):
                    self.stats.resends += 1
                continue
            key = (mark.source, mark.stream)
            mark = batch.marks.get(key, mark)
            if not missing(mark, due.first, due.last):
                continue  # some of it came just now: the next look sees what is left
            record, after = lost(Lost(mark, due.first, due.last), now_s, self._settings.partitions)
            batch.records.append(record)
            batch.marks[key] = after
            self.stats.lost += due.last - due.first + 1

    def _reachable(self, shard: str) -> bool:
        link = self._links.get(shard)
        return link is not None and link.connected

    def _tick(self, batch: Batch, now_s: int) -> bool:
        """A tick for every partition, when one is due, after the group's own records."""
        real_s = self._clock.monotonic_s()
        due = self._tick_s < 0 or now_s - self._tick_s >= self._settings.ingest.tick_interval_s
        if not due or real_s - self._tick_at_real_s < _TURN_REAL_S:
            return False
        self._tick_at_real_s = real_s
        batch.records.extend(ticks(now_s, self._settings.partitions))
        return True


def _sequences(settings: IngestSettings) -> Sequences:
    bounds = Bounds(settings.leap_max, settings.streams_per_concentrator_max, settings.streams_max, settings.gaps_max)
    return Sequences(settings.resend_after_s, settings.resend_times, bounds)
