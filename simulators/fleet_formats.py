"""Pure: readings as the payload of one message, in each wire format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cbor2
import msgspec

from config.units import REGISTER_NAME, Quality, decimal_text
from ingest.wire import FORMATS, encode_readings
from rating.readings import Readings

__all__ = ["FORMATS", "Envelope", "encode"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the JSON envelope says of its sender."""

    concentrator: str
    stream: str
    sequence: int
    boot: int
    sent_at_s: int


def encode(format_: str, readings: Readings, names: Sequence[str], envelope: Envelope) -> bytes:
    """The payload in one of FORMATS; `names` are the meters' serials, one a reading."""
    if format_ == "arrow":
        return encode_readings(readings)
    if format_ == "json":
        return _json(readings, names, envelope)
    records = _senml(readings, names)
    if format_ == "senml-json":
        return msgspec.json.encode(records)
    return cbor2.dumps([{_LABEL[key]: value for key, value in record.items()} for record in records])


_LABEL: Final = {"bn": -2, "bt": -3, "bu": -4, "n": 0, "t": 6, "v": 2}
_NAME: Final = {int(q): q.name for q in Quality}


def _json(readings: Readings, names: Sequence[str], envelope: Envelope) -> bytes:
    reads = [
        {
            "meter": name,
            "register": REGISTER_NAME[code].value,
            "ts": at_s,
            "value": decimal_text(value, 3),
            "quality": _NAME[quality],
        }
        for name, value, at_s, code, quality in zip(
            names,
            readings.value.tolist(),
            readings.read_at_s.tolist(),
            readings.register.tolist(),
            readings.quality.tolist(),
            strict=True,
        )
    ]
    head = {
        "concentrator": envelope.concentrator,
        "boot": envelope.boot,
        "sequence": envelope.sequence,
        "stream": envelope.stream,
        "sent_at": envelope.sent_at_s,
        "reads": reads,
    }
    return msgspec.json.encode(head)


def _senml(readings: Readings, names: Sequence[str]) -> list[dict[str, object]]:
    """SenML has no word for quality: frames that need one are sent as JSON envelopes."""
    bases: list[dict[str, object]] = [
        {
            "n": f"{name}/{REGISTER_NAME[code].value}",
            "t": at_s,
            "v": value,
        }
        for name, value, at_s, code in zip(
            names, readings.value.tolist(), readings.read_at_s.tolist(), readings.register.tolist(), strict=True
        )
    ]
    if bases:
        bases[0] = {"bu": "Wh", **bases[0]}
    return bases
