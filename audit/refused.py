"""Pure: what must stand in the exceptions queue: one row per distinct event, however often it was delivered.

A distinct event is a refused reading (reason, source, meter, register, time, value, quality), or a message that
ingest refused whole (reason, source, stream, sequence, bytes). A row counts how often the same came again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from audit.compare import Difference
from config.units import REGISTER_NAME, Quality

# Verdicts that change nothing and are no exception: counted, or listed for the re-rating from the archive.
QUIET: Final = frozenset({"accepted", "rollover", "confirmed", "replaced", "duplicate", "late"})
UNSEEN: Final = "frozen"  # a row beside an accepted reading, which the auditor does not derive


def event(*parts: object) -> bytes:
    """What makes an event distinct, in a few bytes; text as a database takes it."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "backslashreplace").replace(b"\0", b"\\x00")
    return blake2b(text, digest_size=16).digest()


def message_event(reason: str, source: str, stream: str, sequence: int, body: bytes) -> bytes:
    return event("message", reason, source, stream, sequence, blake2b(body).hexdigest())


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
        serial = f"{meter:012d}" if meter < 2**63 else f"#{meter - 2**63:016x}"
        code = str(REGISTER_NAME.get(register, register))
        key = event("reading", reason, source, serial, code, at_s, value, Quality(quality).name)
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
