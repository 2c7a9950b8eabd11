"""Pure: the field types of a tariff file: words, decimal text, spans of the day, days of the year.

A word that means something but waits for a later version is refused by name, so that nobody believes that it
took effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from enum import IntEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from config.units import ROUNDING, NotExact, scaled

TIERS_MAX: Final = 8
STEPS: Final = tuple(10**n for n in range(1, 7))  # thousandths
PRICE_MAX_E8: Final = 20_000_000_000  # kernel's bound: a product of price and energy must fit 64 bits (rating.spread)
PRICE_DIGITS: Final = 8
MONEY_MAX_E8: Final = 10**13  # 100,000 of the currency: with a year's days an accrual fits 64 bits
RATE_MAX_E6: Final = 10**7  # 1,000 %
RATIO_DIGITS: Final = 6
MINUTES: Final = 1440
DAYS_OF_YEAR: Final = 366  # a day of the year counts as in a leap year: 29 February is always 59
ALL_MONTHS: Final = tuple(range(1, 13))
_FIRST: Final = tuple(date(2000, month, 1).toordinal() - date(2000, 1, 1).toordinal() for month in ALL_MONTHS)


class DayType(IntEnum):
    """What kind of day a local day is; each is exactly one (rating.tariff.days)."""

    WEEKDAY = 0
    WEEKEND = 1
    HOLIDAY = 2
    ADJUSTED = 3  # a day of a weekend that is worked, because a holiday took a weekday
    SPECIAL = 4  # announced: a critical peak


DAY_TYPES: Final = {kind.name.lower(): kind for kind in DayType}
WEEKDAY_NAMES: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

BUILT: Final[dict[str, tuple[str, ...]]] = {
    "clock": ("daylight", "standing"),
    "bill_cycle": ("calendar_month",),
    "cycle": ("calendar_month", "calendar_two_months", "calendar_quarter", "calendar_year"),
    "tier_kind": ("block", "slab"),
    "allocation": ("chronological", "proportional", "per_period"),
    "on_change": ("next_cycle", "from_cycle_start", "by_instant", "by_days"),
    "on_open": ("full_bounds",),
    "on_switch": ("carry_over", "start_anew"),
    "rounding.level": ("bill", "line"),
    "calendar.library": ("none", "holidays", "chinese-calendar"),
    "calendar.unknown_year": ("provisional",),
    "netting": ("none", "cycle_total", "cycle_by_period"),
    "charge.kind": ("standing", "levy", "credit", "percent", "minimum", "export"),
    "charge.per": ("day", "month", "season"),
    "charge.parts": ("pooled", "each"),
    "tiers.per": ("cycle", "day"),
    "tiers.length": ("none", "days30"),
}
KNOWN: Final[dict[str, tuple[str, ...]]] = {  # words that mean something and wait for a later version
    "charge.kind": ("demand", "power_factor"),
    "netting": ("interval",),
    "bill_cycle": ("read_day",),
    "cycle": ("read_day",),
    "on_open": ("by_days", "by_months"),
    "on_switch": ("by_days",),
    "calendar.unknown_year": ("unpriced",),
    "tiers.length": ("actual",),
}
CYCLE_MONTHS: Final = {
    "calendar_month": 1,
    "calendar_two_months": 2,
    "calendar_quarter": 3,
    "calendar_year": 12,
}


def _schema(**told: Any) -> WithJsonSchema:
    """What a file writes, for the JSON Schema: not the integer that it becomes."""
    return WithJsonSchema(told)


def words(key: str) -> WithJsonSchema:
    """The words of `key` that are built, for the JSON Schema."""
    return _schema(enum=list(BUILT[key]))


def word(key: str) -> Callable[[Any], Any]:
    """A check that a value is one of the words of `key`."""

    def check(value: Any) -> Any:
        built = BUILT[key]
        if value in built:
            return value
        if value in KNOWN.get(key, ()):
            raise ValueError(f"{value!r} is not built in this version; built: {', '.join(built)}")
        raise ValueError(f"{value!r} is no such word; there are {', '.join(built + KNOWN.get(key, ()))}")

    return check


def decimal(digits: int) -> Callable[[Any], int]:
    """A reader of decimal text: a whole number of 10^-digits."""

    def parse(value: Any) -> int:
        if not isinstance(value, str):
            raise ValueError(f'write the figure as decimal text in quotes: "{value}"')
        try:
            return scaled(value, digits)
        except NotExact as fault:
            raise ValueError(str(fault)) from None

    return parse


def _price(value: Any, info: ValidationInfo) -> int:
    """Decimal text of money in the currency's price units (`price_digits` of the context; 8 without one)."""
    context: Mapping[str, Any] = info.context or {}
    return decimal(context.get("price_digits", PRICE_DIGITS))(value)


def _mode(value: Any) -> Any:
    if value not in ROUNDING:
        raise ValueError(f"{value!r} is no rounding mode; there are {', '.join(ROUNDING)}")
    return value


def _minute(text: str) -> int:
    hour, colon, minute = text.partition(":")
    if not (colon and len(hour) == len(minute) == 2 and (hour + minute).isascii() and (hour + minute).isdigit()):
        raise ValueError(f"{text!r} is no time of day HH:MM")
    at = int(hour) * 60 + int(minute)
    if int(minute) > 59 or at > MINUTES:
        raise ValueError(f"{text!r} is no time of day up to 24:00")
    return at


def _spans(value: Any) -> Any:
    """["10:00-12:00", ...] -> ((600, 720), ...) in minutes of the local day; "rest" -> ()."""
    if value == "rest":
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError('write "rest", or a list of spans like "10:00-12:00"')
    spans = []
    for text in value:
        start, _, end = text.partition("-")
        span = (_minute(start), _minute(end))
        if span[0] >= span[1]:
            raise ValueError(f"{text!r} does not end after it starts; a span over midnight is two spans")
        spans.append(span)
    return tuple(spans)


def day_of_year(month: int, day: int) -> int:
    """Place of a day in a leap year: 1 January 0, 29 February 59, 31 December 365."""
    return _FIRST[month - 1] + day - 1


def month_day(place: int) -> str:
    """The day of the year as text: 59 -> "02-29"."""
    return date.fromordinal(date(2000, 1, 1).toordinal() + place).strftime("%m-%d")


def _month_day(value: Any) -> int:
    """ "06-01" -> place in a leap year."""
    try:
        if not isinstance(value, str) or len(value) != 5:
            raise ValueError
        return day_of_year(*(date.fromisoformat(f"2000-{value}").timetuple()[1:3]))
    except ValueError:
        raise ValueError(f'{value!r} is no day of the year; write "MM-DD"') from None


def _day_types(value: Any) -> Any:
    """["weekday", "adjusted"] -> DayTypes."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"write a list of day types; there are {', '.join(DAY_TYPES)}")
    for name in value:
        if name not in DAY_TYPES:
            raise ValueError(f"{name!r} is no day type; there are {', '.join(DAY_TYPES)}")
    return tuple(DAY_TYPES[name] for name in value)


def _weekend(value: Any) -> Any:
    """["sat", "sun"] -> (5, 6), days of the week from Monday on; [] where there is none."""
    if not isinstance(value, list) or not all(name in WEEKDAY_NAMES for name in value):
        raise ValueError(f"write a list of {', '.join(WEEKDAY_NAMES)}, or [] for none")
    return tuple(WEEKDAY_NAMES.index(name) for name in value)


def _differ(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("one of them stands here twice")
    return values


def _date(value: Any) -> Any:
    if type(value) is not date:
        raise ValueError("write a date without quotes: 2021-10-01")
    return value


def _power_of_ten(thousandths: int) -> int:
    if thousandths not in STEPS:
        raise ValueError('a power of ten from "0.01" to "1000"')
    return thousandths


def _text(what: str, *, negative: bool = False) -> WithJsonSchema:
    sign = "-?" if negative else ""
    return _schema(type="string", pattern=rf"^{sign}[0-9]+(\.[0-9]+)?$", description=what)


_MONEY: Final = "decimal text, in the currency"
_SPAN: Final = "^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9]$"
Price = Annotated[
    int, BeforeValidator(_price), Field(gt=-PRICE_MAX_E8, lt=PRICE_MAX_E8), _text(_MONEY, negative=True)
]
Money = Annotated[
    int, BeforeValidator(_price), Field(gt=-MONEY_MAX_E8, lt=MONEY_MAX_E8), _text(_MONEY, negative=True)
]
Rate = Annotated[
    int,
    BeforeValidator(decimal(4)),  # of a per cent: millionths of the whole
    Field(ge=-RATE_MAX_E6, le=RATE_MAX_E6),
    _text("decimal text, in per cent", negative=True),
]
Step = Annotated[int, BeforeValidator(_price), Field(gt=0), _text(_MONEY)]
Ratio = Annotated[
    int, BeforeValidator(decimal(RATIO_DIGITS)), Field(ge=0, le=1000 * 10**RATIO_DIGITS), _text("decimal text")
]
Energy = Annotated[int, BeforeValidator(decimal(3)), Field(ge=0, lt=10**15), _text("decimal text, in the unit")]
QuantityStep = Annotated[
    int,
    BeforeValidator(decimal(3)),
    AfterValidator(_power_of_ten),
    _text("decimal text, in the unit: a power of ten"),
]
Spans = Annotated[
    tuple[tuple[int, int], ...],
    BeforeValidator(_spans),
    _schema(
        anyOf=[{"const": "rest"}, {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": _SPAN}}],
        description="spans of the local wall clock",
    ),
]
Mode = Annotated[str, BeforeValidator(_mode), _schema(enum=list(ROUNDING))]
Months = Annotated[
    tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(min_length=1, max_length=12), AfterValidator(_differ)
]
MonthDay = Annotated[
    int, BeforeValidator(_month_day), _schema(type="string", pattern="^[0-9]{2}-[0-9]{2}$", description="MM-DD")
]
DayTypes = Annotated[
    tuple[DayType, ...],
    BeforeValidator(_day_types),
    AfterValidator(_differ),
    _schema(type="array", minItems=1, uniqueItems=True, items={"enum": list(DAY_TYPES)}),
]
Weekend = Annotated[
    tuple[int, ...],
    BeforeValidator(_weekend),
    AfterValidator(_differ),
    _schema(type="array", uniqueItems=True, items={"enum": list(WEEKDAY_NAMES)}),
]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_differ)]
Date = Annotated[date, BeforeValidator(_date)]
