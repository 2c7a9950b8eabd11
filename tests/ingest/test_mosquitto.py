"""The shell on Mosquitto: a message is acknowledged once it is durable, held says so, and a kill loses none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from config.clock import RealClock
from ingest.log_memory import MemoryLog
from ingest.log_sqlite import SqliteLog
from ingest.routing import HashRoutes
from ingest.shell import MqttShell
from ingest.wire import down_subscription, encode_readings, reads_topic
from rating.readings import RecordKind

pytestmark = pytest.mark.mosquitto

CHILD = """
import sys, time
from pathlib import Path
from config.clock import RealClock
from config.settings import Settings
from ingest.log_sqlite import SqliteLog
from ingest.routing import HashRoutes
from ingest.shell import MqttShell

folder, port = Path(sys.argv[1]), int(sys.argv[2])
settings = Settings.model_validate({"data_dir": folder, "partitions": 4, "mqtt": {"embedded": False}})
shell = MqttShell(settings, SqliteLog(folder / "log.db"), HashRoutes(), RealClock(), lambda _: None, port=port)
shell.start()
time.sleep(60)
"""


class Concentrator:
    """Publishes as C1, stream a, and remembers the highest number that came back as held."""

    def __init__(self, port, readings):
        self.held = 0
        self.body = encode_readings(readings(1))
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="C1", protocol=MQTTProtocolVersion.MQTTv5)
        ready = threading.Event()
        self.client.on_connect = lambda *_: self.client.subscribe(down_subscription("0", "C1"), 1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = self._heard
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(10)

    def _heard(self, _client, _data, message):
        if "/down/held/" in message.topic:
            self.held = max(self.held, json.loads(message.payload)["held"])

    def say(self, sequence):
        self.client.publish(reads_topic("0", "C1", "arrow", "a", sequence), self.body, qos=1).wait_for_publish(10)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def concentrator(mosquitto, readings):
    peer = Concentrator(mosquitto, readings)
    yield peer
    peer.close()


@pytest.fixture
def start(mosquitto, settings):
    shells = []

    def one(log):
        config = settings(mqtt={"embedded": False, "port": mosquitto})
        shells.append(MqttShell(config, log, HashRoutes(), RealClock(), lambda _: None))
        shells[-1].start()
        return shells[-1]

    yield one
    assert [shell.stop(5) for shell in shells] == [True] * len(shells)


def numbers(log):
    found = [r.record for p in range(4) for r in log.read(p, 0, 10_000)]
    return [r.sequence for r in found if r.kind is RecordKind.READINGS]


def test_nothing_is_acknowledged_or_held_before_it_is_durable(start, concentrator, until):
    log = MemoryLog()
    shell = start(log)
    until(lambda: shell.connected and shell.stats.ticks == 1, "connection")
    concentrator.say(1)
    until(lambda: concentrator.held == 1, "subscription")
    log.fail_next = 3
    for n in range(2, 51):
        concentrator.say(n)
    until(lambda: shell.stats.log_failures > 0, "the failure to be seen")
    assert (shell.stats.acks, concentrator.held, numbers(log)) == (1, 1, [1])
    until(lambda: concentrator.held == 50, "held")
    until(lambda: shell.stats.acks == 50, "acknowledgements")
    assert sorted(numbers(log)) == list(range(1, 51))


def test_what_a_killed_daemon_did_not_make_durable_comes_again(mosquitto, start, concentrator, until, tmp_path):
    environ = {**os.environ, "METERD_KILL_AT": "ack.decoded:3"}
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(mosquitto)]
    child = subprocess.Popen(command, env=environ, cwd=Path(__file__).parents[2])
    pause = threading.Event()
    said = 0
    try:
        while child.poll() is None and said < 500:
            said += 1
            concentrator.say(said)
            pause.wait(0.02)
        assert child.wait(20) == -9
    finally:
        child.kill()
    log = SqliteLog(tmp_path / "log.db")
    durable = set(numbers(log))
    assert durable >= set(range(1, concentrator.held + 1))
    assert said not in durable
    # Before the first session nobody listened: those the concentrator says again; the others the broker has kept.
    for n in range(1, min(durable)):
        concentrator.say(n)
    start(log)
    until(lambda: concentrator.held == said, "everything held", 15)
    assert set(numbers(log)) == set(range(1, said + 1))
