"""I/O: a generator process (`python -m simulators.load.sender ORDERS.json`): its part of the schedule, over MQTT.

One thread: what is due is sent, then sockets are served until the next is due. It says a line a second, and writes
what became of every message and what every register showed last when all is held or time is up.
"""

from __future__ import annotations

import heapq
import json
import random
import selectors
import signal
import sys
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.clock import Clock, RealClock
from config.units import REGISTER_CODE, Quality, Register
from ingest.topics import Topic, down_subscription, down_subscriptions
from rating.readings import Readings
from simulators.fleet_formats import Envelope, encode
from simulators.load import packets
from simulators.load.answers import slots_of
from simulators.load.dues import Dues
from simulators.load.figures import Sent, Times
from simulators.load.orders import Orders
from simulators.load.population import Population, read_population
from simulators.load.schedule import Schedule, Wish, schedule
from simulators.load.session import Broker, Packed, Refused, Session

WAIT_S: Final = 0.02  # at most so long for sockets, when nothing is due
CONNECT_S: Final = 10.0  # for a connection before the run begins
CONNECT_AGAIN_S: Final = 0.02
AT_ONCE: Final = 200  # messages sent before sockets are served: brokers drop what nobody reads
UNHELD_MAX: Final = 400_000  # messages: a receiver that is so far behind is lost
AGAIN_AFTER_S: Final = 30.0  # a message that is acknowledged and not held is sent again
AGAIN_AT_ONCE: Final = 100
DRAIN_S: Final = 10.0  # for what was sent to be held, when the run is to end early
REORDER_S: Final = 2.0  # at most so late does a reordered message come
OWN_MAX: Final = 2000  # concentrators that are listened for one by one: brokers look through all subscriptions
NOT_ALL: Final = 5  # exit code; 1 is what an error of ours ends with
_COUNTS: Final = ("due", "sent", "acked", "held", "again", "bad", "duplicated", "cuts", "curve", "past")
RATES: Final = ("duplicate", "reorder", "bad", "drop")
_REGISTER: Final = REGISTER_CODE[Register.IMPORT_TOTAL]


class Overrun(Exception):
    """So much is not held that going on would measure the generator's memory."""


class Sender:
    """Of one process."""

    def __init__(
        self, orders: Orders, population: Population, plan: Schedule, clock: Clock, dues: Dues | None = None
    ) -> None:
        self._orders, self._population, self._plan, self._clock = orders, population, plan, clock
        self._dice = random.Random(f"{orders.wish.get('seed')}:{orders.part}")
        self._dues = dues
        self.times = Times.of(plan.due_s)
        self.counts = dict.fromkeys(_COUNTS, 0)
        mine = range(orders.part, len(population.concentrators), orders.of)
        self._stream = {c: f"L{orders.run}-{c}" for c in mine}
        self._by_stream = {name: c for c, name in self._stream.items()}
        self._next = dict.fromkeys(mine, 1)
        self._unheld: dict[int, deque[Packed]] = {c: deque() for c in mine}
        self._unheld_count = 0
        self._again_at_s: dict[int, float] = {}  # when a concentrator last sent its oldest again
        self._patience_s = dict.fromkeys(mine, AGAIN_AFTER_S)
        # A heap: when to look at a concentrator whose message was acknowledged
        self._look: list[tuple[float, int]] = []
        self._looked: set[int] = set()  # who is in it
        most = int(np.diff(population.first).max(initial=0))
        self._register, self._quality = np.full(most, _REGISTER, np.uint8), np.full(most, int(Quality.A), np.uint8)
        self._late: list[tuple[float, int]] = []
        self._to_end = False
        self._session_of: dict[int, Session] = {}
        self._sessions: list[tuple[Session, list[int]]] = []
        self._selector = selectors.DefaultSelector()
        self._events: dict[Session, int] = {}
        broker = orders.broker()
        share = min(orders.connections, len(mine)) or 1
        one_listens = len(mine) > OWN_MAX
        for number in range(share):
            own = [c for place, c in enumerate(mine) if place % share == number]
            filters = [down_subscription(population.shards[c], population.concentrators[c]) for c in own]
            self._add(broker, str(number), [] if one_listens else filters, own)
        if one_listens:
            shards = sorted({population.shards[c] for c in mine})
            self._add(broker, "listener", [one for shard in shards for one in down_subscriptions(shard)], [])

    def _add(self, broker: Broker, name: str, filters: list[str], own: list[int]) -> None:
        client = f"load-{self._orders.run}-{self._orders.part}-{name}"
        session = Session(broker, client, filters, self._clock, self._acked, self._held, self._asked)
        self._sessions.append((session, own))
        self._session_of.update(dict.fromkeys(own, session))

    # -- the run -----------------------------------------------------------------------------------------------
    def connect(self, deadline_s: float) -> None:
        """All connections, before the run begins, one after the other; raises `Refused`, or TimeoutError.

        `deadline_s`: from one connection to the next.
        """
        for session, _ in self._sessions:
            until = self._clock.monotonic_s() + deadline_s
            while not session.open():
                if self._clock.monotonic_s() > until:
                    where = f"{self._orders.host}:{self._orders.port}"
                    raise TimeoutError(f"{where} does not take the connections: {session.why}")
                time.sleep(CONNECT_AGAIN_S)
        self._serve(0.0)

    def end_early(self) -> None:
        """Nothing more becomes due; what was sent may still be held. For a signal handler: it only notes it."""
        self._to_end = True

    def run(self) -> bool:
        """Send all, then wait; True when everything is held."""
        place, told_s = 0, -1
        cuts = deque(self._plan.cuts_s)
        end_s = float(self._orders.wish["seconds"]) + self._orders.wait_s
        while True:
            now_s = self._now()
            if self._to_end and place < len(self._plan):
                self._plan, self.times = self._plan.upto(place), self.times.upto(place)
                end_s = min(end_s, now_s + DRAIN_S)
            turn = min(len(self._plan), place + AT_ONCE)
            while place < turn and self._plan.due_s[place] <= now_s:
                self._due(place)
                place += 1
            while self._late and self._late[0][0] <= now_s:
                self._emit(heapq.heappop(self._late)[1])
            while cuts and cuts[0] <= now_s:
                cuts.popleft()
                self._cut_all()
            if int(now_s) > told_s:
                told_s = int(now_s)
                self._each_second()
            done = place == len(self._plan) and not self._late and not self._unheld_count
            if done or now_s > end_s:
                self._each_second()
                return done
            soon_s = self._plan.due_s[place] - now_s if place < len(self._plan) else WAIT_S
            self._serve(min(max(0.0, soon_s), WAIT_S))

    def save(self, path: Path, used: npt.NDArray[np.int64]) -> None:
        """`used`: by meter of the population, thousandths since its opening register."""
        mine = np.concatenate([np.arange(s.start, s.stop) for s in map(self._population.meters_of, self._stream)])
        totals = {
            "sessions": sum(session.connections for session, _ in self._sessions),
            "refused": sum(session.refused for session, _ in self._sessions),
        }
        counts = self.counts | totals
        arrays: dict[str, Any] = Sent.of(self.times, self._population.address[mine], used[mine], counts).arrays()
        np.savez(path, **arrays)

    def close(self) -> None:
        for session, _ in self._sessions:
            session.close()
        self._selector.close()

    def _now(self) -> float:
        return self._clock.monotonic_s() - self._orders.start_s

    def _due(self, place: int) -> None:
        self.counts["due"] += 1
        faults = self._orders.faults
        if faults and self._dice.random() < faults.get("reorder", 0.0):
            heapq.heappush(self._late, (self._plan.due_s[place] + self._dice.uniform(0, REORDER_S), place))
            return
        if faults and self._dice.random() < faults.get("drop", 0.0):
            self.counts["cuts"] += 1
            self._session_of[int(self._plan.sender[place])].drop()
        self._emit(place)

    def _emit(self, place: int) -> None:
        concentrator, orders = int(self._plan.sender[place]), self._orders
        bad = bool(orders.faults) and self._dice.random() < orders.faults.get("bad", 0.0)
        sequence = self._next[concentrator]
        self._next[concentrator] = sequence + 1
        past = not bad and self._is_past(concentrator, place)
        payload = b"\x00 no reading" if bad else self._payload(concentrator, place, sequence, past=past)
        if self._dues is not None:
            moves = not bad and not past
            self._dues.note(concentrator, sequence, float(self._plan.due_s[place]), good=moves)
        topic, properties = packets.addressed(self._named(concentrator, sequence), self._orders.numbers)
        packed = Packed(place, concentrator, sequence, topic, payload, properties)
        self._unheld[concentrator].append(packed)
        self._unheld_count += 1
        if self._unheld_count > UNHELD_MAX:
            raise Overrun(f"{UNHELD_MAX} messages are not held")
        session = self._session_of[concentrator]
        session.send(packed)
        self.times.sent[place] = self._now()
        self.counts["sent"] += 1
        self.counts["bad"] += bad
        self.counts["past"] += past
        self.counts["curve"] += self._plan.of_curve(place)
        if orders.faults and self._dice.random() < orders.faults.get("duplicate", 0.0):
            self.counts["duplicated"] += 1
            session.send(packed)

    def _is_past(self, concentrator: int, place: int) -> bool:
        """Of a curve, and no newer than what its meters have sent."""
        return self._plan.of_curve(place) and int(self._plan.read_s[place]) <= self._last_s(concentrator)

    def _last_s(self, concentrator: int) -> int:
        return int(self._population.read_s[self._population.first[concentrator]])

    def _payload(self, concentrator: int, place: int, sequence: int, *, past: bool) -> bytes:
        at_s = int(self._plan.read_s[place])
        if past:
            address, value = self._population.earlier(concentrator, at_s)
        else:
            at_s = max(at_s, self._last_s(concentrator))  # a reordered message is read when it is sent
            address, value = self._population.read(concentrator, at_s)
        count = len(address)
        self.times.readings[place] = count
        readings = Readings(
            address,
            value,
            np.full(count, self._orders.start_unix + at_s, np.uint32),
            self._register[:count],
            self._quality[:count],
        )
        if self._orders.format == "arrow":
            return encode("arrow", readings, (), _NOBODY)
        first = int(self._population.first[concentrator])
        names = self._population.serials.slice(first, count).to_pylist()
        sent_s = self._orders.start_unix + int(self._now())
        envelope = Envelope(
            self._population.concentrators[concentrator], self._stream[concentrator], sequence, 1, sent_s
        )
        return encode(self._orders.format, readings, names, envelope)

    def _named(self, concentrator: int, sequence: int) -> Topic:
        shard, name = self._population.shards[concentrator], self._population.concentrators[concentrator]
        return Topic(shard, name, "reads", self._orders.format, self._stream[concentrator], sequence)

    # -- what comes back ---------------------------------------------------------------------------------------
    def _acked(self, place: int, at_s: float) -> None:
        if np.isnan(self.times.acked[place]):
            acked_s = at_s - self._orders.start_s
            self.times.acked[place] = acked_s
            self.counts["acked"] += 1
            self._look_at(int(self._plan.sender[place]), acked_s)

    def _held(self, stream: str, sequence: int, at_s: float) -> None:
        concentrator = self._by_stream.get(stream)
        if concentrator is None:
            return
        unheld = self._unheld[concentrator]
        while unheld and unheld[0].sequence <= sequence:
            packed = unheld.popleft()
            self._unheld_count -= 1
            self.times.held[packed.number] = at_s - self._orders.start_s
            self.counts["held"] += 1
            self._patience_s[concentrator] = AGAIN_AFTER_S

    def _asked(self, stream: str, first: int, last: int) -> None:
        concentrator = self._by_stream.get(stream)
        if concentrator is None:
            return
        wanted = [p for p in self._unheld[concentrator] if first <= p.sequence <= last][:AGAIN_AT_ONCE]
        self._again(concentrator, wanted)

    def _again(self, concentrator: int, wanted: list[Packed]) -> None:
        for packed in wanted:
            self.counts["again"] += 1
            self._session_of[concentrator].send(packed)

    # -- the line ----------------------------------------------------------------------------------------------
    def _serve(self, wait_s: float) -> None:
        for session, own in self._sessions:
            if session.socket is None:
                self._forget(session)
                if session.open() and session.connections > 1:
                    unheld = [packed for c in own for packed in self._unheld[c]]
                    self.counts["again"] += len(unheld)
                    session.start_again(unheld)
            self._watch(session)
        for key, events in self._selector.select(wait_s):
            session = key.data
            if events & selectors.EVENT_WRITE and session.socket is not None:
                session.write()
            if events & selectors.EVENT_READ and session.socket is not None:
                session.read()

    def _watch(self, session: Session) -> None:
        if session.socket is None:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.wants_write else 0)
        known = self._events.get(session)
        if known is None:
            self._selector.register(session.socket, events, session)
        elif known != events:
            self._selector.modify(session.socket, events, session)
        self._events[session] = events

    def _forget(self, session: Session) -> None:
        """A closed socket has no number any more: it is found by whose it was."""
        if self._events.pop(session, None) is not None:
            for key in list(self._selector.get_map().values()):
                if key.data is session:
                    self._selector.unregister(key.fileobj)

    def _cut_all(self) -> None:
        self.counts["cuts"] += len(self._sessions)
        for session, _ in self._sessions:
            session.drop()

    def _each_second(self) -> None:
        now_s = self._now()
        for session, _ in self._sessions:
            session.keep_alive()
        while self._look and self._look[0][0] < now_s:
            _, concentrator = heapq.heappop(self._look)
            self._looked.discard(concentrator)
            unheld = self._unheld[concentrator]
            if unheld and not np.isnan(self.times.acked[unheld[0].number]):
                self._look_at(concentrator, self._insist(concentrator, unheld, now_s))
        behind = sum(session.behind for session, _ in self._sessions)
        _say(t=round(now_s, 1), behind=behind, **self.counts)

    def _look_at(self, concentrator: int, since_s: float) -> None:
        """Whether its oldest message is held, once its patience is over."""
        if concentrator not in self._looked:
            self._looked.add(concentrator)
            heapq.heappush(self._look, (since_s + self._patience_s[concentrator], concentrator))

    def _insist(self, concentrator: int, unheld: deque[Packed], now_s: float) -> float:
        """Send again what is acknowledged and nobody holds, ever more patiently; since when the oldest one waits."""
        since_s = max(self._again_at_s.get(concentrator, 0.0), float(self.times.acked[unheld[0].number]))
        if now_s - since_s > self._patience_s[concentrator]:
            self._again_at_s[concentrator] = now_s
            self._patience_s[concentrator] *= 2
            self._again(concentrator, list(islice(unheld, AGAIN_AT_ONCE)))
            return now_s
        return since_s


_NOBODY: Final = Envelope("", "", 0, 0, 0)


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Exit 0: everything is held; NOT_ALL: not everything; 2: the broker refuses; 3: too much was not held."""
    path = Path((argv if argv is not None else sys.argv[1:])[0])
    orders = Orders(**json.loads(path.read_text()))
    clock = RealClock()
    try:
        orders.broker()
    except OSError as wrong:  # of certificates and keys; SSLError is one
        _say(error=f"TLS: {wrong}")
        return 2
    population = read_population(
        Path(orders.registry),
        begin_s=orders.begin_s,
        seed=int(orders.wish["seed"]),
        thirsty=frozenset(orders.thirsty),
    )
    whole = schedule(Wish(**orders.wish))
    dues = Dues(Path(orders.dues), slots_of(whole.sender, len(population.concentrators)))
    sender = Sender(orders, population, whole.part(orders.part, orders.of), clock, dues)
    del whole
    code = 0
    try:
        sender.connect(CONNECT_S)
        _say(ready=True)
        told = json.loads(sys.stdin.readline())
        orders.start_s, orders.start_unix = told["start_s"], told["start_unix"]
        signal.signal(signal.SIGTERM, lambda *_: sender.end_early())
        code = 0 if sender.run() else NOT_ALL
    except (Refused, TimeoutError) as refused:
        _say(error=str(refused))
        return 2
    except Overrun as overrun:
        _say(error=str(overrun))
        code = 3
    finally:
        sender.close()
    sender.save(Path(orders.out), population.value - population.opening)
    return code


if __name__ == "__main__":
    sys.exit(main())
