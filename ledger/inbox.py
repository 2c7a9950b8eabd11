"""I/O: the inbox: whatever changes state besides readings, as rows that every partition applies exactly once.

Rows are chosen by "not yet applied here" and ordered by id, never by "greater than the last one": on a
database with many writers, id 101 can become visible before id 100. They are stamped when applied, in the
checkpoint's transaction (`ledger.commit`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Integer, bindparam, exists, func, insert, literal_column, or_, select, update

from ledger.effects import Applied, InboxRow
from ledger.port import KeyConflict
from ledger.schema import inbox, inbox_applied, order, order_step

# Made once: making a statement takes five times as long as running it.
_BY_KEY: Final = select(inbox).where(inbox.c.key == bindparam("of_key"))
_NEW: Final = insert(inbox).returning(inbox.c.id)
_PENDING: Final = (
    select(inbox.c.id, inbox.c.partition, inbox.c.kind, inbox.c.key, inbox.c.body, inbox.c.created_at_s)
    .where(literal_column("inbox.settled") == literal_column("0"))  # literal: the partial index needs it
    .where(or_(inbox.c.partition == bindparam("home"), inbox.c.partition.is_(None)))
    .where(~exists().where(inbox_applied.c.inbox_id == inbox.c.id, inbox_applied.c.partition == bindparam("home")))
    .order_by(inbox.c.id)
    .limit(bindparam("most", type_=Integer))
)
_APPLIED: Final = insert(inbox_applied)
_SETTLED: Final = (
    update(inbox)
    .where(inbox.c.id == bindparam("of"))
    .where(
        or_(
            inbox.c.partition.is_not(None),
            select(func.count()).where(inbox_applied.c.inbox_id == inbox.c.id).scalar_subquery()
            >= bindparam("homes", type_=Integer),
        )
    )
    .values(settled=1)
)
_ORDER_STATE: Final = select(order.c.state).where(order.c.id == bindparam("one"))
_CREDITED: Final = (
    update(order)
    .where(order.c.id == bindparam("one"), order.c.state == bindparam("was"))
    .values(state="credited", next_action_at_s=None)
)
_STEP: Final = insert(order_step)
AMOUNT_MAX_FEN: Final = 10**14  # one row; a partition's sums stay far inside 64 bits


def submit(
    connection: Connection, *, kind: str, key: str, body: dict[str, Any], partition: int | None, now_s: int
) -> int:
    """Insert a row and return its id; the same key with the same contents returns the id that it has already.

    `partition` None: every partition applies it. The same key with other contents raises `KeyConflict`;
    money that is no positive integer raises ValueError, here rather than in every later start of an engine.
    """
    amount = body.get("amount_fen")
    if kind in ("credit", "reversal") and not (type(amount) is int and 0 < amount <= AMOUNT_MAX_FEN):
        raise ValueError(f"{kind} {key!r}: amount_fen must be an integer from 1 to {AMOUNT_MAX_FEN}, not {amount!r}")
    written = _written(body)
    found = connection.execute(_BY_KEY, {"of_key": key}).one_or_none()
    if found is None:
        values = {"kind": kind, "key": key, "body": written, "partition": partition, "created_at_s": now_s}
        return int(connection.execute(_NEW, values).scalar_one())
    if (found.kind, found.body, found.partition) != (kind, written, partition):
        raise KeyConflict(f"{key!r} was submitted before as {found.kind} {found.body}; a new command needs a new key")
    return int(found.id)


def submit_many(
    connection: Connection, *, kind: str, rows: Sequence[tuple[str, int | None, dict[str, Any]]], now_s: int
) -> None:
    """`submit` for rows (key, partition, body) that are no money, in their order: two statements for all of them."""
    made = {key: (kind, _written(body), partition) for key, partition, body in rows}
    asked = select(inbox.c.key, inbox.c.kind, inbox.c.body, inbox.c.partition).where(inbox.c.key.in_(made))
    known = {row.key: (row.kind, row.body, row.partition) for row in connection.execute(asked)}
    for key, (_, body, _) in known.items():
        if known[key] != made[key]:
            raise KeyConflict(f"{key!r} was submitted before as {kind} {body}; a new command needs a new key")
    fresh = [
        {"kind": kind, "key": key, "body": body, "partition": partition, "created_at_s": now_s}
        for key, (_, body, partition) in made.items()
        if key not in known
    ]
    if fresh:
        connection.execute(insert(inbox), fresh)


def _written(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pending(connection: Connection, partition: int, limit: int) -> list[InboxRow]:
    """Rows that this partition has not applied, lowest id first."""
    rows = connection.execute(_PENDING, {"home": partition, "most": limit})
    return [InboxRow(r.id, r.partition, r.kind, r.key, json.loads(r.body), r.created_at_s) for r in rows]


def stamp(
    connection: Connection,
    applied: list[Applied],
    *,
    partition: int,
    partitions: int,
    checkpoint_id: int,
    now_s: int,
) -> int:
    """Mark rows as applied by a partition, settle them once all have, credit orders; how many orders were."""
    if not applied:
        return 0
    connection.execute(
        _APPLIED,
        [
            {
                "inbox_id": row.inbox_id,
                "partition": partition,
                "offset": row.offset,
                "checkpoint_id": checkpoint_id,
                "outcome": row.outcome,
            }
            for row in applied
        ],
    )
    connection.execute(_SETTLED, [{"of": row.inbox_id, "homes": partitions} for row in applied])
    return sum(_credit(connection, row, now_s) for row in applied if row.order_id is not None and not row.outcome)


def _credit(connection: Connection, row: Applied, now_s: int) -> int:
    """The order whose credit was applied becomes `credited`; nothing happens to one in any other state."""
    state = connection.execute(_ORDER_STATE, {"one": row.order_id}).scalar_one_or_none()
    if state not in ("succeeded", "succeeded_late"):
        return 0
    connection.execute(_CREDITED, {"one": row.order_id, "was": state})
    step = {"order_id": row.order_id, "at_s": now_s, "from_state": state, "to_state": "credited"}
    evidence = f"inbox {row.inbox_id} applied after record {row.offset}"
    connection.execute(_STEP, step | {"evidence": evidence})
    return 1
