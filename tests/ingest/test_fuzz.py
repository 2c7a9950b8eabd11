"""Mutated payloads: every codec returns readings or `Rejected`, and nothing else, whatever the bytes.

FUZZ_PAYLOADS=4000 runs fewer for each codec; FUZZ_SEED another draw.
"""

from __future__ import annotations

import json
import os
import random

import cbor2
import pytest

from ingest import bounds
from ingest.codecs import arrow, envelope, senml
from ingest.decoded import VALUE_MAX, Limits, Rejected
from ingest.wire import check_body, decode_readings, encode_readings

TIMES = int(os.environ.get("FUZZ_PAYLOADS", "200000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
LIMITS = Limits(payload_max=1 << 16, readings_max=1000)
READ = {"meter": "000000000001", "register": "1.8.0", "ts": 1782864000, "value": "123.456", "quality": "A"}
ENVELOPE = {
    "concentrator": "C1",
    "boot": 3,
    "sequence": 7,
    "stream": "a",
    "sent_at": 1782864000,
    "reads": [READ, READ],
}
INTERVALS = {
    "reads": [
        READ,
        READ | {"ts": 1782864900, "value": 1, "kind": "interval", "period": 900},
        READ | {"ts": 1782865800, "value": 2, "kind": "interval", "period": 900},
        READ | {"ts": 1782865800, "value": "126.456"},
    ]
}
PACK = [
    {"bn": "000000000001/", "bt": 1782864000, "bu": "Wh", "n": "1.8.0", "v": 5},
    {"n": "1.8.1", "v": 2.5, "u": "kWh"},
]
CBOR = cbor2.dumps(
    [{-2: "000000000001/", -3: 1782864000, -4: "Wh", 0: "1.8.0", 2: 5}, {0: "1.8.1", 1: "kWh", 2: 2.5}]
)
SPLICES = [
    *(b"", b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80", b"\xef\xbb\xbf", b"\xc0\x80"),
    *(b'"', b"\\", b"\\ud800", b"{", b"[" * 40, b"-", b".", b",", b":", "１".encode()),
    *(b"NaN", b"1e999", b"9" * 60, b"true", b"null"),
    *(b"\xd8\x1c", b"\xc4\x82", b"\x9f", b"\xbf", b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\x1b" + b"\xff" * 8),
]


def mutated(seed: bytes, draw: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0 if at < len(data):
                data[at] = draw.randrange(256)
            case 1 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 2:
                data[at : at + draw.randrange(9)] = draw.choice(SPLICES)
            case 3:
                data[at:at] = draw.choice(SPLICES)
            case 4:
                start = draw.randrange(len(data) + 1)
                data[at:at] = data[start : start + draw.randrange(40)]
            case _:
                del data[at : at + draw.choice((1, 1, 4, 8, 400))]
    return bytes(data)


def bulk(readings) -> bytes:
    return encode_readings(readings(3))


@pytest.mark.parametrize(
    ("name", "decode", "seed"),
    [
        ("json", envelope.decode, json.dumps(ENVELOPE).encode()),
        ("json-intervals", envelope.decode, json.dumps(INTERVALS).encode()),
        ("senml-json", senml.decode_json, json.dumps(PACK).encode()),
        ("senml-cbor", senml.decode_cbor, CBOR),
        ("arrow", arrow.decode, None),
    ],
)
def test_mutated_payloads_give_readings_or_a_reason(name, decode, seed, readings):
    payload = seed if seed is not None else bulk(readings)
    draw = random.Random(f"{SEED} {name}")  # seeded: the same payloads each time
    taken = refused = 0
    for _ in range(TIMES):
        try:
            decoded = decode(mutated(payload, draw), LIMITS)
            bounds.check(decoded.readings, LIMITS)
        except Rejected:
            refused += 1
            continue
        taken += 1
        assert check_body(decoded.body) == len(decoded.readings) > 0
        again = decode_readings(decoded.body)
        assert (again.value == decoded.readings.value).all()
        assert (abs(again.value) < VALUE_MAX).all()
    assert taken > TIMES // 1000  # the mutations are not all hopeless
    assert refused > TIMES // 10
