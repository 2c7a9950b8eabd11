"""Pure: bills that are not linear in energy: what an account used under one tariff, and what a cycle's bill is.

Written from docs/tariffs.md: energy is kept by local day, period and tier as it was charged; a bill looks at all of a
month once more, bin by bin, and asks `audit.charges` for what comes on top. Amounts are exact until they are rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from audit.charges import Charged, Use, allowance_of, charged
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
        self.posted_fen: dict[int, int] = defaultdict(int)
        self.carried: dict[int, Decimal] = defaultdict(Decimal)  # of cycles that come after the open one

    def count(self, priced: Segment, now: Segment, tier: int, wh: int) -> None:
        """Energy that is priced in one segment, of a register that stands in `now`: it is billed where it stands."""
        money = WIDE.multiply(Decimal(wh) / 1000, self.tariff.prices[priced.key + tier])
        where = priced if priced.month == now.month else now
        month, day, key = now.month, where.day, where.key
        if month < self.open_month:  # that bill is closed: the first of the open one
            month, day = self.open_month, max(month_start(self.open_month), self.tariff.first_day)
            first = self.tariff.segment_at(self.tariff.day_start_s(day))
            assert first is not None
            key = first.key
        one = self.counted[month][day, key, tier]
        one.wh += wh
        one.money += money

    def post(self, month: int, fen: int, rest: Decimal | None) -> None:
        """Whole fen of a day, and the remainder if it leaves the register with the end of the bill cycle."""
        self.posted_fen[max(month, self.open_month)] += fen
        if rest is not None and month > self.open_month:
            self.carried[month] += rest

    def close(self) -> None:
        self.counted.pop(self.open_month, None)
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
    if tariff.told_at_close:
        money = defaultdict(Fraction)
        for first_day, key, tiers in _allocated(tariff, counted, month, history):
            for tier, part in enumerate(tiers):
                price = tariff.prices[key + tier]
                lines[tariff.period_of(key), tier, price] += part
                money[first_day] += Fraction(part, 1000) * Fraction(price)
    else:
        for (_, key, tier), one in counted.items():
            lines[tariff.period_of(key), tier, tariff.prices[key + tier]] += one.wh
    use = {day: Use(Fraction(wh[day], 1000), money[day]) for day in wh.keys() | money.keys()}
    by_line = sum(fen(Fraction(part, 1000) * Fraction(price), tariff) for (_, _, price), part in lines.items())
    energy = sum(money.values(), Fraction())
    charges = charged(tariff.told, month, served, use)
    return Reckoned(used.posted_fen.get(month, 0), plain, energy, by_line, charges)


def fen(amount: Fraction, tariff: Tariff) -> int:
    """Whole minor units by the tariff's mode; every amount is a finite decimal."""
    exact = WIDE.divide(Decimal(amount.numerator), Decimal(amount.denominator))
    assert Fraction(exact) == amount
    return int(WIDE.divide(exact, tariff.minor).to_integral_value(tariff.rounding))


def _allocated(
    tariff: Tariff, counted: dict[Key, Counted], month: int, history: History
) -> Iterator[tuple[int, int, list[int]]]:
    """(its first day with energy, the period's place, Wh by tier) of every bin with energy, in the order of time."""
    bins: dict[tuple[int, str], list[tuple[int, int, int]]] = defaultdict(list)
    runs, order = _runs(tariff, month), dict[tuple[int, str], int]()
    for day in range(month_start(month), month_start(month + 1)):
        if day in runs:
            for segment in tariff.segments_of(day):
                order.setdefault((runs[day], tariff.period_of(segment.key)), len(order))
    for (day, key, _), one in counted.items():
        bins[runs[day], tariff.period_of(key)].append((day, key, one.wh))
    of = sorted(bins, key=order.__getitem__)
    energy = [sum(wh for _, _, wh in bins[place]) for place in of]
    bounds = tariff.bounds_on(month_start(month + 1) - 1, history)
    tiers = _tiers(tariff, [name for _, name in of], energy, bounds)
    for place, parts in zip(of, tiers, strict=True):
        first_day, key, _ = min(bins[place])
        yield first_day, key, parts


def _runs(tariff: Tariff, month: int) -> dict[int, int]:
    """Days of a month in a row under one version and one allowance of each of its credits have one number."""
    found: dict[int, int] = {}
    before: Any = None
    number = -1
    for day in range(max(month_start(month), tariff.first_day), month_start(month + 1)):
        version = tariff.version_on(day)
        charges = tariff.told["version"][tariff.versions.index(version)].get("charge", ())
        alike = version.from_day, [allowance_of(tariff.told, one, day) for one in charges if "allowance" in one]
        number += alike != before
        found[day], before = number, alike
    return found


def _tiers(tariff: Tariff, names: Sequence[str], energy: Sequence[int], bounds: Bounds) -> list[list[int]]:
    """Wh of each bin by tier."""
    total, tops = sum(energy), (*bounds, _NO_BOUND)
    if tariff.told["tier_kind"] == "slab":
        tier = next(n for n, top in enumerate(tops) if total <= top)
        return [[wh if n == tier else 0 for n in range(TIERS_MAX)] for wh in energy]
    if tariff.told["allocation"] == "per_period":
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
    """What a tier has of a ladder that is filled up to `reached`; below zero all is the first tier."""
    if tier >= len(tops):
        return 0
    if tier == 0:
        return min(reached, tops[0])
    return max(min(reached, tops[tier]) - tops[tier - 1], 0)
