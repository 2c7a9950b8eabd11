"""Pure: which faults happen where: a seeded plan, drawn before the run, so that a seed replays it.

A fault has a rate by frame (an event at one concentrator in one interval), by meter, or by concentrator. What
is planned happens at least once where its rate is above zero, and the classes of bad input take turns, so that
a small run still sees each of them. Bad values come *beside* the good ones, at instants between the intervals,
so that nothing here changes what a meter truly used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from simulators.fleet_bad import BAD_MESSAGES
from simulators.fleet_registry import FleetChannel

# name -> rate with `--faults all`; what the rate is of stands behind it
RATES_ALL: Final[dict[str, float]] = {
    "duplicate_message": 0.002,  # of frames: sent twice
    "duplicate_reading": 0.002,  # of frames: a reading stands in it twice
    "reorder": 0.004,  # of frames: sent after the next one
    "backfill": 0.002,  # of frames: skipped, sent hours later, its instants long past
    "outage": 0.001,  # of frames: the concentrator is cut off for hours, then sends what it kept, in order
    "lost_sequence": 0.0,  # of frames: a number that was used up and whose message never existed; at least one
    "bad_message": 0.003,  # of frames: a message of a bad class beside it
    "bad_reading": 0.008,  # of frames: a reading of a bad class in it
    "restart": 0.0005,  # of frames: the connection is cut and the session taken up again
    "rollover": 0.02,  # of meters: starts near the end of its digits (only in a prepared registry)
    "changeout": 0.01,  # of meters: replaced in the middle of the run
    "dead": 0.01,  # of meters: silent for four to six days
    "vacant": 0.004,  # of meters: uses nothing at all
    "skew": 0.1,  # of concentrators: their clock is minutes off from some day on
}
BAD_READINGS: Final = (
    "negative",
    "reset",
    "implausible",
    "future",
    "resolution",
    "unknown_meter",
    "unknown_register",
    "conflict",
    "replaced",
    "late",
    "clock_2000",
)
FRAME_KINDS: Final = (
    "duplicate_message",
    "duplicate_reading",
    "reorder",
    "backfill",
    "outage",
    "lost_sequence",
    "bad_message",
    "bad_reading",
    "restart",
)
LOST_LAST: Final = 0.5  # numbers are lost in the first half: being declared lost takes its time
DEAD_DAYS: Final = (4, 6)
DAY_S: Final = 86_400


class BadFaults(ValueError):
    """`--faults` names something that there is not."""


def parse_rates(text: str) -> dict[str, float]:
    """ "none", "all", or "name=rate,..." ("all" may stand first and be changed by what follows)."""
    rates: dict[str, float] = {}
    active: set[str] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, number = part.partition("=")
        if part == "none":
            continue
        if part == "all":
            rates.update(RATES_ALL)
            active |= set(RATES_ALL)
            continue
        if name not in RATES_ALL:
            raise BadFaults(f"no fault {name!r}; there are {', '.join(RATES_ALL)}")
        try:
            rate = float(number) if equals else RATES_ALL[name]
        except ValueError:
            raise BadFaults(f"{part!r}: not a rate") from None
        if not 0 <= rate <= 1:
            raise BadFaults(f"{part!r}: a rate is from 0 to 1")
        rates[name] = rate
        (active.discard if equals and rate == 0 else active.add)(name)
    return {name: rate for name, rate in rates.items() if name in active}


@dataclass(frozen=True, slots=True)
class FrameFault:
    """One event at a frame. `detail` is the class of bad input; `number` a draw to choose meters or hours with."""

    kind: str
    detail: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A meter that is replaced at the end of interval `interval`; the registers come from the truth."""

    old_meter: str
    new_meter: str
    interval: int
    new_initial: int  # Wh


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes wrong in a run. Frames are (concentrator's place, interval)."""

    frames: dict[tuple[int, int], tuple[FrameFault, ...]] = field(default_factory=dict)
    rollover: frozenset[str] = frozenset()
    vacant: frozenset[str] = frozenset()
    dead: dict[str, tuple[int, int]] = field(default_factory=dict)  # meter -> silent intervals [first, end)
    skew: dict[int, tuple[int, int]] = field(default_factory=dict)  # concentrator -> (from interval, seconds)
    changeouts: tuple[PlannedChange, ...] = ()


def draw(
    rates: Mapping[str, float],
    seed: int,
    channels: Sequence[FleetChannel],
    concentrators: int,
    intervals: int,
    interval_s: int,
) -> Plan:
    """The plan of a run; the same for the same arguments."""
    random = np.random.Generator(np.random.PCG64([seed, 0xFA17]))
    frames = _frame_faults(rates, random, concentrators, intervals)
    by_meter = {c.meter: c for c in channels}
    meters = np.array(sorted(by_meter), object)
    random.shuffle(meters)
    deck = iter(meters.tolist())  # a meter has at most one of these, so that each shows by itself

    def take(name: str) -> list[str]:
        return _take(deck, by_meter, name, _count(rates, name, len(meters)))

    rollover = frozenset(take("rollover"))
    vacant = frozenset(take("vacant"))
    day = max(1, DAY_S // interval_s)
    dead = {}
    for meter in take("dead"):
        days = int(random.integers(DEAD_DAYS[0], DEAD_DAYS[1] + 1))
        end = int(random.integers(intervals // 3, max(intervals // 3 + 1, int(intervals * 0.9))))
        dead[meter] = (max(1, end - days * day), end)
    # One working day for all of them: a utility imports its change-outs together.
    third = max(1, intervals // 3)
    at = int(random.integers(third, max(third + 1, intervals // 2)))
    changes = tuple(PlannedChange(meter, f"{meter[:26]}-n", at, 0) for meter in take("changeout"))
    skew = {}
    if "skew" in rates:
        count = _count(rates, "skew", concentrators)
        for place in random.choice(concentrators, min(count, concentrators), replace=False).tolist():
            seconds = int(random.integers(-min(240, interval_s // 3), min(240, interval_s // 3) + 1))
            skew[place] = (int(random.integers(1, max(2, intervals // 2))), seconds)
    return Plan(frames, rollover, vacant, dead, skew, changes)


def _count(rates: Mapping[str, float], name: str, of: int) -> int:
    if name not in rates:
        return 0
    return min(of, max(1, round(rates[name] * of)))


def _take(deck: Iterator[str], by_meter: Mapping[str, FleetChannel], name: str, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        meter = next(deck, None)
        if meter is None:
            break
        channel = by_meter[meter]
        # Rolling over needs digits; a replacement is planned where the meter spans the whole run.
        if name == "rollover" and not channel.digits:
            continue
        found.append(meter)
    return found


def _frame_faults(
    rates: Mapping[str, float], random: np.random.Generator, concentrators: int, intervals: int
) -> dict[tuple[int, int], tuple[FrameFault, ...]]:
    # From the third round on: a bad message speaks of the instant two rounds ago.
    found: dict[tuple[int, int], list[FrameFault]] = {}
    classes = {"bad_message": tuple(BAD_MESSAGES), "bad_reading": BAD_READINGS}
    for kind in FRAME_KINDS:
        if kind not in rates:
            continue
        details = classes.get(kind, ("",))
        count = max(_count(rates, kind, concentrators * intervals), len(details))
        last = int(intervals * LOST_LAST) if kind == "lost_sequence" else intervals - 1
        for event in range(count):
            place = int(random.integers(concentrators)), int(random.integers(2, max(3, last)))
            detail = details[event % len(details)]
            found.setdefault(place, []).append(FrameFault(kind, detail, int(random.integers(1 << 30))))
    return {place: tuple(events) for place, events in found.items()}
