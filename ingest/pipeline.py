"""Pure: one group of messages -> records for the log, marks, and what became of each message.

Nothing here waits, writes or acknowledges; `ingest.shell` does, in its one order. Every message yields at least
one record (readings, or a reject with its bytes and reason), except status messages, which are counted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from config.reasons import Reason
from ingest import bounds
from ingest.admission import UNMARKED, Begun, admit
from ingest.codecs import arrow, envelope, senml
from ingest.decoded import Decoded, Limits, Rejected
from ingest.origin import with_origin
from ingest.routing import Routes, reject_partition, route
from ingest.sequences import Key, Lost, Mark, Sequences, delivered, taken
from ingest.wire import (
    CONTENT_TYPES,
    FORMATS,
    UNNUMBERED,
    Topic,
    bare_topic,
    is_id,
    parse_topic,
    reads_topic,
    sequence_of,
)
from rating.readings import Record, RecordKind

OVERSIZED_KEPT_BYTES: Final = 64 << 10
_CODECS: Final[dict[str, Callable[[bytes, Limits], Decoded]]] = {
    "json": envelope.decode,
    "senml-json": senml.decode_json,
    "senml-cbor": senml.decode_cbor,
    "arrow": arrow.decode,
}


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message as ingest needs it. `topic` None: it was no UTF-8."""

    topic: str | None
    payload: bytes
    content_type: str | None = None
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What `process` needs to know beside the messages."""

    limits: Limits
    partitions: int
    routes: Routes
    keys: Mapping[str, bytes] = field(default_factory=dict)  # concentrator -> HMAC key, where signing is agreed
    signed_only: bool = False  # a concentrator without a key is not believed either


@dataclass(slots=True)
class Batch:
    """What a group of messages makes durable, and what it counts."""

    records: list[Record] = field(default_factory=list)
    marks: dict[Key, Mark] = field(default_factory=dict)  # as they will be, streams that moved or were repeated
    begun: Begun = field(default_factory=Begun)  # of `marks`, those of new streams
    outcomes: list[Reason | None] = field(default_factory=list)  # per message; None: taken
    readings: int = 0
    ignored: int = 0
    best_effort: int = 0
    unmarked: int = 0  # numbered and taken, but a limit kept its number from being noted
    given_up: list[Lost] = field(default_factory=list)  # gaps, because their stream had too many
    repeated: int = 0  # a sequence that was held already
    misplaced: int = 0  # came over another shard than the registry says
    rejected: Counter[Reason] = field(default_factory=Counter)


def process(messages: Sequence[Message], now_s: int, sequences: Sequences, context: Context) -> Batch:
    """Decode, check and route a group; `sequences` is read, and changed by nobody before the log is durable."""
    batch = Batch()
    for message in messages:
        topic = parse_topic(message.topic) if message.topic is not None else None
        if topic is None:
            _reject(batch, _fallback(message), message, Rejected(Reason.BAD_ID, _topic_note(message)), now_s, context)
        elif topic.kind != "reads":
            batch.ignored += 1
            batch.outcomes.append(None)
        else:
            _one(batch, _numbered(topic, message), message, now_s, sequences, context)
    batch.records.extend(lost_record(gap, now_s, context.partitions) for gap in batch.given_up)
    return batch


def _one(batch: Batch, topic: Topic, message: Message, now_s: int, sequences: Sequences, context: Context) -> None:
    decoded: Decoded | None = None
    mark: Mark | None = None
    said = topic
    try:
        _authentic(topic, message, context)
        decoded = decode(topic, message, context.limits)
        if decoded.sequence is not None and topic.sequence == UNNUMBERED:
            topic = topic._replace(stream=decoded.stream or "", sequence=decoded.sequence)
        mark = _mark(batch, topic, sequences, context)
        agrees(topic, decoded)
        mark = _boot(mark, topic, decoded)
        parts = route(decoded.body, topic.concentrator, context.routes, context.partitions)
    except Rejected as refused:
        mark, fault = _refused(batch, topic, mark, refused, sequences, context)
        _reject(batch, topic, replace(message, topic=_signed_topic(said, message)), fault, now_s, context)
    else:
        for partition, body in parts:
            batch.records.append(
                Record(RecordKind.READINGS, partition, now_s, topic.concentrator, topic.stream, topic.sequence, body)
            )
        batch.readings += decoded.rows
        batch.outcomes.append(None)
    shard = context.routes.shard_of(topic.concentrator)
    batch.misplaced += shard is not None and shard != topic.shard
    if mark is not None:
        batch.repeated += taken(mark, topic.sequence)
        key = (mark.source, mark.stream)
        if key not in batch.marks and key not in sequences.marks:
            batch.begun.add(mark.source)
        batch.marks[key] = delivered(mark, topic.sequence, topic.sequence, batch.given_up)
    elif topic.sequence == UNNUMBERED:
        batch.best_effort += 1
    else:
        batch.unmarked += batch.outcomes[-1] is None


def _mark(batch: Batch, topic: Topic, sequences: Sequences, context: Context) -> Mark | None:
    """The mark that the message moves; None: it has no number, or a limit is reached."""
    if topic.sequence == UNNUMBERED:
        return None
    key = (topic.concentrator, topic.stream)
    found = batch.marks.get(key) or sequences.marks.get(key)
    if found is None or topic.sequence > found.contiguous + 1:
        found = admit(found, topic, sequences, batch.begun, context.routes)
    if found is not None and found.shard != topic.shard:
        return found._replace(shard=topic.shard)  # it speaks over another shard now: there it listens
    return found


def _refused(
    batch: Batch, topic: Topic, mark: Mark | None, fault: Rejected, sequences: Sequences, context: Context
) -> tuple[Mark | None, Rejected]:
    """A refused message counts as delivered, unless nobody knows whose it is, or its number leaps."""
    if fault.reason in UNMARKED:
        return None, fault
    try:
        return mark or _mark(batch, topic, sequences, context), fault
    except Rejected as leap:
        return None, Rejected(leap.reason, f"{leap.note}; also {fault.reason}: {fault.note}")


# -- who says it, and how -----------------------------------------------------------------------------------------


def _numbered(topic: Topic, message: Message) -> Topic:
    """The topic with format, stream and sequence of the MQTT 5 properties where it has none itself."""
    if topic.format is not None:
        return topic
    named = dict(message.properties)
    stream, sequence = named.get("stream", ""), sequence_of(named.get("sequence", ""))
    if sequence is None or not is_id(stream):
        stream, sequence = "", UNNUMBERED
    if message.content_type:
        format_ = CONTENT_TYPES.get(message.content_type.partition(";")[0].strip().lower(), "unknown")
    else:
        first = message.payload.lstrip()[:1]
        format_ = {b"{": "json", b"[": "senml-json", b"\xff": "arrow"}.get(first, "json")
    return Topic(topic.shard, topic.concentrator, topic.kind, format_, stream, sequence)


def decode(topic: Topic, message: Message, limits: Limits) -> Decoded:
    """The message as its topic's format; `Rejected` names what is wrong with it."""
    if len(message.payload) > limits.payload_max:
        raise Rejected(Reason.OVERSIZED, f"{len(message.payload)} bytes")
    codec = _CODECS.get(topic.format or "")
    if codec is None:
        raise Rejected(Reason.UNKNOWN_FORMAT, f"no format {topic.format} or {message.content_type}")
    decoded = codec(message.payload, limits)
    if topic.format == "arrow":
        bounds.check(decoded.readings, limits)
    return decoded


def signature(key: bytes, topic: str, payload: bytes) -> str:
    """What a publisher puts into the MQTT 5 user property `signature`: HMAC-SHA256 over topic, newline, payload."""
    return hmac.new(key, topic.encode() + b"\n" + payload, hashlib.sha256).hexdigest()


def _signed_topic(topic: Topic, message: Message) -> str | None:
    """What a signature covers beside the payload: the long topic, also where properties carry its parts.

    `topic`: with what the properties say. Else whoever hears a message could give it another number.
    """
    if topic.sequence == UNNUMBERED or message.topic != bare_topic(topic.shard, topic.concentrator):
        return message.topic
    format_ = topic.format if topic.format in FORMATS else message.content_type
    return reads_topic(topic.shard, topic.concentrator, format_ or "", topic.stream, topic.sequence)


def _authentic(topic: Topic, message: Message, context: Context) -> None:
    key = context.keys.get(topic.concentrator)
    if key is None and not message.properties and not context.signed_only:
        return
    given = next((value for name, value in message.properties if name == "signature"), None)
    if key is None and given is None and not context.signed_only:
        return
    signed = _signed_topic(topic, message)
    if key is None or given is None or signed is None:
        raise Rejected(Reason.AUTH, "a signature without a known key" if given else "not signed")
    if not hmac.compare_digest(signature(key, signed, message.payload).encode(), given.encode("utf-8", "replace")):
        raise Rejected(Reason.AUTH, "the signature is of another message or key")


def agrees(topic: Topic, decoded: Decoded) -> None:
    """The payload must not tell another story than the topic."""
    if decoded.concentrator is not None and decoded.concentrator != topic.concentrator:
        raise Rejected(Reason.SPOOF, f"topic of {topic.concentrator}, payload of {decoded.concentrator}")
    if topic.sequence == UNNUMBERED:
        return
    if decoded.stream is not None and decoded.stream != topic.stream:
        raise Rejected(Reason.SPOOF, f"topic of stream {topic.stream}, payload of {decoded.stream}")
    if decoded.sequence is not None and decoded.sequence != topic.sequence:
        raise Rejected(Reason.REPLAY, f"message {decoded.sequence} under the number {topic.sequence}")


def _boot(mark: Mark | None, topic: Topic, decoded: Decoded) -> Mark | None:
    """An older boot count is honest only on a number from before the newer one's first."""
    if mark is None or decoded.boot is None:
        return mark
    if decoded.boot < mark.boot and topic.sequence > mark.boot_sequence:
        raise Rejected(Reason.REPLAY, f"boot {decoded.boot} after boot {mark.boot}")
    if decoded.boot > mark.boot:
        return mark._replace(boot=decoded.boot, boot_sequence=topic.sequence)
    if decoded.boot == mark.boot and topic.sequence < mark.boot_sequence:
        return mark._replace(boot_sequence=topic.sequence)
    return mark


# -- what is not readings -----------------------------------------------------------------------------------------


def _fallback(message: Message) -> Topic:
    """What can be said of a topic that is none of ours."""
    parts = (message.topic or "").split("/")
    shard, concentrator = (parts[2], parts[3]) if len(parts) > 3 and is_id(parts[3]) else ("", "")
    return Topic(shard, concentrator, "reads", None, "", UNNUMBERED)


def _topic_note(message: Message) -> str:
    return "topic " + ("of invalid UTF-8" if message.topic is None else ascii(message.topic[:120]))


def _reject(batch: Batch, topic: Topic, message: Message, fault: Rejected, now_s: int, context: Context) -> None:
    body, note = message.payload, fault.note
    if len(body) > OVERSIZED_KEPT_BYTES and fault.reason is Reason.OVERSIZED:
        note = f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()}; the first {OVERSIZED_KEPT_BYTES} kept"
        body = body[:OVERSIZED_KEPT_BYTES]
    batch.records.append(
        Record(
            RecordKind.REJECT,
            reject_partition(topic.concentrator, context.partitions),
            now_s,
            topic.concentrator,
            topic.stream,
            topic.sequence,
            body,
            f"{fault.reason.value}: {with_origin(note, topic, message.topic, message.properties)}",
        )
    )
    batch.outcomes.append(fault.reason)
    batch.rejected[fault.reason] += 1


def lost_record(gap: Lost, now_s: int, partitions: int) -> Record:
    """The record that says that a gap was declared lost."""
    return Record(
        RecordKind.REJECT,
        reject_partition(gap.mark.source, partitions),
        now_s,
        gap.mark.source,
        gap.mark.stream,
        gap.first,
        json.dumps({"from": gap.first, "to": gap.last}).encode(),
        f"{Reason.SEQUENCE_LOST.value}: {gap.first} to {gap.last} never came",
    )


def lost(gap: Lost, now_s: int, partitions: int) -> tuple[Record, Mark]:
    """The record that says so, and the mark past the gap."""
    return lost_record(gap, now_s, partitions), delivered(gap.mark, gap.first, gap.last, [])


def ticks(as_of_s: int, partitions: int) -> list[Record]:
    """One tick for every partition's log."""
    return [Record(RecordKind.TICK, partition, as_of_s, "", "", UNNUMBERED, b"") for partition in range(partitions)]
