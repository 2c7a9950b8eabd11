"""Pure: tariffs as people look at them: what there is, price by hour and day of a year, ladder, differences."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.units import CURRENCIES, ENERGY_SCALE
from rating.calendar import days_of_year, local_calendar
from rating.schedule import compile_schedule, relevant
from rating.tariff.charges import Charge
from rating.tariff.days import day_types, known_until
from rating.tariff.fields import MINUTES, DayType
from rating.tariff.model import Tariff, Version
from rating.tariff.plans import Plans, plans_of
from rating.timeline import day_number
from registry.image import AttributeChange

EPOCH: Final = date(1970, 1, 1)
Span = tuple[int, int, str]  # from minute, to minute, period


@dataclass(frozen=True, slots=True)
class DayPicture:
    """Local days of one kind in consecutive months that look alike."""

    first: date
    last: date
    kind: str
    days: int
    version: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """One tier of a ladder in a tier cycle: what is used above `above` and up to `upto`, in the tariff's unit."""

    from_day: date
    tier: int
    above: Decimal
    upto: Decimal | None
    prices: tuple[tuple[str, Decimal], ...]  # by period


def price_text(tariff: Tariff, price: int) -> Decimal:
    """A price in the currency per unit."""
    return Decimal(price).scaleb(-CURRENCIES[tariff.currency].price_digits).normalize() + Decimal(0)


def listed(tariff: Tariff) -> dict[str, Any]:
    """One line about a tariff."""
    newest = tariff.version[-1]
    known = known_until(tariff)
    return {
        "tariff": tariff.id,
        "commodity": tariff.commodity,
        "unit": tariff.unit,
        "currency": tariff.currency,
        "timezone": tariff.timezone,
        "versions": ", ".join(str(version.from_day) for version in tariff.version),
        "periods": ", ".join(tariff.period_names),
        "tiers": f"{newest.tier_count} by {tariff.cycle.removeprefix('calendar_')}" if newest.tiers else "",
        "attributes": ", ".join(attribute_names([tariff])),
        "charges": ", ".join(charge.name for charge in newest.charge),
        "holidays until": str(known) if known else "",
        "dated": newest.dated,
        "source": newest.source,
    }


def attribute_names(tariffs: Sequence[Tariff]) -> list[str]:
    """Attributes of an account that these tariffs look at, in the files' order."""
    versions = [version for tariff in tariffs for version in tariff.version]
    tiers = [version.tiers for version in versions if version.tiers]
    found = [name for one in tiers for extra in one.attribute for name in extra.names]
    return list(dict.fromkeys([*found, *(c.times for version in versions for c in version.charge if c.times)]))


class Year:
    """A tariff over one local year: the plan of every day."""

    def __init__(self, tariff: Tariff, year: int) -> None:
        self.tariff = tariff
        self.first = (date(year, 1, 1) - EPOCH).days
        days = np.arange(self.first, (date(year + 1, 1, 1) - EPOCH).days)
        starts = [day_number(tariff, v) for v in range(len(tariff.version))]
        self.version: npt.NDArray[np.int64] = np.searchsorted(starts, days, side="right") - 1
        self.kind = day_types(tariff, self.first, self.first + len(days))
        self.place = days_of_year(days)
        self.plans: dict[int, Plans] = {
            v: plans_of(tariff, tariff.version[v]) for v in set(self.version.tolist()) - {-1}
        }

    def spans(self, day: int) -> tuple[Span, ...]:
        """Periods of the day-th day of the year; nothing before the first version."""
        version = int(self.version[day])
        if version < 0:
            return ()
        plans = self.plans[version]
        plan = plans.plan[plans.index[int(self.place[day])][int(self.kind[day])]].period
        cuts = [0, *(m for m in range(1, MINUTES) if plan[m] != plan[m - 1]), MINUTES]
        names = [self.tariff.version[version].period[plan[a]].name for a in cuts[:-1]]
        joined: list[Span] = []
        for name, group in groupby(zip(cuts, cuts[1:], names, strict=False), key=lambda one: one[2]):
            parts = list(group)
            joined.append((parts[0][0], parts[-1][1], name))
        return tuple(joined)

    def _kind_text(self, kind: DayType) -> str:
        return kind.name.lower() if self.tariff.calendar else "every day"

    def pictures(self) -> list[DayPicture]:
        """Days that look alike, by type of day, in order of their first one; a look may come back later."""
        out: list[DayPicture] = []
        for kind in DayType:
            days = np.flatnonzero(self.kind == kind).tolist()
            for (version, spans), group in groupby(days, key=lambda d: (int(self.version[d]), self.spans(d))):
                some = list(group)
                first, last = (EPOCH + timedelta(days=self.first + d) for d in (some[0], some[-1]))
                out.append(DayPicture(first, last, self._kind_text(kind), len(some), version, spans))
        return sorted((p for p in out if p.version >= 0), key=lambda p: (p.first, p.kind))

    def prices(self) -> npt.NDArray[np.float64]:
        """Price of the first tier for pictures, [day, half hour]; NaN before the first version. Never for money."""
        out = np.full((len(self.kind), 48), np.nan)
        scale = 10.0 ** -CURRENCIES[self.tariff.currency].price_digits
        for day in range(len(self.kind)):
            for start, end, name in self.spans(day):
                price = period_prices(self.tariff.version[int(self.version[day])])[name][0]
                out[day, start // 30 : -(-end // 30)] = price * scale
        return out


def period_prices(version: Version) -> dict[str, tuple[int, ...]]:
    """Prices of each tier by period, in the file's order."""
    return {period.name: version.prices_e8(period)[: version.tier_count] for period in version.period}


def rungs(tariff: Tariff, year: int, attributes: dict[str, int]) -> Iterator[Rung]:
    """The ladder of an account with these attributes wherever it changes in a year; none without tiers."""
    calendar = local_calendar(tariff.timezone, year, year + 1, tariff.clock == "standing")
    history = [AttributeChange(name, 0, value) for name, value in sorted(attributes.items())]
    if day_number(tariff, 0) >= calendar.end_day:
        return
    schedule = compile_schedule(tariff, calendar, relevant(tariff, calendar, history))
    starts = [day_number(tariff, v) for v in range(len(tariff.version))]
    before: Any = None
    for start_s, bounds in zip(schedule.start_s, schedule.bounds, strict=True):
        day = calendar.day_of(start_s)
        version = tariff.version[sum(start <= day for start in starts) - 1]
        if version.tiers is None or (bounds, version) == before:
            continue
        before = (bounds, version)
        prices = period_prices(version)
        above = 0
        for tier in range(version.tier_count):
            upto = bounds[tier] if tier < version.tier_count - 1 else None
            yield Rung(
                EPOCH + timedelta(days=day),
                tier + 1,
                Decimal(above) / ENERGY_SCALE,
                None if upto is None else Decimal(upto) / ENERGY_SCALE,
                tuple((name, price_text(tariff, each[tier])) for name, each in prices.items()),
            )
            above = upto or 0


def clock_text(minute: int) -> str:
    """A minute of the day as HH:MM."""
    return f"{minute // 60:02}:{minute % 60:02}"


def days_told(tariff: Tariff, pictures: Sequence[DayPicture]) -> list[dict[str, Any]]:
    """The pictures for JSON: spans of local time with the price of each tier as text."""
    return [
        {
            "from": str(p.first),
            "to": str(p.last),
            "day_type": p.kind,
            "days": p.days,
            "spans": [
                {
                    "from": clock_text(start),
                    "to": clock_text(end),
                    "period": name,
                    "price": [str(price_text(tariff, e)) for e in period_prices(tariff.version[p.version])[name]],
                }
                for start, end, name in p.spans
            ],
        }
        for p in pictures
    ]


def ladder_told(ladder: Sequence[Rung]) -> list[dict[str, Any]]:
    """The ladder for JSON, decimals as text."""
    return [
        {
            "from": str(rung.from_day),
            "tier": rung.tier,
            "above": str(rung.above),
            "upto": None if rung.upto is None else str(rung.upto),
            "price": {name: str(price) for name, price in rung.prices},
        }
        for rung in ladder
    ]


def charges_told(tariff: Tariff, year: int) -> list[dict[str, str]]:
    """What the versions of a year charge beside energy, in the order in which it is reckoned."""
    found = []
    ends = [*(version.from_day for version in tariff.version[1:]), date(year + 1, 1, 1)]
    for version, end in zip(tariff.version, ends, strict=True):
        if version.from_day.year <= year and end > date(year, 1, 1):
            begins = str(max(version.from_day, date(year, 1, 1)))
            found += [
                {"from": begins, "charge": one.name, "kind": one.kind, "is": charge_text(tariff, one)}
                for one in version.charge
            ]
    return found


def charge_text(tariff: Tariff, charge: Charge) -> str:
    """A charge in words."""
    unit, of = tariff.unit, " + ".join(charge.base or ())
    if charge.rate_e6 is not None:
        rate = Decimal(charge.rate_e6).scaleb(-4).normalize()
        return f"{rate:f} % {'contained in' if charge.included else 'of'} {of}"
    if charge.amount_e8 is not None:
        amount = f"{price_text(tariff, charge.amount_e8):f} {tariff.currency} a {charge.per}"
        amount += f" times {charge.times}" if charge.times else ""
        amount += f" in {', '.join(map(str, charge.season or charge.months or ()))}" if charge.limited else ""
        return f"{amount}, less {of}" if charge.kind == "minimum" else amount
    price = f"{price_text(tariff, charge.price_e8 or 0):f} {tariff.currency} per {unit}"
    if charge.kind == "export":
        price = price.replace(" per ", " for each ")
        return f"{price} that is fed in" + (f"; netting {tariff.netting}" if tariff.nets else "")
    if charge.kind != "credit":
        return price
    allowed = "; ".join(
        f"{Decimal(one.upto_wh) / ENERGY_SCALE:f} {unit} a day"
        + (f" in {', '.join(map(str, one.season or one.months or ()))}" if one.season or one.months else "")
        for one in charge.allowance
    )
    return f"{price} off the first {allowed}; {charge.parts}"


def differences(one: str, other: str) -> list[tuple[str, str, str]]:
    """(key, in the one, in the other) wherever two files differ, in the files' own words and order."""
    mine, theirs = (_flat(tomllib.loads(text)) for text in (one, other))
    keys = dict.fromkeys([*mine, *theirs])
    return [(key, mine.get(key, ""), theirs.get(key, "")) for key in keys if mine.get(key) != theirs.get(key)]


def _flat(told: Any, above: str = "") -> dict[str, str]:
    """Keys with their whole path; a table of an array is called by its date or name, a second one also by number."""
    out: dict[str, str] = {}
    if isinstance(told, dict):
        for key, value in told.items():
            out |= _flat(value, f"{above}.{key}" if above else key)
    elif isinstance(told, list) and told and isinstance(told[0], dict):
        seen: dict[str, int] = {}
        for number, value in enumerate(told):
            name = str(value.get("from", value.get("name", number)))
            seen[name] = seen.get(name, 0) + 1
            out |= _flat(value, f"{above}[{name}{f' {seen[name]}' if seen[name] > 1 else ''}]")
    else:
        out[above] = ", ".join(map(str, told)) if isinstance(told, list) else str(told)
    return out
