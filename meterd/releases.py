"""I/O: releases of the exceptions queue: one reading, or a whole message that was refused, judged again, now.

A release is an *attempt*: inbox rows `release:{exception}:{attempt}:{part}`, all written in one transaction, none
with more than `ROWS_MAX` readings or of more than one partition. Asking again while one is under way waits for it;
a later attempt holds what no earlier one has brought into effect. The row is `released` once nothing of the last
attempt was refused. A kill between any two steps leaves an attempt that the next request finds and finishes.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, select, update

from ingest.again import Decision, NotReleasable, Refused, read_again
from ingest.decoded import Limits
from ingest.pipeline import Context
from ingest.routing import Routes
from ledger.inbox import submit
from ledger.schema import exception, inbox, inbox_applied
from meterd.port import DaemonPort
from meterd.rejected import Rejected
from rating.readings import Readings
from rating.refusals import READING_BYTES
from rating.releases import refused
from registry.image import PartitionImage
from registry.store import RegistryReader

ROWS_MAX: Final = 1000  # readings of one inbox row: some 60 kB of JSON, and a millisecond or two of rating's time

Row = tuple[int, int, int, int, int]  # meter, register, read_at_s, value, quality: as the inbox has them


@dataclass(frozen=True, slots=True)
class Word:
    """What a person says beside the message, and who: `why` and `by` are kept with it when `trust` is said."""

    format: str = ""
    source: str = ""
    trust: bool = False
    why: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """`applied` False: stored, not all of it applied in time. `refused`: verdict -> how many, of the last attempt."""

    inbox_ids: list[int]
    applied: bool
    state: str
    accepted: int
    refused: dict[str, int]

    @property
    def outcome(self) -> str | None:
        """ "" is good, other text says what was refused, None: not applied yet."""
        if not self.applied:
            return None
        told = ", ".join(f"{name} {count}" for name, count in self.refused.items())
        return f"judged again: {told} of {self.accepted + sum(self.refused.values())}" if told else ""


@dataclass(slots=True)
class _Attempts:
    """Every inbox row of one exception: (id, attempt, body, outcome or None), in order."""

    rows: list[tuple[int, int, dict[str, Any], str | None]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return max((attempt for _, attempt, _, _ in self.rows), default=0)

    @property
    def ids(self) -> list[int]:
        """Of the last attempt."""
        return [number for number, attempt, _, _ in self.rows if attempt == self.last]

    @property
    def under_way(self) -> bool:
        return any(outcome is None for *_, outcome in self.rows)

    @property
    def complete(self) -> bool:
        """There is an attempt, all of it was applied, and nothing of it refused."""
        last = [outcome for _, attempt, _, outcome in self.rows if attempt == self.last]
        return bool(last) and all(outcome == "" for outcome in last)

    def in_effect(self) -> set[tuple[str, Row]]:
        """(concentrator, reading) that some attempt has brought into effect."""
        found = set()
        for _, _, body, outcome in self.rows:
            if outcome is not None:
                rows: list[Row] = [tuple(reading) for reading in body["readings"]]
                not_these = refused(outcome, len(rows))
                found |= {(body["concentrator"], row) for n, row in enumerate(rows) if n not in not_these}
        return found

    def told(self, state: str) -> Released:
        """Counts of readings: accepted by any attempt, refused by the last one."""
        accepted, against = 0, Counter[str]()
        for _, attempt, body, outcome in self.rows:
            if outcome is not None:
                verdicts = refused(outcome, len(body["readings"]))
                accepted += len(body["readings"]) - len(verdicts)
                if attempt == self.last:
                    against.update(verdicts.values())
        return Released(self.ids, not self.under_way, state, accepted, dict(sorted(against.items())))


class Releases:
    """What `exceptions release` and `discard` do. One lock orders those that look before they write."""

    def __init__(self, daemon: DaemonPort, wait: Callable[[list[int], float], None]) -> None:
        self._daemon, self._wait = daemon, wait
        self._lock = threading.Lock()
        self._routes: tuple[str, Routes] | None = None  # of a registry version: made once, not by release

    def release(self, exception_id: int, word: Word, wait_s: float) -> Released:
        """Have the readings judged again; the row stays open when any is refused again."""
        if (word.trust or word.source) and not (word.trust and word.why and word.by):
            raise Rejected(422, "whom to believe is a person's word", "Say --trust and --why; `by` is who says so")
        with self._lock:
            row = self._row(exception_id)
            if row["state"] == "discarded":
                raise Rejected(409, f"exception {exception_id} is discarded already", "Nothing is left to do")
            attempts = self._attempts(exception_id)
            if row["state"] == "released":
                return attempts.told("released")
            if not (attempts.under_way or attempts.complete):
                parts = self._read(row, word)
                in_effect = attempts.in_effect()
                left = [(p, c, [r for r in rows if (c, r) not in in_effect]) for p, c, rows in parts]
                if not any(rows for _, _, rows in left):  # under other options, maybe; nothing of it is missing
                    self._resolve(exception_id, "released", _why(attempts))
                    return replace(attempts.told("released"), refused={})
                self._submit(row, word, attempts.last + 1, left)
                attempts = self._attempts(exception_id)
        self._wait(attempts.ids, wait_s)
        attempts = self._attempts(exception_id)
        if not attempts.complete:
            return attempts.told("open")
        self._resolve(exception_id, "released", _why(attempts))
        return attempts.told("released")

    def discard(self, exception_id: int, why: str) -> None:
        """Close a row without effect, with the reason; not while a release of it may still take effect."""
        with self._lock:
            row = self._row(exception_id)
            if row["state"] != "open":
                raise Rejected(409, f"exception {exception_id} is {row['state']} already", "Nothing is left to do")
            attempts = self._attempts(exception_id)
            if attempts.under_way or attempts.complete:
                raise Rejected(
                    409,
                    f"exception {exception_id} is being released",
                    "Ask for its release again, which ends it",
                )
            self._resolve(exception_id, "discarded", why)

    # -- what is to be judged again ----------------------------------------------------------------------------
    def _read(self, row: dict[str, Any], word: Word) -> list[tuple[int, str, list[Row]]]:
        """(partition, concentrator, readings): one reading as it was kept, or a message read again."""
        if row["meter"] is not None:
            if word.format or word.trust:
                raise Rejected(422, "--as and --trust are for whole messages", "Release the reading without them")
            reading = np.frombuffer(row["bytes"], READING_BYTES)[0]
            meter, code, at_s, value, quality = (
                int(reading[name]) for name in ("meter", "register", "read_at_s", "value", "quality")
            )
            place = place_of(self._registry(), meter, code, source=row["source"])
            partition = place[0] if place is not None else int(row["partition"])
            return [(partition, row["source"], [(meter, code, at_s, value, quality)])]
        stored = Refused(row["reason"], row["source"], row["stream"], row["sequence"], row["bytes"], row["note"])
        try:
            source, parts = read_again(stored, Decision(word.format, word.source, word.trust), self._context())
        except NotReleasable as why:
            raise Rejected(422, f"exception {row['id']} is not released: {why.why}", why.what_to_do) from None
        return [(partition, source, _rows(readings)) for partition, readings in parts]

    def _context(self) -> Context:
        """What ingest would judge by if the message came now."""
        settings, reader = self._daemon.settings, self._registry()
        if self._routes is None or self._routes[0] != reader.digest:
            self._routes = reader.digest, reader.routes()
        limits = Limits(settings.mqtt.payload_max, settings.ingest.readings_max, settings.ingest.nesting_max)
        signing = settings.signing
        return Context(limits, settings.partitions, self._routes[1], signing.key_bytes(), signing.required)

    def _registry(self) -> RegistryReader:
        return active_registry(self._daemon)

    def _submit(self, row: dict[str, Any], word: Word, attempt: int, parts: list[tuple[int, str, list[Row]]]) -> None:
        """All rows of an attempt in one transaction: a kill leaves all of them, or none."""
        more: dict[str, Any] = {"exception": row["id"]}
        if word.format:
            more["as"] = word.format
        if word.trust:
            more["trusted"] = {"by": word.by, "why": word.why}
        chunks = [
            (partition, {"concentrator": source, "readings": rows[first : first + ROWS_MAX], **more})
            for partition, source, rows in parts
            for first in range(0, len(rows), ROWS_MAX)
        ]
        keys = [f"release:{row['id']}:{attempt}:{part}" for part in range(1, len(chunks) + 1)]
        now_s = self._daemon.clock.now_s()

        def work(connection: Connection) -> None:
            for key, (partition, body) in zip(keys, chunks, strict=True):
                submit(connection, kind="release", key=key, body=body, partition=partition, now_s=now_s)

        self._daemon.store.write(work)
        partition, body = chunks[-1]
        self._daemon.submit("release", keys[-1], body, partition)  # it is there already: this wakes rating

    # -- the ledger --------------------------------------------------------------------------------------------
    def _row(self, exception_id: int) -> dict[str, Any]:
        with self._daemon.store.reader() as connection:
            row = connection.execute(select(exception).where(exception.c.id == exception_id)).mappings().first()
        if row is None:
            raise Rejected(404, f"no exception {exception_id}", "Look at `meterd exceptions list`")
        return dict(row)

    def _attempts(self, exception_id: int) -> _Attempts:
        # A range, so that the key's own index serves.
        first, past = f"release:{exception_id}:", f"release:{exception_id};"
        asked = select(inbox.c.id, inbox.c.key, inbox.c.body, inbox_applied.c.outcome).outerjoin(inbox_applied)
        asked = asked.where(inbox.c.key > first, inbox.c.key < past).order_by(inbox.c.id)
        with self._daemon.store.reader() as connection:
            rows = connection.execute(asked).all()
        return _Attempts([(r.id, int(r.key.split(":")[2]), json.loads(r.body), r.outcome) for r in rows])

    def _resolve(self, exception_id: int, state: str, why: str) -> None:
        now_s = self._daemon.clock.now_s()
        change = update(exception).where(exception.c.id == exception_id, exception.c.state == "open")
        values = {"state": state, "resolved_at_s": now_s, "resolved_why": why}
        self._daemon.store.write(lambda connection: connection.execute(change.values(values)).rowcount)


def active_registry(daemon: DaemonPort) -> RegistryReader:
    """The registry in force; without one nothing can be judged."""
    reader = daemon.registry()
    if reader is None:
        raise Rejected(409, "no registry is active", "Import one: `meterd registry import DIR`")
    return reader


def place_of(reader: RegistryReader, meter: int, code: int, source: str | None = None) -> tuple[int, str] | None:
    """(partition, concentrator) whose list has this register; the newest of several."""
    found: tuple[int, tuple[int, str]] | None = None
    for number, partition in enumerate(reader.image.partitions):
        here = (partition.list_meter == np.uint64(meter)) & (partition.list_register == code)
        for place in np.flatnonzero(here).tolist():
            name = _list_of(partition, place)
            if source is not None and name != source:
                continue
            opened = int(partition.channels["opening_at_s"][int(partition.list_channel[place])])
            if found is None or opened > found[0]:
                found = opened, (number, name)
    return None if found is None else found[1]


def _list_of(partition: PartitionImage, place: int) -> str:
    return next(name for name, (start, end) in partition.lists.items() if start <= place < end)


def _rows(readings: Readings) -> list[Row]:
    columns = (readings.meter, readings.register, readings.read_at_s, readings.value, readings.quality)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _why(attempts: _Attempts) -> str:
    """What the exceptions queue keeps of a release: where it is, and on whose word."""
    told = "inbox " + ", ".join(map(str, attempts.ids))
    for body in {json.dumps(body.get("trusted")): body for _, _, body, _ in attempts.rows}.values():
        if body.get("trusted"):
            told += f"; trusted by {body['trusted']['by']}: {body['trusted']['why']}"
    return told
