"""Which registers count for an explanation: pictures of readings, replacements, rollovers, re-baselines, spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.views.registers import Point, Register, Seen, cut

OPENING = Point(100, 1000, 4, 1000, "opening")


def accepted(opening: Point, seen: list[Seen], digits: int) -> list[Point]:
    register = Register(opening, digits)
    register.follow(seen)
    return register.points


def _pairs(seen: list[Seen], digits: int = 0) -> list[tuple[int, int]]:
    return [(point.at_s, point.value) for point in accepted(OPENING, seen, digits)[1:]]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([Seen(200, 1100, 4), Seen(300, 1200, 4)], [(200, 1100), (300, 1200)]),
        ([Seen(200, 1100, 4), Seen(200, 1100, 4)], [(200, 1100)]),  # duplicate
        ([Seen(300, 1200, 4), Seen(200, 1100, 4)], [(300, 1200)]),  # late
        ([Seen(200, 1150, 1), Seen(200, 1100, 4)], [(200, 1100)]),  # a better quality replaces
        ([Seen(200, 1100, 4), Seen(200, 1150, 1)], [(200, 1100)]),
        ([Seen(100, 900, 4)], []),  # at the opening, no better
        ([Seen(200, 1150, 1), Seen(300, 1120, 4)], [(200, 1150), (300, 1120)]),  # an estimate was too high
        # re-baselined to 10 at 250: energy counts on from there
        (
            [Seen(200, 1100, 4), Seen(250, 10, 4, "rebaseline"), Seen(300, 40, 4)],
            [(200, 1100), (250, 1100), (300, 1130)],
        ),
        ([Seen(200, 1100, 4), Seen(200, 10, 4, "rebaseline"), Seen(300, 40, 4)], [(200, 1100), (300, 1130)]),
    ],
)
def test_what_counts(seen: list[Seen], expected: list[tuple[int, int]]) -> None:
    assert _pairs(seen) == expected


def test_a_rollover_counts_on() -> None:
    """One whole digit: after 9.900 comes 0.200, which is 0.3 more."""
    opening = Point(100, 9_900, 4, 9_900)
    points = accepted(opening, [Seen(200, 200, 4), Seen(300, 700, 4)], 1)
    assert [(p.value, p.shown, p.note) for p in points[1:]] == [(10_200, 200, "rollover"), (10_700, 700, "")]


def test_an_estimate_that_was_too_high_is_no_rollover() -> None:
    points = accepted(OPENING, [Seen(200, 1150, 1), Seen(300, 1120, 4)], 4)
    assert [(p.value, p.note) for p in points[1:]] == [(1150, ""), (1120, "")]


def test_a_span_is_split_where_the_register_runs_through_its_end() -> None:
    """Registers 0 at 0 and 10 at 4; the span is (1, 3]: floor(10 * 1/4) = 2 and floor(10 * 3/4) = 7.

    0 ----|---------|---- 4
          1         3
    """
    made = cut([Point(0, 0, 4, 0), Point(4, 10, 4, 10)], 1, 3)
    assert [(p.at_s, p.value) for p in made] == [(1, 2), (3, 7)]
    assert cut([Point(1, 5, 4, 5), Point(3, 9, 4, 9)], 1, 3) == [Point(1, 5, 4, 5), Point(3, 9, 4, 9)]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 10**6)), min_size=1, max_size=20),
    st.integers(101, 1000),
)
def test_neighbouring_spans_share_no_energy_and_lose_none(steps: list[tuple[int, int]], end_s: int) -> None:
    points = [OPENING]
    for seconds, energy in steps:
        last = points[-1]
        points.append(Point(last.at_s + seconds, last.value + energy, 4, 0))
    left, right = cut(points, 100, end_s), cut(points, end_s, 10**6)
    if left and right:
        assert left[0].value == OPENING.value
        assert left[-1].value == right[0].value
        assert right[-1].value == points[-1].value
