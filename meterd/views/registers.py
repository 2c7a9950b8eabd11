"""Pure: what one register did, for `explain`: from readings in the order of the log to registers that count, and
to moves, each of which the ledger has charged at its place in that order.

    readings   09:20  1,000 E    09:20  1,040 A    09:35  1,100 A
    moves      use up to 09:20   late, of 09:20: 40   use 09:20 to 09:35: 60

A bill that closed by the settlement window took the register's remainder where the register stood ("close"), and
then took the register to the cycle's end by a guess, which is a use of quality E from there on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from config.units import Quality

# Offset of the record; the inbox row that was applied behind it, 0 for the record itself; the place in either.
Order = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A reading as the log holds it, or what else moved the register, by `kind`.

    "rebaseline": a person's word on where it stands. "final": the closing register of a change-out. "close": a bill
    closed by the window at this place of the log, and `at_s` is its cycle's end. "estimate": the guess that this
    close made; `value` is what it adds.
    """

    at_s: int
    value: int
    quality: int
    kind: str = "reading"
    order: Order = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Point:
    """An accepted register; `value` counts on over a rollover or a re-baseline, `shown` is as read.

    `late`: the part of `value` that better readings of this time brought when it was charged already.
    """

    at_s: int
    value: int
    quality: int
    shown: int
    note: str = ""
    late: int = 0

    @property
    def charged(self) -> int:
        """What the energy up to this time was spread by."""
        return self.value - self.late


@dataclass(frozen=True, slots=True)
class Move:
    """What the ledger did with a register at one place of the log: a use over (from_s, to_s], or else at `to_s`.

    "late": a better reading of `to_s` changed it by `value` when it was charged already. "close": a bill took the
    remainder there. "guess": a use that a close estimated. `value` in thousandths of the register.
    """

    order: Order
    kind: str
    from_s: int
    to_s: int
    value: int
    quality: int


class Register:
    """One register from its opening on; `points` and `moves` grow by what is seen, in the order of the log."""

    def __init__(self, opening: Point, digits: int, step_at: Callable[[int], int] = lambda _at_s: 1) -> None:
        """`step_at`: in what steps (thousandths) it counts when its last register is of that time."""
        self.points, self.moves = [opening], list[Move]()
        self._digits, self._step_at = digits, step_at
        self._shift, self._floor = 0, opening.value  # `floor`: the last register that was no estimate

    def follow(self, seen: Iterable[Seen]) -> None:
        """Later than the last one: accepted. Same time with a better quality: it replaces. Anything else changed
        nothing. What rating refused must not be among `seen`."""
        for one in seen:
            match one.kind:
                case "rebaseline":
                    self._rebaseline(one)
                case "close":
                    if (last := self.points[-1]).at_s < one.at_s:
                        self.moves.append(Move(one.order, "close", last.at_s, last.at_s, 0, last.quality))
                case "estimate":
                    value = self.points[-1].value + one.value
                    note = "estimate made at the close of the bill"
                    self._reach(one, Point(one.at_s, value, one.quality, value - self._shift, note), "guess")
                case _:
                    self._reading(one)

    def _reading(self, one: Seen) -> None:
        last, note = self.points[-1], "closing register of the change-out" if one.kind == "final" else ""
        if one.at_s > last.at_s:
            if self._digits and one.value + self._shift < self._floor:
                self._shift += 10**self._digits * 1000
                note = "rollover"
            self._reach(one, Point(one.at_s, one.value + self._shift, one.quality, one.value, note), "use")
        elif one.at_s == last.at_s and one.quality > last.quality:
            value, note = one.value + self._shift, "replaced an estimate" if last.quality == Quality.E else "replaced"
            changed = value - last.value
            counted = self._counted(last, changed)
            self.moves.append(Move(one.order, "late", one.at_s, one.at_s, counted, one.quality))
            late = last.late + changed
            self.points[-1] = replace(last, value=value, quality=one.quality, shown=one.value, note=note, late=late)
        if self.points[-1].quality > Quality.E:
            self._floor = self.points[-1].value

    def _rebaseline(self, one: Seen) -> None:
        """Nothing flows up to there, but days end."""
        last = self.points[-1]
        if one.at_s < last.at_s:
            return
        self._shift = last.value - one.value
        told = Point(one.at_s, last.value, one.quality, one.value, "re-baselined")
        if one.at_s == last.at_s:
            self.points[-1] = replace(told, late=last.late)
        else:
            self._reach(one, told, "use")
        self._floor = told.value

    def _reach(self, one: Seen, point: Point, kind: str) -> None:
        last = self.points[-1]
        self.points.append(point)
        counted = self._counted(last, point.value - last.value)
        self.moves.append(Move(one.order, kind, last.at_s, point.at_s, counted, one.quality))

    def _counted(self, last: Point, change: int) -> int:
        """Whole steps that the register went on by; the rest stays in it."""
        step = self._step_at(last.at_s)
        return (last.shown + change) // step * step - last.shown // step * step


def cut(points: Sequence[Point], from_s: int, until_s: int) -> list[Point]:
    """The points inside a span; where the register runs through its ends, it is split there by cumulative floors."""
    times = [point.at_s for point in points]
    inside = list(points[bisect_left(times, from_s) : bisect_right(times, until_s)])
    for end_s, front in ((from_s, True), (until_s, False)):
        place = bisect_left(times, end_s)
        if not 0 < place < len(points) or times[place] == end_s:
            continue
        before, after = points[place - 1], points[place]
        value = before.value + _upto(after.charged - before.value, end_s, before.at_s, after.at_s)
        made = Point(end_s, value, after.quality, value, "split at the span's end")
        inside.insert(0 if front else len(inside), made)
    return inside


def part_of(move: Move, from_s: int, until_s: int, *, last: bool) -> Move | None:
    """What a move did in a span, by the same floors; None: nothing. What is done at a span's end counts in the next
    one, unless it is the `last`."""
    if move.from_s == move.to_s:
        return move if from_s <= move.to_s < until_s or (last and move.to_s == until_s) else None
    start_s, end_s = max(from_s, move.from_s), min(until_s, move.to_s)
    if start_s >= end_s:
        return None
    low, high = (_upto(move.value, at_s, move.from_s, move.to_s) for at_s in (start_s, end_s))
    return replace(move, from_s=start_s, to_s=end_s, value=high - low)


def _upto(value: int, at_s: int, from_s: int, to_s: int) -> int:
    return value * (at_s - from_s) // (to_s - from_s)
