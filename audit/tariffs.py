"""Pure: the auditor's own reading of the tariff files: local days, prices as Decimal, bounds day by day.

Nothing here is compiled ahead. A local day is asked of `zoneinfo` when energy first falls into it, and becomes
a short list of segments; what changes bounds inside a tier cycle is found by looking at every day of the cycle.
Days are counted from 1970-01-01 and months from 1970-01, both local.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from config.units import ROUNDING

History = tuple[tuple[str, int, int], ...]  # (attribute, from_s, value), in order of time
Bounds = tuple[int, ...]  # inclusive upper bounds in thousandths; none for the last tier
WIDE: Final = Context(prec=60)  # products of prices and energy are exact in it
TIERS_MAX: Final = 8
_EPOCH: Final = date(1970, 1, 1)
_DAY_MINUTES: Final = 1440


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

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.from_day = (told["from"] - _EPOCH).days
        energy = told["energy"]
        base, funds, step = (Decimal(energy[name]) for name in ("base", "funds", "ratio_step"))
        tiers = told.get("tiers")
        self.adders = [Decimal(text) for text in tiers["adders"]] if tiers else [Decimal(0)]
        self.bounds = tiers["bounds"] if tiers else []
        self.attributes = tiers.get("attribute", []) if tiers else []
        self.periods: list[tuple[Any, list[int], Decimal]] = []
        for period in told["period"]:
            steps = WIDE.divide(base * Decimal(period["ratio"]), step)
            rounded = steps.to_integral_value(ROUNDING[energy["ratio_mode"]]) * step
            self.periods.append((period["at"], period.get("months") or list(range(1, 13)), rounded + funds))
        self._stretches: dict[int, list[tuple[int, int, int]]] = {}

    def period_by_minute(self, month_of_year: int) -> list[int]:
        """Which period rules each minute of a local day of that month."""
        rest = [i for i, (at, months, _) in enumerate(self.periods) if at == "rest" and month_of_year in months]
        plan = [rest[0] if rest else -1] * _DAY_MINUTES
        for place, (at, months, _) in enumerate(self.periods):
            if at == "rest" or month_of_year not in months:
                continue
            for span in at:
                begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in span.split("-"))
                for minute in range(begin, end):
                    plan[minute] = place
        assert -1 not in plan, "a minute without a price"
        return plan

    def stretches(self, month_of_year: int) -> list[tuple[int, int, int]]:
        """(from minute, to minute, place in `periods`) of a local day of that month whose clock goes on evenly."""
        if month_of_year not in self._stretches:
            plan = self.period_by_minute(month_of_year)
            cuts = [0, *(m for m in range(1, _DAY_MINUTES) if plan[m] != plan[m - 1]), _DAY_MINUTES]
            self._stretches[month_of_year] = [(a, b, plan[a]) for a, b in pairwise(cuts)]
        return self._stretches[month_of_year]

    def bounds_in(self, month_of_year: int, attributes: Mapping[str, int]) -> Bounds:
        """Bounds on a day of that month for an account with these attributes."""
        if not self.bounds:
            return ()
        seasons = [s for s in self.bounds if month_of_year in (s.get("months") or range(1, 13))]
        upto = [thousandths(text) for text in seasons[0]["upto"]]
        for extra in self.attributes:
            if attributes.get(extra["name"], 0) >= extra["at_least"]:
                upto = [bound + thousandths(add) for bound, add in zip(upto, extra["add"], strict=True)]
        return tuple(upto)


class Tariff:
    """One tariff file as the auditor understands it; ends where the settings' horizon ends."""

    def __init__(self, text: str, from_year: int = 2020, to_year: int = 2040) -> None:
        told = tomllib.loads(text)
        self.id: str = told["id"]
        self.zone = ZoneInfo(told["timezone"])
        self.cycle_months = 12 if told["cycle"] == "calendar_year" else 1
        self.on_change: str = told["on_change"]
        self.on_switch: str = told["on_switch"]
        self.kind = (told["commodity"], told["unit"], told["timezone"], told["cycle"])
        self.rounding = ROUNDING[told["rounding"]["mode"]]
        self.minor = Decimal(told["rounding"]["step"])
        self.versions = [Version(v) for v in told["version"]]
        assert told["tier_kind"] == "block", "only block tiers are audited"
        assert told["allocation"] == "chronological", "only chronological allocation is audited"
        assert told["bill_cycle"] == "calendar_month", "only calendar months are audited"
        first = (date(from_year, 1, 1) - _EPOCH).days
        self.first_day = max(first, self.versions[0].from_day)
        self.end_day = (date(to_year, 1, 1) - _EPOCH).days
        # prices[key + tier]: the whole price; tiers beyond the last repeat it
        self.prices: list[Decimal] = []
        self._keys: dict[tuple[int, int], int] = {}
        for v, version in enumerate(self.versions):
            for p, (_, _, first_price) in enumerate(version.periods):
                self._keys[v, p] = len(self.prices)
                adders = version.adders + [version.adders[-1]] * (TIERS_MAX - len(version.adders))
                self.prices += [first_price + adder for adder in adders]
        self._days: dict[int, list[Segment]] = {}
        self._starts: dict[int, int] = {}
        self._bounds: dict[tuple[History, int], tuple[int, list[Bounds]]] = {}

    def carries_with(self, other: Tariff) -> bool:
        """Does energy so far in a tier cycle come along when an account changes between these two?"""
        both = (self, other)
        return self.kind == other.kind and all(
            tariff.on_switch == "carry_over" and any(version.bounds for version in tariff.versions) for tariff in both
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

    def segment_at(self, at_s: int) -> Segment | None:
        """The segment that holds the instant after `at_s`; None where nothing is priced."""
        day = self.day_of(at_s)
        if not self.first_day <= day < self.end_day:
            return None
        if day not in self._days:
            self._days[day] = self._segments(day)
        for segment in self._days[day]:
            if at_s < segment.end_s:
                return segment
        raise AssertionError("a local day has a hole")

    def _segments(self, day: int) -> list[Segment]:
        start_s, end_s = self.day_start_s(day), self.day_start_s(day + 1)
        month = month_of(day)
        version = self.version_on(day)
        number = self.versions.index(version)
        if end_s - start_s == _DAY_MINUTES * 60:
            return [
                Segment(self, start_s + a * 60, start_s + b * 60, self._keys[number, place], day, month)
                for a, b, place in version.stretches(month % 12 + 1)
            ]
        plan = version.period_by_minute(month % 12 + 1)
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
        return month - month % self.cycle_months

    def bounds_on(self, day: int, history: History) -> Bounds:
        """The bounds that rule a day, after the tariff's word for changes inside a tier cycle."""
        cycle = self.tier_cycle(month_of(day))
        key = (history, cycle)
        if key not in self._bounds:
            first = max(month_start(cycle), self.first_day)
            end = month_start(cycle + self.cycle_months)
            self._bounds[key] = first, [self._plain_bounds(d, history) for d in range(first, end)]
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

    def _plain_bounds(self, day: int, history: History) -> Bounds:
        known = {name: value for name, from_s, value in history if self.day_of(from_s) <= day}
        return self.version_on(day).bounds_in(month_of(day) % 12 + 1, known)


def read_tariffs(texts: Mapping[str, str], from_year: int, to_year: int) -> dict[str, Tariff]:
    """Tariffs by id, of the files' texts."""
    read = [Tariff(text, from_year, to_year) for text in texts.values()]
    return {tariff.id: tariff for tariff in read}
