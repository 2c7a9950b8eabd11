"""Intervals of a message become the registers at their ends: exactly, or the message is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.reasons import Reason
from config.units import Quality
from ingest.codecs import envelope
from ingest.codecs.intervals import Interval, Row, registers
from ingest.decoded import VALUE_MAX, Limits, Rejected

A, F, S, E = Quality.A, Quality.F, Quality.S, Quality.E
START = 1782864000
PERIOD = 900
METER, CODE = 1, 1


def row(at: int, value: int, quality: int = A, *, meter: int = METER, register: int = CODE) -> Row:
    return Row(meter, register, START + at * PERIOD, value, quality)


def interval(end: int, value: int, quality: int = A, *, periods: int = 1, register: int = CODE) -> Interval:
    return Interval(METER, register, START + end * PERIOD, value, quality, periods * PERIOD)


@pytest.mark.parametrize(
    ("name", "reads", "expected"),
    [
        (
            "between two reads: as good as its parts",
            [row(0, 100), interval(1, 5), interval(2, 0), interval(3, 7), row(3, 112)],
            [row(0, 100), row(1, 105), row(2, 105), row(3, 112)],
        ),
        (
            "after one read: an estimate until the next",
            [row(0, 100), interval(1, 5), interval(2, 6)],
            [row(0, 100), row(1, 105, E), row(2, 111, E)],
        ),
        (
            "before one read",
            [interval(1, 5), interval(2, 6), row(2, 111)],
            [row(0, 100, E), row(1, 105, E), row(2, 111)],
        ),
        (
            "before, between and after",
            [interval(1, 1), row(1, 10), interval(2, 2), interval(3, 3), row(3, 15), interval(4, 4)],
            [row(0, 9, E), row(1, 10), row(2, 12), row(3, 15), row(4, 19, E)],
        ),
        (
            "one substituted: known from the other side, on both sides of it",
            [row(0, 0), interval(1, 1), interval(2, 1, S), interval(3, 1), row(3, 3)],
            [row(0, 0), row(1, 1), row(2, 2), row(3, 3)],
        ),
        (
            "two substituted: what stands between them is",
            [row(0, 0), interval(1, 1, S), interval(2, 1), interval(3, 1, F), row(3, 3)],
            [row(0, 0), row(1, 1, F), row(2, 2, F), row(3, 3)],
        ),
        (
            "an estimated read at one end: the other end is better",
            [row(0, 0, E), interval(1, 1), interval(2, 1), row(2, 2)],
            [row(0, 0, E), row(1, 1), row(2, 2)],
        ),
        (
            "a gap: each part hangs on its own read",
            [row(0, 100), interval(1, 5), interval(3, 6), row(3, 120)],
            [row(0, 100), row(1, 105, E), row(2, 114, E), row(3, 120)],
        ),
        (
            "in any order of the message",
            [interval(2, 6), row(2, 111), interval(1, 5), row(0, 100)],
            [row(0, 100), row(1, 105), row(2, 111)],
        ),
        (
            "intervals of unequal length",
            [row(0, 100), interval(4, 8, periods=4), interval(5, 1), row(5, 109)],
            [row(0, 100), row(4, 108), row(5, 109)],
        ),
        (
            "a read within an interval is a read like any other",
            [row(0, 100), interval(4, 8, periods=4), row(2, 103), row(4, 108)],
            [row(0, 100), row(2, 103), row(4, 108)],
        ),
        (
            "of equal times the first anchors, and both are judged",
            [row(0, 100), row(0, 101), interval(1, 5)],
            [row(0, 100), row(0, 101), row(1, 105, E)],
        ),
        (
            "siblings of one time stay together, other meters where they were",
            [
                row(9, 7, meter=2),
                row(0, 10, register=2),
                row(0, 100),
                row(1, 8, meter=3),
                interval(1, 1, register=2),
                interval(1, 5),
                row(0, 3, meter=2),
            ],
            [
                row(9, 7, meter=2),
                row(0, 10, register=2),
                row(0, 100),
                row(1, 11, E, register=2),
                row(1, 105, E),
                row(1, 8, meter=3),
                row(0, 3, meter=2),
            ],
        ),
        ("no intervals: as they came", [row(3, 1), row(0, 9), row(3, 1)], [row(3, 1), row(0, 9), row(3, 1)]),
    ],
)
def test_registers_of_a_message(name, reads, expected):
    assert registers(reads) == expected, name


@pytest.mark.parametrize(
    ("reads", "reason"),
    [
        ([interval(1, 5)], Reason.KIND),
        ([row(0, 100), interval(2, 5)], Reason.KIND),  # no read at an end
        ([row(0, 100), interval(1, 5), interval(3, 5)], Reason.KIND),  # the part behind the gap has none
        ([row(0, 100, register=2), interval(1, 5)], Reason.KIND),  # another register's
        ([row(0, 100, meter=2), interval(1, 5)], Reason.KIND),  # another meter's
        ([row(0, 100), interval(1, 5), interval(1, 5)], Reason.INTERVAL_SIZE),
        ([row(0, 100), interval(1, 5), interval(2, 5, periods=2)], Reason.INTERVAL_SIZE),
        ([row(0, 100), interval(1, 5), row(1, 106)], Reason.SUM_CHECK),
        ([row(0, 100), interval(1, 5), interval(2, 5), row(1, 105), row(2, 111)], Reason.SUM_CHECK),
        ([row(0, 99_999), interval(1, 5), row(1, 4)], Reason.SUM_CHECK),  # a rollover: capacity is not known here
        ([row(0, VALUE_MAX - 1), interval(1, 1)], Reason.OVERFLOW),
    ],
)
def test_what_does_not_follow_exactly_is_refused(reads, reason):
    with pytest.raises(Rejected) as fault:
        registers(reads)
    assert fault.value.reason is reason


def test_of_the_wire():
    def read(at: int, value: str, **more: object) -> dict[str, object]:
        return {"meter": "000000000001", "register": "1.8.0", "ts": START + at * PERIOD, "value": value, **more}

    by_interval = {"kind": "interval", "period": PERIOD}
    reads = [read(0, "100.000"), read(1, "0.1", **by_interval), read(2, "200", unit="Wh", **by_interval)]
    decoded = envelope.decode(json.dumps({"sequence": 4, "reads": [*reads, read(2, "100.3")]}).encode(), Limits())
    assert decoded.rows == 3
    assert decoded.sequence == 4
    assert decoded.readings.value.tolist() == [100_000, 100_100, 100_300]
    assert decoded.readings.quality.tolist() == [A, A, A]
    assert decoded.readings.read_at_s.tolist() == [START, START + PERIOD, START + 2 * PERIOD]


@given(st.data())
def test_no_choice_of_what_is_sent_changes_a_register(data):
    """Of a true curve, registers at some ends and intervals over the rest: every register that follows is true."""
    energy = data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
    truth = [10**6]
    for each in energy:
        truth.append(truth[-1] + each)
    read = data.draw(st.sets(st.integers(0, len(energy)), min_size=1))
    sent: list[Row | Interval] = [row(at, truth[at]) for at in sorted(read)]
    sent += [interval(at + 1, each) for at, each in enumerate(energy)]
    found = registers(data.draw(st.permutations(sent)))
    assert [(r.read_at_s - START) // PERIOD for r in found] == list(range(len(truth)))
    assert [r.value for r in found] == truth
    confirmed = range(min(read), max(read) + 1)
    assert [r.quality for r in found] == [A if at in confirmed else E for at in range(len(truth))]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.data())
def test_one_wrong_interval_is_found_by_the_sum_check(energy, data):
    reads: list[Row | Interval] = [row(0, 5), *(interval(at + 1, each) for at, each in enumerate(energy))]
    reads.append(row(len(energy), 5 + sum(energy)))
    at = data.draw(st.integers(1, len(energy)))
    wrong = data.draw(st.integers(1, 10**6))
    reads[at] = interval(at, energy[at - 1] + wrong)
    with pytest.raises(Rejected) as fault:
        registers(reads)
    assert fault.value.reason is Reason.SUM_CHECK
