"""I/O: the embedded MQTT broker (iotcore, which carries rumqttd) as a child process on 127.0.0.1.

Two listeners over one router: MQTT 5 on `port_5`, MQTT 3.1.1 on `port_311`; what comes in on one goes out on the
other. `port` of the settings is the one that speaks `mqtt.version`; the other is the next port (or any, if 0).

What it keeps in memory is bounded (SEGMENT_BYTES x SEGMENTS_MAX for a shard, x SEGMENTS for all); when a subscriber
stays away for longer than that, the oldest messages are gone and concentrators send them again, because they
were never confirmed as held. What goes down has windows of its own (DOWN): rumqttd keeps what it has delivered until
the window of the filter is full, and there is a filter for each concentrator. It also remembers every topic for
ever, 285 bytes each. Its window of unacknowledged messages to one subscriber is 100, whatever `max_inflight_count`
says, and it wants acknowledgements in order.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Any, Final

from iotcore import Broker

from config import proc
from config.settings import MqttSettings

SEGMENT_BYTES: Final = 16 << 20
SEGMENTS_MAX: Final = 24  # of a shard
SEGMENTS: Final = 48  # of all shards together
# (bytes of a segment, segments) of what goes down: to a concentrator, and to a listener for many of them. A message
# counts with topic and payload, some 60 bytes, and takes up 310; what is lost is said again.
DOWN: Final = {"meters/v1/+/+/down/#": (4 << 10, 4), "meters/v1/+/+/+/held/+": (1 << 20, 4)}
_HOST: Final = "127.0.0.1"


class BrokerFailed(Exception):
    """The embedded broker did not start, or is gone."""

    def __init__(self, what: str, *, retriable: bool) -> None:
        super().__init__(what)
        self.retriable = retriable


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _listener(name: str, port: int, settings: MqttSettings) -> str:
    # An oversized message must reach ingest, which sets it aside and confirms it; a broker that refused it would
    # cut the connection, and the concentrator would send it again for ever.
    payload_max = 2 * settings.payload_max + 65_536
    return f"""
[{name}.1]
name = "{name}"
listen = "{_HOST}:{port}"
next_connection_delay_ms = 1
[{name}.1.connections]
connection_timeout_ms = 60000
max_payload_size = {payload_max}
max_inflight_count = {settings.inflight_max}
dynamic_filters = true
"""


class EmbeddedBroker:
    """Start, watch and stop the broker; it also ends by itself when this process goes away."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        main = settings.port or _free_port()
        other = settings.port + 1 if settings.port else _free_port()
        self.port = main
        self.port_5, self.port_311 = (main, other) if settings.version == "5" else (other, main)
        self._broker: Any = None

    def start(self, timeout_real_s: float = 10.0) -> EmbeddedBroker:
        """Return when both listeners accept connections; `BrokerFailed` otherwise."""
        segments = max(2, min(SEGMENTS_MAX, SEGMENTS // len(self._settings.shards)))
        text = (
            f"id = 0\n[router]\nid = 0\nmax_connections = 10010\nmax_outgoing_packet_count = 200\n"
            f"max_segment_size = {SEGMENT_BYTES}\nmax_segment_count = {segments}\n"
            + "".join(
                f'[router.custom_segment."{topic}"]\nmax_segment_size = {size}\nmax_segment_count = {count}\n'
                for topic, (size, count) in DOWN.items()
            )
            + _listener("v4", self.port_311, self._settings)
            + _listener("v5", self.port_5, self._settings)
        )
        # Read once, before the listeners stand: not left to `stop`, which a process that is killed does not come to.
        with tempfile.TemporaryDirectory(prefix="meterd-broker-") as folder:
            config = Path(folder) / "broker.toml"
            config.write_text(text, encoding="utf-8")
            try:
                self._broker = Broker(config_path=str(config))
                self._broker.start(timeout=timeout_real_s)
            except (OSError, RuntimeError, ValueError) as error:
                self.stop()
                busy = isinstance(error, OSError)
                raise BrokerFailed(f"embedded broker on port {self.port}: {error}", retriable=busy) from error
        return self

    @property
    def alive(self) -> bool:
        """False once the child process is gone (its sessions with it)."""
        return self._broker is not None and bool(self._broker.is_running)

    @property
    def memory_bytes(self) -> int:
        """Resident; 0 when it is gone, or where there is no /proc."""
        process = getattr(self._broker, "_process", None)
        return proc.memory(process.pid) if process is not None else 0

    def stop(self, timeout_real_s: float = 5.0) -> None:
        """End the child and release its ports; safe to call twice."""
        if self._broker is not None:
            self._broker.stop(timeout=timeout_real_s)
            self._broker = None

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
