"""Schedules: how much is due when, nothing twice in one second, the same by seed, and parts that make the whole."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.load.asked import Test as Asked
from simulators.load.asked import begin_s
from simulators.load.schedule import (
    BACKFILL_S,
    CURVE_MAX,
    FREEZE_AGE_S,
    PATTERNS,
    QUARTER_S,
    NoSchedule,
    Wish,
    midnight,
    schedule,
)

EVEN = Wish("steady", meters=10_000, per_message=100, rate=500.0, seconds=60.0)


def wish(pattern: str) -> Wish:
    return Wish(pattern, EVEN.meters, EVEN.per_message, EVEN.rate, EVEN.seconds)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_every_pattern_keeps(pattern: str) -> None:
    made, again = schedule(wish(pattern)), schedule(wish(pattern))
    assert (np.diff(made.due_s) >= 0).all()
    assert made.due_s[0] >= 0
    assert made.due_s[-1] < EVEN.seconds
    assert set(made.sender.tolist()) == set(range(EVEN.senders))
    assert np.array_equal(made.due_s, again.due_s)
    assert np.array_equal(made.sender, again.sender)
    assert (made.read_s <= made.due_s).all()
    curve = np.array([made.of_curve(place) for place in range(len(made))])
    assert curve.any() == (pattern == "midnight")
    for one in range(EVEN.senders):  # a register is read once at an instant, and in order, but for a curve's
        assert (np.diff(made.read_s[~curve & (made.sender == one)]) > 0).all()


@pytest.mark.parametrize("pattern", ["steady", "ramp", "morning", "reconnect"])
def test_the_rate_is_kept_on_average(pattern: str) -> None:
    made = schedule(wish(pattern))
    assert len(made) * EVEN.per_message == EVEN.rate * EVEN.seconds


def share(pattern: str, begin: float, end: float) -> float:
    """Of a run's messages between two parts of it, as a multiple of what an even rate has there."""
    due = schedule(wish(pattern)).due_s / EVEN.seconds
    return float(((due >= begin) & (due < end)).mean() / (end - begin))


def test_shapes() -> None:
    assert share("steady", 0.0, 0.1) == pytest.approx(1.0, abs=0.05)
    assert share("ramp", 0.0, 0.1) == pytest.approx(0.1, abs=0.05)
    assert share("ramp", 0.9, 1.0) == pytest.approx(1.9, abs=0.05)
    assert share("morning", 0.0, 0.1) == pytest.approx(0.5, abs=0.05)
    assert share("morning", 0.45, 0.55) == pytest.approx(2.0, abs=0.1)


def test_at_midnight_every_meter_is_due_at_one_instant() -> None:
    made = schedule(wish("midnight"))
    times, counts = np.unique(made.due_s, return_counts=True)
    assert counts.max() == EVEN.senders
    assert times[counts.argmax()] == 6.5
    frozen = made.due_s == 6.5
    assert set(made.read_s[frozen].tolist()) == {6 - FREEZE_AGE_S}
    assert len(made) * EVEN.per_message == EVEN.rate * EVEN.seconds + EVEN.meters  # the freeze comes beside the rate


@pytest.mark.parametrize(
    ("rate", "quarters", "rest"),
    [(100.0, 0, 53), (500.0, 2, 67), (20_000.0, CURVE_MAX, 1099)],
    ids=["no room for a quarter hour", "some", "a day, and room is left"],
)
def test_after_the_freeze_comes_as_much_of_the_curve_as_there_is_room_for(
    rate: float, quarters: int, rest: int
) -> None:
    asked = Wish("midnight", EVEN.meters, EVEN.per_message, rate, EVEN.seconds)
    made, night = schedule(asked), midnight(asked)
    assert (night.quarters, night.rest) == (quarters, rest)
    curve = np.array([made.of_curve(place) for place in range(len(made))])
    assert curve.sum() == quarters * EVEN.senders
    newest_s = night.read_s - QUARTER_S * np.arange(quarters)[::-1]
    senders = made.sender[curve].reshape(EVEN.senders, quarters)
    assert (senders == senders[:, :1]).all()  # concentrator by concentrator
    assert (made.read_s[curve].reshape(EVEN.senders, quarters) == newest_s).all()
    before, after = made.due_s < night.due_s, ~curve & (made.due_s > night.due_s)
    assert after.sum() == rest
    assert (made.read_s[after] == np.floor(made.due_s[after])).all()
    assert not quarters or not rest or made.due_s[curve].max() < made.due_s[after].min()
    assert ((night.read_s - made.read_s[before]) % QUARTER_S == 0).all()
    assert (made.read_s[before] < night.read_s).all()
    assert begin_s(asked) == min(made.read_s) - QUARTER_S


def test_only_what_is_read_by_the_second_is_refused_for_being_read_too_often() -> None:
    Asked(Wish("midnight", 600, 20, 600.0, 6.0)).check()
    with pytest.raises(NoSchedule, match="are read every"):
        Asked(Wish("midnight", 600, 20, 6000.0, 60.0)).check()
    with pytest.raises(NoSchedule, match="are read every"):
        Asked(Wish("steady", 600, 20, 600.0, 6.0)).check()


def test_a_backlog_comes_at_once_and_its_senders_were_silent() -> None:
    made = schedule(wish("backfill"))
    late = made.read_s < 0
    quarters = BACKFILL_S // QUARTER_S
    away = np.unique(made.sender[late])
    assert len(away) == EVEN.senders // 10
    back_s = EVEN.seconds / 5
    assert (made.due_s[late] == back_s).all()
    for one in away:
        mine = made.sender == one
        assert made.due_s[mine].min() == back_s
        assert (mine & (made.due_s == back_s)).sum() == quarters


def test_a_reconnect_cuts_everything_half_way() -> None:
    assert schedule(wish("reconnect")).cuts_s == (30.0,)
    assert schedule(EVEN).cuts_s == ()


def test_parts_make_the_whole() -> None:
    whole = schedule(EVEN)
    parts = [whole.part(number, 3) for number in range(3)]
    assert sum(map(len, parts)) == len(whole)
    assert [set((part.sender % 3).tolist()) for part in parts] == [{0}, {1}, {2}]
    night = schedule(wish("midnight"))
    of_curve = [part.of_curve(place) for part in (night, night.part(0, 1)) for place in range(len(night))]
    assert of_curve[: len(night)] == of_curve[len(night) :]


@pytest.mark.parametrize(
    "bad",
    [
        Wish("sideways", 10, 1, 1.0, 1.0),
        Wish("steady", 0, 1, 1.0, 1.0),
        Wish("steady", 10, 1, 0.0, 1.0),
        Wish("backfill", 10, 10, 1.0, 60.0),
    ],
)
def test_what_cannot_be_is_refused(bad: Wish) -> None:
    with pytest.raises(NoSchedule):
        schedule(bad)
