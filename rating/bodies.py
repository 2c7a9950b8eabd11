"""Pure: the bodies of inbox rows, checked field by field before anything is done with them.

A row comes from a command, from autopay, or from whoever can write to the table. What is in it is data: a body
that is not what its kind needs raises `Refused`, whose text becomes the row's outcome. Limits are those that keep
64 bits safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.units import REGISTER_CODE, Quality, Register

AMOUNT_MAX_FEN: Final = 10**14  # as the inbox takes it (ledger.inbox)
VALUE_MAX: Final = 10**15  # thousandths; what a register of 12 digits shows
NEVER: Final = 2**32 - 1
READINGS_MAX: Final = 10_000
Reading = tuple[int, int, int, int, int]  # meter, register code, read_at_s, value, quality


class Refused(Exception):
    """The row changes nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Money:
    account: str
    amount_fen: int
    gateway: str
    reference: str
    order_id: int | None
    arm: int  # of the low balance that the order was for


@dataclass(frozen=True, slots=True)
class RegisterAt:
    """Which register, by concentrator, address and code."""

    concentrator: str
    meter: int
    register: int


def money(body: Mapping[str, Any], key: str) -> Money:
    order_id = body.get("order_id")
    return Money(
        _text(body, "account"),
        _whole(body, "amount_fen", 1, AMOUNT_MAX_FEN),
        _text(body, "gateway") if "gateway" in body else "counter",
        _text(body, "reference") if "reference" in body else key,
        None if order_id is None else _whole(body, "order_id", 0, 2**63 - 1),
        _whole(body, "arm", 0, 2**32 - 1) if "arm" in body else 0,
    )


def register_at(body: Mapping[str, Any]) -> RegisterAt:
    name = _text(body, "register")
    if name not in {known.value for known in Register}:
        raise Refused(f"{name!r} is no register")
    return RegisterAt(_text(body, "concentrator"), _whole(body, "meter", 0, 2**64 - 1), REGISTER_CODE[Register(name)])


def disconnected(body: Mapping[str, Any]) -> bool:
    """The state that a row of kind `supply` names."""
    state = _text(body, "state")
    if state not in ("connected", "disconnected"):
        raise Refused(f"{state!r} is neither connected nor disconnected")
    return state == "disconnected"


def value_at(body: Mapping[str, Any]) -> tuple[int, int]:
    """(value in thousandths, at_s)."""
    return _whole(body, "value", 0, VALUE_MAX), _whole(body, "at_s", 0, NEVER - 1)


def readings(body: Mapping[str, Any]) -> tuple[str, list[Reading]]:
    """(concentrator, readings) of a release."""
    told = body.get("readings")
    if not isinstance(told, list) or not 0 < len(told) <= READINGS_MAX:
        raise Refused("readings is no list of readings")
    limits = ((0, 2**64 - 1), (0, 255), (0, NEVER - 1), (-(2**63), 2**63 - 1), (min(Quality), max(Quality)))
    found: list[Reading] = []
    for row in told:
        fits = isinstance(row, list | tuple) and len(row) == len(limits)
        if not fits or any(type(x) is not int or not a <= x <= b for x, (a, b) in zip(row, limits, strict=True)):
            raise Refused("a reading is five whole numbers: meter, register, read_at_s, value, quality")
        found.append((row[0], row[1], row[2], row[3], row[4]))
    return _text(body, "concentrator"), found


def _text(body: Mapping[str, Any], name: str) -> str:
    found = body.get(name)
    if not isinstance(found, str) or not found:
        raise Refused(f"{name} is missing or no text")
    return found


def _whole(body: Mapping[str, Any], name: str, low: int, high: int) -> int:
    found = body.get(name)
    if type(found) is not int:
        raise Refused(f"{name} is missing or no whole number")
    if not low <= found <= high:
        raise Refused(f"{name} is out of range")
    return found
