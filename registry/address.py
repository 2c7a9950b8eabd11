"""Pure: a meter's serial as the 64-bit address it has on the wire, and which partition keeps what.

Twelve decimal digits (DL/T 645) are their own number. Any other serial is 2**63 plus the first 63 bits of its
BLAKE2b digest, so the two kinds never meet; two text serials that did would be a fault of the import.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TEXT_BIT: Final = 1 << 63
_SERIAL: Final = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)
_SLICE: Final = 1 << 18
_DECIMAL: Final = re.compile(r"[0-9]{12}", re.ASCII)


class BadSerial(ValueError):
    """Not 1 to 32 characters of A-Z a-z 0-9 . _ -"""


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "big")


def address(text: str) -> int:
    """The address of one serial; `BadSerial` when it is none."""
    if _SERIAL.fullmatch(text) is None:
        raise BadSerial(f"not a meter serial: {text[:40]!r}")
    if _DECIMAL.fullmatch(text):
        return int(text)
    return TEXT_BIT | (_digest(text) >> 1)


def addresses(serials: Any) -> npt.NDArray[np.uint64]:
    """Addresses of a pyarrow string array; decimal ones without a loop. `BadSerial` when one is none."""
    found = np.zeros(len(serials), np.uint64)
    for low in range(0, len(serials), _SLICE):
        some = serials.slice(low, _SLICE)
        decimal = pc.match_substring_regex(some, "^[0-9]{12}$")
        safe = pc.if_else(decimal, some, pa.scalar("0", some.type))
        found[low : low + len(some)] = np.asarray(pc.cast(safe, pa.uint64()))
        for place in np.flatnonzero(~np.asarray(decimal)).tolist():
            found[low + place] = address(some[place].as_py())
    return found


def address_text(number: int) -> str:
    """The twelve digits of a decimal address; a digest has no way back and is shown as `#` and hexadecimal."""
    return f"{number:012d}" if number < TEXT_BIT else f"#{number - TEXT_BIT:016x}"


def partition_of(text: str, partitions: int) -> int:
    """First partition of what is named `text` (a concentrator, or a point that has none): the same for ever."""
    return _digest(text) % partitions


def route_unknown(number: int, partitions: int) -> int:
    """Where readings of an address that no list has are judged."""
    return int(route_unknown_many(np.array([number], np.uint64), partitions)[0])


def route_unknown_many(numbers: npt.NDArray[np.uint64], partitions: int) -> npt.NDArray[np.int16]:
    """`route_unknown` for many: SplitMix64's finaliser, so that addresses in a row spread."""
    mixed = numbers.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(partitions)).astype(np.int16)
