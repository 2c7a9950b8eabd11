"""I/O (reads a data directory): is everything that was said also done? For demos, storms and tests.

Quiet is: every record of the log is rated, no inbox row waits, no order is in flight, no decision is owed, and
every notice has left.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

_LEFT = {
    "inbox": "SELECT count(*) FROM inbox WHERE settled = 0",
    "events": "SELECT count(*) FROM event WHERE kind = 'low_balance' AND decided = 0",
    "orders": "SELECT count(*) FROM order_ WHERE state IN"
    " ('created', 'submitted', 'unknown', 'succeeded', 'succeeded_late')",
    "notices": "SELECT count(*) FROM notice WHERE state = 'pending'",
}


def quiet_of(data_dir: Path) -> dict[str, Any]:
    """{"quiet", "lag", "inbox", "events", "orders", "notices"}: what is left of each."""
    ledger = sqlite3.connect(f"file:{data_dir / 'ledger.db'}?mode=ro", uri=True, timeout=10)
    log = sqlite3.connect(f"file:{data_dir / 'log.db'}?mode=ro", uri=True, timeout=10)
    try:
        ends = dict(
            log.execute("SELECT id >> 48, max(id & 281474976710655) FROM record GROUP BY id >> 48").fetchall()
        )
        ledger.execute("BEGIN")  # one moment: what one question finds done must not begin anew before the next
        newest = 'SELECT partition, max("offset") FROM checkpoint GROUP BY partition'
        rated = dict(ledger.execute(newest).fetchall())
        left: dict[str, Any] = {"lag": sum(end - rated.get(partition, 0) for partition, end in ends.items())}
        for name, question in _LEFT.items():
            left[name] = ledger.execute(question).fetchone()[0]
    finally:
        ledger.close()
        log.close()
    return {"quiet": not any(left.values()), **left}
