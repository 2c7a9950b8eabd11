"""Pure: JSON read strictly, and what exactly is wrong with it when something is.

Python's and msgspec's readers are generous where energy needs strictness: the last of two equal keys wins, NaN
and 1e999 are numbers, numbers become binary floats, a byte order mark is overlooked, nesting ends in a
RecursionError. This one keeps every number as its raw text and names the fault.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import numpy as np

from config.reasons import Reason
from ingest.decoded import TEXT_MAX, Limits, Rejected

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BOMS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class Number(str):
    """The raw text of a JSON number."""

    __slots__ = ()


def parse(payload: bytes, limits: Limits) -> Any:
    """The document with every number as `Number`; `Rejected` names the fault. Never recurses deeply."""
    if len(payload) > limits.payload_max:
        raise Rejected(Reason.OVERSIZED, f"{len(payload)} bytes")
    if not payload.strip():
        raise Rejected(Reason.MALFORMED, "empty")
    if payload.startswith(_BOMS) or b"\x00" in payload[:4]:
        raise Rejected(Reason.ENCODING, "a byte order mark or UTF-16; plain UTF-8 is wanted")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected(Reason.ENCODING, str(error)) from None
    if depth(payload) > limits.nesting_max:
        raise Rejected(Reason.NESTING, f"deeper than {limits.nesting_max}")
    try:
        return json.loads(
            text,
            object_pairs_hook=_pairs,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_constant,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED, str(error)) from None


def depth(payload: bytes) -> int:
    """Deepest nesting, by counting brackets outside strings; linear, without recursion."""
    bare = np.frombuffer(_STRING.sub(b"", payload), np.uint8)
    step = ((bare == ord("[")) | (bare == ord("{"))).astype(np.int8)
    step -= ((bare == ord("]")) | (bare == ord("}"))).astype(np.int8)
    return int(np.cumsum(step, dtype=np.int64).max(initial=0))


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Rejected(Reason.DUPLICATE_KEY, ascii(twice[:40]))
    return found


def _number(text: str) -> Number:
    if len(text) > TEXT_MAX:
        raise Rejected(Reason.NUMBER_SIZE, f"a number of {len(text)} characters")
    return Number(text)


def _constant(text: str) -> Number:
    raise Rejected(Reason.NONFINITE, text)
