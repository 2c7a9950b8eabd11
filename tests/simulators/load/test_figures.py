"""From what was seen to latencies: the checkpoint that has a reading, the reading that made a balance low."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.load.figures import Messages, NoObjective, Objective, judged, latencies, table
from simulators.load.observe import Seen

START_S = 1000.0
NONE = float("nan")


def messages() -> Messages:
    """Two concentrators, two messages each, a second apart; the last one was never held."""
    return Messages(
        due=np.array([0.0, 1.0, 2.0, 3.0]),
        sent=np.array([0.1, 1.0, 2.0, 3.0]),
        acked=np.array([0.2, 1.1, 2.1, 3.5]),
        held=np.array([0.4, 1.3, 2.3, NONE]),
        stream=["a", "b", "a", "b"],
        sequence=np.array([1, 1, 2, 2]),
        readings=np.array([10, 10, 10, 0]),  # the last one was no reading
        address=np.zeros(0, np.uint64),
        used=np.zeros(0, np.int64),
        counts={},
    )


def seen() -> Seen:
    """Message a/1 lies in two partitions; partition 1 is committed later. a/1 came twice."""
    return Seen(
        checkpoints=[(1000.5, 0, 1), (1000.9, 1, 1), (1002.6, 0, 3), (1002.7, 1, 2)],
        records=[(0, 1, "a", 1), (1, 1, "a", 1), (0, 2, "b", 1), (0, 3, "a", 2), (1, 2, "a", 1), (1, 3, "b", 2)],
        events=[(1002.6, "low_balance", "A1", 4, 0, 3), (1002.6, "alert", "A1", 4, 0, 3)],
        charges=[(1003.0, "A1/4/1"), (1003.4, "A1/4/2")],
        notices=[(1003.2, "charged:key1:payer"), (1003.3, "charged:key1:holder"), (1002.7, "low_balance:A1:4:9")],
        orders={"key1": ("A1", 4)},
    )


def measured(name: str, **changed: object) -> list[float]:
    """Milliseconds, as the histogram has them."""
    what = seen()
    for field, value in changed.items():
        setattr(what, field, value)
    one = latencies(messages(), what, START_S, {"A1": "a"}).histograms[name]
    return [round(seconds * 1000) for _, seconds in one.curve()]


def test_a_balance_is_visible_with_the_last_of_its_partitions() -> None:
    assert measured("reading_to_balance") == pytest.approx([600, 900, 1600], rel=0.01)


def test_an_order_counts_from_the_reading_that_made_the_balance_low() -> None:
    """Offset 3 was in that checkpoint: a/2, due at 2.0; its first charge came at 3.0, its first message at 3.2."""
    assert measured("reading_to_order") == pytest.approx([1000], rel=0.01)
    assert measured("reading_to_notice") == pytest.approx([1200], rel=0.01)
    earlier = [(1000.5, "low_balance", "A1", 4, 0, 1)]
    assert measured("reading_to_order", events=earlier) == pytest.approx([3000], rel=0.01)


def test_what_was_never_seen_is_counted() -> None:
    what = seen()
    what.checkpoints, what.charges, what.notices = what.checkpoints[:2], [], []
    found = latencies(messages(), what, START_S, {"A1": "a"})
    assert found.waits == {"reading_to_balance": 2, "reading_to_order": 1, "reading_to_notice": 1}


def test_throughput_counts_readings_in_their_second() -> None:
    found = latencies(messages(), seen(), START_S, {})
    assert found.over_time["due"].tolist() == [10, 10, 10]
    assert found.over_time["balance"].tolist() == [10, 0, 20]


def test_without_a_daemon_there_is_what_the_wire_says() -> None:
    found = latencies(messages(), None, START_S, {})
    assert len(found.histograms["published"]) == 4
    assert len(found.histograms["held"]) == 3
    assert len(found.histograms["reading_to_balance"]) == 0
    assert table(found.histograms)[-1][2] == "-"


def test_objectives() -> None:
    found = latencies(messages(), None, START_S, {}).histograms
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
