"""Pure: energy counted by stretch of days, period and tier, for whoever needs more of a cycle than its money.

The kernel adds a piece of energy to its ladder's counters only for channels under the flag TALLY, which its plain
loop leaves to the judge: whoever needs no tally pays nothing for it.

    bin    |  July, peak  |  July, valley  |  August, peak  | ...     of one tariff; a price row is one bin
    tier   |  1   2   3   |  1   2   3     |  1   2   3     |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from rating.book import TariffBook
from rating.closes.stretch import Stretch, stretches_of
from rating.tariff.fields import TIERS_MAX

NO_TALLY: Final = np.zeros((0, 0, TIERS_MAX), np.int64)


class Bin(NamedTuple):
    """What energy of one bin has in common: a stretch of days (its place), a period, the price of each tier."""

    stretch: int
    period: str
    price_e8: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of each tariff of a book over some time; every tariff counts its own from 0."""

    of: tuple[tuple[Bin, ...], ...]  # [tariff][bin]
    stretches: tuple[tuple[Stretch, ...], ...]  # [tariff][place], in order
    book: TariffBook  # the same book, whose segments know their bins

    def counters(self, ladders: int) -> npt.NDArray[np.int64]:
        """Zeroed counters for so many ladders: [ladder, bin, tier]. The last bin is for what should not be."""
        return np.zeros((ladders, self.size + 1, TIERS_MAX), np.int64)

    @property
    def size(self) -> int:
        return max((len(bins) for bins in self.of), default=0)


def bins_of(book: TariffBook, from_s: int, to_s: int) -> Bins:
    """Bins of all segments with an instant of [from_s, to_s]; other segments share one bin behind all of them."""
    found: list[tuple[Bin, ...]] = []
    stretches: list[tuple[Stretch, ...]] = []
    seg_bin = np.full(len(book.seg_start), -1, np.int32)
    for tariff in range(len(book.tariffs)):
        names = book.period_names(tariff)
        run = np.arange(int(book.seg_first[tariff]), int(book.seg_first[tariff + 1]) - 1)  # without the sentinel
        starts = book.seg_start[run]
        ends = np.append(starts[1:], book.horizon_end_s[tariff])
        run = run[(starts <= to_s) & (ends > from_s)]
        day = book.seg_day[run].astype(np.int64)
        mine = stretches_of(book.tariffs[tariff], int(day.min()), int(day.max()) + 1) if len(day) else ()
        place = np.searchsorted(np.array([one.first_day for one in mine], np.int64), day, side="right") - 1
        key = np.column_stack([place, book.seg_period[run], book.seg_price[run]]).astype(np.int64)
        rows, inverse = np.unique(key, axis=0, return_inverse=True)
        seg_bin[run] = inverse.reshape(-1)
        found.append(tuple(Bin(row[0], names[row[1]], tuple(row[2:])) for row in rows.tolist()))
        stretches.append(mine)
    bins = Bins(tuple(found), tuple(stretches), book)
    seg_bin[seg_bin < 0] = bins.size
    return replace(bins, book=replace(book, lines=book.lines._replace(seg_bin=seg_bin)))
