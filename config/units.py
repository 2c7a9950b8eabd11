"""Pure: integer units for energy and money, decimal text to integers, and the rounding modes by name.

Energy and volume are int64 in thousandths of the priced unit (Wh for kWh, litre for m3). A price is an integer of
millionths of the currency's minor unit per priced unit (`_e8`: 1e-8 yuan), so price x energy is an accrual in its
billionths (`_e11`: 1e-11 yuan, one fen is 1e9 of them). No binary float touches either.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP
from enum import IntEnum, StrEnum
from typing import Final

ENERGY_SCALE: Final = 1000
ACCRUAL_PER_MINOR: Final = 10**9
INT64_MAX: Final = 2**63 - 1

ROUNDING: Final[dict[str, str]] = {
    "half_up": ROUND_HALF_UP,  # away from zero on a tie, also below zero
    "half_even": ROUND_HALF_EVEN,
    "down": ROUND_DOWN,
    "up": ROUND_UP,
    "floor": ROUND_FLOOR,
    "ceiling": ROUND_CEILING,
}


@dataclass(frozen=True, slots=True)
class Currency:
    """A currency as integers: `minor_digits` decimals on a statement.

    Every currency counts in millionths of its minor unit for a price and in billionths of it for an accrual, so that
    prices of any currency fit the same bounds. What is called `_e8` and `_e11` is that: 1e-8 and 1e-11 of a yuan or
    a dollar, 1e-6 and 1e-9 of a yen.
    """

    code: str
    minor_digits: int

    @property
    def price_digits(self) -> int:
        """Decimals of a price."""
        return 6 + self.minor_digits

    @property
    def accrual_per_minor(self) -> int:
        """Units of accrual in one minor unit."""
        return ACCRUAL_PER_MINOR

    def text(self, amount_minor: int) -> str:
        """Decimal text of an amount in minor units: 12345 fen -> '123.45'."""
        return decimal_text(amount_minor, self.minor_digits)


CNY: Final = Currency("CNY", 2)
CURRENCIES: Final[dict[str, Currency]] = {
    code: Currency(code, digits)
    for digits, codes in ((0, "JPY KRW TWD"), (2, "AUD CAD CNY EUR GBP INR USD"), (3, "BHD KWD"))
    for code in codes.split()
}


class Quality(IntEnum):
    """AEMO NEM12 quality flags, ordered by rank: a higher rank replaces a lower one (A > F > S > E)."""

    E = 1
    S = 2
    F = 3
    A = 4


class Register(StrEnum):
    """Registers by their OBIS code without medium and channel (domain 3); `REGISTER_CODE` numbers them."""

    IMPORT_TOTAL = "1.8.0"
    IMPORT_T1 = "1.8.1"
    IMPORT_T2 = "1.8.2"
    IMPORT_T3 = "1.8.3"
    IMPORT_T4 = "1.8.4"
    EXPORT_TOTAL = "2.8.0"
    EXPORT_T1 = "2.8.1"
    EXPORT_T2 = "2.8.2"
    EXPORT_T3 = "2.8.3"
    EXPORT_T4 = "2.8.4"
    REACTIVE_IMPORT = "3.8.0"
    REACTIVE_EXPORT = "4.8.0"
    VOLUME = "24.2.1"


# The number on the wire and in the log (uint8). Never renumber: archives hold these.
REGISTER_CODE: Final[dict[Register, int]] = {
    Register.IMPORT_TOTAL: 1,
    Register.IMPORT_T1: 2,
    Register.IMPORT_T2: 3,
    Register.IMPORT_T3: 4,
    Register.IMPORT_T4: 5,
    Register.EXPORT_TOTAL: 11,
    Register.EXPORT_T1: 12,
    Register.EXPORT_T2: 13,
    Register.EXPORT_T3: 14,
    Register.EXPORT_T4: 15,
    Register.REACTIVE_IMPORT: 21,
    Register.REACTIVE_EXPORT: 22,
    Register.VOLUME: 31,
}
REGISTER_NAME: Final[dict[int, Register]] = {code: name for name, code in REGISTER_CODE.items()}
FED_IN_REGISTER: Final = REGISTER_CODE[Register.EXPORT_TOTAL]  # counts what a home gives, not what it takes

# Every register code has a physical unit; a reading in another unit is the exception `unit`.
REGISTER_UNIT: Final[dict[Register, str]] = {
    **{r: "kWh" for r in Register if r.value[0] in "12"},
    Register.REACTIVE_IMPORT: "kvarh",
    Register.REACTIVE_EXPORT: "kvarh",
    Register.VOLUME: "m3",
}


class NotExact(ValueError):
    """The text is not a plain decimal, or is finer than the unit, or does not fit."""


def scaled(text: str, digits: int) -> int:
    """Exact integer of decimal `text` in units of 10**-digits; `NotExact` when it is finer, odd or too big.

    Only ASCII digits with an optional sign and one point: no exponent, underscore, padding, NaN or full-width
    digits, and at most 30 characters, so a 5,000-digit number costs nothing.
    """
    if not 0 < len(text) <= 30 or not text.isascii():
        raise NotExact(f"not a plain decimal: {text[:40]!r}")
    body = text[1:] if text[0] in "+-" else text
    whole, point, fraction = body.partition(".")
    if not whole.isdigit() or (point and not fraction.isdigit()):
        raise NotExact(f"not a plain decimal: {text[:40]!r}")
    kept, finer = fraction[:digits], fraction[digits:]
    if finer.strip("0"):
        raise NotExact(f"finer than 10^-{digits}: {text}")
    value = int(whole + kept.ljust(digits, "0"))
    if value > INT64_MAX:
        raise NotExact(f"does not fit 64 bits: {text}")
    return -value if text[0] == "-" else value


def decimal_text(value: int, digits: int) -> str:
    """Decimal text of an integer in units of 10**-digits, for people and JSON: (1234, 3) -> '1.234'."""
    if not digits:
        return str(value)
    whole, rest = divmod(abs(value), 10**digits)
    return f"{'-' if value < 0 else ''}{whole}.{rest:0{digits}d}"


def round_ratio(numerator: int, denominator: int, mode: str) -> int:
    """Integer nearest to numerator / denominator under a named rounding mode; exact, defined for negatives."""
    assert denominator > 0
    floor, rest = divmod(numerator, denominator)
    if rest == 0:
        return floor
    match mode:
        case "half_up":
            twice = 2 * rest - denominator
            return floor + (1 if twice > 0 or (twice == 0 and numerator > 0) else 0)
        case "half_even":
            twice = 2 * rest - denominator
            return floor + (1 if twice > 0 or (twice == 0 and floor % 2 == 1) else 0)
        case "down":
            return floor if numerator > 0 else floor + 1
        case "up":
            return floor + 1 if numerator > 0 else floor
        case "floor":
            return floor
        case "ceiling":
            return floor + 1
        case _:
            raise ValueError(f"unknown rounding mode {mode!r}")
