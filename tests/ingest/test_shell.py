"""The shell on a real broker: publish -> log -> acknowledgement -> held; kills, stalls, old generations."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config.settings import MqttSettings
from ingest.broker import BrokerFailed, EmbeddedBroker
from ingest.log_memory import MemoryLog
from ingest.log_sqlite import SqliteLog
from ingest.pipeline import signature
from ingest.routing import HashRoutes
from ingest.shell import MqttShell
from ingest.wire import bare_topic, down_subscription, encode_readings, reads_topic
from rating.readings import RecordKind

NOON_S = 1_782_864_000


class Peer:
    """A concentrator: publishes, and keeps what comes down."""

    def __init__(self, broker, shard, name, version):
        five = version == "5"
        self.down: list[tuple[str, dict]] = []
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{name}-{uuid.uuid4().hex[:8]}",
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        )
        ready = threading.Event()
        self.client.on_connect = lambda *_: self.client.subscribe(down_subscription(shard, name), 1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = lambda c, u, m: self.down.append((m.topic.split("/")[5], json.loads(m.payload)))
        self.client.connect("127.0.0.1", broker.port_5 if five else broker.port_311)
        self.client.loop_start()
        assert ready.wait(10)

    def say(self, topic, payload, properties=None):
        self.client.publish(topic, payload, qos=1, properties=properties).wait_for_publish(10)

    def held(self):
        return max((body["held"] for kind, body in self.down if kind == "held"), default=0)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class World:
    """One shard of its own on the shared broker, with a shell and peers."""

    def __init__(self, broker, settings, clock, log, **sections):
        self.shard = uuid.uuid4().hex[:12]
        self.broker, self.clock, self.log = broker, clock, log
        self.given = []
        mqtt_part = {"shards": (self.shard,), "host": "127.0.0.1", **sections.pop("mqtt", {})}
        self.settings = settings(mqtt=mqtt_part, **sections)
        self.peers, self.shells = [], []

    def shell(self):
        port = self.broker.port_5 if self.settings.mqtt.version == "5" else self.broker.port_311
        shell = MqttShell(self.settings, self.log, HashRoutes(), self.clock, self.given.extend, port=port)
        self.shells.append(shell)
        shell.start()
        return shell

    def peer(self, name="C1", version="5"):
        self.peers.append(Peer(self.broker, self.shard, name, version))
        return self.peers[-1]

    def close(self):
        for peer in self.peers:
            peer.close()
        assert [shell.stop(5) for shell in self.shells] == [True] * len(self.shells)
        self.log.close()

    def records(self, kind=RecordKind.READINGS):
        found = [s for p in range(4) for s in self.log.read(p, 0, 100_000)]
        return [s.record for s in found if s.record.kind is kind]


@pytest.fixture
def world(broker, settings, clock, tmp_path):
    made = []

    def build(log=None, **sections):
        made.append(World(broker, settings, clock, log or SqliteLog(tmp_path / "log.db"), **sections))
        return made[-1]

    yield build
    for one in made:
        one.close()


def test_signing_is_switched_on_by_the_settings(world, readings, until):
    """Keys of `[signing]` reach the messages through a real broker: signed, signed wrongly, not signed at all."""
    key = "0123456789abcdef" * 4
    home = world(signing={"keys": {"C1": key}, "required": True})
    shell = home.shell()
    until(lambda: shell.connected)
    body = encode_readings(readings(1))
    for name, sequence, signing_key in (("C1", 1, key), ("C1", 2, key[::-1]), ("C1", 3, ""), ("C2", 1, "")):
        topic = reads_topic(home.shard, name, "arrow", "a", sequence)
        properties = Properties(PacketTypes.PUBLISH)
        if signing_key:
            properties.UserProperty = ("signature", signature(bytes.fromhex(signing_key), topic, body))
        home.peer(name).say(topic, body, properties)
    until(lambda: shell.stats.messages == 4)
    assert [(r.source, r.sequence) for r in home.records()] == [("C1", 1)]
    refused = home.records(RecordKind.REJECT)
    assert sorted((r.source, r.sequence) for r in refused) == [("C1", 2), ("C1", 3), ("C2", 1)]
    assert {r.detail.partition(":")[0] for r in refused} == {"auth"}


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_reading_is_durable_then_acknowledged_then_held(world, readings, until, version):
    home = world(mqtt={"version": version})
    shell, peer = home.shell(), home.peer(version=version)
    until(lambda: shell.connected, "connection")
    for n in range(1, 151):  # more than the broker's window of 100, so acknowledgements must have worked
        peer.say(reads_topic(home.shard, "C1", "arrow", "a", n), encode_readings(readings(2)))
    until(lambda: peer.held() == 150, "held")
    assert sorted({r.sequence for r in home.records()}) == list(range(1, 151))
    assert sum(len(r.body) > 0 for r in home.records()) >= 150
    assert (shell.stats.messages, shell.stats.acks, shell.stats.readings) == (150, 150, 300)
    assert shell.mark("C1", "a") == 150
    until(
        lambda: len([s for s in home.given if s.record.kind is RecordKind.READINGS]) == len(home.records()),
        "handed over",
    )


def test_mqtt_5_properties_number_a_message(world, readings, until):
    home = world()
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected, "connection")
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/vnd.apache.arrow.batch"
    properties.UserProperty = [("stream", "s"), ("sequence", "1")]
    peer.say(bare_topic(home.shard, "C1"), encode_readings(readings(1)), properties)
    until(lambda: peer.held() == 1, "held")
    assert [(r.stream, r.sequence) for r in home.records()] == [("s", 1)]


def test_rejects_are_held_and_the_stream_goes_on(world, readings, until):
    home = world(mqtt={"payload_max": 100_000})
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected, "connection")
    payloads = [b"", b"{", b"\xef\xbb\xbf{}", b"x" * 150_000, encode_readings(readings(1))]
    for n, payload in enumerate(payloads, 1):
        peer.say(reads_topic(home.shard, "C1", "arrow" if n == 5 else "json", "a", n), payload)
    until(lambda: peer.held() == 5, "held")
    reasons = [r.detail.partition(":")[0] for r in home.records(RecordKind.REJECT)]
    assert reasons == ["malformed", "malformed", "encoding", "oversized"]
    assert len(home.records()) == 1


def test_a_forged_message_and_a_leap_are_never_confirmed(world, readings, until, clock):
    home = world(ingest={"resend_after_s": 60, "resend_times": 1, "held_interval_real_s": 0.01})
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected, "connection")
    good = encode_readings(readings(1))
    read = b'{"meter": "000000000001", "register": "1.8.0", "ts": %d, "value": "1"}' % NOON_S
    spoof = b'{"concentrator": "C2", "reads": [%s]}' % read
    for format_, n, payload in [
        ("arrow", 1, good), ("json", 2, spoof), ("json", 2**53 - 1, b"garbage"), ("arrow", 2**53 - 2, good)
    ]:  # fmt: skip
        peer.say(reads_topic(home.shard, "C1", format_, "a", n), payload)
    until(lambda: shell.stats.messages == 4 and peer.held() == 1, "held")
    for _ in range(3):  # long enough for a gap to be given up
        clock.at_s += 60
        until(lambda looked=shell._gaps_at_real_s: shell._gaps_at_real_s > looked, "a look at gaps")
    peer.say(reads_topic(home.shard, "C1", "arrow", "a", 2), good)
    until(lambda: peer.held() == 2, "the real message")
    assert [body["held"] for kind, body in peer.down if kind == "held"][-1] == 2
    assert "resend" not in {kind for kind, _ in peer.down}
    assert (shell.open_gaps, shell.stats.lost, shell.streams) == (0, 0, 1)
    reasons = [r.detail.partition(":")[0] for r in home.records(RecordKind.REJECT)]
    assert sorted(reasons) == ["sequence_leap", "sequence_leap", "spoof"]


def test_a_gap_is_asked_for_filled_or_lost(world, readings, until, clock):
    home = world(ingest={"resend_after_s": 60, "resend_times": 1, "held_interval_real_s": 0.01})
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected, "connection")
    for n in (1, 2, 4, 7):
        peer.say(reads_topic(home.shard, "C1", "arrow", "a", n), encode_readings(readings(1)))
    until(lambda: shell.stats.messages == 4 and peer.held() == 2, "held up to the gap")
    clock.at_s += 60
    until(
        lambda: [b for k, b in peer.down if k == "resend"] == [{"from": 3, "to": 3}, {"from": 5, "to": 6}], "resend"
    )
    peer.say(reads_topic(home.shard, "C1", "arrow", "a", 3), encode_readings(readings(1)))
    until(lambda: peer.held() == 4, "held after the fill")
    clock.at_s += 60
    until(lambda: peer.held() == 7, "held past what is lost")
    (reject,) = home.records(RecordKind.REJECT)
    assert reject.detail.startswith("sequence_lost")
    assert json.loads(reject.body) == {"from": 5, "to": 6}
    assert shell.stats.lost == 2


def test_ticks_come_by_business_time_without_messages(world, until, clock):
    home = world(ingest={"tick_interval_s": 60})
    shell = home.shell()
    until(lambda: shell.stats.ticks == 1, "first tick")
    for n in range(2, 5):
        clock.at_s += 60
        until(lambda n=n: shell.stats.ticks == n, "tick")
    for partition in range(4):
        ticks = [s.record.received_at_s for s in home.log.read(partition, 0, 100)]
        assert ticks == [NOON_S, NOON_S + 60, NOON_S + 120, NOON_S + 180]


def test_a_log_that_fails_is_back_pressure_and_nothing_is_lost(world, readings, until):
    log = MemoryLog()
    home = world(log)
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected and shell.stats.ticks == 1, "connection")
    log.fail_next = 3
    peer.say(reads_topic(home.shard, "C1", "arrow", "a", 1), encode_readings(readings(1)))
    until(lambda: shell.state == "log_failed", "failure to be seen")
    assert (shell.stats.acks, peer.held()) == (0, 0)
    until(lambda: peer.held() == 1, "held after recovery")
    assert (shell.stats.log_failures, shell.stats.acks, shell.state) == (3, 1, "running")
    assert len(home.records()) == 1


def test_what_was_not_acknowledged_comes_again_to_the_next_shell(world, readings, until):
    log = MemoryLog()
    home = world(log)
    first, peer = home.shell(), home.peer()
    until(lambda: first.connected and first.stats.ticks == 1, "connection")
    log.fail_next = 1000
    for n in range(1, 6):
        peer.say(reads_topic(home.shard, "C1", "arrow", "a", n), encode_readings(readings(1)))
    until(lambda: first.state == "log_failed", "failure to be seen")
    assert first.stop(5)
    log.fail_next = 0
    assert home.records() == []
    second = home.shell()
    until(lambda: peer.held() == 5, "redelivery")
    assert {r.sequence for r in home.records()} == {1, 2, 3, 4, 5}
    assert second.failure is None


def test_acknowledgements_of_an_older_connection_are_dropped(world, readings, until):
    log = MemoryLog()
    home = world(log)
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected and shell.stats.ticks == 1, "connection")
    log.fail_next = 4  # 0.1 + 0.2 + 0.5 + 1 s
    peer.say(reads_topic(home.shard, "C1", "arrow", "a", 1), encode_readings(readings(1)))
    until(lambda: shell.state == "log_failed", "failure to be seen")
    (link,) = shell._links.values()
    generation = link.generation
    link._client.cut()  # the network goes while the group is in hand
    until(lambda: link.generation > generation, "new generation")
    until(lambda: shell.stats.acks >= 1, "redelivery and its acknowledgement", 15)
    assert shell.stats.acks_dropped == 1
    assert [r.sequence for r in home.records()] == [1, 1]
    until(lambda: peer.held() == 1, "held")


def test_a_dead_network_thread_is_replaced(world, readings, until):
    home = world()
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected, "connection")
    (link,) = shell._links.values()

    def explode(*_):
        raise RuntimeError("a bug below us")

    link._client.take = explode
    old = link._client.thread
    threading.excepthook, kept = (lambda _: None), threading.excepthook
    try:
        peer.say(reads_topic(home.shard, "C1", "arrow", "a", 1), encode_readings(readings(1)))
        until(lambda: not old.is_alive(), "death of the thread")
        until(lambda: shell.watchdog_restarts == 1, "watchdog")
    finally:
        threading.excepthook = kept
    until(lambda: peer.held() == 1, "redelivery to the new thread")


def test_back_pressure_bounds_the_queue(world, readings, until):
    log = MemoryLog()
    home = world(log, mqtt={"queue_max": 10})
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected and shell.stats.ticks == 1, "connection")
    log.fail_next = 3
    for n in range(1, 61):
        peer.say(reads_topic(home.shard, "C1", "arrow", "a", n), encode_readings(readings(1)))
    assert shell.queue_depth <= 10
    until(lambda: peer.held() == 60, "all of them in the end", 15)
    assert [r.sequence for r in home.records()] == sorted(r.sequence for r in home.records())


def test_a_stall_longer_than_the_keep_alive_gives_the_connection_up_and_loses_nothing(world, readings, until):
    log = MemoryLog()
    home = world(log, mqtt={"queue_max": 10, "keepalive_real_s": 2})
    shell, peer = home.shell(), home.peer()
    until(lambda: shell.connected and shell.stats.ticks == 1, "connection")
    log.fail_next = 4  # 0.1 + 0.2 + 0.5 + 1 s
    for n in range(1, 41):
        peer.say(reads_topic(home.shard, "C1", "arrow", "a", n), encode_readings(readings(1)))
    until(lambda: peer.held() == 40, "all of them in the end", 20)
    assert shell.reconnects >= 2
    assert {r.sequence for r in home.records()} == set(range(1, 41))


class Mosquitto:
    """The Debian package's broker, one port for both versions."""

    def __init__(self, folder, program):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port_5 = self.port_311 = probe.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port_5} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        self.process = subprocess.Popen(
            [program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def accepts(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port_5)) == 0


@pytest.mark.mosquitto
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_mosquitto_serves_as_well(settings, clock, tmp_path, readings, until, version):
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
    if program is None:
        assert not os.environ.get("CI"), "CI has Mosquitto"
        pytest.skip("no Mosquitto on this machine")
    broker = Mosquitto(tmp_path, program)
    try:
        until(broker.accepts, "Mosquitto")
        home = World(broker, settings, clock, MemoryLog(), mqtt={"version": version})
        first, peer = home.shell(), home.peer(version=version)
        until(lambda: first.connected and first.stats.ticks == 1, "connection")
        home.log.fail_next = 1000
        for n in range(1, 31):
            peer.say(reads_topic(home.shard, "C1", "arrow", "a", n), encode_readings(readings(1)))
        until(lambda: first.state == "log_failed", "failure to be seen")
        assert first.stop(5)
        home.log.fail_next = 0
        home.shell()
        until(lambda: peer.held() == 30, "redelivery")
        assert {r.sequence for r in home.records()} == set(range(1, 31))
        home.close()
    finally:
        broker.process.terminate()
        broker.process.wait(5)


def test_a_fault_that_waiting_cannot_help_stops_the_worker(world, until):
    log = MemoryLog()
    home = world(log)
    home.given = None
    shell = MqttShell(home.settings, log, HashRoutes(), home.clock, lambda _: 1 / 0, port=home.broker.port_5)
    shell.start()
    until(lambda: shell.state == "failed", "failure")
    assert isinstance(shell.failure, ZeroDivisionError)
    assert shell.stop(5)
    assert shell.state == "failed"


CHILD = """
import sys, time
from pathlib import Path
from config.clock import RealClock
from config.settings import Settings
from ingest.log_sqlite import SqliteLog
from ingest.routing import HashRoutes
from ingest.shell import MqttShell

folder, port, shard = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
settings = Settings.model_validate({"data_dir": folder, "partitions": 4, "mqtt": {"shards": [shard]}})
shell = MqttShell(settings, SqliteLog(folder / "log.db"), HashRoutes(), RealClock(), lambda _: None, port=port)
shell.start()
time.sleep(60)
"""
STEPS = ["ack.received", "ack.decoded", "ack.log_written", "ack.sent", "ack.held", "ack.handed_over"]


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_every_step_loses_nothing(world, readings, until, tmp_path, step):
    home = world(MemoryLog())
    peer = home.peer()
    environ = {**os.environ, "METERD_KILL_AT": f"{step}:2"}
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(home.broker.port_5), home.shard]
    child = subprocess.Popen(command, env=environ, cwd=Path(__file__).parents[2])
    try:
        numbers = iter(range(1, 10_000))
        said = 0
        while child.poll() is None and said < 500:
            said = next(numbers)
            peer.say(reads_topic(home.shard, "C1", "arrow", "a", said), encode_readings(readings(1)))
            child_done = threading.Event()
            child_done.wait(0.05)
        assert child.wait(20) == -9
    finally:
        child.kill()
    # What the broker took before there was a session is gone with nobody's word for it: the outbox says it again.
    held = peer.held()
    home.log = SqliteLog(tmp_path / "log.db")
    assert {r.sequence for r in home.records()} >= set(range(1, held + 1))  # held was no lie
    home.shell()
    for n in range(held + 1, said + 1):
        peer.say(reads_topic(home.shard, "C1", "arrow", "a", n), encode_readings(readings(1)))
    until(lambda: peer.held() == said, "everything held", 15)
    assert {r.sequence for r in home.records()} == set(range(1, said + 1))


def test_a_broker_that_is_not_stopped_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broker = EmbeddedBroker(MqttSettings(port=0)).start()
    try:
        assert list(tmp_path.iterdir()) == []  # so it has none to leave when its daemon is killed
    finally:
        broker.stop()


def test_the_broker_tells_of_its_end(tmp_path):
    broker = EmbeddedBroker(MqttSettings(port=0)).start()
    assert broker.alive
    with pytest.raises(BrokerFailed) as failed:
        EmbeddedBroker(MqttSettings(port=broker.port)).start()
    assert failed.value.retriable
    broker._broker._process.kill()
    broker._broker._process.wait(5)
    assert not broker.alive
    broker.stop()
    broker.stop()
