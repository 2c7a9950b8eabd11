"""Pure: on which local days an account is served under a tariff: what standing charges and allowances count.

A day counts for whoever is served when it ends: the day on which an account moves in is its own, that on which it
moves out is the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rating.book import TariffBook
from registry.image import FOREVER, PartitionImage

Rows = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]
NEVER_ENDS = 2**31 - 1  # a day


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Of each sheet its account, its tariff, and spans of local days [first, end), none over another."""

    account: npt.NDArray[np.int32]
    tariff: npt.NDArray[np.int32]
    order: Int64s  # sheets in the order of their accounts
    start: Int64s  # of each account: where its sheets begin in `order`; and the length of all
    first_day: Int64s  # of spans, in the order of sheets
    end_day: Int64s
    span_start: Int64s  # of each sheet: where its spans begin; and the number of all

    @staticmethod
    def nobody() -> Served:
        none, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
        return Served(none.astype(np.int32), none.astype(np.int32), none, zero, none, none, zero)

    def sheets_of(self, accounts: Rows) -> tuple[Int64s, Int64s]:
        """(sheets of these accounts, the place in `accounts` of each)."""
        places, which = _ranges(self.start, accounts)
        return self.order[places], which

    def days(self, sheets: Rows, from_days: Int64s, end_days: Int64s, until_day: Rows | int) -> Int64s:
        """`[sheet, stretch]`: days of service in each stretch of days, before `until_day`."""
        places, which = _ranges(self.span_start, sheets)
        until = np.broadcast_to(np.asarray(until_day, np.int64), np.shape(sheets))[which]
        end = np.minimum(self.end_day[places], until)[:, None]
        inside = np.minimum(end, end_days[None, :]) - np.maximum(self.first_day[places][:, None], from_days[None, :])
        found = np.zeros((len(sheets), len(from_days)), np.int64)
        np.add.at(found, which, np.maximum(inside, 0))
        return found


def _ranges(start: Int64s, of: Rows) -> tuple[Int64s, Int64s]:
    """All places of [start[i], start[i + 1]) for each i, and which one each is of."""
    counts = start[of + 1] - start[of]
    which = np.repeat(np.arange(len(of), dtype=np.int64), counts)
    inside = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(start[of][which] + inside, np.int64), which


def served(sheet: Rows, image: PartitionImage, book: TariffBook) -> Served:
    """From a ladder's registers: each span of one serves from its opening to its end."""
    ladders = sheet["ladder"]
    account, tariff = image.ladders["account"][ladders], image.ladders["tariff"][ladders]
    order = np.argsort(account, kind="stable").astype(np.int64)
    start = np.searchsorted(account[order], np.arange(len(image.accounts) + 1)).astype(np.int64)
    place = np.full(len(image.ladders) + 1, -1, np.int64)
    place[ladders] = np.arange(len(sheet))
    facts = image.channels
    facts = facts[(facts["bill"] == 1) & (place[facts["ladder"]] >= 0)]
    of = place[facts["ladder"]]
    first, end = _days_of(book, tariff[of], facts["opening_at_s"]), _days_of(book, tariff[of], facts["until_s"])
    end[facts["until_s"] == FOREVER] = NEVER_ENDS
    of, first, end = _joined(of, first, end)
    span_start = np.searchsorted(of, np.arange(len(sheet) + 1)).astype(np.int64)
    return Served(account, tariff, order, start, first, end, span_start)


def _days_of(book: TariffBook, tariff: Rows, at_s: Rows) -> Int64s:
    found = np.zeros(len(tariff), np.int64)
    for number in np.unique(tariff).tolist():
        mine = tariff == number
        found[mine] = book.calendars[number].days_of(at_s[mine].astype(np.int64))
    return found


def _joined(of: Int64s, first: Int64s, end: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Spans of one sheet that touch or overlap are one; sorted."""
    some = np.flatnonzero(end > first)
    some = some[np.lexsort((first[some], of[some]))]
    of, first, end = of[some], first[some], end[some]
    if len(of) == 0:
        return of, first, end
    far = np.int64(NEVER_ENDS) + 1
    reached = np.maximum.accumulate(end + of * far) - of * far  # the furthest end so far, of the same sheet
    fresh = np.ones(len(of), bool)
    fresh[1:] = (np.diff(of) != 0) | (first[1:] > reached[:-1])
    heads = np.flatnonzero(fresh)
    return of[heads], first[heads], np.maximum.reduceat(end, heads)
