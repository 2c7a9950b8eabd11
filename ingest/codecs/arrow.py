"""Pure: bulk frames: one Arrow record batch message under READING_SCHEMA, taken as it is.

The payload is the log's body, byte for byte; nothing is copied. See `ingest.wire` for why hostile frames are
safe. The message says nothing of its sender: topic or MQTT 5 properties number it.
"""

from __future__ import annotations

from config.reasons import Reason
from ingest.decoded import Decoded, Limits, Rejected
from ingest.wire import NotReadings, check_body


def decode(payload: bytes, limits: Limits) -> Decoded:
    """Readings of one frame; `Rejected` and nothing else on any bytes."""
    if len(payload) > limits.payload_max:
        raise Rejected(Reason.OVERSIZED, f"{len(payload)} bytes")
    try:
        rows = check_body(payload)
        if rows > limits.readings_max:
            raise Rejected(Reason.OVERSIZED, f"{rows} readings")
        if rows == 0:
            raise Rejected(Reason.MALFORMED, "no readings")
        return Decoded(payload, rows)
    except NotReadings as error:
        raise Rejected(Reason.MALFORMED, str(error)) from None
