"""I/O: what thinning costs and what it keeps bounded: a ledger's checkpoint rows under a steady load, hour by hour.

    python -m benchmarks.thinning DIR [--hours 30] [--keep-hours 6] [--rate 40] [--credits 3000000]

Rows of a kilobyte are put in hour by hour, in 16 partitions, with some credits' stamps, as checkpoints would; after
each hour all steps that are due are made through the store, one by one. Printed: the file, its free pages, and how
long plans and transactions took. Then the index of `inbox_applied`: its size, making it, and an insert with it.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, insert

from config.clock import RealClock
from config.settings import LedgerSettings
from ledger import retention
from ledger.commit import checkpoint_crc
from ledger.effects import ENGINE_VERSION
from ledger.schema import checkpoint, inbox, inbox_applied
from ledger.store import LedgerStore
from rating.state import ARRAYS

PARTITIONS: Final = 16
COUNTERS: Final = {f"verdict.some_name_of_a_counter_{n}": 10**9 + n for n in range(15)}  # a busy engine has as many
SLOTS: Final = dict.fromkeys(ARRAYS, 70_000)
CLOCK: Final = RealClock()


def row(number: int, at_s: int) -> dict[str, Any]:
    """One checkpoint row as the ledger writes it: about a kilobyte."""
    partition, nth = number % PARTITIONS, number // PARTITIONS
    offset = nth * 200 + zlib.crc32(str(number).encode()) % 200  # some records on, never as many
    texts = ("d" * 64, "e" * 64, json.dumps(COUNTERS | {"readings": number}), json.dumps(SLOTS))
    head: dict[str, Any] = {"partition": partition, "epoch": 1, "log_id": "f" * 32, "offset": offset, "as_of_s": at_s}
    crc = checkpoint_crc(**head, engine=ENGINE_VERSION, texts=texts)
    named = zip(("registry_digest", "timeline_digest", "counters", "slots"), texts, strict=True)
    return {**head, "engine_version": ENGINE_VERSION, **dict(named), "crc": crc}


def put_hour(store: LedgerStore, hour: int, rate: int, credits_per_hour: int) -> None:
    """The hour's rows, a second a transaction of the first; every so many rows one in which a credit was applied."""
    count = rate * 3600
    first = hour * count

    def work(connection: Connection) -> None:
        for low in range(first, first + count, 5_000):
            high = min(low + 5_000, first + count)
            values = [row(n, hour * 3600 + (n - first) // rate) for n in range(low, high)]
            connection.execute(insert(checkpoint), values)
        named = range(first, first + count, count // credits_per_hour)
        told = {"kind": "credit", "body": "{}", "created_at_s": hour * 3600, "settled": 1}
        connection.execute(insert(inbox), [{"id": n + 1, "key": f"k{n}", **told} for n in named])
        stamps = {"offset": 1, "outcome": ""}
        rows = [{"inbox_id": n + 1, "partition": n % PARTITIONS, "checkpoint_id": n + 1, **stamps} for n in named]
        connection.execute(insert(inbox_applied), rows)

    store.write(work)


def steady(folder: Path, hours: int, keep_s: int, rate: int) -> None:
    """File and steps, hour by hour."""
    path = folder / "ledger.db"
    store = LedgerStore.open(
        path, settings=LedgerSettings(), clock=CLOCK, log_id="log", partitions=PARTITIONS, arrays=ARRAYS
    )
    after, plans, writes = 0, [], []
    print("hour\trows\tfile_mb\tfree_mb\tmarks_kb")
    for hour in range(hours):
        put_hour(store, hour, rate, credits_per_hour=60)
        while True:
            start = CLOCK.monotonic_s()
            with store.reader() as connection:
                step = retention.planned(connection, after, keep_s=keep_s)
            if step is None:
                break
            middle = CLOCK.monotonic_s()
            if step.count:
                store.write(lambda c, step=step: retention.carry_out(c, step))  # type: ignore[misc]
                plans.append(middle - start)
                writes.append(CLOCK.monotonic_s() - middle)
            after = step.through_id
        if hour % 3 == 2:
            print(hour + 1, *_sizes(path), sep="\t")
    for name, took in (("plan", plans), ("write", writes)):
        told = (f"{statistics.median(took) * 1e3:.1f}", f"{max(took) * 1e3:.1f}") if took else ("-", "-")
        print(f"{name}: {len(took)} steps, median {told[0]} ms, longest {told[1]} ms")
    store.close()


def _sizes(path: Path) -> tuple[str, ...]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT count(*) FROM checkpoint").fetchone()[0]
        marks = db.execute("SELECT coalesce(sum(length(body)), 0) FROM thinned_page").fetchone()[0]
        pages, free, size = (
            db.execute(f"PRAGMA {n}").fetchone()[0] for n in ("page_count", "freelist_count", "page_size")
        )
    return str(rows), f"{pages * size / 1e6:.1f}", f"{free * size / 1e6:.1f}", f"{marks / 1e3:.1f}"


def index(folder: Path, stamps: int) -> None:
    """What the index of `inbox_applied` costs, on a table of so many stamps."""
    with closing(sqlite3.connect(folder / "index.db", isolation_level=None)) as db:
        db.execute("PRAGMA page_size=8192")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(
            "CREATE TABLE inbox_applied (inbox_id INTEGER, partition INTEGER, offset BIGINT, checkpoint_id BIGINT,"
            " outcome TEXT, PRIMARY KEY (inbox_id, partition))"
        )
        db.execute("BEGIN")
        put = "INSERT INTO inbox_applied VALUES (?, ?, ?, ?, '')"
        db.executemany(put, ((n, n % PARTITIONS, n, n * 40) for n in range(stamps)))
        db.execute("COMMIT")
        without = _stamped(db, put, stamps)
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        ask = "SELECT DISTINCT checkpoint_id FROM inbox_applied WHERE checkpoint_id BETWEEN ? AND ?"
        scan = _took(lambda: db.execute(ask, (stamps * 20, stamps * 20 + 2000)).fetchall())
        made = _took(lambda: db.execute("CREATE INDEX ix ON inbox_applied (checkpoint_id)"))
        grown = db.execute("PRAGMA page_count").fetchone()[0] - pages
        found = _took(lambda: db.execute(ask, (stamps * 20, stamps * 20 + 2000)).fetchall())
        with_it = _stamped(db, put, stamps + 100_000)
    print(f"index on {stamps} rows: made in {made:.2f} s, {grown * 8192 / stamps:.1f} bytes a stamp")
    print(f"stamps of 2,000 checkpoints: {scan * 1e3:.1f} ms without it, {found * 1e3:.3f} ms with it")
    print(f"a stamp: {without * 10:.2f} us without it, {with_it * 10:.2f} us with it (100,000, ten a transaction)")


def _stamped(db: sqlite3.Connection, put: str, start: int) -> float:
    def work() -> None:
        for low in range(start, start + 100_000, 10):
            db.execute("BEGIN")
            db.executemany(put, [(n, n % PARTITIONS, n, n * 40) for n in range(low, low + 10)])
            db.execute("COMMIT")

    db.execute("PRAGMA synchronous=OFF")  # the index, not the disk
    return _took(work)


def _took(work: Any) -> float:
    start = CLOCK.monotonic_s()
    work()
    return CLOCK.monotonic_s() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--hours", type=int, default=30)
    parser.add_argument("--keep-hours", type=int, default=6)
    parser.add_argument("--rate", type=int, default=40, help="checkpoint rows a second")
    parser.add_argument("--credits", type=int, default=3_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        steady(Path(folder), asked.hours, asked.keep_hours * 3600, asked.rate)
        index(Path(folder), asked.credits)


if __name__ == "__main__":
    main()
