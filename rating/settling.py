"""Pure: sheets as money of accounts: what is pending against a live balance, and what a bill posts when it closes.

    pending     charges of every open bill cycle, as if it ended with the last local day that is over
    settled     charges of the cycle that closes, in whole minor units, and what its rounding has to reach

Live balance = posted - accrued - carry - pending: it holds the standing charge of every day that is over, the tax on
what has been used so far, the rebate that it brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ledger.effects import SUBLEDGER, Component
from ledger.postings import charge_rows
from rating.bills import Due, due, lines_rounded, rounded
from rating.bins import POSTED
from rating.calendar import first_day_of, months_of
from rating.partition import Partition
from rating.served import NEVER_ENDS
from rating.sheets import run_of
from rating.state import AccountFlag

Rows = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]
_COMPONENT: Final = {
    "standing": Component.STANDING,
    "levy": Component.LEVY,
    "credit": Component.ALLOWANCE,
    "percent": Component.PERCENT,
    "minimum": Component.MINIMUM,
    "export": Component.EXPORT,
}


class _Group(NamedTuple):
    """Sheets of one tariff whose open bill cycle is the same."""

    tariff: int
    cycle: int
    sheets: Int64s
    which: Int64s  # the place of each one's account in the accounts that were asked for


def _groups(part: Partition, accounts: Rows) -> Iterator[_Group]:
    sheets, which = part.served.sheets_of(accounts)
    key = part.served.tariff[sheets].astype(np.int64) << 32 | part.sheet["cycle"][sheets].astype(np.int64)
    for one in np.unique(key).tolist():
        mine = key == one
        yield _Group(one >> 32, one & 0xFFFFFFFF, sheets[mine], which[mine])


def _due(part: Partition, group: _Group, cycle: int, until_day: int) -> Due | None:
    """One bill cycle of a group; None where there is nothing in it."""
    assert part.book is not None
    assert part.image is not None
    layout = part.book.layouts[group.tariff]
    assert layout is not None
    if not layout.reaches(cycle):
        return None
    sheet = part.sheet[group.sheets]
    held = cycle < sheet["cycle"] + sheet["cycles"]
    at = run_of(sheet, cycle)[:, None] + np.arange(layout.width)
    cells = part.cell[np.where(held[:, None], at, 0)]
    cells[~held] = 0

    def between(starts: Int64s, ends: Int64s) -> Int64s:
        return part.served.days(group.sheets, starts, ends, until_day)

    stretches = layout.cycle(cycle).stretches
    whole = np.array([stretches[0].first_day]), np.array([stretches[-1].end_day])
    if not between(*whole).any() and not any(cells[name].any() for name in ("wh", "energy_e11")):
        return None
    histories = part.image.ladders["history"][sheet["ladder"]]
    return due(part.book, group.tariff, cycle, cells, histories, between)


def refresh_pending(part: Partition, accounts: Rows, ticked_s: int) -> None:
    """Reckon what is pending against these accounts after the tick of `ticked_s`; those that it moves are dirty."""
    if len(part.sheet) == 0 or len(accounts) == 0:
        return
    assert part.book is not None
    total = np.zeros(len(accounts), np.int64)
    for group in _groups(part, accounts):
        calendar = part.book.calendars[group.tariff]
        until_day = calendar.day_of(ticked_s) if ticked_s else 0
        reached = group.cycle + int(part.sheet["cycles"][group.sheets].max())
        for cycle in range(group.cycle, max(reached, int(months_of([until_day - 1])[0]) + 1)):
            found = _due(part, group, cycle, until_day)
            if found is not None:
                np.add.at(total, group.which, found.beside_e11)
    rows = part.account
    total[rows["flags"][accounts] & AccountFlag.OPEN == 0] = 0
    moved = accounts[rows["pending_e11"][accounts] != total]
    rows["pending_e11"][accounts] = total
    part.dirty_account[moved] = 1


@dataclass(slots=True)
class Settled:
    """Of accounts whose open bill cycle closes, in their order; accounts without sheets have zeros.

    The bill's total is `whole_e11` and the carry, less `kept_e11`, rounded; `booked_e11` of it is posted before the
    rounding, `charges` among it.
    """

    whole_e11: Int64s
    booked_e11: Int64s
    kept_e11: Int64s  # of the carry: remainders of cycles that are open still
    charges: list[Rows] = field(default_factory=list)  # SUBLEDGER

    @property
    def rows(self) -> Rows:
        return np.concatenate(self.charges) if self.charges else np.zeros(0, SUBLEDGER)


def settle(part: Partition, accounts: Rows, minor: int) -> Settled:
    """Reckon the bill cycle that closes, and empty its cells for the one that comes after those that are open."""
    zeros = np.zeros(len(accounts), np.int64)
    out = Settled(zeros.copy(), zeros.copy(), zeros.copy())
    if len(part.sheet) == 0:
        return out
    assert part.book is not None
    for group in _groups(part, accounts):
        found = _due(part, group, group.cycle, NEVER_ENDS)
        if found is not None:
            _settle(part, group, found, minor, out, accounts[group.which])
        _close(part, group, out)
    return out


def _settle(part: Partition, group: _Group, found: Due, minor: int, out: Settled, slots: Rows) -> None:
    assert part.book is not None
    told = part.book.tariffs[group.tariff]
    mode, by_line = told.rounding.mode, told.rounding.level == "line"
    ladders = part.sheet["ladder"][group.sheets]
    booked, whole = found.posted_e11.copy(), found.posted_e11.copy()
    last_day = first_day_of(group.cycle + 1) - 1
    trued = rounded(found.energy_e11 - found.used_e11, minor, mode)
    whole += found.energy_e11 - found.used_e11
    booked += trued * minor
    if by_line:
        layout = part.book.layouts[group.tariff]
        assert layout is not None
        whole += lines_rounded(layout.cycle(group.cycle), found, minor, mode) * minor - found.energy_e11

    def post(component: int, day: int, version: int, place: int, quantity: Int64s, amount_fen: Int64s) -> None:
        some = found.there & ((amount_fen != 0) | ((component == Component.CONTAINED) & (quantity != 0)))
        if some.any():
            where: dict[str, Any] = {"day": day, "version": version, "place": place}
            figures = {"quantity": quantity[some], "amount_fen": amount_fen[some]}
            out.charges.append(charge_rows(component, slots=slots[some], ladders=ladders[some], **where, **figures))

    post(Component.TIERS, last_day, 0, 0, np.zeros(len(trued), np.int64), trued)
    for one in found.charges:
        kind, amount_e11 = one.sum.charge.kind, one.sum.amount_e11
        if one.sum.charge.included:
            none = np.zeros(len(trued), np.int64)
            post(Component.CONTAINED, one.last_day, one.version, one.place, amount_e11, none)
            continue
        fen = rounded(amount_e11, minor, mode)
        post(_COMPONENT[kind], one.last_day, one.version, one.place, one.sum.quantity, fen)
        whole += fen * minor if by_line else amount_e11
        booked += fen * minor
    np.add.at(out.whole_e11, group.which, whole)
    np.add.at(out.booked_e11, group.which, booked)


def _close(part: Partition, group: _Group, out: Settled) -> None:
    """Move the sheets on to the next bill cycle."""
    sheet = part.sheet[group.sheets]
    for later in range(group.cycle + 1, group.cycle + int(sheet["cycles"].max())):
        held = later < sheet["cycle"] + sheet["cycles"]
        np.add.at(out.kept_e11, group.which[held], part.cell["wh"][run_of(sheet[held], later) + POSTED])
    first = run_of(sheet, group.cycle)
    for width in np.unique(sheet["width"]).tolist():
        mine = sheet["width"] == width
        cells = (first[mine][:, None] + np.arange(width)).ravel()
        part.cell[cells] = 0
        part.dirty_cell[cells] = 1
    part.sheet["cycle"][group.sheets] += 1
    part.dirty_sheet[group.sheets] = 1
    part.sheets_moved()
