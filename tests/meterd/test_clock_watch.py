"""The watch over the business clock: what passes, what ends the daemon, what refuses a start."""

from __future__ import annotations

import json

import pytest

from config.clock import ClockLeapt, ManualClock, ScaledClock
from config.settings import IngestSettings
from ingest.log_memory import MemoryLog
from ledger.port import StartRefused
from meterd.clock_watch import WatchedClock, check_clock, newest_s, note_leap
from rating.readings import Record, RecordKind

HOUR, DAY = 3600, 86_400
NOON_S = 1_782_864_000
SETTINGS = IngestSettings()


class Machine:
    """A machine whose clock of the day and monotonic clock are set apart by hand."""

    def __init__(self, factor: float = 1.0, at_s: int = NOON_S) -> None:
        self.at_s, self.real_s, self.factor = at_s, 1000.0, factor

    def now_s(self) -> int:
        return self.at_s

    def monotonic_s(self) -> float:
        return self.real_s

    def real_seconds(self, business_seconds: float) -> float:
        return business_seconds / self.factor

    def pass_(self, real_s: float, leap_real_s: float = 0.0) -> None:
        self.real_s += real_s
        self.at_s += round((real_s + leap_real_s) * self.factor)


def watched(machine: Machine) -> tuple[WatchedClock, list[tuple[int, int]]]:
    leaps: list[tuple[int, int]] = []
    clock = WatchedClock(machine, SETTINGS.clock_leap_max_real_s, lambda a, b: leaps.append((a, b)))
    return clock, leaps


@pytest.mark.parametrize("factor", [1.0, 43_200.0])
@pytest.mark.parametrize("step_real_s", [-HOUR, -30, -1, 1, 30, 5 * HOUR])
def test_small_steps_and_long_days_pass(factor: float, step_real_s: float) -> None:
    machine = Machine(factor)
    clock, leaps = watched(machine)
    machine.pass_(400 * DAY)
    machine.pass_(0.0, step_real_s)
    assert clock.now_s() == machine.at_s
    assert clock.offset_real_s == pytest.approx(step_real_s, abs=1)
    assert (clock.leapt, leaps) == (None, [])


@pytest.mark.parametrize("factor", [1.0, 60.0])
@pytest.mark.parametrize("step_real_s", [-7 * HOUR, 7 * HOUR, 4580 * DAY])
def test_a_leap_is_told_to_nobody(factor: float, step_real_s: float) -> None:
    machine = Machine(factor)
    clock, leaps = watched(machine)
    machine.pass_(60)
    before = clock.now_s()
    machine.pass_(60, step_real_s)
    for _ in range(2):
        with pytest.raises(ClockLeapt, match="--accept-clock"):
            clock.now_s()
    assert leaps == [(before, machine.at_s)]
    assert clock.leapt is not None
    assert clock.monotonic_s() == machine.real_s  # deadlines of the stop go on


def test_small_steps_do_not_add_up_unnoticed() -> None:
    machine = Machine()
    clock, _ = watched(machine)
    machine.pass_(60, 5 * HOUR)
    clock.now_s()
    machine.pass_(60, 5 * HOUR)
    with pytest.raises(ClockLeapt):
        clock.now_s()


def test_other_clocks_are_never_suspected() -> None:
    manual = ManualClock(NOON_S)
    clock, _ = WatchedClock(manual, 60.0, note_nothing), manual.advance(10**9)
    assert clock.now_s() == NOON_S + 10**9
    still = ScaledClock.starting_in(50.0, NOON_S, 43_200.0)  # stands for 50 s: 25 business days
    assert WatchedClock(still, 60.0, note_nothing).now_s() == NOON_S


def note_nothing(_before: int, _after: int) -> None:
    """Where no leap is expected."""


def check(at_s: int, left, newest: int = NOON_S, factor: float = 1.0, *, accept: bool = False) -> None:
    check_clock(Machine(factor, at_s), newest, SETTINGS, left, accept=accept)


@pytest.mark.parametrize("offset_s", [-HOUR, -5, 0, 34 * DAY])
def test_a_start_is_good_within_the_limits(tmp_path, offset_s: int) -> None:
    check(NOON_S + offset_s, tmp_path / "leap")


def test_a_first_start_has_no_witness(tmp_path) -> None:
    check(NOON_S, tmp_path / "leap", newest=0)


@pytest.mark.parametrize("offset_s", [-HOUR - 1, -20 * 365 * DAY, 35 * DAY + 1, 13 * 365 * DAY])
def test_a_start_with_a_wrong_clock_is_refused_until_it_is_accepted(tmp_path, offset_s: int) -> None:
    with pytest.raises(StartRefused, match=r"2026-07-01T00:00:00Z.*--accept-clock"):
        check(NOON_S + offset_s, tmp_path / "leap")
    check(NOON_S + offset_s, tmp_path / "leap", accept=True)


def test_limits_of_a_scaled_clock_are_the_machines_seconds(tmp_path) -> None:
    check(NOON_S + 30 * DAY * 60, tmp_path / "leap", factor=60.0)
    with pytest.raises(StartRefused):
        check(NOON_S + 36 * DAY * 60, tmp_path / "leap", factor=60.0)


def test_after_a_leap_the_narrow_limit_holds_until_a_good_start(tmp_path) -> None:
    left = tmp_path / "leap"
    note_leap(left, NOON_S, NOON_S + 20 * DAY)
    assert json.loads(left.read_text())["before_s"] == NOON_S
    for _ in range(2):
        with pytest.raises(StartRefused, match="ended because the clock leapt"):
            check(NOON_S + 20 * DAY, left)
    check(NOON_S + 2 * HOUR, left)  # put right
    assert not left.exists()
    check(NOON_S + 20 * DAY, left)


def test_a_disk_that_is_full_does_not_hinder_the_stop(tmp_path) -> None:
    note_leap(tmp_path / "missing" / "leap", 1, 2)


def test_the_newest_is_of_any_partition_or_of_what_was_pruned() -> None:
    log = MemoryLog()
    assert newest_s(log, [], 3) == 0
    log.append([Record(RecordKind.TICK, p, NOON_S + at, "", "", -1, b"") for p, at in ((0, 5), (2, 9), (0, 7))])
    assert newest_s(log, [NOON_S], 3) == NOON_S + 9
    log.prune(2, 2)
    assert newest_s(log, [NOON_S + 9, NOON_S + 7], 3) == NOON_S + 9
