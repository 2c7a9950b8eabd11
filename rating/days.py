"""Pure: the close of local days by ticks (rule 6 of docs/ARCHITECTURE.md), for registers that lag, compiled.

      day 1   |   day 2   |   day 3   |   day 4   |
    ----x     |           |           |           |^ first tick at or after day 1's end + settlement window:
    last register                                    what the register has accrued on day 1 is posted

Whole minor units are posted and the remainder stays, so the live balance does not move; the register and its place
stay, too. Channels are only looked at when a local day of (tick - window) has ended since the tick before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from rating.book import TariffBook
from rating.compiled import jit
from rating.partition import Partition, Rows
from rating.spread import close_day
from rating.state import ChannelFlag

LAST_TICK: Final = "last_tick_s"  # the counter that holds the tick before: part of every checkpoint
_BILL: Final = ChannelFlag.BILL


@jit
def _post(
    first: int,
    last_day: Any,
    tariff: Any,
    channel: Any,
    seg_day: Any,
    seg_cycle: Any,
    minor: int,
    closes: Any,
    dirty_channel: Any,
) -> Any:
    """From slot `first` on until the close rows are full: (next slot, close rows)."""
    count = 0
    for slot in range(first, channel.shape[0]):
        if count == closes.shape[0]:
            return slot, count
        row = channel[slot]
        if not row.flags & _BILL or row.segment < 0 or row.value < 0 or tariff[slot] < 0:
            continue
        day = seg_day[row.segment]
        if day > last_day[tariff[slot]]:
            continue
        if row.day_energy == 0 and 0 <= row.accrued_energy_e11 < minor and 0 <= row.accrued_adder_e11 < minor:
            continue
        count = close_day(channel, slot, day, seg_cycle[row.segment], 0, minor, closes, count)
        dirty_channel[slot] = 1
    return channel.shape[0], count


def days_over(book: TariffBook, before_s: int, as_of_s: int) -> bool:
    """Has a local day of some tariff ended between two ticks?"""
    return any(c.day_of(before_s) != c.day_of(as_of_s) for c in set(book.calendars)) if as_of_s > before_s else False


class Days:
    """Which local days a tick ends. Keeps nothing that counts: only until when it need not look."""

    def __init__(self, window_s: int) -> None:
        self._window_s = window_s
        self._quiet_until_s = 0
        self._book: TariffBook | None = None

    def ended(self, book: TariffBook, before_s: int, as_of_s: int) -> Rows | None:
        """For each tariff the last local day that ended with its window between the two ticks; -1: none did.

        None when no tariff has one.
        """
        if as_of_s <= before_s or (book is self._book and as_of_s < self._quiet_until_s):
            return None
        then_s, now_s = before_s - self._window_s, as_of_s - self._window_s
        last_day = np.full(len(book.tariffs), -1, np.int64)
        quiet_s = [2**62]
        for tariff, calendar in enumerate(book.calendars):
            day = calendar.day_of(now_s)
            if day > calendar.day_of(then_s):
                last_day[tariff] = day - 1
            quiet_s.append(calendar.day_start_s(day + 1) + self._window_s)
        self._book, self._quiet_until_s = book, min(quiet_s)
        return last_day if (last_day >= 0).any() else None


def post_days(part: Partition, last_day: Rows, minor: int, closes: Rows) -> Iterator[Rows]:
    """Close rows of charged channels that stand on or before their tariff's `last_day`, as many as fit at a time."""
    assert part.image is not None
    assert part.book is not None
    tariff, book, slot = np.ascontiguousarray(part.image.channels["tariff"]), part.book, 0
    while slot < len(part.channel):
        slot, count = _post(
            slot, last_day, tariff, part.channel, book.seg_day, book.seg_cycle, minor, closes, part.dirty_channel
        )
        yield closes[:count]
