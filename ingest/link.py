"""I/O: one persistent MQTT session: receives, counts generations, acknowledges in one packet.

The network thread is paho's; our callback there only puts a tuple into a queue. What is acknowledged over which
connection is `ingest.session`'s.

Four things are done below paho's public face, in `_Client` alone. The socket is read in pieces of READ_BYTES, and
messages are cut out of them by `ingest.packets` (paho asks the kernel five times a message, and gives up Python's
global lock each time). Acknowledgements of a group leave as one packet, and so does what is `held`: one wake-up
of the network thread instead of hundreds. Each turn of its loop leaves a time stamp, so that a thread that died or
hangs is noticed and replaced.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config.settings import MqttSettings
from ingest.packets import PUBLISH_QOS_1, publish_packet, read_publish, whole_packet
from ingest.pipeline import Message
from ingest.port import LinkPort
from ingest.session import Session
from ingest.wire import subscription

SESSION_EXPIRY_S: Final = 7 * 86_400
READ_BYTES: Final = 1 << 18
_PUBACK: Final = b"\x40\x02"
_ROOM_POLL_REAL_S: Final = 0.005
_log = structlog.get_logger("ingest")


class Received(NamedTuple):
    """One message as it came: over which link and connection, its packet id (0: QoS 0 wants no answer), itself."""

    link: LinkPort
    generation: int
    mid: int
    message: Message


Queue = queue.SimpleQueue[Received | None]
LinkMaker = Callable[[str, Queue], LinkPort]  # for a shard; it puts what comes into the queue


class _Client(mqtt.Client):
    """paho's client with group acknowledgement and a pulse."""

    beat_real_s = 0.0
    monotonic_s: Callable[[], float]
    take: Callable[[_Client, int, Message], None] | None = None  # packet id, message
    _left = b""  # the beginning of a packet whose end has not come
    _left_of: object = None  # the connection it came over

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        self.beat_real_s = self.monotonic_s()
        return super()._loop(timeout)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read once, handle every packet that is whole."""
        del max_packets
        sock = self._sock
        if sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        try:
            data = self._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        except OSError:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        if not data:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        with self._msgtime_mutex:
            self._last_msg_in = mqtt.time_func()
        buffer = self._left + data if self._left and self._left_of is sock else data
        self._left, self._left_of, at = b"", sock, 0
        while (found := whole_packet(buffer, at)) is not None:
            start, end = found
            rc = self._one(buffer, at, start, end) if end > 0 else MQTTErrorCode.MQTT_ERR_PROTOCOL
            if rc > 0:
                return self._loop_rc_handle(rc)
            if self._sock is not sock:
                return MQTTErrorCode.MQTT_ERR_SUCCESS  # a callback closed it
            at = end
        self._left = buffer[at:]
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _one(self, buffer: bytes, at: int, start: int, end: int) -> MQTTErrorCode:
        """Messages with QoS 1 are taken here; paho handles everything else."""
        if buffer[at] & 0xF6 == PUBLISH_QOS_1 and self.take is not None:
            found = read_publish(buffer, start, end, five=self._protocol == MQTTProtocolVersion.MQTTv5)
            if found is not None:
                self.take(self, *found)
                return MQTTErrorCode.MQTT_ERR_SUCCESS
        self._in_packet = {
            "command": buffer[at],
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": end - start,
            "packet": bytearray(buffer[start:end]),
            "to_process": 0,
            "pos": 0,
        }
        try:
            return self._packet_handle()
        except MalformedPacket:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def acknowledge(self, mids: list[int]) -> None:
        self._write(b"".join(_PUBACK + mid.to_bytes(2, "big") for mid in mids))

    def tell(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish with QoS 0."""
        five = self._protocol == MQTTProtocolVersion.MQTTv5
        self._write(b"".join(publish_packet(topic, payload, five=five) for topic, payload in messages))

    def _write(self, packets: bytes) -> None:
        self._packet_queue(mqtt.PUBACK, packets, 0, 0)  # the command is looked at for what paho itself awaits

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
        self.take = self.on_message = self.on_connect = self.on_disconnect = None
        self._thread_terminate = True
        self.cut()

    @property
    def thread(self) -> threading.Thread | None:
        return self._thread


class Link(Session):
    """The session of one shard. Its counters are shared with the worker thread, too."""

    def __init__(
        self,
        shard: str,
        into: Queue,
        settings: MqttSettings,
        port: int,
        monotonic_s: Callable[[], float],
    ) -> None:
        super().__init__()
        self.shard = shard
        self.paused = False
        self.reconnects = 0
        self.restarts = 0
        self._settings = settings
        self._port = port
        self._queue = into
        self._monotonic_s = monotonic_s
        self._waiting = False
        self._told_down = False
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
        client.take = self._take
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
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

    def _send_acks(self, mids: list[int]) -> bool:
        client = self._client
        if client is None:
            return False
        client.acknowledge(mids)
        return True

    def tell(self, messages: Sequence[tuple[str, bytes]]) -> bool:
        """QoS 0, many in one packet: for what is said again anyway; False when there is no connection to take it."""
        with self._lock:
            client = self._client
            if client is None or not self.connected:
                return False
            client.tell(messages)
            return True

    def publish(self, topic: str, payload: bytes) -> bool:
        """QoS 1 to a concentrator; False when there is no connection to take it."""
        client = self._client
        if client is None or not self.connected:
            return False
        return client.publish(topic, payload, qos=1).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    # -- the network thread's side: nothing here may raise, or wait without a deadline ------------------------

    def _take(self, client: _Client, mid: int, message: Message) -> None:
        if self.paused or client is not self._client:
            return  # not acknowledged: the broker keeps it
        self._queue.put(Received(self, self.generation, mid, message))
        if self._queue.qsize() >= self._settings.queue_max:
            self._wait_for_room(client)

    def _on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        """What has no QoS, or properties that are not read here."""
        assert isinstance(client, _Client)
        self._take(client, message.mid if message.qos == 1 else 0, _message(message))

    def _wait_for_room(self, client: _Client) -> None:
        """Back-pressure: the socket is not read. Near the keep-alive the connection is given up instead."""
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

    def _on_subscribe(self, client: mqtt.Client, _: Any, mid: int, reasons: Any, properties: Any) -> None:
        """Only now does the broker keep messages for us."""
        del mid, properties
        if client is not self._client:
            return
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            _log.error("broker refuses the subscription", shard=self.shard, reasons=refused)
            return
        self.connected = True
        self._told_down = False
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
        if client is self._client and not self._told_down:  # once an outage; paho goes on trying
            self._told_down = True
            _log.error("no broker there", shard=self.shard, host=self._settings.host, port=self._port)

    def _on_pre_connect(self, client: mqtt.Client, _: Any) -> None:
        if client is self._client:
            self._next_generation()


def _message(received: mqtt.MQTTMessage) -> Message:
    try:
        topic: str | None = received.topic
    except UnicodeDecodeError:
        topic = None
    properties = received.properties
    if properties is None:
        return Message(topic, bytes(received.payload))
    user = getattr(properties, "UserProperty", ())
    return Message(
        topic, bytes(received.payload), getattr(properties, "ContentType", None), tuple((k, v) for k, v in user)
    )
