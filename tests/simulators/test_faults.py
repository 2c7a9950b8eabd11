"""The plan is seeded and whole; every class of bad message is judged to be what it names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.reasons import Reason
from ingest.decoded import Limits
from ingest.pipeline import Context, Message, process, signature
from ingest.routing import HashRoutes
from ingest.sequences import Sequences
from ingest.wire import reads_topic
from rating.readings import RecordKind
from simulators import faults
from simulators.fleet_bad import BAD_MESSAGES, BadMessage, Sender, Signing, sign
from simulators.fleet_registry import FleetChannel

BILLED = True
SENDER = Sender("C1", "s1", 12, 3, "000000000001", 1, 1_782_864_450, 1_234_560)


def _channel(number: int) -> FleetChannel:
    return FleetChannel(
        f"{number:012d}", number, "1.8.0", "C1", f"P{number}", number, 0, 2**32 - 1, 6, 1, 13_200, 10, BILLED, 0, 0
    )


CHANNELS = tuple(_channel(n) for n in range(1, 201))


def _judged(bad: BadMessage, key: bytes | None, earlier_boot: bool) -> list[tuple[RecordKind, str]]:
    messages = []

    def say(sequence: int, format_: str, payload: bytes, signing: Signing) -> None:
        topic = reads_topic("0", "C1", format_, "s1", sequence)
        signature = sign(signing, key, topic, payload)
        messages.append(Message(topic, payload, properties=(("signature", signature),) if signature else ()))

    if earlier_boot:
        good = BAD_MESSAGES["old_boot"](SENDER).payload.replace(b'"boot": 0', b'"boot": 3')
        say(11, "json", good.replace(b'"sequence": 12', b'"sequence": 11'), Signing.OWN)
    say(12, bad.format, bad.payload, bad.signing)
    context = Context(Limits(), 4, HashRoutes(), {"C1": key} if key else {})
    batch = process(messages, 1_782_864_900, Sequences(60, 5), context)
    return [(record.kind, record.detail.partition(":")[0]) for record in batch.records]


@pytest.mark.parametrize("key", [None, bytes(range(32))])
@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_a_bad_message_is_rejected_for_the_reason_it_names(name: str, key: bytes | None) -> None:
    """Also where a key is agreed: who lies or repeats itself signs it well, and its signature tells nothing."""
    bad = BAD_MESSAGES[name](SENDER)
    assert _judged(bad, key, name == "old_boot")[-1] == (RecordKind.REJECT, bad.reason.value)


def test_signatures_are_wrong_in_four_ways_and_right_in_one() -> None:
    key, topic, payload = bytes(range(32)), reads_topic("0", "C1", "json", "s1", 12), b"{}"
    made = {signing: sign(signing, key, topic, payload) for signing in Signing}
    assert made[Signing.OWN] == signature(key, topic, payload)
    assert made[Signing.OLD] == signature(key, reads_topic("0", "C1", "json", "s1", 11), payload)
    assert made[Signing.NONE] == ""
    assert len(set(made.values())) == 5
    assert sign(Signing.OWN, None, topic, payload) == ""
    assert all(sign(signing, None, topic, payload) for signing in Signing if signing is not Signing.OWN)


def test_bad_messages_cover_the_classes_that_are_judged_whole() -> None:
    reasons = {make(SENDER).reason for make in BAD_MESSAGES.values()}
    assert reasons >= {
        Reason.MALFORMED,
        Reason.ENCODING,
        Reason.NONFINITE,
        Reason.DUPLICATE_KEY,
        Reason.WRONG_TYPE,
        Reason.NUMBER_FORM,
        Reason.NUMBER_SIZE,
        Reason.NESTING,
        Reason.OVERSIZED,
        Reason.BAD_ID,
        Reason.TIME_RANGE,
        Reason.OVERFLOW,
        Reason.UNIT,
        Reason.KIND,
        Reason.UNKNOWN_FORMAT,
        Reason.SPOOF,
        Reason.REPLAY,
        Reason.AUTH,
    }


def test_bad_messages_fit_through_the_broker() -> None:
    assert max(len(make(SENDER).payload) for make in BAD_MESSAGES.values()) < 1 << 20


def test_all_faults_happen_even_in_a_small_run() -> None:
    plan = faults.draw(faults.parse_rates("all"), 7, CHANNELS, 2, 35 * 96, 900)
    events = [event for found in plan.frames.values() for event in found]
    assert {event.kind for event in events} == set(faults.FRAME_KINDS)
    assert {e.detail for e in events if e.kind == "bad_message"} == set(BAD_MESSAGES)
    assert {e.detail for e in events if e.kind == "bad_reading"} == set(faults.BAD_READINGS)
    assert plan.rollover
    assert plan.vacant
    assert plan.changeouts
    assert plan.skew
    assert all((end - first) * 900 >= 4 * 86_400 for first, end in plan.dead.values())


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 400))
def test_a_plan_stays_inside_the_run_and_repeats(seed: int, concentrators: int, intervals: int) -> None:
    rates = faults.parse_rates("all")
    plan = faults.draw(rates, seed, CHANNELS, concentrators, intervals, 900)
    assert plan == faults.draw(rates, seed, CHANNELS, concentrators, intervals, 900)
    for place, interval in plan.frames:
        assert 0 <= place < concentrators
        assert 2 <= interval < max(3, intervals)
    special = [*plan.rollover, *plan.vacant, *plan.dead, *(c.old_meter for c in plan.changeouts)]
    assert len(special) == len(set(special))


def test_rates() -> None:
    assert faults.parse_rates("none") == {}
    assert faults.parse_rates("reorder=0.5,outage") == {"reorder": 0.5, "outage": faults.RATES_ALL["outage"]}
    assert "outage" not in faults.parse_rates("all,outage=0")
    assert faults.parse_rates("all,dead=0.5")["dead"] == 0.5
    for wrong in ("nonsense", "reorder=x", "reorder=2"):
        with pytest.raises(faults.BadFaults):
            faults.parse_rates(wrong)


def test_a_rate_is_about_kept() -> None:
    plan = faults.draw({"reorder": 0.1}, 1, CHANNELS, 10, 1000, 900)
    assert sum(len(found) for found in plan.frames.values()) == 1000
    assert np.mean([interval for _, interval in plan.frames]) == pytest.approx(500, abs=40)
