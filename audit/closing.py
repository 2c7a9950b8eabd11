"""Pure: an account's bill [7]: what its tariffs charge beside the energy when it closes, and as it stands before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final, Protocol

from audit.bills import Used, fen, reckon
from audit.ladders import opened_s
from audit.meter import Channel, Ladder
from audit.tariffs import Tariff, month_of, month_start
from audit.world import FOREVER, Account

_COMPONENT: Final = {
    "standing": "standing", "levy": "levy", "credit": "allowance", "percent": "percent", "minimum": "minimum",
    "export": "export",
}  # fmt: skip


class Books(Protocol):
    """Where a bill's charges are expected."""

    expected: dict[tuple[str, int, str], int]

    def posted(self, account: str, day: int, component: str, amount: int) -> None: ...


@dataclass(slots=True)
class Bill:
    """An account's posted balance and open bill cycle."""

    account: Account
    cycle: int
    end_s: int
    carry_energy: Decimal = Decimal(0)
    carry_adder: Decimal = Decimal(0)
    open: bool = True
    balance_fen: int = 0
    arrears_fen: int = 0
    channels: list[Channel] = field(default_factory=list)

    def sheets(self) -> Iterator[tuple[Ladder, Used]]:
        """Of the account's tariffs that are not linear, in the order of their names."""
        ladders = {channel.ladder.tariff.id: channel.ladder for channel in self.channels}
        for _, ladder in sorted(ladders.items()):
            if ladder.sheet is not None:
                yield ladder, ladder.sheet

    def served(self, ladder: Ladder, month: int, until_day: int) -> list[int]:
        """Days of a month before `until_day` at whose end a register counts under the tariff."""
        tariff, found = ladder.tariff, set[int]()
        for channel in self.channels:
            if channel.ladder is ladder:
                span = channel.span
                ends = FOREVER if span.until_s == FOREVER else tariff.day_of(span.until_s)
                begins = max(tariff.day_of(opened_s(span)), month_start(month), tariff.first_day)
                found.update(range(begins, min(ends, until_day, month_start(month + 1))))
        return sorted(found)


@dataclass(slots=True)
class Charges:
    """Of a bill that closes: its total before the rounding without the carry, what is booked of it, what is kept."""

    whole: Fraction = Fraction()
    booked_fen: int = 0
    carry: Decimal = Decimal(0)


def charge(bill: Bill, sink: Books) -> Charges:
    """[7] What the account's tariffs charge beside the energy of the cycle that closes."""
    out, name = Charges(), bill.account.id
    for ladder, sheet in bill.sheets():
        found = reckon(sheet, ladder.history, bill.cycle, bill.served(ladder, bill.cycle, FOREVER))
        days = bill.served(ladder, bill.cycle, FOREVER)
        there = bool(days or sheet.counted.get(bill.cycle) or sheet.fed_in.get(bill.cycle))
        minor = Fraction(sheet.tariff.minor)
        trued, last_day = fen(found.energy - found.used, sheet.tariff), month_start(bill.cycle + 1) - 1
        out.whole += found.posted_fen * minor + found.energy - found.used
        out.booked_fen += found.posted_fen + trued
        if sheet.tariff.by_line:
            out.whole += found.by_line * minor - found.energy
        sink.posted(name, last_day, "tiers 0.0", trued)
        for one in found.charges:
            place = f"{one.version}.{one.place}"
            if one.contained:
                if there and one.money:
                    sink.expected[name, one.last_day, f"contained {place}"] += e11_of(one.money, sheet.tariff)
                continue
            amount = fen(one.money, sheet.tariff)
            sink.posted(name, one.last_day, f"{_COMPONENT[one.kind]} {place}", amount)
            out.whole += amount * minor if sheet.tariff.by_line else one.money
            out.booked_fen += amount
        out.carry += sum((rest for month, rest in sheet.carried.items() if month > bill.cycle), Decimal(0))
        sheet.close()
    return out


def pending_e11(bill: Bill, ticked_s: int) -> int:
    """What open bills cost beside their energy, if they ended with the last local day that is over."""
    if not bill.open:
        return 0
    total = 0
    for ladder, sheet in bill.sheets():
        until_day = sheet.tariff.day_of(ticked_s) if ticked_s else 0
        last = max([bill.cycle, month_of(until_day - 1), *sheet.counted, *sheet.fed_in])
        for month in range(bill.cycle, last + 1):
            days = bill.served(ladder, month, until_day)
            total += e11_of(reckon(sheet, ladder.history, month, days).beside, sheet.tariff)
    return total


def e11_of(amount: Fraction, tariff: Tariff) -> int:
    """An exact amount in billionths of the minor unit: 1e-11 of a currency with cents."""
    scaled = amount * 10**9 / Fraction(tariff.minor)
    assert scaled.denominator == 1, f"finer than a billionth of {tariff.minor}: {amount}"
    return int(scaled)
