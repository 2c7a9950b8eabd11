"""Pure: when which concentrator has a message due: the patterns of load, by seed.

A schedule is made before anything is sent, and nothing that happens changes it: a generator that is late sends late,
and the latency of what it sends counts from when it was due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

DAY_S: Final = 86_400
QUARTER_S: Final = 900
BACKFILL_S: Final = 3 * DAY_S
CURVE_MAX: Final = DAY_S // QUARTER_S  # quarter hours of a day's curve
FREEZE_AGE_S: Final = 300  # at 00:05 the freeze of 00:00 is sent
SHARE_AWAY: Final = 0.1  # of the concentrators: those that come back with three days of backlog
PEAK: Final = 2.0  # a morning's peak, as a multiple of the mean
PATTERNS: Final = {
    "steady": "the rate, evenly",
    "ramp": "from nothing to twice the rate",
    "morning": "half the rate, a peak of twice the rate in the middle, half the rate",
    "midnight": "at 00:05, a tenth into the run, every meter's freeze (00:00) at one instant, then yesterday's curve",
    "backfill": "every tenth concentrator is away and comes back with three days, a fifth into the run",
    "reconnect": "evenly, and half-way through all connections break at once",
}
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class NoSchedule(ValueError):
    """What was asked for cannot be: the message says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run is to be like. `rate`: readings a second, on average; `per_message`: meters of a concentrator."""

    pattern: str
    meters: int
    per_message: int
    rate: float
    seconds: float
    seed: int = 1

    @property
    def senders(self) -> int:
        """Concentrators: the last one may have fewer meters."""
        return -(-self.meters // self.per_message)


@dataclass(frozen=True, slots=True)
class Midnight:
    """A sweep: when all freezes are due, when they were read, and how many messages come before and after them.

    `rounds`: quarter hours that came by themselves before it, each as far as it goes; `quarters`: of yesterday's
    curve, after it; `rest`: messages that still have room in the run when all of that is sent.
    """

    due_s: float
    read_s: int
    before: int
    rounds: int
    quarters: int
    rest: int


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Messages in the order in which they are due.

    `due_s`: seconds from the run's start; `sender`: number of the concentrator; `read_s`: when its meters were read,
    in the same seconds (before 0 in a backlog). `cuts_s`: when all connections break; `midnight`: of a sweep.
    """

    due_s: Floats
    sender: Ints
    read_s: Ints
    cuts_s: tuple[float, ...] = ()
    midnight: Midnight | None = None

    def __len__(self) -> int:
        return len(self.due_s)

    def upto(self, place: int) -> Schedule:
        """Its first so many messages."""
        return Schedule(self.due_s[:place], self.sender[:place], self.read_s[:place], midnight=self.midnight)

    def of_curve(self, place: int) -> bool:
        """Whether a message is of yesterday's curve: due after the freeze, and read no later."""
        night = self.midnight
        return night is not None and bool(self.due_s[place] > night.due_s and self.read_s[place] <= night.read_s)

    def part(self, number: int, of: int) -> Schedule:
        """What one of several processes sends: every `of`-th concentrator."""
        mine = self.sender % of == number
        return Schedule(self.due_s[mine], self.sender[mine], self.read_s[mine], self.cuts_s, self.midnight)


def schedule(wish: Wish) -> Schedule:
    """The messages of a run."""
    if wish.pattern not in PATTERNS:
        raise NoSchedule(f"there is no pattern {wish.pattern!r}; there are {', '.join(PATTERNS)}")
    if not (wish.rate > 0 and wish.seconds > 0 and wish.per_message > 0 and wish.meters > 0):
        raise NoSchedule("meters, meters a message, rate and seconds are more than nothing")
    order = np.random.default_rng(wish.seed).permutation(wish.senders)
    match wish.pattern:
        case "ramp":
            return _round_robin(_inverse(wish, lambda t: t * t), order)
        case "morning":
            return _round_robin(_inverse(wish, _morning), order)
        case "midnight":
            return _midnight(wish, order)
        case "backfill":
            return _backfill(wish, order)
        case "reconnect":
            even = _round_robin(_evenly(wish), order)
            return Schedule(even.due_s, even.sender, even.read_s, (wish.seconds / 2,))
    return _round_robin(_evenly(wish), order)


def _messages(wish: Wish) -> int:
    return max(1, round(wish.rate * wish.seconds / wish.per_message))


def _evenly(wish: Wish) -> Floats:
    count = _messages(wish)
    return np.asarray(np.arange(count) * (wish.seconds / count), dtype=np.float64)


def _inverse(wish: Wish, share: Callable[[Floats], Floats]) -> Floats:
    """Due times of which `share(t)` of all, 0 <= t <= 1 of the run, lie before t."""
    grid = np.linspace(0.0, 1.0, 20_001)
    count = _messages(wish)
    at = np.interp(np.arange(count) / count, share(grid), grid)
    return np.asarray(at * wish.seconds, dtype=np.float64)


def _morning(t: Floats) -> Floats:
    """Sum of a rate of 0.5, and around the middle a bell that brings the mean to 1 and the peak to PEAK."""
    width = 0.5 / (PEAK - 0.5)  # of a raised cosine whose area is a half
    begin = 0.5 - width
    inside = np.clip((t - begin) / (2 * width), 0.0, 1.0)
    bell = (PEAK - 0.5) * width * (inside - np.sin(2 * np.pi * inside) / (2 * np.pi))
    whole = 0.5 * t + bell
    return np.asarray(whole / whole[-1], dtype=np.float64)


def _round_robin(due_s: Floats, order: Ints) -> Schedule:
    sender = order[np.arange(len(due_s)) % len(order)]
    return Schedule(due_s, sender, np.floor(due_s).astype(np.int64))


def _merged(*parts: Schedule) -> Schedule:
    due_s = np.concatenate([p.due_s for p in parts])
    sender = np.concatenate([p.sender for p in parts])
    read_s = np.concatenate([p.read_s for p in parts])
    order = np.argsort(due_s, kind="stable")
    return Schedule(due_s[order], sender[order], read_s[order])


def sweep_s(wish: Wish) -> int:
    """The second of the run at which a midnight's sweep reads all meters."""
    return int(wish.seconds / 10)


def midnight(wish: Wish) -> Midnight:
    """What a midnight's run has room for: its messages come beside the freezes, which are due all at once."""
    at_s, count = sweep_s(wish), _messages(wish)
    due_s = at_s + 0.5
    before = int(np.searchsorted(_evenly(wish), due_s, side="right"))
    quarters = min(CURVE_MAX, (count - before) // wish.senders)
    rest = count - before - quarters * wish.senders
    return Midnight(due_s, at_s - FREEZE_AGE_S, before, -(-before // wish.senders), quarters, rest)


def _midnight(wish: Wish, order: Ints) -> Schedule:
    """Before the sweep the newest quarter hours come by themselves; after it each concentrator's curve in a row.

    What is read before the freeze is read at a quarter hour, so that the curve says of it what it said itself.
    """
    even, night = _round_robin(_evenly(wish), order), midnight(wish)
    age = night.rounds - np.arange(night.before) // len(order)
    freeze = Schedule(np.full(len(order), night.due_s), order, np.full(len(order), night.read_s))
    place = np.arange(night.quarters * len(order))
    after = slice(night.before, night.before + len(place))
    parts = (
        Schedule(even.due_s[: night.before], even.sender[: night.before], night.read_s - QUARTER_S * age),
        freeze,
        Schedule(
            even.due_s[after],
            order[place // max(1, night.quarters)],
            night.read_s - QUARTER_S * (night.quarters - 1 - place % max(1, night.quarters)),
        ),
        Schedule(even.due_s[after.stop :], even.sender[after.stop :], even.read_s[after.stop :]),
    )
    made = _merged(*parts)
    return Schedule(made.due_s, made.sender, made.read_s, midnight=night)


def _backfill(wish: Wish, order: Ints) -> Schedule:
    """Those that were away say nothing before they come back, and then everything at once, oldest first."""
    if len(order) < 2:
        raise NoSchedule("a backfill needs two concentrators: one that was away, one that was not")
    back_s = wish.seconds / 5
    away = order[: max(1, round(len(order) * SHARE_AWAY))]
    even = _round_robin(_evenly(wish), order)
    there = ~np.isin(even.sender, away) | (even.due_s > back_s + 1)
    rest = Schedule(even.due_s[there], even.sender[there], even.read_s[there])
    quarters = np.arange(-BACKFILL_S, 0, QUARTER_S) + int(back_s)
    late = Schedule(
        np.full(len(away) * len(quarters), back_s), np.repeat(away, len(quarters)), np.tile(quarters, len(away))
    )
    return _merged(rest, late)
