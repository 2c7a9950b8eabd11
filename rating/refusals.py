"""Pure: rows of the exceptions queue: from REJECT records, from readings with an exceptional verdict, and from
what a registry version or an inbox row could not do.

The key makes a row once per distinct event: the same bytes of the same message, or the same reading with the
same verdict, however often it is delivered.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Final

import numpy as np

from config.reasons import Reason
from config.units import REGISTER_NAME, Quality
from ledger.effects import ExceptionRow, InboxRow
from rating.readings import Readings, StoredRecord
from rating.verdicts import EXCEPTION_REASON, Verdict
from registry.address import address_text

READING_BYTES = np.dtype(
    [("meter", "<u8"), ("value", "<i8"), ("read_at_s", "<u4"), ("register", "u1"), ("quality", "u1")]
)  # how one reading is kept in exception.bytes

FINAL_READ: Final = "final read of a change-out: the old register stays open, the new one counts"


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
        meter=address_text(meter),
        register=str(REGISTER_NAME.get(register, register)),
        read_at_s=read_at_s,
        value=value,
        quality=Quality(quality).name,
    )


def final_read(
    meter: int, register: int, read_at_s: int, value: int, verdict: Verdict, source: str, offset: int, as_of_s: int
) -> ExceptionRow:
    """The old meter's final read of a change-out, refused; as a reading of `source`, so that it may be released."""
    reason, quality = str(EXCEPTION_REASON[verdict]), int(Quality.A)
    row = np.zeros(1, READING_BYTES)
    for name, told in zip(READING_BYTES.names or (), (meter, value, read_at_s, register, quality), strict=True):
        row[name] = told
    return ExceptionRow(
        key=_key(reason, "change_out", meter, register, read_at_s, value),
        reason=reason,
        offset=offset,
        received_at_s=as_of_s,
        source=source,
        stream="",
        sequence=-1,
        body=row.tobytes(),
        note=FINAL_READ,
        meter=address_text(meter),
        register=str(REGISTER_NAME.get(register, register)),
        read_at_s=read_at_s,
        value=value,
        quality=Quality.A.name,
    )


def backdated(
    meter: int,
    register: int,
    read_at_s: int,
    value: int,
    quality: int,
    since_s: int,
    note: str,
    offset: int,
    as_of_s: int,
) -> ExceptionRow:
    """A registry version changed facts of a register from `since_s` on, before its last accepted reading."""
    return ExceptionRow(
        key=_key(Reason.BACKDATED, meter, register, read_at_s, since_s, note),
        reason=str(Reason.BACKDATED),
        offset=offset,
        received_at_s=as_of_s,
        source="registry",
        stream="",
        sequence=-1,
        body=json.dumps({"since_s": since_s}).encode(),
        note=note,
        meter=address_text(meter),
        register=str(REGISTER_NAME.get(register, register)),
        read_at_s=read_at_s,
        value=value,
        quality=Quality(quality).name,
    )


def command(row: InboxRow, why: str, partition: int, offset: int, as_of_s: int) -> ExceptionRow:
    """An inbox row that changed nothing; of one that is for all partitions each has its own."""
    stream = row.kind if row.partition is not None else f"{row.kind}:{partition}"
    return ExceptionRow(
        key=_key(Reason.COMMAND, row.id, stream, row.key),
        reason=str(Reason.COMMAND),
        offset=offset,
        received_at_s=as_of_s,
        source="inbox",
        stream=stream,
        sequence=row.id,
        body=json.dumps(row.body, sort_keys=True, ensure_ascii=False, default=str).encode(),
        note=f"inbox row {row.id} ({row.key}): {why}"[:500],
    )
