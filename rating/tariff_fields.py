"""Pure: the field types of a tariff file: words, decimal text, spans of the day.

A word that means something but waits for a later version is refused by name, so that nobody believes that it
took effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from config.units import ROUNDING, NotExact, scaled

TIERS_MAX: Final = 8
PRICE_MAX_E8: Final = 2_000_000_000  # kernel's bound: a product of price and energy must fit 64 bits
RATIO_DIGITS: Final = 6
MINUTES: Final = 1440
BUILT: Final[dict[str, tuple[str, ...]]] = {
    "bill_cycle": ("calendar_month",),
    "cycle": ("calendar_month", "calendar_year"),
    "tier_kind": ("block",),
    "allocation": ("chronological",),
    "on_change": ("next_cycle", "from_cycle_start", "by_instant", "by_days"),
    "on_open": ("full_bounds",),
    "on_switch": ("carry_over", "start_anew"),
    "rounding.level": ("bill",),
}
KNOWN: Final[dict[str, tuple[str, ...]]] = {  # words that mean something and wait for a later version
    "bill_cycle": ("read_day",),
    "cycle": ("read_day",),
    "tier_kind": ("slab",),
    "allocation": ("proportional", "per_period"),
    "on_open": ("by_days", "by_months"),
    "on_switch": ("by_days",),
    "rounding.level": ("line",),
}


def word(key: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        built = BUILT[key]
        if value in built:
            return value
        if value in KNOWN.get(key, ()):
            raise ValueError(f"{value!r} is not built in this version; built: {', '.join(built)}")
        raise ValueError(f"{value!r} is no such word; there are {', '.join(built + KNOWN.get(key, ()))}")

    return check


def decimal(digits: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, str):
            raise ValueError(f'write the figure as decimal text in quotes: "{value}"')
        try:
            return scaled(value, digits)
        except NotExact as fault:
            raise ValueError(str(fault)) from None

    return parse


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


Price = Annotated[int, BeforeValidator(decimal(8)), Field(gt=-PRICE_MAX_E8, lt=PRICE_MAX_E8)]
Step = Annotated[int, BeforeValidator(decimal(8)), Field(gt=0)]
Ratio = Annotated[int, BeforeValidator(decimal(RATIO_DIGITS)), Field(ge=0, le=1000 * 10**RATIO_DIGITS)]
Energy = Annotated[int, BeforeValidator(decimal(3)), Field(ge=0, lt=10**15)]
Spans = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_spans)]
Mode = Annotated[str, BeforeValidator(_mode)]
Months = Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(min_length=1, max_length=12)]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
ALL_MONTHS: Final = tuple(range(1, 13))
