"""Pure: what several keys of a tariff file say together, every fault with the place that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from config.toml_lines import Place
from config.units import CURRENCIES
from rating.tariff.charges import ENERGY, KEYS, NEEDS, Allowance, Charge
from rating.tariff.days import NAMED_YEARS, Library, NoSuchCalendar, calendar_library, kinds_of
from rating.tariff.fields import ALL_MONTHS, DAYS_OF_YEAR, PRICE_MAX_E8, DayType, month_day
from rating.tariff.model import Period, Tariff, Version
from rating.tariff.plans import ALL_YEAR, days_of, plans_of
from rating.tariff.tiers import AttributeBounds, SeasonBounds, Tiers

Fault = tuple[Place, str]
_CLOCK_YEARS: Final = range(2000, 2041)  # a zone whose clock changes in one of them needs the word `clock`
_STEP_E8: Final = (10**4, 10**8)  # of a charge; a minor unit is 10^6
_NAMES_MAX: Final = 40  # names of a library in one message


def faults_of(tariff: Tariff) -> Iterator[Fault]:
    """All faults of a tariff whose keys are right one by one."""
    yield from _of_top(tariff)
    yield from _of_calendar(tariff)
    known = {season.name for season in tariff.season}
    for v, version in enumerate(tariff.version):
        at: Place = ("version", v)
        parts: list[tuple[Place, Period | SeasonBounds | Allowance | Charge]] = [
            ((*at, "period", p), period) for p, period in enumerate(version.period)
        ]
        if version.tiers:
            parts += [((*at, "tiers", "bounds", b), bounds) for b, bounds in enumerate(version.tiers.bounds)]
        for c, charge in enumerate(version.charge):
            parts += [((*at, "charge", c, "allowance", a), part) for a, part in enumerate(charge.allowance)]
            parts.append(((*at, "charge", c), charge))
            yield from _of_charge((*at, "charge", c), charge, version.charge[:c], tariff)
        for place, part in parts:
            yield from _of_season(place, part, known)
        yield from _of_prices(at, version)
        if version.tiers:
            yield from _of_tiers((*at, "tiers"), version.tiers, tariff)
        yield from _of_plans(at, version, tariff)


def _of_top(tariff: Tariff) -> Iterator[Fault]:
    minor = 10 ** (CURRENCIES[tariff.currency].price_digits - CURRENCIES[tariff.currency].minor_digits)
    if tariff.rounding.step_e8 != minor:
        yield ("rounding", "step"), f"only the currency's minor unit is built ({tariff.currency})"
    if tariff.clock is None and _clock_changes(tariff.timezone):
        yield ("clock",), f'the clock of {tariff.timezone} changes: say "daylight" (with it) or "standing" (without)'
    if tariff.tiers_at_close:
        word = "netting" if tariff.nets else "tier_kind" if tariff.tier_kind == "slab" else "allocation"
        told = f"{getattr(tariff, word)!r} is told by a whole bill's energy"
        if tariff.tier_kind == "slab" and tariff.allocation != "chronological":
            yield ("allocation",), "a slab has one tier for all energy: say chronological"
        if tariff.cycle != tariff.bill_cycle:
            yield ("cycle",), f"{told}: its tier cycle is the bill cycle"
        if tariff.on_change == "by_instant":
            yield ("on_change",), f"{told}: its bounds cannot change at an instant of it"
        if tariff.on_switch == "carry_over":
            yield ("on_switch",), f"{told}: a bill under another tariff is another one, say start_anew"
    yield from _of_netting(tariff)
    if (tariff.cycle_begins is None) != (tariff.cycle_months == 1):
        need = (
            "needs cycle_begins, the month in which one begins" if tariff.cycle_months > 1 else "has no cycle_begins"
        )
        yield ("cycle",), f"{tariff.cycle!r} {need}"
    for v, (before, after) in enumerate(pairwise(tariff.version), start=1):
        if after.from_day <= before.from_day:
            yield ("version", v, "from"), "versions must be in order of their dates, one for each date"
        if tariff.on_change == "by_days" and after.tier_count != before.tier_count:
            told = "on_change by_days cannot weigh bounds between versions with different numbers of tiers"
            yield ("version", v), told
    for s, season in enumerate(tariff.season):
        if season.name in {other.name for other in tariff.season[:s]}:
            yield ("season", s, "name"), f"there is another season {season.name!r}"


def _of_netting(tariff: Tariff) -> Iterator[Fault]:
    paid = any(charge.kind == "export" for version in tariff.version for charge in version.charge)
    if (tariff.netting is None) == paid:
        needs = "a charge of the kind 'export' needs it"
        yield ("netting",), needs if paid else "it needs a charge of the kind 'export' (whose price may be 0)"
    if tariff.netting is not None and tariff.commodity != "electricity":
        yield ("netting",), "only electricity is fed in"
    if tariff.netting == "cycle_total" and len(tariff.period_names) > 1:
        yield ("netting",), "there is more than one period: say cycle_by_period"
    by_period = any(period.prices_e8 is not None for version in tariff.version for period in version.period)
    if tariff.nets and tariff.allocation == "chronological" and by_period and len(tariff.period_names) > 1:
        yield ("allocation",), "netting leaves no order of time: say proportional or per_period"


def _clock_changes(timezone: str) -> bool:
    zone = ZoneInfo(timezone)
    moments = (datetime(year, month, 1, tzinfo=UTC) for year in _CLOCK_YEARS for month in ALL_MONTHS)
    return any(moment.astimezone(zone).dst() for moment in moments)


def _of_calendar(tariff: Tariff) -> Iterator[Fault]:
    calendar, at = tariff.calendar, "calendar"
    if calendar is None:
        for v, version in enumerate(tariff.version):
            for p, period in enumerate(version.period):
                if period.days is not None:
                    yield ("version", v, "period", p, "days"), "day types need a [calendar]"
        return
    by_country = calendar.library == "holidays"
    for key, given in (("country", calendar.country), ("observed", calendar.observed)):
        if (given is not None) != by_country:
            yield (at, key), f"library {calendar.library!r} {'needs' if by_country else 'does not use'} it"
    if calendar.subdivision is not None and not by_country:
        yield (at, "subdivision"), f"library {calendar.library!r} does not use it"
    asked = calendar.library != "none"
    if (calendar.unknown_year is not None) != asked:
        yield (at, "unknown_year"), f"library {calendar.library!r} {'needs' if asked else 'does not use'} it"
    if bool(calendar.counts) != asked:
        told = "needs the holidays that the tariff counts" if asked else "has no holidays to count"
        yield (at, "counts"), f"library {calendar.library!r} {told}"
    if by_country and calendar.country is None:
        return
    try:
        library = calendar_library(calendar)
    except NoSuchCalendar as fault:
        yield (at, "country"), str(fault)
    else:
        yield from _of_counts(library, calendar.counts)


def _of_counts(library: Library, counts: tuple[str, ...]) -> Iterator[Fault]:
    for c, name in enumerate(counts):
        if name not in library.names:
            told = ", ".join(map(repr, library.names[:_NAMES_MAX]))
            years = f"{NAMED_YEARS[0]} to {NAMED_YEARS[-1]}"
            yield ("calendar", "counts", c), f"{name!r} is no holiday of the library ({years}); there are {told}"


def _of_season(place: Place, part: Period | SeasonBounds | Allowance | Charge, known: set[str]) -> Iterator[Fault]:
    if part.months is not None and part.season is not None:
        yield place, "say months or season, not both"
    for name in part.season or ():
        if name not in known:
            yield (*place, "season"), f"no [[season]] is called {name!r}"


def _of_prices(at: Place, version: Version) -> Iterator[Fault]:
    prices: dict[str, tuple[int, ...]] = {}
    adders = version.tiers.adders_e8 if version.tiers else None
    if version.energy is not None and all(period.ratio_e6 is None for period in version.period):
        yield (*at, "energy"), "no period has a ratio"
    for p, period in enumerate(version.period):
        place = (*at, "period", p)
        ways = [period.ratio_e6, period.price_e8, period.prices_e8]
        if sum(way is not None for way in ways) != 1:
            yield place, "a period has a ratio, a price, or prices: one of them"
            continue
        if period.ratio_e6 is not None and version.energy is None:
            yield (*place, "ratio"), "a ratio needs [version.energy]"
            continue
        if period.prices_e8 is not None and len(period.prices_e8) != version.tier_count:
            yield (*place, "prices"), f"{version.tier_count} tiers need as many prices"
        elif period.prices_e8 is not None and adders is not None:
            yield (*place, "prices"), "prices stand for every tier: they have no adders"
        elif period.prices_e8 is None and version.tiers and adders is None:
            yield (*at, "tiers", "adders"), f"period {period.name!r} has one price: say what each tier adds"
        if prices.setdefault(period.name, version.prices_e8(period)) != version.prices_e8(period):
            yield (*place, "name"), f"there is another period {period.name!r} with another price: name them apart"
        over = [price for price in version.prices_e8(period) if abs(price) >= PRICE_MAX_E8]
        if over:
            yield place, f"a price of {over[0]}e-8 does not fit; the limit is {PRICE_MAX_E8}e-8"


def _of_tiers(at: Place, tiers: Tiers, tariff: Tariff) -> Iterator[Fault]:
    between = tiers.count - 1
    if (tiers.length is None) != (tiers.per == "day"):
        yield (*at, "length"), f'per = "{tiers.per}" {"has no length" if tiers.length else "needs a length"}'
    if tiers.adders_e8 and tiers.adders_e8[0] != 0:
        yield (*at, "adders"), "the first adder must be 0: the first tier's price is the energy price"
    if tiers.adders_e8 and len(tiers.adders_e8) != tiers.count:
        yield (*at, "adders"), f"{len(tiers.adders_e8)} adders need {len(tiers.adders_e8) - 1} bounds, not {between}"
    seen: set[int] = set()
    for b, bounds in enumerate(tiers.bounds):
        place = (*at, "bounds", b, "upto")
        if len(bounds.upto_wh) != between:
            yield place, f"the bounds before have {between} figures, this has {len(bounds.upto_wh)}"
        if list(bounds.upto_wh) != sorted(set(bounds.upto_wh)):
            yield place, "bounds must rise from tier to tier"
        days = days_of(bounds, tariff.season)
        if seen & days:
            yield (*at, "bounds", b), f"bounds must name every day once; {month_day(min(seen & days))} has others"
        seen |= days
    if seen != ALL_YEAR:
        yield (*at, "bounds"), f"bounds must name every day once; {month_day(min(ALL_YEAR - seen))} has none"
    for a, extra in enumerate(tiers.attribute):
        yield from _of_attribute((*at, "attribute", a), extra, between)


def _of_attribute(place: Place, extra: AttributeBounds, between: int) -> Iterator[Fault]:
    adds = (extra.at_least is not None, extra.add_wh is not None)
    grows = (extra.above is not None, extra.each_wh is not None)
    if (adds, grows) not in (((True, True), (False, False)), ((False, False), (True, True))):
        yield place, "say at_least and add, or above and each"
    elif extra.flag is not None and extra.above is not None:
        yield (*place, "or"), "only at_least can be said by another attribute, too"
    elif len(extra.figures_wh) != between:
        key = "add" if extra.add_wh is not None else "each"
        yield (*place, key), f"attribute {extra.name}: {key} needs {between} figures, not {len(extra.figures_wh)}"
    elif list(extra.figures_wh) != sorted(extra.figures_wh):
        yield place, f"attribute {extra.name}: what is added must not fall from tier to tier"


def _of_charge(place: Place, charge: Charge, before: tuple[Charge, ...], tariff: Tariff) -> Iterator[Fault]:
    names = [ENERGY, *(other.name for other in before)]
    if charge.name in names:
        yield (*place, "name"), f"there is another {charge.name!r}"
    for key in KEYS:
        if key in charge.needed - charge.said:
            by_share = f" by the {charge.per}" if key in NEEDS[charge.kind].by_share else ""
            yield place, f"{charge.kind!r}{by_share} needs {key}"
        elif key in charge.said - charge.needed - NEEDS[charge.kind].may:
            yield (*place, key), f"{charge.kind!r} does not use it"
    if charge.per == "season" and (charge.kind != "standing" or not charge.limited):
        yield (*place, "per"), "by the season needs months or season: the days that share the amount"
    for name in charge.base or ():
        if name not in names:
            yield (*place, "base"), f"{name!r} is no charge before this one; there are {', '.join(names)}"
    if charge.included and charge.rate_e6 is not None and charge.rate_e6 <= 0:
        yield (*place, "rate"), "what is contained is above zero"
    if charge.step_e8 is not None and not _STEP_E8[0] <= charge.step_e8 <= _STEP_E8[1]:
        yield (*place, "step"), "the step of a charge is from a hundredth to a hundred of the currency's minor unit"
    contained = {other.name for other in before if other.included}
    for name in sorted(contained.intersection(charge.base or ())):
        yield (*place, "base"), f"{name!r} is contained in what is there already"
    seen: set[int] = set()
    for a, allowance in enumerate(charge.allowance):
        days = days_of(allowance, tariff.season)
        if seen & days:
            yield (*place, "allowance", a), f"{month_day(min(seen & days))} has another allowance"
        seen |= days
    if charge.allowance and seen != ALL_YEAR:
        yield (*place, "allowance"), f'{month_day(min(ALL_YEAR - seen))} has none: say upto = "0" where there is none'


def _of_plans(at: Place, version: Version, tariff: Tariff) -> Iterator[Fault]:
    """Every minute of every day that can be must have one period; each fault once, with a day that has it."""
    plans, kinds = plans_of(tariff, version), kinds_of(tariff)
    told: set[int] = set()
    overlapping: set[int] = set()
    for place in range(DAYS_OF_YEAR):
        for kind in kinds:
            number = plans.index[place][kind]
            if number in told:
                continue
            told.add(number)
            on = month_day(place) + (f" ({kind.name.lower()})" if len(kinds) > 1 else "")
            for p in plans.plan[number].overlaps:
                if p not in overlapping:
                    yield (*at, "period", p), f"on {on}: period {version.period[p].name!r} overlaps another"
                overlapping.add(p)
            for minute in plans.plan[number].gaps[:1]:
                yield at, f"on {on}: no period at {minute // 60:02}:{minute % 60:02}"
    for p, period in enumerate(version.period):
        for kind in period.days or ():
            if kind not in kinds and kind is not DayType.SPECIAL:
                yield (*at, "period", p, "days"), f"the calendar has no {kind.name.lower()} days"
