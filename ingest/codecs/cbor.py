"""Pure: the part of CBOR (RFC 8949) that SenML needs, read strictly.

A general reader builds whatever it is told to: shared references that form circles, bignums, dates, regular
expressions, gigabytes announced by a nine-byte head, the last of two equal keys. This one knows integers,
text, floats, arrays, maps and decimal fractions (tag 4), with definite or indefinite lengths, and refuses the
rest by name. Nothing is allocated before the bytes for it are there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from config.reasons import Reason
from ingest.decoded import Limits, Rejected

_BREAK: Final = object()
_FLOATS: Final = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}


@dataclass(slots=True)
class _Reader:
    payload: bytes
    at: int
    nesting_max: int

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.payload):
            raise Rejected(Reason.MALFORMED, "truncated")
        part = self.payload[self.at : end]
        self.at = end
        return part

    def count(self, info: int) -> int:
        """The argument of a head: immediate, or in the next 1 to 8 bytes; -1 for indefinite."""
        if info < 24:
            return info
        if info < 28:
            return int.from_bytes(self.take(1 << (info - 24)), "big")
        if info == 31:
            return -1
        raise Rejected(Reason.MALFORMED, "reserved length")

    def item(self, depth: int) -> Any:
        """The next data item; `_BREAK` for the end of an indefinite one."""
        if depth > self.nesting_max:
            raise Rejected(Reason.NESTING, f"deeper than {self.nesting_max}")
        head = self.take(1)[0]
        major, info = head >> 5, head & 31
        if major == 7:
            return self.simple(info)
        size = self.count(info)
        if size < 0 and major not in (4, 5):
            raise Rejected(Reason.MALFORMED, "indefinite length where none is read")
        match major:
            case 0:
                return size
            case 1:
                return -1 - size
            case 3:
                return self.text(size)
            case 4:
                return self.array(size, depth)
            case 5:
                return self.map(size, depth)
            case 6:
                return self.tagged(size, depth)
            case _:
                raise Rejected(Reason.WRONG_TYPE, "byte strings mean nothing here")

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Rejected(Reason.ENCODING, str(error)) from None

    def array(self, size: int, depth: int) -> list[Any]:
        found: list[Any] = []
        while len(found) != size:
            value = self.item(depth + 1)
            if value is _BREAK:
                if size < 0:
                    return found
                raise Rejected(Reason.MALFORMED, "a break inside an array")
            found.append(value)
        return found

    def map(self, size: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        while len(found) != size:
            key = self.item(depth + 1)
            if key is _BREAK and size < 0:
                return found
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise Rejected(Reason.WRONG_TYPE, "a label is an integer or text")
            if key in found:
                raise Rejected(Reason.DUPLICATE_KEY, ascii(key)[:40])
            value = self.item(depth + 1)
            if value is _BREAK:
                raise Rejected(Reason.MALFORMED, "a break instead of a value")
            found[key] = value
        return found

    def tagged(self, tag: int, depth: int) -> Fraction:
        if tag in (2, 3):
            raise Rejected(Reason.NUMBER_SIZE, "a bignum")
        value = self.item(depth + 1)
        if tag != 4:
            raise Rejected(Reason.WRONG_TYPE, f"tag {tag} means nothing here")
        if not isinstance(value, list) or len(value) != 2 or any(type(part) is not int for part in value):
            raise Rejected(Reason.MALFORMED, "a decimal fraction is [exponent, mantissa]")
        exponent, mantissa = value
        if exponent > 30:
            raise Rejected(Reason.NONFINITE, "beyond any number of energy")
        if exponent < -30:
            raise Rejected(Reason.RESOLUTION, "finer than any register")
        scale = Fraction(10**exponent) if exponent >= 0 else Fraction(1, 10**-exponent)
        return Fraction(mantissa) * scale

    def simple(self, info: int) -> Any:
        if info in _FLOATS:
            form, size = _FLOATS[info]
            return struct.unpack(form, self.take(size))[0]
        if info == 31:
            return _BREAK
        if info in (20, 21):
            return info == 21
        if info == 22:
            return None
        raise Rejected(Reason.MALFORMED, "a simple value that means nothing here")


def parse(payload: bytes, limits: Limits) -> Any:
    """One CBOR item that fills `payload`; `Rejected` and nothing else on any bytes."""
    if len(payload) > limits.payload_max:
        raise Rejected(Reason.OVERSIZED, f"{len(payload)} bytes")
    if not payload:
        raise Rejected(Reason.MALFORMED, "empty")
    reader = _Reader(payload, 0, min(limits.nesting_max, 64))
    found = reader.item(1)
    if found is _BREAK or reader.at != len(payload):
        raise Rejected(Reason.MALFORMED, "bytes after the message")
    return found
