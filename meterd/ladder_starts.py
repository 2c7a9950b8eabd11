"""Pure: where ladders stood when `explain` begins to rate a bill cycle again, from what was posted before it.

posted on days before     = charged before the first move that is rated again
                          + charged by those moves, on these days
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.reads import StatementRow
from meterd.views.explaining import Span, Step
from meterd.views.registers import Move
from rating.book import TariffBook
from rating.walk import Ladder, tier_cycle

Cycle = tuple[int, int, int]  # number, start, end


@dataclass(frozen=True, slots=True)
class Ring:
    """Channels whose energy moves the same ladders. `tied_s`: by ladder, until when the state has it tied."""

    book: TariffBook
    spans: Mapping[int, Span]
    facts: Any  # LADDER_FACTS of the partition
    tied_s: Mapping[int, int]

    @property
    def slots(self) -> tuple[int, ...]:
        return tuple(self.spans)

    @property
    def until_s(self) -> int:
        """Up to when its ladders count as one: the end of the tier cycle of the last switch (rating.rings)."""
        if len(self.tied_s) < 2:
            return 0
        last = max(self.spans.values(), key=lambda span: span.from_s)
        return max(self.cycle(last, last.from_s)[2], *self.tied_s.values())

    def cycle(self, span: Span, at_s: int) -> Cycle:
        return tier_cycle(self.book, span.tariff, span.history, at_s)

    def together(self, place: int, cycle: Cycle) -> list[int]:
        """The ladders that count as one with `place` in a tier cycle, itself among them."""
        return list(self.tied_s) if cycle[1] < self.until_s else [place]

    def opening(self, place: int, cycle: Cycle) -> int:
        """The energy so far that the registry brought in, if it was of this cycle."""
        used_wh = 0
        for one in self.facts[self.together(place, cycle)]:
            stage = self.book.stage_of(int(one["tariff"]), int(one["history"]), int(one["opening_at_s"]))
            if stage >= 0 and int(self.book.stage_cycle[stage]) == cycle[0]:
                used_wh += int(one["opening_used"])
        return used_wh

    def empty(self) -> dict[int, Ladder]:
        """Ladders without any use yet, by slot, tied to each other."""
        made = {}
        for place in self.tied_s:
            tariff = self.book.tariffs[int(self.facts["tariff"][place])]
            made[place] = Ladder(tariff.cycle_months, 0, {})
        for place, one in made.items():
            one.ring, one.ring_until_s = tuple(o for p, o in made.items() if p != place), self.until_s
        return made


@dataclass(frozen=True, slots=True)
class LadderStarts:
    """One ring, its account's statement, and the states of its channels."""

    ring: Ring
    rows: Sequence[StatementRow]
    states: Mapping[int, Any]

    def ladders(self, day: int, before: Iterable[tuple[int, Move]], walked: Sequence[Step]) -> dict[int, Ladder]:
        """As they stood when the first of `walked` was charged, which reaches beyond the start of `day`.

        `before`: moves before it, as far as they are known. Only the energy of `walked` is looked at.
        """
        ring, made = self.ring, self.ring.empty()
        known = list(before)
        late = [*known, *((step.slot, step.move) for step in walked)]
        for place, ladder in made.items():
            cycles = self._cycles(place, known)
            ladder.furthest = cycles[-1][0]
            for cycle in cycles:
                places = ring.together(place, cycle)
                slots = [s for s, span in ring.spans.items() if span.ladder in places]
                used_wh = ring.opening(place, cycle) + self._charged(slots, cycle, day)
                # what better readings of a cycle's very start changed is posted in it, and counts in the one before
                for slot, move in late:
                    if slot in slots and move.kind == "late" and move.to_s < self._start_s(day):
                        sign = (move.to_s == cycle[2]) - (move.to_s == cycle[1])
                        used_wh += sign * move.value * ring.spans[slot].multiplier
                used_wh -= sum(
                    line.energy_wh
                    for step in walked
                    if step.slot in slots
                    for line in step.lines
                    if line.day < day and line.cycle == cycle[0]
                )
                ladder.used[cycle[0]] = used_wh
        return made

    def _start_s(self, day: int) -> int:
        return self.ring.book.day_start_s(next(iter(self.ring.spans.values())).tariff, day)

    def _cycles(self, place: int, before: Sequence[tuple[int, Move]]) -> list[Cycle]:
        """The furthest tier cycle that the ladder had reached, and in front of it the one before."""
        ring = self.ring
        some = min((s for s in ring.spans.values() if s.ladder == place), key=lambda span: span.from_s)
        furthest = ring.cycle(some, some.from_s)
        for slot, move in before:
            if ring.spans[slot].ladder == place or move.to_s <= ring.until_s:
                furthest = max(furthest, ring.cycle(some, max(some.from_s, move.to_s - 1)))
        known = ring.book.stage_of(some.tariff, some.history, furthest[1] - 1) >= 0
        return [ring.cycle(some, furthest[1] - 1), furthest] if known else [furthest]

    def _charged(self, slots: Sequence[int], cycle: Cycle, day: int) -> int:
        """What the channels have on days before `day` of the tier cycle: posted, or accrued on a day still open."""
        energy_wh = 0
        for slot in slots:
            span, state = self.ring.spans[slot], self.states[slot]
            calendar = self.ring.book.calendars[span.tariff]
            low, high = calendar.day_of(cycle[1]), min(day, calendar.day_of(cycle[2]))
            energy_wh += sum(r.quantity for r in self.rows if r.channel == slot and low <= r.day < high)
            if int(state["at_s"]) > 0 and low <= calendar.day_of(int(state["at_s"])) < high:
                energy_wh += int(state["day_energy"])
        return energy_wh
