"""Cutting MQTT packets out of a stream of bytes, against paho's own reading of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.packets import publish_packet, read_publish, whole_packet


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
            heard.append(read_publish(left, start, at, five=five))
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
    found = read_publish(body, 0, len(body), five=five)
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


text = st.text(max_size=90)


def with_properties(packed: bytes, payload: bytes) -> bytes:
    return b"\x00\x01t\x00\x07" + packed + payload


@given(st.none() | text, st.lists(st.tuples(text, text), max_size=4), st.booleans(), st.binary(max_size=40))
def test_properties_as_paho_packs_them(content_type, user, others, payload) -> None:
    said = Properties(PacketTypes.PUBLISH)
    if others:
        said.PayloadFormatIndicator, said.MessageExpiryInterval = 1, 86_400
    if content_type is not None:
        said.ContentType = content_type
    if user:
        said.UserProperty = user
    body = with_properties(said.pack(), payload)
    found = read_publish(body, 0, len(body), five=True)
    assert found is not None
    mid, message = found
    assert (mid, message.payload) == (7, payload)
    assert (message.content_type, message.properties) == (content_type, tuple(user))


@given(st.binary(max_size=40))
def test_properties_that_are_taken_here_are_as_paho_reads_them(body) -> None:
    whole = with_properties(body, b"")
    found = read_publish(whole, 0, len(whole), five=True)
    if found is None:
        return
    theirs = Properties(PacketTypes.PUBLISH)
    _, length = theirs.unpack(body)
    message = found[1]
    assert message.payload == body[length:]
    assert message.content_type == getattr(theirs, "ContentType", None)
    assert message.properties == tuple(getattr(theirs, "UserProperty", ()))


@pytest.mark.parametrize(
    "properties",
    [
        b"\x03\x23\x00\x01",  # a topic alias
        b"\x04\x03\x00\x09t",  # a text that is cut
        b"\x05\x26\x00\x01a\x00",  # a pair that is cut
        b"\x04\x03\x00\x01\xff",  # no UTF-8
        b"\x08\x03\x00\x01a\x03\x00\x01b",  # two content types
        b"\x7f",
        b"\x80",
        b"\x80\x80\x01",
    ],
)
def test_other_properties_are_left_to_paho(properties) -> None:
    body = with_properties(properties, b"")
    assert read_publish(body, 0, len(body), five=True) is None


def test_an_empty_topic_is_left_to_paho() -> None:
    assert read_publish(b"\x00\x00\x00\x07\x00", 0, 5, five=True) is None  # an alias, perhaps


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
