"""Pure: messages that are wrong as a whole: one function for each class of bad input, and what it is judged to be.

Each makes the payload of one message from its `Sender`; `BAD_MESSAGES` names them. What is wrong with a single
reading of a good message is in `simulators.fleet_frames`.

Who sends signs as it always does (with its key, if it has one), also when it lies or repeats itself: `spoofed`,
`old_boot` and `old_number` come with a right signature where a key is agreed. What is wrong with a signature is
said by `Signing`, and made under the topic that the message is sent to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import numpy as np

from config.reasons import Reason
from config.units import REGISTER_CODE, Quality, Register, decimal_text
from ingest.pipeline import signature
from ingest.wire import encode_readings
from rating.readings import Readings

NESTED: Final = 100_000
INTERVAL: Final = ',"kind":"interval","period":900'
READINGS_TOO_MANY: Final = 20_001  # one above settings.ingest.readings_max, still below the broker's limit
DIGITS_TOO_MANY: Final = 5_000
FORGED: Final = frozenset({Reason.SPOOF, Reason.AUTH})  # not the concentrator's own: they never were in its outbox


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends the message, under which number, and a meter and time of its own to speak of."""

    concentrator: str
    stream: str
    sequence: int
    boot: int
    meter: str
    address: int
    read_at_s: int
    value: int = 0  # what the register did show then: even if it were believed, nothing would be wrong
    other: str = "somebody-else"  # another concentrator's id


class Signing(Enum):
    """How a message is signed."""

    OWN = auto()  # with its concentrator's key; not at all where none is agreed
    NONE = auto()  # not, although a key is agreed
    WRONG = auto()  # with digits that are no signature of anything
    FOREIGN = auto()  # with another's key
    OLD = auto()  # with the right key, for the number before: a recorded message under a new one


@dataclass(frozen=True, slots=True)
class BadMessage:
    """`format` stands in the topic."""

    format: str
    payload: bytes
    reason: Reason
    signing: Signing = Signing.OWN


def sign(signing: Signing, key: bytes | None, topic: str, payload: bytes) -> str:
    """The MQTT 5 property `signature`; "" for none.

    Where no key is agreed, a signature of any kind cannot be checked and is refused as well: so is then what would
    be refused for having none.
    """
    if signing is Signing.OWN:
        return signature(key, topic, payload) if key else ""
    if signing is Signing.WRONG or key is None:
        return "00" * 32
    if signing is Signing.FOREIGN:
        return signature(bytes(reversed(key)), topic, payload)
    head, _, number = topic.rpartition("/")
    return signature(key, f"{head}/{int(number) - 1}", payload) if signing is Signing.OLD else ""


def _read(sender: Sender, value: str = "", more: str = "", ts: str = "", meter: str = "") -> str:
    name = meter or json.dumps(sender.meter)
    value = value or f'"{decimal_text(sender.value, 3)}"'
    return f'{{"meter":{name},"register":"1.8.0","ts":{ts or sender.read_at_s},"value":{value}{more}}}'


def _envelope(sender: Sender, read: str, **head: object) -> bytes:
    """An envelope around the raw text of one read; `head` changes what it says of its sender."""
    named = {
        "concentrator": sender.concentrator,
        "boot": sender.boot,
        "sequence": sender.sequence,
        "stream": sender.stream,
        "sent_at": sender.read_at_s,
    } | head
    return f'{json.dumps(named)[:-1]},"reads":[{read}]}}'.encode()


def _json(reason: Reason, payload: bytes) -> BadMessage:
    return BadMessage("json", payload, reason)


def empty(_sender: Sender) -> BadMessage:
    return _json(Reason.MALFORMED, b"")


def truncated(sender: Sender) -> BadMessage:
    return _json(Reason.MALFORMED, _envelope(sender, _read(sender))[:-7])


def truncated_arrow(sender: Sender) -> BadMessage:
    return BadMessage("arrow", _rows(sender, 8)[:-16], Reason.MALFORMED)


def invalid_utf8(sender: Sender) -> BadMessage:
    return _json(Reason.ENCODING, _envelope(sender, _read(sender, '"1.?"')).replace(b"?", b"\xc3\x28"))


def utf16(sender: Sender) -> BadMessage:
    return _json(Reason.ENCODING, _envelope(sender, _read(sender)).decode().encode("utf-16"))


def byte_order_mark(sender: Sender) -> BadMessage:
    return _json(Reason.ENCODING, b"\xef\xbb\xbf" + _envelope(sender, _read(sender)))


def not_a_number(sender: Sender) -> BadMessage:
    return _json(Reason.NONFINITE, _envelope(sender, _read(sender, "NaN")))


def infinity(sender: Sender) -> BadMessage:
    return _json(Reason.NONFINITE, _envelope(sender, _read(sender, "-Infinity")))


def beyond_float(sender: Sender) -> BadMessage:
    return _json(Reason.NONFINITE, _envelope(sender, _read(sender, "1e999")))


def duplicate_key(sender: Sender) -> BadMessage:
    return _json(Reason.DUPLICATE_KEY, _envelope(sender, _read(sender, more=',"value":"2.00"')))


def boolean(sender: Sender) -> BadMessage:
    return _json(Reason.WRONG_TYPE, _envelope(sender, _read(sender, "true")))


def full_width(sender: Sender) -> BadMessage:
    return _json(Reason.NUMBER_FORM, _envelope(sender, _read(sender, '"１２.3"')))


def underscore(sender: Sender) -> BadMessage:
    return _json(Reason.NUMBER_FORM, _envelope(sender, _read(sender, '"1_000"')))


def padded(sender: Sender) -> BadMessage:
    return _json(Reason.NUMBER_FORM, _envelope(sender, _read(sender, '" 12 "')))


def many_digits(sender: Sender) -> BadMessage:
    return _json(Reason.NUMBER_SIZE, _envelope(sender, _read(sender, "9" * DIGITS_TOO_MANY)))


def nested(_sender: Sender) -> BadMessage:
    return _json(Reason.NESTING, b"[" * NESTED)


def oversized(sender: Sender) -> BadMessage:
    return BadMessage("arrow", _rows(sender, READINGS_TOO_MANY), Reason.OVERSIZED)


def id_with_nul(sender: Sender) -> BadMessage:
    return _json(Reason.BAD_ID, _envelope(sender, _read(sender, meter='"0000\\u00000001"')))


def lone_surrogate(sender: Sender) -> BadMessage:
    return _json(Reason.BAD_ID, _envelope(sender, _read(sender, meter='"meter\\ud800"')))


def homoglyph(sender: Sender) -> BadMessage:
    return _json(Reason.BAD_ID, _envelope(sender, _read(sender, meter='"М-1"')))  # a Cyrillic M


def overflow(sender: Sender) -> BadMessage:
    return _json(Reason.OVERFLOW, _envelope(sender, _read(sender, '"9223372036854775808"')))


def unit(sender: Sender) -> BadMessage:
    return _json(Reason.UNIT, _envelope(sender, _read(sender, more=',"unit":"m3"')))


def interval_alone(sender: Sender) -> BadMessage:
    return _json(Reason.KIND, _envelope(sender, _read(sender, more=INTERVAL)))


def interval_without_period(sender: Sender) -> BadMessage:
    return _json(Reason.INTERVAL_SIZE, _envelope(sender, _read(sender, more=',"kind":"interval"')))


def interval_sum(sender: Sender) -> BadMessage:
    """Register 100.000, then 0.010 more in a quarter hour, then register 100.020."""
    before = _read(sender, '"100"', ts=str(sender.read_at_s - 900))
    after = _read(sender, '"100.02"')
    interval = _read(sender, '"0.01"', more=INTERVAL)
    return _json(Reason.SUM_CHECK, _envelope(sender, f"{before},{interval},{after}"))


def year_zero(sender: Sender) -> BadMessage:
    return _json(Reason.TIME_RANGE, _envelope(sender, _read(sender, ts='"0000-01-01T00:00:00Z"')))


def naive_time(sender: Sender) -> BadMessage:
    return _json(Reason.TIME_RANGE, _envelope(sender, _read(sender, ts='"2026-07-01T00:00:00"')))


def before_the_century(sender: Sender) -> BadMessage:
    return _json(Reason.TIME_RANGE, _envelope(sender, _read(sender, ts="12345")))


def unknown_format(_sender: Sender) -> BadMessage:
    return BadMessage("xml", b"<reads/>", Reason.UNKNOWN_FORMAT)


def spoofed(sender: Sender) -> BadMessage:
    return _json(Reason.SPOOF, _envelope(sender, _read(sender), concentrator=sender.other))


def old_boot(sender: Sender) -> BadMessage:
    """A boot count below the one that this concentrator's JSON messages have had before."""
    return _json(Reason.REPLAY, _envelope(sender, _read(sender), boot=0))


def old_number(sender: Sender) -> BadMessage:
    """An old message under a new number: envelope and topic disagree."""
    return _json(Reason.REPLAY, _envelope(sender, _read(sender), sequence=max(1, sender.sequence - 1)))


def finer_than_wire(sender: Sender) -> BadMessage:
    return _json(Reason.RESOLUTION, _envelope(sender, _read(sender, '"1.0001"')))


def unknown_register(sender: Sender) -> BadMessage:
    payload = _envelope(sender, _read(sender)).replace(b'"1.8.0"', b'"99.99.99"')
    return _json(Reason.UNKNOWN_REGISTER, payload)


def bad_signature(sender: Sender) -> BadMessage:
    return BadMessage("json", _envelope(sender, _read(sender)), Reason.AUTH, Signing.WRONG)


def unsigned(sender: Sender) -> BadMessage:
    return BadMessage("json", _envelope(sender, _read(sender)), Reason.AUTH, Signing.NONE)


def foreign_signature(sender: Sender) -> BadMessage:
    return BadMessage("json", _envelope(sender, _read(sender)), Reason.AUTH, Signing.FOREIGN)


def old_signature(sender: Sender) -> BadMessage:
    return BadMessage("json", _envelope(sender, _read(sender)), Reason.AUTH, Signing.OLD)


def _rows(sender: Sender, rows: int) -> bytes:
    """An Arrow frame of one register, again and again."""
    return encode_readings(
        Readings(
            np.full(rows, sender.address, np.uint64),
            np.full(rows, sender.value, np.int64),
            np.full(rows, sender.read_at_s, np.uint32),
            np.full(rows, REGISTER_CODE[Register.IMPORT_TOTAL], np.uint8),
            np.full(rows, int(Quality.A), np.uint8),
        )
    )


BAD_MESSAGES: Final[dict[str, Callable[[Sender], BadMessage]]] = {
    make.__name__: make
    for make in (
        empty,
        truncated,
        truncated_arrow,
        invalid_utf8,
        utf16,
        byte_order_mark,
        not_a_number,
        infinity,
        beyond_float,
        duplicate_key,
        boolean,
        full_width,
        underscore,
        padded,
        many_digits,
        nested,
        oversized,
        id_with_nul,
        lone_surrogate,
        homoglyph,
        overflow,
        unit,
        interval_alone,
        interval_without_period,
        interval_sum,
        year_zero,
        naive_time,
        before_the_century,
        unknown_format,
        spoofed,
        old_boot,
        old_number,
        finer_than_wire,
        unknown_register,
        bad_signature,
        unsigned,
        foreign_signature,
        old_signature,
    )
}
