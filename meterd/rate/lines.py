"""Pure: what was counted, as the lines of bills: energy by period and tier, then the tariff's charges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from config.units import ACCRUAL_PER_MINOR, round_ratio
from rating.closes.allocation import per_period, proportional, slab
from rating.closes.reckoning import Reckoned, reckon
from rating.closes.stretch import Share, Stretch
from rating.tally import Bins
from rating.tariff.charges import Charge
from rating.tariff.model import Rounding, Tariff

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Line:
    """Use of one period in one tier, or a charge: exact money in 1e-11.

    `quantity`: thousandths of the unit; days of a charge by days; 1e-11 of the base of a percentage.
    """

    component: str
    period: str
    tier: int  # from 1; 0: not by tier
    quantity: int
    price_e8: int
    amount_e11: int
    charge: Charge | None = None  # None: energy

    @property
    def contained(self) -> bool:
        """It says what is in other lines, and adds nothing."""
        return self.charge is not None and bool(self.charge.included)


@dataclass(frozen=True, slots=True)
class Cycle:
    """One bill cycle of a metering point; `total_minor` is what a bill would say."""

    metering_point: str
    from_s: int
    to_s: int
    lines: tuple[Line, ...]
    exact_e11: int  # before rounding
    total_minor: int

    @property
    def rounding_e11(self) -> int:
        """What leads from the lines to the total."""
        return self.total_minor * ACCRUAL_PER_MINOR - _sum(self.lines)


@dataclass(frozen=True, slots=True, eq=False)
class Used:
    """Energy of every metering point under one tariff, and the days on which it was served."""

    tally: Int64s  # [point, bin, tier]
    bins: Bins
    served: Int64s  # [point, 2]: local days [first, end)
    tiered: bool

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return self.bins.stretches[0]

    def energy_e11(self) -> int:
        """What all of it costs."""
        prices = np.array([one.price_e8 for one in self.bins.of[0]], dtype=object)
        return int((self.tally[:, : len(prices)].sum(axis=0).astype(object) * prices).sum()) if len(prices) else 0

    def cycles(self) -> list[tuple[int, list[int]]]:
        """Bill cycles in order, each with the places of its bins."""
        cycle_of = [self.stretches[one.stretch].cycle for one in self.bins.of[0]]
        return [
            (number, [place for place, cycle in enumerate(cycle_of) if cycle == number])
            for number in sorted({one.cycle for one in self.stretches})
        ]

    def lines(self, point: int, places: Sequence[int]) -> list[Line]:
        """Energy of one cycle; what has period, tier and price in common is one line."""
        sums: dict[tuple[str, int, int], int] = {}
        for place in places:
            one = self.bins.of[0][place]
            for tier, wh in enumerate(self.tally[point, place].tolist()):
                if wh:
                    key = (one.period, tier + 1 if self.tiered else 0, one.price_e8[tier])
                    sums[key] = sums.get(key, 0) + wh
        return [
            Line("energy", period, tier, wh, price_e8, wh * price_e8)
            for (period, tier, price_e8), wh in sums.items()
            if wh
        ]

    def shares(self) -> Iterator[tuple[int, int, Share]]:
        """(cycle, version, what every point did in the stretches of both), in order."""
        numbered = enumerate(self.stretches)
        for (cycle, version), found in groupby(numbered, key=lambda one: (one[1].cycle, one[1].version)):
            mine = list(found)
            yield cycle, version, self._share([place for place, _ in mine], tuple(one for _, one in mine))

    def _share(self, places: list[int], stretches: tuple[Stretch, ...]) -> Share:
        points = len(self.tally)
        wh, energy = np.zeros((points, len(places)), np.int64), np.zeros(points, np.int64)
        for bin_, one in enumerate(self.bins.of[0]):
            if one.stretch in places:
                counted = self.tally[:, bin_]
                wh[:, places.index(one.stretch)] += counted.sum(axis=1)
                energy += counted @ np.array(one.price_e8, np.int64)
        starts, ends = np.array([(one.first_day, one.end_day) for one in stretches], np.int64).T
        first, end = self.served[:, :1], self.served[:, 1:]
        days = np.maximum(np.minimum(end, ends[None, :]) - np.maximum(first, starts[None, :]), 0)
        return Share(stretches, days, wh, energy)


def _sum(lines: Iterable[Line]) -> int:
    return sum(line.amount_e11 for line in lines if not line.contained)


def billed(name: str, ends: tuple[int, int], lines: Sequence[Line], rounding: Rounding) -> Cycle:
    """A bill of these lines, rounded as a whole or line by line."""
    exact = _sum(lines)
    if rounding.level == "line":
        lines = [replace(one, amount_e11=_minor(one.amount_e11, rounding) * ACCRUAL_PER_MINOR) for one in lines]
    return Cycle(name, *ends, tuple(lines), exact, _minor(_sum(lines), rounding))


def _minor(amount_e11: int, rounding: Rounding) -> int:
    """To whole minor units, which is the only step of a bill that is built (rating.tariff.coherence)."""
    return round_ratio(amount_e11, ACCRUAL_PER_MINOR, rounding.mode)


def allocated(tally: Int64s, bins: Bins, tariff: Tariff) -> Int64s:
    """The tally by the tariff's own words, where tiers are not filled in the order of time; all points are alike."""
    found = np.zeros_like(tally)
    book, mine = bins.book, bins.of[0]
    for cycle in sorted({one.cycle for one in bins.stretches[0]}):
        places = [place for place, one in enumerate(mine) if bins.stretches[0][one.stretch].cycle == cycle]
        stage = book.stage_of(0, 1, book.cycle_end_s(0, cycle) - 1)
        bounds = book.bounds[book.stage_bounds[stage]]
        wh = np.asarray(tally[:, places].sum(axis=2), np.int64)
        if tariff.tier_kind == "slab":
            tiers = slab(wh, bounds)
        elif tariff.allocation == "proportional":
            tiers = proportional(wh, bounds)
        else:
            tiers = per_period(wh, bounds, [mine[place].period for place in places])
        found[:, places] = tiers
    return found


def charges_of(used: Used, tariff: Tariff) -> dict[tuple[int, int], list[Line]]:
    """Lines of the charges by (point, cycle), of points that were served or used something in it."""
    found: dict[tuple[int, int], list[Line]] = {}
    for cycle, version, share in used.shares():
        charges = tariff.version[version].charge
        if not charges:
            continue
        there = np.flatnonzero((share.served > 0) | share.wh.any(axis=1)).tolist()
        for one in reckon(charges, share):
            for point in there:
                found.setdefault((point, cycle), []).append(_line(one, point))
    return found


def _line(one: Reckoned, point: int) -> Line:
    charge = one.charge
    price_e8 = charge.amount_e8 if charge.amount_e8 is not None else charge.price_e8
    if charge.kind == "credit":
        price_e8 = -(price_e8 or 0)
    return Line(charge.name, "", 0, int(one.quantity[point]), price_e8 or 0, int(one.amount_e11[point]), charge)
