"""Pure: the close of bill cycles by a tick (rule 7 of docs/ARCHITECTURE.md), compiled.

An account's cycle closes when every charged channel of it has passed the cycle's end, or when the settlement
window after that end is over; then lagging channels first give what they have accrued. What the tariff charges
beside the energy is posted, and the whole, with the carry that holds the remainders of the cycle's days, is rounded
by the tariff's mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ledger.effects import BILL
from rating.bills import rounded
from rating.compiled import jit
from rating.partition import Partition, Rows
from rating.settling import settle
from rating.spread import close_day
from rating.state import AccountFlag, ChannelFlag

_BILL_FLAG: Final = ChannelFlag.BILL
_FOREVER: Final = 2**32 - 1


@jit
def _ripen(
    accounts: Any,
    window_over: Any,
    channel: Any,
    account: Any,
    account_start: Any,
    account_channels: Any,
    seg_day: Any,
    seg_cycle: Any,
    minor: int,
    ripe: Any,
    closes: Any,
    dirty_channel: Any,
) -> int:
    """ripe[i]: 0 not yet, 1 complete, 2 by the window; lagging channels of the latter write close rows."""
    count = 0
    for i in range(accounts.shape[0]):
        a = accounts[i]
        cycle = account[a].cycle
        lagging = 0
        for j in range(account_start[a], account_start[a + 1]):
            row = channel[account_channels[j]]
            if not row.flags & _BILL_FLAG or row.segment < 0 or row.value < 0 or row.at_s >= row.until_s:
                continue
            if seg_cycle[row.segment] <= cycle:
                lagging += 1
        if lagging > 0 and window_over[i] == 0:
            ripe[i] = 0
            continue
        ripe[i] = 1 if lagging == 0 else 2
        # Laggards give what they have accrued, and so do channels whose span ended inside the cycle.
        for j in range(account_start[a], account_start[a + 1]):
            slot = account_channels[j]
            row = channel[slot]
            if row.flags & _BILL_FLAG and row.segment >= 0 and seg_cycle[row.segment] <= cycle:
                count = close_day(
                    channel, slot, seg_day[row.segment], seg_cycle[row.segment], 1, minor, closes, count
                )
                dirty_channel[slot] = 1
    return count


def ripe_accounts(
    part: Partition, as_of_s: int, window_s: int, minor: int, closes: Rows
) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Accounts whose open cycle closes now: (slots, 1 complete or 2 by the window, close rows of laggards).

    All that are due are looked at, as many at a time as `closes` has rows for their channels: those that wait for a
    register must not stand in the way of the others. An account may be due again when its next cycle is over, too.
    """
    ends = part.bill_end_s()
    due = np.flatnonzero(ends <= as_of_s).astype(np.int32)
    if len(due) == 0:
        return
    image, book = part.image, part.book
    assert image is not None
    assert book is not None
    rows_upto = np.cumsum(image.account_start[due + 1] - image.account_start[due])  # a channel writes one row at most
    over = (ends[due] + window_s <= as_of_s).astype(np.uint8)
    start = 0
    while start < len(due):
        room = len(closes) + (int(rows_upto[start - 1]) if start else 0)
        stop = int(np.searchsorted(rows_upto, room, side="right"))
        assert stop > start, "an account has more channels than there are close rows"
        some = due[start:stop]
        ripe = np.zeros(len(some), np.uint8)
        count = _ripen(
            some,
            over[start:stop],
            part.channel,
            part.account,
            image.account_start,
            image.account_channels,
            book.seg_day,
            book.seg_cycle,
            minor,
            ripe,
            closes,
            part.dirty_channel,
        )
        if (ripe > 0).any():
            yield some[ripe > 0], ripe[ripe > 0], closes[:count]
        start = stop


def settle_bills(part: Partition, slots: Rows, ripe: Rows, as_of_s: int, minor: int) -> tuple[Rows, Rows]:
    """Settle each account's bill cycle and move it on: charges (rating.settling), then the rounding.

    Returns BILL rows (one an account, also when it is 0) and the SUBLEDGER rows of charges.
    """
    assert part.image is not None
    assert part.book is not None
    book, rows = part.book, part.account
    charged = settle(part, slots, minor)
    out = np.zeros(len(slots), dtype=BILL)
    exact = rows["carry_energy_e11"][slots] + rows["carry_adder_e11"][slots] - charged.kept_e11 + charged.whole_e11
    tariffs = part.image.accounts["tariff"][slots]
    for tariff in np.unique(tariffs):
        mode = book.rounding(int(tariff)).mode
        of = tariffs == tariff
        out["rounding_fen"][of] = rounded(exact[of], minor, mode) - charged.booked_e11[of] // minor
    out["exact_e11"] = exact - charged.booked_e11
    out["slot"] = slots
    out["cycle"] = rows["cycle"][slots]
    out["closed_at_s"] = as_of_s
    out["complete"] = ripe == 1
    rows["carry_energy_e11"][slots] = charged.kept_e11
    rows["carry_adder_e11"][slots] = 0
    rows["balance_fen"][slots] -= out["rounding_fen"]
    np.add.at(rows["balance_fen"], charged.rows["slot"], charged.rows["amount_fen"])
    ends = part.bill_end_s()[slots]
    gone = part.image.accounts["until_s"][slots] <= ends
    rows["flags"][slots[gone]] &= ~np.uint8(AccountFlag.OPEN)
    rows["cycle"][slots] += 1
    part.dirty_account[slots] = 1
    return out, charged.rows
