"""Pure: bills that closed by the settlement window, for `explain`: when, and what each guess added to a register.

The guess itself is in no archive: it was made at the close, from where the ladder stood then. Its energy is what
the ledger posted as `estimate`; the figures of the rule (docs/ARCHITECTURE.md, "Rating", 7) are put together again
here, so that whoever asks sees where it comes from, and whether the rule gives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.reads import BillRow, StatementRow
from ledger.statements import month_of
from meterd.views.explaining import Guess
from meterd.views.registers import Point
from rating.book import TariffBook
from rating.calendar import first_day_of
from registry.image import NONE, PartitionImage


@dataclass(frozen=True, slots=True)
class Closed:
    """One close by the window, as one register saw it. `energy_wh` 0: no guess was made for it."""

    cycle: int
    closed_at_s: int
    end_s: int  # of the cycle
    to_s: int  # where the guess takes the register to
    value: int  # what it adds, thousandths
    energy_wh: int
    slot: int  # of the span that the register stood in
    close_place: int  # of the close in its tick, and of the guess behind it: guesses are made in the order of slots
    place: int
    rows: tuple[StatementRow, ...]


def chain(image: PartitionImage, first: int) -> list[int]:
    """Channel slots of one register, span by span, up to one that has an opening register of its own."""
    found = [first]
    while (following := int(image.channels["next"][found[-1]])) != NONE:
        if int(image.channels["opening_value"][following]) >= 0:
            break
        found.append(following)
    return found


def closes(
    image: PartitionImage,
    book: TariffBook,
    account: int,
    spans: Sequence[int],
    bills: Sequence[BillRow],
    rows: Sequence[StatementRow],
) -> list[Closed]:
    """An account's closes by the window, oldest first, each with its guess for the register of these spans."""
    channels = image.account_channels[image.account_start[account] : image.account_start[account + 1]].tolist()
    found: list[Closed] = []
    in_tick: Counter[int] = Counter()
    for bill in bills:
        if bill.complete:
            continue
        close_place = in_tick[bill.offset] * (len(channels) + 1)
        in_tick[bill.offset] += 1
        same = [one.cycle for one in found if one.rows and one.rows[0].offset == bill.offset]
        mine = tuple(
            row
            for row in rows
            if row.kind == "estimate" and row.offset == bill.offset and row.channel in spans
            and max(same, default=-1) < month_of(row.day) <= bill.cycle
        )  # fmt: skip
        value, energy_wh = 0, 0
        for slot in spans:
            part = sum(row.quantity for row in mine if row.channel == slot)
            value, energy_wh = value + part // int(image.channels["multiplier"][slot]), energy_wh + part
        charged = sorted({row.channel for row in mine if row.quantity}, key=spans.index) or spans[:1]
        end_s = book.day_start_s(int(image.channels["tariff"][charged[-1]]), first_day_of(bill.cycle + 1))
        to_s = min(end_s, int(image.channels["until_s"][charged[-1]]))
        place = close_place + 1 + channels.index(charged[0]) if energy_wh else close_place
        told = (end_s, to_s, value, energy_wh, charged[0], close_place, place, mine)
        found.append(Closed(bill.cycle, bill.closed_at_s, *told))
    return found


def figures(
    image: PartitionImage,
    closed: Closed,
    point: Point,
    used_wh: int,
    begins_wh: int,
    known_s: int,
    registers: int,
) -> Guess:
    """The rule's figures for a guess that began at `point`.

    `used_wh`: what the ladder had counted in the tier cycle when it was made, in `known_s` of so many `registers`
    together; `begins_wh`: where the ladder stood when it was charged.
    """
    facts = image.channels[closed.slot]
    for_s = closed.to_s - point.at_s
    multiplier, resolution = int(facts["multiplier"]), int(facts["resolution"])
    follows = False
    if known_s > 0:
        value = point.value + used_wh * for_s // known_s // multiplier
        shown = point.shown + value - point.value  # what is rounded is the register as it stands
        follows = value - shown % resolution - point.value == closed.value
    return Guess(
        closed.closed_at_s, point.at_s, closed.to_s, used_wh, begins_wh, known_s, registers, closed.energy_wh, follows
    )
