"""I/O: a city's data directory through the real log, engine and ledger, and what auditing it costs.

    python -m benchmarks.audit_city DIR --meters 200000 --days 4 --quarter-hours 5000 --jobs 2

Every meter is read at each midnight, the first `--quarter-hours` of them every quarter hour; the last day stays
open. Half of the records are archived, half stay in the log. The directory is made once; the audit is then a
process of its own, and its memory is that of its largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.clock import ManualClock
from config.settings import AutopaySettings, LedgerSettings, Paths, RatingSettings
from config.tariff_files import tariff_texts
from ingest.archive import write_archive
from ingest.log_sqlite import SqliteLog
from ingest.wire import decode_frames, encode_readings
from ledger.effects import InboxRow
from ledger.inbox import pending, submit
from ledger.schema import archive_file
from ledger.store import LedgerStore
from rating.book import TariffBook
from rating.engine import PartitionEngine
from rating.names import Names
from rating.readings import Readings, Record, RecordKind
from rating.state import ARRAYS
from rating.tariff.reading import parse_tariffs
from registry.generate import generate
from registry.image import PartitionImage
from registry.importer import stage
from registry.store import RegistryReader

START: Final = "2026-07-30"
MIDNIGHT_S: Final = 1_785_340_800  # 2026-07-30 00:00 in Guangzhou
PARTITIONS: Final = 16
DAY_S: Final = 86_400
QUARTER_S: Final = 900
_CHECKPOINT_RECORDS: Final = 100
_SMALL: Final = """
import json, resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "cpu_s": round(used.ru_utime + used.ru_stime, 1), "largest_process_mb": used.ru_maxrss // 1024,
    "exit": ended.returncode, "told": ended.stdout[-1000:] + ended.stderr[-400:],
}))
"""


class City:
    """One made-up city, its registry, and the partitions that rate it."""

    def __init__(self, root: Path, meters: int) -> None:
        self.paths = Paths(root / "data")
        (root / "data").mkdir(parents=True)
        source = root / "city"
        generate(source, meters=meters, seed=1, start=START, concentrator_size=1000 if meters >= 20_000 else 100)
        staged = stage(
            source,
            self.paths.registry,
            partitions=PARTITIONS,
            timezone="Asia/Shanghai",
            previous_digest=None,
            tariffs_known=None,
            now_s=MIDNIGHT_S,
            alert_fen=3000,
            trigger_fen_default=2000,
        )
        self.reader = RegistryReader(self.paths.registry, staged.digest)
        self.log = SqliteLog(self.paths.log)
        self.store = LedgerStore.open(
            self.paths.ledger,
            settings=LedgerSettings(),
            clock=ManualClock(MIDNIGHT_S),
            log_id=self.log.log_id,
            partitions=PARTITIONS,
            arrays=ARRAYS,
        )
        body = {"digest": staged.digest}
        self.store.write(
            lambda c: submit(c, kind="registry", key=staged.digest, body=body, partition=None, now_s=MIDNIGHT_S)
        )

    def rate(self, partition: int, days: int, quarter_hours: int) -> int:
        """Everything that one partition's meters say, checkpoint by checkpoint; returns the readings."""
        engine = PartitionEngine(
            partition, rating=RatingSettings(), autopay=AutopaySettings(), currency="CNY", decode=decode_frames
        )
        epoch = self.store.take_over(f"partition:{partition}", "benchmark")
        with self.store.reader() as connection:
            (row,) = pending(connection, partition, 10)
        image = self.reader.image.partitions[partition]
        self._activate(engine, row, image)
        waiting: list[Record] = []
        count = 0
        for record, readings in _records(partition, image, days, quarter_hours):
            waiting.append(record)
            count += readings
            if len(waiting) == _CHECKPOINT_RECORDS or record.kind is RecordKind.TICK:
                engine.apply(self.log.append(waiting))
                self.store.commit([engine.checkpoint(epoch=epoch, log_id=self.log.log_id)])
                waiting = []
        stored = self.log.read(partition, 0, engine.offset // 2)
        file = write_archive(self.paths.archive, partition, stored)
        values = {name: getattr(file, name) for name in archive_file.c.keys()}  # noqa: SIM118 - columns, not a dict
        self.store.write(lambda c: c.execute(archive_file.insert(), values))
        self.log.prune(partition, file.last_offset + 1)
        return count

    def _activate(self, engine: PartitionEngine, row: InboxRow, image: PartitionImage) -> None:
        pairs = set(zip(image.ladders["tariff"].tolist(), image.ladders["history"].tolist(), strict=True))
        whole = self.reader.image
        book = TariffBook.compile(parse_tariffs(tariff_texts()), whole.tariffs, whole.histories, pairs, 2020, 2040)
        number = engine.partition
        names = Names(
            lambda slot: self.reader.account_id(number, slot), lambda name: self.reader.find_account(name)[1]
        )
        engine.activate(row, image, book, names)

    def close(self) -> None:
        self.store.close()
        self.log.close()


def _records(partition: int, image: PartitionImage, days: int, quarter_hours: int) -> Iterator[tuple[Record, int]]:
    """(record, readings in it) in order of time, with a tick after each midnight."""
    draw = np.random.default_rng(partition)
    value: npt.NDArray[np.int64] = image.channels["opening_value"][image.list_channel].astype(np.int64)
    fast = min(len(value), quarter_hours // PARTITIONS)  # the first of each partition's list
    for step in range(1, days * 96 + 1):
        at_s = MIDNIGHT_S + step * QUARTER_S
        midnight = step % 96 == 0
        value[:fast] += draw.integers(0, 20, fast) * 10
        if midnight:
            value[fast:] += draw.integers(100, 2000, len(value) - fast) * 10
        for concentrator, (low, high) in image.lists.items():
            end = high if midnight else min(high, fast)
            if low < end:
                body = _frame(image, value, low, end, at_s)
                yield Record(RecordKind.READINGS, partition, at_s + 5, concentrator, "s", step, body), end - low
        if midnight:
            yield Record(RecordKind.TICK, partition, at_s + 60, "", "", -1, b""), 0


def _frame(image: PartitionImage, value: npt.NDArray[np.int64], low: int, end: int, at_s: int) -> bytes:
    count, ones = end - low, np.ones(end - low, np.uint8)
    times = np.full(count, at_s, np.uint32)
    return encode_readings(Readings(image.list_meter[low:end], value[low:end], times, ones, ones * 4))


def build(root: Path, meters: int, days: int, quarter_hours: int) -> int:
    """Make the directory; returns the readings in it."""
    city = City(root, meters)
    try:
        return sum(city.rate(partition, days, quarter_hours) for partition in range(PARTITIONS))
    finally:
        city.close()


def measure(data_dir: Path, arguments: list[str]) -> dict[str, Any]:
    """One audit as processes of its own: seconds, processor seconds, megabytes of the largest, exit code."""
    command = [sys.executable, "-m", "meterd.cli", "audit", *arguments]
    settings = os.environ | {"METERD_DATA_DIR": str(data_dir)}
    began = time.perf_counter()
    # By a small process between: a child's peak counts from what its parent was at the fork.
    ended = subprocess.run(
        [sys.executable, "-c", _SMALL, *command],
        env=settings,
        capture_output=True,
        text=True,
        check=True,
        timeout=3600,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return {"seconds": round(time.perf_counter() - began, 1), **found}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_city", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--meters", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--quarter-hours", type=int, default=5_000, help="meters that are read every quarter hour")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    if not (asked.folder / "data").is_dir():
        readings = build(asked.folder, asked.meters, asked.days, asked.quarter_hours)
        print(f"{asked.meters} meters, {readings} readings in {asked.folder}")
    found = measure(asked.folder / "data", ["--jobs", str(asked.jobs)])
    for name, value in found.items():
        print(f"{name}: {value}")
    return int(found["exit"])


if __name__ == "__main__":
    sys.exit(main())
