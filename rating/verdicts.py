"""Pure: what rating says of one reading; the numbers are what the kernel writes."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from config.reasons import Reason


class Verdict(IntEnum):
    """Below `FIRST_REFUSED` the reading moved the register; from there on it changed no register."""

    ACCEPTED = 0
    ROLLOVER = 1  # accepted, the register went through its last digit
    CONFIRMED = 2  # accepted, confirms a jump that waited
    REPLACED = 3  # a better quality at the same time: the difference is charged
    FROZEN = 4  # accepted, and listed once: the register has not moved for too long
    DUPLICATE = 5
    LATE = 6
    CONFLICT = 7
    NEGATIVE = 8
    RESET = 9
    IMPLAUSIBLE = 10
    UNCONFIRMED_JUMP = 11
    FUTURE = 12
    RESOLUTION = 13
    OVERFLOW = 14
    NOT_INSTALLED = 15
    UNKNOWN_METER = 16
    UNKNOWN_REGISTER = 17


FIRST_REFUSED: Final = Verdict.DUPLICATE

# Verdicts that become a row of the exceptions queue, and under which reason.
EXCEPTION_REASON: Final[dict[Verdict, Reason]] = {
    Verdict.FROZEN: Reason.FROZEN,
    Verdict.CONFLICT: Reason.CONFLICT,
    Verdict.NEGATIVE: Reason.NEGATIVE,
    Verdict.RESET: Reason.RESET,
    Verdict.IMPLAUSIBLE: Reason.IMPLAUSIBLE,
    Verdict.UNCONFIRMED_JUMP: Reason.UNCONFIRMED_JUMP,
    Verdict.FUTURE: Reason.FUTURE,
    Verdict.RESOLUTION: Reason.RESOLUTION,
    Verdict.OVERFLOW: Reason.OVERFLOW,
    Verdict.NOT_INSTALLED: Reason.NOT_INSTALLED,
    Verdict.UNKNOWN_METER: Reason.UNKNOWN_METER,
    Verdict.UNKNOWN_REGISTER: Reason.UNKNOWN_REGISTER,
}


class Warn:
    """Warnings beside the verdict: places in the kernel's counter array."""

    ZERO: Final = 0  # no use over a day or more
    NEAR_MAXIMUM: Final = 1  # more than half of the connection's maximum, on average
    PROLONGED_ESTIMATION: Final = 2
    ESTIMATE_TAKEN_BACK: Final = 3  # an estimate was too high
    HIGH: Final = 4  # a day of three times the register's usual, or more
    LOW: Final = 5  # a day of a third of it, or less
    USE_WHILE_DISCONNECTED: Final = 6
    NAMES: Final = (
        "zero",
        "near_maximum",
        "prolonged_estimation",
        "estimate_taken_back",
        "high",
        "low",
        "use_while_disconnected",
    )
