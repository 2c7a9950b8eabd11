"""I/O (a worker): `state.*` with meterd's ledger: state in arrays, pages and deltas in one SQLite transaction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.peers.balances import ACCOUNTS, Ints, opening, timed, work
from config.clock import ManualClock
from config.settings import LedgerSettings
from ledger.effects import PartitionCheckpoint, StateChange
from ledger.store import LedgerStore
from rating.state import ARRAYS


def run(folder: Path, told: list[tuple[Ints, Ints]]) -> tuple[float, Ints]:
    """One partition; every batch is a checkpoint."""
    store = LedgerStore.open(
        folder / "ledger.db", settings=LedgerSettings(), clock=ManualClock(1_800_000_000), log_id="log", partitions=1,
        arrays={"account": ARRAYS["account"]},
    )  # fmt: skip
    epoch, rows = store.take_over("partition:0", "benchmark"), np.zeros(ACCOUNTS, ARRAYS["account"])
    rows["balance_fen"] = opening()
    offset = 0

    def commit(slots: Ints) -> None:
        nonlocal offset
        offset += 1
        change = {"account": StateChange(rows, slots.astype(np.int32))}
        store.commit([PartitionCheckpoint(0, epoch, "log", offset, 1_800_000_000, "r", "t", {}, change)])

    def apply(accounts: Ints, charges: Ints) -> None:
        rows["balance_fen"][accounts] -= charges
        commit(accounts)

    commit(np.arange(ACCOUNTS))
    took = timed(apply, told)
    kept = store.recover(0)
    store.close()
    return took, kept.arrays["account"]["balance_fen"].astype(np.int64)


if __name__ == "__main__":
    work(run)
