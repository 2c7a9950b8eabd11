"""Pure: rows of the exceptions queue: from REJECT records, and from readings with an exceptional verdict.

The key makes a row once per distinct event: the same bytes of the same message, or the same reading with the
same verdict, however often it is delivered.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from config.units import REGISTER_NAME, Quality
from ledger.effects import ExceptionRow
from rating.readings import Readings, StoredRecord
from rating.verdicts import EXCEPTION_REASON, Verdict

READING_BYTES = np.dtype(
    [("meter", "<u8"), ("value", "<i8"), ("read_at_s", "<u4"), ("register", "u1"), ("quality", "u1")]
)  # how one reading is kept in exception.bytes


def _key(*parts: object) -> str:
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=20).hexdigest()


def rejected(stored: StoredRecord) -> ExceptionRow:
    """A message that ingest refused whole; `detail` is "reason: note"."""
    record = stored.record
    reason, _, note = record.detail.partition(": ")
    digest = blake2b(record.body, digest_size=20).hexdigest()
    return ExceptionRow(
        key=_key(reason, record.source, record.stream, record.sequence, digest),
        reason=reason,
        offset=stored.offset,
        received_at_s=record.received_at_s,
        source=record.source,
        stream=record.stream,
        sequence=record.sequence,
        body=record.body,
        note=note,
    )


def pack_reading(readings: Readings, i: int) -> bytes:
    """One reading as the 22 bytes that the exceptions queue keeps."""
    row = np.zeros(1, READING_BYTES)
    for name in READING_BYTES.names or ():
        row[name] = getattr(readings, name)[i]
    return row.tobytes()


def refused(stored: StoredRecord, readings: Readings, i: int, verdict: Verdict) -> ExceptionRow:
    """One reading of a good message; the others went on."""
    record = stored.record
    meter, register = int(readings.meter[i]), int(readings.register[i])
    read_at_s, value, quality = int(readings.read_at_s[i]), int(readings.value[i]), int(readings.quality[i])
    reason = str(EXCEPTION_REASON[verdict])
    return ExceptionRow(
        key=_key(reason, record.source, meter, register, read_at_s, value, quality),
        reason=reason,
        offset=stored.offset,
        received_at_s=record.received_at_s,
        source=record.source,
        stream=record.stream,
        sequence=record.sequence,
        body=pack_reading(readings, i),
        meter=f"{meter:012d}" if meter < 2**63 else f"#{meter - 2**63:016x}",
        register=str(REGISTER_NAME.get(register, register)),
        read_at_s=read_at_s,
        value=value,
        quality=Quality(quality).name,
    )
