"""A small registry directory, a broker of its own, and a stand-in for the daemon that holds and answers."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from iotcore import Broker
from paho.mqtt.enums import CallbackAPIVersion

from ingest.wire import held_payload, held_topic, parse_topic, resend_payload, resend_topic

ROOT = Path(__file__).resolve().parents[2]


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class City:
    """Makes registry directories with the columns of docs/registry.md that a fleet reads."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, meters: int, concentrators: int = 2, name: str = "registry", opening: str = "1500.00") -> Path:
        directory = self.root / name
        directory.mkdir()
        numbers = range(1, meters + 1)
        of = {n: f"C{n % concentrators:03d}" for n in numbers}
        _write(
            directory / "points.csv",
            [{"metering_point": f"P{n}", "commodity": "electricity", "timezone": "Asia/Shanghai"} for n in numbers],
        )
        _write(
            directory / "concentrators.csv",
            [{"concentrator": f"C{c:03d}", "shard": str(c % 2)} for c in range(concentrators)],
        )
        _write(
            directory / "meters.csv",
            [
                {
                    "meter": f"{n:012d}",
                    "metering_point": f"P{n}",
                    "concentrator": of[n],
                    "position": str(n),
                    "from": "2026-07-01",
                    "to": "",
                    "digits": "6",
                    "multiplier": "1",
                    "power_max_w": "13200",
                }
                for n in numbers
            ],
        )
        _write(
            directory / "registers.csv",
            [
                {"meter": f"{n:012d}", "register": "1.8.0", "role": "bill", "resolution": "0.01", "unit": "kWh"}
                for n in numbers
            ],
        )
        _write(
            directory / "opening_registers.csv",
            [
                {
                    "meter": f"{n:012d}",
                    "register": "1.8.0",
                    "value": opening,
                    "read_at": "2026-07-01",
                    "quality": "A",
                }
                for n in numbers
            ],
        )
        return directory


class Receiver:
    """Takes every message, publishes `held` for what is contiguous, asks for gaps, gives them up after a while."""

    def __init__(self, port: int, *, lost_after_s: float = 1.0) -> None:
        self.messages: dict[tuple[str, str], dict[int, tuple[str, bytes]]] = defaultdict(dict)
        self.received = 0
        self.paused = False
        self._lost_after_s = lost_after_s
        self._held: dict[tuple[str, str], int] = defaultdict(int)
        self._gap_since: dict[tuple[str, str], float] = {}
        self._shard: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="receiver", clean_session=False)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("meters/v1/+/+/up/#", 1)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        topic = parse_topic(message.topic)
        assert topic is not None
        with self._lock:
            self.received += 1
            self._shard[topic.concentrator] = topic.shard
            stream = self.messages[topic.concentrator, topic.stream]
            stream.setdefault(topic.sequence, (topic.format or "", bytes(message.payload)))

    def _hold(self) -> None:
        while not self._stop.wait(0.1):
            if self.paused:
                continue
            with self._lock:
                for key, found in self.messages.items():
                    self._hold_one(key, found)

    def _hold_one(self, key: tuple[str, str], found: dict[int, Any]) -> None:
        concentrator, stream = key
        held = self._held[key]
        while held + 1 in found:
            held += 1
        shard = self._shard[concentrator]
        if held < max(found):
            missing = min(n for n in range(held + 1, max(found)) if n not in found)
            self._client.publish(resend_topic(shard, concentrator, stream), resend_payload(missing, missing), 1)
            since = self._gap_since.setdefault(key, time.monotonic())
            if time.monotonic() - since > self._lost_after_s:
                found[missing] = ("lost", b"")
                del self._gap_since[key]
        else:
            self._gap_since.pop(key, None)
        self._held[key] = held
        self._client.publish(held_topic(shard, concentrator, stream), held_payload(held), 1)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path)


@pytest.fixture
def broker_port() -> Any:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    broker = Broker(port=port, listen="127.0.0.1", max_payload_size=1 << 20, max_inflight_count=1000)
    broker.start()
    yield port
    broker.stop()


@pytest.fixture
def receiver(broker_port: int) -> Any:
    found = Receiver(broker_port)
    yield found
    found.close()


class FleetCommand:
    """Starts the real command in a process of its own."""

    def __init__(self, directory: Path, registry: Path, port: int) -> None:
        self.truth = directory / "truth.db"
        self.outbox = directory / "outbox.db"
        self._head = [sys.executable, "-m", "simulators.fleet", "--registry", str(registry), "--port", str(port)]
        self._head += ["--truth", str(self.truth), "--outbox", str(self.outbox)]
        self._head += ["--from", "2026-07-01T00:00:00+08:00", "--mqtt-version", "3.1.1"]  # the receiver's

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self._head, *more], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def run(self, *more: str) -> tuple[int, list[dict[str, Any]]]:
        process = self.start(*more)
        try:
            out, _ = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()
        return process.returncode, [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def fleet_command(city: City, broker_port: int) -> Any:
    def make(registry: Path) -> FleetCommand:
        return FleetCommand(city.root, registry, broker_port)

    return make
