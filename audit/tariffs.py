"""Pure: the auditor's own reading of the tariff files: local days, prices as Decimal, bounds day by day.

Nothing here is compiled ahead. A local day is asked of `zoneinfo` when energy first falls into it, and becomes
a short list of segments; what changes bounds inside a tier cycle is found by looking at every day of the cycle.
Days are counted from 1970-01-01 and months from 1970-01, both local.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from audit.days import Days
from config.units import ROUNDING

History = tuple[tuple[str, int, int], ...]  # (attribute, from_s, value), in order of time
Bounds = tuple[int, ...]  # inclusive upper bounds in thousandths; none for the last tier
WIDE: Final = Context(prec=60)  # products of prices and energy are exact in it
TIERS_MAX: Final = 8
_EPOCH: Final = date(1970, 1, 1)
_DAY_MINUTES: Final = 1440
_DEAR: Final = 20  # from such a price on, a reading may bring a tenth of the energy
_DAYS: Final = ".days.csv"
_CYCLE_MONTHS: Final = {"calendar_month": 1, "calendar_two_months": 2, "calendar_quarter": 3, "calendar_year": 12}


def thousandths(text: str) -> int:
    """Decimal text of energy in whole thousandths of its unit."""
    exact = Decimal(text) * 1000
    assert exact == exact.to_integral_value(), f"finer than a thousandth: {text}"
    return int(exact)


def month_of(day: int) -> int:
    """Months since 1970-01 of a local day."""
    on = _EPOCH + timedelta(days=day)
    return (on.year - 1970) * 12 + on.month - 1


def month_start(month: int) -> int:
    """First local day of a month."""
    return (date(1970 + month // 12, month % 12 + 1, 1) - _EPOCH).days


class Standing(tzinfo):
    """A zone's standard time all year."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def utcoffset(self, when: datetime | None, /) -> timedelta:
        """Of a wall clock that knows no summer: what the zone says without its hour ahead."""
        assert when is not None
        moment = when.replace(tzinfo=self._zone)
        offset, ahead = moment.utcoffset(), moment.dst()
        assert offset is not None
        assert ahead is not None
        return offset - ahead

    def dst(self, _when: datetime | None, /) -> timedelta:
        return timedelta(0)

    def tzname(self, _when: datetime | None, /) -> str:
        return f"standing {self._zone}"


class Segment:
    """A stretch of one local day at one set of prices; `key` + tier names a price in `Tariff.prices`."""

    __slots__ = ("day", "end_s", "key", "month", "next", "start_s", "tariff")

    def __init__(self, tariff: Tariff, start_s: int, end_s: int, key: int, day: int, month: int) -> None:
        self.tariff, self.start_s, self.end_s = tariff, start_s, end_s
        self.key, self.day, self.month = key, day, month
        self.next: Segment | None = None

    def following(self) -> Segment | None:
        """The segment that begins where this one ends; None at the end of the horizon."""
        if self.next is None:
            self.next = self.tariff.segment_at(self.end_s)
        return self.next


class Version:
    """What a tariff file says from one local day on."""

    def __init__(self, told: Mapping[str, Any], seasons: Sequence[Mapping[str, str]]) -> None:
        self.from_day = (told["from"] - _EPOCH).days
        self.periods: list[Mapping[str, Any]] = told["period"]
        self.seasons = {season["name"]: (season["from"], season["to"]) for season in seasons}
        self.tiers: Mapping[str, Any] = told.get("tiers", {"bounds": [], "adders": ["0"]})
        self.prices = [self._prices(period, told.get("energy", {})) for period in self.periods]
        self._stretches: dict[tuple[str, str], list[tuple[int, int, int]]] = {}

    def _prices(self, period: Mapping[str, Any], energy: Mapping[str, str]) -> list[Decimal]:
        """What a unit costs in each of eight tiers; tiers beyond the last repeat it."""
        if "prices" in period:
            prices = [Decimal(text) for text in period["prices"]]
        else:
            if "price" in period:
                first = Decimal(period["price"])
            else:
                step = Decimal(energy["ratio_step"])
                steps = WIDE.divide(Decimal(energy["base"]) * Decimal(period["ratio"]), step)
                rounded = steps.to_integral_value(ROUNDING[energy["ratio_mode"]]) * step
                first = rounded + Decimal(energy["funds"])
            prices = [first + Decimal(text) for text in self.tiers["adders"]]
        return prices + [prices[-1]] * (TIERS_MAX - len(prices))

    def _speaks(self, part: Mapping[str, Any], month_day: str) -> bool:
        """Does a period, or a set of bounds, hold on that day of the year ("06-01")?"""
        if "months" in part:
            return int(month_day[:2]) in part["months"]
        if "season" not in part:
            return True
        spans = [self.seasons[name] for name in part["season"]]
        return any(a <= month_day <= b if a <= b else month_day >= a or month_day <= b for a, b in spans)

    def period_by_minute(self, month_day: str, kind: str) -> list[int]:
        """Which period rules each minute of a local day, by its day of the year and its type."""
        ruling = [
            place
            for place, period in enumerate(self.periods)
            if self._speaks(period, month_day) and kind in period.get("days", [kind])
        ]
        rest = [place for place in ruling if self.periods[place]["at"] == "rest"]
        plan = [rest[0] if rest else -1] * _DAY_MINUTES
        for place in ruling:
            if self.periods[place]["at"] == "rest":
                continue
            for span in self.periods[place]["at"]:
                begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in span.split("-"))
                for minute in range(begin, end):
                    plan[minute] = place
        assert -1 not in plan, "a minute without a price"
        return plan

    def stretches(self, month_day: str, kind: str) -> list[tuple[int, int, int]]:
        """(from minute, to minute, place in `periods`) of such a local day whose clock goes on evenly."""
        if (month_day, kind) not in self._stretches:
            plan = self.period_by_minute(month_day, kind)
            cuts = [0, *(m for m in range(1, _DAY_MINUTES) if plan[m] != plan[m - 1]), _DAY_MINUTES]
            self._stretches[month_day, kind] = [(a, b, plan[a]) for a, b in pairwise(cuts)]
        return self._stretches[month_day, kind]

    def bounds_in(self, month_day: str, attributes: Mapping[str, int], days: int) -> Bounds:
        """Bounds on that day of the year for an account with these attributes, in a tier cycle of so many days."""
        if not self.tiers["bounds"]:
            return ()
        season = next(part for part in self.tiers["bounds"] if self._speaks(part, month_day))
        upto = [thousandths(text) for text in season["upto"]]
        for extra in self.tiers.get("attribute", []):
            value = attributes.get(extra["name"], 0)
            if "each" in extra:
                more = max(value - extra["above"], 0)
                upto = [bound + more * thousandths(text) for bound, text in zip(upto, extra["each"], strict=True)]
            elif value >= extra["at_least"] or attributes.get(extra.get("or", ""), 0) >= 1:
                upto = [bound + thousandths(text) for bound, text in zip(upto, extra["add"], strict=True)]
        if self.tiers["per"] == "day":
            return tuple(bound * days for bound in upto)
        if self.tiers["length"] == "days30":
            return tuple(bound * days // 30 for bound in upto)
        return tuple(upto)


class Tariff:
    """One tariff file as the auditor understands it; ends where the settings' horizon ends."""

    def __init__(self, text: str, from_year: int, to_year: int, day_files: Mapping[str, str]) -> None:
        self.told = told = tomllib.loads(text)
        self.id: str = told["id"]
        self.zone: tzinfo = ZoneInfo(told["timezone"])
        if told.get("clock") == "standing":
            self.zone = Standing(self.zone)
        self.cycle_months = _CYCLE_MONTHS[told["cycle"]]
        self.cycle_begins: int = told.get("cycle_begins", 1) - 1
        self.on_change: str = told["on_change"]
        self.on_switch: str = told["on_switch"]
        alike = ("commodity", "unit", "timezone", "clock", "cycle", "cycle_begins")
        self.kind = tuple(told.get(key) for key in alike)
        self.rounding = ROUNDING[told["rounding"]["mode"]]
        self.minor = Decimal(told["rounding"]["step"])
        self.types = Days(told["calendar"], day_files) if "calendar" in told else None
        self.versions = [Version(v, told.get("season", [])) for v in told["version"]]
        self.step = thousandths(told.get("quantity_step", "0.001"))
        self.netting: str | None = told.get("netting")
        self.nets = _nets(told)
        self.told_at_close = _told_at_close(told)
        self.by_line = told["rounding"]["level"] == "line"
        self.linear = is_linear(told)
        assert told["bill_cycle"] == "calendar_month", "only calendar months are audited"
        first = (date(from_year, 1, 1) - _EPOCH).days
        self.first_day = max(first, self.versions[0].from_day)
        self.end_day = (date(to_year, 1, 1) - _EPOCH).days
        # prices[key + tier]: the whole price; tiers beyond the last repeat it
        self.prices: list[Decimal] = []
        self._names: dict[int, str] = {}  # of the period whose prices begin there
        self._keys: dict[tuple[int, int], int] = {}
        for v, version in enumerate(self.versions):
            for p, prices in enumerate(version.prices):
                self._keys[v, p] = len(self.prices)
                self._names[len(self.prices)] = version.periods[p]["name"]
                self.prices += prices
        self.dear = any(abs(price) >= _DEAR for price in self.prices)
        self._days: dict[int, list[Segment]] = {}
        self._starts: dict[int, int] = {}
        self._bounds: dict[tuple[History, int], tuple[int, list[Bounds]]] = {}

    def carries_with(self, other: Tariff) -> bool:
        """Does energy so far in a tier cycle come along when an account changes between these two?"""
        both = (self, other)
        return self.kind == other.kind and all(
            tariff.on_switch == "carry_over" and any(version.tiers["bounds"] for version in tariff.versions)
            for tariff in both
        )

    def day_of(self, at_s: int) -> int:
        """The local day that holds an instant."""
        return datetime.fromtimestamp(at_s, UTC).astimezone(self.zone).date().toordinal() - _EPOCH.toordinal()

    def day_start_s(self, day: int) -> int:
        """First instant of a local day."""
        if day not in self._starts:
            on = _EPOCH + timedelta(days=day)
            self._starts[day] = int(datetime(on.year, on.month, on.day, tzinfo=self.zone).timestamp())
        return self._starts[day]

    def cycle_end_s(self, month: int) -> int:
        """End of a bill cycle: the local midnight at which the next month begins."""
        return self.day_start_s(month_start(month + 1))

    def version_on(self, day: int) -> Version:
        return [v for v in self.versions if v.from_day <= day][-1]

    def period_of(self, key: int) -> str:
        """Name of the period whose prices begin at a place of `prices`."""
        return self._names[key]

    def segments_of(self, day: int) -> list[Segment]:
        """Of a local day that is priced, in order."""
        if day not in self._days:
            self._days[day] = self._segments(day)
        return self._days[day]

    def segment_at(self, at_s: int) -> Segment | None:
        """The segment that holds the instant after `at_s`; None where nothing is priced."""
        day = self.day_of(at_s)
        if not self.first_day <= day < self.end_day:
            return None
        for segment in self.segments_of(day):
            if at_s < segment.end_s:
                return segment
        raise AssertionError("a local day has a hole")

    def _segments(self, day: int) -> list[Segment]:
        start_s, end_s = self.day_start_s(day), self.day_start_s(day + 1)
        on = _EPOCH + timedelta(days=day)
        month, month_day = month_of(day), on.strftime("%m-%d")
        kind = self.types.type_of(on) if self.types else "weekday"
        version = self.version_on(day)
        number = self.versions.index(version)
        if end_s - start_s == _DAY_MINUTES * 60:
            return [
                Segment(self, start_s + a * 60, start_s + b * 60, self._keys[number, place], day, month)
                for a, b, place in version.stretches(month_day, kind)
            ]
        plan = version.period_by_minute(month_day, kind)
        found: list[Segment] = []
        for at_s in range(start_s, end_s, 60):  # a day with a change of the clock: ask the zone about every minute
            wall = datetime.fromtimestamp(at_s, UTC).astimezone(self.zone)
            key = self._keys[number, plan[wall.hour * 60 + wall.minute]]
            if found and found[-1].key == key:
                found[-1].end_s = at_s + 60
            else:
                found.append(Segment(self, at_s, at_s + 60, key, day, month))
        found[-1].end_s = end_s
        return found

    def tier_cycle(self, month: int) -> int:
        """The tier cycle that a month belongs to, named by its first month."""
        return month - (month - self.cycle_begins) % self.cycle_months

    def bounds_on(self, day: int, history: History) -> Bounds:
        """The bounds that rule a day, after the tariff's word for changes inside a tier cycle."""
        cycle = self.tier_cycle(month_of(day))
        key = (history, cycle)
        if key not in self._bounds:
            begin, end = month_start(cycle), month_start(cycle + self.cycle_months)
            first = max(begin, self.first_day)
            self._bounds[key] = first, [self._plain_bounds(d, history, end - begin) for d in range(first, end)]
        first, each = self._bounds[key]
        match self.on_change:
            case "next_cycle":
                return each[0]
            case "from_cycle_start":
                return each[-1]
            case "by_instant":
                return each[day - first]
            case "by_days":
                return tuple(sum(b[tier] for b in each) // len(each) for tier in range(len(each[0])))
            case word:
                raise AssertionError(f"unknown word {word!r}")

    def attributes_on(self, day: int, history: History) -> dict[str, int]:
        """What is known of an account on a local day; of what comes after the horizon nothing is."""
        known = [one for one in history if one[1] < self.day_start_s(self.end_day)]
        return {name: value for name, from_s, value in known if self.day_of(from_s) <= day}

    def _plain_bounds(self, day: int, history: History, days: int) -> Bounds:
        known = self.attributes_on(day, history)
        return self.version_on(day).bounds_in((_EPOCH + timedelta(days=day)).strftime("%m-%d"), known, days)


def read_tariffs(texts: Mapping[str, str], from_year: int, to_year: int) -> dict[str, Tariff]:
    """Tariffs by id, of the files' texts; what ends in `.days.csv` is a file of days."""
    days = {name.removesuffix(_DAYS): text for name, text in texts.items() if name.endswith(_DAYS)}
    read = [Tariff(text, from_year, to_year, days) for name, text in texts.items() if not name.endswith(_DAYS)]
    return {tariff.id: tariff for tariff in read}


def _nets(told: Mapping[str, Any]) -> bool:
    return str(told.get("netting", "none")) != "none"


def _told_at_close(told: Mapping[str, Any]) -> bool:
    return bool(told["tier_kind"] != "block" or told["allocation"] != "chronological" or _nets(told))


def is_linear(told: Mapping[str, Any]) -> bool:
    """Is energy charged as it comes, in thousandths, and nothing on top of it when a bill closes?"""
    charges = any(version.get("charge") for version in told["version"])
    by_line = told["rounding"]["level"] == "line"
    return not (charges or by_line or _told_at_close(told) or thousandths(told.get("quantity_step", "0.001")) > 1)
