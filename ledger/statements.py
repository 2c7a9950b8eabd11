"""Pure: a statement from an account's posted rows: one bill cycle a local month, lines that sum to the ledger.

    opening balance + usage (negative) + charges + rounding + credits - reversals + adjustments = closing balance

A row belongs to the month of its day: use to the day it happened on, money to the day it was booked. The opening
state stands before the first cycle. Nothing is computed anew: every figure is a sum of posted fen, so the last
closing balance must be the ledger's posted balance, and `Statement.agrees` says whether it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final

from config.units import round_ratio
from ledger import effects
from ledger.effects import COMPONENT_NAME
from ledger.reads import BillRow, StatementRow

EPOCH: Final = date(1970, 1, 1)
USAGE: Final = ("energy", "tier_adder")
MONEY: Final = ("credit", "reversal", "adjustment")
CHARGES: Final = tuple(COMPONENT_NAME[number] for number in effects.CHARGES)
E11_PER_FEN: Final = 10**9


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One component over a cycle; `quantity_wh` is 0 for those that only add to a price."""

    component: str
    quantity_wh: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One charge of a closed bill beside the energy; `contained_fen`: it is in the other lines already, and adds
    nothing. Which charge it is say the ladder (whose tariff), the version and the place."""

    component: str
    ladder: int
    version: int
    place: int
    amount_fen: int
    contained_fen: int = 0


@dataclass(frozen=True, slots=True)
class MoneyLine:
    """One credit, reversal or adjustment."""

    day: int
    component: str
    reference: str
    amount_fen: int


@dataclass(frozen=True, slots=True)
class DayUse:
    """Energy and charge of one local day, all components."""

    day: int
    quantity_wh: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Cycle:
    """One bill cycle; `month` counts from 1970-01; `bill` None while it is open."""

    month: int
    opening_fen: int
    usage: tuple[UsageLine, ...]
    charges: tuple[ChargeLine, ...]
    rounding_fen: int
    money: tuple[MoneyLine, ...]
    days: tuple[DayUse, ...]
    closing_fen: int
    bill: BillRow | None
    estimated_wh: int = 0  # of the use: what was guessed because the boundary register was not there in time

    @property
    def usage_fen(self) -> int:
        return sum(line.amount_fen for line in self.usage)

    @property
    def quantity_wh(self) -> int:
        return sum(line.quantity_wh for line in self.usage)


@dataclass(frozen=True, slots=True)
class Statement:
    """All of an account's cycles, oldest first; amounts in the customer's favour are positive."""

    opening_fen: int
    cycles: tuple[Cycle, ...] = field(default=())
    lines_fen: int = 0  # the sum of every line, the opening state included
    posted_fen: int = 0  # the balance in the account's state

    @property
    def agrees(self) -> bool:
        """Whether the lines sum to the ledger's balance, and each cycle's closing is the next one's opening."""
        ends = [self.opening_fen, *(cycle.closing_fen for cycle in self.cycles)]
        chained = all(end == cycle.opening_fen for end, cycle in zip(ends, self.cycles, strict=False))
        return chained and self.lines_fen == self.posted_fen


def date_of(day: int) -> date:
    """Calendar date of a local day number."""
    return EPOCH + timedelta(days=day)


def month_of(day: int) -> int:
    """Months since 1970-01 of a local day number."""
    here = date_of(day)
    return (here.year - 1970) * 12 + here.month - 1


def month_text(month: int) -> str:
    """'2026-07' for a month number."""
    return f"{1970 + month // 12:04d}-{month % 12 + 1:02d}"


def statement(rows: Sequence[StatementRow], bills: Iterable[BillRow], posted_fen: int) -> Statement:
    """Everything posted on one account; `rows` and `bills` as `ledger.reads` gives them, of one snapshot."""
    opening_fen = sum(row.amount_fen for row in rows if row.component == "opening")
    others = [row for row in rows if row.component != "opening"]
    closed = {bill.cycle: bill for bill in bills}
    months = sorted({month_of(row.day) for row in others} | set(closed))
    cycles: list[Cycle] = []
    balance = opening_fen
    for month in months:
        mine = [row for row in others if month_of(row.day) == month]
        cycles.append(_cycle(month, balance, mine, closed.get(month)))
        balance = cycles[-1].closing_fen
    return Statement(opening_fen, tuple(cycles), sum(row.amount_fen for row in rows), posted_fen)


def between(whole: Statement, first_month: int | None, last_month: int | None) -> Statement:
    """The cycles from one month to another; their opening balances stay what they are."""
    kept = tuple(
        cycle
        for cycle in whole.cycles
        if (first_month is None or cycle.month >= first_month) and (last_month is None or cycle.month <= last_month)
    )
    start_fen = kept[0].opening_fen if kept else whole.opening_fen
    gone_fen = whole.cycles[-1].closing_fen - kept[-1].closing_fen if kept else 0
    lines_fen = whole.lines_fen - gone_fen
    return replace(
        whole, opening_fen=start_fen, cycles=kept, lines_fen=lines_fen, posted_fen=whole.posted_fen - gone_fen
    )


def _cycle(month: int, opening_fen: int, rows: Sequence[StatementRow], bill: BillRow | None) -> Cycle:
    usage = tuple(_usage(name, [row for row in rows if row.component == name]) for name in USAGE)
    days: dict[int, tuple[int, int]] = {}
    for row in rows:
        if row.component in USAGE:
            quantity, amount = days.get(row.day, (0, 0))
            days[row.day] = quantity + row.quantity, amount + row.amount_fen
    return Cycle(
        month=month,
        opening_fen=opening_fen,
        usage=tuple(line for line in usage if line.quantity_wh or line.amount_fen),
        charges=tuple(_charge(row) for row in rows if row.component in CHARGES),
        rounding_fen=_sum(rows, lambda row: row.component == "rounding"),
        money=tuple(
            MoneyLine(row.day, row.component, row.reference or "", row.amount_fen)
            for row in rows
            if row.component in MONEY
        ),
        days=tuple(DayUse(day, *days[day]) for day in sorted(days)),
        closing_fen=opening_fen + _sum(rows, lambda _row: True),
        bill=bill,
        estimated_wh=sum(row.quantity for row in rows if row.kind == "estimate"),
    )


def _usage(name: str, rows: Sequence[StatementRow]) -> UsageLine:
    return UsageLine(name, sum(row.quantity for row in rows), sum(row.amount_fen for row in rows))


def _charge(row: StatementRow) -> ChargeLine:
    """A bill says an amount that is contained in whole fen, as it says its total."""
    contained = round_ratio(row.quantity, E11_PER_FEN, "half_up") if row.component == "contained" else 0
    return ChargeLine(row.component, row.channel, row.version, row.place, row.amount_fen, contained)


def _sum(rows: Sequence[StatementRow], which: Callable[[StatementRow], bool]) -> int:
    return sum(row.amount_fen for row in rows if which(row))
