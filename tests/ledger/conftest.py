"""Fixtures: a ledger per test on a database of its own, and the shortest checkpoint that says something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.clock import ManualClock
from config.settings import LedgerSettings
from ledger.effects import PartitionCheckpoint, StateChange
from ledger.store import LedgerStore
from rating.state import ARRAYS

LOG_ID = "log-1"
PARTITIONS = 2
NOW_S = 1_782_000_000

Opener = Callable[..., LedgerStore]
MakeCheckpoint = Callable[..., PartitionCheckpoint]


@pytest.fixture(params=["sqlite"])  # another database is another word here
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the test's ledger (again); everything still open is closed at the end."""
    opened: list[LedgerStore] = []

    def open_(**changes: Any) -> LedgerStore:
        settings = changes.pop("settings", LedgerSettings())
        wanted = {"log_id": LOG_ID, "partitions": PARTITIONS, "arrays": ARRAYS} | changes
        store = LedgerStore.open(tmp_path / "ledger.db", settings=settings, clock=ManualClock(NOW_S), **wanted)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> LedgerStore:
    return opener()


def filled(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """All four arrays with random bytes."""
    rng = np.random.default_rng(seed)
    return {name: np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy() for name, dtype in ARRAYS.items()}


@pytest.fixture
def make_checkpoint() -> MakeCheckpoint:
    """A checkpoint of partition 0; `arrays` and `dirty` (slots of all of them) become its state."""

    def make(
        *,
        epoch: int,
        offset: int = 1,
        partition: int = 0,
        arrays: dict[str, np.ndarray] | None = None,
        dirty: Any = (),
        **more: Any,
    ) -> PartitionCheckpoint:
        slots = np.asarray(dirty, np.int32)
        state = {name: StateChange(rows, slots) for name, rows in (arrays or {}).items()}
        fields = {
            "log_id": LOG_ID,
            "as_of_s": NOW_S,
            "registry_digest": "r",
            "timeline_digest": "t",
            "counters": {"accepted": offset},
        }
        return PartitionCheckpoint(partition=partition, epoch=epoch, offset=offset, state=state, **(fields | more))

    return make


@pytest.fixture
def make_arrays() -> Callable[..., dict[str, np.ndarray]]:
    return filled
