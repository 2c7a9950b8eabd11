"""Marks against a set, and the life of a gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.sequences import AHEAD_MAX, Lost, Mark, Resend, Sequences, ahead_of, delivered, gaps, taken

START = Mark("C1", "a", "0", 0)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=60))
def test_a_mark_is_the_set_of_what_came(pieces):
    mark, came = START, set()
    for first, more in pieces:
        mark = delivered(mark, first, first + more)
        came |= set(range(first, first + more + 1))
        contiguous = next(n for n in range(100) if n + 1 not in came)
        assert mark.contiguous == contiguous
        assert all(taken(mark, n) == (n in came) for n in range(1, 70))
        missing = {n for a, b in gaps(mark) for n in range(a, b + 1)}
        assert missing == (set(range(1, max(came) + 1)) - came)
        assert ahead_of(mark.ahead_text()) == mark.ahead


def sequences_with(*sequence: int) -> Sequences:
    sequences = Sequences(resend_after_s=60, resend_times=2)
    for n in sequence:
        sequences.commit(delivered(sequences.of("C1", "a", "0"), n, n), 0)
    return sequences


def test_a_gap_is_asked_for_and_then_declared_lost():
    #   1 2 . . 5 6      asked at 60 and 120, lost at 180
    sequences = sequences_with(1, 2, 5, 6)
    assert sequences.of("C1", "a", "0").contiguous == 2
    assert sequences.due(59) == []
    mark = sequences.marks[("C1", "a")]
    assert sequences.due(60) == [Resend(mark, 3, 4)]
    assert sequences.due(61) == []
    assert sequences.due(120) == [Resend(mark, 3, 4)]
    assert sequences.due(180) == [Lost(mark, 3, 4)]
    assert sequences.due(180) == [Lost(mark, 3, 4)]  # until the record that says so is durable
    sequences.commit(delivered(mark, 3, 4), 180)
    assert sequences.of("C1", "a", "0").contiguous == 6
    assert (sequences.due(999), sequences.open_gaps()) == ([], 0)


def test_nobody_is_asked_who_cannot_hear():
    sequences = sequences_with(1, 3)
    assert [sequences.due(n, lambda shard: shard != "0") for n in range(60, 600, 60)] == [[]] * 9
    assert [type(d) for d in sequences.due(600)] == [Resend]


def test_what_comes_late_shrinks_the_gap_and_keeps_its_timer():
    sequences = sequences_with(1, 5)
    assert len(sequences.due(60)) == 1
    sequences.commit(delivered(sequences.marks[("C1", "a")], 3, 3), 70)
    assert [(d.first, d.last, type(d)) for d in sequences.due(120)] == [(2, 2, Resend), (4, 4, Resend)]
    assert [(d.first, d.last, type(d)) for d in sequences.due(180)] == [(2, 2, Lost), (4, 4, Lost)]


def test_too_many_gaps_give_up_the_first():
    sequences = sequences_with(*range(2, 2 * AHEAD_MAX + 6, 2))
    assert [(d.first, type(d)) for d in sequences.due(1)] == [(1, Lost)]


def test_a_leap_costs_one_range():
    sequences = sequences_with(1, 2**53 - 1)
    assert sequences.marks[("C1", "a")].ahead == ((2**53 - 1, 2**53 - 1),)
    assert sequences.open_gaps() == 1


def test_marks_load_as_they_were_saved():
    saved = list(sequences_with(1, 2, 5).marks.values())
    sequences = Sequences(60, 2)
    sequences.load(saved, 1000)
    assert sequences.of("C1", "a", "0") == saved[0]
    assert sequences.due(1059) == []
    assert [type(d) for d in sequences.due(1060)] == [Resend]
