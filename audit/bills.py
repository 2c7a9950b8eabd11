"""Pure: bills that are not linear in energy: what an account used under one tariff, and what a cycle's bill is.

Written from docs/tariffs.md: energy is kept by local day, period and tier as it was charged; a bill looks at all of a
month once more, bin by bin, and asks `audit.charges` for what comes on top. Amounts are exact until they are rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from audit.charges import Charged, Use, allowance_of, charged, speaks
from audit.tariffs import TIERS_MAX, WIDE, Bounds, History, Segment, Tariff, month_start

Key = tuple[int, int, int]  # local day, a period's place among the tariff's prices, tier
_NO_BOUND: Final = 10**30


@dataclass(slots=True)
class Counted:
    """Of one key: Wh, and what they cost as they were used."""

    wh: int = 0
    money: Decimal = Decimal(0)


class Used:
    """Energy of an account under one tariff, by the bill cycle that it is billed in."""

    def __init__(self, tariff: Tariff) -> None:
        self.tariff = tariff
        self.open_month = 0  # of the account's bill
        self.counted: dict[int, dict[Key, Counted]] = defaultdict(lambda: defaultdict(Counted))
        self.fed_in: dict[int, dict[tuple[int, int], int]] = defaultdict(lambda: defaultdict(int))  # day, key -> Wh
        self.posted_fen: dict[int, int] = defaultdict(int)
        self.carried: dict[int, Decimal] = defaultdict(Decimal)  # of cycles that come after the open one

    def count(self, priced: Segment, now: Segment, tier: int, wh: int) -> None:
        """Energy that is priced in one segment, of a register that stands in `now`: it is billed where it stands."""
        month, day, key = self._place(priced, now)
        one = self.counted[month][day, key, tier]
        one.wh += wh
        one.money += WIDE.multiply(Decimal(wh) / 1000, self.tariff.prices[priced.key + tier])

    def feed(self, priced: Segment, now: Segment, wh: int) -> None:
        """The same for energy that is fed in."""
        month, day, key = self._place(priced, now)
        self.fed_in[month][day, key] += wh

    def _place(self, priced: Segment, now: Segment) -> tuple[int, int, int]:
        """(bill cycle, day, period's place) where energy counts."""
        where = priced if priced.month == now.month else now
        if now.month >= self.open_month:
            return now.month, where.day, where.key
        # that bill is closed: the first of the open one
        day = max(month_start(self.open_month), self.tariff.first_day)
        first = self.tariff.segment_at(self.tariff.day_start_s(day))
        assert first is not None
        return self.open_month, day, first.key

    def post(self, month: int, fen: int, rest: Decimal | None) -> None:
        """Whole fen of a day, and the remainder if it leaves the register with the end of the bill cycle."""
        self.posted_fen[max(month, self.open_month)] += fen
        if rest is not None and month > self.open_month:
            self.carried[month] += rest

    def close(self) -> None:
        self.counted.pop(self.open_month, None)
        self.fed_in.pop(self.open_month, None)
        self.posted_fen.pop(self.open_month, None)
        self.carried.pop(self.open_month, None)
        self.open_month += 1


@dataclass(slots=True)
class Reckoned:
    """One bill cycle of one account under one tariff; money is exact, in the currency."""

    posted_fen: int
    used: Fraction  # the energy as it was used
    energy: Fraction  # by the tariff's own tiers
    by_line: int  # the same in fen, with each line rounded by itself
    charges: list[Charged] = field(default_factory=list)

    @property
    def beside(self) -> Fraction:
        """What comes on top of the energy as it was used."""
        on_top = sum((one.money for one in self.charges if not one.contained), Fraction())
        return self.energy - self.used + on_top


def reckon(used: Used, history: History, month: int, served: Sequence[int]) -> Reckoned:
    """A bill cycle; `served`: its local days on which the account is served."""
    tariff, counted = used.tariff, used.counted.get(month, {})
    plain = sum((Fraction(one.money) for one in counted.values()), Fraction())
    wh: dict[int, int] = defaultdict(int)
    money: dict[int, Fraction] = defaultdict(Fraction)
    for (day, _, _), one in counted.items():
        wh[day] += one.wh
        money[day] += Fraction(one.money)
    lines: dict[tuple[str, int, Decimal], int] = defaultdict(int)
    bins = _Bins(tariff, month, counted, used.fed_in.get(month, {}))
    if tariff.told_at_close:
        money, wh = defaultdict(Fraction), defaultdict(int)
        for first_day, key, tiers in bins.allocated(history):
            wh[first_day] += sum(tiers)
            for tier, part in enumerate(tiers):
                price = tariff.prices[key + tier]
                lines[tariff.period_of(key), tier, price] += part
                money[first_day] += Fraction(part, 1000) * Fraction(price)
    else:
        for (_, key, tier), one in counted.items():
            lines[tariff.period_of(key), tier, tariff.prices[key + tier]] += one.wh
    fed_in = bins.left()
    days = wh.keys() | money.keys() | fed_in.keys()
    use = {day: Use(Fraction(wh[day], 1000), money[day], Fraction(fed_in.get(day, 0), 1000)) for day in days}
    by_line = sum(fen(Fraction(part, 1000) * Fraction(price), tariff) for (_, _, price), part in lines.items())
    energy = sum(money.values(), Fraction())

    def says(name: str, day: int) -> int:
        return tariff.attributes_on(day, history).get(name, 0)

    charges = charged(tariff.told, month, served, use, says)
    return Reckoned(used.posted_fen.get(month, 0), plain, energy, by_line, charges)


def fen(amount: Fraction, tariff: Tariff) -> int:
    """Whole minor units by the tariff's mode; every amount is a finite decimal."""
    exact = WIDE.divide(Decimal(amount.numerator), Decimal(amount.denominator))
    assert Fraction(exact) == amount
    return int(WIDE.divide(exact, tariff.minor).to_integral_value(tariff.rounding))


class _Bins:
    """Energy of one month by stretch of days (a number of `_runs`) and period, in the order of time."""

    def __init__(
        self, tariff: Tariff, month: int, counted: Mapping[Key, Counted], fed_in: Mapping[tuple[int, int], int]
    ) -> None:
        self.tariff, self.month = tariff, month
        self.places: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)  # days and keys with energy
        self.taken: dict[tuple[int, str], int] = defaultdict(int)
        self.fed_in: dict[tuple[int, str], int] = defaultdict(int)
        runs, order = _runs(tariff, month), dict[tuple[int, str], int]()
        for day in range(month_start(month), month_start(month + 1)):
            if day in runs:
                for segment in tariff.segments_of(day):
                    order.setdefault((runs[day], tariff.period_of(segment.key)), len(order))
        for (day, key, _), one in counted.items():
            self.places[runs[day], tariff.period_of(key)].append((day, key))
            self.taken[runs[day], tariff.period_of(key)] += one.wh
        for (day, key), wh in fed_in.items():
            self.places[runs[day], tariff.period_of(key)].append((day, key))
            self.fed_in[runs[day], tariff.period_of(key)] += wh
        self.of = sorted(self.places, key=order.__getitem__)
        if tariff.nets:
            self._net()

    def _net(self) -> None:
        """Take what was fed in off what was taken: of the whole month, or within each period."""
        whole = self.tariff.netting == "cycle_total"
        for name in {"" if whole else name for _, name in self.of}:
            mine = [place for place in self.of if whole or place[1] == name]
            both = min(max(sum(of[place] for place in mine), 0) for of in (self.taken, self.fed_in))
            for of in (self.taken, self.fed_in):
                total, before, given = sum(of[place] for place in mine), 0, 0
                for place in mine:  # each its share, by cumulative floors
                    before += of[place]
                    upto = before * both // max(total, 1)
                    of[place] -= upto - given
                    given = upto

    def left(self) -> dict[int, int]:
        """What was fed in and not netted, by a day of its stretch."""
        found: dict[int, int] = defaultdict(int)
        for place, wh in self.fed_in.items():
            found[min(self.places[place])[0]] += wh
        return found

    def allocated(self, history: History) -> Iterator[tuple[int, int, list[int]]]:
        """(its first day with energy, the period's place, Wh by tier) of every bin."""
        bounds = self.tariff.bounds_on(month_start(self.month + 1) - 1, history)
        energy = [self.taken[place] for place in self.of]
        tiers = _tiers(self.tariff, [name for _, name in self.of], energy, bounds)
        for place, parts in zip(self.of, tiers, strict=True):
            yield *min(self.places[place]), parts


def _runs(tariff: Tariff, month: int) -> dict[int, int]:
    """Days of a month in a row on which every charge says the same have one number."""
    found: dict[int, int] = {}
    before: Any = None
    number = -1
    for day in range(max(month_start(month), tariff.first_day), month_start(month + 1)):
        version = tariff.version_on(day)
        charges = tariff.told["version"][tariff.versions.index(version)].get("charge", ())
        alike = version.from_day, [_part_of(tariff, one, day) for one in charges]
        number += alike != before
        found[day], before = number, alike
    return found


def _part_of(tariff: Tariff, charge: Mapping[str, Any], day: int) -> int:
    """The allowance that holds on a day, or whether it is a day that the charge is for."""
    return allowance_of(tariff.told, charge, day) if "allowance" in charge else speaks(tariff.told, charge, day)


def _tiers(tariff: Tariff, names: Sequence[str], energy: Sequence[int], bounds: Bounds) -> list[list[int]]:
    """Wh of each bin by tier."""
    total, tops = sum(energy), (*bounds, _NO_BOUND)
    if tariff.told["tier_kind"] == "slab":
        tier = next(n for n, top in enumerate(tops) if total <= top)
        return [[wh if n == tier else 0 for n in range(TIERS_MAX)] for wh in energy]
    if tariff.told["allocation"] != "proportional":
        if tariff.told["allocation"] == "chronological":  # what netting leaves has no order of time: bin by bin
            names = [""] * len(names)
        reached: dict[str, int] = defaultdict(int)
        found = []
        for name, wh in zip(names, energy, strict=True):
            before = reached[name]
            reached[name] += wh
            found.append([_within(reached[name], n, tops) - _within(before, n, tops) for n in range(TIERS_MAX)])
        return found
    # proportional: a corner is what the first bins have of the first tiers, rounded down; a share lies between four
    if total == 0:
        return [[wh, *[0] * (TIERS_MAX - 1)] for wh in energy]
    filled = [sum(_within(total, n, tops) for n in range(upto)) for upto in range(TIERS_MAX + 1)]
    so_far = [sum(energy[:upto]) for upto in range(len(energy) + 1)]
    corner = [[a * b // total for b in filled] for a in so_far]
    return [
        [corner[a + 1][b + 1] - corner[a][b + 1] - corner[a + 1][b] + corner[a][b] for b in range(TIERS_MAX)]
        for a in range(len(energy))
    ]


def _within(reached: int, tier: int, tops: Sequence[int]) -> int:
    """What a tier has of a ladder that is filled up to `reached`."""
    return within(reached, tops[tier - 1] if tier else None, tops[tier]) if tier < len(tops) else 0


def within(use: int, low: int | None, high: int | None) -> int:
    """How much of the first `use` Wh lies in the tier (low, high]; below zero everything is the first tier."""
    if low is None:
        return use if high is None else min(use, high)
    if use <= low:
        return 0
    return (use if high is None else min(use, high)) - low
