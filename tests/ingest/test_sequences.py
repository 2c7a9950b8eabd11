"""Marks against a set, and the life of a gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.sequences import (
    AHEAD_MAX,
    DUE_MAX,
    LONE_GAP_MAX,
    Lost,
    Mark,
    Resend,
    Sequences,
    ahead_of,
    delivered,
    gaps,
    missing,
    taken,
)

START = Mark("C1", "a", "0", 0)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=60))
def test_a_mark_is_the_set_of_what_came(pieces):
    mark, came = START, set()
    for first, more in pieces:
        mark = delivered(mark, first, first + more, [])
        came |= set(range(first, first + more + 1))
        contiguous = next(n for n in range(100) if n + 1 not in came)
        assert mark.contiguous == contiguous
        assert all(taken(mark, n) == (n in came) for n in range(1, 70))
        assert all(missing(mark, n, n + 3) == came.isdisjoint(range(n, n + 4)) for n in range(1, 70))
        absent = {n for a, b in gaps(mark) for n in range(a, b + 1)}
        assert absent == (set(range(1, max(came) + 1)) - came)
        assert ahead_of(mark.ahead_text()) == mark.ahead


def sequences_with(*sequence: int) -> Sequences:
    sequences = Sequences(resend_after_s=60, resend_times=2)
    for n in sequence:
        sequences.commit(delivered(sequences.of("C1", "a", "0"), n, n, []), 0)
    return sequences


def spoke(sequences: Sequences, now_s: int) -> None:
    """A message came that moved no mark."""
    sequences.commit(sequences.marks[("C1", "a")], now_s)


def test_one_that_is_silent_is_asked_and_loses_nothing():
    #   1 . 3      away from 61 on; back at 1000 with 2 still in its outbox
    sequences = sequences_with(1, 3)
    assert [type(d) for n in range(60, 1000, 60) for d in sequences.due(n)] == [Resend] * 16
    spoke(sequences, 1000)
    assert [type(d) for d in sequences.due(1020)] == [Lost]  # what it has, it would have sent before that


def test_a_gap_is_asked_for_and_then_declared_lost():
    #   1 2 . . 5 6      asked at 60 and 120, lost at 180; it speaks meanwhile
    sequences = sequences_with(1, 2, 5, 6)
    assert sequences.of("C1", "a", "0").contiguous == 2
    assert sequences.due(59) == []
    mark = sequences.marks[("C1", "a")]
    assert sequences.due(60) == [Resend(mark, 3, 4)]
    spoke(sequences, 61)
    assert sequences.due(61) == []
    assert sequences.due(120) == [Resend(mark, 3, 4)]
    spoke(sequences, 121)
    assert sequences.due(180) == [Lost(mark, 3, 4)]
    assert sequences.due(180) == [Lost(mark, 3, 4)]  # until the record that says so is durable
    sequences.commit(delivered(mark, 3, 4, []), 180)
    assert sequences.of("C1", "a", "0").contiguous == 6
    assert (sequences.due(999), sequences.open_gaps()) == ([], 0)


def test_nobody_is_asked_who_cannot_hear():
    sequences = sequences_with(1, 3)
    assert [sequences.due(n, lambda shard: shard != "0") for n in range(60, 600, 60)] == [[]] * 9
    assert [type(d) for d in sequences.due(600)] == [Resend]


def test_a_gap_keeps_its_timer_below_what_comes_late_and_starts_afresh_above_it():
    #   1 . 3 . 5      3 came at 70: nobody sends 2 any more; 4 may be the next one
    sequences = sequences_with(1, 5)
    assert len(sequences.due(60)) == 1
    sequences.commit(delivered(sequences.marks[("C1", "a")], 3, 3, []), 70)
    assert [(d.first, type(d)) for d in sequences.due(120)] == [(2, Resend)]
    assert [(d.first, type(d)) for d in sequences.due(130)] == [(4, Resend)]
    spoke(sequences, 140)
    assert [(d.first, type(d)) for d in sequences.due(190)] == [(2, Lost), (4, Resend)]


def test_what_is_being_filled_in_order_is_not_declared_lost():
    sequences = sequences_with(1, 40, 41)
    for n in range(2, 40):  # slower than a resend, but steady
        assert Lost not in {type(d) for d in sequences.due(100 * n)}
        sequences.commit(delivered(sequences.marks[("C1", "a")], n, n, []), 100 * n)
    assert sequences.of("C1", "a", "0").contiguous == 41


def test_a_gap_too_many_gives_up_the_first_in_the_same_step():
    mark, given_up = START, []
    for n in range(2, 2 * AHEAD_MAX + 20, 2):
        before, mark = mark, delivered(mark, n, n, given_up)
        assert len(mark.ahead) <= AHEAD_MAX
        if len(given_up) == 1 and before.contiguous == 0:
            assert (n, given_up[0]) == (2 * AHEAD_MAX + 2, Lost(before, 1, 1))
            assert (before.contiguous, mark.contiguous) == (0, 2)
    assert [(lost.first, lost.last) for lost in given_up] == [(n, n) for n in range(1, 19, 2)]


def test_a_number_below_the_ranges_is_the_oldest_itself():
    mark = sequences_with(*range(4, 2 * AHEAD_MAX + 4, 2)).marks[("C1", "a")]
    assert len(mark.ahead) == AHEAD_MAX
    given_up: list[Lost] = []
    mark = delivered(mark, 2, 2, given_up)
    assert [(lost.first, lost.last) for lost in given_up] == [(1, 1)]
    assert (mark.contiguous, mark.ahead[0], len(mark.ahead)) == (2, (4, 4), AHEAD_MAX)


def lost_by(sequences: Sequences, until_s: int) -> list[tuple[int, int]]:
    """What has been declared lost when `until_s` comes, looked at every minute."""
    found = []
    for now_s in range(60, until_s, 60):
        spoke(sequences, now_s)
        for due in sequences.due(now_s):
            if isinstance(due, Lost):
                found.append((due.first, due.last))
                mark = sequences.marks[("C1", "a")]
                sequences.commit(delivered(mark, due.first, due.last, []), now_s)
    return found


def test_a_lone_number_far_ahead_loses_nothing():
    sequences = sequences_with(1, 2, 3, 50_000)
    assert lost_by(sequences, 6000) == []
    assert sequences.of("C1", "a", "0").contiguous == 3
    for n in range(4, 50_000):  # the real concentrator goes on, and in the end it is there
        sequences.commit(delivered(sequences.marks[("C1", "a")], n, n, []), 6000)
    assert sequences.of("C1", "a", "0").contiguous == 50_000


def test_a_second_number_or_a_short_gap_is_evidence():
    assert lost_by(sequences_with(1, 50_000, 50_001), 600) == [(2, 49_999)]
    near = 50_001 + LONE_GAP_MAX
    assert lost_by(sequences_with(1, 50_000, near), 600) == [(2, 49_999), (50_001, near - 1)]
    assert lost_by(sequences_with(1, 50_000, near + 1), 600) == []
    assert lost_by(sequences_with(1, LONE_GAP_MAX + 2), 600) == [(2, LONE_GAP_MAX + 1)]
    assert lost_by(sequences_with(1, LONE_GAP_MAX + 3), 600) == []


def test_a_look_is_bounded_and_the_next_ones_go_on():
    sequences = Sequences(60, 5)
    for stream in range(8):
        mark = Mark("C1", str(stream), "0", 0, tuple((n, n) for n in range(2, 2 * AHEAD_MAX + 2, 2)))
        sequences.commit(mark, 0)
    assert sequences.open_gaps() == 8 * AHEAD_MAX
    looks = [sequences.due(60) for _ in range(3)]
    assert [len(look) for look in looks] == [DUE_MAX, DUE_MAX, 0]
    assert len({(due.mark.stream, due.first) for look in looks for due in look}) == 8 * AHEAD_MAX


def test_open_gaps_and_streams_are_counted_as_they_come_and_go():
    sequences = sequences_with(1, 3, 5)
    assert (sequences.open_gaps(), sequences.streams["C1"]) == (2, 1)
    sequences.commit(delivered(sequences.marks[("C1", "a")], 2, 2, []), 0)
    assert sequences.open_gaps() == 1
    sequences.commit(delivered(sequences.marks[("C1", "a")], 4, 4, []), 0)
    sequences.commit(Mark("C1", "b", "0", 4), 0)
    assert (sequences.open_gaps(), sequences.streams["C1"]) == (0, 2)


def test_marks_load_as_they_were_saved():
    saved = list(sequences_with(1, 2, 5).marks.values())
    sequences = Sequences(60, 2)
    sequences.load(saved, 1000)
    assert sequences.of("C1", "a", "0") == saved[0]
    assert sequences.due(1059) == []
    assert [type(d) for d in sequences.due(1060)] == [Resend]
