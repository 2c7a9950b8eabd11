"""Pure: one concentrator's reading round as a message: the good readings, and the bad ones that faults put beside.

A bad reading stands at an instant between two intervals, or behind the good one at the same instant, with a
value that no sane receiver takes for energy; the good readings of the round are always there too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.reasons import Reason
from config.units import REGISTER_CODE, Quality, Register
from rating.readings import Readings
from simulators.faults import DAY_S, FrameFault, Plan
from simulators.fleet_load import Load

Row = tuple[int, int, int, int, int]  # address, value, read_at_s, register, quality

FUTURE_S: Final = 30 * DAY_S
STRAGGLER_DAYS: Final = 5  # a replaced meter that is still read, once, when the change must be known
PLAUSIBLE_WINDOW_S: Final = 3 * DAY_S  # settings.rating.plausible_window_s
CLOCK_2000_S: Final = 946_684_800 + 86_400
STRANGER: Final = 990_000_000_000  # addresses from here on are in no registry that this project makes
RESET_ABOVE_WH: Final = 1_100_000  # a register falls to 0 by a reset only from well above 1,000 units
DECREASE_WH: Final = 5_000


@dataclass(frozen=True, slots=True)
class Expected:
    """An exception that a message should raise."""

    reason: Reason
    meter: str


@dataclass(slots=True)
class Frame:
    """A message's readings, the good ones' rows of the load, and what is wrong in it."""

    readings: Readings
    rows: tuple[int, int]  # [first, end) of the load's channels
    absent: tuple[int, ...] = ()  # rows of those that are not in it
    expected: list[Expected] = field(default_factory=list)
    made: list[str] = field(default_factory=list)  # classes of bad readings that are in it


class FrameMaker:
    """Makes the frames of a run; holds what the plan asks for at certain rounds."""

    def __init__(self, load: Load, plan: Plan) -> None:
        self._load = load
        self._plan = plan
        self._names = list(load.lists)
        self._quality = np.full(len(load.channels), int(Quality.A), np.uint8)
        self._revived: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._stragglers: dict[tuple[int, int], list[int]] = defaultdict(list)
        place_of = {name: place for place, name in enumerate(self._names)}
        change_of = {change.old_meter: change.interval for change in plan.changeouts}
        later = STRAGGLER_DAYS * DAY_S // load.interval_s
        for row, channel in enumerate(load.channels):
            place = place_of[channel.concentrator]
            if channel.meter in plan.dead and channel.power_max_w:
                self._revived[place, plan.dead[channel.meter][1]].append(row)
            if channel.meter in change_of:
                self._stragglers[place, change_of[channel.meter] + later].append(row)

    def frame(self, place: int, interval: int, faults: Sequence[FrameFault], now_s: int) -> Frame:
        """The round of the `place`-th concentrator at the end of `interval`; may be empty of rows."""
        load = self._load
        first, end = load.lists[self._names[place]]
        at_s = self.read_at_s(place, interval)
        alive = load.alive[interval, first:end]
        absent: tuple[int, ...] = ()
        kept: slice | npt.NDArray[np.int64] = slice(first, end)
        if not alive.all():
            absent = tuple((first + np.flatnonzero(~alive)).tolist())
            kept = first + np.flatnonzero(alive)
        address = load.address[kept]
        readings = Readings(
            address,
            load.shown[interval, kept],
            np.full(len(address), at_s, np.uint32),
            load.register[kept],
            self._quality[kept],
        )
        frame = Frame(readings, (first, end), absent)
        before: list[Row] = []
        after: list[Row] = []
        for fault in faults:
            if fault.kind == "bad_reading" and interval and alive.any():
                self._bad_reading(frame, place, interval, fault, now_s, before, after)
            elif fault.kind == "duplicate_reading" and len(readings):
                after.append(_row_of(readings, fault.number % len(readings)))
        for row in self._revived.get((place, interval), ()):
            self._jump(frame, row, at_s, before)
        for row in self._stragglers.get((place, interval), ()):
            self._straggler(frame, row, at_s, after)
        if before or after:
            frame.readings = _with_rows(readings, before, after)
        return frame

    def read_at_s(self, place: int, interval: int) -> int:
        """Device time of a round: the interval's end, or off by the concentrator's skew."""
        skew = self._plan.skew.get(place)
        end_s = self._load.end_s(interval)
        return end_s + skew[1] if skew is not None and interval >= skew[0] else end_s

    def _bad_reading(
        self,
        frame: Frame,
        place: int,
        interval: int,
        fault: FrameFault,
        now_s: int,
        before: list[Row],
        after: list[Row],
    ) -> None:
        row = self._pick(frame, interval, fault)
        if row is None:
            return
        maker = BAD_ROWS[fault.detail]
        at_s = self.read_at_s(place, interval)
        instant = _Instant(self._load, row, interval, at_s, at_s - self._load.interval_s // 2, now_s, fault.number)
        reason, rows_before, rows_after = maker(instant)
        if rows_before or rows_after:
            before += rows_before
            after += rows_after
            frame.expected.append(Expected(reason, self._load.channels[row].meter))
            frame.made.append(fault.detail)

    def _pick(self, frame: Frame, interval: int, fault: FrameFault) -> int | None:
        """A channel of the frame that this class can happen to: one that was read in the round before, too."""
        first, end = frame.rows
        for offset in range(end - first):
            row = first + (fault.number + offset) % (end - first)
            channel = self._load.channels[row]
            if not (self._load.alive[interval, row] and self._load.alive[interval - 1, row]):
                continue
            # Where nothing bounds the power, a falling register may be a rollover; and near the end of its
            # digits a meter may really be at 0.
            if not channel.power_max_w or channel.meter in self._plan.rollover:
                continue
            if fault.detail == "reset" and self._load.shown[interval - 1, row] < RESET_ABOVE_WH:
                continue
            if fault.detail == "resolution" and channel.resolution < 10:
                continue
            return row
        return None

    def _jump(self, frame: Frame, row: int, at_s: int, before: list[Row]) -> None:
        """After days of silence, first a register that only those whole days of full power could explain."""
        channel, interval = self._load.channels[row], self._plan.dead[self._load.channels[row].meter]
        value = int(self._load.shown[interval[0] - 1, row])
        silent_s = (interval[1] - interval[0]) * self._load.interval_s
        allowed_s = (silent_s + PLAUSIBLE_WINDOW_S) // 2
        if silent_s <= PLAUSIBLE_WINDOW_S + DAY_S // 2 or not self._load.alive[interval[0] - 1, row]:
            return
        jump = channel.power_max_w * allowed_s // 3600 // max(1, channel.multiplier)
        value = (value + jump) // channel.resolution * channel.resolution
        half_s = self._load.interval_s // 2
        before.append((channel.address, value, at_s - half_s, int(self._load.register[row]), int(Quality.A)))
        frame.expected.append(Expected(Reason.UNCONFIRMED_JUMP, channel.meter))

    def _straggler(self, frame: Frame, row: int, at_s: int, after: list[Row]) -> None:
        """The replaced meter, read once more in the workshop: its final register, after its span."""
        channel = self._load.channels[row]
        final = next(c.old_final for c in self._load.changes if c.old_meter == channel.meter)
        after.append((channel.address, final, at_s, int(self._load.register[row]), int(Quality.A)))
        frame.expected.append(Expected(Reason.NOT_INSTALLED, channel.meter))


# -- readings that are wrong -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Instant:
    """A channel at a round, and the instant between this round and the one before."""

    load: Load
    row: int
    interval: int
    at_s: int
    between_s: int
    now_s: int
    number: int

    @property
    def last(self) -> int:
        return int(self.load.shown[self.interval - 1, self.row])

    @property
    def good(self) -> int:
        return int(self.load.shown[self.interval, self.row])

    @property
    def step(self) -> int:
        return self.load.channels[self.row].resolution

    def make(self, value: int, at_s: int, quality: Quality = Quality.A, **other: int) -> Row:
        address = other.get("address", int(self.load.address[self.row]))
        return address, value, at_s, other.get("register", int(self.load.register[self.row])), int(quality)


_Made = tuple[Reason, list[Row], list[Row]]


def _negative(i: _Instant) -> _Made:
    value = i.last - DECREASE_WH if i.last >= DECREASE_WH else -i.step
    return Reason.NEGATIVE, [i.make(value // i.step * i.step, i.between_s)], []


def _reset(i: _Instant) -> _Made:
    return Reason.RESET, [i.make(0, i.between_s)], []


def _implausible(i: _Instant) -> _Made:
    channel = i.load.channels[i.row]
    hours = PLAUSIBLE_WINDOW_S // 3600 + 8  # of all that the connection can carry: too much also after a silence
    jump = channel.power_max_w * hours // i.step * i.step
    return Reason.IMPLAUSIBLE, [i.make(i.last // i.step * i.step + jump, i.between_s)], []


def _future(i: _Instant) -> _Made:
    return Reason.FUTURE, [i.make(i.good, max(i.at_s, i.now_s) + FUTURE_S)], []


def _resolution(i: _Instant) -> _Made:
    return Reason.RESOLUTION, [i.make(i.last + i.step // 2 + 1, i.between_s)], []


def _unknown_meter(i: _Instant) -> _Made:
    return Reason.UNKNOWN_METER, [], [i.make(i.good, i.at_s, address=STRANGER + i.number % 10_000_000)]


def _unknown_register(i: _Instant) -> _Made:
    return Reason.UNKNOWN_REGISTER, [], [i.make(i.good, i.at_s, register=REGISTER_CODE[Register.REACTIVE_EXPORT])]


def _conflict(i: _Instant) -> _Made:
    return Reason.CONFLICT, [], [i.make(i.good + i.step, i.at_s)]


def _replaced(i: _Instant) -> _Made:
    """An estimate a little above the truth; the round's own reading, an actual one, replaces it."""
    return Reason.REPLACED, [i.make(i.good + 3 * i.step, i.at_s, Quality.E)], []


def _late(i: _Instant) -> _Made:
    return Reason.LATE, [i.make(i.last, i.between_s - i.load.interval_s)], []


def _clock_2000(i: _Instant) -> _Made:
    return Reason.LATE, [i.make(i.last, CLOCK_2000_S)], []


BAD_ROWS: Final[dict[str, Callable[[_Instant], _Made]]] = {
    "negative": _negative,
    "reset": _reset,
    "implausible": _implausible,
    "future": _future,
    "resolution": _resolution,
    "unknown_meter": _unknown_meter,
    "unknown_register": _unknown_register,
    "conflict": _conflict,
    "replaced": _replaced,
    "late": _late,
    "clock_2000": _clock_2000,
}


def _row_of(readings: Readings, place: int) -> Row:
    return (
        int(readings.meter[place]),
        int(readings.value[place]),
        int(readings.read_at_s[place]),
        int(readings.register[place]),
        int(readings.quality[place]),
    )


def _with_rows(readings: Readings, before: list[Row], after: list[Row]) -> Readings:
    def column(place: int, own: npt.NDArray[Any]) -> npt.NDArray[Any]:
        head = np.array([row[place] for row in before], own.dtype)
        tail = np.array([row[place] for row in after], own.dtype)
        return np.concatenate([head, own, tail])

    return Readings(
        column(0, readings.meter),
        column(1, readings.value),
        column(2, readings.read_at_s),
        column(3, readings.register),
        column(4, readings.quality),
    )
