"""I/O: everything that the checkpoints of some partitions make true, written into the caller's transaction.

Order: the fences first (an old epoch writes nothing), then the checkpoint rows, whose ids are the versions of the
state that follows, then state, money, and what rating tells others. Sixteen partitions are committed a dozen times a
second when readings come singly: fences and state are one statement each for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.schema import Table

from ledger import inbox, pages
from ledger.effects import ENGINE_VERSION, PAGE_SLOTS, STATE_FORMAT, Entry, PartitionCheckpoint
from ledger.port import Fenced
from ledger.schema import (
    bill_page,
    checkpoint,
    entry,
    event,
    exception,
    late_page,
    notice,
    owner,
    posting,
    state_delta,
    state_page,
    subledger,
)


@dataclass(slots=True)
class Standing:
    """What the writer knows of one partition between commits: its cursor, and its arrays' backlog of deltas."""

    offset: int = 0
    log_id: str | None = None
    arrays: dict[str, pages.Backlog] = field(default_factory=dict)

    def over(self, bytes_max: int) -> bool:
        """Whether the deltas are due to be folded into pages."""
        deltas = sum(backlog.deltas for backlog in self.arrays.values())
        return deltas >= pages.DELTAS_MAX or sum(b.delta_bytes for b in self.arrays.values()) > bytes_max


@dataclass(frozen=True, slots=True)
class Planned:
    """One partition's checkpoint with its state already copied: its engine may go on while this is written."""

    asked: PartitionCheckpoint
    before: Standing
    plans: dict[str, pages.Plan]

    @property
    def after(self) -> Standing:
        """What stands once the transaction is durable."""
        arrays = self.before.arrays | {name: plan.after for name, plan in self.plans.items()}
        return Standing(self.asked.offset, self.asked.log_id, arrays)

    def check(self) -> None:
        """Raise unless it follows what stands, and its money balances."""
        asked, standing = self.asked, self.before
        if standing.log_id not in (None, asked.log_id) or asked.offset < standing.offset:
            raise AssertionError(
                f"partition {asked.partition}: {asked.log_id}@{asked.offset} does not follow "
                f"{standing.log_id}@{standing.offset}"
            )
        for booked in asked.entries:
            booked.check()


def planned(asked: PartitionCheckpoint, before: Standing, *, delta_bytes_max: int) -> Planned:
    """Copy what changed, as pages or deltas; `asked.state` is not looked at again."""
    refresh, empty = before.over(delta_bytes_max), pages.Backlog()
    plans = {
        name: pages.plan(name, change, before.arrays.get(name, empty), refresh=refresh)
        for name, change in asked.state.items()
    }
    return Planned(asked, before, plans)


# Made once: making a statement takes five times as long as running it.
_FENCES: Final = (
    select(owner.c.role, owner.c.epoch)
    .where(owner.c.role.in_(bindparam("roles", expanding=True)))
    .order_by(owner.c.role)
    .with_for_update()
)
_CHECKPOINT: Final = insert(checkpoint).returning(checkpoint.c.id)
_DELTA, _POSTING, _LATE = insert(state_delta), insert(posting), insert(late_page)
_FOLDED: Final = delete(state_delta).where(
    state_delta.c.partition == bindparam("home"), state_delta.c.array == bindparam("of_array")
)
_ENTRY: Final = insert(entry).returning(entry.c.id)
_UNBALANCED: Final = (
    select(posting.c.entry_id)
    .where(posting.c.entry_id >= bindparam("first"))
    .group_by(posting.c.entry_id)
    .having(func.sum(posting.c.amount_fen) != 0)
)
_EXCEPTION: Final = (
    *("key", "reason", "offset", "received_at_s", "source", "stream", "sequence", "note"),
    *("meter", "register", "read_at_s", "value", "quality"),
)


def _storable(value: object) -> object:
    """Text without what no database takes (lone surrogates, NUL), spelled out instead; bad input is data."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def role_of(partition: int) -> str:
    """Name of a partition's row in `owner`."""
    return f"partition:{partition}"


def fence(connection: Connection, epochs: Mapping[str, int]) -> None:
    """Raise `Fenced` unless each role's epoch is its owner's; locks the rows where the database has row locks."""
    found = {row.role: row.epoch for row in connection.execute(_FENCES, {"roles": list(epochs)})}
    for role, epoch in epochs.items():
        if found.get(role) != epoch:
            raise Fenced(role, epoch=epoch, owner_epoch=found.get(role))


def checkpoint_crc(
    *,
    partition: int,
    epoch: int,
    log_id: str,
    offset: int,
    as_of_s: int,
    engine: int,
    texts: tuple[str, str, str, str],
) -> int:
    """Checksum of a checkpoint row; `texts`: registry digest, timeline digest, counters, slots."""
    return pages.row_checksum(partition, epoch, log_id, offset, as_of_s, engine, *texts)


def crc_of(row: Row[Any]) -> int:
    """What the checksum of a stored checkpoint row must be."""
    return checkpoint_crc(
        partition=row.partition,
        epoch=row.epoch,
        log_id=row.log_id,
        offset=row.offset,
        as_of_s=row.as_of_s,
        engine=row.engine_version,
        texts=(row.registry_digest, row.timeline_digest, row.counters, row.slots),
    )


def write_checkpoints(connection: Connection, planned: Sequence[Planned], *, partitions: int, now_s: int) -> int:
    """Write all of each partition's checkpoint; raises before writing money that does not balance.

    Returns how many orders they credited.
    """
    fence(connection, {role_of(one.asked.partition): one.asked.epoch for one in planned})
    for one in planned:
        one.check()
    versions = [_checkpoint_row(connection, one) for one in planned]
    _state(connection, planned, versions)
    credited = 0
    for one, version in zip(planned, versions, strict=True):
        asked = one.asked
        _money(connection, asked)
        _told(connection, asked, now_s)
        credited += inbox.stamp(
            connection,
            asked.applied,
            partition=asked.partition,
            partitions=partitions,
            checkpoint_id=version,
            now_s=now_s,
        )
    return credited


def _checkpoint_row(connection: Connection, one: Planned) -> int:
    asked = one.asked
    counters = json.dumps(asked.counters, sort_keys=True)
    lengths = json.dumps({name: backlog.slots for name, backlog in one.after.arrays.items()}, sort_keys=True)
    crc = checkpoint_crc(
        partition=asked.partition,
        epoch=asked.epoch,
        log_id=asked.log_id,
        offset=asked.offset,
        as_of_s=asked.as_of_s,
        engine=ENGINE_VERSION,
        texts=(asked.registry_digest, asked.timeline_digest, counters, lengths),
    )
    values = {
        "partition": asked.partition,
        "epoch": asked.epoch,
        "log_id": asked.log_id,
        "offset": asked.offset,
        "as_of_s": asked.as_of_s,
        "engine_version": ENGINE_VERSION,
        "registry_digest": asked.registry_digest,
        "timeline_digest": asked.timeline_digest,
        "counters": counters,
        "slots": lengths,
        "crc": crc,
    }
    return int(connection.execute(_CHECKPOINT, values).scalar_one())


def _upsert(dialect: str, table: Table) -> Insert:
    # The two dialects spell ON CONFLICT with the same methods; the types only know one of them.
    make = postgresql_insert if dialect == "postgresql" else sqlite_insert
    return make(table)  # type: ignore[return-value]


@lru_cache
def _page(dialect: str) -> Insert:
    upsert = _upsert(dialect, state_page)
    new = {name: upsert.excluded[name] for name in ("version", "format", "body", "crc")}
    return upsert.on_conflict_do_update(index_elements=["partition", "array", "page"], set_=new)


@lru_cache
def _event(dialect: str) -> Insert:
    return _upsert(dialect, event).on_conflict_do_nothing()


@lru_cache
def _exception(dialect: str) -> Insert:
    again = {"repeats": exception.c.repeats + 1}
    return _upsert(dialect, exception).on_conflict_do_update(index_elements=["key"], set_=again)


@lru_cache
def _notice(dialect: str) -> Insert:
    return _upsert(dialect, notice).on_conflict_do_nothing(index_elements=["key"])


def _state(connection: Connection, planned: Sequence[Planned], versions: Sequence[int]) -> None:
    folded, whole, deltas = [], [], []
    for one, version in zip(planned, versions, strict=True):
        partition = one.asked.partition
        for array, plan in one.plans.items():
            if plan.refresh:
                folded.append({"home": partition, "of_array": array})
            base = {"partition": partition, "array": array, "version": version, "format": STATE_FORMAT}
            for blob in plan.blobs:
                crc = pages.checksum(partition, array, blob.page, version, blob.body)
                row = base | {"body": blob.body, "crc": crc}
                if blob.page == pages.DELTA:
                    deltas.append(row | {"count": blob.count})
                else:
                    whole.append(row | {"page": blob.page})
    if folded:
        connection.execute(_FOLDED, folded)
    if deltas:
        connection.execute(_DELTA, deltas)
    if whole:
        connection.execute(_page(connection.dialect.name), whole)


def _money(connection: Connection, asked: PartitionCheckpoint) -> None:
    """Entries, postings, and the customers behind them in pages by slot; then the sums, asked of the database."""
    first: int | None = None
    for one in asked.entries:
        values = {
            "partition": asked.partition,
            "kind": one.kind,
            "offset": one.offset,
            "booked_at_s": one.booked_at_s,
            "reference": one.reference,
            "count": len(one.rows),
        }
        entry_id = int(connection.execute(_ENTRY, values).scalar_one())
        first = entry_id if first is None else first
        lines = [
            {"entry_id": entry_id, "line": line, "account_name": name, "amount_fen": int(amount)}
            for line, (name, amount) in enumerate(one.postings, 1)
        ]
        if lines:
            connection.execute(_POSTING, lines)
        _packed(connection, asked.partition, entry_id, one)
    if first is None:
        return
    unbalanced = connection.execute(_UNBALANCED, {"first": first}).all()
    if unbalanced:
        raise AssertionError(f"entries {[row.entry_id for row in unbalanced]} do not sum to zero as written")


def _packed(connection: Connection, partition: int, entry_id: int, one: Entry) -> None:
    for table, kind, rows in ((subledger, "subledger", one.rows), (bill_page, "bill", one.bills)):
        if rows is None or not len(rows):
            continue
        page_of = rows["slot"] // PAGE_SLOTS
        by_page = np.argsort(page_of, kind="stable")
        cuts = np.flatnonzero(np.diff(page_of[by_page])) + 1
        written = []
        for places in np.split(by_page, cuts):
            page, body = int(page_of[places[0]]), rows[places].tobytes()
            crc = pages.checksum(partition, kind, page, entry_id, body)
            written.append({"partition": partition, "page": page, "entry_id": entry_id, "body": body, "crc": crc})
        connection.execute(insert(table), written)


def _told(connection: Connection, asked: PartitionCheckpoint, now_s: int) -> None:
    """Events, exceptions, notices and late readings; a key that is there already is the same event again."""
    part, dialect = asked.partition, connection.dialect.name
    if asked.events:
        rows = [
            {
                "partition": part,
                "kind": e.kind,
                "account": e.account,
                "arm": e.arm,
                "as_of_s": e.as_of_s,
                "balance_fen": e.balance_fen,
            }
            for e in asked.events
        ]
        connection.execute(_event(dialect), rows)
    if asked.exceptions:
        rows = [
            {"partition": part, "bytes": x.body} | {name: _storable(getattr(x, name)) for name in _EXCEPTION}
            for x in asked.exceptions
        ]
        connection.execute(_exception(dialect), rows)
    if asked.notices:
        rows = [
            {
                "key": n.key,
                "template": n.template,
                "party": n.party,
                "account": n.account,
                "params": json.dumps(n.params, sort_keys=True, ensure_ascii=False),
                "created_at_s": now_s,
                "next_at_s": now_s,
            }
            for n in asked.notices
        ]
        connection.execute(_notice(dialect), rows)
    if asked.late is not None and len(asked.late):
        body = asked.late.tobytes()
        crc = pages.checksum(part, "late", 0, asked.offset, body)
        connection.execute(_LATE, {"partition": part, "offset": asked.offset, "body": body, "crc": crc})
