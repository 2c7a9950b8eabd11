"""Pure: what must stand in the exceptions queue: one row per distinct event, however often it was delivered.

A distinct event is a refused reading (reason, source, meter, register, time, value, quality), a message that
ingest refused whole (reason, source, stream, sequence, bytes), a register whose facts a registry version changed
behind it (backdated, and from when on), or an inbox row that changed nothing (command). A row counts how often the
same came again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from audit.compare import Difference
from config.units import REGISTER_NAME, Quality

# Verdicts that change nothing and are no exception: counted, or listed for the re-rating from the archive.
QUIET: Final = frozenset({"accepted", "rollover", "confirmed", "replaced", "duplicate", "late"})
BACKDATED: Final = "backdated"
UNSEEN: Final = "frozen"  # a row beside an accepted reading, which the auditor does not derive


def event(*parts: object) -> bytes:
    """What makes an event distinct, in a few bytes; text as a database takes it."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "backslashreplace").replace(b"\0", b"\\x00")
    return blake2b(text, digest_size=16).digest()


def message_event(reason: str, source: str, stream: str, sequence: int, body: bytes) -> bytes:
    return event("message", reason, source, stream, sequence, blake2b(body).hexdigest())


def reading_event(
    reason: str, source: str, serial: str, code: str, at_s: int, value: int, quality: str, body: bytes
) -> bytes:
    """`body` tells two events of one register apart only where it is no copy of the reading."""
    more = (body.decode("utf-8", "replace"),) if reason == BACKDATED else ()
    return event("reading", reason, source, serial, code, at_s, value, quality, *more)


@dataclass(slots=True)
class Row:
    """A distinct event as the queue has it: how often it was seen, after which record first, and in words."""

    count: int
    offset: int
    words: str


@dataclass(slots=True)
class Refused:
    """Distinct events as the auditor judged them."""

    rows: dict[bytes, Row] = field(default_factory=dict)

    def reading(
        self, reason: str, source: str, meter: int, value: int, at_s: int, register: int, quality: int, offset: int
    ) -> None:
        """A reading with an exceptional verdict."""
        self._reading(reason, source, meter, value, at_s, register, quality, offset, b"")

    def backdated(
        self, meter: int, value: int, at_s: int, register: int, quality: int, since_s: int, offset: int
    ) -> None:
        """A registry version changed facts from `since_s` on, before the register's last accepted reading [9]."""
        body = json.dumps({"since_s": since_s}).encode()
        self._reading(BACKDATED, "registry", meter, value, at_s, register, quality, offset, body)

    def command(self, number: int, stream: str, body: Any, offset: int) -> None:
        """An inbox row that changed nothing [10]."""
        text = json.dumps(body, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        key = message_event("command", "inbox", stream, number, text)
        self._add(key, offset, f"command: inbox row {number}, {stream}")

    def _reading(
        self,
        reason: str,
        source: str,
        meter: int,
        value: int,
        at_s: int,
        register: int,
        quality: int,
        offset: int,
        body: bytes,
    ) -> None:
        serial = f"{meter:012d}" if meter < 2**63 else f"#{meter - 2**63:016x}"
        code = str(REGISTER_NAME.get(register, register))
        key = reading_event(reason, source, serial, code, at_s, value, Quality(quality).name, body)
        self._add(key, offset, f"{reason}: meter {serial} {code} of {source}, {value} at {at_s}")

    def message(self, detail: str, source: str, stream: str, sequence: int, body: bytes, offset: int) -> None:
        """A REJECT record; `detail` is "reason: note"."""
        reason = detail.partition(": ")[0]
        key = message_event(reason, source, stream, sequence, body)
        self._add(key, offset, f"{reason}: message {sequence} of {source} {stream}")

    def _add(self, key: bytes, offset: int, words: str) -> None:
        if key in self.rows:
            self.rows[key].count += 1
        else:
            self.rows[key] = Row(1, offset, words)


def compared(expected: Refused, found: Mapping[bytes, Row], offset_after: int) -> list[Difference]:
    """Rows that are not there, and rows of records after `offset_after` that nothing caused.

    From the first record on, how often each came is compared as well; later, older rows hold earlier repeats.
    """
    out = []
    for key, row in expected.rows.items():
        there = found.get(key)
        if there is None or (offset_after == 0 and there.count != row.count):
            note = f"record {row.offset}: {row.words}"
            out.append(Difference("", "", "exception", row.count, there.count if there else 0, note))
    for key, row in found.items():
        if row.offset > offset_after and key not in expected.rows:
            out.append(Difference("", "", "exception", 0, row.count, f"record {row.offset}: {row.words}"))
    return out


def verdicts(expected: Mapping[str, int], found: Mapping[str, int]) -> list[Difference]:
    """How many readings had which verdict, against the checkpoint's own counters (frozen ones are accepted)."""
    told = {name.removeprefix("verdict."): count for name, count in found.items() if name.startswith("verdict.")}
    told["accepted"] = told.get("accepted", 0) + told.pop(UNSEEN, 0)
    names = sorted(expected.keys() | told.keys())
    return [
        Difference("", "", f"verdict.{name}", expected.get(name, 0), told.get(name, 0), "readings")
        for name in names
        if expected.get(name, 0) != told.get(name, 0)
    ]
