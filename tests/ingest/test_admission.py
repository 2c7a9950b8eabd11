"""What one message may do to its stream's mark: forged, garbled and leaping numbers, and the limits."""

from __future__ import annotations

import json

import pytest

from config.reasons import Reason
from ingest.decoded import Limits
from ingest.pipeline import Context, Message, process, signature
from ingest.routing import HashRoutes
from ingest.sequences import AHEAD_MAX, Bounds, Lost, Mark, Sequences
from ingest.wire import SEQUENCE_MAX, reads_topic

NOON_S = 1_782_864_000
READ = {"meter": "000000000001", "register": "1.8.0", "ts": NOON_S, "value": "1"}
GOOD = json.dumps({"reads": [READ]}).encode()
FORGED = json.dumps({"concentrator": "C2", "reads": [READ]}).encode()
BOUNDS = Bounds(leap_max=1000, streams_per_concentrator_max=3, streams_max=5, gaps_max=4)


class Registry(HashRoutes):
    """Knows concentrator `known`."""

    def shard_of(self, concentrator):
        return "0" if concentrator == "known" else None


class Side:
    """The worker's side of a few streams, with a log that never fails."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.sequences = Sequences(60, 2, bounds)
        self.context = Context(Limits(), 4, Registry(), {"signed": b"key"})
        self.now_s = NOON_S

    def take(self, *messages: Message):
        batch = process(messages, self.now_s, self.sequences, self.context)
        for mark in batch.marks.values():
            self.sequences.commit(mark, self.now_s)
        return batch

    def say(self, sequence, payload=GOOD, name="C1", stream="a", shard="0", **more):
        return self.take(Message(reads_topic(shard, name, "json", stream, sequence), payload, **more))

    def mark(self, name="C1", stream="a") -> Mark | None:
        return self.sequences.marks.get((name, stream))

    def losses(self, minutes=20) -> list[tuple[int, int]]:
        found = []
        for _ in range(minutes):
            self.now_s += 60
            for mark in list(self.sequences.marks.values()):  # everybody speaks
                self.sequences.commit(mark, self.now_s)
            found += [(due.first, due.last) for due in self.sequences.due(self.now_s) if isinstance(due, Lost)]
        return found


@pytest.fixture
def side() -> Side:
    return Side()


def test_a_forged_signature_moves_no_mark(side):
    unsigned = side.say(1, name="signed")
    forged = side.say(1, name="signed", properties=(("signature", "00"),))
    assert [batch.outcomes for batch in (unsigned, forged)] == [[Reason.AUTH]] * 2
    assert side.mark("signed") is None
    topic = reads_topic("0", "signed", "json", "a", 1)
    side.take(Message(topic, GOOD, None, (("signature", signature(b"key", topic, GOOD)),)))
    assert side.mark("signed").contiguous == 1


@pytest.mark.parametrize("payload", [FORGED, json.dumps({"stream": "b", "reads": [READ]}).encode()])
def test_a_spoofed_message_moves_no_mark_and_the_real_one_is_still_awaited(side, payload):
    side.say(1)
    batch = side.say(2, payload)
    assert (batch.outcomes, batch.marks, len(batch.records)) == ([Reason.SPOOF], {}, 1)
    assert side.mark().contiguous == 1
    assert side.say(2).repeated == 0
    assert side.mark().contiguous == 2


def test_what_a_concentrator_garbled_itself_counts_as_delivered(side):
    assert side.say(1, b"{").outcomes == [Reason.MALFORMED]
    assert side.mark().contiguous == 1


@pytest.mark.parametrize("payload", [GOOD, b"garbage"])
def test_a_leap_is_refused_without_a_gap_or_a_mark_and_the_stream_goes_on(side, payload):
    for n in (1, 2, 3):
        side.say(n)
    batch = side.say(SEQUENCE_MAX, payload)
    assert (batch.outcomes, batch.marks) == ([Reason.SEQUENCE_LEAP], {})
    (record,) = batch.records
    assert record.detail.startswith(
        f"sequence_leap: number {SEQUENCE_MAX}, and the stream stood at 3: more than 1000"
    )
    assert record.body == payload
    assert side.losses() == []
    side.say(4)
    assert (side.mark().contiguous, side.mark().ahead) == (4, ())


def test_a_leap_is_measured_from_the_highest_number_that_came(side):
    side.say(1)
    assert side.say(1002).outcomes == [Reason.SEQUENCE_LEAP]
    assert side.say(1001).outcomes == [None]
    assert side.say(2001).outcomes == [None]
    assert side.mark().ahead == ((1001, 1001), (2001, 2001))


def test_a_new_stream_may_begin_within_the_bound_only(side):
    assert side.say(1001).outcomes == [Reason.SEQUENCE_LEAP]
    assert side.mark() is None
    assert side.say(1000).outcomes == [None]
    wide = Side(Bounds(leap_max=SEQUENCE_MAX))  # to take over those who have numbered for years
    wide.say(5_000_000)
    wide.say(5_000_001)
    assert wide.losses(3) == [(1, 4_999_999)]


def test_an_envelopes_number_is_judged_as_well(side):
    body = json.dumps({"stream": "a", "sequence": 5000, "reads": [READ]}).encode()
    batch = side.take(Message("meters/v1/0/C1/up/reads", body))
    assert (batch.outcomes, batch.marks, batch.best_effort) == ([Reason.SEQUENCE_LEAP], {}, 0)


def test_a_gap_too_many_is_a_record_of_the_same_group():
    side = Side(Bounds(leap_max=10_000))
    messages = [Message(reads_topic("0", "C1", "json", "a", n), GOOD) for n in range(2, 2 * AHEAD_MAX + 8, 2)]
    batch = side.take(*messages)
    lost = [(r.sequence, json.loads(r.body)) for r in batch.records if r.detail.startswith("sequence_lost")]
    assert lost == [(1, {"from": 1, "to": 1}), (3, {"from": 3, "to": 3}), (5, {"from": 5, "to": 5})]
    assert len(batch.given_up) == 3
    assert (side.mark().contiguous, len(side.mark().ahead)) == (6, AHEAD_MAX)


def test_a_concentrator_has_a_limit_of_streams_and_its_others_go_on(side):
    topics = [reads_topic("0", "C1", "json", f"s{k}", 1) for k in range(5)]
    batch = side.take(*(Message(topic, GOOD) for topic in topics))  # in one group
    assert (batch.outcomes, batch.unmarked, batch.best_effort) == ([None] * 5, 2, 0)
    assert sorted(batch.marks) == [("C1", "s0"), ("C1", "s1"), ("C1", "s2")]
    again = side.say(1, stream="s9")
    assert (again.outcomes, again.unmarked, len(again.records)) == ([None], 1, 1)
    assert side.say(2, stream="s0").marks[("C1", "s0")].contiguous == 2


def test_invented_names_leave_room_for_the_registrys(side):
    for k in range(20):
        side.say(1, name=f"invented-{k}")
    assert len(side.sequences.marks) == BOUNDS.streams_max
    assert side.say(1, name="known").marks[("known", "a")].contiguous == 1
    for k in range(9):
        side.say(1, name="known", stream=f"s{k}")
    assert side.sequences.streams["known"] == BOUNDS.streams_per_concentrator_max


def test_gaps_have_a_limit_beyond_which_numbers_ahead_are_not_noted(side):
    for n in (2, 4, 6, 8):
        side.say(n)
    assert side.sequences.open_gaps() == BOUNDS.gaps_max
    batch = side.say(10)
    assert (batch.outcomes, batch.unmarked, batch.marks) == ([None], 1, {})
    side.say(1)  # whoever is in order is served, and makes room
    assert (side.mark().contiguous, side.sequences.open_gaps()) == (2, 3)
    side.say(10)
    assert side.mark().ahead[-1] == (10, 10)


def test_held_is_said_where_the_stream_speaks_now(side):
    side.say(1, b"{", shard="elsewhere")
    assert side.say(2, shard="0").marks[("C1", "a")].shard == "0"
