"""I/O: `start.accounts_6m`: state of 6 million homes from the ledger into arrays, against plain file reads.

16 partitions, four arrays (192 bytes a home, 1.15 GB), pages plus a round of deltas, checksums verified. The
baseline reads files with the same bytes into the same arrays, unchecked. Both read warm from the page cache, as
a restart after an upgrade does; a cold start adds the disk's time to both. One ledger, RUNS starts in turn with
RUNS plain reads.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Benchmark, Result, repeated, result, timed
from config.clock import ManualClock
from config.settings import LedgerSettings
from ledger.effects import PartitionCheckpoint, StateChange
from ledger.store import LedgerStore
from rating.state import ARRAYS

HOMES: Final = 6_000_000
PARTITIONS: Final = 16
RUNS: Final = 5
_CHANGED: Final = 5_000  # slots a partition in the last checkpoint before the stop
Arrays = dict[str, npt.NDArray[np.void]]


def _homes(partition: int) -> Arrays:
    count = HOMES // PARTITIONS
    arrays: Arrays = {name: np.zeros(count, dtype) for name, dtype in ARRAYS.items()}
    number = np.arange(count, dtype=np.int64) + partition * count
    arrays["channel"]["value"], arrays["ladder"]["used"] = number * 7, number * 3
    arrays["account"]["balance_fen"] = number % 20_011
    return arrays


def _digest(arrays: Arrays) -> str:
    return hashlib.sha256(arrays["account"]["balance_fen"].tobytes()).hexdigest()


def _write(store: LedgerStore, folder: Path) -> list[str]:
    digests = []
    for partition in range(PARTITIONS):
        epoch, arrays = store.take_over(f"partition:{partition}", "benchmark"), _homes(partition)
        for offset, step in ((1, 1), (2, len(arrays["account"]) // _CHANGED)):
            slots = np.arange(0, len(arrays["account"]), step, dtype=np.int32)
            arrays["account"]["balance_fen"][slots] -= offset
            state = {name: StateChange(rows, slots) for name, rows in arrays.items()}
            store.commit([PartitionCheckpoint(partition, epoch, "log", offset, 1, "r", "t", {}, state)])
        for name, rows in arrays.items():
            rows.tofile(folder / f"{partition}-{name}.bin")
        digests.append(_digest(arrays))
    return digests


def _plain(folder: Path) -> list[str]:
    digests = []
    for partition in range(PARTITIONS):
        arrays: Arrays = {n: np.fromfile(folder / f"{partition}-{n}.bin", dtype) for n, dtype in ARRAYS.items()}
        digests.append(_digest(arrays))
    return digests


def accounts_6m() -> list[Result]:
    """Seconds to bring back every partition, and the same bytes by plain reads."""
    with tempfile.TemporaryDirectory(prefix="meterd-start-") as name:
        folder = Path(name)
        path = folder / "ledger.db"
        settings, clock = LedgerSettings(), ManualClock(1)

        def opened() -> LedgerStore:
            return LedgerStore.open(
                path, settings=settings, clock=clock, log_id="log", partitions=PARTITIONS, arrays=ARRAYS
            )

        store = opened()
        expected = _write(store, folder)
        store.close()

        def start() -> list[str]:
            again = opened()
            found = [_digest(again.recover(partition).arrays) for partition in range(PARTITIONS)]
            again.close()
            return found

        def once() -> tuple[float, float]:
            found: list[list[str]] = []
            took = timed(lambda: found.append(start())), timed(lambda: found.append(_plain(folder)))
            assert found == [expected] * 2, "the balances differ from what was committed"
            return took

        ours, plain = zip(*repeated(RUNS, once), strict=True)
    assert max(ours) < 10, f"a start took {max(ours):.1f} s"
    return [result("start.accounts_6m", "s", "numpy reading the same bytes from files", ours, plain, paired=True)]


WHY: Final = {"start.accounts_6m": "checksums of every page, and a copy into place; numpy checks nothing"}
BENCHMARKS: dict[str, Benchmark] = {"start.accounts_6m": accounts_6m}
