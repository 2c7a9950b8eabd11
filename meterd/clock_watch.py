"""I/O (one small file): the business clock is watched, because a leap cannot be taken back.

One tick dated 2039 closes every bill until then, and no correction undoes it. So nobody is told a time that left the
monotonic clock behind: `WatchedClock.now_s` raises, whoever asked ends, and the daemon with it, before anything is
written under that time. At a start the log's newest record is the witness.

All limits are the machine's seconds: a scaled clock's business seconds are divided by its factor, and it may stand
still before its origin. The watch compares with the start, so that small steps (NTP) pass and many small ones do not
add up unnoticed. A stop for a leap leaves a file: a supervisor that starts the daemon again must not bring it in
under the wider limit that is meant for a daemon which has been off for a month.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from config.clock import Clock, ClockLeapt
from config.settings import IngestSettings
from ledger.port import StartRefused
from rating.readings import ReadingLog

WHAT_TO_DO: Final = (
    "Put the machine's clock right (NTP) and start again. If it is right now and was wrong before:"
    " `meterd run --accept-clock`"
)
_log = structlog.get_logger("clock")


class WatchedClock:
    """A `Clock` that raises `ClockLeapt` rather than tell a time that leapt since it was made."""

    def __init__(self, clock: Clock, leap_max_real_s: float, on_leap: Callable[[int, int], None]) -> None:
        self._clock, self._leap_max_real_s, self._on_leap = clock, leap_max_real_s, on_leap
        self._from_s, self._from_real_s = clock.now_s(), clock.monotonic_s()
        self.last_s = self._from_s  # the newest time that was told
        self.offset_real_s = 0.0
        self.leapt: str | None = None

    def now_s(self) -> int:
        now_s = self._clock.now_s()
        passed_real_s = self._clock.monotonic_s() - self._from_real_s
        offset_real_s = self._clock.real_seconds(now_s - self._from_s) - passed_real_s
        self.offset_real_s = offset_real_s
        if abs(offset_real_s) > self._leap_max_real_s:
            self._refuse(now_s)
        self.last_s = now_s
        return now_s

    def _refuse(self, now_s: int) -> None:
        if self.leapt is None:
            self.leapt = f"The clock leapt from {_iso(self.last_s)} to {_iso(now_s)}. {WHAT_TO_DO}"
            _log.critical("the clock leapt", before=_iso(self.last_s), after=_iso(now_s))
            self._on_leap(self.last_s, now_s)
        raise ClockLeapt(self.leapt)

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def real_seconds(self, business_seconds: float) -> float:
        return self._clock.real_seconds(business_seconds)


def note_leap(path: Path, before_s: int, after_s: int) -> None:
    """Leave word for the next start; a disk that is full does not hinder the stop."""
    with contextlib.suppress(OSError):
        path.write_text(json.dumps({"before_s": before_s, "after_s": after_s}) + "\n")


def newest_s(log: ReadingLog, rated: Iterable[int], partitions: int) -> int:
    """The newest time that is in the log, or was (`rated`: how far each partition's checkpoint is); 0: none."""
    found = max(rated, default=0)
    for partition in range(partitions):
        _, last = log.bounds(partition)
        for stored in log.read(partition, last - 1, 1) if last else ():
            found = max(found, stored.record.received_at_s)
    return found


def check_clock(clock: Clock, newest: int, settings: IngestSettings, left: Path, *, accept: bool) -> None:
    """`StartRefused` when the clock cannot be right by what the log has seen; else `left` is removed."""
    now_s = clock.now_s()
    ahead_max_real_s = settings.clock_leap_max_real_s if left.exists() else settings.clock_ahead_max_real_s
    offset_real_s = clock.real_seconds(now_s - newest)
    wrong = offset_real_s < -settings.clock_behind_max_real_s or offset_real_s > ahead_max_real_s
    if newest and wrong:
        told = f"The clock says {_iso(now_s)}, and the log's newest record is of {_iso(newest)}"
        if left.exists():
            told += "; the last daemon ended because the clock leapt"
        if not accept:
            raise StartRefused(told, WHAT_TO_DO)
        _log.warning("the clock is taken as it is", told=told)
    left.unlink(missing_ok=True)


def _iso(at_s: int) -> str:
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{at_s} s"
