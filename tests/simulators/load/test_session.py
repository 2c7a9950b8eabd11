"""A generator against a broker that stalls: what is due is not put off, and latency counts from when it was due."""

from __future__ import annotations

import contextlib
import csv
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulators.load.sender as sender_module
from config.clock import RealClock
from ingest.packets import read_publish
from ingest.wire import parse_topic, reads_topic
from registry.generate import generate
from simulators.load import packets
from simulators.load.orders import Orders
from simulators.load.population import NoPopulation, read_population
from simulators.load.schedule import Wish, schedule
from simulators.load.sender import Sender
from simulators.load.session import Refused

STALL_S = 2.0


class Broker:
    """Takes connections, acknowledges, says "held"; stands still, cuts or refuses when it is told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.stall_from, self.stall_until = float("inf"), 0.0
        self.window, self.reason, self.hold = 65_535, 0, True
        self.most_in_flight = 0
        self.topics: list[str] = []
        self.connections = 0
        self.cut_after = 0  # messages of the first connection
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.listener.settimeout(0.1)
        while not self._stop:
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with contextlib.suppress(ConnectionError):  # a client that drops its connection
            self._speak(client, number)

    def _speak(self, client: socket.socket, number: int) -> None:
        reader, client_count = packets.Reader(), 0
        client.settimeout(0.05)
        while not self._stop:
            try:
                data = client.recv(65_536)
            except TimeoutError:
                continue
            if not data:
                return
            now = time.monotonic()
            if self.stall_from <= now < self.stall_until:
                time.sleep(self.stall_until - now)
            told = reader.feed(data)
            self.most_in_flight = max(self.most_in_flight, sum(kind == packets.PUBLISH for kind, _, _ in told))
            for kind, _, body in told:
                if kind == 1:
                    props = b"\x21" + self.window.to_bytes(2, "big")
                    client.sendall(bytes([0x20, 3 + len(props), 0, self.reason, len(props)]) + props)
                elif kind == 8:
                    client.sendall(b"\x90\x04" + body[:2] + b"\x00\x01")
                elif kind == packets.PUBLISH:
                    client_count += 1
                    if number == 1 and client_count == self.cut_after:
                        client.close()
                        return
                    mid, topic = named(body)
                    self.topics.append(topic)
                    client.sendall(packets.puback(mid))
                    if self.hold:
                        self._held(client, topic)

    def _held(self, client: socket.socket, topic: str) -> None:
        _, _, shard, concentrator, _, _, _, stream, sequence = topic.split("/")
        head = packets.text(f"meters/v1/{shard}/{concentrator}/down/held/{stream}") + b"\x00"
        payload = json.dumps({"held": int(sequence)}).encode()
        client.sendall(b"\x30" + packets.varint(len(head) + len(payload)) + head + payload)

    def close(self) -> None:
        self._stop = True
        self._thread.join(2)
        self.listener.close()


def named(body: bytes) -> tuple[int, str]:
    """Packet id and long topic of a PUBLISH, wherever it has its number."""
    found = read_publish(body, 0, len(body), five=True)
    assert found is not None
    mid, message = found
    topic = parse_topic(message.topic or "")
    assert topic is not None
    if topic.format is not None:
        assert not message.properties
        return mid, message.topic or ""
    said = dict(message.properties)
    format_ = message.content_type or ""
    return mid, reads_topic(topic.shard, topic.concentrator, format_, said["stream"], int(said["sequence"]))


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("city")
    generate(folder, meters=200, seed=1, start="2026-07-01", concentrator_size=10)
    return folder


def sender(registry: Path, port: int, **more: Any) -> Sender:
    wish = Wish("steady", meters=200, per_message=10, rate=100.0, seconds=3.0)
    clock = RealClock()
    orders = Orders(
        asdict(wish), str(registry), "", "", "t", clock.monotonic_s() + 0.2, clock.now_s(), 0, wait_s=5.0,
        connections=2, port=port, **more,
    )  # fmt: skip
    return Sender(orders, read_population(registry, begin_s=0, seed=1), schedule(wish), clock)


def test_a_stall_costs_latency_and_no_message(registry: Path, broker: Broker) -> None:
    made = sender(registry, broker.port)
    made.connect(5.0)
    broker.stall_from = time.monotonic() + 1.0
    broker.stall_until = broker.stall_from + STALL_S
    assert made.run()
    times = made.times
    assert len(times.due) == 30
    assert not np.isnan(times.held).any()
    waited = times.acked - times.due
    assert (waited > STALL_S / 2).sum() >= 4  # what was due meanwhile waited for it: no coordinated omission
    assert (times.sent - times.due < STALL_S / 2).all()  # and was sent when it was due all the same
    made.close()


@pytest.mark.parametrize("numbers", packets.NUMBERS)
def test_after_a_cut_what_is_not_held_comes_again_in_order(registry: Path, broker: Broker, numbers: str) -> None:
    broker.cut_after = 4
    made = sender(registry, broker.port, numbers=numbers)
    made.connect(5.0)
    assert made.run()
    assert made.counts["held"] == 30
    assert broker.connections == 3
    by_stream: dict[str, list[int]] = {}
    for topic in broker.topics:
        *_, stream, sequence = topic.split("/")
        by_stream.setdefault(stream, []).append(int(sequence))
    for numbers in by_stream.values():
        assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
    made.close()


def test_the_brokers_window_is_kept(registry: Path, broker: Broker) -> None:
    broker.window = 2
    made = sender(registry, broker.port)
    made.connect(5.0)
    broker.stall_from, broker.stall_until = time.monotonic() + 0.5, time.monotonic() + 1.5
    assert made.run()
    assert 1 <= broker.most_in_flight <= 2
    made.close()


def test_what_is_not_held_is_said(registry: Path, broker: Broker) -> None:
    broker.hold = False
    made = sender(registry, broker.port)
    made._orders.wait_s = 0.5
    made.connect(5.0)
    assert not made.run()
    assert np.isnan(made.times.held).all()
    assert not np.isnan(made.times.acked).any()
    made.close()


def test_a_broker_that_refuses_is_told_apart_from_one_that_is_down(registry: Path, broker: Broker) -> None:
    broker.reason = 0x87
    with pytest.raises(Refused, match="0x87"):
        sender(registry, broker.port).connect(5.0)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(TimeoutError, match=r"does not take the connections: .*refused"):
        sender(registry, port).connect(0.5)


def test_faults_are_counted_and_their_messages_held(registry: Path, broker: Broker) -> None:
    made = sender(registry, broker.port, faults={"duplicate": 0.5, "reorder": 0.3, "bad": 0.3, "drop": 0.05})
    made.connect(5.0)
    assert made.run()
    assert made.counts["held"] == 30
    assert 0 < made.counts["bad"] == int((made.times.readings == 0).sum()) < 30
    assert made.counts["duplicated"] > 0
    made.close()


def test_registers_move_as_a_connection_allows(registry: Path) -> None:
    town = read_population(registry, begin_s=0, seed=1)
    before = town.value.copy()
    for at_s in (1, 2, 3, 13, 500):
        since_s = at_s - town.read_s[0]
        _, value = town.read(0, at_s)
        moved = value - before[town.meters_of(0)]
        assert (moved >= 0).all()
        assert (moved * 3600 <= 11_000 * since_s).all()
        before[town.meters_of(0)] = value
    assert (before - read_population(registry, begin_s=0, seed=1).value).sum() > 0


def test_a_directory_that_is_no_registry_is_refused(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(NoPopulation, match=r"meters\.csv"):
        read_population(tmp_path, begin_s=0, seed=1)
    for path in registry.glob("*.csv"):
        (tmp_path / path.name).write_text(path.read_text())
    with (tmp_path / "opening_registers.csv").open() as file:
        rows = list(csv.reader(file))
    with (tmp_path / "opening_registers.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[:-1])
    with pytest.raises(NoPopulation, match="every meter"):
        read_population(tmp_path, begin_s=0, seed=1)


def test_what_is_acknowledged_and_not_held_is_sent_again_and_its_acknowledgement_stands(
    registry: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ever more patiently; when the broker acknowledged the first one is a measurement, and stays."""
    monkeypatch.setattr(sender_module, "AGAIN_AFTER_S", 0.5)
    broker.hold = False
    made = sender(registry, broker.port)
    made._orders.wait_s = 2.0
    made.connect(5.0)
    assert not made.run()
    sent = len(broker.topics)
    assert made.counts["again"] >= 20  # each of twenty concentrators, after half a second and after another
    assert sent > 30
    assert (made.times.acked - made.times.due < 0.5 + STALL_S / 2).all()
    assert max(made._patience_s.values()) >= 1.0
    made.close()
