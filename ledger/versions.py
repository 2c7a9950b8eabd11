"""I/O (a connection that is passed in): registry versions in the order in which they were brought in."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, func, insert, select

from ledger.schema import registry_version


def register_version(connection: Connection, digest: str, counts: dict[str, Any], now_s: int) -> int:
    """Number of a version; a digest that was active before and is not the newest gets no second number."""
    table = registry_version
    known = connection.scalar(select(table.c.number).where(table.c.digest == digest))
    if known is not None:
        return int(known)
    number = int(connection.scalar(select(func.coalesce(func.max(table.c.number), 0))) or 0) + 1
    connection.execute(
        insert(table).values(digest=digest, number=number, staged_at_s=now_s, counts=json.dumps(counts))
    )
    return number
