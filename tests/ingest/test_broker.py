"""What the embedded broker keeps for whom: a shard's readings long, what goes down not for longer than it is news."""

from __future__ import annotations

import threading
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from config.settings import MqttSettings
from ingest.broker import DOWN, EmbeddedBroker
from ingest.wire import bare_topic, down_subscription, down_subscriptions, held_payload, held_topic, subscription

COUNT = 2_000
LAST = held_payload(COUNT)


@pytest.fixture
def port() -> Any:
    with EmbeddedBroker(MqttSettings(port=0)) as broker:
        yield broker.port


def client(name: str, port: int, **heard: Any) -> mqtt.Client:
    """A session that outlasts its connections."""
    found = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id=name, clean_session=None, protocol=MQTTProtocolVersion.MQTTv5
    )
    for event, call in heard.items():
        setattr(found, event, call)
    found.connect("127.0.0.1", port, clean_start=False)
    found.loop_start()
    return found


def heard_after_silence(port: int, filters: list[str], topic: str) -> list[bytes]:
    """Subscribe, be silent while COUNT messages are published to `topic`, then hear what is left of them."""
    subscribed, said, got, ended = threading.Event(), threading.Event(), list[bytes](), threading.Event()

    def hear(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        subscribed.set()
        said.wait(30)  # nothing is read from the socket meanwhile
        got.append(bytes(message.payload))
        if message.payload == LAST:
            ended.set()

    listener = client("listener", port, on_message=hear, on_subscribe=lambda *_: subscribed.set())
    listener.subscribe([(one, 1) for one in filters])
    assert subscribed.wait(10)
    publisher = client("publisher", port)
    try:
        for number in range(1, COUNT + 1):
            publisher.publish(topic, held_payload(number), qos=1).wait_for_publish(10)
        said.set()
        assert ended.wait(30), f"{len(got)} came, the last not among them"
        return got
    finally:
        for one in (listener, publisher):
            one.disconnect()
            one.loop_stop()


def test_a_concentrator_that_was_away_hears_the_newest(port: int) -> None:
    got = heard_after_silence(port, [down_subscription("0", "C1")], held_topic("0", "C1", "a"))
    size, count = DOWN["meters/v1/+/+/down/#"]
    most = size * count // len(held_topic("0", "C1", "a")) + 200  # and what was under way
    assert 0 < len(got) <= most < COUNT
    assert got[-1] == LAST


@pytest.mark.parametrize(
    ("filters", "topic"),
    [(down_subscriptions("0"), held_topic("0", "C1", "a")), ([subscription("0")], bare_topic("0", "C1"))],
)
def test_a_listener_for_all_and_the_daemon_hear_everything(port: int, filters: list[str], topic: str) -> None:
    assert heard_after_silence(port, filters, topic) == [held_payload(number) for number in range(1, COUNT + 1)]


def test_its_memory_can_be_watched() -> None:
    broker = EmbeddedBroker(MqttSettings(port=0))
    assert broker.memory_bytes == 0
    with broker:
        assert broker.memory_bytes > 1 << 20
    assert broker.memory_bytes == 0
