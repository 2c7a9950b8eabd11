"""I/O (simulated): the broker of the world, and its two ends: the fleet's sessions and the daemon's.

    FleetEnd --publish--> [on the way] --arrives--> Broker.queue of a shard --deliver--> DaemonEnd (in flight, by mid)
    FleetEnd <----------------- held (QoS 0, may be lost), resend ------------------------ DaemonEnd

What is on the way may be lost with its connection, come twice, late, or out of order. The broker keeps a shard's
messages and what is in flight, and gives out what was not acknowledged again after every new connection, under new
packet ids. A restart may forget all of it, also what it had acknowledged. An acknowledgement is taken by its packet
id, whatever message has that by now: that none goes out over another connection than its message came over is the
daemon's own rule (`ingest.session`).
"""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter, deque
from collections.abc import Sequence

from config.clock import Clock
from ingest.link import Queue, Received
from ingest.pipeline import Message
from ingest.session import Session
from ingest.wire import in_properties, parse_topic
from simulators.concentrator import Message as Sent
from simulators.concentrator import Told
from simulators.world.weather import Weather

WINDOW = 16  # messages in flight to the daemon
BACK_S = (1, 5, 60, 600)
PATIENCE = 6  # how often the fleet's pause doubles while nothing that it sends comes to be held
DELAYS_S = (120, 3600, 12 * 3600, 36 * 3600, 3 * 86_400)


class Broker:
    """One for the whole world."""

    def __init__(self, clock: Clock, dice: random.Random, weather: Weather, counts: Counter[str]) -> None:
        self._clock, self._dice, self.weather, self._counts = clock, dice, weather, counts
        self._on_the_way: list[tuple[int, int, FleetEnd, str, Message]] = []
        self._number = self._newest = 0  # given out; of what has arrived
        self.queues: dict[str, deque[Message]] = {}
        self.daemon: dict[str, DaemonEnd] = {}
        self.fleet: list[FleetEnd] = []
        self.acknowledged: list[Message] = []  # by the daemon, since somebody looked
        self.told_held: dict[str, int] = {}  # by stream: what the daemon has said is durable

    def publish(self, end: FleetEnd, shard: str, message: Message) -> None:
        """One message on its way from a concentrator."""
        now_s, dice, weather = self._clock.now_s(), self._dice, self.weather
        if dice.random() < weather.lose:
            self._counts["line:lost"] += 1
            end.cut()
            return
        twice = dice.random() < weather.duplicate
        self._counts["line:duplicated"] += twice
        for _ in range(1 + twice):
            at_s = now_s
            if dice.random() < weather.delay:
                at_s += dice.choice(DELAYS_S)
                self._counts["line:delayed"] += 1
            elif dice.random() < weather.reorder:
                at_s += dice.randrange(1, 60)
                self._counts["line:reordered"] += 1
            self._number += 1
            heapq.heappush(self._on_the_way, (at_s, self._number, end, shard, message))

    def pump(self) -> bool:
        """Move what has arrived into the shards' queues, and from there to the daemon; False: nothing moved."""
        now_s, moved = self._clock.now_s(), False
        while self._on_the_way and self._on_the_way[0][0] <= now_s:
            _, number, end, shard, message = heapq.heappop(self._on_the_way)
            self._counts["line:overtaken"] += number < self._newest
            self._newest = max(self._newest, number)
            self.queues.setdefault(shard, deque()).append(message)
            end.unacknowledged = max(0, end.unacknowledged - 1)
            moved = True
        for shard, session in self.daemon.items():
            moved |= session.deliver(self.queues.setdefault(shard, deque()))
        return moved

    @property
    def now_s(self) -> int:
        return self._clock.now_s()

    def pause_s(self) -> int:
        """Until somebody who was cut off is back."""
        return self._dice.choice(BACK_S)

    @property
    def next_s(self) -> int | None:
        """When something that is on the way arrives."""
        return self._on_the_way[0][0] if self._on_the_way else None

    def down(self, topic: str, payload: bytes, *, sure: bool) -> None:
        """From the daemon to whoever listens."""
        parts = topic.split("/")
        if parts[5] == "held":
            self.told_held[parts[6]] = max(self.told_held.get(parts[6], 0), int(json.loads(payload)["held"]))
        if not sure and self._dice.random() < self.weather.lose:
            return
        for end in self.fleet:
            end.inbox.append((topic, payload))

    def connect(self, end: DaemonEnd) -> None:
        """The daemon's session of a shard, taken up again: what was in flight comes first."""
        former = self.daemon.get(end.shard)
        if former is not None:
            self.queues.setdefault(end.shard, deque()).extendleft(reversed(former.give_back()))
        self.daemon[end.shard] = end

    def lose_daemon(self) -> None:
        """Its connections are gone; its sessions stay."""
        for shard, end in self.daemon.items():
            self.queues.setdefault(shard, deque()).extendleft(reversed(end.give_back()))
        self.daemon.clear()

    def cut_daemon(self) -> None:
        """Its connections are cut and taken up again."""
        for end in self.daemon.values():
            self.queues.setdefault(end.shard, deque()).extendleft(reversed(end.cut()))

    def acknowledge(self, message: Message) -> None:
        self.acknowledged.append(message)

    def stale(self) -> None:
        """Acknowledgements came of a connection that is gone."""
        self._counts["line:stale ack"] += 1

    def restart(self, *, forget: bool) -> None:
        """All connections are cut; what the broker had may be gone."""
        self.cut_daemon()
        if forget:
            self.queues.clear()
            self._on_the_way.clear()
        for end in self.fleet:
            end.cut()


class FleetEnd:
    """Several concentrators' session (what `simulators.fleet_run.Run` publishes through)."""

    five = True
    window = 200

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._short = len(broker.fleet) % 2 == 0  # every other one numbers by properties
        self.unacknowledged = 0
        self.inbox: deque[tuple[str, bytes]] = deque()
        self._renewed = False
        self._up_at_s = 0
        self._cuts = 0  # since the daemon said that it holds something
        broker.fleet.append(self)

    def room(self) -> int:
        return self.window - self.unacknowledged if self._up else 0

    @property
    def _up(self) -> bool:
        return self._broker.now_s >= self._up_at_s

    def publish(self, message: Sent) -> None:
        self.unacknowledged += 1
        named = parse_topic(message.topic)
        assert named is not None, message.topic
        # Both ways that there are: a concentrator of MQTT 5 numbers in properties, one of 3.1.1 in the topic
        topic, content_type, properties = in_properties(named) if self._short else (message.topic, None, ())
        if message.signature:
            properties += (("signature", message.signature),)
        self._broker.publish(self, named.shard, Message(topic, message.body, content_type, properties))

    def serve(self, wait_s: float) -> None:
        """Nothing to do: the broker pumps."""

    def cut(self) -> None:
        """The connection is gone; over the next one, a little later, what was in flight is sent again."""
        self.unacknowledged = 0
        self._renewed = True
        self._up_at_s = self._broker.now_s + (self._broker.pause_s() << min(self._cuts, PATIENCE))
        self._cuts += 1

    def renewed(self) -> bool:
        if not self._up:
            return False
        found, self._renewed = self._renewed, False
        return found

    def told(self) -> Told:
        found = Told()
        while self.inbox:
            topic, payload = self.inbox.popleft()
            parts, said = topic.split("/"), json.loads(payload)
            if parts[5] == "held":
                self._cuts = 0
                found.held[parts[6]] = max(found.held.get(parts[6], 0), int(said["held"]))
            else:
                found.resend.append((parts[6], int(said["from"]), int(said["to"])))
        return found


class DaemonEnd(Session):
    """An `ingest.port.LinkPort`: the daemon's session of one shard, and what the broker knows of its connection."""

    restarts = 0

    def __init__(self, broker: Broker, shard: str, into: Queue) -> None:
        super().__init__()
        self.shard, self._into, self._broker = shard, into, broker
        self.paused = False
        self.reconnects = 0
        self._mid = 0
        self._flying: dict[int, Message] = {}

    @property
    def waiting(self) -> bool:
        """Whether ingest has not taken something yet."""
        return not self._into.empty()

    def start(self) -> None:
        self._broker.connect(self)
        self._connected()

    def _connected(self) -> None:
        self._next_generation()
        self.reconnects += 1
        self.connected = True

    def deliver(self, queue: deque[Message]) -> bool:
        """As much as the window takes."""
        moved = False
        while queue and self.connected and not self.paused and len(self._flying) < WINDOW:
            message = queue.popleft()
            self._mid = self._free()
            self._flying[self._mid] = message
            self._into.put(Received(self, self.generation, self._mid, message))
            moved = True
        return moved

    def _free(self) -> int:
        """The next packet id that nothing in flight has. There are as few as can be, so that they come again soon."""
        following = (mid % WINDOW + 1 for mid in range(self._mid, self._mid + WINDOW))
        return next(mid for mid in following if mid not in self._flying)

    def give_back(self) -> list[Message]:
        """What was not acknowledged, oldest first."""
        left, self._flying = list(self._flying.values()), {}
        return left

    def cut(self) -> list[Message]:
        """The connection is another one; packet ids begin again and stand for other messages."""
        left = self.give_back()
        self._mid = 0
        self._connected()
        return left

    def acknowledge(self, generation: int, mids: list[int]) -> int:
        if generation != self.generation:
            self._broker.stale()
        return super().acknowledge(generation, mids)

    def _send_acks(self, mids: list[int]) -> bool:
        for mid in mids:
            message = self._flying.pop(mid, None)
            if message is not None:
                self._broker.acknowledge(message)
        return True

    def tell(self, messages: Sequence[tuple[str, bytes]]) -> bool:
        for topic, payload in messages:
            self._broker.down(topic, payload, sure=False)
        return self.connected

    def publish(self, topic: str, payload: bytes) -> bool:
        self._broker.down(topic, payload, sure=True)
        return self.connected

    def watch(self) -> None:
        """There is no thread that could be dead."""

    def resume(self) -> None:
        self.paused = False

    def close(self, deadline_real_s: float) -> None:
        del deadline_real_s
        self.connected = False
