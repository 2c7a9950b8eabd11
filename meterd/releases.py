"""I/O: releases of the exceptions queue: readings, or whole messages that were refused, judged again, now.

A release is an *attempt* (`meterd.attempts`): inbox rows `release:{exception}:{attempt}:{part}`, all written in one
transaction, none with more than `ROWS_MAX` readings or of more than one partition. Asking again while one is under
way waits for it; a later attempt holds what no earlier one has brought into effect. The row is `released` once
nothing of the last attempt was refused. A kill between any two steps leaves an attempt that the next request finds
and finishes.

One request carries up to `IDS_MAX` rows of the queue, the oldest first. Their attempts share the transaction, the
wait for rating and the transaction that closes the rows; each is what it would be if it had been asked for alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Connection, bindparam, func, literal_column, select, update

from config.reasons import Reason
from ingest.again import Decision, NotReleasable, Refused, read_again
from ingest.decoded import Limits
from ingest.pipeline import Context
from ingest.routing import Routes
from ledger.inbox import submit_many
from ledger.schema import exception, inbox, inbox_applied
from meterd.attempts import Attempts, InboxOf, Released, Row, Word
from meterd.places import active_registry, place_in_list
from meterd.port import PartsPort
from meterd.rejected import Rejected
from rating.readings import Readings
from rating.refusals import READING_BYTES
from registry.store import RegistryReader

ROWS_MAX: Final = 1000  # readings of one inbox row: some 60 kB of JSON, and a millisecond or two of rating's time
BYTES_MAX: Final = 4 << 20  # of stored messages in one request: they are all read again before any is written
_NO_READING: Final = {
    Reason.BACKDATED: "Correct what was charged by `meterd topup` or `reverse`, then discard it",
    Reason.COMMAND: "Send the command again, put right, under another reference, then discard it",
}

_Parts = list[tuple[int, str, list[Row]]]  # (partition, concentrator, readings)


@dataclass(slots=True)
class Bulk:
    """By id what became of each, or why nothing did; `left`: too much for one request, nothing was done about it."""

    told: dict[int, Released | Rejected] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    """What one request writes, and what it waits for."""

    chunks: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)  # key, partition, body
    waiting: list[int] = field(default_factory=list)
    closed: dict[int, str] = field(default_factory=dict)  # nothing is left to judge: released at once, and why


class Releases:
    """What `exceptions release` and `discard` do. One lock orders those that look before they write."""

    def __init__(self, parts: PartsPort, wait: Callable[[list[int], float], None]) -> None:
        self._parts, self._wait = parts, wait
        self._lock = threading.Lock()
        self._routes: tuple[str, Routes] | None = None  # of a registry version: made once, not by release

    def release(self, exception_id: int, word: Word, wait_s: float) -> Released:
        """Have the readings judged again; the row stays open when any is refused again."""
        told = self.release_many([exception_id], word, wait_s).told[exception_id]
        if isinstance(told, Rejected):
            raise told
        return told

    def release_many(self, exception_ids: Sequence[int], word: Word, wait_s: float) -> Bulk:
        """The same for rows of the queue together, the oldest first; each is told by its id."""
        if (word.trust or word.source) and not (word.trust and word.why and word.by):
            raise Rejected(422, "whom to believe is a person's word", "Say --trust and --why; `by` is who says so")
        with self._lock:
            rows, left = self._rows(exception_ids)
            bulk, plan = Bulk(left=left), _Plan()
            for number in set(exception_ids).difference(rows, left):
                bulk.told[number] = _unknown(number)
            attempts = self._attempts(rows)
            for number, row in rows.items():
                try:
                    self._plan(row, word, attempts[number], plan, bulk)
                except Rejected as why:
                    bulk.told[number] = why
            self._write(plan)
        self._wait(_last_of_each_partition(self._attempts(plan.waiting)), wait_s)
        attempts = self._attempts(plan.waiting)
        done = {number: one.why() for number, one in attempts.items() if one.complete}
        if done:
            self._resolve(done, "released")
        bulk.told |= {n: one.told("released" if n in done else "open") for n, one in attempts.items()}
        return bulk

    def discard(self, exception_id: int, why: str) -> None:
        """Close a row without effect, with the reason; not while a release of it may still take effect."""
        against = self.discard_many([exception_id], why)[exception_id]
        if against is not None:
            raise against

    def discard_many(self, exception_ids: Sequence[int], why: str) -> dict[int, Rejected | None]:
        """The same for rows together, in one transaction; by id what stands against it."""
        found: dict[int, Rejected | None] = {}
        with self._lock:
            states = self._states(exception_ids)
            attempts = self._attempts(states)
            for number in dict.fromkeys(exception_ids):
                if number not in states:
                    found[number] = _unknown(number)
                elif states[number] != "open":
                    told = f"exception {number} is {states[number]} already"
                    found[number] = Rejected(409, told, "Nothing is left to do")
                elif attempts[number].under_way or attempts[number].complete:
                    told = f"exception {number} is being released"
                    found[number] = Rejected(409, told, "Ask for its release again, which ends it")
                else:
                    found[number] = None
            free = {number: why for number, against in found.items() if against is None}
            if free:
                self._resolve(free, "discarded")
        return found

    # -- what is to be judged again ----------------------------------------------------------------------------
    def _plan(self, row: dict[str, Any], word: Word, attempts: Attempts, plan: _Plan, bulk: Bulk) -> None:
        """What there is to do about one row; `Rejected` says why nothing is."""
        number = int(row["id"])
        if row["state"] == "discarded":
            raise Rejected(409, f"exception {number} is discarded already", "Nothing is left to do")
        if row["state"] == "released":
            bulk.told[number] = attempts.told("released")
            return
        if not (attempts.under_way or attempts.complete):
            parts = self._read(row, word)
            in_effect = attempts.in_effect()
            left = [(p, c, [r for r in rows if (c, r) not in in_effect]) for p, c, rows in parts]
            if not any(rows for _, _, rows in left):  # under other options, maybe; nothing of it is missing
                plan.closed[number] = attempts.why()
                bulk.told[number] = replace(attempts.told("released"), refused={})
                return
            plan.chunks += _chunks(number, word, attempts.last + 1, left)
        plan.waiting.append(number)

    def _read(self, row: dict[str, Any], word: Word) -> _Parts:
        """One reading as it was kept, or a message read again."""
        if row["reason"] in _NO_READING:
            told = f"exception {row['id']} is no reading: nothing can be judged again"
            raise Rejected(422, told, _NO_READING[Reason(row["reason"])])
        if row["meter"] is not None:
            if word.format or word.trust:
                raise Rejected(422, "--as and --trust are for whole messages", "Release the reading without them")
            reading = np.frombuffer(row["bytes"], READING_BYTES)[0]
            meter, code, at_s, value, quality = (
                int(reading[name]) for name in ("meter", "register", "read_at_s", "value", "quality")
            )
            place = place_in_list(self._registry(), meter, code, row["source"])
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
        settings, reader = self._parts.settings, self._registry()
        if self._routes is None or self._routes[0] != reader.digest:
            self._routes = reader.digest, reader.routes()
        limits = Limits(settings.mqtt.payload_max, settings.ingest.readings_max, settings.ingest.nesting_max)
        signing = settings.signing
        return Context(limits, settings.partitions, self._routes[1], signing.key_bytes(), signing.required)

    def _registry(self) -> RegistryReader:
        return active_registry(self._parts)

    # -- the ledger --------------------------------------------------------------------------------------------
    def _write(self, plan: _Plan) -> None:
        """All rows of all attempts in one transaction: a kill leaves all of them, or none."""
        if plan.closed:
            self._resolve(plan.closed, "released")
        if not plan.chunks:
            return
        now_s = self._parts.clock.now_s()

        def work(connection: Connection) -> None:
            submit_many(connection, kind="release", rows=plan.chunks, now_s=now_s)

        self._parts.store.write(work)
        key, partition, body = plan.chunks[-1]
        self._parts.submit("release", key, body, partition)  # it is there already: this wakes rating

    def _rows(self, exception_ids: Sequence[int]) -> tuple[dict[int, dict[str, Any]], list[int]]:
        """(rows by id, the oldest first; ids that are too much for one request, the first never among them)."""
        at_s = func.coalesce(exception.c.read_at_s, exception.c.received_at_s)
        sizes = select(exception.c.id, func.length(exception.c.bytes).label("size"))
        sizes = sizes.where(exception.c.id.in_(exception_ids)).order_by(at_s, exception.c.id)
        taken: list[int] = []
        left: list[int] = []
        total = 0
        with self._parts.store.reader() as connection:
            for number, size in connection.execute(sizes).all():
                total += size
                (left if taken and (left or total > BYTES_MAX) else taken).append(int(number))
            asked = select(exception).where(exception.c.id.in_(taken)).order_by(at_s, exception.c.id)
            rows = connection.execute(asked).mappings().all()
        return {int(row["id"]): dict(row) for row in rows}, left

    def _states(self, exception_ids: Sequence[int]) -> dict[int, str]:
        asked = select(exception.c.id, exception.c.state).where(exception.c.id.in_(exception_ids))
        with self._parts.store.reader() as connection:
            return {int(number): str(state) for number, state in connection.execute(asked)}

    def _attempts(self, exception_ids: Iterable[int]) -> dict[int, Attempts]:
        found = {number: Attempts() for number in exception_ids}
        if not found:
            return found
        # A range of keys for each, so that the key's own index serves; one parameter, whatever their number.
        of = func.json_each(json.dumps(list(found))).table_valued("value", name="of")
        first: ColumnElement[str] = literal_column("'release:' || of.value || ':'")
        past: ColumnElement[str] = literal_column("'release:' || of.value || ';'")
        asked = select(inbox.c.id, inbox.c.key, inbox.c.partition, inbox.c.body, inbox_applied.c.outcome)
        asked = asked.select_from(of).join(inbox, (inbox.c.key > first) & (inbox.c.key < past))
        asked = asked.outerjoin(inbox_applied).order_by(inbox.c.id)
        with self._parts.store.reader() as connection:
            for row in connection.execute(asked):
                _, number, attempt, _ = row.key.split(":")
                made = InboxOf(row.id, row.partition, int(attempt), json.loads(row.body), row.outcome)
                found[int(number)].rows.append(made)
        return found

    def _resolve(self, whys: dict[int, str], state: str) -> None:
        """Close rows that are open, each with its reason, in one transaction."""
        change = update(exception).where(exception.c.id == bindparam("number"), exception.c.state == "open")
        change = change.values(
            state=state, resolved_at_s=self._parts.clock.now_s(), resolved_why=bindparam("because")
        )
        rows = [{"number": number, "because": why} for number, why in whys.items()]
        self._parts.store.write(lambda connection: connection.execute(change, rows).rowcount)


def _unknown(exception_id: int) -> Rejected:
    return Rejected(404, f"no exception {exception_id}", "Look at `meterd exceptions list`")


def _chunks(exception_id: int, word: Word, attempt: int, parts: _Parts) -> list[tuple[str, int, dict[str, Any]]]:
    """(key, partition, body) of each inbox row of an attempt."""
    more: dict[str, Any] = {"exception": exception_id}
    if word.format:
        more["as"] = word.format
    if word.trust:
        more["trusted"] = {"by": word.by, "why": word.why}
    bodies = [
        (partition, {"concentrator": source, "readings": rows[first : first + ROWS_MAX], **more})
        for partition, source, rows in parts
        for first in range(0, len(rows), ROWS_MAX)
    ]
    return [(f"release:{exception_id}:{attempt}:{part}", *one) for part, one in enumerate(bodies, start=1)]


def _last_of_each_partition(attempts: dict[int, Attempts]) -> list[int]:
    """A partition applies its rows in the order of their ids: when these are applied, all are."""
    last: dict[int, int] = {}
    for one in attempts.values():
        last |= {row.partition: max(row.id, last.get(row.partition, 0)) for row in one.rows}
    return sorted(last.values())


def _rows(readings: Readings) -> list[Row]:
    columns = (readings.meter, readings.register, readings.read_at_s, readings.value, readings.quality)
    return list(zip(*(column.tolist() for column in columns), strict=True))
