"""A refused message read again: through the real pipeline first, then from what the exceptions queue keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from config.reasons import Reason
from ingest import pipeline
from ingest.again import Decision, NotReleasable, Refused, read_again
from ingest.decoded import Limits
from ingest.origin import Origin, split_note
from ingest.pipeline import Context, Message, lost, process, signature
from ingest.routing import HashRoutes, reject_partition
from ingest.sequences import Lost, Mark, Sequences
from ingest.wire import Topic, encode_readings, in_properties, reads_topic
from rating.readings import Readings, Record, RecordKind

NOON_S = 1_782_864_000
KEY = bytes(range(32))
READ = {"meter": "000000000001", "register": "1.8.0", "ts": NOON_S, "value": "123.456"}
TRUST = Decision(trusted=True)


def envelope(**head: object) -> bytes:
    return json.dumps({**head, "reads": [READ, {**READ, "meter": "000000000002", "quality": "E"}]}).encode()


def context(**more: object) -> Context:
    return replace(Context(Limits(), 4, HashRoutes()), **more)


def at(payload: bytes, sequence: int = 7, format_: str = "json", concentrator: str = "C1", sign: str = "") -> Message:
    properties = (("signature", sign),) if sign else ()
    return Message(reads_topic("0", concentrator, format_, "a", sequence), payload, properties=properties)


def queued(record: Record) -> Refused:
    """As `rating.refusals.rejected` puts it into the queue."""
    reason, _, note = record.detail.partition(": ")
    return Refused(reason, record.source, record.stream, record.sequence, record.body, note)


def refuse(*messages: Message, ctx: Context | None = None) -> Refused:
    """The last message, which ingest refuses."""
    batch = process(messages, NOON_S, Sequences(60, 5), ctx or context())
    assert batch.outcomes[-1] is not None
    assert batch.records[-1].kind is RecordKind.REJECT
    return queued(batch.records[-1])


def rows(found: tuple[str, list[tuple[int, Readings]]]) -> list[tuple[int, int]]:
    return [(int(m), int(v)) for _, part in found[1] for m, v in zip(part.meter, part.value, strict=True)]


def test_a_reject_keeps_topic_format_and_a_signature_that_may_be_right() -> None:
    row = refuse(at(b"{", sign="ab" * 32), ctx=context(keys={"C1": KEY}))
    words, origin = split_note(row.note)
    assert (row.reason, words) == ("auth", "the signature is of another message or key")
    assert origin == Origin("meters/v1/0/C1/up/reads/json/a/7", "json", "ab" * 32)
    assert split_note(refuse(at(b"{", sign="\n{}" * 3), ctx=context(keys={"C1": KEY})).note)[1].signature == ""


@pytest.mark.parametrize("note", ["", "old row", "two\nlines", 'a line\n{"topic":', "x\n[]"])
def test_notes_without_an_origin(note: str) -> None:
    assert split_note(note) == (note, Origin())


def test_a_short_topic_keeps_the_format_that_its_content_said() -> None:
    for content_type, payload, said in ((None, b"[1", "senml-json"), ("text/plain", b"{", "unknown")):
        row = refuse(Message("meters/v1/0/C1/up/reads", payload, content_type))
        assert split_note(row.note)[1] == Origin("meters/v1/0/C1/up/reads", said)


# -- the cause is gone ---------------------------------------------------------------------------------------------


def test_a_version_that_reads_more(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = envelope()
    monkeypatch.setitem(pipeline._CODECS, "json", lambda *_: pytest.fail("not asked"))
    monkeypatch.delitem(pipeline._CODECS, "json")
    row = refuse(at(payload))
    assert row.reason == Reason.UNKNOWN_FORMAT
    monkeypatch.undo()
    concentrator, parts = read_again(row, Decision(), context())
    assert concentrator == "C1"
    assert rows((concentrator, parts)) == [(1, 123_456), (2, 123_456)] or len(parts) == 2
    assert sum(len(part) for _, part in parts) == 2


def test_a_limit_that_was_raised() -> None:
    row = refuse(at(envelope()), ctx=context(limits=Limits(readings_max=1)))
    assert row.reason == Reason.OVERSIZED
    with pytest.raises(NotReleasable, match="oversized"):
        read_again(row, Decision(), context(limits=Limits(readings_max=1)))
    assert len(rows(read_again(row, Decision(), context()))) == 2


def test_a_key_that_was_corrected() -> None:
    payload = envelope()
    sign = signature(KEY, reads_topic("0", "C1", "json", "a", 7), payload)
    for wrong in ({}, {"C1": b"another"}):
        row = refuse(at(payload, sign=sign), ctx=context(keys=wrong))
        assert row.reason == Reason.AUTH
        with pytest.raises(NotReleasable, match=r"verified|another"):
            read_again(row, Decision(), context(keys=wrong))
        assert len(rows(read_again(row, Decision(), context(keys={"C1": KEY})))) == 2
        with pytest.raises(NotReleasable, match="another"):  # the same bytes under another number are another message
            read_again(replace(row, note=row.note.replace("/a/7", "/a/8")), Decision(), context(keys={"C1": KEY}))


def test_a_key_that_was_corrected_for_a_message_numbered_in_properties() -> None:
    payload = envelope()
    topic, content_type, numbered = in_properties(Topic("0", "C1", "reads", "json", "a", 7))
    sign = signature(KEY, reads_topic("0", "C1", "json", "a", 7), payload)
    message = Message(topic, payload, content_type, (*numbered, ("signature", sign)))
    row = refuse(message, ctx=context(keys={"C1": b"another"}))
    assert row.reason == Reason.AUTH
    assert len(rows(read_again(row, Decision(), context(keys={"C1": KEY})))) == 2
    with pytest.raises(NotReleasable, match="another"):
        read_again(replace(row, note=row.note.replace("/a/7", "/a/8")), Decision(), context(keys={"C1": KEY}))


def test_a_registry_that_knows_where_the_meters_are() -> None:
    class Split(HashRoutes):
        def partitions_of(self, concentrator, meters):
            return np.array([3, 0], np.int16)

    row = refuse(at(envelope()), ctx=context(limits=Limits(readings_max=1)))
    _, parts = read_again(row, Decision(), context(routes=Split()))
    assert [(p, part.meter.tolist(), part.quality.tolist()) for p, part in parts] == [(0, [2], [1]), (3, [1], [4])]


# -- what a person says --------------------------------------------------------------------------------------------


def test_another_format() -> None:
    row = refuse(at(envelope(), format_="xml"))
    with pytest.raises(NotReleasable, match="xml") as stopped:
        read_again(row, Decision(), context())
    assert "--as" in stopped.value.what_to_do
    assert len(rows(read_again(row, Decision(format="json"), context()))) == 2
    with pytest.raises(NotReleasable, match="cannot be read as arrow: malformed"):
        read_again(row, Decision(format="arrow"), context())
    with pytest.raises(NotReleasable, match="nobody said"):  # a row of before the format was kept
        read_again(replace(row, note="no format xml"), Decision(), context())


DOUBTFUL: dict[str, Callable[[], Refused]] = {
    "another concentrator": lambda: refuse(at(envelope(concentrator="C2"))),
    "another stream": lambda: refuse(at(envelope(stream="b"))),
    "another number": lambda: refuse(at(envelope(sequence=3))),
    "an old boot": lambda: refuse(at(envelope(boot=4), 1), at(envelope(boot=3), 2)),
    "not signed": lambda: refuse(at(envelope()), ctx=context(keys={"C1": KEY})),
    "nobody is signed": lambda: refuse(at(envelope()), ctx=context(signed_only=True)),
    "signed by another": lambda: refuse(at(envelope(), sign="0" * 64), ctx=context(keys={"C1": KEY})),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_message_in_doubt_needs_a_word(name: str) -> None:
    row = DOUBTFUL[name]()
    assert row.reason in ("spoof", "replay", "auth")
    keys = {"C1": KEY} if "signed" in name and name != "nobody is signed" else {}
    with pytest.raises(NotReleasable) as stopped:
        read_again(row, Decision(), context(keys=keys))
    assert "--trust" in stopped.value.what_to_do
    concentrator, parts = read_again(row, TRUST, context(keys=keys))
    assert concentrator == "C1"
    assert sum(len(part) for _, part in parts) == 2


def test_doubt_that_only_shows_now() -> None:
    """Refused for its form at first: what it says of its sender is looked at when it can be read."""
    row = refuse(at(envelope(concentrator="C2"), format_="xml"))
    with pytest.raises(NotReleasable, match="not believed: spoof"):
        read_again(row, Decision(format="json"), context())
    assert read_again(row, Decision("json", trusted=True), context())[0] == "C1"
    assert read_again(row, Decision("json", "C2", trusted=True), context())[0] == "C2"


def test_a_topic_that_was_none_of_ours() -> None:
    row = refuse(Message("meters/v1/0/C1/up/reads/json/a/0", envelope()))  # numbers start at 1
    assert (row.reason, row.source, row.sequence) == ("bad_id", "C1", -1)
    assert len(rows(read_again(row, Decision(format="json"), context()))) == 2
    for signed in (context(keys={"C1": KEY}), context(signed_only=True)):  # nobody has looked at its signature
        with pytest.raises(NotReleasable, match="topic"):
            read_again(row, Decision(format="json"), signed)
        assert len(rows(read_again(row, Decision("json", trusted=True), signed))) == 2
    nobody = refuse(Message("elsewhere", envelope()))
    with pytest.raises(NotReleasable, match="no concentrator"):
        read_again(nobody, Decision(format="json"), context())
    assert read_again(nobody, Decision("json", "C9", trusted=True), context())[0] == "C9"


# -- what has no bytes ---------------------------------------------------------------------------------------------


def test_lost_numbers_and_cut_messages_say_why_not(readings: Callable[[int], Readings]) -> None:
    record, _ = lost(Lost(Mark("C1", "a", "0", 3, ((6, 6),)), 4, 5), NOON_S, 4)
    assert record.partition == reject_partition("C1", 4)
    frame = encode_readings(readings(4000))
    assert len(frame) > pipeline.OVERSIZED_KEPT_BYTES
    cut = refuse(at(frame, format_="arrow"), ctx=context(limits=Limits(readings_max=3999)))
    for row, why in ((queued(record), "4 to 5 never came"), (cut, "only a part of it was kept")):
        for decision in (Decision(), TRUST, Decision(format="arrow")):
            with pytest.raises(NotReleasable, match=why) as stopped:
                read_again(row, decision, context())
            assert len(stopped.value.what_to_do) > 20
