"""Pure: one channel's day, every fen: from accepted registers through segments and tiers to what was posted.

The bill cycle is rated again from its first day, in the slow plain arithmetic of `rating.walk`, so that the
remainder that the day began with is known too:

    remainder brought in + amount of the day = whole fen posted + remainder to the bill + remainder carried on

each by component, in 1e-11 yuan. The ladder's place at a day's start is what was posted before it in the tier
cycle. What comes out is compared with what the ledger posted; `ChannelDay.agrees` says whether it is the same.

A bill that closed by the settlement window took the register's remainder where the register stood (`Point.closed`),
and then took the register to the cycle's end by a guess, which is a point of quality E from there on. A better
reading of a time that was charged already (`Point.late`) is charged at that time's price, on the day open then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from config.units import Quality
from ledger.statements import month_of
from rating.book import TariffBook
from rating.calendar import first_day_of
from rating.walk import Line, explain_day, explain_late

MINOR: Final = 10**9  # 1e-11 yuan in a fen


@dataclass(frozen=True, slots=True)
class Seen:
    """A reading as the log holds it, or what else moved the register, by `kind`.

    "rebaseline": a person's word on where it stands. "close": a bill closed by the window at this place of the log,
    and `at_s` is its cycle's end. "estimate": the guess that this close made; `value` is what it adds.
    """

    at_s: int
    value: int
    quality: int
    kind: str = "reading"


@dataclass(frozen=True, slots=True)
class Point:
    """An accepted register; `value` counts on over a rollover or a re-baseline, `shown` is as read.

    `late`: the part of `value` that better readings of this time brought when it was charged already, `late_before`
    what of that came before the close. `closed`: a bill took the remainder here.
    """

    at_s: int
    value: int
    quality: int
    shown: int
    note: str = ""
    late: int = 0
    closed: bool = False
    late_before: int = 0

    @property
    def charged(self) -> int:
        """What the energy up to this time was spread by."""
        return self.value - self.late


@dataclass(frozen=True, slots=True)
class Guess:
    """The estimate of one close (rule 7 of docs/ARCHITECTURE.md), by the figures that it was made from."""

    made_at_s: int
    from_s: int
    to_s: int
    used_wh: int  # of the ladder in its tier cycle, when the guess was made
    begins_wh: int  # where the ladder stood when it was charged: guesses of other registers came before it
    known_s: int  # in which that was used
    registers: int  # that shared it
    energy_wh: int
    follows: bool  # the rule gives this energy; else it is as the ledger has it, and other registers had a part in it


@dataclass(frozen=True, slots=True)
class Span:
    """The channel: one register of one meter under one tariff from `from_s` (opening register known) to `until_s`."""

    from_s: int
    until_s: int
    tariff: int
    history: int
    multiplier: int


@dataclass(frozen=True, slots=True)
class ComponentDay:
    """One component's day. `ledger_fen` None: the day is open, `ledger_e11` then is what the state has accrued.

    `billed_e11`: the remainder that a bill took which closed by the window while the register stood on this day.
    """

    name: str
    brought_e11: int
    amount_e11: int
    posted_fen: int
    carried_e11: int
    ledger_fen: int | None
    ledger_e11: int | None = None
    billed_e11: int = 0

    @property
    def agrees(self) -> bool:
        if self.ledger_fen is not None:
            return self.ledger_fen == self.posted_fen
        return self.ledger_e11 is None or self.ledger_e11 == self.brought_e11 + self.amount_e11 - self.billed_e11


@dataclass(frozen=True, slots=True)
class ChannelDay:
    """Everything behind one channel's charge for one local day."""

    day: int
    points: tuple[Point, ...]
    used_before_wh: int
    lines: tuple[Line, ...]
    components: tuple[ComponentDay, ...]
    ledger_wh: int | None
    guesses: tuple[Guess, ...] = ()

    @property
    def energy_wh(self) -> int:
        return sum(line.energy_wh for line in self.lines)

    @property
    def agrees(self) -> bool:
        energy = self.ledger_wh is None or self.ledger_wh == self.energy_wh
        return energy and all(component.agrees for component in self.components)


def accepted(opening: Point, seen: Sequence[Seen], digits: int) -> list[Point]:
    """The registers that count, from readings in log order without those that rating refused.

    Later than the last one: accepted. Same time with a better quality: it replaces. Anything else changed nothing.
    """
    points = [opening]
    shift, floor = 0, opening.value  # `floor`: the last register that was no estimate
    for one in seen:
        last = points[-1]
        if one.kind == "rebaseline":
            if one.at_s >= last.at_s:
                shift = last.value - one.value
                told = Point(one.at_s, last.value, one.quality, one.value, "re-baselined")
                same = replace(told, late=last.late, closed=last.closed, late_before=last.late_before)
                points[-1:] = [same] if one.at_s == last.at_s else [last, told]
                floor = told.value
            continue
        if one.kind == "close":
            if last.at_s < one.at_s:
                points[-1] = replace(last, closed=True, late_before=last.late)
            continue
        if one.kind == "estimate":
            value = last.value + one.value
            points.append(
                Point(one.at_s, value, one.quality, value - shift, "estimate made at the close of the bill")
            )
            continue
        if one.at_s > last.at_s:
            note = ""
            if digits and one.value + shift < floor:
                shift += 10**digits * 1000
                note = "rollover"
            points.append(Point(one.at_s, one.value + shift, one.quality, one.value, note))
        elif one.at_s == last.at_s and one.quality > last.quality:
            value, note = one.value + shift, "replaced an estimate" if last.quality == Quality.E else "replaced"
            late = last.late + value - last.value
            points[-1] = replace(last, value=value, quality=one.quality, shown=one.value, note=note, late=late)
        if points[-1].quality > Quality.E:
            floor = points[-1].value
    return points


def cut(points: Sequence[Point], from_s: int, until_s: int) -> list[Point]:
    """The points inside a span; where the register runs through its ends, it is split there by cumulative floors."""
    times = [point.at_s for point in points]
    inside = list(points[bisect_left(times, from_s) : bisect_right(times, until_s)])
    for end_s, front in ((from_s, True), (until_s, False)):
        place = bisect_left(times, end_s)
        if not 0 < place < len(points) or times[place] == end_s:
            continue
        before, after = points[place - 1], points[place]
        part = (after.charged - before.value) * (end_s - before.at_s) // (after.at_s - before.at_s)
        made = Point(end_s, before.value + part, after.quality, before.value + part, "split at the span's end")
        inside.insert(0 if front else len(inside), made)
    return inside


def explain(
    book: TariffBook,
    span: Span,
    points: Sequence[Point],
    used_before: Mapping[int, int],
    day: int,
    posted: Mapping[str, int] | None,
    accrued: Mapping[str, int] | None,
    ledger_wh: int | None,
    guesses: Sequence[Guess] = (),
) -> ChannelDay:
    """`used_before`: the ladder's energy at the start of each day of the bill cycle up to `day`, and the day before.

    `posted`: fen charged for the day by component (None: the day is open, then `accrued` is the state's).
    `guesses`: of the register, for bills that closed by the window; there the ladder stands at their `begins_wh`.
    """
    times = [point.at_s for point in points]
    walked = _Walk(book, span, points, times, used_before, {guess.from_s: guess.begins_wh for guess in guesses})
    rest = {"energy": 0, "tier_adder": 0}
    for earlier in range(max(first_day_of(month_of(day)), _first_day(book, span)), day):
        rest = {name: total.rest_e11 for name, total in _sums(walked.day(earlier), rest).items()}
    steps = walked.day(day)
    components = []
    for name, total in _sums(steps, rest).items():
        told = None if posted is None else posted.get(name, 0)
        state = None if accrued is None else accrued[name]
        figures = (rest[name], total.amount_e11, total.fen, total.rest_e11, told, state, total.billed_e11)
        components.append(ComponentDay(name, *figures))
    lines = tuple(step for step in steps if step is not None)
    low, high = walked.bracket(day)
    start_s, end_s = book.day_start_s(span.tariff, day), book.day_start_s(span.tariff, day + 1)
    mine = tuple(guess for guess in guesses if guess.from_s < end_s and guess.to_s > start_s)
    return ChannelDay(day, tuple(points[low:high]), used_before[day], lines, tuple(components), ledger_wh, mine)


@dataclass(slots=True)
class _Sum:
    """One component of a day: its amount, and what became of it and of the remainder brought in."""

    rest_e11: int
    amount_e11: int = 0
    fen: int = 0
    billed_e11: int = 0

    def post(self) -> None:
        fen, self.rest_e11 = divmod(self.rest_e11, MINOR)
        self.fen += fen


def _sums(steps: Sequence[Line | None], rest: Mapping[str, int]) -> dict[str, _Sum]:
    """The day's steps in order; None: a bill takes the remainder."""
    found = {name: _Sum(rest_e11) for name, rest_e11 in rest.items()}
    for step in steps:
        for name, one in found.items():
            if step is None:
                one.post()
                one.billed_e11, one.rest_e11 = one.billed_e11 + one.rest_e11, 0
                continue
            amount_e11 = step.energy_e11 if name == "energy" else step.adder_e11
            one.amount_e11, one.rest_e11 = one.amount_e11 + amount_e11, one.rest_e11 + amount_e11
    for one in found.values():
        one.post()
    return found


def _first_day(book: TariffBook, span: Span) -> int:
    return book.calendars[span.tariff].day_of(span.from_s)


@dataclass(frozen=True, slots=True)
class _Walk:
    """One channel's points, walked day by day; `jumps`: where the ladder stands when a guess begins."""

    book: TariffBook
    span: Span
    points: Sequence[Point]
    times: Sequence[int]
    used_before: Mapping[int, int]
    jumps: Mapping[int, int]

    def bracket(self, day: int) -> tuple[int, int]:
        """Places of the points from the last one at or before the day's start to the first at or after its end."""
        low = max(0, bisect_right(self.times, self.book.day_start_s(self.span.tariff, day)) - 1)
        return low, bisect_left(self.times, self.book.day_start_s(self.span.tariff, day + 1)) + 1

    def day(self, day: int) -> list[Line | None]:
        """The day's lines in the order in which they were charged; None where a bill took the remainder."""
        book, tariff = self.book, self.span.tariff
        start_s, end_s = book.day_start_s(tariff, day), book.day_start_s(tariff, day + 1)
        low, high = self.bracket(day)
        used = self.used_before[day]
        steps: list[Line | None] = []
        for place in range(low, min(high, len(self.points))):
            point = self.points[place]
            if place > low:
                lines = self._between(self.points[place - 1], point, used, day)
                used += sum(line.energy_wh for line in lines)
                steps += lines
            if not start_s <= point.at_s < end_s:
                continue
            for late in (point.late_before, None, point.late - point.late_before):
                if late is None:
                    steps += [None] if point.closed else []
                    used = self.jumps.get(point.at_s, used) if point.closed else used
                elif late:
                    lines = self._late(point, late, used, day)
                    used += sum(line.energy_wh for line in lines if self._same_cycle(day, point.at_s))
                    steps += lines
        return steps

    def _between(self, before: Point, after: Point, used_wh: int, day: int) -> list[Line]:
        span, at_s, value = self.span, [before.at_s, after.at_s], [before.value, after.charged]
        quality = [before.quality, after.quality]
        return explain_day(self.book, span.tariff, span.history, at_s, value, quality, used_wh, day, span.multiplier)

    def _late(self, point: Point, late: int, used_wh: int, day: int) -> list[Line]:
        """What a better reading changed, at the price of the segment that ends at its time."""
        book, span = self.book, self.span
        if point.at_s == book.day_start_s(span.tariff, day):  # of the day before, on whose ladder it counts
            used_wh = self.used_before[day - 1]
            used_wh += sum(step.energy_wh for step in self.day(day - 1) if step is not None)
        return explain_late(
            book, span.tariff, span.history, point.at_s, late * span.multiplier, used_wh, point.quality
        )

    def _same_cycle(self, day: int, at_s: int) -> bool:
        """Does energy that ends at `at_s` count in the tier cycle of the day?"""
        book, span = self.book, self.span
        cycles = [
            int(book.stage_cycle[book.stage_of(span.tariff, span.history, one)])
            for one in (at_s - 1, book.day_start_s(span.tariff, day))
        ]
        return cycles[0] == cycles[1]
