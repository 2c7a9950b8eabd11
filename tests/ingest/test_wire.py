"""Topics, and bodies against pyarrow as the second opinion."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import wire
from ingest.wire import NotReadings, Topic, check_body, decode_readings, encode_readings, encode_rows, parse_topic
from rating.readings import READING_COLUMNS, Readings

COLUMNS = list(READING_COLUMNS)


def random_readings(rows: int, seed: int) -> Readings:
    random = np.random.default_rng(seed)
    return Readings(
        random.integers(0, 2**64, rows, np.uint64),
        random.integers(-(2**63), 2**63, rows, np.int64),
        random.integers(0, 2**32, rows, np.uint32),
        random.integers(0, 256, rows, np.uint8),
        random.integers(0, 256, rows, np.uint8),
    )


def batch_of(readings: Readings) -> pa.RecordBatch:
    arrays = [pa.array(getattr(readings, name)) for name in COLUMNS]
    return pa.RecordBatch.from_arrays(arrays, schema=wire.READING_SCHEMA)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("meters/v1/0/C1/up/reads/json/a/7", Topic("0", "C1", "reads", "json", "a", 7)),
        ("meters/v1/gz-1/C.1_x/up/reads/senml-cbor/s-2/1", Topic("gz-1", "C.1_x", "reads", "senml-cbor", "s-2", 1)),
        ("meters/v1/0/C1/up/reads", Topic("0", "C1", "reads", None, "", -1)),
        ("meters/v1/0/C1/up/status", Topic("0", "C1", "status", None, "", -1)),
        ("meters/v1/0/C1/up/reads/json/a/0", None),  # sequences start at 1
        ("meters/v1/0/C1/up/reads/json/a/-1", None),
        ("meters/v1/0/C1/up/reads/json/a/1_0", None),
        ("meters/v1/0/C1/up/reads/json/a/１", None),  # a full-width 1
        ("meters/v1/0/C1/up/reads/json/a/99999999999999999", None),
        ("meters/v1/0/C1/up/reads/json/a", None),
        ("meters/v1/0/C1/down/held/a", None),
        ("meters/v2/0/C1/up/reads", None),
        ("meters/v1/0/С1/up/reads", None),  # a Cyrillic С
        ("meters/v1/0/C\x001/up/reads", None),
        ("meters/v1/0//up/reads", None),
        (f"meters/v1/0/{'C' * 65}/up/reads", None),
        ("", None),
    ],
)
def test_topics(topic, expected):
    assert parse_topic(topic) == expected


def test_built_topics_parse_back():
    assert parse_topic(wire.reads_topic("0", "C1", "arrow", "a", 12)) == Topic("0", "C1", "reads", "arrow", "a", 12)
    assert parse_topic(wire.bare_topic("0", "C1")) == Topic("0", "C1", "reads", None, "", -1)


@given(st.integers(1, 300), st.integers(0, 2**32))
def test_body_is_what_pyarrow_writes_and_reads(rows, seed):
    readings = random_readings(rows, seed)
    body = encode_readings(readings)
    assert body == batch_of(readings).serialize().to_pybytes()
    back = decode_readings(body)
    theirs = pa.ipc.read_record_batch(pa.py_buffer(body), wire.READING_SCHEMA)
    for name in COLUMNS:
        assert (getattr(back, name) == getattr(readings, name)).all()
        assert (theirs.column(name).to_numpy() == getattr(readings, name)).all()
        assert getattr(back, name).flags.aligned


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=9))
def test_rows_and_columns_encode_alike(pairs):
    meters, values = zip(*pairs, strict=True)
    rows = len(pairs)
    times, registers, qualities = [7] * rows, bytes([1] * rows), bytes([4] * rows)
    columns = Readings(
        np.array(meters, np.uint64),
        np.array(values, np.int64),
        np.array(times, np.uint32),
        np.frombuffer(registers, np.uint8),
        np.frombuffer(qualities, np.uint8),
    )
    assert encode_rows(meters, values, times, registers, qualities) == encode_readings(columns)


def test_decoding_copies_nothing(readings):
    body = encode_readings(readings(1000))
    columns = decode_readings(body)
    assert not columns.meter.flags.owndata
    assert not columns.value.flags.writeable


def _compressed(readings):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, wire.READING_SCHEMA, options=options) as writer:
        writer.write_batch(batch_of(readings))
    stream = sink.getvalue().to_pybytes()
    return stream[8 + int.from_bytes(stream[4:8], "little") :]  # without the schema message


def _with_nulls(readings):
    schema = pa.schema([field.with_nullable(nullable=True) for field in wire.READING_SCHEMA])
    arrays = [pa.array(getattr(readings, name)) for name in COLUMNS]
    arrays[1] = pa.array([None, *range(len(readings) - 1)], pa.int64())
    return pa.RecordBatch.from_arrays(arrays, schema=schema).serialize().to_pybytes()


def _dictionary(readings):
    array = pa.array(["a"] * len(readings)).dictionary_encode()
    return pa.RecordBatch.from_arrays([array] * 5, names=list("abcde")).serialize().to_pybytes()


@pytest.mark.parametrize(
    ("name", "hostile"),
    [
        ("schema message", lambda r: wire.READING_SCHEMA.serialize().to_pybytes()),
        ("four columns", lambda r: batch_of(r).select(COLUMNS[:4]).serialize().to_pybytes()),
        ("narrow column", lambda r: pa.RecordBatch.from_arrays([pa.array(r.quality)] * 5, names=COLUMNS).serialize()),
        ("nulls", _with_nulls),
        ("dictionary", _dictionary),
        ("compressed", _compressed),
        ("truncated", lambda r: encode_readings(r)[:-1]),
        ("longer", lambda r: encode_readings(r) + b"x"),
        ("no marker", lambda r: b"\x00" + encode_readings(r)[1:]),
        ("empty", lambda r: b""),
        ("metadata of 2 GB", lambda r: b"\xff\xff\xff\xff\xff\xff\xff\x7f" + encode_readings(r)[8:]),
    ],
)
def test_hostile_bodies_are_refused(name, hostile, readings):
    body = hostile(readings(10))
    with pytest.raises(NotReadings):
        check_body(body if isinstance(body, bytes) else body.to_pybytes())
