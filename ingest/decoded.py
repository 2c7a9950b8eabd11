"""Pure: what a codec returns, how it refuses, and the words that all text formats share.

A codec turns payload bytes into a `Decoded`, or raises `Rejected` with a reason from `config.reasons`. It
raises nothing else on any bytes; a fuzz test holds it to that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from config.reasons import Reason
from config.units import REGISTER_CODE, REGISTER_UNIT, NotExact, Quality, Register, scaled
from ingest.wire import decode_readings
from rating.readings import Readings
from registry.address import BadSerial, address

VALUE_MAX: Final = 10**15  # thousandths: a thousand TWh; sums of differences stay far from 2**63
TIME_FIRST_S: Final = 946_684_800  # 2000-01-01; older times are unset clocks
TIME_END_S: Final = 4_102_444_800  # 2100-01-01, exclusive
TEXT_MAX: Final = 40  # of a number


class Rejected(Exception):
    """The whole message is refused; it becomes a REJECT record with `reason` and `note`."""

    def __init__(self, reason: Reason, note: str = "") -> None:
        super().__init__(f"{reason.value}: {note}")
        self.reason = reason
        self.note = note[:300]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a codec refuses by size before it parses (from settings.ingest and settings.mqtt)."""

    payload_max: int = 1 << 20
    readings_max: int = 20_000
    nesting_max: int = 16


@dataclass(slots=True)
class Decoded:
    """A message's readings as the log's body, how many they are, and what its payload says of its sender."""

    body: bytes
    rows: int
    concentrator: str | None = None
    stream: str | None = None
    sequence: int | None = None
    sent_at_s: int | None = None
    boot: int | None = None

    @property
    def readings(self) -> Readings:
        """The columns, as views of the body."""
        return decode_readings(self.body)


_UNIT_DIGITS: Final = {  # unit on the wire -> (unit of the register, decimals of that unit in a thousandth)
    "kWh": ("kWh", 3),
    "Wh": ("kWh", 0),
    "kvarh": ("kvarh", 3),
    "varh": ("kvarh", 0),
    "m3": ("m3", 3),
    "l": ("m3", 0),
    "L": ("m3", 0),
}
QUALITY_CODE: Final = {q.name: int(q) for q in Quality}
_OBIS: Final = re.compile(r"(?:[0-9]{1,2}-[0-9]{1,3}:)?([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})", re.ASCII)


@lru_cache(maxsize=256)
def register_of(text: str) -> Register:
    """A register by its short (1.8.0) or full (1-0:1.8.0, 0-2:24.2.1) OBIS text."""
    found = _OBIS.fullmatch(text)
    try:
        if found is None:
            raise Rejected(Reason.BAD_ID, f"no register {text[:40]!r}")
        return Register(found.group(1))
    except ValueError:
        raise Rejected(Reason.UNKNOWN_REGISTER, f"no register {text[:40]!r}") from None


@lru_cache(maxsize=1024)
def register_and_digits(text: str, unit: str | None) -> tuple[int, int]:
    """Register code, and how many decimals of the value's unit make a thousandth of the register's unit."""
    register = register_of(text)
    if unit is None:
        return REGISTER_CODE[register], 3
    known = _UNIT_DIGITS.get(unit)
    if known is None or known[0] != REGISTER_UNIT[register]:
        raise Rejected(Reason.UNIT, f"register {register} does not count {unit[:20]!r}")
    return REGISTER_CODE[register], known[1]


@lru_cache(maxsize=1 << 17)
def meter_of(text: str) -> int:
    """A meter's address from its name on the wire."""
    try:
        return address(text)
    except BadSerial:
        raise Rejected(Reason.BAD_ID, f"no meter name: {text[:40]!a}") from None


_PLAIN: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.ASCII | re.IGNORECASE)


def quantity(text: str, digits: int, *, quoted: bool) -> int:
    """Exact thousandths of a decimal, given as text (`quoted`) or as the raw text of a JSON number.

    Text is a plain decimal. A number may have an exponent, because some encoders print 1200000 as 1.2e6; it is
    multiplied out exactly.
    """
    if len(text) > TEXT_MAX:
        raise Rejected(Reason.NUMBER_SIZE, f"a number of {len(text)} characters")
    if _NOT_FINITE.fullmatch(text):
        raise Rejected(Reason.NONFINITE, text)
    exponent = "e" in text or "E" in text
    if exponent and _NUMBER.fullmatch(text):
        power = int(text.lower().partition("e")[2])
        if power > 30:
            raise Rejected(Reason.NONFINITE, f"{text} is beyond any number of energy")
        if quoted:
            raise Rejected(Reason.NUMBER_FORM, f"not a plain decimal: {text}")
        text = _expanded(text, power)
    elif not _PLAIN.fullmatch(text):
        raise Rejected(Reason.NUMBER_FORM, f"not a plain decimal: {text!a}")
    return _within(text, digits)


def _expanded(text: str, power: int) -> str:
    if power < -30:
        raise Rejected(Reason.RESOLUTION, f"{text} is finer than any register")
    try:
        return format(Decimal(text), "f")
    except InvalidOperation:
        raise Rejected(Reason.NUMBER_FORM, text) from None


def _within(text: str, digits: int) -> int:
    whole = text.partition(".")[0].lstrip("+-").lstrip("0")
    if len(whole) > 15:
        raise Rejected(Reason.OVERFLOW, f"{text} does not fit")
    try:
        value = scaled(_cut(text), digits)
    except NotExact as error:
        raise Rejected(Reason.RESOLUTION, str(error)) from None
    if not -VALUE_MAX < value < VALUE_MAX:
        raise Rejected(Reason.OVERFLOW, f"{text} does not fit")
    return value


def _cut(text: str) -> str:
    """Without zeros that say nothing, so that 30 characters are enough."""
    sign = "-" if text.startswith("-") else ""
    whole, _, fraction = text.lstrip("+-").partition(".")
    fraction = fraction.rstrip("0")
    if len(fraction) > 9:
        raise Rejected(Reason.RESOLUTION, f"finer than a thousandth: {text}")
    whole = whole.lstrip("0") or "0"
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def exact_thousandths(numerator: int, denominator: int, digits: int) -> int:
    """A rational as an integer of 10**-digits; refused unless it is one exactly (for binary floats)."""
    scaled_up, rest = divmod(numerator * (1, 10, 100, 1000)[digits], denominator)
    if rest:
        raise Rejected(Reason.RESOLUTION, "a binary float that is no exact thousandth: send an integer or a decimal")
    if not -VALUE_MAX < scaled_up < VALUE_MAX:
        raise Rejected(Reason.OVERFLOW, "does not fit")
    return scaled_up


def time_in_range(value: int) -> int:
    """UTC seconds of this century, or TIME_RANGE."""
    if not TIME_FIRST_S <= value < TIME_END_S:
        raise Rejected(Reason.TIME_RANGE, f"{str(value)[:30]} is no UTC second of 2000 to 2100")
    return value


_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.0{1,9})?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})", re.ASCII
)


@lru_cache(maxsize=4096)
def time_of_text(text: str) -> int:
    """ISO 8601 with an offset, to the second."""
    if not _ISO.fullmatch(text):
        raise Rejected(Reason.TIME_RANGE, f"not ISO 8601 with an offset, to the second: {text[:40]!a}")
    try:
        moment = datetime.fromisoformat(text.upper())
        return time_in_range(int(moment.timestamp()))
    except (ValueError, OverflowError):
        raise Rejected(Reason.TIME_RANGE, f"no such time: {text}") from None
