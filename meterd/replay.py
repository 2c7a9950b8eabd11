"""I/O: log + inbox + checkpoints, replayed from empty: the state must come out bit for bit.

It reads the archive and the log, applies records in batches of its own choosing, inbox rows where the ledger says
they were applied, and judges where checkpoints stood, also where only a mark is left of one (ledger.thinning); then
it compares counters with those of every checkpoint row that is still there, and state arrays with the ledger.
Not an audit (it runs the same engine): it shows that nothing but those three decides the state.
"""

from __future__ import annotations

import heapq
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from sqlalchemy import Connection, select

from config.settings import Paths, RatingSettings, Settings
from ingest.archive import stream_archive
from ingest.log_sqlite import SqliteLog
from ingest.wire import decode_frames
from ledger.database import reading
from ledger.effects import InboxRow
from ledger.recover import recover
from ledger.retention import marks
from ledger.schema import archive_file, checkpoint, inbox, inbox_applied
from meterd.city import City
from meterd.rating_loop import CityMaker
from rating.engine import PartitionEngine
from rating.readings import StoredRecord
from rating.state import ARRAYS
from registry.memory import release

_READ = 512


@dataclass(frozen=True, slots=True)
class Replayed:
    """One partition: how much was replayed, and what differs (empty: nothing)."""

    partition: int
    records: int
    checkpoints: int
    differences: tuple[str, ...]


def replay(settings: Settings, *, batch: int = 7, jobs: int = 1, make_city: CityMaker = City) -> list[Replayed]:
    """Replay every partition of a data directory whose daemon does not run; batches of `batch` records.

    `jobs` partitions at a time, each in a thread (what takes long gives Python's lock up: decompressing, decoding,
    rating). No more partitions than that are in memory, and of their archive files a few megabytes.
    """
    paths = Paths(settings.data_dir)
    cities = _Cities(paths.registry, settings.rating, make_city)
    log = SqliteLog(paths.log)

    def one(partition: int) -> Replayed:
        with reading(paths.ledger) as connection:
            found = _partition(connection, partition, settings, paths, log, cities, batch)
        if jobs > 1:
            release()  # what this partition held, before the next one asks for other sizes
        return found

    try:
        if jobs == 1:  # of the caller's own thread: a simulated world has no other
            return [one(partition) for partition in range(settings.partitions)]
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, range(settings.partitions)))
    finally:
        log.close()


def _partition(
    connection: Connection,
    partition: int,
    settings: Settings,
    paths: Paths,
    log: SqliteLog,
    cities: _Cities,
    batch: int,
) -> Replayed:
    engine = PartitionEngine(
        partition,
        rating=settings.rating,
        autopay=settings.autopay,
        currency=settings.currency,
        decode=decode_frames,
    )
    rows = _inbox(connection, partition)
    records = _Feed(_records(connection, paths, log, partition), engine, batch)
    differences: list[str] = []
    count = 0
    for id_, end, counters in _checkpoints(connection, partition):
        for offset, row in rows.get(id_, ()):
            records.upto(offset)
            _apply(engine, row, cities)
        records.upto(end)
        engine.checkpoint(epoch=0, log_id="")  # what it hands over is dropped: neither is part of the state
        count += 1
        if counters is not None and engine.counters != json.loads(counters):
            differences.append(f"counters at checkpoint {id_}")
    kept = recover(connection, partition, ARRAYS)
    state = [
        f"state array {name}"
        for name, rows_now in engine.part.arrays().items()
        if rows_now.tobytes() != kept.arrays[name].tobytes()
    ]
    return Replayed(partition, engine.offset, count, tuple((state + differences)[:20]))


def _checkpoints(connection: Connection, partition: int) -> Iterator[tuple[int, int, str | None]]:
    """(id, offset, counters) of every checkpoint that there was, in order; no counters where the row went."""
    c = checkpoint.c
    rows = connection.execute(select(c.id, c.offset, c.counters).where(c.partition == partition).order_by(c.id))
    kept = ((row.id, row.offset, row.counters) for row in rows)
    gone = ((id_, offset, None) for id_, offset in marks(connection, partition))
    return heapq.merge(kept, gone, key=itemgetter(0))


class _Feed:
    """Gives the engine records up to an offset, some at a time."""

    def __init__(self, records: Iterator[StoredRecord], engine: PartitionEngine, batch: int) -> None:
        self._records, self._engine, self._batch = records, engine, batch

    def upto(self, offset: int) -> None:
        while self._engine.offset < offset:
            wanted = min(self._batch, offset - self._engine.offset)
            taken = [next(self._records) for _ in range(wanted)]
            self._engine.apply(taken)


def _records(connection: Connection, paths: Paths, log: SqliteLog, partition: int) -> Iterator[StoredRecord]:
    files = select(archive_file).where(archive_file.c.partition == partition).order_by(archive_file.c.first_offset)
    end = 0
    for file in connection.execute(files).all():
        for some in stream_archive(paths.archive / file.path, digest=file.digest):
            yield from some
        end = file.last_offset
    while found := log.read(partition, end, _READ):
        yield from found
        end = found[-1].offset


def _inbox(connection: Connection, partition: int) -> dict[int, list[tuple[int, InboxRow]]]:
    """Rows by the checkpoint that they were applied in, in order."""
    asked = (
        select(inbox, inbox_applied.c.offset, inbox_applied.c.checkpoint_id)
        .join(inbox_applied, inbox_applied.c.inbox_id == inbox.c.id)
        .where(inbox_applied.c.partition == partition)
        .order_by(inbox_applied.c.checkpoint_id, inbox_applied.c.offset, inbox.c.id)
    )
    found: dict[int, list[tuple[int, InboxRow]]] = {}
    for r in connection.execute(asked):
        row = InboxRow(r.id, r.partition, r.kind, r.key, json.loads(r.body), r.created_at_s)
        found.setdefault(r.checkpoint_id, []).append((r.offset, row))
    return found


class _Cities:
    """The registry versions that a replay comes by, each made once."""

    def __init__(self, root: Path, settings: RatingSettings, make: CityMaker) -> None:
        self._root, self._settings, self._make = root, settings, make
        self._made: dict[str, City] = {}
        self._making = threading.Lock()

    def of(self, digest: str) -> City:
        with self._making:
            if digest not in self._made:
                self._made[digest] = self._make(self._root, digest, self._settings)
            return self._made[digest]


def _apply(engine: PartitionEngine, row: InboxRow, cities: _Cities) -> None:
    if row.kind != "registry":
        engine.apply_inbox(row)
        return
    city = cities.of(str(row.body["digest"]))
    engine.activate(row, city.image.partitions[engine.partition], city.book, city.names(engine.partition))
