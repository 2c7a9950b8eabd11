"""Pure: the wire: topics (`ingest.topics`, named again here), and readings as one Arrow record batch message.

A body is the encapsulated IPC message of one record batch under `READING_SCHEMA`: continuation marker,
metadata length, a flatbuffer, then the columns. Everything a reader needs to find the columns is in the
flatbuffer, and frames of one writer with equal row counts carry the same flatbuffer, byte for byte. So it is
taken apart once, by a parser whose every access is bounds-checked by Python (a hostile frame cannot reach
native code before it has passed), checked against pyarrow, and remembered; afterwards a frame costs one
dictionary look-up and five views of its own bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.topics import (
    CONTENT_TYPES,
    FORMATS,
    ID,
    SEQUENCE_MAX,
    UNNUMBERED,
    Topic,
    bare_topic,
    down_subscription,
    down_subscriptions,
    held_payload,
    held_topic,
    in_properties,
    is_id,
    parse_topic,
    reads_topic,
    resend_payload,
    resend_topic,
    sequence_of,
    subscription,
)
from rating.readings import READING_COLUMNS, Frames, Readings

__all__ = [
    "CONTENT_TYPES",
    "FORMATS",
    "ID",
    "READING_SCHEMA",
    "SEQUENCE_MAX",
    "UNNUMBERED",
    "NotReadings",
    "Topic",
    "bare_topic",
    "check_body",
    "decode_frames",
    "decode_meters",
    "decode_readings",
    "down_subscription",
    "down_subscriptions",
    "encode_readings",
    "encode_rows",
    "held_payload",
    "held_topic",
    "in_properties",
    "is_id",
    "parse_topic",
    "reads_topic",
    "resend_payload",
    "resend_topic",
    "sequence_of",
    "subscription",
]  # topics too: the whole wire has one face

READING_SCHEMA: Final = pa.schema(
    [pa.field(name, pa.from_numpy_dtype(np.dtype(kind)), nullable=False) for name, kind in READING_COLUMNS.items()]
)
_TYPES: Final = tuple(np.dtype(kind) for kind in READING_COLUMNS.values())
_CONTINUATION: Final = b"\xff\xff\xff\xff"
_RECORD_BATCH: Final = 3  # MessageHeader union
_METADATA_V4: Final = 3
_METADATA_V5: Final = 4
_METADATA_MAX: Final = 1 << 16
_ROWS_MAX: Final = 1 << 24


class NotReadings(ValueError):
    """The bytes are no record batch message under READING_SCHEMA."""


@dataclass(frozen=True, slots=True)
class _Layout:
    rows: int
    starts: tuple[int, ...]  # of each column, from the start of the message
    size: int  # of the whole message


def _table(meta: bytes, at: int) -> tuple[int, tuple[int, ...]]:
    """Position of a flatbuffer table and the offsets of its fields (0: absent)."""
    vtable = at - struct.unpack_from("<i", meta, at)[0]
    if vtable < 0:
        raise NotReadings("vtable outside")
    size = struct.unpack_from("<H", meta, vtable)[0]
    if size < 4 or size % 2 or size > 64:
        raise NotReadings("vtable of odd size")
    return at, struct.unpack_from(f"<{size // 2 - 2}H", meta, vtable + 4)


def _field(fields: tuple[int, ...], index: int) -> int:
    return fields[index] if index < len(fields) else 0


def _vector(meta: bytes, at: int, width: int) -> list[tuple[int, int]]:
    """A vector of 16-byte structs of two int64 (FieldNode, Buffer); exactly `width` of them."""
    start = at + struct.unpack_from("<I", meta, at)[0]
    if struct.unpack_from("<I", meta, start)[0] != width:
        raise NotReadings(f"not {width} entries: another schema")
    flat = struct.unpack_from(f"<{2 * width}q", meta, start + 4)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _parse(meta: bytes) -> _Layout:
    """Where the columns are, from the flatbuffer alone; every offset checked."""
    at, message = _table(meta, struct.unpack_from("<I", meta, 0)[0])
    version, kind, header, body = (_field(message, i) for i in range(4))
    if not version or struct.unpack_from("<h", meta, at + version)[0] not in (_METADATA_V4, _METADATA_V5):
        raise NotReadings("metadata version")
    if not kind or meta[at + kind] != _RECORD_BATCH or not header:
        raise NotReadings("not a record batch message (send no schema message before it)")
    body_size = struct.unpack_from("<q", meta, at + body)[0] if body else 0
    start = at + header + struct.unpack_from("<I", meta, at + header)[0]
    start, batch = _table(meta, start)
    if _field(batch, 3):
        raise NotReadings("compressed")
    if _field(batch, 4):
        raise NotReadings("variadic buffers")
    rows = struct.unpack_from("<q", meta, start + batch[0])[0] if _field(batch, 0) else 0
    if not (0 <= rows <= _ROWS_MAX) or not (_field(batch, 1) and _field(batch, 2)):
        raise NotReadings("row count or columns missing")
    if any(node != (rows, 0) for node in _vector(meta, start + batch[1], len(_TYPES))):
        raise NotReadings("nulls, or columns of unequal length")
    buffers = _vector(meta, start + batch[2], 2 * len(_TYPES))
    head = 8 + len(meta)
    for offset, size in buffers:
        if offset < 0 or size < 0 or offset + size > body_size:
            raise NotReadings("buffer outside the body")
    starts = []
    for (offset, size), kind_ in zip(buffers[1::2], _TYPES, strict=True):
        if size < rows * kind_.itemsize or offset % 8 or head % 8:
            raise NotReadings("column too short or not aligned")
        starts.append(head + offset)
    return _Layout(rows, tuple(starts), head + body_size)


@lru_cache(maxsize=4096)
def _layout(meta: bytes) -> _Layout:
    try:
        layout = _parse(meta)
    except (struct.error, IndexError) as error:
        raise NotReadings("flatbuffer points outside") from error
    if layout.size > (1 << 30):
        raise NotReadings("body of more than 1 GiB")
    # Readers other than this one must be able to read the frame too: the reference implementation is asked,
    # once per distinct flatbuffer, about a body of zeros of the right size.
    blank = _CONTINUATION + struct.pack("<i", len(meta)) + meta + bytes(layout.size - 8 - len(meta))
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(blank), READING_SCHEMA)
        batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NotReadings(f"pyarrow refuses it: {str(error)[:120]}") from error
    if batch.num_rows != layout.rows:
        raise NotReadings("row count")
    return layout


def _found(body: bytes) -> _Layout:
    if body[:4] != _CONTINUATION or len(body) < 16:
        raise NotReadings("no continuation marker")
    size = int.from_bytes(body[4:8], "little")
    if not 0 < size <= _METADATA_MAX or 8 + size > len(body):
        raise NotReadings("metadata length")
    return _layout(body[8 : 8 + size])


def check_body(body: bytes) -> int:
    """Number of rows; `NotReadings` unless `decode_readings` and pyarrow can both read `body` safely."""
    layout = _found(body)
    if len(body) != layout.size:
        raise NotReadings("truncated, or bytes after the body")
    return layout.rows


def decode_readings(body: bytes) -> Readings:
    """Columns as read-only views of `body` (a few microseconds, no copies); for bodies of the log.

    Also safe on anything else: `NotReadings` is the only way it fails.
    """
    layout = _found(body)
    if len(body) < layout.size:
        raise NotReadings("truncated")
    rows = layout.rows
    a, b, c, d, e = layout.starts
    return Readings(
        np.frombuffer(body, np.uint64, rows, a),
        np.frombuffer(body, np.int64, rows, b),
        np.frombuffer(body, np.uint32, rows, c),
        np.frombuffer(body, np.uint8, rows, d),
        np.frombuffer(body, np.uint8, rows, e),
    )


def decode_frames(bodies: Sequence[bytes]) -> Frames:
    """The bodies of many records of the log at once: one copy end to end, and a table of where their columns are.

    As safe as `decode_readings`. A loop that took each body's columns apart would cost Python 8 us a record.
    """
    rows: list[int] = []
    starts: list[int] = []
    parts: list[bytes] = []
    at = 0
    for body in bodies:
        layout = _found(body)
        if len(body) < layout.size:
            raise NotReadings("truncated")
        a, b, c, d, e = layout.starts
        rows.append(layout.rows)
        starts += (at + a, at + b, at + c, at + d, at + e)
        parts.append(body)
        at += len(body)
        if at % 8:
            parts.append(_PADDING[-at % 8])
            at += -at % 8
    data = np.frombuffer(b"".join(parts), np.uint8)
    return Frames(data, np.array(rows, np.int64), np.array(starts, np.int64).reshape(-1, len(_TYPES)))


def decode_meters(body: bytes) -> npt.NDArray[np.uint64]:
    """The first column alone."""
    layout = _found(body)
    if len(body) < layout.size:
        raise NotReadings("truncated")
    return np.frombuffer(body, np.uint64, layout.rows, layout.starts[0])


@lru_cache(maxsize=1024)
def _head(rows: int) -> bytes:
    """The message up to its body, as pyarrow writes it for so many rows."""
    columns = [pa.array(np.zeros(rows, kind)) for kind in _TYPES]
    message: bytes = pa.RecordBatch.from_arrays(columns, schema=READING_SCHEMA).serialize().to_pybytes()
    return message[: 8 + int.from_bytes(message[4:8], "little")]


_PADDING: Final = tuple(bytes(n) for n in range(8))


def _join(rows: int, columns: Sequence[bytes]) -> bytes:
    parts = [_head(rows)]
    for column in columns:
        parts += (column, _PADDING[-len(column) % 8])
    return b"".join(parts)


def encode_readings(readings: Readings) -> bytes:
    """One record batch message, the same bytes as pyarrow's `RecordBatch.serialize()`."""
    columns: tuple[npt.NDArray[np.generic], ...] = (
        readings.meter,
        readings.value,
        readings.read_at_s,
        readings.register,
        readings.quality,
    )
    exact = [np.ascontiguousarray(c, t).tobytes() for c, t in zip(columns, _TYPES, strict=True)]
    return _join(len(readings), exact)


_ONE: Final = struct.Struct("<QqI4xB7xB7x")


def encode_rows(
    meters: Sequence[int], values: Sequence[int], times_s: Sequence[int], registers: bytes, qualities: bytes
) -> bytes:
    """The same from Python integers that are known to fit (for codecs of text formats)."""
    rows = len(meters)
    if rows == 1:
        return _head(1) + _ONE.pack(meters[0], values[0], times_s[0], registers[0], qualities[0])
    columns = (
        np.array(meters, np.uint64).tobytes(),
        np.array(values, np.int64).tobytes(),
        np.array(times_s, np.uint32).tobytes(),
        registers,
        qualities,
    )
    return _join(rows, columns)
