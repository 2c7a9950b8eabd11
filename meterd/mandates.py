"""I/O (a connection that is passed in): the mandate table follows the active registry version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from autopay import waits
from ledger.schema import mandate


def sync_mandates(connection: Connection, rows: Sequence[dict[str, Any]], now_s: int) -> None:
    """New mandates come, known ones take the registry's terms, those that are gone are cancelled (never deleted).

    One that a person cancelled stays cancelled. A mandate whose terms or token changed is dated, so that what was
    declined before does not count against it, and whoever waits for such a change is decided on again.
    """
    named = {row["id"]: row for row in rows}
    known: set[str] = set()
    changed: list[dict[str, Any]] = []
    for old in connection.execute(select(mandate)).mappings():  # one at a time: there may be millions
        known.add(old["id"])
        terms = {name: value for name, value in named.get(old["id"], {}).items() if name != "cancelled_at_s"}
        if any(old[name] != value for name, value in terms.items()):
            changed.append(terms)
    fresh = [row | {"changed_at_s": now_s} for row in rows if row["id"] not in known]
    if fresh:
        connection.execute(insert(mandate), fresh)
    again = [{f"b_{name}": value for name, value in row.items()} | {"b_changed_at_s": now_s} for row in changed]
    if again:
        columns: dict[str, Any] = {name.removeprefix("b_"): bindparam(name) for name in again[0] if name != "b_id"}
        connection.execute(update(mandate).where(mandate.c.id == bindparam("b_id")).values(**columns), again)
    gone = [{"b_id": one} for one in known - named.keys()]
    if gone:
        cancelled = update(mandate).where(mandate.c.id == bindparam("b_id"), mandate.c.cancelled_at_s.is_(None))
        connection.execute(cancelled.values(cancelled_at_s=now_s), gone)
    if fresh or again or gone:
        waits.wake(connection, now_s, waits.ON_TERMS)
