"""I/O: `replay.city_day`: a day of a whole city from the archive to committed state, two threads, one pass.

    archive files --thread a partition--> read, decode, rate, close days --one writer--> ledger, durable

576 million readings of 6 million meters (`benchmarks.city_day_data`). Every step is the product's own: the archive's
reader with its digests, the wire's decoder, the engine, the ledger's checkpoints. A partition is recovered from the
ledger, rated through its files and committed as one checkpoint, and its memory is given back; there are never more
of them in memory than threads. The time is a whole process's, from its start to its end. The baseline is a process
that reads and decompresses the same files by pyarrow, with as many threads, and does nothing else. The directory is
made once; before each of the RUNS its ledger and log are put back to what they were.

    python -m benchmarks.city_day make DIR --meters 6000000     # once; then rate a copy, or once
    python -m benchmarks.city_day rate DIR
    python -m benchmarks.city_day plain DIR
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from sqlalchemy import select

from benchmarks.city_day_data import STEPS, engine_of, make, opened, settings_of
from benchmarks.e2e_city import found_digest
from benchmarks.harness import Benchmark, Result, result, timed
from config.settings import Paths, Settings
from ingest.archive import stream_archive
from ingest.log_sqlite import SqliteLog
from ledger.database import reading
from ledger.effects import PartitionCheckpoint
from ledger.port import CommitPort
from ledger.reads import counters
from ledger.schema import archive_file
from meterd.city import City
from registry.arrays import CUT_BY
from registry.memory import release, unload

METERS: Final = 6_000_000
JOBS: Final = 2
RUNS: Final = 3
_ROOM_BYTES: Final = 18 << 30  # what 6 million meters' directory takes, its making, and its ledger twice
_DEADLINE_S: Final = 900


class Rater:
    """Partitions of a directory, each from its cursor to the archive's end."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_of(folder)
        self._paths = Paths(self.settings.data_dir)
        self._log = SqliteLog(self._paths.log)
        self._store = opened(self.settings, self._log)
        digest = self._store.recover(0).registry_digest
        self._city = City(self._paths.registry, digest, self.settings.rating)
        partitions = range(self.settings.partitions)
        self._epochs = [self._store.take_over(f"partition:{number}", "benchmark") for number in partitions]
        self._running: CommitPort | None = None  # one checkpoint on its way to the disk, as in the daemon
        self._committing = threading.Lock()
        self.spent_s: dict[str, float] = {}

    def run(self, jobs: int) -> None:
        """All partitions, `jobs` at a time."""
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self._partition, range(self.settings.partitions)))
        if self._running is not None:
            self._running.result()
        self._store.close()
        self._log.close()

    def _partition(self, number: int) -> None:
        began = time.perf_counter()
        engine = engine_of(number, self.settings, recovered=self._store.recover(number))
        engine.attach(self._city.image.partitions[number], self._city.book, self._city.names(number))
        asked = select(archive_file).where(archive_file.c.partition == number).order_by(archive_file.c.first_offset)
        with self._store.reader() as connection:
            files = connection.execute(asked).all()
        began = self._lap("recover", began)
        for file in files:
            some = stream_archive(self._paths.archive / file.path, digest=file.digest)
            while (records := next(some, None)) is not None:
                began = self._lap("read", began)
                engine.apply(records)
                began = self._lap("rate", began)
        self._commit(engine.checkpoint(epoch=self._epochs[number], log_id=self._log.log_id))
        del engine
        for name in CUT_BY:  # nobody looks at this partition's registry again
            unload(getattr(self._city.image.partitions[number], name))
        release()
        self._lap("commit", began)

    def _commit(self, checkpoint: PartitionCheckpoint) -> None:
        with self._committing:
            if self._running is not None:
                self._running.result()
            self._running = self._store.commit_later([checkpoint])

    def _lap(self, name: str, since: float) -> float:
        """Real time of all threads together, by step."""
        now = time.perf_counter()
        self.spent_s[name] = self.spent_s.get(name, 0.0) + now - since
        return now


def _plain(folder: Path, jobs: int) -> int:
    """Read and decompress every body; returns their bytes."""

    def one(path: Path) -> int:
        with pq.ParquetFile(path) as file:
            return sum(int(batch.nbytes) for batch in file.iter_batches(10, columns=["body"], use_threads=False))

    with ThreadPoolExecutor(jobs) as pool:
        return sum(pool.map(one, sorted(Paths(settings_of(folder).data_dir).archive.glob("*/*.parquet"))))


def _peak_mib() -> float:
    """Of all that was resident: own memory, and mapped files (the registry's image, libraries)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _child(*told: object) -> dict[str, Any]:
    """One run as a process of its own: its seconds from start to end, and what it says itself."""
    command = [sys.executable, "-m", "benchmarks.city_day", *map(str, told)]
    out: list[bytes] = []
    folder = Path(__file__).parent.parent

    def run() -> None:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, timeout=_DEADLINE_S)
        out.append(done.stdout)

    seconds = timed(run)
    found: dict[str, Any] = json.loads(out[0])
    return {"seconds": seconds} | found


def measure(folder: Path, meters: int, jobs: int, runs: int = 1) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(ours, plain) of each run over a city that is made here; asserts that all is accepted and every fen right."""
    expected = _child("make", folder, "--meters", meters, "--jobs", jobs)["digest"]
    fresh, found = folder / "fresh", []
    _copied(settings_of(folder).data_dir, fresh)
    for number in range(runs):
        if number:
            _copied(fresh, settings_of(folder).data_dir)
        os.sync()  # what was copied is not written while it is measured
        plain = _child("plain", folder, "--jobs", jobs)
        ours = _child("rate", folder, "--jobs", jobs)
        _check(settings_of(folder), meters, expected)
        found.append((ours, plain))
    return found


def _copied(data: Path, into: Path) -> None:
    """Ledger and log, which a run changes; it leaves archive and registry as they are."""
    into.mkdir(exist_ok=True)
    of, to = Paths(data), Paths(into)
    for source, target in ((of.ledger, to.ledger), (of.log, to.log)):
        for old in target.parent.glob(f"{target.name}*"):
            old.unlink()
        for path in source.parent.glob(f"{source.name}*"):
            shutil.copyfile(path, target.with_name(path.name))


def _check(settings: Settings, meters: int, expected: str) -> None:
    with reading(Paths(settings.data_dir).ledger) as connection:
        told = counters(connection)
    assert told["verdict.accepted"] == told["readings"] == meters * STEPS, told
    assert not any(name.startswith(("exception.", "records.reject")) for name in told), told
    assert found_digest(settings) == expected, "the charges are not what the tariffs say"


def city_day() -> list[Result]:
    """Seconds and peak memory of a city's day."""
    with tempfile.TemporaryDirectory(prefix="meterd-city-day-", dir=_roomy()) as name:
        runs = measure(Path(name), METERS, JOBS, RUNS)
    for ours, _ in runs:
        print(f"  of {JOBS} threads, s: " + ", ".join(f"{k} {v:.1f}" for k, v in ours["spent_s"].items()))
    return [
        result(
            name, unit, "pyarrow decompressing the same files", *zip(*((o[of], p[of]) for o, p in runs), strict=True)
        )
        for name, unit, of in (("replay.city_day", "s", "seconds"), ("replay.city_day_memory", "MiB", "peak_mib"))
    ]


def _roomy(candidates: Iterable[str] = (tempfile.gettempdir(), "/var/tmp")) -> str:
    """A folder on a disk with room for the city."""
    for folder in candidates:
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize > _ROOM_BYTES:
            return folder
    raise AssertionError(f"no {_ROOM_BYTES >> 30} GB free for temporary files")


def _parts(folder: Path, meters: int, jobs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    def rate() -> dict[str, Any]:
        rater = Rater(folder)
        rater.run(jobs)
        return {"spent_s": {name: round(spent, 2) for name, spent in rater.spent_s.items()}}

    return {
        "make": lambda: {"digest": make(folder, meters, jobs)},
        "plain": lambda: {"bytes": _plain(folder, jobs)},
        "rate": rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.city_day", description=__doc__)
    parser.add_argument("part", choices=("make", "plain", "rate"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--meters", type=int, default=METERS)
    parser.add_argument("--jobs", type=int, default=JOBS)
    asked = parser.parse_args()
    found = _parts(asked.folder, asked.meters, asked.jobs)[asked.part]()
    print(json.dumps({"peak_mib": _peak_mib()} | found))


WHY: Final = {
    "replay.city_day": "pyarrow only decompresses the same files: the rest is copying bodies out, rating, and state",
    "replay.city_day_memory": "state of two partitions, a checkpoint's pages, and the registry's mapped image",
}
BENCHMARKS: Final[dict[str, Benchmark]] = {"replay.city_day": city_day}


if __name__ == "__main__":
    main()
