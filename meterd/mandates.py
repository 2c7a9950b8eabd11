"""I/O (a connection that is passed in): the mandate table follows the active registry version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from ledger.schema import mandate


def sync_mandates(connection: Connection, rows: Sequence[dict[str, Any]], now_s: int) -> None:
    """New mandates come, known ones take the registry's terms, those that are gone are cancelled (never deleted).

    One that a person cancelled stays cancelled.
    """
    known = set(connection.scalars(select(mandate.c.id)))
    fresh = [row for row in rows if row["id"] not in known]
    if fresh:
        connection.execute(insert(mandate), fresh)
    again = [
        {f"b_{name}": value for name, value in row.items() if name != "cancelled_at_s"}
        for row in rows
        if row["id"] in known
    ]
    if again:
        columns: dict[str, Any] = {name.removeprefix("b_"): bindparam(name) for name in again[0] if name != "b_id"}
        connection.execute(update(mandate).where(mandate.c.id == bindparam("b_id")).values(**columns), again)
    named = {row["id"] for row in rows}
    gone = [{"b_id": one} for one in known - named]
    if gone:
        cancelled = update(mandate).where(mandate.c.id == bindparam("b_id"), mandate.c.cancelled_at_s.is_(None))
        connection.execute(cancelled.values(cancelled_at_s=now_s), gone)
