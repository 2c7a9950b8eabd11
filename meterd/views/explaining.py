"""Pure: one channel's day, every fen: from accepted registers through segments and tiers to what was posted.

All registers whose energy climbs the same ladder are rated again together, in the order in which the ledger rated
them, in the slow plain arithmetic of `rating.walk`: which of two registers takes the kWh that passes a tier's bound
is decided by nothing else. The bill cycle is rated from its first day, so that the remainder which the day began
with is known too:

    remainder brought in + amount of the day = whole fen posted + remainder to the bill + remainder carried on

each by component, in 1e-11 yuan. What comes out is compared with what the ledger posted; `ChannelDay.agrees` says
whether it is the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.statements import month_of
from meterd.views.registers import Move, Point
from rating.book import TariffBook
from rating.calendar import first_day_of
from rating.walk import Ladder, Line, rate_difference, rate_use, tier_cycle

MINOR: Final = 10**9  # 1e-11 yuan in a fen


@dataclass(frozen=True, slots=True)
class Guess:
    """The estimate of one close (rule 7 of docs/ARCHITECTURE.md), by the figures that it was made from."""

    made_at_s: int
    from_s: int
    to_s: int
    used_wh: int  # counted on the ladder in its tier cycle, when the guess was made; without what was brought in
    begins_wh: int  # where the ladder stood when it was charged: guesses of other registers came before it
    known_s: int  # in which it was counted, of all its registers together
    registers: int  # that counted it
    energy_wh: int
    follows: bool  # the rule gives this energy; else it is as the ledger has it, and other registers had a part in it


@dataclass(frozen=True, slots=True)
class Span:
    """The channel: one register of one meter under one tariff from `from_s` (opening register known) to `until_s`.

    `ladder`: its slot. `last`: no other span of the register follows.
    """

    from_s: int
    until_s: int
    tariff: int
    history: int
    multiplier: int
    ladder: int
    last: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One move of one channel, rated: its lines, and where the ladder of its tier cycle stood before (Wh)."""

    slot: int
    move: Move
    used_wh: int
    lines: tuple[Line, ...]


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


@dataclass(frozen=True, slots=True)
class Posted:
    """What the ledger says of the day. `fen` by component; None: the day is open, then `accrued` is the state's."""

    fen: Mapping[str, int] | None
    accrued: Mapping[str, int] | None
    energy_wh: int | None


def rate_moves(
    book: TariffBook, spans: Mapping[int, Span], moves: Iterable[tuple[int, Move]], ladders: Mapping[int, Ladder]
) -> list[Step]:
    """Rate moves (channel slot, move) in their order; the ladders, by slot, go along."""
    steps = []
    for slot, move in moves:
        span = spans[slot]
        on, energy = ladders[span.ladder], move.value * span.multiplier
        used_wh = on.place(tier_cycle(book, span.tariff, span.history, move.from_s)[0])
        scale = (book, span.tariff, span.history, on)
        lines: list[Line] = []
        if move.kind == "late":
            lines = rate_difference(*scale, move.to_s, energy, move.quality)
        elif move.kind != "close":
            lines = rate_use(*scale, move.from_s, move.to_s, energy, move.quality)
        steps.append(Step(slot, move, used_wh, tuple(lines)))
    return steps


def explain(
    book: TariffBook,
    span: Span,
    steps: Sequence[Step],
    points: Sequence[Point],
    day: int,
    posted: Posted,
    guesses: Sequence[Guess] = (),
) -> ChannelDay:
    """`steps` of this channel from the bill cycle's first day on; `points`: the registers of its span."""
    calendar = book.calendars[span.tariff]
    cycle = tier_cycle(book, span.tariff, span.history, max(calendar.day_start_s(day), span.from_s))[0]
    days: dict[int, list[Line | None]] = {}  # None: a bill takes the remainder
    used_wh = None
    for step in steps:
        if step.move.kind == "close":
            days.setdefault(calendar.day_of(step.move.to_s), []).append(None)
        for line in step.lines:
            days.setdefault(line.day, []).append(line)
            if used_wh is None and line.day >= day and line.cycle == cycle:
                used_wh = line.used_wh if line.day == day else step.used_wh
    rest = {"energy": 0, "tier_adder": 0}
    for earlier in range(first_day_of(month_of(day)), day):
        rest = {name: total.rest_e11 for name, total in _sums(days.get(earlier, []), rest).items()}
    components = []
    mine = days.get(day, [])
    for name, total in _sums(mine, rest).items():
        told = None if posted.fen is None else posted.fen.get(name, 0)
        state = None if posted.accrued is None else posted.accrued[name]
        figures = (rest[name], total.amount_e11, total.fen, total.rest_e11, told, state, total.billed_e11)
        components.append(ComponentDay(name, *figures))
    if used_wh is None:
        used_wh = steps[-1].used_wh + sum(line.energy_wh for line in steps[-1].lines) if steps else 0
    start_s, end_s = calendar.day_start_s(day), calendar.day_start_s(day + 1)
    times = [point.at_s for point in points]
    low, high = max(0, bisect_right(times, start_s) - 1), bisect_left(times, end_s) + 1
    near = tuple(guess for guess in guesses if guess.from_s < end_s and guess.to_s > start_s)
    lines = tuple(step for step in mine if step is not None)
    return ChannelDay(day, tuple(points[low:high]), used_wh, lines, tuple(components), posted.energy_wh, near)


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
