"""Pure: the MQTT packets that ingest cuts out of its stream and writes itself (OASIS MQTT 3.1.1 and 5.0, 3.3)."""

from __future__ import annotations

from typing import Final

from ingest.pipeline import Message

PUBLISH_QOS_1: Final = 0x32
_CONTENT_TYPE: Final = 0x03
_USER_PROPERTY: Final = 0x26
# Other properties of a PUBLISH with bytes of a fixed number, which say nothing to ingest: payload format, expiry
_PASSED_OVER: Final = {0x01: 1, 0x02: 4}


def whole_packet(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the MQTT packet at `at` starts and ends; None: not all there yet; end 0: no such length."""
    length, place, end = 0, at + 1, len(buffer)
    for shift in (0, 7, 14, 21):
        if place >= end:
            return None
        byte = buffer[place]
        place += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (place, place + length) if place + length <= end else None
    return (place, 0)


def read_publish(buffer: bytes, start: int, end: int, *, five: bool) -> tuple[int, Message] | None:
    """Packet id and message of a PUBLISH body with QoS 1; None: too short, or it has properties of another kind."""
    topic_end = start + 2 + (buffer[start] << 8 | buffer[start + 1]) if end - start >= 2 else end
    body = topic_end + (3 if five else 2)
    if body > end or topic_end == start + 2:
        return None
    content_type: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    if five and buffer[topic_end + 2]:
        length = buffer[topic_end + 2]
        if length >= 0x80:  # of two bytes: more than a topic's parts and a signature take up
            if body >= end or buffer[body] >= 0x80:
                return None
            length, body = length & 0x7F | buffer[body] << 7, body + 1
        read = _read_properties(buffer, body, body + length) if body + length <= end else None
        if read is None:
            return None
        content_type, properties = read
        body += length
    try:
        topic: str | None = buffer[start + 2 : topic_end].decode()
    except UnicodeDecodeError:
        topic = None
    mid = buffer[topic_end] << 8 | buffer[topic_end + 1]
    return mid, Message(topic, buffer[body:end], content_type, properties)


def _read_properties(buffer: bytes, at: int, end: int) -> tuple[str | None, tuple[tuple[str, str], ...]] | None:
    """Content type and user properties; None where anything else is, or something is cut or no UTF-8."""
    content_type: str | None = None
    pairs: list[tuple[str, str]] = []
    try:
        while at < end:
            kind = buffer[at]
            at += 1
            if kind in _PASSED_OVER:
                at += _PASSED_OVER[kind]
                continue
            if kind not in (_USER_PROPERTY, _CONTENT_TYPE):
                return None
            size = buffer[at] << 8 | buffer[at + 1]
            text = buffer[at + 2 : at + 2 + size].decode()
            at += 2 + size
            if kind == _CONTENT_TYPE:
                if content_type is not None:
                    return None
                content_type = text
                continue
            size = buffer[at] << 8 | buffer[at + 1]
            pairs.append((text, buffer[at + 2 : at + 2 + size].decode()))
            at += 2 + size
    except (IndexError, UnicodeDecodeError):
        return None
    return (content_type, tuple(pairs)) if at == end else None


def publish_packet(topic: str, payload: bytes, *, five: bool) -> bytes:
    """A PUBLISH with QoS 0; short: the remaining length takes at most two bytes."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (b"\0" if five else b"") + payload
    size = len(body)
    assert size < 1 << 14
    return (b"\x30" + (bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7)))) + body
