"""Pure: the MQTT 5 packets that a publisher with QoS 1 writes and reads, no others (OASIS MQTT 5.0, chapter 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ingest.topics import Topic, in_properties, reads_topic

NUMBERS: Final = ("properties", "topic")  # where a message's stream and number stand
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
DISCONNECT: Final = 14
PINGREQ_PACKET: Final = b"\xc0\x00"
DISCONNECT_PACKET: Final = b"\xe0\x00"
_CONTENT_TYPE: Final = 0x03
_SESSION_EXPIRY: Final = 0x11
_RECEIVE_MAXIMUM: Final = 0x21
_USER_PROPERTY: Final = 0x26
RECEIVE_DEFAULT: Final = 65_535
PACKET_MAX: Final = 1 << 20
# Lengths of the properties of a CONNACK: bytes, or "text", "pair", "varint"
_CONNACK_KINDS: Final = {
    0x11: 4, 0x12: "text", 0x13: 2, 0x15: "text", 0x16: "text", 0x1A: "text", 0x1C: "text", 0x1F: "text", 0x21: 2,
    0x22: 2, 0x24: 1, 0x25: 1, 0x26: "pair", 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip


class BrokenPacket(ValueError):
    """The broker said something that is no MQTT 5."""


def text(value: str | bytes) -> bytes:
    """A string with its length."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def varint(value: int) -> bytes:
    """A variable byte integer."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def connect(client: str, *, keepalive_s: int, expiry_s: int, user: str = "", password: str = "") -> bytes:
    """CONNECT that takes up its session again."""
    flags = (0x80 if user else 0) | (0x40 if password else 0)
    properties = bytes([_SESSION_EXPIRY]) + expiry_s.to_bytes(4, "big")
    body = text("MQTT") + bytes([5, flags]) + keepalive_s.to_bytes(2, "big") + varint(len(properties)) + properties
    body += text(client) + (text(user) if user else b"") + (text(password) if password else b"")
    return b"\x10" + varint(len(body)) + body


def subscribe(mid: int, filters: list[str]) -> bytes:
    """SUBSCRIBE with QoS 1."""
    body = mid.to_bytes(2, "big") + b"\x00" + b"".join(text(topic) + b"\x01" for topic in filters)
    return b"\x82" + varint(len(body)) + body


def addressed(named: Topic, numbers: str) -> tuple[str, bytes]:
    """Topic and properties of a message. `numbers`: one of NUMBERS."""
    if numbers == "topic":
        return reads_topic(named.shard, named.concentrator, named.format or "", named.stream, named.sequence), b""
    topic, content_type, numbered = in_properties(named)
    user = b"".join(bytes([_USER_PROPERTY]) + text(name) + text(value) for name, value in numbered)
    return topic, bytes([_CONTENT_TYPE]) + text(content_type) + user


def publish(topic: str, payload: bytes, mid: int, properties: bytes = b"") -> bytes:
    """PUBLISH with QoS 1."""
    head = text(topic) + mid.to_bytes(2, "big") + varint(len(properties)) + properties
    return b"\x32" + varint(len(head) + len(payload)) + head + payload


def puback(mid: int) -> bytes:
    return b"\x40\x02" + mid.to_bytes(2, "big")


@dataclass(slots=True)
class Reader:
    """Bytes in, packets out: (type, flags, body)."""

    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Every packet that is complete by now."""
        rest = self._rest
        rest += data
        found: list[tuple[int, int, bytes]] = []
        at = 0
        while True:
            length, begin = _length(rest, at + 1)
            if begin < 0 or len(rest) < begin + length:
                break
            found.append((rest[at] >> 4, rest[at] & 15, bytes(rest[begin : begin + length])))
            at = begin + length
        del rest[:at]
        return found


def _length(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends; (0, -1) when it is not complete."""
    value = 0
    for place in range(4):
        if at + place >= len(data):
            return 0, -1
        value |= (data[at + place] & 0x7F) << (7 * place)
        if not data[at + place] & 0x80:
            if value > PACKET_MAX:
                raise BrokenPacket(f"a packet of {value} bytes")
            return value, at + place + 1
    raise BrokenPacket("a length of more than four bytes")


def parse_connack(body: bytes) -> tuple[int, bool, int]:
    """(reason code, whether the session was there, how many messages may be under way)."""
    if len(body) < 2:
        raise BrokenPacket("a short CONNACK")
    window, at = RECEIVE_DEFAULT, 2
    length, at = _length(body, at) if len(body) > 2 else (0, 2)
    end = at + length
    while at < end:
        kind = _CONNACK_KINDS.get(body[at])
        if kind is None:
            raise BrokenPacket(f"a CONNACK with property {body[at]:#x}")
        if body[at] == _RECEIVE_MAXIMUM:
            window = int.from_bytes(body[at + 1 : at + 3], "big")
        at += 1
        for _ in range(2 if kind == "pair" else 1):
            at += kind if isinstance(kind, int) else 2 + int.from_bytes(body[at : at + 2], "big")
    return body[1], bool(body[0] & 1), window


def parse_publish(flags: int, body: bytes) -> tuple[str, int, bytes]:
    """(topic, packet id or 0, payload) of a PUBLISH that came in."""
    size = int.from_bytes(body[:2], "big")
    topic, at, mid = body[2 : 2 + size].decode(), 2 + size, 0
    if flags & 6:
        mid, at = int.from_bytes(body[at : at + 2], "big"), at + 2
    length, at = _length(body, at)
    return topic, mid, body[at + length :]
