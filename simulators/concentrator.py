"""I/O: a concentrator's outbox on disk, and the MQTT session that many concentrators share.

A message is in the outbox, with its stream and number, before it is published, and leaves it only when the
receiver says that it is *held*; an MQTT acknowledgement only frees a place in the window. One thread runs
everything: `Link.serve` does the socket's work, and paho's callbacks only append to lists.
"""

from __future__ import annotations

import json
import selectors
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config.clock import Clock
from ingest.wire import in_properties, parse_topic

SESSION_EXPIRY_S: Final = 86_400
CONNECT_DEADLINE_S: Final = 10.0
RECONNECT_AFTER_S: Final = 0.5
BUSY_DEADLINE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream, ready to be published."""

    stream: str
    sequence: int
    topic: str
    body: bytes
    signature: str = ""  # MQTT 5 user property; "": none


@dataclass(slots=True)
class Stream:
    """A concentrator's numbering as the outbox has it."""

    stream: str
    concentrator: str
    next_sequence: int
    held: int
    boot: int

    def confirm(self, held: int) -> bool:
        """Take over what the receiver says is held; True when that moved the stream.

        It never goes back, and what was never numbered cannot be held: whoever says so speaks of another stream,
        or of a number that somebody else has used. Believing it would delete what is yet to be sent.
        """
        if not self.held < held < self.next_sequence:
            return False
        self.held = held
        return True


class Outbox:
    """What has not been confirmed as held, in one SQLite file for all concentrators of a process.

    WAL with synchronous NORMAL: a killed process loses nothing that was committed.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_DEADLINE_S)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(
            "CREATE TABLE IF NOT EXISTS message (stream TEXT, sequence INTEGER, topic TEXT NOT NULL,"
            " body BLOB NOT NULL, signature TEXT NOT NULL, PRIMARY KEY (stream, sequence));"
            "CREATE TABLE IF NOT EXISTS stream (stream TEXT PRIMARY KEY, concentrator TEXT NOT NULL UNIQUE,"
            " next_sequence INTEGER NOT NULL, held INTEGER NOT NULL, boot INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, interval INTEGER NOT NULL) WITHOUT ROWID;"
        )

    def streams(self, wanted: Mapping[str, str]) -> list[Stream]:
        """One stream per concentrator ({concentrator: stream id for a new one}); every start counts a boot."""
        self._db.execute("BEGIN IMMEDIATE")
        # Boot 0 is never used, so that a replayed older one can be told.
        self._db.executemany(
            "INSERT OR IGNORE INTO stream VALUES (?,?,1,0,0)", [(stream, name) for name, stream in wanted.items()]
        )
        self._db.execute("UPDATE stream SET boot = boot + 1")
        self._db.execute("COMMIT")
        rows = self._db.execute("SELECT stream, concentrator, next_sequence, held, boot FROM stream")
        return [Stream(*row) for row in rows]

    def position(self) -> int:
        """First interval whose messages have not been taken yet."""
        row = self._db.execute("SELECT interval FROM position").fetchone()
        return int(row[0]) if row else 0

    def commit(self, messages: Iterable[Message], streams: Iterable[Stream], position: int) -> None:
        """Take new messages and forget held ones, together with the streams' numbers and the position."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT OR REPLACE INTO message VALUES (?,?,?,?,?)",
            [(m.stream, m.sequence, m.topic, m.body, m.signature) for m in messages],
        )
        for s in streams:
            self._db.execute(
                "UPDATE stream SET next_sequence=?, held=?, boot=? WHERE stream=?",
                (s.next_sequence, s.held, s.boot, s.stream),
            )
            self._db.execute("DELETE FROM message WHERE stream=? AND sequence<=?", (s.stream, s.held))
        self._db.execute("INSERT OR REPLACE INTO position VALUES (1,?)", (position,))
        self._db.execute("COMMIT")

    def between(self, stream: str, first: int, last: int, count_max: int) -> list[Message]:
        """Messages of a stream that are still here, oldest first."""
        rows = self._db.execute(
            "SELECT stream, sequence, topic, body, signature FROM message WHERE stream=? AND sequence BETWEEN ? AND ?"
            " ORDER BY sequence LIMIT ?",
            (stream, first, last, count_max),
        )
        return [Message(*row) for row in rows]

    def count(self) -> int:
        """Messages not held yet."""
        return int(self._db.execute("SELECT count(*) FROM message").fetchone()[0])

    def close(self) -> None:
        self._db.close()


@dataclass(slots=True)
class Told:
    """What the receiver has said since the last look."""

    held: dict[str, int] = field(default_factory=dict)  # stream -> everything up to this
    resend: list[tuple[str, int, int]] = field(default_factory=list)  # stream, first, last


class LinkPort(Protocol):
    """A session through which several concentrators publish, as a run of the fleet uses it."""

    @property
    def five(self) -> bool:
        """Whether messages may have MQTT 5 properties."""
        ...

    def room(self) -> int: ...

    def publish(self, message: Message) -> None: ...

    def serve(self, wait_s: float) -> None: ...

    def renewed(self) -> bool: ...

    def told(self) -> Told: ...

    def cut(self) -> None: ...


class Link:
    """One persistent MQTT session that publishes for several concentrators.

    Every connection after the first is a fresh client of the same session: what was in flight is forgotten here
    and `renewed` says so, because the outbox sends it again from the last held message on, in order. A broker
    that came back empty would otherwise get what was in flight before what it had lost.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        topics: Iterable[str],
        clock: Clock,
        *,
        version: str,
        window: int,
        keepalive_s: int = 60,
    ) -> None:
        self.five = version == "5"
        self._client_id = client_id
        self._address = (host, port, keepalive_s)
        self._clock = clock
        self._topics = [(topic, 1) for topic in topics]
        self.window = window
        self._client = self._fresh()
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._selector = selectors.DefaultSelector()
        self._registered: Any = None
        self._again_at_s = 0.0
        self._misc_at_s = 0.0
        self.unacknowledged = 0
        self.connected = False
        self.connections = 0
        self._renewed = False

    def _fresh(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if self.five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if self.five else MQTTProtocolVersion.MQTTv311,
        )
        client.connect_timeout = CONNECT_DEADLINE_S
        client.max_inflight_messages_set(self.window)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    # paho calls these within serve(); they only note what happened
    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        self.connected = client.is_connected()
        self._renewed = self.connections > 0
        self.connections += 1
        for first in range(0, len(self._topics), 50):
            client.subscribe(self._topics[first : first + 50])

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._inbox.append((message.topic, bytes(message.payload)))

    def _on_publish(self, *_: Any) -> None:
        self.unacknowledged = max(0, self.unacknowledged - 1)

    def _on_disconnect(self, *_: Any) -> None:
        self.connected = False

    def room(self) -> int:
        """How many messages may be published now."""
        return self.window - self.unacknowledged if self.connected else 0

    def publish(self, message: Message) -> None:
        """Hand a message to the session; it is unacknowledged until the broker says so.

        Under MQTT 5 its number and format go as properties, as the daemon must then speak MQTT 5, too.
        """
        self.unacknowledged += 1
        if not self.five:
            assert not message.signature, f"a signature on {message.topic} needs MQTT 5"
            self._client.publish(message.topic, message.body, qos=1)
            return
        named = parse_topic(message.topic)
        assert named is not None, message.topic
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        topic, properties.ContentType, numbered = in_properties(named)
        signed = (("signature", message.signature),) if message.signature else ()
        properties.UserProperty = [*numbered, *signed]
        self._client.publish(topic, message.body, qos=1, properties=properties)

    def serve(self, wait_s: float) -> None:
        """Do the socket's work for at most `wait_s` seconds of waiting; connect again when the line is down."""
        now_s = self._clock.monotonic_s()
        sock = self._client.socket()
        if sock is None:
            self._connect(now_s)
            return
        self._watch(sock)
        for _, events in self._selector.select(wait_s):
            if events & selectors.EVENT_READ:
                self._client.loop_read()
            if events & selectors.EVENT_WRITE and self._client.socket() is not None:
                self._client.loop_write()
        if now_s >= self._misc_at_s:
            self._client.loop_misc()
            self._misc_at_s = now_s + 1.0

    def _watch(self, sock: Any) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._client.want_write() else 0)
        if self._registered is None or self._registered is not sock:
            self._forget()
            self._selector.register(sock, events)
            self._registered = sock
        elif self._selector.get_key(sock).events != events:
            self._selector.modify(sock, events)

    def _forget(self) -> None:
        if self._registered is not None:
            # A closed socket has no number any more: start with a fresh selector.
            self._selector.close()
            self._selector = selectors.DefaultSelector()
            self._registered = None

    def _connect(self, now_s: float) -> None:
        self._forget()
        if now_s < self._again_at_s:
            return
        self._again_at_s = now_s + RECONNECT_AFTER_S
        host, port, keepalive_s = self._address
        if self.connections:
            self._client = self._fresh()
            self.unacknowledged = 0
        try:
            if self.five:
                properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = SESSION_EXPIRY_S
                self._client.connect(host, port, keepalive_s, clean_start=False, properties=properties)
            else:
                self._client.connect(host, port, keepalive_s)
        except OSError:
            self.connected = False  # tried again by the next serve()

    def cut(self) -> None:
        """Disconnect; the session stays with the broker and serve() takes it up again."""
        self._client.disconnect()
        self.connected = False

    def renewed(self) -> bool:
        """True once after every connection but the first: what is not held must be published again."""
        found, self._renewed = self._renewed, False
        return found

    def told(self) -> Told:
        """What has come in on `down/...`, taken off the list; what is no answer of ours is ignored."""
        found = Told()
        while self._inbox:
            topic, payload = self._inbox.popleft()
            parts = topic.split("/")
            if len(parts) != 7:
                continue
            kind, stream = parts[5], parts[6]
            try:
                said = json.loads(payload)
                if kind == "held":
                    found.held[stream] = max(found.held.get(stream, 0), int(said["held"]))
                elif kind == "resend":
                    found.resend.append((stream, int(said["from"]), int(said["to"])))
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def close(self) -> None:
        self._client.disconnect()
        self._forget()
        self._selector.close()
