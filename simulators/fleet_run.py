"""I/O: one run of the fleet: rounds become messages, messages are taken into the outbox, published, held.

One thread and one order: truth book, outbox, broker. Back-pressure is the outbox: when more than `unheld_max`
messages wait for being held, no new round is taken until the receiver has caught up.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from config.clock import Clock
from config.steps import reach_outside
from config.units import Quality
from ingest.wire import reads_topic
from registry.address import TEXT_BIT
from simulators.concentrator import LinkPort, Message, Outbox, Stream
from simulators.faults import FrameFault, Plan
from simulators.fleet_bad import BAD_MESSAGES, FORGED, Sender, Signing, sign
from simulators.fleet_batch import Batch
from simulators.fleet_formats import Envelope, encode
from simulators.fleet_frames import FrameMaker
from simulators.fleet_load import Load
from simulators.truth import MessageRow, TruthBook

COMMIT_EVERY_S: Final = 0.05
COMMIT_MESSAGES: Final = 500
PROGRESS_EVERY_S: Final = 1.0
RESEND_MESSAGES: Final = 50  # at a time and stream
RESEND_AFTER_MAX_S: Final = 60.0
IDLE_S: Final = 0.01
LATEST_BACKFILL: Final = 40  # intervals


@dataclass(frozen=True, slots=True)
class Limits:
    """How the run behaves towards a slow receiver."""

    unheld_max: int = 50_000
    resend_after_real_s: float = 10.0
    deadline_real_s: float = 120.0  # for everything to be held, after the last round


class Run:
    """Everything of one run. `step` until it says that it is done."""

    def __init__(
        self,
        load: Load,
        plan: Plan,
        shards: dict[str, str],
        formats: list[str],
        clock: Clock,
        outbox: Outbox,
        truth: TruthBook,
        streams: list[Stream],
        links: Sequence[LinkPort],
        limits: Limits,
        emit: Callable[[dict[str, Any]], None],
        *,
        paced: bool,
        keys: Mapping[str, bytes] | None = None,
    ) -> None:
        self._load, self._plan, self._shards, self._formats = load, plan, shards, formats
        self._clock, self._outbox, self._truth, self._links = clock, outbox, truth, links
        self._limits, self._paced, self._emit = limits, paced, emit
        self._keys = keys or {}
        self._maker = FrameMaker(load, plan)
        self._names = list(load.lists)
        by_concentrator = {s.concentrator: s for s in streams}
        self._streams = [by_concentrator[name] for name in self._names]
        self._by_id = {s.stream: place for place, s in enumerate(self._streams)}
        self._serials = {c.address: c.meter for c in load.channels}
        self._ready: list[deque[Message]] = [deque() for _ in links]
        self._later: list[tuple[int, int, Message]] = []
        self._held_back: set[tuple[str, int]] = set()
        self._cut_off = dict.fromkeys(range(len(self._names)), -1)  # concentrator -> interval it is back
        self._cuts: list[int] = []
        self._batch = Batch()
        self._dirty: set[int] = set()
        self._moved_at_s = dict.fromkeys(range(len(self._names)), clock.monotonic_s())
        self._patience_s = dict.fromkeys(range(len(self._names)), limits.resend_after_real_s)
        self.position = outbox.position()
        self._end = load.intervals
        self.counts: Counter[str] = Counter()
        self._started_s = self._committed_s = self._told_s = clock.monotonic_s()
        self._last_round_s = self._started_s
        self._number = 0
        for place, stream in enumerate(self._streams):  # what an earlier process left
            self._queue_again(place, stream.held + 1, stream.next_sequence, 1 << 30)

    # -- rounds ------------------------------------------------------------------------------------------------

    def due(self) -> int:
        """First interval that is not due yet."""
        if not self._paced:
            return self._end
        passed = (self._clock.now_s() - self._load.start_s) // self._load.interval_s
        return max(0, min(self._end, passed))

    def finish(self) -> None:
        """Take no new round; what has been taken is still sent, until it is held."""
        if self.position < self._end:
            self._end = self.position
            self._last_round_s = self._clock.monotonic_s()

    def unheld(self) -> int:
        """Numbers given out and not held."""
        return sum(s.next_sequence - 1 - s.held for s in self._streams)

    def _take_round(self) -> None:
        interval = self.position
        now_s = self._clock.now_s()
        for place in range(len(self._names)):
            faults = self._plan.frames.get((place, interval), ())
            self._take_frame(place, interval, faults, now_s)
        self.position += 1
        self._last_round_s = self._clock.monotonic_s()

    def _take_frame(self, place: int, interval: int, faults: tuple[FrameFault, ...], now_s: int) -> None:
        stream = self._streams[place]
        release, twice, format_ = self._cut_off[place], False, self._formats[place]
        if release <= interval:
            release = -1
        for fault in faults:
            match fault.kind:
                case "restart":
                    stream.boot += 1
                    self._cuts.append(place % len(self._links))
                case "lost_sequence":
                    row = MessageRow(stream.stream, stream.next_sequence, stream.concentrator, "lost", interval)
                    self._batch.truth.append(row)
                    stream.next_sequence += 1
                case "outage":
                    release = interval + 8 + fault.number % LATEST_BACKFILL
                    self._cut_off[place] = release
                case "reorder":
                    release = max(release, interval + 1)
                case "backfill":
                    release = max(release, interval + 4 + fault.number % LATEST_BACKFILL)
                case "duplicate_message":
                    twice = True
                case "bad_message" if fault.detail == "old_boot":
                    format_ = "json"  # so that the present boot count is known
            self.counts[f"fault:{fault.kind}"] += 1
        frame = self._maker.frame(place, interval, faults, now_s)
        self.counts.update(f"fault:bad_reading:{made}" for made in frame.made)
        if len(frame.readings):
            estimates = bool((frame.readings.quality != int(Quality.A)).any())
            if estimates and format_.startswith("senml"):
                format_ = "json"  # SenML has no word for quality
            names = [] if format_ == "arrow" else [self._serial(a) for a in frame.readings.meter.tolist()]
            sequence = stream.next_sequence
            envelope = Envelope(stream.concentrator, stream.stream, sequence, stream.boot, now_s)
            body = encode(format_, frame.readings, names, envelope)
            first, end = frame.rows
            row = MessageRow(
                stream.stream,
                sequence,
                stream.concentrator,
                "frame",
                interval,
                first,
                end,
                frame.absent,
                len(frame.readings),
            )
            for n, e in enumerate(frame.expected):
                self._batch.expected.append((stream.stream, sequence, n, e.reason.value, e.meter))
            self._take(place, format_, body, row, release, twice=twice)
        for fault in faults:
            if fault.kind == "bad_message":
                self.counts[f"fault:bad_message:{fault.detail}"] += 1
                self._take_bad(place, interval, fault, release)

    def _take_bad(self, place: int, interval: int, fault: FrameFault, release: int) -> None:
        stream, load = self._streams[place], self._load
        row = load.lists[stream.concentrator][0]
        other = self._names[(place + 1) % len(self._names)]
        sender = Sender(
            stream.concentrator,
            stream.stream,
            stream.next_sequence,
            stream.boot,
            load.channels[row].meter,
            load.channels[row].address,
            load.end_s(interval - 2) + load.interval_s // 2,
            int(load.shown[interval - 2, row]),
            other if other != stream.concentrator else "somebody-else",
        )
        bad = BAD_MESSAGES[fault.detail](sender)
        if bad.signing is not Signing.OWN and not self._links[0].five:
            self.counts["unsendable"] += 1
            return
        if bad.reason in FORGED:
            number = stream.next_sequence
            topic = self._topic(stream, bad.format, number)
            signature = sign(bad.signing, self._keys.get(stream.concentrator), topic, bad.payload)
            self._batch.forged.append(Message(stream.stream, number, topic, bad.payload, signature))
            self._batch.expected.append((stream.stream, number, -1, bad.reason.value, ""))
            self.counts["forged"] += 1
            return
        kind = f"bad:{fault.detail}"
        message = MessageRow(stream.stream, stream.next_sequence, stream.concentrator, kind, interval)
        self._batch.expected.append((stream.stream, stream.next_sequence, 0, bad.reason.value, ""))
        self._take(place, bad.format, bad.payload, message, release, signing=bad.signing)

    def _topic(self, stream: Stream, format_: str, number: int) -> str:
        return reads_topic(self._shards[stream.concentrator], stream.concentrator, format_, stream.stream, number)

    def _take(
        self,
        place: int,
        format_: str,
        body: bytes,
        row: MessageRow,
        release: int,
        *,
        twice: bool = False,
        signing: Signing = Signing.OWN,
    ) -> None:
        stream = self._streams[place]
        topic = self._topic(stream, format_, row.sequence)
        signature = sign(signing, self._keys.get(stream.concentrator), topic, body)
        message = Message(stream.stream, row.sequence, topic, body, signature)
        self._batch.truth.append(row)
        self._batch.messages.append((message, release))
        if twice:
            self._batch.messages.append((message, release))
        stream.next_sequence += 1
        self._dirty.add(place)
        self.counts["messages"] += 1
        self.counts["readings"] += row.readings

    def _serial(self, address: int) -> str:
        known = self._serials.get(address)
        return known if known is not None or address >= TEXT_BIT else f"{address:012d}"  # type: ignore[return-value]

    # -- disk --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        batch, self._batch = self._batch, Batch()
        dirty = [self._streams[place] for place in sorted(self._dirty)]
        self._dirty.clear()
        _passed("fleet.taken", batch.messages)
        told = {s.stream: s.held for s in dirty if s.held}
        self._truth.write(batch.truth, batch.expected, told)
        _passed("fleet.truth_written", batch.messages)
        self._outbox.commit((m for m, _ in batch.messages), dirty, self.position)
        _passed("fleet.outbox_written", batch.messages)
        _passed("fleet.forgotten", told)
        for message in batch.forged:
            self._ready[self._link_of(message.stream)].append(message)
        for message, release in batch.messages:
            if release >= self.position:
                self._number += 1
                self._held_back.add((message.stream, message.sequence))
                heapq.heappush(self._later, (release, self._number, message))
            else:
                self._ready[self._link_of(message.stream)].append(message)
        self._committed_s = self._clock.monotonic_s()

    def _link_of(self, stream: str) -> int:
        return self._by_id[stream] % len(self._links)

    def _release(self) -> None:
        end = self.position >= self._end
        while self._later and (end or self._later[0][0] < self.position):
            message = heapq.heappop(self._later)[2]
            key = (message.stream, message.sequence)
            if key in self._held_back:  # else it was asked for before its time
                self._held_back.discard(key)
                self._ready[self._link_of(message.stream)].append(message)

    def _queue_again(self, place: int, first: int, last: int, count_max: int) -> None:
        queue = self._ready[place % len(self._links)]
        for message in self._outbox.between(self._streams[place].stream, first, last, count_max):
            if (message.stream, message.sequence) in self._held_back:
                continue  # its time has not come
            queue.append(message)
            self.counts["sent_again"] += 1

    # -- the line ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        now_s = self._clock.monotonic_s()
        for number, link in enumerate(self._links):
            if link.renewed():
                self._begin_again(number)
            told = link.told()
            for stream_id, held in told.held.items():
                place = self._by_id.get(stream_id)
                if place is None:
                    continue
                if self._streams[place].confirm(held):
                    reach_outside("fleet.held")
                    self._dirty.add(place)
                    self._moved_at_s[place] = now_s
                    self._patience_s[place] = self._limits.resend_after_real_s
            for stream_id, first, last in told.resend:
                place = self._by_id.get(stream_id)
                if place is not None:
                    self.counts["resend_requests"] += 1
                    self._held_back -= {(stream_id, n) for n in range(first, min(last, first + RESEND_MESSAGES) + 1)}
                    self._queue_again(place, first, last, RESEND_MESSAGES)

    def _begin_again(self, number: int) -> None:
        """A new connection: everything that is not held, in order, and then what is new."""
        self._ready[number].clear()
        for place in range(number, len(self._streams), len(self._links)):
            stream = self._streams[place]
            self._queue_again(place, stream.held + 1, stream.next_sequence, 1 << 30)

    def _send_old_again(self) -> None:
        """Streams that have waited too long for `held` send their oldest messages again, ever more patiently."""
        now_s = self._clock.monotonic_s()
        for place, stream in enumerate(self._streams):
            if stream.held + 1 == stream.next_sequence or self._ready[place % len(self._links)]:
                self._moved_at_s[place] = now_s
            elif now_s - self._moved_at_s[place] > self._patience_s[place]:
                self._queue_again(place, stream.held + 1, stream.next_sequence, RESEND_MESSAGES)
                self._moved_at_s[place] = now_s
                longest_s = max(RESEND_AFTER_MAX_S, self._limits.resend_after_real_s)
                self._patience_s[place] = min(longest_s, 2 * self._patience_s[place])

    def _publish(self) -> None:
        for number in self._cuts:
            self._links[number].cut()
            self.counts["restarts"] += 1
        self._cuts.clear()
        for link, queue in zip(self._links, self._ready, strict=True):
            for _ in range(min(link.room(), len(queue))):
                link.publish(queue.popleft())
                self.counts["published"] += 1
                reach_outside("fleet.published")

    # -- the loop ----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One turn; False when the run is over (see `quiet`)."""
        now_s = self._clock.monotonic_s()
        due = self.due()
        while (
            self.position < due
            and len(self._batch.messages) < COMMIT_MESSAGES
            and sum(map(len, self._ready)) < 4 * COMMIT_MESSAGES
            and self.unheld() < self._limits.unheld_max
        ):
            self._take_round()
        full = len(self._batch.messages) >= COMMIT_MESSAGES
        if full or (
            (self._batch.truth or self._batch.forged or self._dirty) and now_s - self._committed_s >= COMMIT_EVERY_S
        ):
            self._commit()
        self._release()
        self._publish()
        busy = any(self._ready) or (self.position < due and self.unheld() < self._limits.unheld_max)
        for link in self._links:
            link.serve(0.0 if busy and link.room() else IDLE_S / len(self._links))
        self._listen()
        if now_s - self._told_s >= PROGRESS_EVERY_S:
            self._send_old_again()
            self._told_s = now_s
            self._emit({"event": "progress", **self.figures()})
        if self.position < self._end:
            return True
        return not self.quiet() and now_s - self._last_round_s < self._limits.deadline_real_s

    def quiet(self) -> bool:
        """All rounds taken, all sent, all held, and that is on disk."""
        return (
            self.position >= self._end
            and not self._batch.truth
            and not self._batch.forged
            and not self._dirty
            and not self._later
            and not any(self._ready)
            and self.unheld() == 0
        )

    def figures(self) -> dict[str, Any]:
        """Progress, for a line of JSON."""
        elapsed_s = max(1e-9, self._clock.monotonic_s() - self._started_s)
        return {
            "interval": self.position,
            "intervals": self._load.intervals,
            "behind": self.due() - self.position,
            "unheld": self.unheld(),
            "elapsed_s": round(elapsed_s, 2),
            "readings_per_s": round(self.counts["readings"] / elapsed_s),
            **dict(sorted(self.counts.items())),
        }


def _passed(step: str, anything: Collection[object]) -> None:
    if anything:
        reach_outside(step)
