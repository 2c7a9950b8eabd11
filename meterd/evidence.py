"""I/O: what stands behind one account's day: what moved its registers, rated again, and what the ledger posted.

Only the readings around the bill cycle are read, as far as the ladder's place at its start follows from what was
posted before; where that is not enough (a register that was silent for long), more of the partition is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from config.units import FED_IN_REGISTER
from ledger.reads import StatementRow, bills, state_rows, statement_rows
from ledger.statements import month_of
from meterd.city import City
from meterd.guesses import Closed, chain, closes, figures
from meterd.ladder_starts import Cycle, LadderStarts, Ring
from meterd.lookup import Account
from meterd.register_log import DAY_S, Look, RegisterLog, Windows
from meterd.views.explaining import MINOR, ChannelDay, Guess, Posted, Span, Step, explain, rate_moves
from meterd.views.registers import Move, Order, Point, Register, Seen, cut, part_of
from rating.book import TariffBook
from rating.calendar import first_day_of
from rating.rings import groups
from rating.state import ARRAYS
from rating.walk import tier_cycle

_SHORT: Final = (("energy", "energy"), ("tier_adder", "adder"))  # component, in the state's field names
Asked = tuple[int, int, int]  # start of the day before the bill cycle, start and end of the day asked for
_MARGINS_DAYS: Final = (5, 40, None)  # concentrators re-read three days every night; None: all that there is


@dataclass(frozen=True, slots=True)
class _Story:
    """The registers of one ring from the day before a bill cycle to a day, rated again."""

    steps: Sequence[Step]
    registers: Mapping[int, Register]  # by first span
    guesses: Mapping[int, Sequence[Guess]]


class Evidence:
    """The readings of one account's partition; made for one command."""

    def __init__(self, account: Account) -> None:
        view = account.view
        self._account, self._view = account, view
        self._city = City(view.paths.registry, view.registry.digest, view.settings.rating)
        self._image = self._city.image.partitions[account.partition]
        self._log = RegisterLog(view, account.partition, self._image)
        self._rows = statement_rows(view.connection, account.partition, account.slot)
        self._before = {int(then): place for place, then in enumerate(self._image.channels["next"]) if then >= 0}
        facts = self._image.channels
        priced = (facts["bill"] == 1) & (facts["tariff"] >= 0) & (facts["register"] != FED_IN_REGISTER)
        charged = [slot for slot in account.channels if priced[slot]]
        self._spans = {slot: self._span(slot) for slot in charged}
        self._states = dict(zip(account.channels, account.rows, strict=True))

    @property
    def book(self) -> TariffBook:
        return self._city.book

    def days(self, day: int) -> list[tuple[int, ChannelDay]]:
        """(channel slot, its day) of every charged channel that lived on that local day."""
        found = []
        stories: dict[tuple[int, ...], _Story] = {}
        for slot, span in self._spans.items():
            calendar = self.book.calendars[span.tariff]
            if calendar.day_start_s(day + 1) > span.from_s and calendar.day_start_s(day) < span.until_s:
                ring = self._ring(slot)
                if ring.slots not in stories:
                    stories[ring.slots] = self._story(ring, day)
                found.append((slot, self._channel_day(slot, day, stories[ring.slots])))
        return found

    # -- one channel -----------------------------------------------------------------------------------------
    def _span(self, slot: int) -> Span:
        facts = self._image.channels[slot]
        return Span(
            from_s=int(facts["opening_at_s"]),
            until_s=int(facts["until_s"]),
            tariff=int(facts["tariff"]),
            history=int(self._image.ladders["history"][facts["ladder"]]),
            multiplier=int(facts["multiplier"]),
            ladder=int(facts["ladder"]),
            last=chain(self._image, slot) == [slot],
        )

    def _channel_day(self, slot: int, day: int, story: _Story) -> ChannelDay:
        span, first, state = self._spans[slot], self._first_of(slot), self._states[slot]
        points = cut(story.registers[first].points, span.from_s, span.until_s)
        guesses = [
            guess for guess in story.guesses[first] if guess.from_s < span.until_s and guess.to_s > span.from_s
        ]
        steps = [step for step in story.steps if step.slot == slot]
        return explain(self.book, span, steps, points, day, self._posted(slot, day, state), guesses)

    def _posted(self, slot: int, day: int, state: Any) -> Posted:
        calendar = self.book.calendars[self._spans[slot].tariff]
        mine = [row for row in self._rows if row.channel == slot and row.day == day]
        told = {name: -_sum(mine, name) for name, _ in _SHORT}
        energy_wh = sum(row.quantity for row in mine)
        # A day that a tick has closed may go on: what was posted and what has accrued since are one.
        goes_on = not mine or int(state["day_energy"]) != 0
        if not goes_on or int(state["at_s"]) >= calendar.day_start_s(day + 1):
            return Posted(told, None, energy_wh)
        if int(state["at_s"]) < calendar.day_start_s(day):
            return Posted(None, None, None)
        accrued = {name: int(state[f"accrued_{short}_e11"]) + told[name] * MINOR for name, short in _SHORT}
        return Posted(None, accrued, energy_wh + int(state["day_energy"]))

    def _ring(self, slot: int) -> Ring:
        """The channels whose energy may move the ladder of `slot`."""
        ladders, spans = self._image.ladders, self._spans
        group = groups(self.book)[ladders["tariff"]]
        mine = int(spans[slot].ladder)
        together = {
            s: span for s, span in spans.items() if span.ladder == mine or 0 <= group[span.ladder] == group[mine]
        }
        places = sorted({span.ladder for span in together.values()})
        rows = state_rows(self._view.connection, self._account.partition, "ladder", places, ARRAYS["ladder"])
        return Ring(
            self.book, together, ladders, {p: int(r["ring_until_s"]) for p, r in zip(places, rows, strict=True)}
        )

    def _first_of(self, slot: int) -> int:
        """The span in which the register of `slot` begins, or the last one before that has an opening register."""
        while slot in self._before and int(self._image.channels["opening_value"][slot]) < 0:
            slot = self._before[slot]
        return slot

    # -- the registers of a ring -------------------------------------------------------------------------------
    def _story(self, ring: Ring, day: int) -> _Story:
        some = next(iter(ring.spans.values()))
        calendar = self.book.calendars[some.tariff]
        first_day = first_day_of(month_of(day)) - 1  # energy up to midnight may be changed on the day after
        from_s, start_s, end_s = (calendar.day_start_s(d) for d in (first_day, day, day + 1))
        cycle_s = tier_cycle(self.book, some.tariff, some.history, max(from_s, some.from_s))[1]
        closed = {self._first_of(slot): self._closes(self._first_of(slot)) for slot in ring.slots}
        asked = (from_s, start_s, end_s)
        for margin in _MARGINS_DAYS:
            windows = None if margin is None else _windows(margin, asked, cycle_s, closed)
            look = self._log.look(closed, windows)
            registers = {first: self._register(first, seen) for first, seen in look.seen.items()}
            if windows is None or self._complete(registers, closed, look, windows[0][0], asked):
                break
        moves = self._moves(ring, registers)
        starts = LadderStarts(ring, self._rows, self._states)
        begin = _begin([move for _, move in moves], from_s)
        walked = [(slot, move) for slot, move in moves if move.order >= begin]
        before = [(slot, move) for slot, move in moves if move.order < begin]
        ladders = starts.ladders(first_day, before, rate_moves(self.book, ring.spans, walked, ring.empty()))
        steps = rate_moves(self.book, ring.spans, walked, ladders)
        guesses = {first: self._guesses(ring, registers, first, closed[first], steps) for first in registers}
        return _Story(steps, registers, guesses)

    def _register(self, first: int, seen: Sequence[Seen]) -> Register:
        """What was seen of the register between its opening here and its end, or its next opening."""
        facts, spans = self._image.channels, chain(self._image, first)
        opening_s, value = int(facts["opening_at_s"][first]), int(facts["opening_value"][first])
        quality = int(facts["opening_quality"][first]) or 4
        opening = Point(opening_s, value, quality, value, "opening")
        register = Register(opening, int(facts["digits"][first]), lambda at_s: self._step_at(spans, at_s))
        before_s = int(facts["until_s"][self._before[first]]) if first in self._before else -1
        until_s = int(facts["until_s"][spans[-1]])
        register.follow(one for one in seen if one.kind == "close" or before_s < one.at_s <= until_s)
        return register

    def _step_at(self, spans: Sequence[int], at_s: int) -> int:
        """Steps of the span in which a register of that time goes on."""
        facts = self._image.channels
        here = next((slot for slot in spans if at_s < facts["until_s"][slot]), spans[-1])
        tariff = int(facts["tariff"][here])
        return (self.book.tariffs[tariff].quantity_step or 1) if tariff >= 0 else 1

    def _moves(self, ring: Ring, registers: Mapping[int, Register]) -> list[tuple[int, Move]]:
        """What the ring's channels did, in the order in which it was charged."""
        found = []
        for slot, span in ring.spans.items():
            for move in registers[self._first_of(slot)].moves:
                part = part_of(move, span.from_s, span.until_s, last=span.last)
                if part is not None:
                    found.append((slot, part))
        return sorted(found, key=lambda one: (one[1].order, one[1].from_s))

    def _complete(
        self,
        registers: Mapping[int, Register],
        closed: Mapping[int, Sequence[Closed]],
        look: Look,
        low_day: int,
        asked: Asked,
    ) -> bool:
        """Was everything read that was charged from the first move that reaches beyond `from_s` to the last one that
        has to do with the day?"""
        from_s, start_s, end_s = asked
        moves = [move for register in registers.values() for move in register.moves]
        begin = _begin(moves, from_s)
        for first, register in registers.items():
            told = {one.at_s for one in look.seen[first] if one.kind == "close"}
            if any(one.end_s not in told for one in _due(closed[first], asked)):
                return False
            mine = [slot for slot in self._spans if self._first_of(slot) == first]
            now_s = max(int(self._states[slot]["at_s"]) for slot in mine)
            if _known_to_s(register, look.skipped, low_day, begin) < min(end_s, now_s):
                return False
        last = max((m.order for m in moves if m.to_s >= start_s and m.from_s < end_s), default=begin)
        return not any(begin[0] < offset < last[0] for offset in look.skipped)

    # -- guesses ---------------------------------------------------------------------------------------------
    def _closes(self, first: int) -> list[Closed]:
        """Closes by the window that this register saw: its account's, and the guesses of others that it was of."""
        spans, found = chain(self._image, first), []
        accounts: dict[int, list[int]] = defaultdict(list)
        for slot in spans:
            accounts[int(self._image.channels["account"][slot])].append(slot)
        for account, mine in accounts.items():
            if account < 0:
                continue
            own, where = account == self._account.slot, (self._view.connection, self._account.partition, account)
            rows = self._rows if own else statement_rows(*where)
            made = closes(self._image, self.book, account, mine, bills(*where), rows)
            found += [one for one in made if own or one.energy_wh]
        return sorted(found, key=lambda one: (one.closed_at_s, one.cycle))

    def _guesses(
        self,
        ring: Ring,
        registers: Mapping[int, Register],
        first: int,
        closed: Sequence[Closed],
        steps: Sequence[Step],
    ) -> list[Guess]:
        """The figures of each guess that was rated."""
        register = registers[first]
        found, used_wh = [], dict[Order, int]()  # by place of the close
        mine = chain(self._image, first)
        made = {one.to_s: one for one in closed if one.energy_wh}
        whole = {move.order: move for move in register.moves if move.kind == "guess"}
        for step in steps:
            move, span = step.move, self._spans[step.slot]
            if move.kind == "close" and step.slot in mine:
                used_wh[move.order] = step.used_wh
            if move.kind != "guess" or move.order not in whole:
                continue
            one = made[whole[move.order].to_s]
            if step.slot == one.slot:
                point = next(p for p in reversed(register.points) if p.at_s == whole[move.order].from_s)
                cycle = ring.cycle(span, point.at_s)
                close = (move.order[0], 0, one.close_place)  # guesses of one close do not rest on each other
                counted_wh = used_wh[close] - ring.opening(span.ladder, cycle)
                counted = self._counted(ring, registers, ring.together(span.ladder, cycle), cycle, close)
                found.append(figures(self._image, one, point, counted_wh, step.used_wh, *counted))
        return found

    def _counted(
        self, ring: Ring, registers: Mapping[int, Register], ladders: Sequence[int], cycle: Cycle, order: Order
    ) -> tuple[int, int]:
        """For how long a tier cycle was counted on these ladders by that place of the log, and by how many registers.

        Seconds of several registers add up.
        """
        known_s: dict[int, int] = defaultdict(int)
        for slot, span in ring.spans.items():
            first = self._first_of(slot)
            reached_s = [move.to_s for move in registers[first].moves if move.order < order]
            at_s = reached_s[-1] if reached_s else registers[first].points[0].at_s
            high_s = min(cycle[2], at_s, span.until_s)
            if span.ladder in ladders and span.from_s < high_s:
                number, low_s, _ = ring.cycle(span, high_s - 1)
                if number == cycle[0]:
                    known_s[first] += high_s - max(low_s, span.from_s)
        return sum(known_s.values()), len(known_s)


def _known_to_s(register: Register, skipped: Sequence[int], low_day: int, begin: Order) -> int:
    """Up to when every move of the register since `begin` is known: one behind a file that was left out may be of
    many readings."""
    opening_s = register.points[0].at_s
    before, at_s = 0, opening_s
    for move in register.moves:
        known = before == 0 and opening_s // DAY_S >= low_day  # all later readings are of later days
        gap = any(before < offset < move.order[0] for offset in skipped)
        if gap and not known and move.order >= begin:
            break
        before, at_s = move.order[0], move.to_s
    return at_s


def _begin(moves: Sequence[Move], from_s: int) -> Order:
    """Place of the first move that reaches beyond `from_s`; of the close that made it, when it is a guess."""
    first = min((move for move in moves if _reaches(move, from_s)), key=lambda move: move.order, default=None)
    if first is None:
        return (2**63, 0, 0)
    return (first.order[0], 0, 0) if first.kind == "guess" else first.order


def _reaches(move: Move, from_s: int) -> bool:
    """Does it charge anything on a day that begins at `from_s` or later?"""
    return move.to_s > from_s or (move.from_s == move.to_s == from_s)


def _due(closed: Sequence[Closed], asked: Asked) -> list[Closed]:
    """Closes that may have to do with the days."""
    return [one for one in closed if one.end_s > asked[0] and one.closed_at_s < asked[2] + 62 * DAY_S]


def _windows(margin: int, asked: Asked, cycle_s: int, closed: Mapping[int, Sequence[Closed]]) -> Windows:
    """Days of the readings that are needed: around the bill cycle so far, the tier cycle's start (what better
    readings changed there counts in the cycle before), and the ticks that closed bills in between."""
    low, high = asked[0] // DAY_S - margin, asked[2] // DAY_S + margin
    found = [(low, high)]
    if cycle_s // DAY_S < low:
        found.append((cycle_s // DAY_S - 5, cycle_s // DAY_S + 5))
    for some in closed.values():
        found += [(day - 5, day + 5) for day in sorted({one.closed_at_s // DAY_S for one in _due(some, asked)})]
    return found


def _sum(rows: Sequence[StatementRow], component: str) -> int:
    return sum(row.amount_fen for row in rows if row.component == component)
