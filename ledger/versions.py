"""I/O (a connection that is passed in): registry versions in the order in which they were brought in."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, func, insert, select

from ledger.port import KeyConflict
from ledger.schema import registry_version


def register_version(connection: Connection, digest: str, counts: dict[str, Any], now_s: int) -> int:
    """Number of a version; `KeyConflict` for one that a newer one has followed: there is no way back to it."""
    table = registry_version
    newest = int(connection.scalar(select(func.coalesce(func.max(table.c.number), 0))) or 0)
    known = connection.scalar(select(table.c.number).where(table.c.digest == digest))
    if known is not None:
        if known != newest:
            raise KeyConflict(f"registry version {known} was followed by version {newest} and cannot be active again")
        return int(known)
    number = newest + 1
    connection.execute(
        insert(table).values(digest=digest, number=number, staged_at_s=now_s, counts=json.dumps(counts))
    )
    return number
