"""Pure: SenML (RFC 8428) as JSON and as CBOR; a record is a register read at a time.

    [{"bn": "000000000001/", "bt": 1782864000, "bu": "Wh", "n": "1.8.0", "v": 123456}]

The name (base name + name) is `<meter>/<register>`, the unit Wh or kWh (RFC 8798), the time absolute; base
value, base time and base unit add up as the RFC says, exactly: JSON numbers are read as text, CBOR floats only
if they are exact thousandths (1234.5 is, 1234.567 is not and no binary float ever is). Senders of CBOR use
integers of Wh or decimal fractions (tag 4).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Final

from config.reasons import Reason
from ingest.codecs import cbor, strict_json
from ingest.codecs.strict_json import Number
from ingest.decoded import (
    QUALITY_CODE,
    TEXT_MAX,
    Decoded,
    Limits,
    Rejected,
    exact_thousandths,
    meter_of,
    quantity,
    register_and_digits,
    time_in_range,
)
from ingest.wire import encode_rows

# CBOR label -> JSON label (RFC 8428, table 4).
_LABELS: Final = {
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}
_RELATIVE_S: Final = 2**28  # smaller times are relative to now
_VERSION_MAX: Final = 10


def decode_json(payload: bytes, limits: Limits) -> Decoded:
    """Readings of one SenML pack in JSON; `Rejected` and nothing else on any bytes."""
    return _pack(strict_json.parse(payload, limits), limits)


def decode_cbor(payload: bytes, limits: Limits) -> Decoded:
    """Readings of one SenML pack in CBOR; `Rejected` and nothing else on any bytes."""
    document = cbor.parse(payload, limits)
    if isinstance(document, list):
        document = [_named(record) for record in document]
    return _pack(document, limits)


def _named(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    named = {_LABELS.get(label, label): value for label, value in record.items()}
    if len(named) != len(record):
        raise Rejected(Reason.DUPLICATE_KEY, "a label as a number and as text")
    return named


def _pack(document: Any, limits: Limits) -> Decoded:
    if not isinstance(document, list) or not document:
        raise Rejected(Reason.MALFORMED, "a SenML pack is an array of records")
    if len(document) > limits.readings_max:
        raise Rejected(Reason.OVERSIZED, f"{len(document)} records")
    base: dict[str, Any] = {}
    rows = []
    for record in document:
        if not isinstance(record, dict):
            raise Rejected(Reason.WRONG_TYPE, "a SenML record is a map")
        _known(record)
        base.update((label, record[label]) for label in ("bn", "bt", "bu", "bv") if label in record)
        if "v" in record or "bv" in base:
            rows.append(_row(base, record))
        elif "s" in record:
            raise Rejected(Reason.KIND, "a sum: registers only, no intervals")
        elif "n" in record:
            raise Rejected(Reason.WRONG_TYPE, "a record without a number")
    if not rows:
        raise Rejected(Reason.MALFORMED, "no readings")
    meters, registers, times, values = zip(*rows, strict=True)
    body = encode_rows(meters, values, times, bytes(registers), bytes([QUALITY_CODE["A"]]) * len(rows))
    return Decoded(body, len(rows))


def _known(record: dict[str, Any]) -> None:
    version = record.get("bver")
    if version is not None and _exact(version, "bver", Reason.UNKNOWN_FORMAT) > _VERSION_MAX:
        raise Rejected(Reason.UNKNOWN_FORMAT, "a SenML version of the future")
    for label in record:
        if isinstance(label, str) and label.endswith("_"):
            raise Rejected(Reason.UNKNOWN_FORMAT, f"{label[:40]!a} must be understood and is not")
    for label in ("vs", "vb", "vd"):
        if label in record:
            raise Rejected(Reason.WRONG_TYPE, f"{label}: a register is a number")


def _row(base: dict[str, Any], record: dict[str, Any]) -> tuple[int, int, int, int]:
    meter, slash, register_text = (_text(base.get("bn", "")) + _text(record.get("n", ""))).rpartition("/")
    if not slash:
        raise Rejected(Reason.BAD_ID, "a name is <meter>/<register>")
    unit = _text(record.get("u", base.get("bu", "")))
    if not unit:
        raise Rejected(Reason.UNIT, "no unit")
    register, digits = register_and_digits(register_text, unit)
    value = _value(record["v"], digits) if "v" in record else 0
    if "bv" in base:
        value += _value(base["bv"], digits)
    return meter_of(meter), register, _time(base.get("bt"), record.get("t")), value


def _text(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Number):
        raise Rejected(Reason.WRONG_TYPE, "names and units are text")
    return value


def _value(value: Any, digits: int) -> int:
    if isinstance(value, Number):
        return quantity(value, digits, quoted=False)
    exact = _exact(value, "a value", Reason.OVERFLOW)
    return exact_thousandths(exact.numerator, exact.denominator, digits)


def _time(base: Any, own: Any) -> int:
    total = sum((_exact(part, "a time", Reason.TIME_RANGE) for part in (base, own) if part is not None), Fraction(0))
    if total.denominator != 1:
        raise Rejected(Reason.TIME_RANGE, "a time within a second")
    if total < _RELATIVE_S:
        raise Rejected(Reason.TIME_RANGE, "a time relative to now, or none: the device's own is wanted")
    return time_in_range(int(total))


def _exact(value: Any, what: str, too_big: Reason) -> Fraction:
    """A number of either encoding as an exact rational."""
    if isinstance(value, Number):
        power = value.lower().partition("e")[2]
        if len(value) > TEXT_MAX or (power and not -30 <= int(power) <= 30):
            raise Rejected(too_big, f"{what}: {value}")
        return Fraction(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Rejected(Reason.NONFINITE, what)
        return Fraction(value)
    if isinstance(value, bool) or not isinstance(value, int | Fraction):
        raise Rejected(Reason.WRONG_TYPE, f"{what} is a number, not {type(value).__name__}")
    return Fraction(value)
