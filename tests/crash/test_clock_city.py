"""A living city, and a daemon whose clock jumps; fleet and gateway keep the right time. Then checker and audit.

Small jumps, forward and back, stop nothing. A leap ends the daemon before it writes, under load, in either direction;
it is not started before its clock is right. libfaketime tells the whole daemon the wrong time, where it can be had;
else the daemon's own `time.time` does.
"""

import time
from dataclasses import dataclass, field

import pytest

FASTER = 15_000.0
SMALL_S = 0.3  # of the machine's: more than an hour of the city's
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    # A clock that is 0.3 s behind refuses no reading; this city's hours must not either.
    "rating": {"future_tolerance_s": int(2 * SMALL_S * FASTER)},
}
HOUR, REFUSED = 3600, 4
# Seven hours back are before the city began, and its clock stands at its start then: so many real seconds back as it
# has lived. For that leap the limits are shorter.
LIVED_S, SHORT_S = 40, 10
SHORT = f"clock_leap_max_real_s = {SHORT_S}.0\nclock_behind_max_real_s = {SHORT_S}.0\n"
DEADLINE_S = 120.0
# libfaketime 0.9.10 refuses clock_nanosleep as Python's sleep calls it when the monotonic clock is to stay as it is.
TOLD = """
import select, sys, time
time.sleep = lambda real_s: select.select([], [], [], real_s)
from meterd.cli import run
sys.exit(run(sys.argv[1:]))
"""
OWN = """
import sys, time
from pathlib import Path
right, offset = time.time, Path(sys.argv[1])
time.time = lambda: right() + float(offset.read_text())
from meterd.cli import run
sys.exit(run(sys.argv[2:]))
"""


class Wrong:
    """A rig whose daemon's clock is wrong by what it is told."""

    def __init__(self, crash, rig, library):
        self.crash, self.rig, self.offset = crash, rig, rig.folder / "offset"
        self.program, self.environment = ("-c", OWN, str(self.offset)), {}
        if library is not None:
            self.program = ("-c", TOLD)
            self.environment = {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            self.environment |= {"FAKETIME_TIMESTAMP_FILE": str(self.offset), "LD_PRELOAD": str(library)}

    def by(self, offset_s):
        written = self.offset.with_suffix(".new")
        written.write_text(f"{offset_s:+.2f}")
        written.replace(self.offset)

    def start(self):
        self.rig.start_daemon(program=self.program, environment=self.environment)

    def refused(self):
        """What a start says that is expected to end by itself, and its code."""
        self.rig.start_daemon(program=self.program, environment=self.environment, wait=False)
        before = len(self.said())
        code = self.rig.wait_dead(DEADLINE_S)
        return code, self.said()[before:]

    def said(self):
        return (self.rig.folder / "daemon.log").read_text(errors="replace")

    def newest_s(self):
        return self.crash.asked(self.rig.data / "log.db", "SELECT coalesce(max(received_at_s), 0) FROM record")[0][0]

    def held(self):
        if not self.crash.outbox_stands(self.rig):
            return 0
        return sum(held for (held,) in self.crash.asked(self.rig.outbox, "SELECT held FROM stream"))

    def credited(self):
        found = self.crash.asked(self.rig.data / "ledger.db", "SELECT count(*) FROM order_ WHERE state = 'credited'")
        return found[0][0]

    def goes_on(self):
        """Until more readings are held, and more is paid, than now."""
        held, credited, until = self.held(), self.credited(), time.monotonic() + DEADLINE_S
        while self.held() <= held + 20 or self.credited() <= credited:
            assert self.rig.daemon.poll() is None, self.said()[-2000:]
            assert time.monotonic() < until, "the city stands still"
            time.sleep(0.05)


@dataclass
class Leap:
    """What came of one leap."""

    code: int
    said: str
    again: tuple[int, str]
    good_s: int  # the newest record's time when the leap came, and after both daemons had ended
    after_s: int


@dataclass
class Story:
    """What happened, in order."""

    pids: list[int] = field(default_factory=list)  # of the daemon after each small jump
    leaps: list[Leap] = field(default_factory=list)
    end: dict = field(default_factory=dict)


def leapt(wrong, offset_s):
    before, now_s = len(wrong.said()), wrong.newest_s()
    wrong.by(offset_s)
    code = wrong.rig.wait_dead(DEADLINE_S)
    wrong.crash.holds(wrong.crash.moment(wrong.rig))
    said = wrong.said()[before:]
    again = wrong.refused()  # as a supervisor would, at once
    return Leap(code, said, again, now_s, wrong.newest_s())


def back(wrong, lived_real_s):
    """Limits that a leap back can reach, and the leap."""
    assert wrong.rig.stop_daemon() == 0
    usual = wrong.rig.config.read_text()
    wrong.rig.config.write_text(usual.replace("[ingest]\n", f"[ingest]\n{SHORT}"))
    wrong.start()
    wrong.goes_on()
    time.sleep(max(0.0, lived_real_s - time.monotonic()))
    found = leapt(wrong, -7 * HOUR)
    wrong.rig.config.write_text(usual)
    return found


@pytest.fixture(scope="module")
def story(crash, faketime_if_there, tmp_path_factory):
    found = Story()
    told = crash.story(meters=40, days=400, seed=17, factor=FASTER, partitions=4, lead_real_s=3.0, settings=SETTINGS)
    with crash.city(tmp_path_factory.mktemp("clock"), told) as rig:
        rig.prepare()
        lived_real_s = time.monotonic() + told.lead_real_s + LIVED_S
        rig.start_gateway()
        wrong = Wrong(crash, rig, faketime_if_there)
        wrong.by(0)
        wrong.start()
        rig.start_fleet()
        wrong.goes_on()
        for offset_s in (SMALL_S, 0, -SMALL_S, 0):
            wrong.by(offset_s)
            wrong.goes_on()
            found.pids.append(rig.daemon.pid)
        found.leaps.append(leapt(wrong, 7 * HOUR))
        wrong.by(0)
        wrong.start()
        wrong.goes_on()
        found.leaps.append(back(wrong, lived_real_s))
        wrong.by(0)
        wrong.start()
        wrong.goes_on()
        found.end = crash.ends_at_zero(rig)
    return found


def test_small_jumps_stop_nothing(story):
    assert len(story.pids) == 4
    assert len(set(story.pids)) == 1


@pytest.mark.parametrize("which", [0, 1], ids=["forward", "back"])
def test_a_leap_ends_the_daemon_before_it_writes(story, which):
    leap = story.leaps[which]
    assert leap.code == REFUSED, leap.said[-2000:]
    assert "The clock leapt from" in leap.said
    assert "--accept-clock" in leap.said
    # Not a record of the wrong time: seven hours of the machine's are ten years of the city's.
    assert leap.good_s <= leap.after_s < leap.good_s + HOUR * FASTER


@pytest.mark.parametrize("which", [0, 1], ids=["forward", "back"])
def test_it_is_not_started_before_the_clock_is_right(story, which):
    code, said = story.leaps[which].again
    assert code == REFUSED, said[-2000:]
    assert "the last daemon ended because the clock leapt" in said
    assert "Traceback" not in said


def test_nothing_is_lost(story):
    assert story.end["checked"]["used_wh"] == story.end["checked"]["billed_wh"] > 0
    assert story.end["audited"]["counts"]["charges"] == story.end["audited"]["counts"]["credits"] > 0
