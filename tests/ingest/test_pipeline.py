"""Messages to records: routing, numbering, who says it; and where each class of bad message lands."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import cbor2
import numpy as np
import pytest

from config.reasons import BAD_INPUTS, Place, Reason
from ingest.decoded import Limits
from ingest.pipeline import Context, Message, _numbered, lost, process, signature, ticks
from ingest.routing import HashRoutes, reject_partition, route
from ingest.sequences import Lost, Sequences, taken
from ingest.wire import (
    FORMATS,
    Topic,
    bare_topic,
    decode_readings,
    encode_readings,
    in_properties,
    parse_topic,
    reads_topic,
)
from rating.readings import RecordKind
from registry.address import route_unknown_many

R = Reason
NOON_S = 1_782_864_000
READ = {"meter": "000000000001", "register": "1.8.0", "ts": NOON_S, "value": "123.456"}


def envelope(**head: object) -> bytes:
    return json.dumps({"concentrator": "C1", **head, "reads": [READ]}).encode()


def one(value: str) -> bytes:
    return json.dumps({"reads": [{**READ, "value": "@"}]}).replace('"@"', value).encode()


@pytest.fixture
def context():
    return Context(Limits(), 4, HashRoutes(), {"Signed": b"key"})


@pytest.fixture
def sequences():
    return Sequences(60, 5)


def at(payload: bytes, sequence: int = 1, format_: str = "json", concentrator: str = "C1", **more: object) -> Message:
    return Message(reads_topic("0", concentrator, format_, "a", sequence), payload, **more)


# One message or more for every reason that ingest gives; the last of each list is the one that is refused.
BAD_MESSAGES: dict[Reason, list[list[Message]]] = {
    R.MALFORMED: [
        [at(b"")],
        [at(envelope()[:-3])],
        [at(b"\xff\xff", format_="arrow")],
        [at(b"\x81", format_="senml-cbor")],
    ],
    R.ENCODING: [
        [at(b"\xef\xbb\xbf" + envelope())],
        [at(envelope().decode().encode("utf-16"))],
        [at(b'{"a": "\xff"}')],
    ],
    R.NONFINITE: [[at(one("NaN"))], [at(one("Infinity"))], [at(one("1e999"))]],
    R.DUPLICATE_KEY: [[at(b'{"reads": [], "reads": []}')]],
    R.WRONG_TYPE: [[at(one("true"))]],
    R.NUMBER_FORM: [[at(one('"１２"'))], [at(one('"1_000"'))], [at(one('" 12"'))]],
    R.NUMBER_SIZE: [[at(one("9" * 5000))], [at(one("9" * 4000))]],
    R.NESTING: [[at(b"[" * 100_000)], [at(b"\x81" * 100_000, format_="senml-cbor")]],
    R.OVERSIZED: [[at(b"x" * (1 << 21))], [at(b"x" * (1 << 21), format_="arrow")]],
    R.BAD_ID: [
        [at(json.dumps({"reads": [{**READ, "meter": "1\x00"}]}).encode())],
        [at(json.dumps({"reads": [{**READ, "meter": "\ud800"}]}).encode())],
        [at(json.dumps({"reads": [{**READ, "meter": "М1"}]}).encode())],  # a Cyrillic М
        [Message("meters/v1/0/С1/up/reads/json/a/1", envelope())],
        [Message(None, envelope())],
    ],
    R.OVERFLOW: [[at(one("9223372036854775808"))]],
    R.TIME_RANGE: [
        [at(json.dumps({"reads": [{**READ, "ts": ts}]}).encode())] for ts in (0, "2026-07-01T00:00:00", "0000")
    ],
    R.UNIT: [[at(json.dumps({"reads": [{**READ, "unit": "m3"}]}).encode())]],
    R.KIND: [[at(json.dumps({"reads": [{**READ, "kind": "interval", "period": 900}]}).encode())]],
    R.UNKNOWN_FORMAT: [[at(envelope(), format_="xml")]],
    R.UNKNOWN_REGISTER: [[at(json.dumps({"reads": [{**READ, "register": "9.9.9"}]}).encode())]],
    R.RESOLUTION: [[at(one('"1.0001"'))]],
    R.SPOOF: [[at(envelope(concentrator="C2"))], [at(envelope(stream="b"))]],
    R.AUTH: [
        [at(envelope(), properties=(("signature", "00"),))],
        [at(envelope(concentrator="Signed"), concentrator="Signed")],
        [at(envelope(concentrator="Signed"), concentrator="Signed", properties=(("signature", "é"),))],
    ],
    R.REPLAY: [
        [at(envelope(sequence=1), 2)],
        [at(envelope(boot=4, sequence=1), 1), at(envelope(boot=3, sequence=2), 2)],
    ],
}
CASES = [(reason, case) for reason, cases in BAD_MESSAGES.items() for case in cases]


@pytest.mark.parametrize(("reason", "messages"), CASES, ids=[f"{r.value}-{n}" for n, (r, _) in enumerate(CASES)])
def test_a_bad_message_becomes_one_reject(reason, messages, context, sequences):
    batch = process(messages, NOON_S, sequences, context)
    bad, message = batch.records[-1], messages[-1]
    assert batch.outcomes == [None] * (len(messages) - 1) + [reason]
    assert batch.rejected == {reason: 1}
    assert bad.kind is RecordKind.REJECT
    assert bad.detail.startswith(f"{reason.value}: ")
    assert bad.received_at_s == NOON_S
    if reason is R.OVERSIZED:
        assert bad.body == message.payload[:65_536]
        assert hashlib.sha256(message.payload).hexdigest() in bad.detail
    else:
        assert bad.body == message.payload
    if message.topic is not None and "С" not in message.topic:
        assert bad.source == message.topic.split("/")[3]
        assert bad.partition == reject_partition(bad.source, 4)
        if reason in (R.SPOOF, R.AUTH):  # nobody knows whose number that is
            assert (bad.source, "a") not in batch.marks
        else:
            assert taken(batch.marks[(bad.source, "a")], bad.sequence)  # rejects count as held


def test_every_class_that_ends_as_a_reject_is_in_the_table():
    wanted = {reason for row in BAD_INPUTS if row.place is Place.REJECT for reason in row.reasons}
    assert wanted <= set(BAD_MESSAGES)


def test_bad_messages_do_not_stop_the_good_ones(context, sequences):
    messages = [case[-1] for _, case in CASES if case[-1].topic is not None][:20]
    mixed = [m for bad in messages for m in (bad, at(envelope(), 9, concentrator="C1"))]
    batch = process(mixed, NOON_S, sequences, context)
    assert sum(1 for r in batch.records if r.kind is RecordKind.READINGS) >= 20
    assert batch.readings >= 20


def test_process_changes_no_mark_before_it_is_durable(context, sequences):
    process([at(envelope())], NOON_S, sequences, context)
    assert sequences.marks == {}


def test_an_honest_resend_of_an_older_boot_is_no_replay(context, sequences):
    messages = [
        at(envelope(boot=3, sequence=1), 1),
        at(envelope(boot=4, sequence=3), 3),
        at(envelope(boot=3, sequence=2), 2),
    ]
    batch = process(messages, NOON_S, sequences, context)
    assert batch.outcomes == [None, None, None]
    assert batch.marks[("C1", "a")].contiguous == 3


def test_a_signed_message_is_taken(context, sequences):
    message = at(envelope(concentrator="Signed"), concentrator="Signed")
    signed = Message(
        message.topic, message.payload, None, (("signature", signature(b"key", message.topic, message.payload)),)
    )
    assert process([signed], NOON_S, sequences, context).outcomes == [None]


def test_where_signing_is_required_nobody_is_believed_without_a_key(sequences):
    context = Context(Limits(), 4, HashRoutes(), {"Signed": b"key"}, signed_only=True)
    payload = envelope(concentrator="Signed")
    good = at(payload, concentrator="Signed")
    good = replace(good, properties=(("signature", signature(b"key", good.topic, payload)),))
    unknown = at(envelope(), properties=(("signature", signature(b"key", "t", b"")),))
    batch = process(
        [good, at(envelope()), at(envelope(), properties=(("stream", "s"),)), unknown], 1, sequences, context
    )
    assert batch.outcomes == [None, R.AUTH, R.AUTH, R.AUTH]


@pytest.mark.parametrize(
    ("message", "stream", "sequence"),
    [
        (
            Message("meters/v1/0/C1/up/reads", envelope(), "application/json", (("stream", "s"), ("sequence", "4"))),
            "s",
            4,
        ),
        (Message("meters/v1/0/C1/up/reads", envelope(stream="e", sequence=5)), "e", 5),
        (Message("meters/v1/0/C1/up/reads", envelope()), "", -1),
        (
            Message("meters/v1/0/C1/up/reads", b"[", "application/senml+json", (("stream", "s"), ("sequence", "4"))),
            "s",
            4,
        ),
        (Message("meters/v1/0/C1/up/reads", envelope(), "image/png", (("stream", "s"), ("sequence", "4"))), "s", 4),
        (Message("meters/v1/0/C1/up/reads", envelope(), None, (("stream", "s"), ("sequence", "x"))), "", -1),
    ],
)
def test_numbers_come_from_properties_or_envelope(message, stream, sequence, context, sequences):
    batch = process([message], NOON_S, sequences, context)
    assert (batch.records[0].stream, batch.records[0].sequence) == (stream, sequence)
    assert list(batch.marks) == ([("C1", stream)] if sequence > 0 else [])
    assert batch.best_effort == (sequence < 0)


@pytest.mark.parametrize(
    ("content_type", "payload"),
    [
        (None, envelope()),
        ("application/json; charset=utf-8", envelope()),
        ("application/senml+cbor", cbor2.dumps([{-2: "1/", -3: NOON_S, -4: "Wh", 0: "1.8.0", 2: 5}])),
        (None, b'[{"bn":"1/","bt":1782864000,"bu":"Wh","n":"1.8.0","v":5}]'),
    ],
)
def test_bare_topics_name_their_format_by_content(content_type, payload, context, sequences):
    batch = process([Message("meters/v1/0/C1/up/reads", payload, content_type)], NOON_S, sequences, context)
    assert batch.outcomes == [None]


def short(sequence, payload, signed_as=None, numbered=True):
    """On the short topic, numbered by properties; signed over `signed_as`."""
    topic, content_type, properties = in_properties(Topic("0", "C1", "reads", "json", "a", sequence))
    properties = properties if numbered else ()
    if signed_as is not None:
        properties += (("signature", signature(b"key", signed_as, payload)),)
    return Message(topic, payload, content_type, properties)


def test_a_signature_covers_the_number_in_properties(context, sequences):
    context = replace(context, keys={"C1": b"key"})
    long, bare = reads_topic("0", "C1", "json", "a", 7), bare_topic("0", "C1")
    payload, in_envelope = envelope(), envelope(stream="a", sequence=7)
    messages = [
        short(7, payload, long),
        short(8, payload, long),  # somebody gave it another number
        short(7, payload, long, numbered=False),  # or took it away
        short(7, payload, bare),  # a signature that leaves the number open
        short(7, in_envelope, bare, numbered=False),  # here the payload has it
        short(8, in_envelope, bare),
    ]
    outcomes = process(messages, NOON_S, sequences, context).outcomes
    assert outcomes == [None, R.AUTH, R.AUTH, R.AUTH, None, R.AUTH]


@pytest.mark.parametrize("format_", FORMATS)
def test_what_numbers_in_properties_is_what_the_long_topic_says(format_, context, sequences):
    named = Topic("0", "C1", "reads", format_, "s-1.x", 2**53 - 1)
    topic, content_type, properties = in_properties(named)
    bare = parse_topic(topic)
    assert bare is not None
    assert bare.format is None
    assert _numbered(bare, Message(topic, b"", content_type, properties)) == named


def test_status_messages_are_counted_only(context, sequences):
    batch = process([Message("meters/v1/0/C1/up/status", b"offline")], NOON_S, sequences, context)
    assert (batch.ignored, batch.records, batch.marks) == (1, [], {})


def test_a_repeated_message_is_taken_again_and_counted(context, sequences):
    first = process([at(envelope())], NOON_S, sequences, context)
    sequences.commit(first.marks[("C1", "a")], NOON_S)
    again = process([at(envelope())], NOON_S, sequences, context)
    assert (first.repeated, again.repeated, len(again.records)) == (0, 1, 1)
    assert again.marks[("C1", "a")].contiguous == 1  # so that held is said again


def test_a_bulk_frame_keeps_its_bytes(context, sequences, readings):
    body = encode_readings(readings(1))
    batch = process([at(body, format_="arrow")], NOON_S, sequences, context)
    assert batch.records[0].body is body


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("read_at_s", 946_684_799, R.TIME_RANGE),
        ("read_at_s", 4_102_444_800, R.TIME_RANGE),
        ("value", 10**15, R.OVERFLOW),
        ("value", -(10**15), R.OVERFLOW),
        ("value", -(2**63), R.OVERFLOW),
        ("register", 6, R.UNKNOWN_REGISTER),
        ("register", 0, R.UNKNOWN_REGISTER),
        ("quality", 0, R.MALFORMED),
        ("quality", 5, R.MALFORMED),
    ],
)
def test_bounds_of_bulk_frames(column, value, reason, context, sequences, readings):
    columns = readings(1000)
    getattr(columns, column)[777] = value
    batch = process([at(encode_readings(columns), format_="arrow")], NOON_S, sequences, context)
    assert batch.outcomes == [reason]
    assert "778 of 1000" in batch.records[0].detail


def test_the_edges_of_the_bounds_are_inside(context, sequences, readings):
    columns = readings(4)
    columns.read_at_s[:2] = 946_684_800, 4_102_444_799
    columns.value[:2] = 10**15 - 1, -(10**15) + 1
    assert process([at(encode_readings(columns), format_="arrow")], NOON_S, sequences, context).outcomes == [None]


class FixedRoutes:
    """Meters below 10 in partition 1, below 20 in 3, the others unknown."""

    def __init__(self, whole=None):
        self.whole = whole

    def home_of(self, concentrator):
        return self.whole

    def partitions_of(self, concentrator, meters):
        return np.where(meters < 10, 1, np.where(meters < 20, 3, -1)).astype(np.int16)

    def shard_of(self, concentrator):
        return "7"


def test_routing_splits_and_loses_nothing(readings):
    columns = readings(40)
    parts = route(encode_readings(columns), "C1", FixedRoutes(), 4)
    assert [p for p, _ in parts] == sorted({p for p, _ in parts})
    unknown = route_unknown_many(columns.meter, 4)
    wanted = [1 if m < 10 else 3 if m < 20 else int(unknown[i]) for i, m in enumerate(columns.meter)]
    found = {int(m): p for p, body in parts for m in decode_readings(body).meter}
    assert found == dict(zip(columns.meter.tolist(), wanted, strict=True))
    assert sum(len(decode_readings(body)) for _, body in parts) == 40


def test_one_partition_reuses_the_body(readings):
    columns = readings(5)
    body = encode_readings(columns)
    assert route(body, "C1", FixedRoutes(2), 4) == [(2, body)]
    assert route(body, "C1", FixedRoutes(), 4)[0][1] is body  # all below 10


def test_unknown_concentrators_are_routed_by_meter(readings):
    columns = readings(50)
    parts = route(encode_readings(columns), "C1", HashRoutes(), 4)
    assert len(parts) > 1
    for partition, body in parts:
        assert (route_unknown_many(decode_readings(body).meter, 4) == partition).all()


def test_another_shard_than_the_registry_says_is_counted(sequences):
    batch = process([at(envelope())], NOON_S, sequences, Context(Limits(), 4, FixedRoutes()))
    assert (batch.misplaced, batch.outcomes) == (1, [None])


def test_a_lost_gap_is_one_record_and_moves_the_mark(sequences, context):
    first = process([at(envelope(), 1), at(envelope(), 4)], NOON_S, sequences, context)
    record, mark = lost(Lost(first.marks[("C1", "a")], 2, 3), NOON_S, 4)
    assert (record.kind, json.loads(record.body)) == (RecordKind.REJECT, {"from": 2, "to": 3})
    assert record.detail.startswith("sequence_lost: ")
    assert mark.contiguous == 4


def test_ticks_go_to_every_partition():
    found = ticks(NOON_S, 3)
    assert [(t.kind, t.partition, t.received_at_s) for t in found] == [(RecordKind.TICK, p, NOON_S) for p in range(3)]
