"""Pure: the JSON envelope of concentrators and gateways.

    {"concentrator": "C1", "boot": 3, "sequence": 7, "stream": "a", "sent_at": 1782864000,
     "reads": [{"meter": "000000000001", "register": "1.8.0", "ts": 1782864000, "value": "123.456"}]}

A read of kind `interval` has a `period` in seconds and becomes a register read (`ingest.codecs.intervals`).

Two readers, one meaning. The quick one (msgspec into fixed shapes) takes what looks like the common message and
gives up on anything else without saying why; the strict one then reads it again and either decodes it or names
the fault. A test holds the two to the same answer.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from config.reasons import Reason
from ingest.codecs.intervals import PERIOD_MAX_S, Interval, Row, registers
from ingest.codecs.strict_json import Number, parse
from ingest.decoded import (
    QUALITY_CODE,
    TIME_END_S,
    TIME_FIRST_S,
    Decoded,
    Limits,
    Rejected,
    meter_of,
    quantity,
    register_and_digits,
    time_in_range,
    time_of_text,
)
from ingest.wire import SEQUENCE_MAX, encode_rows, is_id


class _Read(msgspec.Struct):
    meter: str
    register: str
    ts: int
    value: msgspec.Raw
    unit: str | None = None
    quality: str | None = None
    kind: str | None = None


class _Envelope(msgspec.Struct):
    reads: list[_Read]
    concentrator: str | None = None
    boot: int | None = None
    sequence: int | None = None
    stream: str | None = None
    sent_at: int | None = None


_QUICK: Final = msgspec.json.Decoder(_Envelope)
_VALUE: Final = re.compile(rb'"?([0-9]{1,12})(?:\.([0-9]{1,3}))?"?')
_KEY: Final = re.compile(rb'"\s*:')
_SCALE: Final = (1000, 100, 10, 1)


def decode(payload: bytes, limits: Limits) -> Decoded:
    """Readings of one envelope; `Rejected` and nothing else on any bytes."""
    found = _quick(payload, limits)
    return found if found is not None else _strict(payload, limits)


# -- the quick reader ---------------------------------------------------------------------------------------------


def _quick(payload: bytes, limits: Limits) -> Decoded | None:
    """The common message; None for everything that needs a closer look."""
    if len(payload) > limits.payload_max or b"\\" in payload:
        return None
    try:
        envelope = _QUICK.decode(payload)
        rows = [_quick_row(read) for read in envelope.reads]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _Unusual, Rejected):
        return None
    keys = sum(len(row[5]) for row in rows) + 1 + _present(envelope)
    # Without escapes, a quote and a colon end a key. As many keys as fields: none twice, none unknown.
    if keys != _keys(payload) or not 0 < len(rows) <= limits.readings_max:
        return None
    if not _plausible_head(envelope):
        return None
    meters, codes, times, values, qualities, _ = zip(*rows, strict=True)
    body = encode_rows(meters, values, times, bytes(codes), bytes(qualities))
    return Decoded(
        body,
        len(rows),
        envelope.concentrator,
        envelope.stream,
        envelope.sequence,
        envelope.sent_at,
        envelope.boot,
    )


def _keys(payload: bytes) -> int:
    """How many keys a payload without escapes has."""
    close = payload.count(b'":')
    # A colon elsewhere (in a text, or after white space) needs the slower count.
    return close if close == payload.count(b":") else len(_KEY.findall(payload))


class _Unusual(Exception):
    """The quick reader gives up."""


_KEYS: Final = tuple("k" * n for n in range(8))  # a length, without making an object


def _quick_row(read: _Read) -> tuple[int, int, int, int, int, str]:
    raw = bytes(read.value)
    found = _VALUE.fullmatch(raw)
    if found is None or (raw[0] == 34) != (raw[-1] == 34) or not TIME_FIRST_S <= read.ts < TIME_END_S:
        raise _Unusual
    whole, fraction = found.groups()
    if raw[0] == 48 and len(whole) > 1:
        raise _Unusual  # 007: no JSON number
    keys = 4
    quality = 4
    if read.quality is not None:
        quality = QUALITY_CODE.get(read.quality, 0)
        keys += 1
    if read.kind is not None:
        if read.kind != "register":
            raise _Unusual
        keys += 1
    keys += read.unit is not None
    register, digits = register_and_digits(read.register, read.unit)
    if digits != 3 or not quality:
        raise _Unusual
    value = int(whole) * 1000 + (int(fraction) * _SCALE[len(fraction)] if fraction else 0)
    return meter_of(read.meter), register, read.ts, value, quality, _KEYS[keys]


def _present(envelope: _Envelope) -> int:
    return (
        (envelope.concentrator is not None)
        + (envelope.boot is not None)
        + (envelope.sequence is not None)
        + (envelope.stream is not None)
        + (envelope.sent_at is not None)
    )


def _plausible_head(envelope: _Envelope) -> bool:
    return (
        (envelope.concentrator is None or is_id(envelope.concentrator))
        and (envelope.stream is None or is_id(envelope.stream))
        and (envelope.sequence is None or 0 < envelope.sequence <= SEQUENCE_MAX)
        and (envelope.boot is None or 0 <= envelope.boot <= SEQUENCE_MAX)
        and (envelope.sent_at is None or TIME_FIRST_S <= envelope.sent_at < TIME_END_S)
    )


# -- the strict reader --------------------------------------------------------------------------------------------


def _strict(payload: bytes, limits: Limits) -> Decoded:
    document = parse(payload, limits)
    if not isinstance(document, dict):
        raise Rejected(Reason.MALFORMED, "an envelope is a JSON object")
    reads = document.get("reads")
    if not isinstance(reads, list) or not reads:
        raise Rejected(Reason.MALFORMED, "no reads")
    if len(reads) > limits.readings_max:
        raise Rejected(Reason.OVERSIZED, f"{len(reads)} readings")
    rows = registers([_strict_read(read) for read in reads])
    meters, codes, times, values, qualities = zip(*rows, strict=True)
    body = encode_rows(meters, values, times, bytes(codes), bytes(qualities))
    sent_at = document.get("sent_at")
    return Decoded(
        body,
        len(rows),
        _id(document, "concentrator"),
        _id(document, "stream"),
        _count(document, "sequence", 1),
        None if sent_at is None else _time(sent_at, "sent_at"),
        _count(document, "boot", 0),
    )


def _strict_read(read: Any) -> Row | Interval:
    if not isinstance(read, dict):
        raise Rejected(Reason.WRONG_TYPE, "a read is a JSON object")
    kind = _text(read, "kind", "register")
    if kind not in ("register", "interval"):
        raise Rejected(Reason.KIND, f"{kind[:20]!a}: register or interval")
    quality = QUALITY_CODE.get(_text(read, "quality", "A"))
    if quality is None:
        raise Rejected(Reason.MALFORMED, "quality is one of A, F, S, E")
    unit = _text(read, "unit", "") or None
    register, digits = register_and_digits(_text(read, "register"), unit)
    meter = meter_of(_text(read, "meter"))
    if "ts" not in read or "value" not in read:
        raise Rejected(Reason.MALFORMED, "a read needs ts and value")
    at_s, value = _time(read["ts"], "ts"), _value(read["value"], digits)
    if kind == "register":
        return Row(meter, register, at_s, value, quality)
    return Interval(meter, register, at_s, value, quality, _period(read))


def _period(read: dict[str, Any]) -> int:
    period_s = _count(read, "period", 1)
    if period_s is None or period_s > PERIOD_MAX_S:
        raise Rejected(Reason.INTERVAL_SIZE, f"an interval has a period of 1 to {PERIOD_MAX_S} seconds")
    return period_s


def _text(read: dict[str, Any], name: str, default: str | None = None) -> str:
    value = read.get(name)
    if value is None and default is not None:
        return default
    if name not in read:
        raise Rejected(Reason.MALFORMED, f"no {name}")
    if not isinstance(value, str) or isinstance(value, Number):
        raise Rejected(Reason.WRONG_TYPE, f"{name} is text")
    return value


def _value(value: Any, digits: int) -> int:
    if not isinstance(value, str):
        raise Rejected(Reason.WRONG_TYPE, f"value is a decimal, not {type(value).__name__}")
    return quantity(str(value), digits, quoted=not isinstance(value, Number))


def _time(value: Any, name: str) -> int:
    if isinstance(value, Number):
        if not value.lstrip("-").isdigit():
            raise Rejected(Reason.TIME_RANGE, f"{name} is whole UTC seconds: {value}")
        return time_in_range(int(value))
    if not isinstance(value, str):
        raise Rejected(Reason.WRONG_TYPE, f"{name} is UTC seconds or ISO 8601 text, not {type(value).__name__}")
    return time_of_text(value)


def _id(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or isinstance(value, Number):
        raise Rejected(Reason.WRONG_TYPE, f"{name} is text")
    if not is_id(value):
        raise Rejected(Reason.BAD_ID, f"{name}: {value[:40]!a}")
    return value


def _count(document: dict[str, Any], name: str, least: int) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, Number):
        raise Rejected(Reason.WRONG_TYPE, f"{name} is a number")
    if not value.isdigit() or not least <= int(value) <= SEQUENCE_MAX:
        raise Rejected(Reason.NUMBER_FORM, f"{name}: {value} is no count")
    return int(value)
