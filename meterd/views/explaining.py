"""Pure: one channel's day, every fen: from accepted registers through segments and tiers to what was posted.

The bill cycle is rated again from its first day, in the slow plain arithmetic of `rating.walk`, so that the
remainder that the day began with is known too:

    remainder brought in + amount of the day = whole fen posted + remainder carried on

each by component, in 1e-11 yuan. The ladder's place at a day's start is what was posted before it in the tier
cycle. What comes out is compared with what the ledger posted; `ChannelDay.agrees` says whether it is the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from config.units import Quality
from ledger.statements import month_of
from rating.book import TariffBook
from rating.calendar import first_day_of
from rating.walk import Line, explain_day

MINOR: Final = 10**9  # 1e-11 yuan in a fen


@dataclass(frozen=True, slots=True)
class Seen:
    """A reading as the log holds it, or `kind` "rebaseline": a person's word on where the register stands."""

    at_s: int
    value: int
    quality: int
    kind: str = "reading"


@dataclass(frozen=True, slots=True)
class Point:
    """An accepted register; `value` counts on over a rollover or a re-baseline, `shown` is as read."""

    at_s: int
    value: int
    quality: int
    shown: int
    note: str = ""


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
    """One component's day. `ledger_fen` None: the day is open, `ledger_e11` then is what the state has accrued."""

    name: str
    brought_e11: int
    amount_e11: int
    posted_fen: int
    carried_e11: int
    ledger_fen: int | None
    ledger_e11: int | None = None

    @property
    def agrees(self) -> bool:
        if self.ledger_fen is not None:
            return self.ledger_fen == self.posted_fen
        return self.ledger_e11 is None or self.ledger_e11 == self.brought_e11 + self.amount_e11


@dataclass(frozen=True, slots=True)
class ChannelDay:
    """Everything behind one channel's charge for one local day."""

    day: int
    points: tuple[Point, ...]
    used_before_wh: int
    lines: tuple[Line, ...]
    components: tuple[ComponentDay, ...]
    ledger_wh: int | None

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
                points[-1:] = [told] if one.at_s == last.at_s else [last, told]
                floor = told.value
            continue
        if one.at_s > last.at_s:
            note = ""
            if digits and one.value + shift < floor:
                shift += 10**digits * 1000
                note = "rollover"
            points.append(Point(one.at_s, one.value + shift, one.quality, one.value, note))
        elif one.at_s == last.at_s and one.quality > last.quality:
            points[-1] = Point(one.at_s, one.value + shift, one.quality, one.value, "replaced")
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
        part = (after.value - before.value) * (end_s - before.at_s) // (after.at_s - before.at_s)
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
) -> ChannelDay:
    """`used_before`: the ladder's energy at the start of each day of the bill cycle up to `day`.

    `posted`: fen charged for the day by component (None: the day is open, then `accrued` is the state's).
    """
    times = [point.at_s for point in points]
    first = max(first_day_of(month_of(day)), _first_day(book, span))
    totals = {"energy": 0, "tier_adder": 0}
    for earlier in range(first, day):
        for line in _day(book, span, points, times, used_before[earlier], earlier):
            totals["energy"] += line.energy_e11
            totals["tier_adder"] += line.adder_e11
    lines = _day(book, span, points, times, used_before[day], day)
    amounts = {"energy": sum(x.energy_e11 for x in lines), "tier_adder": sum(x.adder_e11 for x in lines)}
    components = []
    for name, amount in amounts.items():
        brought = totals[name] % MINOR
        fen, rest = divmod(brought + amount, MINOR)
        told = None if posted is None else posted.get(name, 0)
        state = None if accrued is None else accrued[name]
        components.append(ComponentDay(name, brought, amount, fen, rest, told, state))
    low, high = _bracket(book, span, times, day)
    shown = tuple(points[low:high])
    return ChannelDay(day, shown, used_before[day], tuple(lines), tuple(components), ledger_wh)


def _first_day(book: TariffBook, span: Span) -> int:
    return book.calendars[span.tariff].day_of(span.from_s)


def _bracket(book: TariffBook, span: Span, times: Sequence[int], day: int) -> tuple[int, int]:
    """Places of the points from the last one at or before the day's start to the first at or after its end."""
    low = max(0, bisect_right(times, book.day_start_s(span.tariff, day)) - 1)
    return low, bisect_left(times, book.day_start_s(span.tariff, day + 1)) + 1


def _day(
    book: TariffBook, span: Span, points: Sequence[Point], times: Sequence[int], used_wh: int, day: int
) -> list[Line]:
    low, high = _bracket(book, span, times, day)
    mine = points[low:high]
    return explain_day(
        book,
        span.tariff,
        span.history,
        [point.at_s for point in mine],
        [point.value for point in mine],
        [point.quality for point in mine],
        used_wh,
        day,
        span.multiplier,
    )
