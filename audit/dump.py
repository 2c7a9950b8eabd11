"""Pure: what an audit must know of a partition to go on later, as lines of plain values, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from audit.accounts import PartitionAudit
from audit.bills import Counted
from audit.ladders import tie
from audit.meter import Ladder
from audit.world import World

Line = list[Any]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition was audited; `applied`: inbox rows that were applied after the last record."""

    offset: int = 0
    checkpoint: int = 0
    entry_last: int = 0
    as_of_s: int = 0
    ticked_s: int = 0
    digest: str = ""
    applied: tuple[int, ...] = ()


def dump(book: PartitionAudit, position: Position) -> Iterator[Line]:
    """The position, then a line a ring of ladders that count as one, ladder, channel, account and sheet."""
    yield ["position", asdict(position)]
    rings: dict[int, tuple[str, Ladder, list[str]]] = {}
    for (account, tariff), ladder in book.ladders.items():
        if ladder.ring:
            rings.setdefault(id(ladder.ring), (account, ladder, []))[2].append(tariff)
    for account, ladder, members in rings.values():
        yield ["ring", account, ladder.ring_until, members]
    for (account, tariff), ladder in book.ladders.items():
        used = [[cycle, wh[0]] for cycle, wh in ladder.used.items() if wh[0]]
        yield ["ladder", account, tariff, ladder.opened_s, ladder.reached, used, list(ladder.brought.items())]
    for key, c in book.channels.items():
        now = [c.value, c.at_s, c.quality, c.excess, c.pending, c.day_wh, list(c.open.items())]
        yield ["channel", *key, *now, str(c.rest_energy), str(c.rest_adder)]
    for name, b in book.bills.items():
        money = [str(b.carry_energy), str(b.carry_adder), b.balance_fen, b.arrears_fen]
        yield ["account", name, b.cycle, b.end_s, b.open, *money]
    for (account, tariff), ladder in book.ladders.items():
        if (sheet := ladder.sheet) is not None:
            counted = [
                [month, *key, one.wh, str(one.money)]
                for month, of in sheet.counted.items()
                for key, one in of.items()
            ]
            fed_in = [[month, *key, wh] for month, of in sheet.fed_in.items() for key, wh in of.items()]
            carried = [[month, str(rest)] for month, rest in sheet.carried.items()]
            posted = list(sheet.posted_fen.items())
            yield ["sheet", account, tariff, sheet.open_month, counted, fed_in, posted, carried]


def restore(book: PartitionAudit, lines: Iterable[Line], world_of: Callable[[str], World]) -> Position:
    """Go on from a `dump`; where there is none, from the beginning."""
    position = Position()
    for kind, *told in lines:
        match kind:
            case "position":
                position = Position(**{**told[0], "applied": tuple(told[0]["applied"])})
                book.offset, book.as_of_s, book.ticked_s = position.offset, position.as_of_s, position.ticked_s
                if position.digest:
                    book.activate(world_of(position.digest), opening=False)
            case "ring":
                account, until, members = told
                tie([book.ladders[account, tariff] for tariff in members], until)
            case "ladder":
                _ladder(book, *told)
            case "channel":
                _channel(book, *told)
            case "account":
                _account(book, *told)
            case "sheet":
                _sheet(book, *told)
            case _:
                raise AssertionError(f"a line of an unknown kind {kind!r}")
    book.restored()
    return position


def _ladder(
    book: PartitionAudit,
    account: str,
    tariff: str,
    opened_s: int,
    reached: int | None,
    used: list[list[int]],
    brought: list[list[int]],
) -> None:
    ladder = book.ladders[account, tariff]
    ladder.opened_s, ladder.reached = opened_s, reached
    ladder.brought.clear()
    for cycle, wh in brought:
        ladder.brought[cycle] = wh
    ladder.used.clear()
    for cycle, wh in used:
        ladder.used[cycle][0] = wh


def _channel(
    book: PartitionAudit,
    serial: str,
    code: int,
    from_s: int,
    value: int,
    at_s: int,
    quality: int,
    excess: int,
    pending: list[int] | None,
    day_wh: int,
    opened: list[list[int]],
    energy: str,
    adder: str,
) -> None:
    c = book.channels[serial, code, from_s]
    c.value, c.at_s, c.quality, c.excess, c.day_wh = value, at_s, quality, excess, day_wh
    c.pending = (pending[0], pending[1]) if pending else None
    c.open = {key: wh for key, wh in opened}  # noqa: C416 - pairs of a list
    c.rest_energy, c.rest_adder = Decimal(energy), Decimal(adder)


def _sheet(
    book: PartitionAudit,
    account: str,
    tariff: str,
    open_month: int,
    counted: list[tuple[int, int, int, int, int, str]],
    fed_in: list[tuple[int, int, int, int]],
    posted: list[tuple[int, int]],
    carried: list[tuple[int, str]],
) -> None:
    sheet = book.ladders[account, tariff].sheet
    assert sheet is not None
    sheet.open_month = open_month
    for month, day, key, tier, wh, money in counted:
        sheet.counted[month][day, key, tier] = Counted(wh, Decimal(money))
    for month, day, key, wh in fed_in:
        sheet.fed_in[month][day, key] = wh
    sheet.posted_fen.update((month, fen) for month, fen in posted)
    sheet.carried.update((month, Decimal(rest)) for month, rest in carried)


def _account(
    book: PartitionAudit,
    name: str,
    cycle: int,
    end_s: int,
    is_open: bool,
    energy: str,
    adder: str,
    balance: int,
    arrears: int,
) -> None:
    bill = book.bills[name]
    bill.cycle, bill.end_s, bill.open = cycle, end_s, is_open
    bill.carry_energy, bill.carry_adder = Decimal(energy), Decimal(adder)
    bill.balance_fen, bill.arrears_fen = balance, arrears
