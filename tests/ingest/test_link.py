"""Cutting MQTT packets out of a stream of bytes, against paho's own reading of them."""

from __future__ import annotations

import queue
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish
from paho.mqtt.enums import MQTTProtocolVersion
from structlog.testing import capture_logs

from config.clock import RealClock
from config.settings import MqttSettings
from ingest.link import Link, plain_publish, publish_packet, whole_packet


def publish(topic: bytes, payload: bytes, mid: int, *, five: bool) -> bytes:
    rest = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + (b"\0" if five else b"") + payload
    length, size = bytearray(), len(rest)
    while True:
        size, low = size >> 7, size & 0x7F
        length.append(low | (0x80 if size else 0))
        if not size:
            return b"\x32" + bytes(length) + rest


messages = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=300), st.integers(1, 65_535)), max_size=8
)


@given(messages, st.booleans(), st.data())
def test_any_cut_of_the_stream_gives_the_same_messages(said, five, data) -> None:
    stream = b"".join(publish(*one, five=five) for one in said)
    heard, left = [], b""
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        left, stream = left + stream[:cut], stream[cut:]
        at = 0
        while (found := whole_packet(left, at)) is not None:
            start, at = found
            heard.append(plain_publish(left, start, at, five=five))
        left = left[at:]
    assert left == b""
    for (topic, payload, mid), found in zip(said, heard, strict=True):
        assert found is not None
        got, message = found
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            text = None
        assert (got, message.topic, message.payload) == (mid, text, payload)


@given(st.binary(max_size=30), st.booleans())
def test_what_is_taken_here_is_what_paho_would_say(body, five) -> None:
    found = plain_publish(body, 0, len(body), five=five)
    if found is not None:
        version = MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311
        theirs = decode_publish(0x32, body, version)
        mid, message = found
        assert (theirs.mid, bytes(theirs.payload)) == (mid, message.payload)
        if message.topic is not None:
            assert theirs.topic.decode() == message.topic


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b"", None),
        (b"\x32", None),
        (b"\x32\x80", None),
        (b"\xd0\x00", (2, 2)),
        (b"\x32\x03abc", (2, 5)),
        (b"\x32\x03ab", None),
        (b"\x32\x80\x80\x80\x80\x01", (5, 0)),  # a length of more than four bytes: end 0 says so
    ],
)
def test_lengths(stream, found) -> None:
    assert whole_packet(stream, 0) == found


def test_properties_are_left_to_paho() -> None:
    with_property = b"\x00\x01t\x00\x07\x02\x01\x00payload"
    assert plain_publish(with_property, 0, len(with_property), five=True) is None
    assert plain_publish(b"\x00\x00\x00\x07\x00", 0, 5, five=True) is None  # a topic alias, perhaps


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=250), st.booleans())
def test_what_we_publish_ourselves_is_mqtt(topic, five) -> None:
    packet = publish_packet(topic, b'{"held": 7}', five=five)
    found = whole_packet(packet, 0)
    assert found is not None
    start, end = found
    assert end == len(packet)
    name_end = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    assert (packet[0], packet[start + 2 : name_end].decode()) == (0x30, topic)  # QoS 0: no packet id follows
    assert packet[name_end:] == (b"\0" if five else b"") + b'{"held": 7}'


def test_a_broker_that_is_not_there_is_told_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        link = Link("0", queue.SimpleQueue(), MqttSettings(), free.getsockname()[1], RealClock().monotonic_s)
        with capture_logs() as logged:
            link.start()
            until = time.monotonic() + 10
            while len(logged) < 1 and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(1.2)  # paho has tried again by then
            link.close(time.monotonic() + 5)
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["no broker there"]
