"""I/O (reads a data directory): is everything that was said also done? For demos, storms and tests.

Quiet is: every record of the log is rated, no inbox row waits, no order is in flight, no decision is owed, and
every notice has left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

_LEFT = {
    "inbox": "SELECT count(*) FROM inbox WHERE settled = 0",
    "events": "SELECT count(*) FROM event WHERE kind = 'low_balance' AND decided = 0",
    "orders": "SELECT count(*) FROM order_ WHERE state IN"
    " ('created', 'submitted', 'unknown', 'succeeded', 'succeeded_late')",
    "notices": "SELECT count(*) FROM notice WHERE state = 'pending'",
}


_ENDS = "SELECT id >> 48, max(id & 281474976710655) FROM record GROUP BY id >> 48"
_RATED = 'SELECT partition, max("offset") FROM checkpoint GROUP BY partition'


def unrated(data_dir: Path, ends: Mapping[int, int] | None = None) -> tuple[int, Mapping[int, int]]:
    """(records up to `ends` that no checkpoint has, `ends`: last offset by partition; None: those of now)."""
    if ends is None:
        with closing(_reading(data_dir / "log.db")) as log:
            ends = dict(log.execute(_ENDS).fetchall())
    with closing(_reading(data_dir / "ledger.db")) as ledger:
        rated = dict(ledger.execute(_RATED).fetchall())
    return sum(max(0, end - rated.get(partition, 0)) for partition, end in ends.items()), ends


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)


def quiet_of(data_dir: Path) -> dict[str, Any]:
    """{"quiet", "lag", "inbox", "events", "orders", "notices"}: what is left of each."""
    ledger, log = _reading(data_dir / "ledger.db"), _reading(data_dir / "log.db")
    try:
        ends = dict(log.execute(_ENDS).fetchall())
        ledger.execute("BEGIN")  # one moment: what one question finds done must not begin anew before the next
        rated = dict(ledger.execute(_RATED).fetchall())
        left: dict[str, Any] = {"lag": sum(end - rated.get(partition, 0) for partition, end in ends.items())}
        for name, question in _LEFT.items():
            left[name] = ledger.execute(question).fetchone()[0]
    finally:
        ledger.close()
        log.close()
    return {"quiet": not any(left.values()), **left}
