"""Each codec: what it takes, exactly, and the reason for each thing it refuses."""

from __future__ import annotations

import json
from decimal import Decimal

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.reasons import Reason
from ingest.codecs import cbor, envelope, senml, strict_json
from ingest.decoded import Limits, Rejected

L = Limits()
R = Reason
READ = {"meter": "000000000001", "register": "1.8.0", "ts": 1782864000, "value": "123.456"}


def message(**changes: object) -> bytes:
    return json.dumps({"reads": [{**READ, **changes}]}).encode()


def raw(value: str, field: str = "value") -> bytes:
    """A message with one field's JSON text as given."""
    read = {**READ, field: "@"}
    return json.dumps({"reads": [read]}).replace('"@"', value).encode()


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [
        ('"123.456"', 123456),
        ("123.456", 123456),
        ("0", 0),
        ('"0.001"', 1),
        ('"-1.5"', -1500),
        ("1.2e3", 1_200_000),
        ("1200e-3", 1200),
        ("0.10000000", 100),
        ('"99999999999.999"', 99_999_999_999_999),
        ("13423.7", 13_423_700),  # not a binary fraction
        ("9007199.254740993"[:-6], 9_007_199_254),
        ('"0000000000000000000000001.5"', 1500),
    ],
)
def test_values_are_exact(text, thousandths):
    decoded = envelope.decode(raw(text), L)
    assert decoded.readings.value.tolist() == [thousandths]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", R.MALFORMED),
        (b"   ", R.MALFORMED),
        (message()[:-5], R.MALFORMED),
        (b"[]", R.MALFORMED),
        (b'{"reads": []}', R.MALFORMED),
        (b'{"reads": 1}', R.MALFORMED),
        (b'{"reads": [1]}', R.WRONG_TYPE),
        (b'{"reads":[{"meter":"000000000001"}]}', R.MALFORMED),
        (b"\xef\xbb\xbf" + message(), R.ENCODING),
        (message().decode().encode("utf-16"), R.ENCODING),
        (message().decode().encode("utf-16-le"), R.ENCODING),
        (message().replace(b"1.8.0", b"1.\xff.0"), R.ENCODING),
        (raw("NaN"), R.NONFINITE),
        (raw("-Infinity"), R.NONFINITE),
        (raw("1e999"), R.NONFINITE),
        (raw('"NaN"'), R.NONFINITE),
        (raw('"inf"'), R.NONFINITE),
        (raw('"1e999"'), R.NONFINITE),
        (
            b'{"reads":[{"meter":"000000000001","register":"1.8.0","ts":1782864000,"value":1,"value":2}]}',
            R.DUPLICATE_KEY,
        ),
        (
            b'{"reads":[], "reads":[{"meter":"000000000001","register":"1.8.0","ts":1782864000,"value":1}]}',
            R.DUPLICATE_KEY,
        ),
        (
            b'{"reads":[{"meter":"000000000001","register":"1.8.0","ts":1782864000,"value":1}],"x":{"a":1,"a":1}}',
            R.DUPLICATE_KEY,
        ),
        (raw("true"), R.WRONG_TYPE),
        (raw("null"), R.WRONG_TYPE),
        (raw("[1]"), R.WRONG_TYPE),
        (raw("true", "ts"), R.WRONG_TYPE),
        (message(meter=1), R.WRONG_TYPE),
        (raw('"１２３"'), R.NUMBER_FORM),
        (message(value="１２３"), R.NUMBER_FORM),
        (raw('"1_000"'), R.NUMBER_FORM),
        (raw('" 1"'), R.NUMBER_FORM),
        (raw('"1."'), R.NUMBER_FORM),
        (raw('".5"'), R.NUMBER_FORM),
        (raw('"1e3"'), R.NUMBER_FORM),
        (raw('""'), R.NUMBER_FORM),
        (raw("007"), R.MALFORMED),
        (raw("9" * 5000), R.NUMBER_SIZE),
        (raw('"' + "9" * 4000 + '"'), R.NUMBER_SIZE),
        (raw("9" * 5000, "ts"), R.NUMBER_SIZE),
        (raw("[" * 100_000 + "]" * 100_000), R.NESTING),
        (b"[" * 100_000, R.NESTING),
        (b'{"a":' * 50_000, R.NESTING),
        (b" " * (L.payload_max + 1), R.OVERSIZED),
        (message(meter="00000000000\x00"), R.BAD_ID),
        (raw('"\\ud800"', "meter"), R.BAD_ID),
        (message(meter="００００００００００１"), R.BAD_ID),
        (message(meter=""), R.BAD_ID),
        (message(register="1;8;0"), R.BAD_ID),
        (message(register="9.9.9"), R.UNKNOWN_REGISTER),
        (raw("9223372036854775808"), R.OVERFLOW),
        (raw('"1000000000000"'), R.OVERFLOW),  # 10^15 Wh
        (raw("1e20"), R.OVERFLOW),
        (raw('"1.0001"'), R.RESOLUTION),
        (raw("1e-9"), R.RESOLUTION),
        (raw("1e-99"), R.RESOLUTION),
        (raw("0", "ts"), R.TIME_RANGE),
        (raw("1782864000000", "ts"), R.TIME_RANGE),  # milliseconds
        (raw("-1", "ts"), R.TIME_RANGE),
        (raw("1782864000.5", "ts"), R.TIME_RANGE),
        (message(ts="2026-07-01T00:00:00"), R.TIME_RANGE),  # naive
        (message(ts="0000-01-01T00:00:00Z"), R.TIME_RANGE),
        (message(ts="2026-02-30T00:00:00Z"), R.TIME_RANGE),
        (message(ts="1999-12-31T23:59:59Z"), R.TIME_RANGE),
        (message(ts="yesterday"), R.TIME_RANGE),
        (message(unit="m3"), R.UNIT),
        (message(unit="kwh"), R.UNIT),
        (message(kind="event"), R.KIND),
        (message(kind="interval"), R.INTERVAL_SIZE),
        (message(kind="interval", period=0), R.NUMBER_FORM),
        (message(kind="interval", period="900"), R.WRONG_TYPE),
        (message(kind="interval", period=90_001), R.INTERVAL_SIZE),
        (message(kind="interval", period=900), R.KIND),
        (message(quality="N"), R.MALFORMED),
        (b'{"concentrator":"C 1",' + message()[1:], R.BAD_ID),
        (b'{"concentrator":7,' + message()[1:], R.WRONG_TYPE),
        (b'{"sequence":0,' + message()[1:], R.NUMBER_FORM),
        (b'{"sequence":"7",' + message()[1:], R.WRONG_TYPE),
    ],
)
def test_envelope_names_the_fault(payload, reason):
    with pytest.raises(Rejected) as fault:
        envelope.decode(payload, L)
    assert fault.value.reason is reason


def test_too_many_readings_are_refused():
    payload = json.dumps({"reads": [READ] * 11}).encode()
    with pytest.raises(Rejected) as fault:
        envelope.decode(payload, Limits(readings_max=10))
    assert fault.value.reason is R.OVERSIZED


@pytest.mark.parametrize(
    ("changes", "meter", "register", "value"),
    [
        ({"register": "1-0:1.8.0"}, 1, 1, 123456),
        ({"register": "2.8.1"}, 1, 12, 123456),
        ({"register": "0-2:24.2.1", "unit": "m3"}, 1, 31, 123456),
        ({"register": "24.2.1", "unit": "L", "value": "5"}, 1, 31, 5),
        ({"unit": "Wh", "value": 7}, 1, 1, 7),
        ({"ts": "2026-07-01T08:00:00+08:00"}, 1, 1, 123456),
        ({"ts": "2026-07-01T00:00:00.000Z", "vendor": {"any": ["thing"]}}, 1, 1, 123456),
        ({"kind": "register", "quality": "A"}, 1, 1, 123456),
    ],
)
def test_envelope_takes(changes, meter, register, value):
    readings = envelope.decode(message(**changes), L).readings
    found = (readings.meter[0], readings.register[0], readings.value[0], readings.read_at_s[0], readings.quality[0])
    assert found == (meter, register, value, 1782864000, 4)


def test_text_serials_have_an_address_above_the_decimal_ones():
    readings = envelope.decode(message(meter="33225544"), L).readings
    assert int(readings.meter[0]) >= 2**63


VALUES = st.one_of(
    st.decimals(-(10**9), 10**9, places=3).map(str),
    st.integers(-(10**12), 10**12).map(str),
    st.sampled_from(["true", "null", '"NaN"', '"1_0"', "1e2", '" 1"', "[]", '"１"', "0.0001", "007", '"+1"', "-0"]),
)
EXTRAS = st.dictionaries(
    st.sampled_from(["unit", "quality", "kind", "other"]),
    st.sampled_from(['"kWh"', '"Wh"', '"A"', '"E"', '"register"', '"interval"', "null", "1"]),
)


@given(st.lists(st.tuples(VALUES, EXTRAS), min_size=1, max_size=4), st.booleans())
def test_quick_and_strict_reader_agree(reads, head):
    parts = []
    for value, extras in reads:
        more = "".join(f', "{name}" : {text}' for name, text in extras.items())
        parts.append(f'{{"meter": "000000000001", "register":"1.8.0", "ts": 1782864000, "value":{value}{more}}}')
    start = '"concentrator": "C1", "boot": 1, "sequence": 4, "stream": "a", "sent_at": 1782864000, ' if head else ""
    payload = ("{" + start + '"reads": [' + ", ".join(parts) + "]}").encode()
    quick = envelope._quick(payload, L)
    try:
        strict = envelope._strict(payload, L)
    except Rejected:
        assert quick is None
    else:
        if quick is not None:
            assert (quick.body, quick.concentrator, quick.stream, quick.sequence, quick.sent_at_s, quick.boot) == (
                strict.body,
                strict.concentrator,
                strict.stream,
                strict.sequence,
                strict.sent_at_s,
                strict.boot,
            )


def test_the_common_message_takes_the_quick_way():
    assert envelope._quick(message(), L) is not None


@given(
    st.recursive(
        st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )
)
def test_depth_is_the_depth(document):
    def depth(value: object) -> int:
        if isinstance(value, list):
            return 1 + max(map(depth, value), default=0)
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        return 0

    assert strict_json.depth(json.dumps(document).encode()) == depth(document)


# -- SenML --------------------------------------------------------------------------------------------------------

PACK = [
    {"bn": "000000000001/", "bt": 1782864000, "bu": "Wh", "n": "1.8.0", "v": 123456},
    {"n": "1.8.1", "v": 100, "t": 900},
    {"n": "2.8.0", "u": "kWh", "v": Decimal("1.5"), "t": -900},
]
CBOR_LABELS = {"bn": -2, "bt": -3, "bu": -4, "bv": -5, "n": 0, "u": 1, "v": 2, "t": 6}


def pack_json(pack: list[dict[str, object]]) -> bytes:
    return json.dumps(pack, default=float).encode()


def pack_cbor(pack: list[dict[str, object]]) -> bytes:
    return cbor2.dumps([{CBOR_LABELS.get(key, key): value for key, value in record.items()} for record in pack])


@pytest.mark.parametrize(("encode", "decode"), [(pack_json, senml.decode_json), (pack_cbor, senml.decode_cbor)])
def test_senml_resolves_its_bases(encode, decode):
    readings = decode(encode(PACK), L).readings
    assert readings.meter.tolist() == [1, 1, 1]
    assert readings.register.tolist() == [1, 2, 11]
    assert readings.value.tolist() == [123456, 100, 1500]
    assert readings.read_at_s.tolist() == [1782864000, 1782864900, 1782863100]
    assert readings.quality.tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ({"v": 5, "bv": 100}, 105),
        ({"bv": 100}, 100),
        ({"v": 1234.5, "u": "kWh"}, 1_234_500),
        ({"v": 0.125, "u": "kWh"}, 125),
        ({"v": 1.782864e9}, 1_782_864_000),
    ],
)
@pytest.mark.parametrize(("encode", "decode"), [(pack_json, senml.decode_json), (pack_cbor, senml.decode_cbor)])
def test_senml_values(encode, decode, record, value):
    pack = [{"bn": "000000000001/", "bt": 1.782864e9, "bu": "Wh", "n": "1.8.0", **record}]
    assert decode(encode(pack), L).readings.value.tolist() == [value]


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        ([], R.MALFORMED),
        ({}, R.MALFORMED),
        ([1], R.WRONG_TYPE),
        ([{"bn": "000000000001/"}], R.MALFORMED),
        ([{**PACK[0], "v": True}], R.WRONG_TYPE),
        ([{**PACK[0], "v": "1"}], R.WRONG_TYPE),
        ([{**PACK[0], "v": None}], R.WRONG_TYPE),
        ([{**PACK[0], "n": 1}], R.WRONG_TYPE),
        ([{**PACK[0], "bn": "x"}], R.BAD_ID),
        ([{**PACK[0], "bn": "00000000000\x00/"}], R.BAD_ID),
        ([{**PACK[0], "n": "9.9.9"}], R.UNKNOWN_REGISTER),
        ([{**PACK[0], "bu": "W"}], R.UNIT),
        ([{**PACK[0], "bu": ""}], R.UNIT),
        ([{**PACK[0], "bt": 0}], R.TIME_RANGE),
        ([{**PACK[0], "bt": 0, "t": -5}], R.TIME_RANGE),  # relative to now
        ([{**PACK[0], "bt": 1782864000.5}], R.TIME_RANGE),
        ([{**PACK[0], "bt": 1e12}], R.TIME_RANGE),
        ([{**PACK[0], "v": 10**15}], R.OVERFLOW),
        ([{**PACK[0], "v": 0.5}], R.RESOLUTION),
        ([{**PACK[0], "bver": 11}], R.UNKNOWN_FORMAT),
        ([{**PACK[0], "must_": 1}], R.UNKNOWN_FORMAT),
        ([{**PACK[0], "vs": "on"}], R.WRONG_TYPE),
        ([{"bn": "000000000001/", "bt": 1782864000, "n": "1.8.0", "s": 5}], R.KIND),
        ([PACK[0]] * (L.readings_max + 1), R.OVERSIZED),
    ],
)
@pytest.mark.parametrize(("encode", "decode"), [(pack_json, senml.decode_json), (pack_cbor, senml.decode_cbor)])
def test_senml_names_the_fault(encode, decode, pack, reason):
    payload = encode(pack) if isinstance(pack, list) and all(isinstance(r, dict) for r in pack) else None
    if payload is None:
        payload = json.dumps(pack).encode() if encode is pack_json else cbor2.dumps(pack)
    with pytest.raises(Rejected) as fault:
        decode(payload, L)
    assert fault.value.reason is reason


def cbor_with(value: bytes) -> bytes:
    """A pack of one record whose value is the given CBOR."""
    whole = pack_cbor([{**PACK[0], "v": 77}])
    assert whole.count(b"\x18\x4d") == 1
    return whole.replace(b"\x18\x4d", value)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", R.MALFORMED),
        (pack_cbor(PACK)[:-1], R.MALFORMED),
        (pack_cbor(PACK) + b"\x00", R.MALFORMED),
        (b"\x81" * 100_000, R.NESTING),
        (b"\x9f" * 100_000, R.NESTING),
        (b"\xd8\x1c" * 50_000, R.NESTING),  # shared references
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", R.MALFORMED),  # an array of 2^64
        (b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", R.WRONG_TYPE),  # bytes of 2^63
        (b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", R.MALFORMED),  # text of 2^63
        (cbor_with(b"\xf9\x7e\x00"), R.NONFINITE),  # NaN
        (cbor_with(b"\xf9\x7c\x00"), R.NONFINITE),  # Infinity
        (cbor_with(b"\xf5"), R.WRONG_TYPE),  # true
        (cbor_with(cbor2.dumps(2**70)), R.NUMBER_SIZE),
        (cbor_with(cbor2.dumps(Decimal("1e999"))), R.NONFINITE),
        (cbor_with(cbor2.dumps(Decimal("0.1"))), R.RESOLUTION),  # of a Wh
        (cbor_with(cbor2.dumps(1234.567)), R.RESOLUTION),
        (cbor_with(b"\xc1\x00"), R.WRONG_TYPE),  # a date
        (cbor_with(b"\x1c"), R.MALFORMED),
        (cbor_with(b"\xff"), R.MALFORMED),
        (b"\x81\xa2\x00\x01\x00\x02", R.DUPLICATE_KEY),
        (b"\x81\xa2\x00\x01\x61n\x02", R.DUPLICATE_KEY),  # 0 and "n"
        (b"\x81\xa1\x80\x00", R.WRONG_TYPE),
        (b"\x81\xa1\x00\x62\xff\xff", R.ENCODING),
    ],
)
def test_hostile_cbor(payload, reason):
    with pytest.raises(Rejected) as fault:
        senml.decode_cbor(payload, L)
    assert fault.value.reason is reason


@given(
    st.recursive(
        st.integers(-(2**63), 2**63) | st.text() | st.booleans() | st.none() | st.floats(allow_nan=False),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(-9, 9), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_cbor_reads_what_cbor2_writes(document):
    assert cbor.parse(cbor2.dumps(document), Limits(nesting_max=60)) == document
