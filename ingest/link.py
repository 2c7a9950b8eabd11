"""I/O: one persistent MQTT session: receives, counts generations, acknowledges in one packet.

The network thread is paho's; our callback there only puts a tuple into a queue. A *generation* is one connection
of the session: an acknowledgement that was earned under an older one is dropped, because the packet id may by
then belong to another message; the broker sends the message again and it is acknowledged then.

Two things are done below paho's public face, in `_Client` alone: acknowledgements of a group leave as one packet
(one wake-up of the network thread instead of hundreds), and each turn of its loop leaves a time stamp, so that a
thread that died or hangs is noticed and replaced.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config.settings import MqttSettings
from ingest.wire import subscription

SESSION_EXPIRY_S: Final = 7 * 86_400
_PUBACK: Final = b"\x40\x02"
_ROOM_POLL_REAL_S: Final = 0.005
_log = structlog.get_logger("ingest")

Queue = queue.SimpleQueue["tuple[Link, int, mqtt.MQTTMessage] | None"]


class _Client(mqtt.Client):
    """paho's client with group acknowledgement and a pulse."""

    beat_real_s = 0.0
    monotonic_s: Callable[[], float]

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        self.beat_real_s = self.monotonic_s()
        return super()._loop(timeout)

    def acknowledge(self, mids: list[int]) -> None:
        packet = b"".join(_PUBACK + mid.to_bytes(2, "big") for mid in mids)
        self._packet_queue(mqtt.PUBACK, packet, mids[-1], 1)

    def cut(self) -> None:
        """Break the connection without a word; the network thread notices."""
        sock = self._sock
        if isinstance(sock, socket.socket):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it was gone already

    def abandon(self) -> None:
        """Leave a thread that may hang to itself; nothing of it is listened to any more."""
        self.on_message = self.on_connect = self.on_disconnect = None
        self._thread_terminate = True
        self.cut()

    @property
    def thread(self) -> threading.Thread | None:
        return self._thread


class Link:
    """The session of one shard. Generation, lock and counters are shared with the worker thread."""

    def __init__(
        self,
        shard: str,
        settings: MqttSettings,
        port: int,
        into: Queue,
        monotonic_s: Callable[[], float],
    ) -> None:
        self.shard = shard
        self.connected = False
        self.paused = False
        self.generation = 0
        self.reconnects = 0
        self.restarts = 0
        self._settings = settings
        self._port = port
        self._queue = into
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._waiting = False
        self._client: _Client | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background, for as long as it takes."""
        five = self._settings.version == "5"
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._settings.client_id_prefix}-{self.shard}",
            clean_session=None if five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.monotonic_s = self._monotonic_s
        client.beat_real_s = self._monotonic_s()
        if self._settings.username is not None:
            password = self._settings.password
            client.username_pw_set(self._settings.username, password.get_secret_value() if password else None)
        client.reconnect_delay_set(min_delay=1, max_delay=5)
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_pre_connect = self._on_pre_connect
        options: dict[str, Any] = {}
        if five:
            wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            wishes.SessionExpiryInterval = SESSION_EXPIRY_S
            wishes.ReceiveMaximum = self._settings.inflight_max
            options = {"clean_start": False, "properties": wishes}
        client.connect_async(self._settings.host, self._port, self._settings.keepalive_real_s, **options)
        self._client = client
        client.loop_start()

    def watch(self) -> None:
        """Replace a network thread that is dead or has been silent for longer than the watchdog allows."""
        client = self._client
        if client is None or self._waiting:
            return
        dead = client.thread is None or not client.thread.is_alive()
        silent_real_s = self._monotonic_s() - client.beat_real_s
        if dead or silent_real_s > self._settings.watchdog_real_s:
            _log.error("network thread replaced", shard=self.shard, dead=dead, silent_real_s=round(silent_real_s, 1))
            self._next_generation()
            client.abandon()
            self.restarts += 1
            self.start()

    def close(self, deadline_real_s: float) -> None:
        """Let what was said leave, say goodbye, end the thread; at most until the deadline (monotonic)."""
        client, self._client = self._client, None
        if client is None:
            return
        pause = threading.Event()
        while client.want_write() and self.connected and self._monotonic_s() < deadline_real_s:
            pause.wait(0.01)
        client.disconnect()
        thread = client.thread
        if thread is not None:
            thread.join(max(0.05, deadline_real_s - self._monotonic_s()))
        client.abandon()
        self.connected = False

    # -- the worker's side ----------------------------------------------------------------------------------------

    def acknowledge(self, generation: int, mids: list[int]) -> int:
        """Queue PUBACKs in order; returns how many (none when the connection is not the one they came over)."""
        with self._lock:
            client = self._client
            if generation != self.generation or client is None or not mids:
                return 0
            client.acknowledge(mids)
            return len(mids)

    def publish(self, topic: str, payload: bytes) -> bool:
        """QoS 1 to a concentrator; False when there is no connection to take it."""
        client = self._client
        if client is None or not self.connected:
            return False
        return client.publish(topic, payload, qos=1).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    # -- the network thread's side: nothing here may raise, or wait without a deadline ------------------------

    def _next_generation(self) -> None:
        with self._lock:
            self.generation += 1
            self.connected = False

    def _on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        if self.paused or client is not self._client:
            return  # not acknowledged: the broker keeps it
        self._queue.put((self, self.generation, message))
        if self._queue.qsize() >= self._settings.queue_max:
            self._wait_for_room(client)

    def _wait_for_room(self, client: mqtt.Client) -> None:
        """Back-pressure: the socket is not read. Near the keep-alive the connection is given up instead."""
        assert isinstance(client, _Client)
        deadline = self._monotonic_s() + self._settings.keepalive_real_s / 2
        pause = threading.Event()
        self._waiting = True
        while self._queue.qsize() >= self._settings.queue_max and not self.paused:
            if self._monotonic_s() > deadline:
                self.paused = True  # until the worker has made room: see resume
                client.cut()
                break
            pause.wait(_ROOM_POLL_REAL_S)
        self._waiting = False

    def resume(self) -> None:
        """After back-pressure gave the connection up: take messages again (the broker sends them again)."""
        if self.paused and self._queue.qsize() <= self._settings.queue_max // 2 and self._client is not None:
            self.paused = False
            self._client.cut()  # what came while paused was not taken: a new connection brings it again

    def _on_connect(self, client: mqtt.Client, _: Any, flags: Any, reason: Any, properties: Any) -> None:
        del flags, properties
        if client is not self._client:
            return
        if reason.is_failure:
            _log.error("broker refuses the session", shard=self.shard, reason=str(reason))
            return
        client.subscribe(subscription(self.shard), qos=1)
        self.connected = True
        self.reconnects += 1
        _log.info("connected", shard=self.shard, generation=self.generation)

    def _on_disconnect(self, client: mqtt.Client, _: Any, flags: Any, reason: Any, properties: Any) -> None:
        del flags, properties
        if client is self._client:
            self._next_generation()
            _log.warning("disconnected", shard=self.shard, reason=str(reason))

    def _on_connect_fail(self, client: mqtt.Client, _: Any) -> None:
        assert isinstance(client, _Client)
        client.beat_real_s = self._monotonic_s()

    def _on_pre_connect(self, client: mqtt.Client, _: Any) -> None:
        if client is self._client:
            self._next_generation()
