"""I/O: a data directory in which a city's day waits in the archive: one frame holds a day of 200 meters.

The city is that of `benchmarks.e2e_city`, read at every quarter hour of 30 July: 96 readings a meter, one meter's day
after the other, as a concentrator reads out load curves. 19,200 readings are what ingest takes in a message by
default. A meter moves by 0 to 0.24 kWh a quarter hour, in steps of 0.01. Its last reading is midnight's: every day
closes and is posted. The directory is what a daemon leaves that has taken the city over and archived the day:
registry, ledger with the opening state, an empty log, and Parquet files by the product's own writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.e2e_city import (
    BALANCE_FEN,
    CUTS,
    FLAT_E8,
    MIDNIGHT_S,
    NOW_S,
    PLAIN_E8,
    Homes,
    build,
    digest_of,
)
from config.clock import ManualClock
from config.load import load
from config.settings import Paths, Settings
from ingest.archive import ArchiveFile, write_archive
from ingest.log_sqlite import SqliteLog
from ingest.wire import decode_frames, encode_readings
from ledger.inbox import pending, submit
from ledger.schema import archive_file
from ledger.store import LedgerStore
from meterd.city import City
from rating.engine import PartitionEngine
from rating.readings import Readings, Record, RecordKind, StoredRecord
from rating.state import ARRAYS
from registry.image import PartitionImage

STEPS: Final = 96
STEP_S: Final = 900
METERS_A_FRAME: Final = 200
DAY_END_S: Final = MIDNIGHT_S + STEPS * STEP_S
_TIMES: Final = np.arange(1, STEPS + 1, dtype=np.uint32) * STEP_S + MIDNIGHT_S
_FILE_BYTES_MAX: Final = 250 << 20  # of bodies: one file, as the archiver would cut it
_E11_A_FEN: Final = 10**9
# What a quarter hour costs under time of use: every boundary of a period is one of an interval, too.
_TIME_OF_USE_E8: Final = np.array(
    [next(price for cut_s, price in CUTS if (step + 1) * STEP_S <= cut_s) for step in range(STEPS)], np.int64
)


class Day:
    """The homes of a city and how they move in a day; frames by their concentrator's list."""

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        self._energy_wh = np.zeros(len(homes.value), np.int64)  # of the whole day

    def frames(self, image: PartitionImage, random: np.random.Generator) -> Iterator[tuple[str, bytes]]:
        """(concentrator, body) of every frame of a partition; notes what each home has used and must pay for it."""
        for concentrator, (low, high) in image.lists.items():
            for first in range(low, high, METERS_A_FRAME):
                yield concentrator, self._frame(image.list_meter[first : min(first + METERS_A_FRAME, high)], random)

    def _frame(self, meters: npt.NDArray[np.uint64], random: np.random.Generator) -> bytes:
        homes, count = self.homes, len(meters)
        place = np.searchsorted(homes.address, meters)
        moved = random.integers(0, 25, (count, STEPS), np.uint8).astype(np.int64) * 10
        values = homes.value[place, None] + np.cumsum(moved, axis=1)
        energy = moved.sum(axis=1)
        plain = energy * np.where(homes.flat[place], FLAT_E8, PLAIN_E8)
        homes.energy_e11[place] = np.where(homes.time_of_use[place], moved @ _TIME_OF_USE_E8, plain)
        self._energy_wh[place] = energy
        ones = np.ones(count * STEPS, np.uint8)
        columns = (np.repeat(meters, STEPS), values.ravel(), np.tile(_TIMES, count), ones, ones * 4)
        return encode_readings(Readings(*columns))

    def expected_digest(self) -> str:
        """After all frames: registers, what is left of the day's accrual, and balances after its posting."""
        homes = self.homes
        adder = homes.tiers_e11(homes.used + self._energy_wh) - homes.tiers_e11(homes.used)
        posted = homes.energy_e11 // _E11_A_FEN + adder // _E11_A_FEN
        rests = (homes.energy_e11 % _E11_A_FEN, adder % _E11_A_FEN)
        return digest_of(homes.address, homes.value + self._energy_wh, *rests, BALANCE_FEN - posted)


def settings_of(folder: Path) -> Settings:
    """Those of the directory that `make` made."""
    return load(None, {"METERD_DATA_DIR": str(folder / "data")}).settings


def opened(settings: Settings, log: SqliteLog) -> LedgerStore:
    """The directory's ledger, as a daemon opens it."""
    return LedgerStore.open(
        Paths(settings.data_dir).ledger,
        settings=settings.ledger,
        clock=ManualClock(NOW_S),
        log_id=log.log_id,
        partitions=settings.partitions,
        arrays=ARRAYS,
    )


def make(folder: Path, meters: int, jobs: int) -> str:
    """Make the directory; returns the digest of what the day must come to."""
    settings = settings_of(folder)
    day = Day(build(settings, folder, meters))
    paths = Paths(settings.data_dir)
    (digest,) = [found.name for found in paths.registry.iterdir() if (found / "version.json").is_file()]
    city = City(paths.registry, digest, settings.rating)
    log = SqliteLog(paths.log)
    store = opened(settings, log)
    try:
        body = {"digest": digest}
        store.write(lambda c: submit(c, kind="registry", key=digest, body=body, partition=None, now_s=MIDNIGHT_S))
        for partition in range(settings.partitions):
            _take_over(store, city, partition, settings, log.log_id)
        with ThreadPoolExecutor(jobs) as pool:
            for files in pool.map(lambda p: _archive(paths.archive, day, city, p), range(settings.partitions)):
                rows = [{name: getattr(f, name) for name in archive_file.c.keys()} for f in files]  # noqa: SIM118
                store.write(lambda c, rows=rows: c.execute(archive_file.insert(), rows))  # type: ignore[misc]
    finally:
        store.close()
        log.close()
    return day.expected_digest()


def engine_of(partition: int, settings: Settings, **more: Any) -> PartitionEngine:
    """As the daemon makes one."""
    return PartitionEngine(
        partition,
        rating=settings.rating,
        autopay=settings.autopay,
        currency=settings.currency,
        decode=decode_frames,
        **more,
    )


def _take_over(store: LedgerStore, city: City, partition: int, settings: Settings, log_id: str) -> None:
    """The opening state of one partition, committed."""
    engine = engine_of(partition, settings)
    epoch = store.take_over(f"partition:{partition}", "benchmark")
    with store.reader() as connection:
        (row,) = pending(connection, partition, 10)
    engine.activate(row, city.image.partitions[partition], city.book, city.names(partition))
    store.commit([engine.checkpoint(epoch=epoch, log_id=log_id)])


def _archive(root: Path, day: Day, city: City, partition: int) -> list[ArchiveFile]:
    """The partition's day in files, and a tick after it."""
    files, waiting, size, offset = [], list[StoredRecord](), 0, 0
    told = day.frames(city.image.partitions[partition], np.random.default_rng(partition))
    for sequence, (concentrator, body) in enumerate(told, 1):
        if size + len(body) > _FILE_BYTES_MAX:
            files.append(write_archive(root, partition, waiting))
            waiting, size = [], 0
        offset, size = offset + 1, size + len(body)
        record = Record(RecordKind.READINGS, partition, DAY_END_S + 300, concentrator, "day", sequence, body)
        waiting.append(StoredRecord(offset, record))
    tick = Record(RecordKind.TICK, partition, DAY_END_S + 360, "", "", -1, b"")
    files.append(write_archive(root, partition, [*waiting, StoredRecord(offset + 1, tick)]))
    return files
