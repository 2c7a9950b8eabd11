"""Which checkpoint rows go: a table by hand, and the marks that are left of them."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.pages import Damaged
from ledger.thinning import COUNT_MAX, HOUR_S, Marks, Rows, due, going, unpack

H = HOUR_S


def rows(*told: tuple[int, int, int]) -> Rows:
    """(id, partition, as_of_s); the offset is ten times the id."""
    table = np.array(told, np.int64).reshape(-1, 3)
    return Rows(table[:, 0], table[:, 1], table[:, 0] * 10, table[:, 2])


@pytest.mark.parametrize(
    ("newest_s", "keep_s", "count"),
    [
        ({0: 4 * H, 1: 4 * H}, H, 4),  # hours 0 to 2 are over by an hour
        ({0: 4 * H - 1, 1: 4 * H}, H, 3),  # a second is missing for partition 0's hour 2
        ({0: 4 * H, 1: 2 * H - 1}, H, 1),  # partition 1 lags, and what comes after its row waits with it
        ({0: 9 * H, 1: 9 * H}, 9 * H, 0),  # the hour must be over, not only begun
        ({0: 9 * H, 1: 9 * H}, 1, 5),
    ],
)
def test_an_hour_is_due_when_all_of_it_lies_further_back(newest_s: dict[int, int], keep_s: int, count: int) -> None:
    assert due(rows((1, 0, 0), (2, 1, 10), (3, 0, H), (5, 0, 3 * H - 1), (6, 1, 4 * H)), newest_s, keep_s) == count


TABLE = rows((1, 0, 5), (2, 0, 6), (3, 1, 7), (4, 0, H - 1), (6, 0, H), (7, 1, H), (8, 1, H + 1), (9, 0, H + 9))


@pytest.mark.parametrize(
    ("following_s", "stay", "gone"),
    [
        ({0: 2 * H, 1: 2 * H}, (), [1, 2, 6, 7]),  # the last of each hour and partition: 4, 3, 9, 8
        ({0: H + 10, 1: 2 * H}, (), [1, 2, 6, 9, 7]),  # the hour of partition 0 goes on in rows that come later
        ({0: 2 * H, 1: 2 * H}, (2, 7, 77), [1, 6]),
        ({0: 5 * H, 1: 5 * H}, range(100), []),
    ],
)
def test_all_but_the_last_of_an_hour_go(following_s: dict[int, int], stay: range, gone: list[int]) -> None:
    marks = going(TABLE, following_s, stay)
    assert marks.id.tolist() == gone
    assert marks.offset.tolist() == [10 * id_ for id_ in gone]
    partition_of = dict(zip(TABLE.id.tolist(), TABLE.partition.tolist(), strict=True))
    assert marks.partition.tolist() == [partition_of[id_] for id_ in gone]


@given(st.lists(st.tuples(*[st.integers(0, 2**62)] * 3), min_size=1, max_size=50))
def test_marks_come_back_from_their_bytes(told: list[tuple[int, int, int]]) -> None:
    marks = Marks(*np.array(told, np.int64).T)
    found = unpack(marks.pack(), len(told))
    assert [found.partition.tolist(), found.id.tolist(), found.offset.tolist()] == [
        list(c) for c in zip(*told, strict=True)
    ]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (Marks(*np.ones((3, 4), np.int64)).pack(), 5),
        (Marks(*np.ones((3, 4), np.int64)).pack(), 3),
        (b"not deflated", 1),
        (zlib.compress(b""), 0),
        (zlib.compress(bytes(10**6)), COUNT_MAX + 1),
    ],
)
def test_bytes_that_are_not_so_many_marks_are_damaged(body: bytes, count: int) -> None:
    with pytest.raises(Damaged, match="a page of"):
        unpack(body, count)


def test_marks_of_a_busy_city_take_a_few_bytes_each() -> None:
    """16 partitions, each checkpoint some records after the one before."""
    rng = np.random.default_rng(1)
    steps = rng.integers(1, 200, (16, 125)).cumsum(axis=1)
    ids = np.arange(2000).reshape(125, 16).T + 10**9
    marks = Marks(np.repeat(np.arange(16), 125), ids.ravel(), (steps + 10**8).ravel())
    assert len(marks.pack()) < 2000 * 2
