"""Pure: one bill cycle of many ladders under one tariff: energy by line, and what it costs beside that.

`due` is what the daemon posts when a cycle closes and holds against a live balance before (rating.settling), and what
`meterd rate` prints: there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rating.bins import POSTED, Bin, CycleBins
from rating.book import TariffBook
from rating.closes.allocation import per_period, proportional, slab
from rating.closes.netting import netted
from rating.closes.reckoning import Reckoned, reckon
from rating.closes.rounding import share_of
from rating.closes.stretch import Share

Int64s = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]


# (starts, ends) -> [ladder, span]: days of service of each ladder in spans of local days [start, end)
Between = Callable[[Int64s, Int64s], Int64s]


class Charged(NamedTuple):
    """A charge of one version, for every sheet; `last_day` is the version's last one of the cycle."""

    version: int
    place: int
    last_day: int
    sum: Reckoned


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """One bill cycle of many ladders under one tariff; money in 1e-11."""

    posted_e11: Int64s  # of the energy, in whole minor units
    used_e11: Int64s  # what the energy came to as it was used
    energy_e11: Int64s  # what it comes to by the tariff's own tiers
    tiers_wh: Int64s  # [ladder, bin, tier], by the tariff's own tiers
    charges: tuple[Charged, ...]
    there: npt.NDArray[np.bool_]  # was served or has used something

    @property
    def beside_e11(self) -> Int64s:
        """What comes on top of the energy as it was used."""
        total = self.energy_e11 - self.used_e11
        for one in self.charges:
            if not one.sum.charge.included:
                total = total + one.sum.amount_e11
        return np.asarray(total, np.int64)


def due(book: TariffBook, tariff: int, cycle: int, cells: Rows, histories: Rows, between: Between) -> Due:
    """Reckon a bill cycle; `cells` (CELL): `[ladder, cell]`, `histories`: those of each ladder's account, `between`
    asks for days of service."""
    layout, told = book.layouts[tariff], book.tariffs[tariff]
    assert layout is not None
    here = layout.cycle(cycle)
    starts, ends = np.array([(one.first_day, one.end_day) for one in here.stretches], np.int64).T
    days = between(starts, ends)
    bins = len(here.bins)
    shape = (len(cells), bins, layout.tiers)
    wh = cells["wh"][:, 1 : 1 + bins * layout.tiers].reshape(shape)
    used = cells["energy_e11"][:, 1 : 1 + bins * layout.tiers].reshape(shape)
    used_e11 = np.asarray(used.sum(axis=(1, 2)), np.int64)
    by_bin = np.asarray(used.sum(axis=2), np.int64)
    fed_in = np.zeros((len(cells), bins), np.int64)
    if layout.fed_in:
        first = 1 + layout.tiers * layout.bins
        fed_in = cells["wh"][:, first : first + bins]
    if told.tiers_at_close:
        taken = np.asarray(wh.sum(axis=2), np.int64)
        if told.nets:
            assert told.netting is not None
            taken, fed_in = netted(told.netting, taken, fed_in, [one.period for one in here.bins])
        wh = _allocated(book, tariff, cycle, here.bins, taken, histories, layout.tiers)
        prices = np.array([one.price_e8[: layout.tiers] for one in here.bins], np.int64)
        by_bin = np.asarray((wh * prices[None, :, :]).sum(axis=2), np.int64)
    energy_e11 = np.asarray(by_bin.sum(axis=1), np.int64)
    of_bin = np.array([one.stretch for one in here.bins], np.int64)
    times = _times(book, tariff, (starts, ends), histories, between)
    charges: list[Charged] = []
    for version, found in groupby(range(len(here.stretches)), key=lambda place: here.stretches[place].version):
        mine = np.array(list(found), np.int64)
        its = told.version[version].charge
        if not its:
            continue
        stretches = tuple(here.stretches[place] for place in mine.tolist())
        in_stretch = of_bin[:, None] == mine[None, :]  # [bin, stretch of the version]
        share = Share(
            stretches,
            days[:, mine],
            np.asarray(wh.sum(axis=2) @ in_stretch, np.int64),
            np.asarray(by_bin[:, in_stretch.any(axis=1)].sum(axis=1), np.int64),
            np.asarray(fed_in @ in_stretch, np.int64),
            {name: counted[:, mine] for name, counted in times.items()},
        )
        last_day = stretches[-1].end_day - 1
        charges += [Charged(version, place, last_day, one) for place, one in enumerate(reckon(its, share))]
    there = np.asarray(days.any(axis=1) | cells["wh"][:, 1:].any(axis=1) | (used_e11 != 0), bool)
    return Due(cells["energy_e11"][:, POSTED], used_e11, energy_e11, wh, tuple(charges), there)


def _times(
    book: TariffBook, tariff: int, spans: tuple[Int64s, Int64s], histories: Rows, between: Between
) -> dict[str, Int64s]:
    """Days of service in each span times what an attribute says on them, by the attributes that charges count."""
    starts, ends = spans
    names = {charge.times for version in book.tariffs[tariff].version for charge in version.charge if charge.times}
    found = {name: np.zeros((len(histories), len(starts)), np.int64) for name in names}
    for name, counted in found.items():
        for history in np.unique(histories).tolist():
            mine = histories == history
            for first, end, value in book.attribute_days(tariff, history, name):
                begin = np.maximum(starts, first)
                some = between(begin, np.maximum(np.minimum(ends, end), begin))
                counted[mine] += value * some[mine]
    return found


def _allocated(
    book: TariffBook, tariff: int, cycle: int, bins: Sequence[Bin], wh: Int64s, histories: Rows, tiers: int
) -> Int64s:
    """Energy by the tariff's own words, where tiers are not filled in the order of time."""
    told = book.tariffs[tariff]
    found = np.zeros((*wh.shape, tiers), np.int64)
    at_s = np.full(len(wh), book.cycle_end_s(tariff, cycle) - 1, np.int64)
    stage = book.stage_at(np.full(len(wh), tariff), histories, at_s)
    rule = book.stage_bounds[stage]
    for number in np.unique(rule).tolist():
        mine = rule == number
        bounds = book.bounds[number][:tiers]
        if told.tier_kind == "slab":
            found[mine] = slab(wh[mine], bounds)
        elif told.allocation == "proportional":
            found[mine] = proportional(wh[mine], bounds)
        else:  # what netting leaves has no order of time: bin by bin
            alike = told.allocation == "chronological"
            found[mine] = per_period(wh[mine], bounds, ["" if alike else one.period for one in bins])
    return found


class Line(NamedTuple):
    """Energy of one period in one tier at one price."""

    period: str
    tier: int  # from 0
    price_e8: int


def energy_lines(here: CycleBins, tiers_wh: Int64s) -> Iterator[tuple[Line, Int64s]]:
    """What has period, tier and price in common is one line of a bill: (line, energy of each ladder)."""
    sums: dict[Line, Int64s] = {}
    for number, one in enumerate(here.bins):
        for tier in range(tiers_wh.shape[2]):
            line = Line(one.period, tier, one.price_e8[tier])
            wh = tiers_wh[:, number, tier]
            sums[line] = sums[line] + wh if line in sums else wh
    yield from sums.items()


def lines_rounded(here: CycleBins, found: Due, minor: int, mode: str) -> Int64s:
    """The energy's money with every line rounded by itself, in minor units."""
    total = np.zeros(len(found.used_e11), np.int64)
    for line, wh in energy_lines(here, found.tiers_wh):
        total = total + rounded(wh * line.price_e8, minor, mode)
    return total


def rounded(amount_e11: Int64s, minor: int, mode: str) -> Int64s:
    """Whole minor units by a mode of `config.units.ROUNDING`."""
    return np.asarray(share_of(amount_e11, 1, 1, minor, mode) // minor, np.int64)
