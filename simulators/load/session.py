"""I/O: one MQTT 5 connection of a generator: what waits to be sent, what is under way, and what is not held yet.

A message leaves the session when the receiver says that its stream is held up to it; after a reconnect everything
that is not held is sent again, in order. Nothing here waits: the owner's selector says when something can be read.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from config.clock import Clock
from simulators.load import packets

KEEPALIVE_S: Final = 60
EXPIRY_S: Final = 3600
CONNECT_DEADLINE_S: Final = 10.0
AGAIN_AFTER_S: Final = (0.2, 0.5, 1.0, 2.0)  # to the next attempt, by the number of those that failed
SUBSCRIBE_AT_ONCE: Final = 100
CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Broker:
    """Where, and as whom."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Packed:
    """One message: its number in the run, its stream and sequence, topic and payload, and MQTT 5 properties."""

    number: int
    stream: int
    sequence: int
    topic: str
    payload: bytes
    properties: bytes = b""


class Refused(Exception):
    """The broker does not want us: wrong password, certificate, or protocol."""


class Session:
    """Of several concentrators. `acked(number, at)` and `held(stream, sequence, at)` are called as they are heard."""

    def __init__(
        self,
        broker: Broker,
        client: str,
        filters: list[str],
        clock: Clock,
        acked: Callable[[int, float], None],
        held: Callable[[str, int, float], None],
        asked: Callable[[str, int, int], None],
    ) -> None:
        self._broker, self._client, self._filters, self._clock = broker, client, filters, clock
        self._acked, self._held, self._asked = acked, held, asked
        self.socket: socket.socket | None = None
        self.connected = False
        self.connections = 0
        self.why = ""  # the last attempt to connect failed
        self.refused = 0  # PUBACKs with an error
        self._out = bytearray()
        self._waiting: deque[Packed] = deque()
        self._flying: dict[int, Packed] = {}
        self._window = packets.RECEIVE_DEFAULT
        self._mid = 0
        self._reader = packets.Reader()
        self._again_at_s = 0.0
        self._failed = 0
        self._spoke_at_s = 0.0

    @property
    def behind(self) -> int:
        """Messages that the broker has not acknowledged, sent or not."""
        return len(self._waiting) + len(self._flying)

    @property
    def wants_write(self) -> bool:
        return bool(self._out)

    # -- what the owner asks -----------------------------------------------------------------------------------
    def send(self, message: Packed) -> None:
        """Send as soon as the connection and its window allow."""
        self._waiting.append(message)
        self._fill()

    def start_again(self, unheld: list[Packed]) -> None:
        """After a reconnect: what is not held, in order, before what is new."""
        known = {(m.stream, m.sequence) for m in unheld}
        new = [m for m in self._waiting if (m.stream, m.sequence) not in known]
        self._waiting = deque([*unheld, *new])
        self._fill()

    def open(self) -> bool:
        """Try to connect when it is time; True when a connection was made."""
        now_s = self._clock.monotonic_s()
        if self.socket is not None or now_s < self._again_at_s:
            return False
        pause_s = AGAIN_AFTER_S[min(self._failed, len(AGAIN_AFTER_S) - 1)]
        self._again_at_s = now_s + pause_s * random.uniform(0.5, 1.0)
        self._failed += 1
        try:
            made = socket.create_connection((self._broker.host, self._broker.port), timeout=CONNECT_DEADLINE_S)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._broker.tls is not None:
                made = self._broker.tls.wrap_socket(made, server_hostname=self._broker.host)
            hello = packets.connect(
                self._client, keepalive_s=KEEPALIVE_S, expiry_s=EXPIRY_S,
                user=self._broker.user, password=self._broker.password,
            )  # fmt: skip
            made.sendall(hello)
            self._reader, self._out = packets.Reader(), bytearray()
            self._greeted(made)
        except ssl.SSLCertVerificationError as error:
            raise Refused(f"{self._broker.host}: {error.verify_message}") from error
        except (OSError, packets.BrokenPacket) as error:
            if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
                raise Refused(f"{self._broker.host}:{self._broker.port} refuses the connection: {error}") from error
            self.why = str(error)
            return False
        made.settimeout(0)
        self.socket, self.connected, self._failed = made, True, 0
        self._flying.clear()
        self.connections += 1
        self._spoke_at_s = self._clock.monotonic_s()
        for first in range(0, len(self._filters), SUBSCRIBE_AT_ONCE):
            self._out += packets.subscribe(self._next_mid(), self._filters[first : first + SUBSCRIBE_AT_ONCE])
        self._flush()
        return True

    def _greeted(self, made: socket.socket) -> None:
        while True:
            data = made.recv(CHUNK)
            if not data:
                raise OSError("the broker closed the connection")
            for kind, _, body in self._reader.feed(data):
                if kind != packets.CONNACK:
                    raise packets.BrokenPacket("no CONNACK")
                reason, _, self._window = packets.parse_connack(body)
                if reason >= 0x80:
                    raise Refused(
                        f"{self._broker.host}:{self._broker.port} refuses the connection: reason {reason:#x}"
                    )
                return

    def read(self) -> None:
        """What has come in; a connection that has ended is dropped."""
        assert self.socket is not None
        try:
            while True:
                data = self.socket.recv(CHUNK)
                if not data:
                    self.drop()
                    return
                at_s = self._clock.monotonic_s()
                for kind, flags, body in self._reader.feed(data):
                    self._heard(kind, flags, body, at_s)
                if len(data) < CHUNK and not isinstance(self.socket, ssl.SSLSocket):
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (OSError, packets.BrokenPacket):
            self.drop()
            return
        self._fill()

    def write(self) -> None:
        self._flush()

    def keep_alive(self) -> None:
        """Say something when nothing was said for half the keep-alive."""
        if self.socket is not None and self._clock.monotonic_s() - self._spoke_at_s > KEEPALIVE_S / 2:
            self._out += packets.PINGREQ_PACKET
            self._flush()

    def drop(self) -> None:
        """The connection is gone; the session stays with the broker."""
        if self.socket is not None:
            self.socket.close()
        self.socket, self.connected = None, False

    def close(self) -> None:
        """Say goodbye."""
        if self.socket is not None:
            self._out += packets.DISCONNECT_PACKET
            self._flush()
        self.drop()

    # -- inside ------------------------------------------------------------------------------------------------
    def _next_mid(self) -> int:
        while True:
            self._mid = self._mid % 65_535 + 1
            if self._mid not in self._flying:
                return self._mid

    def _fill(self) -> None:
        """Hand to the socket what the window allows."""
        if not self.connected:
            return
        while self._waiting and len(self._flying) < self._window:
            message = self._waiting.popleft()
            mid = self._next_mid()
            self._flying[mid] = message
            self._out += packets.publish(message.topic, message.payload, mid, message.properties)
        self._flush()

    def _flush(self) -> None:
        if self.socket is None or not self._out:
            return
        try:
            sent = self.socket.send(self._out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError:
            self.drop()
            return
        del self._out[:sent]
        self._spoke_at_s = self._clock.monotonic_s()

    def _heard(self, kind: int, flags: int, body: bytes, at_s: float) -> None:
        if kind == packets.PUBACK:
            message = self._flying.pop(int.from_bytes(body[:2], "big"), None)
            if message is not None:
                if len(body) > 2 and body[2] >= 0x80:
                    self.refused += 1
                else:
                    self._acked(message.number, at_s)
        elif kind == packets.PUBLISH:
            topic, mid, payload = packets.parse_publish(flags, body)
            if mid:
                self._out += packets.puback(mid)
            self._told(topic, payload, at_s)
        elif kind == packets.DISCONNECT:
            raise OSError("the broker ends the connection")

    def _told(self, topic: str, payload: bytes, at_s: float) -> None:
        parts = topic.split("/")
        if len(parts) != 7 or parts[4] != "down":
            return
        try:
            said = json.loads(payload)
            if parts[5] == "held":
                self._held(parts[6], int(said["held"]), at_s)
            elif parts[5] == "resend":
                self._asked(parts[6], int(said["from"]), int(said["to"]))
        except (ValueError, KeyError, TypeError):
            return
