"""From what was seen to latencies: the checkpoint that has a reading, the reading that made a balance low."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.load.answers import Answered, Answers, noted, slots_of
from simulators.load.figures import Figures, NoObjective, Objective, Sent, Times, figures, judged, table

START_S = 1000.0
NONE = float("nan")
A, B = 0, 1


def sent() -> Sent:
    """Two concentrators, two messages each, a second apart; the last one was never held, and was no reading."""
    times = Times(
        due=np.array([0.0, 1.0, 2.0, 3.0]),
        sent=np.array([0.1, 1.0, 2.0, 3.0]),
        acked=np.array([0.2, 1.1, 2.1, 3.5]),
        held=np.array([0.4, 1.3, 2.3, NONE]),
        readings=np.array([10, 10, 10, 0]),
    )
    return Sent.of(times, np.array([7], np.uint64), np.array([30]), {"again": 1})


def answers() -> Answers:
    slots = slots_of(np.array([A, B, A, B]), 2)
    due = np.zeros(4)
    for concentrator, sequence, due_s in ((A, 1, 0.0), (B, 1, 1.0), (A, 2, 2.0), (B, 2, 3.0)):
        due[slots[concentrator] + sequence - 1] = noted(due_s, good=(concentrator, sequence) != (B, 2))
    return Answers(due, slots, np.array([10, 10]), START_S)


def answered(*, checkpoints: int = 4, low_at: int = 3, paid: bool = True) -> Answered:
    """Message a/1 lies in two partitions; partition 1 is committed later. a/1 came twice."""
    made = answers()
    made.records({0: [(1, A, 1), (2, B, 1), (3, A, 2)], 1: [(1, A, 1), (2, A, 1), (3, B, 2)]}, {0: 3, 1: 3})
    for checkpoint in [(1000.5, 0, 1), (1000.9, 1, 1), (1002.6, 0, 3), (1002.7, 1, 2)][:checkpoints]:
        made.checkpoint(*checkpoint)
    made.low_balance(("A1", 4), A, 0, low_at)
    if paid:
        for at_s in (1003.0, 1003.4):
            made.charge(at_s, ("A1", 4))
        for at_s in (1003.2, 1003.3):
            made.notice(at_s, ("A1", 4))
    return made.end()


def measured(name: str, found: Answered) -> list[float]:
    """Milliseconds, as the histogram has them."""
    return [round(seconds * 1000) for _, seconds in figures(sent(), found).histograms[name].curve()]


def test_a_balance_is_visible_with_the_last_of_its_partitions() -> None:
    assert measured("reading_to_balance", answered()) == pytest.approx([600, 900, 1600], rel=0.01)


def test_an_order_counts_from_the_reading_that_made_the_balance_low() -> None:
    """Offset 3 was in that checkpoint: a/2, due at 2.0; its first charge came at 3.0, its first message at 3.2."""
    assert measured("reading_to_order", answered()) == pytest.approx([1000], rel=0.01)
    assert measured("reading_to_notice", answered()) == pytest.approx([1200], rel=0.01)


def test_an_order_that_was_caused_before_the_newest_reading_counts_from_then() -> None:
    made = answers()
    made.checkpoint(1000.5, 0, 1)
    made.low_balance(("A1", 4), A, 0, 1)
    made.records({0: [(1, A, 1), (2, B, 1), (3, A, 2)]}, {0: 3})
    made.charge(1003.0, ("A1", 4))
    found = made.end()  # a charge without its message is a latency all the same
    assert measured("reading_to_order", found) == pytest.approx([3000], rel=0.01)
    assert found.orders_without == {"order": 0, "notice": 1}


def test_what_was_never_seen_is_counted() -> None:
    found = figures(sent(), answered(checkpoints=2, paid=False))
    assert found.waits == {"reading_to_balance": 2, "reading_to_order": 1, "reading_to_notice": 1}


def test_what_is_older_than_its_register_is_not_waited_for() -> None:
    made = sent()
    made.counts["past"] = 2
    assert figures(made, answered(checkpoints=2, paid=False)).waits["reading_to_balance"] == 0


def test_throughput_counts_readings_in_their_second() -> None:
    found = figures(sent(), answered())
    assert found.over_time["due"].tolist() == [10, 10, 10]
    assert found.over_time["balance"].tolist() == [10, 0, 20]


def without() -> Figures:
    return figures(sent(), None)


def test_without_a_daemon_there_is_what_the_wire_says() -> None:
    found = without()
    assert len(found.histograms["published"]) == 4
    assert len(found.histograms["held"]) == 3
    assert len(found.histograms["reading_to_balance"]) == 0
    assert table(found.histograms)[-1][2] == "-"


def test_generators_add_up_and_come_through_a_file() -> None:
    both = Sent.merged([sent(), Sent.from_arrays(sent().arrays())])
    assert (both.messages, both.sent, both.unheld, both.good, both.readings) == (8, 8, 2, 6, 60)
    assert both.counts == {"again": 2}
    assert both.over_time["due"].tolist() == [20, 20, 20]
    assert both.used.tolist() == [30, 30]
    for name, one in sent().histograms.items():
        assert len(both.histograms[name]) == 2 * len(one)
        assert both.histograms[name].most_s == one.most_s
        assert both.histograms[name].percentile(50) == one.percentile(50)


def test_objectives() -> None:
    found = without().histograms
    asked = [Objective.parse(text) for text in ("published.max=500ms", "published.p50=150ms", "held.p50=1us")]
    asked.append(Objective.parse("reading_to_balance.p99=1s"))
    assert [one["met"] for one in judged(asked, found)] == [
        True,
        True,
        False,
        False,
    ]  # nothing measured meets nothing
    assert judged(asked, found)[3]["measured_ms"] is None
    for wrong in ("held", "held.p99", "held.p99=1", "soon.p99=1s", "held.p101=1s", "held.p99=-1s"):
        with pytest.raises(NoObjective):
            Objective.parse(wrong)
