"""Pure: which counters energy of a segment belongs to, for tariffs that need more of a cycle than its money.

A bin is what energy of one bill cycle has in common: a stretch of days, a period, the price of each tier. Bins of a
cycle stand in the order of time, and a sheet (rating.sheets) has a cell for each of their tiers, behind one for what
has been posted:

    cell     0         1  2  3          4  5  6          7  8  9                     10    11      12
             posted    peak, tier 1-3   valley           peak of the next stretch    fed in, of each bin
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from rating.closes.stretch import Stretch, stretches_of
from rating.tariff.model import Tariff
from rating.timeline import Timeline

POSTED: Final = (
    0  # the cell of what has been posted of a cycle's energy, in 1e-11; its `wh`: what that left in the carry
)


class Bin(NamedTuple):
    """`stretch`: its place among those of the cycle."""

    stretch: int
    period: str
    price_e8: tuple[int, ...]


class CycleBins(NamedTuple):
    """Of one bill cycle, both in the order of time."""

    stretches: tuple[Stretch, ...]
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Cells of one tariff's bill cycles, over the horizon."""

    tiers: int
    fed_in: bool  # with cells for energy that is fed in
    first_cycle: int
    of: tuple[CycleBins, ...]  # by bill cycle, from the first one on
    seg_cell: npt.NDArray[np.int32]  # of each segment: the cell of its first tier

    @property
    def bins(self) -> int:
        """Of any cycle, at most."""
        return max(len(one.bins) for one in self.of)

    @property
    def width(self) -> int:
        """Cells of any cycle."""
        return 1 + (self.tiers + self.fed_in) * self.bins

    @property
    def seg_fed_in(self) -> npt.NDArray[np.int32]:
        """Of each segment: the cell of what is fed in; 0 without."""
        if not self.fed_in:
            return np.zeros_like(self.seg_cell)
        return np.asarray(1 + self.tiers * self.bins + (self.seg_cell - 1) // self.tiers, np.int32)

    def cycle(self, number: int) -> CycleBins:
        return self.of[number - self.first_cycle]

    def reaches(self, number: int) -> bool:
        return self.first_cycle <= number < self.first_cycle + len(self.of)


def layout_of(tariff: Tariff, timeline: Timeline) -> Layout:
    """Bins of every bill cycle that the timeline has segments of."""
    first_cycle = int(timeline.cycle[0])
    stretches = stretches_of(tariff, int(timeline.day[0]), int(timeline.day[-1]) + 1)
    starts = np.array([one.first_day for one in stretches], np.int64)
    place = np.searchsorted(starts, timeline.day, side="right") - 1
    key = np.column_stack([place, timeline.period, timeline.price_e8]).astype(np.int64)
    rows, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(rows), np.int64)
    order = np.argsort(first, kind="stable")
    rank[order] = np.arange(len(rows))
    tiers = max(version.tier_count for version in tariff.version)
    cycle_of = np.array([one.cycle for one in stretches], np.int64)[rows[order, 0]]  # rises
    begins = np.searchsorted(cycle_of, np.arange(first_cycle, int(timeline.cycle[-1]) + 2))
    number = rank[inverse.reshape(-1)]
    seg_cell = 1 + tiers * (number - begins[timeline.cycle - first_cycle])
    found = [
        _cycle(first_cycle + n, rows[order[begins[n] : begins[n + 1]]].tolist(), stretches, tariff.period_names)
        for n in range(len(begins) - 1)
    ]
    return Layout(tiers, tariff.netting is not None, first_cycle, tuple(found), seg_cell.astype(np.int32))


def _cycle(number: int, rows: list[list[int]], stretches: Sequence[Stretch], names: Sequence[str]) -> CycleBins:
    before = sum(one.cycle < number for one in stretches)
    mine = tuple(one for one in stretches if one.cycle == number)
    return CycleBins(mine, tuple(Bin(row[0] - before, names[row[1]], tuple(row[2:])) for row in rows))
