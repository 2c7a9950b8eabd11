"""I/O (a worker): `state.*` as SQLite rows: WAL, synchronous=FULL, one transaction a batch, by primary key."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.peers.balances import Ints, opening, timed, work


def run(folder: Path, told: list[tuple[Ints, Ints]]) -> tuple[float, Ints]:
    """executemany of an update; a join with a temporary table took longer."""
    with closing(sqlite3.connect(folder / "balances.db", isolation_level=None)) as db:
        for words in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-200000"):
            db.execute(f"PRAGMA {words}").fetchall()
        db.execute("CREATE TABLE balance (account INTEGER PRIMARY KEY, fen INTEGER NOT NULL)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO balance VALUES (?, ?)", enumerate(opening().tolist()))
        db.execute("COMMIT")

        def apply(accounts: Ints, charges: Ints) -> None:
            rows = zip(charges.tolist(), accounts.tolist(), strict=True)
            db.execute("BEGIN IMMEDIATE")
            db.executemany("UPDATE balance SET fen = fen - ? WHERE account = ?", rows)
            db.execute("COMMIT")

        took = timed(apply, told)
        found = db.execute("SELECT fen FROM balance ORDER BY account").fetchall()
    return took, np.array([fen for (fen,) in found], np.int64)


if __name__ == "__main__":
    work(run)
